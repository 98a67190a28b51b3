//! One word that takes permits: a bucket's number on a [`Scale`]; and, for one or many of them,
//! the latest time that was told.
//!
//! Invariants:
//! - Whoever exchanges the word judged by the value that it exchanges, on the scale that this
//!   value is measured by. Who may change the scale sees to that: see `door` and `keyed`.
//! - The word tells of permits only, and no permit is made or lost by a wrong time: a reading of
//!   the clock that lies before others' sees fewer permits than they, and leaves the same number.
//!
//! So the latest time only matters to one whose reading lies before one that was told
//! earlier, and it need not be kept to the nanosecond: it is written where it has moved by more
//! than a [`GRAIN`]. It is at most so much too early, or, where two who come at one moment write
//! it in the wrong order, as early as the earlier of the two; nobody is judged by a time before
//! its own reading.

#[cfg(all(test, mainstay_loom))]
mod loom;

use super::scale::{Claim, Scale};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::Instant;

/// How much the latest time may lag behind, in nanoseconds.
///
/// Written at each take, it keeps the line from another thread for a second time: a take cost
/// 28 ns on two threads and 9.7 on one, where it costs 25 to 27 and 9.3 now.
pub(super) const GRAIN: u64 = 1 << 10;

/// A bucket's number.
#[derive(Debug)]
pub(super) struct Word(AtomicU64);

/// The latest time that was told, to a grain.
#[derive(Debug)]
pub(super) struct Latest(AtomicU64);

impl Latest {
    pub(super) fn new(at: Instant) -> Self {
        Self(AtomicU64::new(at.as_nanos()))
    }

    /// Relaxed: a hint, and for one who has just acquired the word the time of all its takes, as
    /// far as it was written.
    #[inline(always)]
    pub(super) fn get(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn tell(&self, latest: Instant, now: Instant) {
        if now.as_nanos().saturating_sub(latest.as_nanos()) > GRAIN {
            // A store, though one with an earlier time may undo it: see the module's text.
            self.0.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// For one who keeps all others from taking, and makes it visible with the word.
    pub(super) fn tell_exactly(&self, now: Instant) {
        self.0.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }
}

impl Word {
    pub(super) fn new(number: u64) -> Self {
        Self(AtomicU64::new(number))
    }

    /// Takes permits, or says how many ticks are missing. `None`: the number cannot tell, or is
    /// not to be judged by this scale any more, as `is_valid` says of each value of it.
    ///
    /// Always in line, as all that is hot here.
    #[inline(always)]
    pub(super) fn try_take(
        &self,
        permits: u32,
        (now, latest): (Instant, &Latest),
        scale: &Scale,
        is_valid: impl Fn(u64) -> bool,
    ) -> Option<Result<(), u64>> {
        let told = latest.get();
        let claim = scale.claim(permits, now.max(told))?;
        let taken = self.exchange(claim, is_valid)?;
        latest.tell(told, now);
        Some(taken)
    }

    #[inline(always)]
    fn exchange(&self, claim: Claim, is_valid: impl Fn(u64) -> bool) -> Option<Result<(), u64>> {
        // Acquire, here and where the exchange fails: pairs with the Release of `set`, from
        // which each exchange carries it on. `is_valid` may look at what was stored before.
        let mut number = self.0.load(Ordering::Acquire);
        loop {
            if !is_valid(number) {
                return None;
            }
            let taken = match claim.take(number) {
                Ok(taken) => taken,
                Err(missing) => return Some(Err(missing)),
            };
            // Release: pairs with the Acquire of `mark`.
            let order = (Ordering::Release, Ordering::Acquire);
            match self
                .0
                .compare_exchange_weak(number, taken, order.0, order.1)
            {
                Ok(_) => return Some(Ok(())),
                Err(seen) => number = seen,
            }
        }
    }

    /// For one who keeps all others from exchanging it: Relaxed is enough.
    #[inline(always)]
    pub(super) fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets marks on the number, and returns it as it was.
    pub(super) fn mark(&self, marks: u64) -> u64 {
        // Acquire: pairs with the Release of each take, whose time is then seen.
        self.0.fetch_or(marks, Ordering::Acquire)
    }

    /// For one who keeps all others from exchanging it.
    pub(super) fn set(&self, number: u64) {
        // Release: pairs with the Acquire of `exchange`.
        self.0.store(number, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_when_it_has_moved_by_more_than_a_grain() {
        let at = Instant::from_nanos;
        let latest = Latest::new(at(7));
        for (now, told) in [(7 + GRAIN, 7), (8 + GRAIN, 8 + GRAIN), (3, 8 + GRAIN)] {
            latest.tell(latest.get(), at(now));
            assert_eq!(latest.get(), at(told));
        }
        latest.tell_exactly(at(9 + GRAIN));
        latest.tell_exactly(at(3));
        assert_eq!(latest.get(), at(9 + GRAIN));
    }
}

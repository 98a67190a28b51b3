//! The way in without the lock, while nobody waits: one word, and one exchange of it.
//!
//! The word is the bucket's number on a [`Scale`]. It carries a mark while the door is shut;
//! then everyone goes to the lock, under which the exact bucket and the queue are.
//!
//! Invariants:
//! - The door is shut and opened only under the lock, and is open only while nobody waits.
//! - While it is shut, the bucket under the lock is the truth, and the word stays as it is.
//!   While it is open, the word is the truth, and of the bucket only the rate and the burst.
//! - So one who finds no permits under the lock and is put into the queue there cannot be
//!   passed by: nobody has come in past it since the door was shut, nor will before it has
//!   left the queue.
//! - The scale is changed only while the door is shut, and no open word of the new scale is
//!   one of the old: see `scale`. Whoever decided by an older scale, or by parts of two, does
//!   not get to exchange the word, and goes to the lock.
//!
//! The latest time that was told stands beside the word, and is not exchanged with it. Two
//! who come at one moment with different readings of the clock may leave the earlier one
//! there. It only matters to a third whose own reading lies before both: it may be judged by
//! the earlier of the two, and never by an earlier one than its own. No permit is made or
//! lost by it, as the word tells of permits only.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bucket::Bucket;
use super::scale::{Claim, Scale};
use crate::sync::CacheLine;
use crate::time::Instant;

/// Set while the door is shut. A number on the scale is below.
const SHUT: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Door {
    /// What every call writes, apart from what it only reads.
    hot: CacheLine<Hot>,
    scale: SharedScale,
}

#[derive(Debug)]
struct Hot {
    word: AtomicU64,
    /// The latest time that anyone told, in nanoseconds.
    latest: AtomicU64,
}

impl Door {
    /// Shut, until it is opened for its bucket.
    pub(super) fn new() -> Self {
        let hot = Hot {
            word: AtomicU64::new(SHUT),
            latest: AtomicU64::new(0),
        };
        Self {
            hot: CacheLine::new(hot),
            scale: SharedScale::default(),
        }
    }

    /// Takes permits, or says when they would be there. `None`: it is for the lock to say.
    #[inline]
    pub(super) fn try_take(&self, permits: u32, now: Instant) -> Option<Result<(), Duration>> {
        let latest = self.hot.latest.load(Ordering::Relaxed);
        // All that can be done before the word is read: others exchange it meanwhile.
        let (version, scale) = self.scale.load();
        let claim = scale.claim(permits, now.max(Instant::from_nanos(latest)))?;
        let taken = self.exchange(claim, version)?;
        if now.as_nanos() > latest {
            // A store, though one with an earlier time may undo it: an exchange would add
            // half to the cost of a take, for what the module's text says. It comes last,
            // while the line is at hand: before the exchange it costs two threads 5 ns more.
            self.hot.latest.store(now.as_nanos(), Ordering::Relaxed);
        }
        Some(taken.map_err(|missing| scale.time_for(missing)))
    }

    #[inline]
    fn exchange(&self, claim: Claim, version: u64) -> Option<Result<(), u64>> {
        loop {
            // Acquire: pairs with the Release of `open`, from which each exchange carries it
            // on. Who sees an open word sees the version of its scale, or a later one.
            let word = self.hot.word.load(Ordering::Acquire);
            if word & SHUT != 0 || self.scale.version() != version {
                return None;
            }
            let taken = match claim.take(word) {
                Ok(taken) => taken,
                Err(missing) => return Some(Err(missing)),
            };
            // Release: pairs with the Acquire of `shut`.
            let order = (Ordering::Release, Ordering::Relaxed);
            let exchanged = self
                .hot
                .word
                .compare_exchange_weak(word, taken, order.0, order.1);
            if exchanged.is_ok() {
                return Some(Ok(()));
            }
        }
    }

    /// Sends everyone to the lock, and brings the bucket up to date. Only under the lock.
    pub(super) fn shut(&self, bucket: &mut Bucket) {
        // Relaxed: only the lock's holders set the mark.
        if self.hot.word.load(Ordering::Relaxed) & SHUT != 0 {
            return;
        }
        // Acquire: pairs with the Release of each take, whose time is then seen.
        let word = self.hot.word.fetch_or(SHUT, Ordering::Acquire);
        let latest = Instant::from_nanos(self.hot.latest.load(Ordering::Relaxed));
        self.scale.load().1.bring_up(bucket, word, latest);
    }

    /// Lets everyone in again, if the bucket can be told by a number. Only under the lock,
    /// after [`shut`](Self::shut).
    pub(super) fn open(&self, bucket: &Bucket) {
        let (_, scale) = self.scale.load();
        let number = scale.number(bucket).or_else(|| self.rescale(bucket));
        if let Some(number) = number {
            // Relaxed: made visible by the store of the word.
            let latest = bucket.at().as_nanos();
            self.hot.latest.fetch_max(latest, Ordering::Relaxed);
            // Release: pairs with the Acquire of `try_take`. A store: while the door is shut,
            // nobody else writes the word.
            self.hot.word.store(number, Ordering::Release);
        }
    }

    fn rescale(&self, bucket: &Bucket) -> Option<u64> {
        // Relaxed: as the door is shut, this is as the lock's holders left it.
        let last = self.hot.word.load(Ordering::Relaxed) & !SHUT;
        let scale = Scale::new(bucket, last)?;
        self.scale.store(scale);
        scale.number(bucket)
    }
}

/// The scale, in parts: written only while the door is shut.
///
/// Whoever has read the same version before and after (before the parts, and after a word
/// that was open) has the scale of that word. For if it saw any part of a newer scale, it
/// also saw the door shut for it; and if the word is of a newer scale, then so is the second
/// version.
#[derive(Debug, Default)]
struct SharedScale {
    version: AtomicU64,
    base: AtomicU64,
    span: AtomicU64,
    start: AtomicU64,
    per_nano: AtomicU64,
    cost: AtomicU64,
    rim: AtomicU64,
}

impl SharedScale {
    /// Acquire, each: pairs with the Release of `store`. Who sees a new version sees all of
    /// its parts, and who sees a part sees the door that was shut before.
    #[inline]
    fn load(&self) -> (u64, Scale) {
        let version = self.version.load(Ordering::Acquire);
        let scale = Scale {
            base: self.base.load(Ordering::Acquire),
            span: self.span.load(Ordering::Acquire),
            start: self.start.load(Ordering::Acquire),
            per_nano: self.per_nano.load(Ordering::Acquire),
            cost: self.cost.load(Ordering::Acquire),
            rim: self.rim.load(Ordering::Acquire),
        };
        (version, scale)
    }

    /// To be read after a word by Acquire: that is why Relaxed is enough.
    #[inline]
    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Only under the lock, while the door is shut.
    fn store(&self, scale: Scale) {
        self.base.store(scale.base, Ordering::Release);
        self.span.store(scale.span, Ordering::Release);
        self.start.store(scale.start, Ordering::Release);
        self.per_nano.store(scale.per_nano, Ordering::Release);
        self.cost.store(scale.cost, Ordering::Release);
        self.rim.store(scale.rim, Ordering::Release);
        // Last: who sees it sees all of the parts.
        self.version.store(self.version() + 1, Ordering::Release);
    }
}

//! A rate limit in one word: the point in time up to which the rate is used up.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Alone;

/// One call each nanosecond, with a second's worth in advance.
const COST: u64 = 1;
const BURST: u64 = 1_000_000_000;

/// Ticks of the processor's counter, as nanoseconds.
pub(crate) struct Ticks {
    clock: quanta::Clock,
    start: u64,
}

impl Default for Ticks {
    fn default() -> Self {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        Self { clock, start }
    }
}

impl Ticks {
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.clock.delta_as_nanos(self.start, self.clock.raw())
    }
}

#[derive(Default)]
pub(crate) struct Rate {
    used_until: Alone,
    ticks: Ticks,
}

impl Rate {
    /// By the processor's counter.
    #[inline]
    pub(crate) fn admit(&self) -> bool {
        self.admit_at(self.ticks.now())
    }

    #[inline]
    fn admit_at(&self, now: u64) -> bool {
        let mut seen = self.used_until.0.load(Relaxed);
        loop {
            let from = seen.max(now);
            if from - now > BURST {
                return false;
            }
            let word = &self.used_until.0;
            match word.compare_exchange_weak(seen, from + COST, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }
}

/// By the clock of the standard library.
pub(crate) struct StdRate(Rate, Instant);

impl Default for StdRate {
    fn default() -> Self {
        Self(Rate::default(), Instant::now())
    }
}

impl StdRate {
    #[inline]
    pub(crate) fn admit(&self) -> bool {
        self.0.admit_at(self.1.elapsed().as_nanos() as u64)
    }
}

//! Breakers that count: one read-modify-write for a success.

use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::Alone;
use super::limiter::Ticks;
use crate::calls::{Answer, Failed};

/// Some state that is not "closed".
const OPEN: u64 = 1;

/// The latest 128 results, a bit each.
#[derive(Default)]
pub(crate) struct Counted {
    state: AtomicU64,
    next: Alone,
    failed: [AtomicU64; 2],
    failures: AtomicU64,
}

impl Counted {
    #[inline(always)]
    pub(crate) async fn call(&self, future: impl Future<Output = Answer>) -> Answer {
        if self.state.load(Acquire) == OPEN {
            return Err(Failed);
        }
        let answer = future.await;
        self.record(answer.is_err());
        answer
    }

    #[inline]
    fn record(&self, failed: bool) {
        let place = self.next.0.fetch_add(1, Relaxed) % 128;
        let (word, bit) = (&self.failed[(place / 64) as usize], 1 << (place % 64));
        let before = word.load(Relaxed) & bit != 0;
        if failed != before {
            word.fetch_xor(bit, Relaxed);
            let change = if failed { 1 } else { u64::MAX };
            self.failures.fetch_add(change, Relaxed);
        }
    }
}

/// A bucket for each of the latest 16 seconds or so: its second, failures and successes in a word.
#[derive(Default)]
pub(crate) struct Timed {
    state: AtomicU64,
    ticks: Ticks,
    buckets: [Alone; 16],
}

impl Timed {
    #[inline(always)]
    pub(crate) async fn call(&self, future: impl Future<Output = Answer>) -> Answer {
        if self.state.load(Acquire) == OPEN {
            return Err(Failed);
        }
        let answer = future.await;
        self.record(answer.is_err());
        answer
    }

    #[inline]
    fn record(&self, failed: bool) {
        let second = self.ticks.now() >> 30;
        let bucket = &self.buckets[(second % 16) as usize].0;
        let one = if failed { 1 << 24 } else { 1 };
        let seen = bucket.load(Relaxed);
        if seen >> 48 == second & 0xffff {
            bucket.fetch_add(one, Relaxed);
        } else {
            // Whoever comes too late here loses a count: it is a floor.
            let fresh = (second & 0xffff) << 48 | one;
            let _ = bucket.compare_exchange(seen, fresh, Relaxed, Relaxed);
        }
    }
}

/// Refuses by one load.
pub(crate) struct Open(AtomicU64);

impl Default for Open {
    fn default() -> Self {
        Self(AtomicU64::new(OPEN))
    }
}

impl Open {
    #[inline(always)]
    pub(crate) async fn call(&self, future: impl Future<Output = Answer>) -> Answer {
        if self.0.load(Acquire) == OPEN {
            return Err(Failed);
        }
        future.await
    }
}

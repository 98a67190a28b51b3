//! How long a breaker stays open.

use std::time::Duration;

use crate::retry::{Backoff, BackoffDelays, Delays};

/// How long to stay open each time.
///
/// Its randomness is a sequence that its seed determines.
#[derive(Debug)]
pub(super) struct OpenTimes {
    backoff: Backoff,
    seeds: fastrand::Rng,
    delays: BackoffDelays,
}

impl OpenTimes {
    pub(super) fn new(backoff: Backoff, seed: u64) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        let delays = backoff.delays(|| seeds.u64(..));
        Self {
            backoff,
            seeds,
            delays,
        }
    }

    pub(super) fn next(&mut self) -> Duration {
        self.delays.next().unwrap_or(Duration::MAX)
    }

    /// The breaker has closed: the growth begins anew, the jitter does not repeat itself.
    pub(super) fn restart(&mut self) {
        self.delays = self.backoff.delays(|| self.seeds.u64(..));
    }
}

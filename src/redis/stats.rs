//! What the client has done so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{RedisError, RedisErrorKind};
use crate::Error;
use crate::retry::{RetryEvent, RetryHook};

/// One bucket for each power of two of microseconds: the last one from 2^30 on (18 minutes).
const BUCKETS: usize = 32;

/// What a client and all of its handles have done so far.
///
/// A call counts when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStats {
    /// Calls that have ended, in whatever way.
    pub calls: u64,
    /// Those that gave a value.
    pub succeeded: u64,
    /// Those that ended by their time limit.
    pub timed_out: u64,
    /// Those that a policy refused: the breaker, the limit of calls in flight.
    pub refused: u64,
    /// Those that were dropped before their end.
    pub cancelled: u64,
    /// Those that ended with a [`RedisError`].
    pub failed: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Connections that were made.
    pub connected: u64,
    /// Attempts to connect that failed.
    pub connect_failed: u64,
    /// Health probes that got their answer.
    pub probes_answered: u64,
    /// Health probes that did not.
    pub probes_failed: u64,
    /// How long the calls took that gave a value.
    pub latency: Latency,
    errors: [u64; RedisErrorKind::ALL.len()],
}

impl RedisStats {
    /// Calls that ended with an error of this kind.
    #[must_use]
    pub fn errors(&self, kind: RedisErrorKind) -> u64 {
        self.errors[index(kind)]
    }
}

/// How long calls took: counts in buckets of powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    buckets: [u64; BUCKETS],
}

impl Latency {
    /// The time within which this share of the calls ended, rounded up to a power of two of
    /// microseconds; `None` without calls. A share outside of 0 to 1 is taken for the nearer
    /// end.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count: it is neither negative nor larger, and an estimate"
        )]
        let rank = ((total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(1 << found))
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let bits = micros.checked_ilog2().map_or(0, |log| log as usize + 1);
    bits.min(BUCKETS - 1)
}

fn index(kind: RedisErrorKind) -> usize {
    let found = RedisErrorKind::ALL.iter().position(|each| *each == kind);
    found.unwrap_or_default()
}

/// A call that gives a value changes one of them: they are shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Counters {
    timed_out: AtomicU64,
    refused: AtomicU64,
    cancelled: AtomicU64,
    failed: AtomicU64,
    retries: AtomicU64,
    connected: AtomicU64,
    connect_failed: AtomicU64,
    probes_answered: AtomicU64,
    probes_failed: AtomicU64,
    errors: [AtomicU64; RedisErrorKind::ALL.len()],
    latency: [AtomicU64; BUCKETS],
}

/// Relaxed throughout: they are counts, in no order with anything else.
fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl Counters {
    /// A call begins; dropped before its end, it was cancelled.
    pub(super) fn call(&self) -> Counted<'_> {
        Counted {
            counters: self,
            is_over: false,
        }
    }

    pub(super) fn connected(&self, is_made: bool) {
        add(if is_made {
            &self.connected
        } else {
            &self.connect_failed
        });
    }

    pub(super) fn probed(&self, is_answered: bool) {
        add(if is_answered {
            &self.probes_answered
        } else {
            &self.probes_failed
        });
    }

    pub(super) fn snapshot(&self) -> RedisStats {
        let latency = Latency {
            buckets: std::array::from_fn(|at| read(&self.latency[at])),
        };
        let succeeded = latency.buckets.iter().sum();
        let [timed_out, refused] = [&self.timed_out, &self.refused].map(read);
        let [cancelled, failed] = [&self.cancelled, &self.failed].map(read);
        RedisStats {
            calls: succeeded + timed_out + refused + cancelled + failed,
            succeeded,
            timed_out,
            refused,
            cancelled,
            failed,
            retries: read(&self.retries),
            connected: read(&self.connected),
            connect_failed: read(&self.connect_failed),
            probes_answered: read(&self.probes_answered),
            probes_failed: read(&self.probes_failed),
            latency,
            errors: std::array::from_fn(|at| read(&self.errors[at])),
        }
    }
}

/// A call under way.
pub(super) struct Counted<'c> {
    counters: &'c Counters,
    is_over: bool,
}

impl Counted<'_> {
    pub(super) fn ended<T>(mut self, result: &Result<T, Error<RedisError>>, took: Duration) {
        self.is_over = true;
        let counters = self.counters;
        match result {
            Ok(_) => add(&counters.latency[bucket(took)]),
            Err(Error::Operation { error, .. }) => {
                add(&counters.failed);
                add(&counters.errors[index(error.kind())]);
            }
            Err(Error::TimedOut { .. }) => add(&counters.timed_out),
            Err(Error::Refused { .. }) => add(&counters.refused),
            Err(_) => add(&counters.failed),
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            add(&self.counters.cancelled);
        }
    }
}

/// Counts the retries.
#[derive(Debug)]
pub(super) struct CountRetries(pub(super) std::sync::Arc<Counters>);

impl<T> RetryHook<T, RedisError> for CountRetries {
    fn before_wait(&self, _: &RetryEvent<'_, T, RedisError>) {
        add(&self.0.retries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bucket_that_holds_it() {
        let counters = Counters::default();
        assert_eq!(counters.snapshot().latency.quantile(0.5), None);
        for (micros, times) in [(0, 1), (1, 49), (100, 49), (u64::MAX, 1)] {
            for _ in 0..times {
                let took = Duration::from_micros(micros);
                counters.call().ended(&Ok::<_, Error<RedisError>>(()), took);
            }
        }
        let latency = counters.snapshot().latency;
        let at = |share| latency.quantile(share).unwrap();
        assert_eq!(at(-1.0), Duration::from_micros(1));
        assert_eq!(at(0.5), Duration::from_micros(2));
        assert_eq!(at(0.99), Duration::from_micros(128));
        assert_eq!(at(9.0), Duration::from_micros(1 << 31));
        assert_eq!(latency.quantile(f64::NAN), Some(Duration::from_micros(1)));
    }

    #[test]
    fn a_call_that_is_dropped_counts_as_cancelled_and_each_other_once() {
        let counters = Counters::default();
        drop(counters.call());
        let error = RedisError::usage("no");
        let failed: Result<(), _> = Err(Error::operation(error));
        counters.call().ended(&failed, Duration::ZERO);
        let late: Result<(), Error<RedisError>> = Err(Error::timed_out(Duration::ZERO));
        counters.call().ended(&late, Duration::ZERO);
        let stats = counters.snapshot();
        assert_eq!((stats.calls, stats.cancelled), (3, 1));
        assert_eq!((stats.failed, stats.timed_out), (1, 1));
        assert_eq!(stats.errors(RedisErrorKind::Usage), 1);
        assert_eq!(stats.errors(RedisErrorKind::Connection), 0);
    }
}

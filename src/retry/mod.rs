//! Tries again after a failure: with back-off, within limits, on a budget.
//!
//! The decision is made in `plan`, which is told the time; this module drives it.

mod backoff;
mod budget;
mod builder;
mod classify;
mod course;
mod driver;
#[cfg(all(test, mainstay_loom))]
mod loom;
mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use crate::classify::{By, ByOk, Classify, Failures, If};
pub use backoff::{Backoff, BackoffDelays, ByAttempt, ByAttemptDelays, Delays, FromIter, Jitter};
pub use budget::RetryBudget;
pub use builder::{NoHook, OnRetry, RetryBuilder, RetryHook};
pub use classify::{RetryEvent, Verdict};
pub use driver::{Retried, Retrying};

use crate::config::ConfigError;
use crate::operation::Repeatable;
use crate::policy::{IntoPolicy, Policy};
use crate::sync::atomic::{AtomicU64, Ordering};
use plan::Limits;

/// Starts an operation again when its result is not good enough.
///
/// The operation is a closure that makes a new future for each attempt, or a tower service
/// with a request that can be cloned.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `max_attempts` | 3, the first one included | more rarely helps and multiplies load |
/// | `backoff` | exponential from 100 ms, doubled, at most 30 s | leaves room to recover |
/// | jitter | full | spreads callers best |
/// | classifier | own errors and time-outs of an attempt | a refusal below is not hammered |
/// | `budget` | 0.2 retries a call, 100 in reserve | an outage costs at most 1.2 times the load |
/// | `max_elapsed` | none | the call's deadline is the better limit |
/// | `max_retry_after` | 60 s | a server cannot park its callers for hours |
///
/// **Only what may be done twice may be retried.** An attempt whose answer was lost may have
/// had its effect; use a classifier, or an idempotency key, where that matters.
///
/// # Errors
///
/// The last attempt's error, with the number of all attempts. When it is not the
/// operation's own, [`Error::last`](crate::Error::last) holds the latest that was. A wait which could not end
/// before the deadline is not begun: the call fails at once. When the attempts are used up
/// by results that are `Ok` and yet not good enough, the last one is returned as it is.
///
/// # Cancel safety
///
/// Dropping the call during a wait starts no further attempt.
///
/// # Fairness
///
/// With zero delays attempts follow each other without the timer; after 32 without a pause
/// the task yields once.
///
/// # Examples
///
/// ```
/// use mainstay::prelude::*;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let retry = Retry::builder()
///     .backoff(Backoff::constant(Duration::from_millis(1)))
///     .retry_if(|error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut)
///     .build()?;
/// let mut answers = [Err(std::io::ErrorKind::TimedOut.into()), Ok("there")].into_iter();
/// let answer = (|| std::future::ready(answers.next().unwrap())).retry(&retry).await?;
/// assert_eq!(answer, "there");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Retry<B = Backoff, C = Failures, H = NoHook> {
    backoff: B,
    classifier: C,
    hook: H,
    limits: Limits,
    budget: Option<RetryBudget>,
    /// Whether nobody has spoken of a budget: a single call has no use for one, a pipeline
    /// has.
    gets_budget: bool,
    seeds: Seeds,
}

impl Retry {
    /// A retry with every default, to be changed.
    pub fn builder() -> RetryBuilder {
        RetryBuilder::new()
    }

    /// A retry with every default but the first delay of its exponential back-off.
    ///
    /// Around a single call it has no budget, since there are no others to share one with;
    /// in a pipeline it gets one as usual.
    #[must_use]
    pub fn exponential(base: Duration) -> Self {
        let backoff = Backoff::exponential(base);
        let backoff = backoff.max_delay(base.max(Duration::from_secs(30)));
        let retry = RetryBuilder::new().no_budget().backoff(backoff).unchecked();
        Self {
            gets_budget: true,
            ..retry
        }
    }
}

impl Default for Retry {
    /// Every default; the budget is this policy's own.
    fn default() -> Self {
        RetryBuilder::new().unchecked()
    }
}

impl<B, C, H> Retry<B, C, H> {
    /// The budget, to share it with another policy or to look at its balance.
    #[must_use]
    pub fn budget(&self) -> Option<&RetryBudget> {
        self.budget.as_ref()
    }
}

/// Where each call gets the seed of its jitter from.
#[derive(Debug)]
enum Seeds {
    /// The thread's own generator.
    Random,
    /// A sequence that is the same in each run.
    Fixed(AtomicU64),
}

impl Seeds {
    fn next(&self) -> u64 {
        match self {
            Self::Random => fastrand::u64(..),
            // Relaxed: each call needs a number of its own, in no order with anything else.
            Self::Fixed(next) => next.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed),
        }
    }
}

impl<'a, O, B, C, H> Policy<'a, O> for Retry<B, C, H>
where
    O: Repeatable,
    B: Delays + 'a,
    C: Classify<O::Output, O::Error, Verdict> + 'a,
    H: RetryHook<O::Output, O::Error> + 'a,
{
    type Operation = Retried<&'a Self, B, C, H, O>;

    #[inline]
    fn wrap(&'a self, inner: O) -> Self::Operation {
        Retrying::new(self, inner)
    }
}

impl<B, C, H> IntoPolicy for Retry<B, C, H> {
    type Policy = Self;

    fn into_policy(mut self) -> Result<Self, ConfigError> {
        if self.gets_budget {
            self.budget = Some(RetryBudget::default());
            self.gets_budget = false;
        }
        Ok(self)
    }
}

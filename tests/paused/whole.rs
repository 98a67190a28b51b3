//! The six-policy stack, with handles on all that it holds.

use std::cell::Cell;
use std::time::Duration;

use mainstay::policy::{Identity, Stack};
use mainstay::prelude::*;
use mainstay::retry::Jitter;
use mainstay::{Error, Pipeline};
use tokio::time::sleep;

use crate::support::{self, Oops, Stepped};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

type Two = Stack<Stack<Identity, Timeout>, Retry>;
type Six = Stack<Stack<Stack<Stack<Two, CircuitBreaker>, RateLimiter>, Bulkhead>, Timeout>;

/// A stack of six policies and what it shares.
pub(crate) struct Whole {
    pub(crate) pipeline: Pipeline<Six>,
    pub(crate) bulkhead: Bulkhead,
}

impl Whole {
    pub(crate) fn new() -> Self {
        let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
        let delays = Backoff::constant(SECOND).jitter(Jitter::None);
        let pipeline = Pipeline::builder("whole")
            .timeout(60 * SECOND)
            .retry(Retry::builder().backoff(delays))
            .circuit_breaker(CircuitBreaker::builder())
            .rate_limit(support::limiter())
            .bulkhead(bulkhead.clone())
            .timeout(5 * SECOND)
            .build()
            .unwrap();
        Self { pipeline, bulkhead }
    }

    /// A call whose first two attempts fail, each after a pause and some polls.
    pub(crate) fn call<'a>(&'a self, attempts: &'a Cell<u32>) -> Stepped<'a, Outcome> {
        Stepped::new(self.pipeline.call(move || {
            attempts.set(attempts.get() + 1);
            let attempt = attempts.get();
            async move {
                tokio::task::yield_now().await;
                sleep(SECOND / 2).await;
                tokio::task::yield_now().await;
                if attempt < 3 {
                    Err(Oops(attempt))
                } else {
                    Ok(attempt)
                }
            }
        }))
    }

    /// Everything that calls took has been given back, and the next call is served at once.
    #[track_caller]
    pub(crate) fn is_whole(&self, case: &str) {
        let snapshot = self.bulkhead.snapshot();
        assert_eq!((snapshot.in_use, snapshot.queued), (0, 0), "{case}");
        let next = support::now(self.pipeline.call(|| async { Ok::<_, Oops>(7) }));
        assert_eq!(next, Ok(7), "{case}");
        let snapshot = self.bulkhead.snapshot();
        assert_eq!((snapshot.in_use, snapshot.queued), (0, 0), "{case}");
    }
}

pub(crate) type Outcome = Result<u32, Error<Oops>>;

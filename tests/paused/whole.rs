//! The six-policy stack, with handles on all that it holds.

use std::cell::Cell;
use std::time::Duration;

use mainstay::circuit_breaker::{CircuitState, Window};
use mainstay::policy::{End, Identity, Stack};
use mainstay::prelude::*;
use mainstay::retry::Jitter;
use mainstay::{Error, Pipeline};
use tokio::time::{sleep, timeout};

use crate::support::{Oops, Stepped};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How long a breaker stays open.
const OPEN_FOR: Duration = Duration::from_secs(10);
/// More in a row than two calls have together: so many open the breaker.
const FAILURES: u32 = 5;
/// A burst that no test uses up, at a rate that no test sees.
const BURST: u32 = 100;
const PER: Duration = Duration::from_secs(1_000_000);

type Two = Stack<Stack<Identity, Timeout>, Retry>;
type Six = Stack<Stack<Stack<Stack<Two, CircuitBreaker>, RateLimiter>, Bulkhead>, Timeout>;

pub(crate) type Outcome = Result<u32, Error<Oops>>;

/// A stack of six policies, what it shares, and what its operations did.
pub(crate) struct Whole {
    pub(crate) pipeline: Pipeline<Six>,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) limiter: RateLimiter,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) started: Cell<u32>,
    pub(crate) ended: Cell<u32>,
}

impl Whole {
    /// Nobody waits for the limiter, and what it has given out can be counted.
    pub(crate) fn new() -> Self {
        Self::with(
            RateLimiter::builder()
                .rate(1, PER)
                .burst(BURST)
                .build()
                .unwrap(),
        )
    }

    /// Each attempt but the first waits for its permit.
    pub(crate) fn paced() -> Self {
        let limiter = RateLimiter::builder().rate(1, 2 * SECOND).burst(1);
        Self::with(limiter.max_wait(60 * SECOND).build().unwrap())
    }

    /// The next call is the one probe of a half-open breaker.
    pub(crate) async fn half_open() -> Self {
        let whole = Self::new();
        for _ in 0..FAILURES {
            whole.breaker.try_acquire().unwrap().settle(End::Failure);
        }
        assert_eq!(whole.breaker.state(), CircuitState::Open);
        sleep(OPEN_FOR).await;
        whole
    }

    fn with(limiter: RateLimiter) -> Self {
        let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
        let breaker = CircuitBreaker::builder()
            .window(Window::calls(100))
            .no_failure_rate()
            .consecutive_failures(FAILURES)
            .open_for(OPEN_FOR)
            .half_open_probes(1)
            .build()
            .unwrap();
        let delays = Backoff::constant(SECOND).jitter(Jitter::None);
        let pipeline = Pipeline::builder("whole")
            .timeout(60 * SECOND)
            .retry(Retry::builder().backoff(delays))
            .circuit_breaker(breaker.clone())
            .rate_limit(limiter.clone())
            .bulkhead(bulkhead.clone())
            .timeout(5 * SECOND)
            .build()
            .unwrap();
        Self {
            pipeline,
            bulkhead,
            limiter,
            breaker,
            started: Cell::new(0),
            ended: Cell::new(0),
        }
    }

    /// A call whose first `failing` attempts fail, each attempt with pauses and polls.
    pub(crate) fn call(&self, failing: u32) -> Stepped<'_, Outcome> {
        Stepped::new(self.pipeline.call_with(move |attempt| async move {
            self.started.set(self.started.get() + 1);
            tokio::task::yield_now().await;
            sleep(SECOND / 2).await;
            tokio::task::yield_now().await;
            self.ended.set(self.ended.get() + 1);
            match attempt.number() {
                n if n <= failing => Err(Oops(n)),
                n => Ok(n),
            }
        }))
    }

    /// Everything that calls took has been given back, and the next call is served.
    pub(crate) async fn is_whole(&self, case: &str) {
        self.holds_nothing(case);
        let next = self.pipeline.call(|| async { Ok::<_, Oops>(7) });
        let next = timeout(2 * SECOND, next).await;
        assert_eq!(next, Ok(Ok(7)), "{case}");
        assert_eq!(self.breaker.state(), CircuitState::Closed, "{case}");
        self.holds_nothing(case);
    }

    #[track_caller]
    pub(crate) fn holds_nothing(&self, case: &str) {
        let bulkhead = self.bulkhead.snapshot();
        assert_eq!(
            (bulkhead.in_use, bulkhead.queued),
            (0, 0),
            "{case}: bulkhead"
        );
        let limiter = self.limiter.snapshot();
        assert_eq!(
            (limiter.queued, limiter.queued_permits),
            (0, 0),
            "{case}: limiter"
        );
    }

    /// The breaker has counted each attempt that ended, and no other.
    #[track_caller]
    pub(crate) fn breaker_counted(&self, attempts: u32, case: &str) {
        let seen = self.breaker.snapshot();
        assert_eq!(
            seen.successes + seen.failures,
            u64::from(attempts),
            "{case}: breaker"
        );
    }

    /// Of a limiter whose burst is not used up: the permits that it gave out.
    pub(crate) fn spent(&self) -> u32 {
        BURST - self.limiter.snapshot().available
    }
}

//! What a call can hold, and whether it has given it back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use mainstay::circuit_breaker::{CircuitState, Window};
use mainstay::policy::{End, Permit};
use mainstay::prelude::*;
use mainstay::retry::{Jitter, RetryBudget};
use mainstay::{Error, Refusal};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::Oops;

pub(crate) const MILLI: Duration = Duration::from_millis(1);
/// How long a breaker stays open.
pub(crate) const OPEN_FOR: Duration = Duration::from_secs(10);
/// How many retries the budget has.
pub(crate) const RESERVE: u64 = 10;
/// So many in a row open the breaker: more than the calls of a trial have together.
const FAILURES: u32 = 8;

/// The gates that pipelines are made of, and what operations do.
pub(crate) struct Gates {
    pub(crate) bulkhead: Bulkhead,
    pub(crate) limiter: RateLimiter,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) budget: RetryBudget,
    /// Operations that have begun and are not dropped.
    running: AtomicUsize,
    /// Attempts that have begun after the first.
    retried: AtomicU32,
    /// Whether each retry comes to the operation: no gate further in refuses it.
    strict: bool,
    /// Slots that somebody holds: the neighbour lets them go.
    slots: Mutex<Vec<Permit<Bulkhead>>>,
    /// Places of probes that somebody holds.
    probes: Mutex<Vec<Permit<CircuitBreaker>>>,
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Gates {
    /// All free: two slots, a burst that is not used up, a breaker that is closed.
    pub(crate) fn free() -> Self {
        Self::with(2, 1_000)
    }

    /// As many slots and as large a burst.
    pub(crate) fn with(slots: u32, burst: u32) -> Self {
        let limiter = RateLimiter::builder().rate(1, 4 * MILLI).burst(burst);
        let breaker = CircuitBreaker::builder()
            .window(Window::calls(100))
            .no_failure_rate()
            .consecutive_failures(FAILURES)
            .open_for(OPEN_FOR)
            .half_open_probes(2);
        Self {
            bulkhead: Bulkhead::builder()
                .max_concurrent(slots)
                .max_queue(8)
                .build()
                .unwrap(),
            limiter: limiter.max_wait(1_000 * MILLI).build().unwrap(),
            breaker: breaker.build().unwrap(),
            budget: RetryBudget::new(0.0, u32::try_from(RESERVE).unwrap()).unwrap(),
            running: AtomicUsize::new(0),
            retried: AtomicU32::new(0),
            strict: true,
            slots: Mutex::default(),
            probes: Mutex::default(),
        }
    }

    /// For a stack in which gates stand below a retry.
    pub(crate) fn loose(mut self) -> Self {
        self.strict = false;
        self
    }

    /// Somebody holds every slot.
    pub(crate) fn full(slots: u32) -> Self {
        let gates = Self::with(slots, 1_000);
        gates.fill();
        gates
    }

    pub(crate) fn fill(&self) {
        while let Ok(slot) = self.bulkhead.try_acquire_owned(1) {
            self.slots.lock().unwrap().push(slot);
        }
    }

    /// The burst is used up, so that everyone waits.
    pub(crate) fn slow() -> Self {
        let gates = Self::with(2, 2);
        gates.limiter.try_acquire(2).unwrap();
        gates
    }

    /// The breaker is open.
    pub(crate) fn open() -> Self {
        let gates = Self::free();
        for _ in 0..FAILURES {
            gates.breaker.try_acquire().unwrap().settle(End::Failure);
        }
        assert_eq!(gates.breaker.state(), CircuitState::Open);
        gates
    }

    /// The next calls are the probes of a half-open breaker; so many are under way.
    pub(crate) async fn half_open(probes: usize) -> Self {
        let gates = Self::open();
        sleep(OPEN_FOR).await;
        for _ in 0..probes {
            let probe = gates.breaker.try_acquire_owned().unwrap();
            gates.probes.lock().unwrap().push(probe);
        }
        gates
    }

    /// An operation with three pauses, which fails in its first attempts.
    pub(crate) async fn work(&self, attempt: u32, failing: u32) -> Result<u32, Oops> {
        self.running.fetch_add(1, SeqCst);
        let _in_flight = InFlight(&self.running);
        if attempt > 1 {
            self.retried.fetch_add(1, SeqCst);
        }
        yield_now().await;
        sleep(2 * MILLI).await;
        yield_now().await;
        if attempt <= failing {
            return Err(Oops(attempt));
        }
        Ok(7)
    }

    /// Somebody lets go of what he holds, one thing.
    pub(crate) fn release(&self) {
        drop(self.slots.lock().unwrap().pop());
        let probe = self.probes.lock().unwrap().pop();
        if let Some(probe) = probe {
            probe.settle(End::Success);
        }
    }

    /// Nothing is held but by those who say so.
    #[track_caller]
    pub(crate) fn hold_nothing(&self) {
        assert_eq!(self.running.load(SeqCst), 0, "operations");
        let bulkhead = self.bulkhead.snapshot();
        assert_eq!((bulkhead.in_use, bulkhead.queued), (0, 0), "bulkhead");
        let limiter = self.limiter.snapshot();
        let waiting = (limiter.queued, limiter.queued_permits);
        assert_eq!(waiting, (0, 0), "limiter");
        let retried = u64::from(self.retried.load(SeqCst));
        let accounted = self.budget.balance() + retried;
        assert!(accounted <= RESERVE, "budget: {accounted}");
        assert!(accounted == RESERVE || !self.strict, "budget: {accounted}");
    }

    /// Everything adds up, and the next call succeeds; if the breaker is open, when its time
    /// has passed.
    pub(crate) async fn are_whole(&self, mut next: impl AsyncFnMut() -> Result<u32, Error<Oops>>) {
        while !self.slots.lock().unwrap().is_empty() || !self.probes.lock().unwrap().is_empty() {
            self.release();
        }
        self.hold_nothing();
        if self.breaker.state() == CircuitState::Open {
            sleep(OPEN_FOR).await;
        }
        if self.limiter.snapshot().available == 0 {
            // Some pipelines have no time for its queue.
            sleep(100 * MILLI).await;
        }
        // Two probes close it.
        for _ in 0..2 {
            assert_eq!(next().await, Ok(7), "the next call");
        }
        assert_eq!(self.breaker.state(), CircuitState::Closed);
        self.hold_nothing();
        // All slots are there, and can be taken at once.
        self.fill();
        let slots = self.slots.lock().unwrap().drain(..).count();
        assert_eq!(
            slots as u64,
            u64::from(self.bulkhead.snapshot().max_concurrent)
        );
    }
}

/// Retries at once after a failure, from the budget of these gates.
pub(crate) fn retry(gates: &Gates) -> mainstay::Retry {
    Retry::builder()
        .max_attempts(3)
        .backoff(Backoff::constant(3 * MILLI).jitter(Jitter::None))
        .budget(gates.budget.clone())
        .build()
        .unwrap()
}

/// Whether a call ended as one can that was not cancelled.
#[track_caller]
pub(crate) fn is_usual(result: &Result<u32, Error<Oops>>) {
    let usual = match result {
        Ok(number) => *number == 7,
        Err(Error::Operation { .. } | Error::TimedOut { .. }) => true,
        Err(error) => matches!(
            error.refusal(),
            Some(
                Refusal::CircuitOpen { .. }
                    | Refusal::RateLimited { .. }
                    | Refusal::BulkheadFull { .. }
            )
        ),
    };
    assert!(usual, "{result:?}");
}

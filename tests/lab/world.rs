//! What a call can hold, and whether it has given it back.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::circuit_breaker::{CircuitState, Window};
use mainstay::policy::{Admission, CallContext, End, Gate, Judge, Permit};
use mainstay::prelude::*;
use mainstay::retry::{Jitter, RetryBudget};
use mainstay::{Error, Refusal};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::support::Oops;

pub(crate) const MILLI: Duration = Duration::from_millis(1);
/// How long a breaker stays open.
pub(crate) const OPEN_FOR: Duration = Duration::from_secs(10);
/// How many retries the budget has.
pub(crate) const RESERVE: u64 = 10;
/// How many permits the limiter saves up: more than come or go in a trial, so that none is lost
/// because it is full.
const BURST: u32 = 10_000;
/// So many in a row open the breaker: more than the calls of a trial have together.
const FAILURES: u32 = 8;

/// The gates that pipelines are made of, and what operations do.
pub(crate) struct Gates {
    pub(crate) bulkhead: Bulkhead,
    pub(crate) limiter: RateLimiter,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) budget: RetryBudget,
    /// What the limiter had when the world was made, and when another permit comes.
    saved: u32,
    refill: Duration,
    since: Instant,
    /// What it has given since, as it shows behind it.
    pub(crate) meter: Meter,
    /// Operations that have begun and are not dropped.
    running: AtomicUsize,
    /// Attempts that have begun after the first.
    retried: AtomicU32,
    /// Whether each retry comes to the operation: no gate further in refuses it.
    strict: bool,
    /// Whether the neighbour opens the breaker.
    is_opened_by_hand: bool,
    /// Slots that somebody holds: the neighbour lets them go.
    slots: Mutex<Vec<Permit<Bulkhead>>>,
    /// Places of probes that somebody holds.
    probes: Mutex<Vec<Permit<CircuitBreaker>>>,
}

/// A gate that lets every call pass, and counts what the limiter right before it took.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    each: u64,
    granted: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
}

impl Meter {
    /// Of calls that cost one permit.
    fn new() -> Self {
        Self {
            each: 1,
            granted: Arc::default(),
            asked: Arc::default(),
        }
    }

    fn count(&self) {
        self.granted.fetch_add(self.each, SeqCst);
    }

    /// Of a stream whose items cost a permit each, this one was asked for.
    pub(crate) fn asked_for(&self, number: u32) {
        self.asked.fetch_max(number.into(), SeqCst);
    }

    fn total(&self) -> u64 {
        self.granted.load(SeqCst) + self.asked.load(SeqCst)
    }
}

impl Gate for Meter {
    type Wait = ();
    type Ticket = ();

    fn admit(&self, _: &CallContext<'_>) -> Admission<()> {
        self.count();
        Admission::Admitted(())
    }

    fn settle(&self, (): (), _: End) {}
}

impl<T, E> Judge<T, E> for Meter {}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Gates {
    /// All free: two slots, a burst that is not used up, a breaker that is closed.
    pub(crate) fn free() -> Self {
        Self::with(2, BURST)
    }

    /// As many slots, and as many permits; of a whole burst none comes back within a trial.
    pub(crate) fn with(slots: u32, permits: u32) -> Self {
        let refill = match permits {
            BURST => Duration::from_secs(3_600),
            _ => 4 * MILLI,
        };
        let limiter = RateLimiter::builder().rate(1, refill).burst(BURST);
        let limiter = limiter.max_wait(1_000 * MILLI).build().unwrap();
        limiter.try_acquire(BURST - permits).unwrap();
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
            limiter,
            breaker: breaker.build().unwrap(),
            budget: RetryBudget::new(0.0, u32::try_from(RESERVE).unwrap()).unwrap(),
            saved: permits,
            refill,
            since: Instant::now(),
            meter: Meter::new(),
            running: AtomicUsize::new(0),
            retried: AtomicU32::new(0),
            strict: true,
            is_opened_by_hand: false,
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
        let gates = Self::with(slots, BURST);
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
        Self::with(2, 0)
    }

    /// Stands right behind the limiter, whose calls cost so many permits.
    pub(crate) fn meter(&self, each: u32) -> Meter {
        let each = u64::from(each);
        let meter = self.meter.clone();
        Meter { each, ..meter }
    }

    /// Whoever got his permits from the limiter has spent them.
    pub(crate) fn spent<T>(&self, permits: u32, got: Result<T, Refusal>) -> Result<T, Refusal> {
        if got.is_ok() {
            self.meter(permits).count();
        }
        got
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

    /// An operator has opened the breaker.
    pub(crate) fn forced_open() -> Self {
        Self::set(CircuitBreaker::force_open)
    }

    /// An operator has set the breaker so.
    pub(crate) fn set(to: fn(&CircuitBreaker)) -> Self {
        let gates = Self::free();
        to(&gates.breaker);
        gates
    }

    /// An operator opens the breaker, while calls and probes are under way.
    pub(crate) fn opened_later(mut self) -> Self {
        self.is_opened_by_hand = true;
        self
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
        if self.is_opened_by_hand {
            self.breaker.force_open();
        }
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
        // Who was admitted has spent his permits, and who was cancelled in the queue has not.
        let came = self.since.elapsed().as_nanos() / self.refill.as_nanos();
        let there = u128::from(self.saved) + came - u128::from(self.meter.total());
        assert_eq!(u128::from(limiter.available), there, "permits");
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
        match self.breaker.state() {
            CircuitState::Open => sleep(OPEN_FOR).await,
            CircuitState::Closed | CircuitState::HalfOpen => {}
            // Whatever was cancelled meanwhile, only the operator ends it.
            by_hand => {
                sleep(2 * OPEN_FOR).await;
                let passes = self.breaker.try_acquire().is_ok();
                assert_eq!(passes, by_hand != CircuitState::ForcedOpen, "{by_hand:?}");
                assert_eq!(self.breaker.state(), by_hand);
                self.breaker.reset();
            }
        }
        if self.limiter.snapshot().available < 4 {
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

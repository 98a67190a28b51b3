//! The full house: every pattern, wired together, with its ledgers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay::circuit_breaker::{CircuitState, Window};
use mainstay::observe::{Event, EventKind};
use mainstay::policy::{DynPipeline, End, Identity, Stack};
use mainstay::pool::{Check, Pool};
use mainstay::prelude::*;
use mainstay::queue::Queue;
use mainstay::retry::RetryBudget;
use mainstay::{Pipeline, RateLimiter};
use tokio::time::sleep;

use crate::budget::{Attempts, BudgetLedger, RESERVE};
use crate::goods::{Item, Items, Maker, OBJECTS, Objects, hook};
use crate::support::Oops;
use crate::witness::{BreakerLedger, LimiterLedger, PROBES, WINDOW};
use crate::world::{MS, SECOND, World};

pub(crate) const WHOLE: Duration = Duration::from_secs(5);
pub(crate) const EACH: Duration = SECOND;
pub(crate) const ATTEMPTS: u32 = 4;
pub(crate) const SLOTS: u32 = 6;
pub(crate) const LINE: usize = 8;
pub(crate) const OPEN_FOR: Duration = Duration::from_secs(2);
pub(crate) const PROBES_LOST: Duration = Duration::from_secs(20);
pub(crate) const WORKERS: u32 = 3;
pub(crate) const ROOM: usize = 8;
pub(crate) const RATE: u32 = 100;
pub(crate) const BURST: u32 = 30;

type L0 = Stack<Stack<Identity, Timeout>, Arc<BudgetLedger>>;
type L1 = Stack<Stack<Stack<L0, Retry>, Arc<Attempts>>, CircuitBreaker>;
type L2 = Stack<Stack<Stack<L1, Arc<BreakerLedger>>, RateLimiter>, Arc<LimiterLedger>>;
pub(crate) type Main = Stack<Stack<L2, Bulkhead>, Timeout>;

pub(crate) struct House {
    pub(crate) world: Arc<World>,
    pub(crate) main: Pipeline<Main>,
    /// A fallback around the same policies.
    pub(crate) lenient: DynPipeline<u32, Oops>,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) breaker_ledger: Arc<BreakerLedger>,
    pub(crate) limiter: RateLimiter,
    pub(crate) limiter_ledger: Arc<LimiterLedger>,
    pub(crate) keyed: KeyedRateLimiter<u64>,
    pub(crate) key_ledgers: Vec<LimiterLedger>,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) pool: Pool<Maker>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) queue: Queue<Item, u32, Oops>,
    pub(crate) items: Arc<Items>,
    pub(crate) budget: Arc<BudgetLedger>,
    /// Slots of the bulkhead that are known to be taken.
    pub(crate) slots: AtomicU32,
    counts_calls: bool,
}

fn breaker(seed: u64, ledger: &Arc<BreakerLedger>) -> CircuitBreaker {
    let ledger = Arc::clone(ledger);
    CircuitBreaker::builder()
        .window(if seed % 2 == 0 {
            Window::calls(WINDOW)
        } else {
            Window::time(10 * SECOND)
        })
        .minimum_calls(20)
        .consecutive_failures(15)
        .open_for(OPEN_FOR)
        .half_open_probes(PROBES)
        .half_open_limit(match seed % 3 {
            0 => Duration::MAX,
            _ => PROBES_LOST,
        })
        .on_state_change(move |change| ledger.changed(change))
        .build()
        .unwrap()
}

fn pool(world: &Arc<World>, objects: &Arc<Objects>) -> Pool<Maker> {
    Pool::builder(Maker(Arc::clone(objects)))
        .max_size(OBJECTS)
        .check(Check::AfterIdle(50 * MS))
        .check_limit(300 * MS)
        .create_limit(700 * MS)
        .close_limit(300 * MS)
        .max_wait(2 * SECOND)
        .idle_time(20 * SECOND)
        .life_time(60 * SECOND)
        .after_create(hook(world))
        .before_hand_over(hook(world))
        .after_return(hook(world))
        .build()
        .unwrap()
}

fn queue() -> Queue<Item, u32, Oops> {
    Queue::builder()
        .workers(WORKERS as usize)
        .capacity(ROOM)
        .max_wait(SECOND)
        .outcomes(16)
        .build(Items::work)
        .unwrap()
}

impl House {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        let seed = world.seed;
        let counts_calls = seed % 2 == 0;
        let breaker_ledger = BreakerLedger::new(world);
        let breaker = breaker(seed, &breaker_ledger);
        breaker_ledger.watch(&breaker);
        let limiter = RateLimiter::per_second(RATE).burst(BURST);
        let limiter = limiter.max_wait(400 * MS).build().unwrap();
        let limiter_ledger = Arc::new(LimiterLedger::new(world, RATE, SECOND, BURST));
        let bulkhead = Bulkhead::builder()
            .max_concurrent(SLOTS)
            .max_queue(LINE)
            .max_wait(600 * MS)
            .build()
            .unwrap();
        let budget = RetryBudget::new(0.2, RESERVE).unwrap();
        let budget_ledger = BudgetLedger::new(world);
        let counter = Arc::clone(world);
        let main = Pipeline::builder("main")
            .observe(move |event: &Event<'_>| {
                if let EventKind::Refused(_) = event.kind {
                    counter.refused.fetch_add(1, Ordering::Relaxed);
                }
            })
            .timeout(WHOLE)
            .policy(Arc::clone(&budget_ledger))
            .retry(
                Retry::builder()
                    .max_attempts(ATTEMPTS)
                    .backoff(Backoff::exponential(20 * MS).max_delay(SECOND))
                    .budget(budget)
                    .seed(seed),
            )
            .policy(Arc::new(Attempts(Arc::clone(&budget_ledger))))
            .circuit_breaker(breaker.clone())
            .policy(Arc::clone(&breaker_ledger))
            .rate_limit(limiter.clone())
            .policy(Arc::clone(&limiter_ledger))
            .bulkhead(bulkhead.clone())
            .timeout(EACH)
            .build()
            .unwrap();
        let lenient = Pipeline::builder("lenient")
            .timeout(WHOLE)
            .fallback(
                Fallback::value(0).when(|error: &mainstay::Error<Oops>| !error.is_timed_out()),
            )
            .circuit_breaker(breaker.clone())
            .policy(Arc::clone(&breaker_ledger))
            .rate_limit(limiter.clone())
            .policy(Arc::clone(&limiter_ledger))
            .bulkhead(bulkhead.clone())
            .timeout(EACH)
            .build()
            .unwrap()
            .erase();
        let keyed = RateLimiter::per_second(10).burst(5).max_wait(200 * MS);
        let keyed = keyed.keyed().build().unwrap();
        let key_ledgers = (0..8).map(|_| LimiterLedger::new(world, 10, SECOND, 5));
        let objects = Objects::new(world);
        let pool = pool(world, &objects);
        let items = Items::new(world, WORKERS);
        let queue = queue();
        Arc::new(Self {
            world: Arc::clone(world),
            main,
            lenient,
            breaker,
            breaker_ledger,
            limiter,
            limiter_ledger,
            keyed,
            key_ledgers: key_ledgers.collect(),
            bulkhead,
            pool,
            objects,
            queue,
            items,
            budget: budget_ledger,
            slots: AtomicU32::new(0),
            counts_calls,
        })
    }

    /// What must hold at every moment.
    pub(crate) fn always(&self) {
        let world = &self.world;
        let bulkhead = self.bulkhead.snapshot();
        let held = self.slots.load(Ordering::Relaxed);
        let fits = held <= bulkhead.in_use && bulkhead.in_use <= SLOTS && bulkhead.queued <= LINE;
        world.law(fits, "bulkhead: bounds", || {
            format!("{held} held of {bulkhead:?}")
        });
        let limiter = self.limiter.snapshot();
        world.law(limiter.available <= BURST, "limiter: burst", || {
            format!("{limiter:?}")
        });
        let pool = self.pool.snapshot();
        let parts = pool.idle + pool.in_use + pool.creating + pool.changing_hands + pool.closing;
        let made = (pool.size - pool.creating) as u64 + pool.closed.total();
        let adds_up = pool.size == parts && pool.size <= OBJECTS && pool.created == made;
        world.law(adds_up, "pool: adds up", || format!("{pool:?}"));
        let queue = self.queue.snapshot();
        let all = (queue.waiting + queue.running) as u64 + queue.settled();
        let adds_up = queue.accepted == all
            && queue.waiting <= ROOM
            && queue.running <= WORKERS as usize
            && queue.workers <= WORKERS as usize;
        world.law(adds_up, "queue: adds up", || format!("{queue:?}"));
    }

    /// Nobody calls: everything is given back, and the next call of each is served.
    pub(crate) async fn at_rest(&self) {
        let world = &self.world;
        self.always();
        self.breaker_ledger.at_rest(self.counts_calls);
        self.budget.at_rest();
        let inside = world.inside.load(Ordering::Relaxed);
        let bulkhead = self.bulkhead.snapshot();
        let limiter = self.limiter.snapshot();
        let queue = self.queue.snapshot();
        let pool = self.pool.snapshot();
        let zero = [
            (inside == 0, "upstream", format!("{inside} inside")),
            (
                bulkhead.in_use == 0 && bulkhead.queued == 0,
                "bulkhead",
                format!("{bulkhead:?}"),
            ),
            (
                limiter.queued == 0 && limiter.queued_permits == 0,
                "limiter",
                format!("{limiter:?}"),
            ),
            (
                queue.waiting + queue.running + queue.workers + queue.producers == 0,
                "queue",
                format!("{queue:?}"),
            ),
            (
                self.items.alive() == 0,
                "items",
                format!("{} alive", self.items.alive()),
            ),
            (
                pool.in_use + pool.creating + pool.changing_hands + pool.closing + pool.pending
                    == 0,
                "pool",
                format!("{pool:?}"),
            ),
            (
                self.objects.alive() == pool.idle,
                "objects",
                format!("{} alive, {pool:?}", self.objects.alive()),
            ),
        ];
        for (holds, what, seen) in zero {
            world.law(holds, "at rest", || format!("{what}: {seen}"));
        }
        self.next_of_each().await;
    }

    async fn next_of_each(&self) {
        let world = &self.world;
        sleep(SECOND).await;
        let tokens = self.limiter.snapshot().available;
        world.law(tokens == BURST, "next: tokens", || format!("{tokens}"));
        self.next_of_the_breaker().await;
        let all = self.bulkhead.try_acquire(SLOTS).is_ok();
        world.law(all, "next: slots", || {
            format!("{:?}", self.bulkhead.snapshot())
        });
        let reply = self.main.call(|| async { Ok::<_, Oops>(1) }).await;
        world.law(reply == Ok(1), "next: call", || format!("{reply:?}"));
        let reply = self.lenient.call(|| async { Ok::<_, Oops>(1) }).await;
        world.law(reply == Ok(1), "next: lenient", || format!("{reply:?}"));
        let pooled = self.pool.get().await.is_ok();
        world.law(pooled, "next: pool", || {
            format!("{:?}", self.pool.snapshot())
        });
        let (queue, item) = (&self.queue, self.items.item());
        match queue.push(item).await {
            Ok(ticket) => {
                let number = ticket.id();
                let done = ticket.await.is_ok();
                self.items.outcome(number);
                world.law(done, "next: item", || format!("{:?}", queue.snapshot()));
            }
            Err(_) => world.broke("next: push", format!("{:?}", queue.snapshot())),
        }
    }

    /// Nobody calls, so whatever state it is in leads back to closed.
    async fn next_of_the_breaker(&self) {
        let world = &self.world;
        if self.breaker.state() == CircuitState::Open {
            let left = self.breaker.snapshot().until_half_open;
            world.law(
                left.is_some_and(|left| left <= OPEN_FOR),
                "next: open time",
                || format!("{left:?}"),
            );
            sleep(OPEN_FOR).await;
        }
        if self.breaker.state() == CircuitState::ForcedOpen {
            self.breaker_ledger.reset();
        }
        for _ in 0..=PROBES {
            match self.breaker.try_acquire() {
                Ok(permit) => {
                    let ticket = self.breaker_ledger.admitted();
                    self.breaker_ledger.ended(&ticket, End::Success);
                    permit.settle(End::Success);
                }
                Err(refusal) => world.broke("next: probe", refusal),
            }
        }
        let state = self.breaker.state();
        world.law(state == CircuitState::Closed, "next: closed", || {
            format!("{state:?}")
        });
    }
}

//! The pool's shell, on a paused clock.

mod background;
mod cancel;
mod closing;
mod outage;

mod panics;
mod runtimes;
mod waiting;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::*;
use crate::testing::sleep;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn a_bit_less(span: Duration) -> Duration {
    span.saturating_sub(MILLI)
}

type Oops = &'static str;

/// What a step of the factory does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Well,
    Fail,
    Hang,
    Panic,
}

/// A step that can be told what to do, and how long to take.
#[derive(Debug, Default)]
struct Step {
    does: AtomicU32,
    millis: AtomicU64,
    begun: AtomicUsize,
}

impl Step {
    fn set(&self, does: Does) {
        self.does.store(does as u32, SeqCst);
    }

    fn takes(&self, span: Duration) {
        self.millis
            .store(u64::try_from(span.as_millis()).unwrap(), SeqCst);
    }

    fn begun(&self) -> usize {
        self.begun.load(SeqCst)
    }

    async fn run(&self) -> Result<(), Oops> {
        self.begun.fetch_add(1, SeqCst);
        let millis = self.millis.load(SeqCst);
        if millis > 0 {
            sleep(Duration::from_millis(millis)).await;
        }
        match self.does.load(SeqCst) {
            0 => Ok(()),
            1 => Err("failed"),
            2 => pending().await,
            _ => panic!("told to"),
        }
    }
}

/// Creates things, and knows how many are alive.
#[derive(Debug, Default)]
struct Factory {
    create: Step,
    check: Step,
    reusable: Step,
    close: Step,
    before: Step,
    after: Step,
    alive: AtomicUsize,
    most: AtomicUsize,
    names: AtomicU32,
    /// How many may be alive before more are refused; 0 is any number.
    most_allowed: AtomicUsize,
    /// In milliseconds.
    refusal_takes: AtomicU64,
}

impl Factory {
    fn alive(&self) -> usize {
        self.alive.load(SeqCst)
    }

    fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    fn names(&self) -> u32 {
        self.names.load(SeqCst)
    }

    fn is_full(&self) -> bool {
        (1..self.alive()).contains(&self.most_allowed.load(SeqCst))
    }
}

#[derive(Debug)]
struct Thing {
    name: u32,
    mid_command: bool,
    factory: Arc<Factory>,
}

impl Thing {
    fn new(factory: &Arc<Factory>) -> Self {
        let alive = factory.alive.fetch_add(1, SeqCst) + 1;
        factory.most.fetch_max(alive, SeqCst);
        Self {
            name: factory.names.fetch_add(1, SeqCst),
            mid_command: false,
            factory: Arc::clone(factory),
        }
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.factory.alive.fetch_sub(1, SeqCst);
    }
}

/// The manager. An object counts as alive as soon as its creation has begun to cost
/// something: before the await.
#[derive(Debug)]
struct Plant(Arc<Factory>);

impl Manage for Plant {
    type Object = Thing;
    type Error = Oops;

    async fn create(&self) -> Result<Thing, Oops> {
        let thing = Thing::new(&self.0);
        if self.0.is_full() {
            drop(thing);
            self.0.create.begun.fetch_add(1, SeqCst);
            sleep(Duration::from_millis(self.0.refusal_takes.load(SeqCst))).await;
            return Err("too many");
        }
        self.0.create.run().await?;
        Ok(thing)
    }

    async fn check(&self, _: &mut Thing) -> Result<(), Oops> {
        self.0.check.run().await
    }

    fn reusable(&self, thing: &mut Thing) -> bool {
        match self.0.reusable.does.load(SeqCst) {
            0 => !thing.mid_command,
            1 => false,
            _ => panic!("told to"),
        }
    }

    async fn close(&self, thing: Thing) {
        let _ = self.0.close.run().await;
        drop(thing);
    }
}

/// A hook that does what that step is told to.
fn hook(
    factory: &Arc<Factory>,
    step: fn(&Factory) -> &Step,
) -> impl for<'a> Fn(&'a mut Thing) -> HookFuture<'a, Oops> + Send + Sync + 'static {
    let factory = Arc::clone(factory);
    move |_| {
        let factory = Arc::clone(&factory);
        Box::pin(async move { step(&factory).run().await })
    }
}

fn plant() -> (Arc<Factory>, PoolBuilder<Plant>) {
    let factory = Arc::new(Factory::default());
    let pool = Pool::builder(Plant(Arc::clone(&factory)));
    (factory, pool)
}

fn pool_of(max_size: usize) -> (Arc<Factory>, Pool<Plant>) {
    let (factory, builder) = plant();
    (factory, builder.max_size(max_size).build().unwrap())
}

/// Lets every task run that can.
async fn settle() {
    sleep(MILLI).await;
    sleep(MILLI).await;
}

/// Nothing is lost and nothing is left: the counts add up, every object that lives is one of
/// the pool's, and as many can be had as there may be.
async fn assert_whole(factory: &Factory, pool: &Pool<Plant>) {
    // Checks and hooks go on without their callers.
    sleep(9 * MILLI).await;
    let snapshot = pool.snapshot();
    assert_adds_up(&snapshot);
    assert_eq!(
        (snapshot.pending, snapshot.changing_hands),
        (0, 0),
        "{snapshot:?}"
    );
    assert_eq!(factory.alive(), snapshot.size, "{snapshot:?}");
    let mut all = Vec::new();
    for _ in snapshot.in_use..snapshot.max_size {
        all.push(pool.get().max_wait(9 * SECOND).await.unwrap());
    }
    assert_eq!(pool.snapshot().in_use, snapshot.max_size);
    assert!(
        factory.most() <= snapshot.max_size,
        "never above the maximum"
    );
}

#[track_caller]
fn assert_adds_up(snapshot: &PoolSnapshot) {
    let moving = snapshot.creating + snapshot.changing_hands + snapshot.closing;
    assert_eq!(
        snapshot.size,
        snapshot.idle + snapshot.in_use + moving,
        "{snapshot:?}"
    );
    let there = (snapshot.size - snapshot.creating) as u64;
    assert_eq!(
        snapshot.created,
        there + snapshot.closed.total(),
        "{snapshot:?}"
    );
}

#[track_caller]
fn error<T>(result: Result<T, Error<Oops>>) -> Error<Oops> {
    match result {
        Err(error) => error,
        Ok(_) => panic!("it should have failed"),
    }
}

#[tokio::test(start_paused = true)]
async fn objects_are_created_as_needed_and_lent_out_again() {
    let (factory, pool) = pool_of(2);
    assert_eq!(pool.snapshot().size, 0);
    let first = pool.get().await.unwrap();
    let second = pool.get().await.unwrap();
    assert_eq!((first.name, second.name), (0, 1));
    drop(first);
    let again = pool.get().await.unwrap();
    assert_eq!((again.name, Pooled::uses(&again)), (0, 2));
    drop((second, again));
    let snapshot = pool.snapshot();
    assert_eq!(
        (snapshot.idle, snapshot.in_use, snapshot.created),
        (2, 0, 2)
    );
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_newest_or_the_oldest_is_lent_out_first() {
    for (order, expected) in [(Order::NewestFirst, 1), (Order::OldestFirst, 0)] {
        let (_, builder) = plant();
        let pool = builder.max_size(2).order(order).build().unwrap();
        let (first, second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        drop(first);
        drop(second);
        assert_eq!(pool.try_get().unwrap().name, expected);
        // The other order has the other one next, now that this one came back.
        assert_eq!(pool.get().await.unwrap().name, 1);
    }
}

/// Trap 33.
#[test]
fn settings_out_of_range_are_errors_and_huge_ones_are_not() {
    let field = |builder: PoolBuilder<Plant>| builder.build().unwrap_err().field();
    let sized = || plant().1.max_size(3);
    assert_eq!(field(plant().1), "max_size");
    assert_eq!(field(plant().1.max_size(0)), "max_size");
    assert_eq!(field(sized().min_idle(4)), "min_idle");
    let huge = sized().max_size(usize::MAX).min_idle((1 << 16) + 1);
    assert_eq!(field(huge), "min_idle");
    assert_eq!(field(sized().max_creating(0)), "max_creating");
    assert_eq!(field(sized().check_limit(Duration::ZERO)), "check_limit");
    assert_eq!(field(sized().create_limit(Duration::ZERO)), "create_limit");
    assert_eq!(field(sized().close_limit(Duration::ZERO)), "close_limit");
    assert_eq!(field(sized().idle_time(Duration::ZERO)), "idle_time");
    assert_eq!(field(sized().life_time(Duration::ZERO)), "life_time");
    for part in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(field(sized().jitter(part)), "jitter");
    }
}

/// Trap 33.
#[tokio::test(start_paused = true)]
async fn huge_settings_work() {
    let (_, builder) = plant();
    let pool = builder
        .max_size(usize::MAX)
        .max_creating(usize::MAX)
        .max_wait(Duration::MAX)
        .check_limit(Duration::MAX)
        .create_limit(Duration::MAX)
        .close_limit(Duration::MAX)
        .check(Check::AfterIdle(Duration::MAX))
        .idle_time(Duration::MAX)
        .life_time(Duration::MAX)
        .jitter(1.0)
        .build()
        .unwrap();
    drop(pool.get().max_wait(Duration::MAX).await.unwrap());
    pool.resize(usize::MAX);
    assert_eq!(pool.get().await.unwrap().name, 0);
    assert!(pool.close_within(Duration::MAX).await.is_drained);
}

#[tokio::test(start_paused = true)]
async fn a_detached_object_is_the_users_and_makes_room() {
    let (factory, pool) = pool_of(1);
    let mine = Pooled::detach(pool.get().await.unwrap());
    assert_eq!(pool.snapshot().size, 0);
    assert_eq!(pool.snapshot().closed.detached, 1);
    assert_eq!(pool.get().await.unwrap().name, 1);
    assert_eq!(factory.close.begun(), 0);
    drop(mine);
    assert_eq!((factory.alive(), pool.snapshot().idle), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_detached_object_serves_the_next_who_waits() {
    let (factory, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let (next, mine) = tokio::join!(pool.get(), async { Pooled::detach(held) });
    assert_eq!(next.unwrap().name, 1);
    drop(mine);
    assert_eq!(factory.alive(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broken_object_is_closed_and_replaced() {
    let (factory, pool) = pool_of(1);
    Pooled::discard(pool.get().await.unwrap());
    let mut second = pool.get().await.unwrap();
    assert_eq!(second.name, 1);
    Pooled::mark_broken(&mut second);
    drop(second);
    let mut third = pool.get().await.unwrap();
    third.mid_command = true;
    drop(third);
    assert_eq!(pool.get().await.unwrap().name, 3);
    assert_eq!(
        (factory.close.begun(), pool.snapshot().closed.broken),
        (3, 3)
    );
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_counts_until_its_end_has_come() {
    let (factory, pool) = pool_of(1);
    factory.close.takes(SECOND);
    Pooled::discard(pool.get().await.unwrap());
    assert_eq!((pool.snapshot().closing, pool.snapshot().size), (1, 1));
    let start = time::now();
    assert_eq!(pool.get().await.unwrap().name, 1);
    assert_eq!(time::now().since(start), SECOND);
    assert_eq!(factory.most(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_hangs_is_cut_short() {
    let (factory, pool) = pool_of(1);
    factory.close.set(Does::Hang);
    let start = time::now();
    Pooled::discard(pool.get().await.unwrap());
    assert_eq!(pool.get().await.unwrap().name, 1);
    assert_eq!(time::now().since(start), 5 * SECOND);
    assert_eq!(factory.alive(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_object_is_checked_when_the_rule_says_so() {
    let checked = async |check: Check, idle: Duration| {
        let (factory, builder) = plant();
        let pool = builder.max_size(1).check(check).build().unwrap();
        drop(pool.get().await.unwrap());
        assert_eq!(factory.check.begun(), 0, "a new one needs none");
        sleep(idle).await;
        drop(pool.get().await.unwrap());
        factory.check.begun()
    };
    assert_eq!(checked(Check::Never, 9 * SECOND).await, 0);
    assert_eq!(checked(Check::default(), a_bit_less(SECOND)).await, 0);
    assert_eq!(checked(Check::default(), SECOND).await, 1);
    assert_eq!(checked(Check::Always, Duration::ZERO).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_fails_its_check_is_replaced() {
    let (factory, builder) = plant();
    let pool = builder.max_size(2).check(Check::Always).build().unwrap();
    drop((pool.get().await.unwrap(), pool.get().await.unwrap()));
    factory.check.set(Does::Fail);
    assert_eq!(pool.get().await.unwrap().name, 2);
    assert_eq!(pool.snapshot().closed.check_failed, 2);
    factory.check.set(Does::Well);
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn hooks_run_at_their_times_and_what_fails_in_them_is_closed() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(1)
        .after_create(hook(&factory, |factory| &factory.reusable))
        .before_hand_over(hook(&factory, |factory| &factory.before))
        .after_return(hook(&factory, |factory| &factory.after))
        .build()
        .unwrap();
    let begun = || {
        let steps = [&factory.reusable, &factory.before, &factory.after];
        steps.map(Step::begun)
    };
    let held = pool.get().await.unwrap();
    assert_eq!(begun(), [1, 1, 0]);
    drop(held);
    drop(pool.get().await.unwrap());
    assert_eq!(begun(), [1, 2, 2]);

    factory.after.takes(SECOND);
    drop(pool.get().await.unwrap());
    assert_eq!(
        (pool.snapshot().changing_hands, pool.snapshot().idle),
        (1, 0)
    );
    assert_eq!(pool.get().await.unwrap().name, 0);
    factory.after.set(Does::Fail);
    assert_eq!(pool.get().await.unwrap().name, 1);
    assert_eq!(pool.snapshot().closed.broken, 1);
    factory.after.set(Does::Hang);
    drop(pool.get().await.unwrap());
    assert!(pool.snapshot().closed.broken >= 2);
    factory.after.set(Does::Well);
    settle().await;

    factory.before.set(Does::Fail);
    let failed = error(pool.get().await);
    assert_eq!(failed, Error::operation("failed"));
    factory.before.set(Does::Well);
    factory.reusable.set(Does::Fail);
    assert_eq!(error(pool.get().await), Error::operation("failed"));
    factory.reusable.set(Does::Well);
    assert_adds_up(&pool.snapshot());
    drop(pool.get().await.unwrap());
    sleep(9 * SECOND).await;
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_smaller_pool_ends_idle_objects_at_once_and_others_as_they_come_back() {
    let (factory, pool) = pool_of(4);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(pool.get().await.unwrap());
    }
    drop(held.split_off(2));
    pool.resize(1);
    assert_eq!((pool.snapshot().size, factory.alive()), (2, 2));
    held.pop();
    assert_eq!(
        (pool.snapshot().size, pool.snapshot().closed.resized),
        (1, 3)
    );
    held.pop();
    assert_eq!((pool.snapshot().idle, pool.snapshot().size), (1, 1));
    pool.resize(0);
    assert_eq!(factory.alive(), 0);
    let (waited, ()) = tokio::join!(pool.get(), async {
        sleep(SECOND).await;
        assert_eq!(pool.snapshot().pending, 1);
        pool.resize(3);
    });
    assert_eq!(waited.unwrap().name, 4);
    assert_eq!(pool.snapshot().max_size, 3);
}

#[tokio::test(start_paused = true)]
async fn a_use_that_ends_gives_the_object_back_whatever_it_says() {
    let (factory, pool) = pool_of(1);
    let said = pool.use_with(async |thing| Ok::<_, Oops>(thing.name)).await;
    assert_eq!(said, Ok(0));
    let failed = pool
        .use_with(async |_| Err::<(), Oops>("no such row"))
        .await;
    assert_eq!(failed, Err(Error::operation("no such row")));
    assert_eq!((pool.snapshot().idle, pool.snapshot().created), (1, 1));
    let failed = pool
        .use_with(async |thing| {
            thing.mid_command = true;
            Err::<(), Oops>("connection reset")
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(
        (pool.snapshot().idle, pool.snapshot().closed.broken),
        (0, 1)
    );
    let marked = pool.get().await.map(|mut thing| {
        Pooled::mark_broken(&mut thing);
        thing
    });
    let used = Pooled::use_with(marked.unwrap(), async |_| Ok::<_, Oops>(())).await;
    assert_eq!((used, pool.snapshot().closed.broken), (Ok(()), 2));
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_knows_its_age() {
    let (_, pool) = pool_of(1);
    let thing = pool.get().await.unwrap();
    sleep(SECOND).await;
    assert_eq!(Pooled::age(&thing), SECOND);
}

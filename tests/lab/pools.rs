//! The pool: `get` in every state, `use_with`, `drained`, `close_within`.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use mainstay::pool::{Check, Manage, Pool, PoolBuilder, Pooled};
use mainstay::shutdown::Component;
use mainstay::testing::Point;
use mainstay::{Error, Refusal};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::MILLI;

/// Makes things, slowly, and not always.
#[derive(Default)]
struct Plant {
    alive: AtomicUsize,
    /// So many creations, and so many checks, fail first.
    creations_fail: AtomicU32,
    checks_fail: AtomicU32,
    is_slow: AtomicBool,
}

impl Plant {
    async fn step(&self) {
        if self.is_slow.load(SeqCst) {
            yield_now().await;
            sleep(2 * MILLI).await;
        }
    }
}

fn fails(left: &AtomicU32) -> Result<(), Oops> {
    let one_less = |left: u32| left.checked_sub(1);
    match left.fetch_update(SeqCst, SeqCst, one_less) {
        Ok(left) => Err(Oops(left)),
        Err(_) => Ok(()),
    }
}

struct Maker(Arc<Plant>);

/// What is lent out. It knows whether a reply is still to come.
struct Thing {
    plant: Arc<Plant>,
    mid_command: bool,
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.plant.alive.fetch_sub(1, SeqCst);
    }
}

impl Manage for Maker {
    type Object = Thing;
    type Error = Oops;

    async fn create(&self) -> Result<Thing, Oops> {
        self.0.step().await;
        fails(&self.0.creations_fail)?;
        self.0.alive.fetch_add(1, SeqCst);
        let plant = Arc::clone(&self.0);
        let mid_command = false;
        Ok(Thing { plant, mid_command })
    }

    async fn check(&self, _: &mut Thing) -> Result<(), Oops> {
        self.0.step().await;
        fails(&self.0.checks_fail)
    }

    fn reusable(&self, thing: &mut Thing) -> bool {
        !thing.mid_command
    }

    async fn close(&self, thing: Thing) {
        self.0.step().await;
        drop(thing);
    }
}

/// A pool, and who holds something of it.
struct Ward {
    pool: Pool<Maker>,
    plant: Arc<Plant>,
    held: Mutex<Vec<Pooled<'static, Maker>>>,
}

/// A pool of so many, of which so many are idle and so many held; then the plant gets slow.
async fn ward(
    (size, idle, held): (usize, usize, usize),
    settings: impl Fn(PoolBuilder<Maker>) -> PoolBuilder<Maker>,
    plant: impl Fn(&Plant),
) -> Ward {
    let shared = Arc::<Plant>::default();
    let builder = Pool::builder(Maker(Arc::clone(&shared))).max_size(size);
    let pool = settings(builder).build().unwrap();
    let mut things = Vec::new();
    for _ in 0..idle + held {
        things.push(Pooled::into_owned(pool.get().await.unwrap()));
    }
    drop(things.drain(..idle));
    shared.is_slow.store(true, SeqCst);
    plant(&shared);
    Ward {
        pool,
        plant: shared,
        held: Mutex::new(things),
    }
}

impl Ward {
    fn release(&self) {
        let held = self.held.lock().unwrap().pop();
        drop(held);
    }

    /// Nothing is lost, and the next calls succeed.
    async fn is_whole(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        drop(held);
        self.plant.creations_fail.store(0, SeqCst);
        self.plant.checks_fail.store(0, SeqCst);
        self.plant.is_slow.store(false, SeqCst);
        let seen = self.settled().await;
        if !seen.is_closed {
            let gets = (0..seen.max_size).map(|_| self.pool.get());
            let all = futures_util::future::try_join_all(gets).await;
            let all = all.unwrap_or_else(|error| panic!("the next call: {error}"));
            assert!(
                all.iter().all(|thing| !thing.mid_command),
                "a reply is still to come"
            );
            drop(all);
            self.settled().await;
        }
        let report = self.pool.close_within(1_000 * MILLI).await;
        assert!(report.is_drained);
        assert_eq!(self.plant.alive.load(SeqCst), 0, "objects after the end");
        let refused = self.pool.get().await.err().unwrap();
        assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
    }

    /// When what goes on in the background has ended, it adds up.
    async fn settled(&self) -> mainstay::pool::PoolSnapshot {
        loop {
            let seen = self.pool.snapshot();
            let on_the_way = seen.creating + seen.changing_hands + seen.closing;
            if on_the_way > 0 {
                sleep(MILLI).await;
                continue;
            }
            assert_eq!((seen.in_use, seen.pending), (0, 0), "{seen:?}");
            assert_eq!(seen.size, seen.idle, "{seen:?}");
            assert_eq!(seen.idle, self.plant.alive.load(SeqCst), "objects");
            let known = seen.size as u64 + seen.closed.total();
            assert_eq!(seen.created, known, "{seen:?}");
            return seen;
        }
    }
}

type Acting = Pin<Box<dyn Future<Output = ()>>>;
type Actor = fn(Arc<Ward>) -> Acting;

/// What somebody else does meanwhile.
const ACTORS: [(&str, Actor); 4] = [
    ("others get and return", |ward| {
        Box::pin(async move {
            let other = async {
                let got = ward.pool.get().await;
                sleep(MILLI).await;
                drop(got);
            };
            let holder = async {
                yield_now().await;
                ward.release();
                yield_now().await;
                ward.release();
            };
            futures_util::future::join(other, holder).await;
        })
    }),
    ("what was lent is broken", |ward| {
        Box::pin(async move {
            yield_now().await;
            let held = ward.held.lock().unwrap().pop();
            held.into_iter().for_each(Pooled::discard);
            yield_now().await;
            let held = ward.held.lock().unwrap().pop();
            if let Some(held) = held {
                drop(Pooled::detach(held));
            }
            drop(ward.pool.get().await);
        })
    }),
    ("it is resized", |ward| {
        Box::pin(async move {
            let size = ward.pool.snapshot().max_size;
            ward.pool.resize(0);
            yield_now().await;
            ward.release();
            yield_now().await;
            ward.pool.resize(size);
            yield_now().await;
            ward.release();
        })
    }),
    ("it is closed", |ward| {
        Box::pin(async move {
            yield_now().await;
            ward.pool.close();
            yield_now().await;
            ward.release();
            yield_now().await;
            ward.release();
        })
    }),
];

/// A use of the pool in one state, beside each of the actors.
fn in_state<F, Fut, W>(
    all: &mut Vec<Trial>,
    name: &str,
    covers: &'static [&'static str],
    make: W,
    work: F,
) where
    W: AsyncFn() -> Ward + Copy + 'static,
    F: Fn(Arc<Ward>) -> Fut + Copy + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    for (meanwhile, actor) in ACTORS {
        let name = format!("pool: {name}; {meanwhile}");
        all.push(trial(name, covers, 1, move |lab| async move {
            let check = async |ward: &Ward, _: &Point| ward.is_whole().await;
            lab.run_beside(make, work, actor, check).await
        }));
    }
}

/// Gets something, and uses it for a while.
async fn get(ward: Arc<Ward>) {
    match ward.pool.get().await {
        Ok(_thing) => {
            yield_now().await;
            sleep(MILLI).await;
        }
        Err(Error::Operation { .. } | Error::TimedOut { .. }) => {}
        Err(error) => assert!(error.refusal().is_some(), "{error}"),
    }
}

/// A command whose reply comes later.
async fn command(thing: &mut Thing) -> Result<(), Oops> {
    assert!(!thing.mid_command, "the reply to another's command is read");
    thing.mid_command = true;
    yield_now().await;
    sleep(MILLI).await;
    thing.mid_command = false;
    Ok(())
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    of_get(&mut all);
    of_hooks(&mut all);
    of_creation(&mut all);
    of_others(&mut all);
    all
}

const GET: &[&str] = &["pool::Get"];

fn of_get(all: &mut Vec<Trial>) {
    in_state(
        all,
        "idle",
        GET,
        async || ward((2, 1, 0), |b| b, |_| ()).await,
        get,
    );
    in_state(
        all,
        "idle, checked",
        GET,
        async || ward((1, 1, 0), |b| b.check(Check::Always), |_| ()).await,
        get,
    );
    in_state(
        all,
        "idle, its check fails",
        GET,
        async || {
            ward(
                (2, 2, 0),
                |b| b.check(Check::Always),
                |plant| plant.checks_fail.store(1, SeqCst),
            )
            .await
        },
        get,
    );
    in_state(
        all,
        "idle, its check is too slow",
        GET,
        async || {
            ward(
                (1, 1, 0),
                |b| b.check(Check::Always).check_limit(MILLI),
                |_| (),
            )
            .await
        },
        get,
    );
    in_state(
        all,
        "all lent",
        GET,
        async || ward((2, 0, 2), |b| b, |_| ()).await,
        get,
    );
    in_state(
        all,
        "all lent, no more than 3 ms",
        GET,
        async || ward((1, 0, 1), |b| b.max_wait(3 * MILLI), |_| ()).await,
        get,
    );
}

fn of_hooks(all: &mut Vec<Trial>) {
    in_state(
        all,
        "recycled on the way back",
        GET,
        async || {
            ward(
                (1, 0, 1),
                |b| {
                    b.after_return(|thing| {
                        Box::pin(async {
                            thing.plant.step().await;
                            Ok(())
                        })
                    })
                },
                |_| (),
            )
            .await
        },
        get,
    );
    in_state(
        all,
        "hooks on the way out",
        GET,
        async || {
            ward(
                (1, 0, 0),
                |b| {
                    b.after_create(|thing| {
                        Box::pin(async {
                            thing.plant.step().await;
                            Ok(())
                        })
                    })
                    .before_hand_over(|thing| {
                        Box::pin(async {
                            thing.plant.step().await;
                            Ok(())
                        })
                    })
                },
                |_| (),
            )
            .await
        },
        get,
    );
    in_state(
        all,
        "a hook on the way out fails",
        GET,
        async || {
            ward(
                (1, 1, 0),
                |b| {
                    b.before_hand_over(|thing| {
                        Box::pin(async {
                            thing.plant.step().await;
                            fails(&thing.plant.checks_fail)
                        })
                    })
                },
                |plant| plant.checks_fail.store(1, SeqCst),
            )
            .await
        },
        get,
    );
    in_state(
        all,
        "idle for too long",
        GET,
        async || ward((2, 2, 0), |b| b.idle_time(3 * MILLI).jitter(0.0), |_| ()).await,
        get,
    );
}

fn of_creation(all: &mut Vec<Trial>) {
    in_state(
        all,
        "empty",
        GET,
        async || ward((2, 0, 0), |b| b, |_| ()).await,
        get,
    );
    in_state(
        all,
        "one creation at a time",
        GET,
        async || ward((2, 0, 0), |b| b.max_creating(1), |_| ()).await,
        get,
    );
    in_state(
        all,
        "the creation fails",
        GET,
        async || {
            ward(
                (1, 0, 0),
                |b| b,
                |plant| plant.creations_fail.store(1, SeqCst),
            )
            .await
        },
        get,
    );
    in_state(
        all,
        "the creation fails, others are lent",
        GET,
        async || {
            ward(
                (2, 0, 1),
                |b| b,
                |plant| plant.creations_fail.store(2, SeqCst),
            )
            .await
        },
        get,
    );
    in_state(
        all,
        "the creation is too slow",
        GET,
        async || ward((1, 0, 0), |b| b.create_limit(MILLI), |_| ()).await,
        get,
    );
    in_state(
        all,
        "the creation is tried again",
        GET,
        async || {
            let retry = mainstay::Retry::builder().max_attempts(3);
            let retry = retry.backoff(mainstay::retry::Backoff::constant(MILLI));
            let policy = mainstay::Pipeline::builder("create")
                .retry(retry)
                .build()
                .unwrap();
            ward(
                (1, 0, 0),
                |b| b.create_policy(&policy),
                |plant| plant.creations_fail.store(2, SeqCst),
            )
            .await
        },
        get,
    );
    in_state(
        all,
        "a minimum is kept",
        GET,
        async || ward((2, 0, 0), |b| b.min_idle(1), |_| ()).await,
        get,
    );
}

fn of_others(all: &mut Vec<Trial>) {
    in_state(
        all,
        "use_with",
        &["pool::Get", "pool::Pool::use_with"],
        async || ward((1, 0, 1), |b| b, |_| ()).await,
        |ward| async move {
            let _ = ward.pool.use_with(command).await;
        },
    );
    in_state(
        all,
        "use_with of one that was lent",
        &["pool::Get", "pool::Pooled::use_with"],
        async || ward((1, 1, 0), |b| b, |_| ()).await,
        |ward| async move {
            if let Ok(thing) = ward.pool.get().await {
                Pooled::use_with(thing, command).await.unwrap();
            }
        },
    );
    in_state(
        all,
        "a command that is cut",
        GET,
        async || ward((1, 1, 0), |b| b, |_| ()).await,
        |ward| async move {
            if let Ok(mut thing) = ward.pool.get().await {
                command(&mut thing).await.unwrap();
            }
        },
    );
    in_state(
        all,
        "drained",
        &["pool::Drained"],
        async || ward((3, 1, 2), |b| b, |_| ()).await,
        |ward| async move {
            ward.pool.close();
            let until_back = async {
                yield_now().await;
                ward.release();
                ward.release();
            };
            futures_util::future::join(ward.pool.drained(), until_back).await;
        },
    );
    in_state(
        all,
        "drained, as a component",
        &["pool::Pool::drained"],
        async || ward((3, 1, 2), |b| b, |_| ()).await,
        |ward| async move {
            Component::stop(&ward.pool);
            let until_back = async {
                yield_now().await;
                ward.release();
                ward.release();
            };
            futures_util::future::join(Component::drained(&ward.pool), until_back).await;
        },
    );
    in_state(
        all,
        "close_within",
        &["pool::Pool::close_within"],
        async || ward((3, 1, 2), |b| b, |_| ()).await,
        |ward| async move {
            let report = ward.pool.close_within(5 * MILLI).await;
            assert!(report.snapshot.is_closed);
        },
    );
    in_state(
        all,
        "close_within, in the middle of a creation",
        &["pool::Pool::close_within"],
        async || {
            let ward = ward((2, 0, 0), |b| b.min_idle(1), |_| ()).await;
            yield_now().await;
            ward
        },
        |ward| async move {
            assert!(ward.pool.close_within(50 * MILLI).await.took <= 50 * MILLI);
        },
    );
}

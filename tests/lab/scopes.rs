//! Scopes, their tasks and trackers.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use mainstay::scope::{OnError, Scope, ScopeBuilder, ScopeHandle, Task, Tracker};
use mainstay::shutdown::Component;
use mainstay::testing::Point;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::MILLI;

/// What a task does.
#[derive(Clone, Copy, PartialEq)]
enum Do {
    Well,
    Fail,
    Panic,
    /// Until it is asked to end.
    Linger,
    /// Whatever it is asked.
    Deaf,
}

/// A scope with tasks in it.
struct House {
    scope: Scope,
    spawned: AtomicUsize,
    alive: Arc<AtomicUsize>,
    tasks: Mutex<Vec<Task<u32, Oops>>>,
}

struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// What one task is.
fn job(
    scope: &ScopeHandle,
    alive: &Arc<AtomicUsize>,
    what: Do,
) -> impl Future<Output = Result<u32, Oops>> + use<> {
    let (token, alive) = (scope.token(), Alive::new(alive));
    async move {
        let _alive = alive;
        yield_now().await;
        sleep(2 * MILLI).await;
        match what {
            Do::Well => Ok(7),
            Do::Fail => Err(Oops(1)),
            Do::Panic => panic!("a task's own"),
            Do::Linger => {
                token.cancelled().await;
                yield_now().await;
                Ok(7)
            }
            Do::Deaf => std::future::pending().await,
        }
    }
}

impl House {
    fn with(tasks: &[Do], settings: impl Fn(ScopeBuilder) -> ScopeBuilder) -> Self {
        let builder = Scope::builder().on_error(OnError::Collect).grace(4 * MILLI);
        let house = Self {
            scope: settings(builder).build().unwrap(),
            spawned: AtomicUsize::new(0),
            alive: Arc::default(),
            tasks: Mutex::default(),
        };
        for what in tasks {
            let task = house.spawn(*what).unwrap();
            house.tasks.lock().unwrap().push(task);
        }
        house.tasks.lock().unwrap().reverse();
        house
    }

    fn spawn(&self, what: Do) -> Option<Task<u32, Oops>> {
        let job = job(&self.scope.handle(), &self.alive, what);
        let task = self.scope.spawn("task", job).ok();
        self.spawned.fetch_add(usize::from(task.is_some()), SeqCst);
        task
    }

    /// Every task comes to its end, and is in the report once.
    async fn is_whole(&self) {
        if let Some(task) = self.spawn(Do::Well) {
            // A failure before may have cancelled the scope.
            let result = task.await;
            assert!(result == Ok(7) || result.is_err_and(|error| error.is_cancelled()));
        }
        self.scope.cancel();
        let report = self.scope.join().await;
        assert_eq!(self.alive.load(SeqCst), 0, "futures of tasks");
        assert_eq!(report.counts.in_flight, 0);
        let spawned = self.spawned.load(SeqCst) as u64;
        assert_eq!(report.counts.ended(), spawned, "{report}");
        assert!(self.scope.tasks().is_empty());
        assert!(self.spawn(Do::Well).is_none(), "it is closed");
    }
}

type Acting = Pin<Box<dyn Future<Output = ()>>>;
type Actor = fn(Arc<House>) -> Acting;

const ACTORS: [(&str, Actor); 3] = [
    ("more is spawned", |house| {
        Box::pin(async move {
            let first = house.spawn(Do::Well);
            yield_now().await;
            let second = house.spawn(Do::Fail);
            yield_now().await;
            drop(first);
            if let Some(second) = second {
                let _ = second.await;
            }
            // So that it ends.
            house.scope.cancel();
        })
    }),
    ("it is cancelled", |house| {
        Box::pin(async move {
            yield_now().await;
            house.scope.cancel();
            yield_now().await;
            house.scope.close();
        })
    }),
    ("tasks are aborted", |house| {
        Box::pin(async move {
            yield_now().await;
            house.tasks.lock().unwrap().iter().for_each(Task::abort);
            yield_now().await;
            house.scope.abort();
        })
    }),
];

fn in_state<F, Fut, W>(
    all: &mut Vec<Trial>,
    name: &str,
    covers: &'static [&'static str],
    make: W,
    work: F,
) where
    W: Fn() -> House + Copy + 'static,
    F: Fn(Arc<House>) -> Fut + Copy + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    for (meanwhile, actor) in ACTORS {
        let name = format!("scope: {name}; {meanwhile}");
        all.push(trial(name, covers, 1, move |lab| async move {
            let check = async |house: &House, _: &Point| house.is_whole().await;
            lab.run_beside(async || make(), work, actor, check).await
        }));
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    let mixed: fn() -> House = || House::with(&[Do::Well, Do::Linger, Do::Fail, Do::Panic], |b| b);
    let deaf: fn() -> House = || House::with(&[Do::Deaf, Do::Well], |b| b);
    let one_by_one: fn() -> House = || House::with(&[Do::Well; 3], |b| b.limit(1));
    let first_error: fn() -> House = || {
        House::with(&[Do::Fail, Do::Linger, Do::Deaf], |b| {
            b.on_error(OnError::default())
        })
    };
    let states = [
        ("mixed", mixed),
        ("deaf", deaf),
        ("one by one", one_by_one),
        ("ended by an error", first_error),
    ];
    for (state, make) in states {
        let named = |what: &str| format!("{what}, {state}");
        in_state(
            &mut all,
            &named("join"),
            &["scope::Scope::join"],
            make,
            |house| async move {
                house.scope.join().await;
            },
        );
        in_state(
            &mut all,
            &named("join_within"),
            &["scope::Scope::join_within"],
            make,
            |house| async move {
                house.scope.join_within(5 * MILLI).await;
            },
        );
        in_state(
            &mut all,
            &named("drained"),
            &["scope::Drained"],
            make,
            |house| async move {
                house.scope.handle().drained().await;
            },
        );
        in_state(
            &mut all,
            &named("drained, as a component"),
            &["shutdown::Scope::drained"],
            make,
            |house| async move {
                Component::drained(&house.scope).await;
            },
        );
        in_state(
            &mut all,
            &named("drained, as any component"),
            &[
                "shutdown::Component::drained",
                "shutdown::Box::drained",
                "shutdown::ScopeHandle::drained",
            ],
            make,
            |house| async move {
                let any: Box<dyn Component> = Box::new(house.scope.handle());
                Component::drained(&any).await;
            },
        );
        in_state(
            &mut all,
            &named("a task"),
            &["scope::Task"],
            make,
            |house| async move {
                let task = house.tasks.lock().unwrap().pop();
                if let Some(task) = task {
                    let _ = task.await;
                }
            },
        );
    }
    of_runs(&mut all);
    of_trackers(&mut all);
    all
}

/// A scope that lasts as long as its body: nothing is left of it, wherever it is cut.
fn of_runs(all: &mut Vec<Trial>) {
    for (name, tasks) in [
        ("well", [Do::Well, Do::Well]),
        ("a failure", [Do::Fail, Do::Linger]),
        ("a panic", [Do::Panic, Do::Deaf]),
    ] {
        type World = Arc<AtomicUsize>;
        all.push(trial(
            format!("scope: run, {name}"),
            &["scope::Scope::run"],
            4,
            move |lab| async move {
                let run = move |alive: Arc<World>| async move {
                    let alive = &*alive;
                    let scope = Scope::builder().grace(4 * MILLI).build().unwrap();
                    let body = |scope: ScopeHandle| async move {
                        for what in tasks {
                            scope.spawn("task", job(&scope, alive, what)).ok();
                            yield_now().await;
                        }
                        sleep(MILLI).await;
                        Ok::<_, Oops>(7)
                    };
                    let (_, report) = scope.run(body).await;
                    // When it returns all has ended.
                    assert_eq!(report.counts.in_flight, 0);
                    assert_eq!(alive.load(SeqCst), 0);
                };
                let check = async |alive: &World, _: &Point| {
                    while alive.load(SeqCst) > 0 {
                        sleep(MILLI).await;
                    }
                };
                lab.shuffles(0)
                    .run(async || World::default(), run, check)
                    .await
            },
        ));
    }
}

fn of_trackers(all: &mut Vec<Trial>) {
    type World = Arc<Tracker>;
    let actor = |tracker: Arc<World>| async move {
        let entered = tracker.enter();
        yield_now().await;
        tracker.close();
        drop(entered);
        yield_now().await;
        tracker.drained().await;
    };
    let check = async |tracker: &World, _: &Point| {
        assert_eq!(tracker.in_flight(), 0);
        if !tracker.is_closed() {
            drop(tracker.enter().unwrap());
        }
        tracker.close();
        tracker.drained().await;
        assert!(tracker.enter().is_err());
    };
    all.push(trial(
        "tracker: drained",
        &["scope::TrackerDrained"],
        1,
        move |lab| async move {
            let drained = |tracker: Arc<World>| async move {
                let others = async {
                    let entered = tracker.enter();
                    sleep(MILLI).await;
                    drop(entered);
                };
                futures_util::future::join(others, tracker.drained()).await;
                tracker.drained().await;
            };
            lab.run_beside(async || World::default(), drained, actor, check)
                .await
        },
    ));
    all.push(trial(
        "tracker: drained, as a component",
        &["shutdown::Tracker::drained", "shutdown::Arc::drained"],
        1,
        move |lab| async move {
            let drained = |tracker: Arc<World>| async move {
                let others = async {
                    let entered = tracker.enter();
                    sleep(MILLI).await;
                    drop(entered);
                };
                let tracker: &World = &tracker;
                futures_util::future::join(others, Component::drained(&**tracker)).await;
                Component::drained(tracker).await;
            };
            lab.run_beside(async || World::default(), drained, actor, check)
                .await
        },
    ));
    all.push(trial(
        "tracker: in flight",
        &["scope::InFlight"],
        1,
        move |lab| async move {
            let tracked = |tracker: Arc<World>| {
                let in_flight = tracker.track_owned(async {
                    yield_now().await;
                    sleep(MILLI).await;
                });
                async move {
                    if let Ok(in_flight) = in_flight {
                        in_flight.await;
                    }
                    if let Ok(in_flight) = tracker.track(sleep(MILLI)) {
                        in_flight.await;
                    }
                }
            };
            lab.run_beside(async || World::default(), tracked, actor, check)
                .await
        },
    ));
}

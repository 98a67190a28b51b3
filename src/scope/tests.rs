//! The scope's shell, on a paused clock.

mod body;
mod model;
mod results;
mod tracker;

use std::convert::Infallible;
use std::future::{Future, pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{catch_panic, drop_at_every_poll, drop_beside, sleep};
use crate::time::now;
use crate::{Error, Refusal};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<u32, &'static str>;

/// Counts those that are alive.
#[derive(Clone, Debug, Default)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn one(&self) -> One {
        self.0.fetch_add(1, Ordering::SeqCst);
        One(self.clone())
    }
}

struct One(Alive);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn ok(after: Duration) -> Answer {
    sleep(after).await;
    Ok(7)
}

async fn never() -> Answer {
    pending().await
}

fn cancelled(attempts: u32) -> Error<&'static str> {
    Error::Cancelled {
        attempts,
        last: None,
    }
}

#[track_caller]
fn assert_counts(counts: Counts, expected: [u64; 6]) {
    let Counts {
        in_flight,
        completed,
        failed,
        panicked,
        cancelled,
        aborted,
    } = counts;
    assert_eq!(
        [in_flight, completed, failed, panicked, cancelled, aborted],
        expected
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_gives_its_result_to_its_handle() {
    let scope = Scope::builder().on_error(OnError::Collect).build().unwrap();
    let fine = scope.spawn("fine", ok(SECOND)).unwrap();
    let fails = scope.spawn("fails", async { Answer::Err("no") }).unwrap();
    let panics = scope.spawn("panics", async { oh() });
    let panics = panics.unwrap();
    assert_eq!((fine.id().0, fails.id().0), (1, 2));
    assert_eq!(fine.await, Ok(7));
    assert_eq!(fails.await, Err(Error::operation("no")));
    assert_eq!(panics.await, Err(Error::panicked("oh")));
    let report = scope.join().await;
    assert_counts(report.counts, [0, 1, 1, 1, 0, 0]);
    assert_eq!(
        report.to_string(),
        "1 completed, 1 failed, 1 panicked; first error: fails failed: no"
    );
}

fn oh() -> Answer {
    panic!("oh")
}

#[tokio::test(start_paused = true)]
async fn the_first_error_cancels_the_others_which_have_the_grace_to_end() {
    let scope = Scope::builder().grace(SECOND).build().unwrap();
    let token = scope.token();
    let polite = scope.spawn("polite", async move {
        token.cancelled().await;
        sleep(SECOND / 2).await;
        Answer::Ok(1)
    });
    let stubborn = scope.spawn("stubborn", never()).unwrap();
    let fails = scope.spawn("fails", async {
        sleep(SECOND).await;
        Answer::Err("no")
    });
    let start = now();
    let late = scope.spawn("later", async {
        sleep(SECOND + SECOND / 4).await;
        Answer::Err("too late to be the first")
    });
    let report = scope.join().await;
    assert_eq!(now().since(start), 2 * SECOND);
    assert_counts(report.counts, [0, 1, 2, 0, 0, 1]);
    let failure = report.clone().into_result().unwrap_err();
    assert_eq!(failure.to_string(), "fails failed: no");
    assert_eq!(polite.unwrap().await, Ok(1));
    assert_eq!(stubborn.await, Err(cancelled(1)));
    assert!(fails.unwrap().await.is_err() && late.unwrap().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn errors_are_collected_where_that_was_chosen() {
    let scope = Scope::builder().on_error(OnError::Collect).build().unwrap();
    scope.spawn("fails", async { Answer::Err("no") }).unwrap();
    let fine = scope.spawn("fine", ok(SECOND)).unwrap();
    assert_eq!(fine.await, Ok(7));
    assert!(!scope.token().is_cancelled());
    assert_counts(scope.join().await.counts, [0, 1, 1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn without_grace_all_others_are_aborted_at_once() {
    let scope = Scope::builder().grace(Duration::ZERO).build().unwrap();
    let alive = Alive::default();
    for _ in 0..9 {
        let one = alive.one();
        let task = async move {
            let _one = one;
            never().await
        };
        scope.spawn("waits", task).unwrap();
    }
    let start = now();
    scope.spawn("panics", async { oh() }).unwrap();
    let report = scope.join().await;
    assert_eq!((now().since(start), alive.count()), (Duration::ZERO, 0));
    assert_counts(report.counts, [0, 0, 0, 1, 0, 9]);
    assert_eq!(
        report.first_error.unwrap().to_string(),
        "panics panicked: oh"
    );
}

#[tokio::test(start_paused = true)]
async fn so_many_run_at_once_and_the_rest_in_the_order_in_which_they_came() {
    let scope = Scope::builder().limit(2).build().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let inside = Alive::default();
    for n in 0..7 {
        let (order, inside) = (Arc::clone(&order), inside.clone());
        let task = async move {
            let _one = inside.one();
            assert!(inside.count() <= 2);
            order.lock().unwrap().push(n);
            ok(SECOND).await
        };
        scope.spawn(format!("task {n}"), task).unwrap();
    }
    tokio::task::yield_now().await;
    sleep(SECOND / 2).await;
    let tasks = scope.tasks();
    let states: Vec<_> = tasks.iter().map(|task| task.state).collect();
    assert_eq!(
        states[..3],
        [TaskState::Running, TaskState::Running, TaskState::Queued]
    );
    assert_eq!(tasks[2].to_string(), "#3 task 2: queued for 500ms");
    let start = now();
    assert_counts(scope.join().await.counts, [0, 7, 0, 0, 0, 0]);
    assert_eq!(now().since(start), 3 * SECOND + SECOND / 2);
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6]);
}

/// Trap 33.
#[test]
fn a_limit_of_zero_is_refused_and_a_huge_one_is_none() {
    let error = Scope::builder().limit(0).build().unwrap_err();
    assert_eq!(error.to_string(), "limit is 0, but must be at least 1");
    Scope::builder()
        .limit(usize::MAX)
        .grace(Duration::MAX)
        .build()
        .unwrap()
        .cancel();
}

/// Trap 80: whatever ends the scope's intake, the future comes back unstarted.
#[tokio::test(start_paused = true)]
async fn a_closed_scope_refuses_and_gives_the_future_back() {
    let ways: [fn(&Scope); 4] = [Scope::close, Scope::cancel, Scope::abort, |scope| {
        scope.token().cancel();
    }];
    for end in ways {
        let scope = Scope::new();
        scope.spawn("before", ok(SECOND)).unwrap();
        end(&scope);
        let refused = scope.spawn("after", ok(SECOND)).unwrap_err();
        assert_eq!(refused.reason(), Refusal::ShutDown);
        assert_eq!(refused.to_string(), "shutting down");
        assert_eq!(refused.into_inner().await, Ok(7));
    }
    let handle = Scope::new().handle();
    let refused = handle.spawn("after the drop", ok(SECOND)).unwrap_err();
    assert_eq!(Refusal::from(refused), Refusal::ShutDown);
}

/// Trap 80: who spawns at the same time as another closes is refused, or waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_task_slips_past_a_close() {
    for _ in 0..200 {
        let scope = Scope::new();
        let handle = scope.handle();
        let started = Alive::default();
        let (all, held) = (started.clone(), started.one());
        let racer = tokio::spawn(async move {
            while handle
                .spawn("one", {
                    let one = all.one();
                    async move {
                        tokio::task::yield_now().await;
                        drop(one);
                        Answer::Ok(1)
                    }
                })
                .is_ok()
            {}
        });
        tokio::task::yield_now().await;
        let report = scope.join().await;
        assert_eq!(report.counts.in_flight, 0);
        racer.await.unwrap();
        drop(held);
        assert_eq!(started.count(), 0);
        assert_eq!(scope.counts(), report.counts, "nothing came after the join");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_scope_aborts_what_is_there_and_counts() {
    let (told, alive) = (Arc::new(Mutex::new(None)), Alive::default());
    let tell = Arc::clone(&told);
    let scope = Scope::builder()
        .limit(2)
        .on_drop(move |report| {
            *tell.lock().unwrap() = Some(report.counts.in_flight);
            panic!("swallowed");
        })
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let one = alive.one();
            let task = async move {
                let _one = one;
                never().await
            };
            scope.spawn("waits", task).unwrap()
        })
        .collect();
    tokio::task::yield_now().await;
    let handle = scope.handle();
    drop(scope);
    handle.drained().await;
    assert_eq!((alive.count(), *told.lock().unwrap()), (0, Some(3)));
    assert_counts(handle.counts(), [0, 0, 0, 0, 1, 2]);
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await);
    }
    assert_eq!(
        ends,
        [Err(cancelled(1)), Err(cancelled(1)), Err(cancelled(0))]
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_the_drop_of_an_empty_scope() {
    let scope = Scope::builder()
        .on_drop(|_| panic!("told"))
        .build()
        .unwrap();
    scope.spawn("done", ok(SECOND)).unwrap();
    scope.join().await;
}

/// Nothing panics on a plain thread, nor after the runtime has gone; nobody waits for ever.
#[test]
fn a_scope_outlives_its_runtime() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let scope = Scope::new();
    let refused = scope.spawn("nowhere", ok(SECOND)).unwrap_err();
    assert_eq!(refused.reason(), Refusal::NoRuntime);
    let first = runtime();
    let (begun, queued) = first.block_on(async {
        let begun = scope.spawn("begun", never()).unwrap();
        tokio::task::yield_now().await;
        (begun, scope.spawn("not begun", never()).unwrap())
    });
    drop(first);
    assert_counts(scope.counts(), [0, 0, 0, 0, 2, 0]);
    let second = runtime();
    second.block_on(async {
        assert_eq!(begun.await, Err(cancelled(1)));
        assert_eq!(queued.await, Err(cancelled(0)));
        let late = scope.spawn("late", never()).unwrap();
        assert_eq!(late.await, Err(cancelled(0)));
        assert_counts(scope.join().await.counts, [0, 0, 0, 0, 3, 0]);
    });
    drop(second);
    drop(scope);
}

/// Who waits would wait for ever.
#[test]
fn without_a_timer_there_is_no_grace_rather_than_no_abort() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let scope = Scope::builder().grace(SECOND).build().unwrap();
        scope.spawn("waits", never()).unwrap();
        tokio::task::yield_now().await;
        scope.cancel();
        assert_counts(scope.join().await.counts, [0, 0, 0, 0, 0, 1]);
    });
}

/// A runtime that is there while the scope is dropped on a plain thread, and one that is not.
#[test]
fn a_scope_is_dropped_on_a_plain_thread() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scope = runtime.block_on(async {
        let scope = Scope::new();
        scope.spawn("waits", never()).unwrap();
        scope
    });
    let handle = scope.handle();
    std::thread::spawn(move || drop(scope)).join().unwrap();
    runtime.block_on(handle.drained());
    assert_eq!(handle.counts().ended(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_task_is_aborted_and_the_others_go_on() {
    let scope = Scope::builder().limit(1).build().unwrap();
    let first = scope.spawn("first", never()).unwrap();
    let second = scope.spawn("second", never()).unwrap();
    let third = scope.spawn("third", ok(SECOND)).unwrap();
    tokio::task::yield_now().await;
    second.abort();
    first.abort();
    assert_eq!(scope.tasks()[0].state, TaskState::Cancelling);
    assert_eq!(third.await, Ok(7));
    assert_eq!(first.await, Err(cancelled(1)));
    assert_eq!(second.await, Err(cancelled(0)));
    assert_counts(scope.join().await.counts, [0, 1, 0, 0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_on_when_its_handle_is_dropped() {
    let scope = Scope::new();
    drop(scope.spawn("goes on", ok(SECOND)).unwrap());
    assert_counts(scope.join().await.counts, [0, 1, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_parents_token_cancels_the_scope_and_not_the_other_way() {
    let parent = CancellationToken::new();
    let builder = || Scope::builder().parent(&parent).grace(Duration::ZERO);
    let (one, other) = (builder().build().unwrap(), builder().build().unwrap());
    for scope in [&one, &other] {
        scope.spawn("waits", never()).unwrap();
    }
    one.cancel();
    assert_counts(one.join().await.counts, [0, 0, 0, 0, 1, 0]);
    assert_eq!(other.counts().in_flight, 1);
    parent.cancel();
    assert_counts(other.join().await.counts, [0, 0, 0, 0, 0, 1]);
}

/// A queued task is not begun by a scope that was cancelled, whatever comes free.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_place_never_begins_in_a_cancelled_scope() {
    let scope = Scope::builder().limit(1).build().unwrap();
    let token = scope.token();
    scope
        .spawn("polite", async move {
            token.cancelled().await;
            Answer::Ok(1)
        })
        .unwrap();
    let queued = scope
        .spawn("queued", async { unreachable!() })
        .map(|task: Task<u32, Infallible>| task);
    tokio::task::yield_now().await;
    scope.cancel();
    assert_counts(scope.join().await.counts, [0, 1, 0, 0, 1, 0]);
    assert!(matches!(
        queued.unwrap().await,
        Err(Error::Cancelled { attempts: 0, .. })
    ));
}

fn crawl(scope: &ScopeHandle, depth: u32) {
    let inner = scope.clone();
    let page = async move {
        sleep(SECOND).await;
        if depth > 0 {
            crawl(&inner, depth - 1);
            crawl(&inner, depth - 1);
        }
        Answer::Ok(depth)
    };
    scope.spawn("page", page).unwrap();
}

#[tokio::test(start_paused = true)]
async fn tasks_spawn_tasks_until_nothing_is_left() {
    let scope = Scope::new();
    crawl(&scope.handle(), 3);
    scope.drained().await;
    assert_eq!(scope.join().await.counts.completed, 15);
}

/// Trap 81: code that blocks goes on, and no wait of ours is longer than asked for.
#[test]
fn a_task_that_blocks_ignores_the_abort_and_is_reported() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let scope = Scope::new();
        let (begun, begins) = tokio::sync::oneshot::channel();
        scope
            .spawn("blocks", async move {
                let _ = begun.send(());
                let _ = blocked.recv();
                never().await
            })
            .unwrap();
        begins.await.unwrap();
        scope.abort();
        let report = scope.join_within(Duration::from_millis(20)).await;
        assert_counts(report.counts, [1, 0, 0, 0, 0, 0]);
        assert_eq!(scope.tasks()[0].state, TaskState::Cancelling);
        drop(release);
        assert_counts(scope.join().await.counts, [0, 0, 0, 0, 0, 1]);
    });
}

#[tokio::test(start_paused = true)]
async fn join_within_waits_no_longer_and_ends_nothing() {
    let scope = Scope::new();
    let task = scope.spawn("slow", ok(3 * SECOND)).unwrap();
    let start = now();
    assert_eq!(scope.join_within(SECOND).await.counts.in_flight, 1);
    assert_eq!(now().since(start), SECOND);
    assert_eq!(scope.join_within(Duration::MAX).await.counts.completed, 1);
    assert_eq!(scope.join_within(Duration::ZERO).await.counts.in_flight, 0);
    assert_eq!(task.await, Ok(7));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("destructor");
    }
}

/// Trap 76: whatever of a task panics, it is counted once, and its place is free.
#[tokio::test(start_paused = true)]
async fn panics_in_destructors_are_counted_and_lose_no_place() {
    let scope = Scope::builder()
        .limit(1)
        .on_error(OnError::Collect)
        .build()
        .unwrap();
    let aborted = scope
        .spawn("its drop panics", async {
            let _bomb = Bomb;
            never().await
        })
        .unwrap();
    tokio::task::yield_now().await;
    aborted.abort();
    let unbegun = {
        let bomb = Bomb;
        scope.spawn("unbegun", async move {
            let _bomb = bomb;
            never().await
        })
    };
    unbegun.unwrap().abort();
    let text = scope.spawn("its error panics", async { Err::<(), _>(Angry) });
    let result = scope.spawn("its result panics", async { Ok::<_, &str>(Bomb) });
    drop(result);
    assert_eq!(scope.spawn("next", ok(SECOND)).unwrap().await, Ok(7));
    assert!(matches!(text.unwrap().await, Err(Error::Operation { .. })));
    let report = scope.join().await;
    assert_counts(report.counts, [0, 2, 1, 2, 0, 0]);
    assert_eq!(
        report.first_error.unwrap().to_string(),
        "its drop panics panicked: destructor"
    );
}

#[derive(Debug)]
struct Angry;

impl fmt::Display for Angry {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("text")
    }
}

/// A waker that looks at the scope when it is woken and when it is dropped.
struct Reentrant {
    scope: ScopeHandle,
    angry: bool,
}

impl Reentrant {
    fn look(&self) {
        let _ = (self.scope.tasks(), self.scope.counts(), self.scope.report());
        self.scope.close();
    }
}

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        self.look();
        assert!(!self.angry, "waker");
    }
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        self.look();
    }
}

/// Traps 76 and 77: under the lock it would wait for itself; a panic keeps nobody asleep.
#[tokio::test(start_paused = true)]
async fn wakers_are_woken_and_dropped_outside_of_the_lock() {
    let scope = Scope::new();
    scope.spawn("slow", ok(SECOND)).unwrap();
    let mut waits: Vec<_> = (0..3).map(|_| Box::pin(scope.drained())).collect();
    for wait in &mut waits {
        for angry in [false, true] {
            let scope = scope.handle();
            let waker = Waker::from(Arc::new(Reentrant { scope, angry }));
            assert!(
                wait.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
    }
    drop(waits.pop());
    let join = scope.join();
    assert_counts(join.await.counts, [0, 1, 0, 0, 0, 0]);
    for wait in waits {
        wait.await;
    }
}

#[tokio::test(start_paused = true)]
async fn run_returns_when_the_body_and_all_tasks_have_ended() {
    let alive = Alive::default();
    let one = alive.one();
    let start = now();
    let (result, report) = Scope::new()
        .run(|scope| async move {
            let task = async move {
                sleep(2 * SECOND).await;
                drop(one);
                Answer::Ok(1)
            };
            scope.spawn("slow", task).unwrap();
            ok(SECOND).await
        })
        .await;
    assert_eq!((result, alive.count()), (Ok(7), 0));
    assert_eq!(now().since(start), 2 * SECOND);
    assert_counts(report.counts, [0, 2, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_cancels_its_tasks_and_a_task_the_body() {
    let builder = || Scope::builder().grace(SECOND);
    let start = now();
    let scope = builder().build().unwrap();
    let (result, report) = scope
        .run(|scope| async move {
            scope.spawn("waits", never()).unwrap();
            tokio::task::yield_now().await;
            Answer::Err("body")
        })
        .await;
    assert_eq!(result, Err(Error::operation("body")));
    assert_counts(report.counts, [0, 0, 1, 0, 0, 1]);
    assert_eq!(now().since(start), SECOND);
    let scope = builder().build().unwrap();
    let (result, report) = scope
        .run(|scope| async move {
            scope.spawn("fails", async { Answer::Err("task") }).unwrap();
            never().await
        })
        .await;
    assert_eq!(result, Err(cancelled(1)));
    assert_counts(report.counts, [0, 0, 1, 0, 0, 1]);
    assert_eq!(now().since(start), 2 * SECOND);
    let scope = builder().on_error(OnError::Collect).build().unwrap();
    let (_, report) = scope
        .run(|scope| async move {
            scope.spawn("goes on", ok(SECOND)).unwrap();
            Answer::Err("body")
        })
        .await;
    assert_counts(report.counts, [0, 1, 1, 0, 0, 0]);
}

/// Trap 76: the panic comes through when the tasks have ended.
#[tokio::test(start_paused = true)]
async fn a_body_that_panics_leaves_no_task() {
    let alive = Alive::default();
    for early in [true, false] {
        let one = alive.one();
        let run = Scope::new().run(move |scope| {
            let task = async move {
                let _one = one;
                never().await
            };
            scope.spawn("waits", task).unwrap();
            assert!(!early, "early");
            async move {
                tokio::task::yield_now().await;
                let _bomb = Bomb;
                Answer::Ok(1)
            }
        });
        assert!(catch_panic(run).await.is_err());
        assert_eq!(alive.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn run_that_is_dropped_aborts() {
    let alive = Alive::default();
    let start = || {
        let one = alive.one();
        Scope::new().run(move |scope| async move {
            let task = async move {
                let _one = one;
                ok(SECOND).await
            };
            scope.spawn("waits", task).unwrap().await.map_err(|_| "no")
        })
    };
    let drops = drop_at_every_poll(start, async |_| {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(alive.count(), 0);
    })
    .await;
    assert!(drops > 2, "{drops}");
}

/// Each future of a scope, dropped at every poll beside one who frees and takes places.
#[tokio::test(start_paused = true)]
async fn whatever_waits_can_be_dropped_at_every_poll() {
    let scope = Scope::builder().limit(1).build().unwrap();
    let busy = async || {
        for _ in 0..2 {
            let task = scope.spawn("other", ok(Duration::from_millis(2))).unwrap();
            let _ = task.await;
        }
    };
    let settled = async |_| {
        scope.drained().await;
        assert_eq!(scope.counts().in_flight, 0);
        assert_eq!(scope.spawn("next", ok(SECOND)).unwrap().await, Ok(7));
    };
    drop_beside(|| (scope.drained(), busy()), settled).await;
    let task = || scope.spawn("task", ok(Duration::from_millis(3))).unwrap();
    drop_beside(|| (task(), busy()), settled).await;
    // The handle is dropped, and the task aborted, queued or running.
    let aborted = || async {
        struct Abort(Option<Task<u32, &'static str>>);
        impl Drop for Abort {
            fn drop(&mut self) {
                self.0.take().unwrap().abort();
            }
        }
        let mut task = Abort(Some(task()));
        task.0.as_mut().unwrap().await
    };
    drop_beside(|| (aborted(), busy()), settled).await;
    let drops = drop_at_every_poll(|| scope.join_within(SECOND), async |_| {}).await;
    assert_eq!(drops, 2, "unpolled: there is nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn a_join_can_be_dropped_at_every_poll_and_joined_again() {
    let scopes = Mutex::new(Vec::new());
    let start = || {
        let scope = Arc::new(Scope::new());
        scope.spawn("slow", ok(SECOND)).unwrap();
        scopes.lock().unwrap().push(Arc::clone(&scope));
        async move { scope.join().await.counts.completed }
    };
    drop_at_every_poll(start, async |polls| {
        let scope = scopes.lock().unwrap().pop().unwrap();
        assert_eq!(scope.spawn("late", ok(SECOND)).is_err(), polls > 0);
        assert!(scope.join().await.counts.completed >= 1);
    })
    .await;
}

/// What users spawn must be `Send` when its parts are.
#[test]
fn what_users_spawn_can_be_sent() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    fn shared<T: Send + Sync + fmt::Debug>() {}
    let scope = Scope::new();
    drop(sent(scope.join()));
    drop(sent(scope.join_within(SECOND)));
    drop(sent(scope.drained()));
    drop(sent(Scope::new().run(|scope| async move {
        let task = scope.spawn("task", ready(Answer::Ok(1)));
        task.map_err(|_| "refused")?.await.map_err(|_| "failed")
    })));
    shared::<Scope>();
    shared::<ScopeHandle>();
    shared::<Task<u32, Infallible>>();
    shared::<Refused<std::cell::Cell<u8>>>();
}

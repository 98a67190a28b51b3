//! The shell: callers that are dropped, initialisers that panic, wakers of every kind.

use std::cell::Cell;
use std::future::{pending, poll_fn, ready};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;

use super::*;
use crate::retry::{Backoff, Retry};
use crate::testing::{drop_at_every_poll, drop_beside, sleep, spin};

const MS: Duration = Duration::from_millis(1);

/// Counts its executions: how many began, how many run, how many ran at once at most.
#[derive(Default)]
struct Count {
    begun: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
}

struct Running(Arc<Count>);

impl Count {
    fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, SeqCst);
        let now = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        Running(Arc::clone(self))
    }

    fn begun(&self) -> usize {
        self.begun.load(SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

/// Takes four steps of 1 ms; fails so often first.
fn slow(count: &Arc<Count>, failures: usize) -> Lazy<usize, &'static str> {
    let count = Arc::clone(count);
    Lazy::new(move || {
        let count = Arc::clone(&count);
        async move {
            let running = count.begin();
            for _ in 0..4 {
                sleep(MS).await;
            }
            drop(running);
            let begun = count.begun();
            if begun <= failures {
                Err("not yet")
            } else {
                Ok(begun)
            }
        }
    })
}

#[test]
fn a_value_that_is_there_needs_no_runtime_and_no_initialiser() {
    let lazy = Lazy::new(|| ready(Ok::<_, ()>(7)));
    assert_eq!(lazy.try_get(), None);
    assert_eq!(spin(lazy.get()), Ok(&7));
    assert_eq!((lazy.try_get(), spin(lazy.get())), (Some(&7), Ok(&7)));
    assert_eq!(lazy.into_inner(), Some(7));
}

#[test]
fn a_value_that_was_taken_is_made_anew() {
    let count = AtomicUsize::new(0);
    let mut lazy = Lazy::new(move || ready(Ok::<_, ()>(count.fetch_add(1, SeqCst))));
    assert_eq!(lazy.take(), None);
    assert_eq!(spin(lazy.get()), Ok(&0));
    *lazy.get_mut().unwrap() = 9;
    assert_eq!(lazy.take(), Some(9));
    assert_eq!(spin(lazy.get()), Ok(&1));
}

#[tokio::test(start_paused = true)]
async fn many_callers_make_one_value() {
    let count = Arc::default();
    let lazy = Arc::new(slow(&count, 0));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let lazy = Arc::clone(&lazy);
            tokio::spawn(async move { lazy.get().await.copied() })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(1));
    }
    assert_eq!(count.begun(), 1);
    assert_eq!(lazy.shared.state.lock().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_who_waited_and_the_next_tries_again() {
    let count = Arc::default();
    let lazy = slow(&count, 1);
    let all = futures_util::future::join_all((0..9).map(|_| lazy.get())).await;
    let failed = Error::operation("not yet");
    assert!(all.iter().all(|told| told.as_ref() == Err(&failed)));
    assert_eq!(lazy.get().await, Ok(&2));
    assert_eq!(lazy.shared.state.lock().waiting(), 0);
}

/// Trap 69: eleven callers, and the one who drives goes away after each number of polls.
#[tokio::test(start_paused = true)]
async fn the_leader_may_go_away_at_every_poll_and_one_execution_goes_on() {
    let made = Cell::new(0);
    let drops = drop_at_every_poll(
        || async {
            let count = Arc::default();
            let lazy = slow(&count, 0);
            let mut leader = Box::pin(lazy.get());
            poll_fn(|cx| Poll::Ready(leader.as_mut().poll(cx).is_pending())).await;
            let followers = futures_util::future::join_all((0..10).map(|_| lazy.get()));
            let mut followers = Box::pin(followers);
            // The leader takes some steps and is dropped; the followers are left with it.
            for steps in 0..3 {
                if steps == 2 {
                    leader = Box::pin(lazy.get());
                }
                poll_fn(|cx| Poll::Ready(followers.as_mut().poll(cx).is_ready())).await;
                sleep(MS).await;
                poll_fn(|cx| Poll::Ready(leader.as_mut().poll(cx).is_ready())).await;
            }
            drop(leader);
            let all = followers.await;
            assert!(all.iter().all(|told| *told == Ok(&1)), "{all:?}");
            assert_eq!((count.begun(), count.most.load(SeqCst)), (1, 1));
            made.set(made.get() + 1);
        },
        async |_| {},
    )
    .await;
    assert!(drops > 8 && made.get() == 2, "{drops}, {}", made.get());
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_be_dropped_at_every_poll() {
    let cell = Mutex::new(None);
    let fresh = || {
        let count = Arc::default();
        let lazy = Arc::new(slow(&count, 0));
        *cell.lock().unwrap() = Some((Arc::clone(&lazy), count));
        lazy
    };
    let check = async |_| {
        let (lazy, count) = cell.lock().unwrap().take().unwrap();
        assert_eq!(lazy.shared.state.lock().waiting(), 0);
        assert_eq!(lazy.get().await, Ok(&1));
        assert_eq!((count.begun(), count.most.load(SeqCst)), (1, 1));
    };
    let one = || {
        let lazy = fresh();
        async move { lazy.get().await.copied() }
    };
    assert!(drop_at_every_poll(one, check).await > 8);
    let two = || {
        let lazy = fresh();
        let other = Arc::clone(&lazy);
        let victim = async move { lazy.get().await.copied() };
        let actor = async move { assert_eq!(other.get().await, Ok(&1)) };
        (victim, actor)
    };
    assert!(drop_beside(two, check).await > 8);
}

/// A caller who is there, was woken, and is not polled any more: the others go on.
#[tokio::test(start_paused = true)]
async fn nobody_depends_on_a_caller_who_is_not_polled_any_more() {
    let count = Arc::default();
    let lazy = slow(&count, 0);
    let mut stalled = Box::pin(lazy.get());
    poll_fn(|cx| Poll::Ready(stalled.as_mut().poll(cx).is_pending())).await;
    assert_eq!(lazy.get().await, Ok(&1));
    assert_eq!(stalled.await, Ok(&1));
    assert_eq!(count.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_rests_goes_on_where_it_stood() {
    let count = Arc::default();
    let lazy = slow(&count, 0);
    let cut = tokio::time::timeout(2 * MS + MS / 2, lazy.get()).await;
    assert!(cut.is_err());
    sleep(Duration::from_secs(3600)).await;
    let begun = crate::time::now();
    assert_eq!(lazy.get().await, Ok(&1));
    assert!(crate::time::now().since(begun) <= 2 * MS);
}

/// Trap 70: everyone who waited is told, and the next one tries again.
#[tokio::test(start_paused = true)]
async fn a_panic_is_told_to_all_and_can_be_tried_again() {
    let calls = AtomicUsize::new(0);
    let lazy = Lazy::new(move || {
        let call = calls.fetch_add(1, SeqCst);
        async move {
            sleep(MS).await;
            assert!(call > 0, "first call");
            Ok::<_, ()>(call)
        }
    });
    let told = futures_util::future::join_all((0..5).map(|_| lazy.get())).await;
    for told in told {
        assert_eq!(told, Err(Error::panicked("first call")));
    }
    assert_eq!(lazy.get().await, Ok(&1));
}

/// Trap 76: the closure itself panics, and so does what it made when it is dropped.
#[test]
fn a_panic_anywhere_in_the_initialiser_leaves_the_cell_usable() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "in the drop");
        }
    }
    let calls = AtomicUsize::new(0);
    let lazy = Lazy::new(move || {
        let call = calls.fetch_add(1, SeqCst);
        assert!(call > 0, "in the closure");
        let mut bomb = Some(Bomb(call == 1));
        poll_fn(move |_| {
            bomb.as_mut().expect("armed");
            Poll::Ready(if call == 1 { Err(call) } else { Ok(call) })
        })
    });
    assert_eq!(spin(lazy.get()), Err(Error::panicked("in the closure")));
    assert_eq!(spin(lazy.get()), Err(Error::panicked("in the drop")));
    assert_eq!(spin(lazy.get()), Ok(&2));
}

#[tokio::test(start_paused = true)]
async fn an_execution_is_a_whole_call_of_the_pipeline() {
    let retry = Retry::builder()
        .max_attempts(3)
        .backoff(Backoff::constant(MS));
    let pipeline = Pipeline::builder("init").retry(retry).build().unwrap();
    let count = Arc::default();
    let lazy = slow(&count, 4).through(&pipeline);
    let all = futures_util::future::join_all((0..9).map(|_| lazy.get())).await;
    for told in all {
        let error = told.unwrap_err();
        assert_eq!((error.attempts(), error.last()), (3, Some(&"not yet")));
    }
    assert_eq!(lazy.get().await, Ok(&5));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_pipeline_tells_the_attempt() {
    let pipeline = Pipeline::builder("init").retry(Retry::builder()).build();
    let calls = AtomicUsize::new(0);
    let lazy = Lazy::<(), _>::new(move || {
        let call = calls.fetch_add(1, SeqCst);
        async move {
            assert!(call < 2, "third");
            Err("no")
        }
    });
    let error = lazy.through(&pipeline.unwrap());
    let error = error.get().await.unwrap_err();
    assert!(error.is_panicked() && error.attempts() == 3, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_initialiser_that_asks_for_its_own_value_is_told_so() {
    static CELL: OnceLock<Lazy<u8, String>> = OnceLock::new();
    let cell = CELL.get_or_init(|| {
        Lazy::new(|| async {
            let own = CELL.get().unwrap().get().await;
            own.copied().map_err(|error| error.to_string())
        })
    });
    let error = cell.get().await.unwrap_err();
    let text = "refused: the initialiser asks for its own value";
    assert_eq!(error.last().map(String::as_str), Some(text));
    assert_eq!(cell.shared.state.lock().waiting(), 0);
}

/// What rests holds wakers that hold the cell's state: dropping the cell ends it all the same.
#[test]
fn a_cell_that_is_dropped_half_made_drops_its_initialiser() {
    let count = Arc::<Count>::default();
    let counted = Arc::clone(&count);
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let lazy = Lazy::<(), ()>::new(move || {
        let (running, keep) = (counted.begin(), Arc::clone(&keep));
        poll_fn(move |cx| {
            let _running = &running;
            *keep.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        })
    });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut lazy.get()).poll(&mut cx).is_pending());
    drop(lazy);
    assert_eq!(count.running.load(SeqCst), 0);
    kept.lock().unwrap().take().unwrap().wake();
}

/// Trap 77: a waker that asks the cell when it is woken and when it is dropped.
#[test]
fn no_waker_is_woken_or_dropped_under_the_lock() {
    struct Nosy(Arc<Lazy<(), ()>>);
    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {
            let _ = format!("{:?}", self.0);
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            let _ = format!("{:?}", self.0);
        }
    }
    let inner = Arc::new(Mutex::new(None::<Waker>));
    let seen = Arc::clone(&inner);
    let turns = AtomicUsize::new(0);
    let lazy = Arc::new(Lazy::<(), ()>::new(move || {
        let seen = Arc::clone(&seen);
        let turn = turns.fetch_add(1, SeqCst);
        let mut polls = 0;
        poll_fn(move |cx| {
            *seen.lock().unwrap() = Some(cx.waker().clone());
            polls += 1;
            match (turn, polls) {
                (_, 1..3) => Poll::Pending,
                (0, _) => Poll::Ready(Err(())),
                _ => Poll::Ready(Ok(())),
            }
        })
    }));
    for expected in [Err(Error::operation(())), Ok(&())] {
        let nosy = || Waker::from(Arc::new(Nosy(Arc::clone(&lazy))));
        let (mut a, mut b) = (lazy.get(), lazy.get());
        for _ in 0..2 {
            assert!(
                Pin::new(&mut a)
                    .poll(&mut Context::from_waker(&nosy()))
                    .is_pending()
            );
            assert!(
                Pin::new(&mut b)
                    .poll(&mut Context::from_waker(&nosy()))
                    .is_pending()
            );
            let waker = inner.lock().unwrap().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        drop(lazy.get());
        let told = Pin::new(&mut a).poll(&mut Context::from_waker(&nosy()));
        assert_eq!(told, Poll::Ready(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn the_initialiser_wakes_whoever_is_there_and_not_the_one_who_began() {
    let lazy = Arc::new(Lazy::new(|| async {
        sleep(9 * MS).await;
        Ok::<_, ()>(1)
    }));
    // Polled once by a task that ends at once: its waker is stale.
    let first = Arc::clone(&lazy);
    let began = tokio::spawn(async move {
        let mut get = first.get();
        poll_fn(|cx| Poll::Ready(Pin::new(&mut get).poll(cx).is_pending())).await
    });
    assert!(began.await.unwrap());
    assert_eq!(lazy.get().await, Ok(&1));
}

#[tokio::test]
async fn a_wait_can_be_spawned_and_shared() {
    fn send<T: Send>(_: &T) {}
    fn share<T: Send + Sync>(_: &T) {}
    let lazy = Lazy::<u8, String>::new(pending);
    send(&lazy.get());
    share(&lazy);
    assert!(format!("{lazy:?} {:?}", lazy.get()).contains("running: false"));
}

/// Two threads drive the same initialiser by turns. Trap 71: who comes as it ends is told.
#[test]
fn callers_on_many_threads_make_one_value() {
    for round in 0..50 {
        let count = Arc::<Count>::default();
        let counted = Arc::clone(&count);
        let lazy = Lazy::<usize, ()>::new(move || {
            let running = counted.begin();
            let mut left = 20;
            poll_fn(move |cx| {
                let _running = &running;
                left -= 1;
                cx.waker().wake_by_ref();
                if left == 0 {
                    Poll::Ready(Ok(round))
                } else {
                    Poll::Pending
                }
            })
        });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(block_on(lazy.get()), Ok(&round)));
            }
        });
        assert_eq!((count.begun(), count.most.load(SeqCst)), (1, 1));
    }
}

/// Parks until it is woken: a wake-up that is lost would hang.
fn block_on<Fut: Future>(future: Fut) -> Fut::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

//! The shell: real threads, whose work waits until the test lets it go on.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::blocking;
use crate::error::{Error, Refusal};
use crate::policy::Pipeline;
use crate::retry::{Backoff, Retry};
use crate::testing::{drop_at_every_poll, drop_beside, spin};

const SECOND: Duration = Duration::from_secs(1);

/// Holds work up until it is opened.
#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    moved: Condvar,
    inside: AtomicUsize,
    ran: AtomicUsize,
}

impl Door {
    fn work(self: &Arc<Self>) -> impl Fn() -> Result<u32, &'static str> + Send + Sync + use<> {
        let door = Arc::clone(self);
        move || {
            door.inside.fetch_add(1, SeqCst);
            let closed = door.open.lock().unwrap();
            drop(door.moved.wait_while(closed, |open| !*open).unwrap());
            door.inside.fetch_sub(1, SeqCst);
            door.ran.fetch_add(1, SeqCst);
            Ok(7)
        }
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.moved.notify_all();
    }
}

/// Opens the door also where the test fails: a runtime waits for its threads.
struct Opens<'a>(&'a Door);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A runtime whose only thread for blocking work is held up by others, and whose clock stands.
fn saturated(door: &Arc<Door>) -> Runtime {
    let mut builder = Builder::new_current_thread();
    let builder = builder.enable_time().start_paused(true);
    let runtime = builder.max_blocking_threads(1).build().unwrap();
    drop(runtime.spawn_blocking(door.work()));
    while door.inside.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    runtime
}

fn offload(threads: u32, queue: usize) -> Offload {
    let builder = Offload::builder().threads(threads).queue(queue);
    builder.build().unwrap()
}

/// Lets threads of their own come as far as `done` wants.
async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

/// Polls once.
async fn step<Fut: Future>(mut future: Pin<&mut Fut>) -> Poll<Fut::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn settings_out_of_range_are_errors() {
    let error = Offload::builder().build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "threads is not set, but must be at least 1"
    );
    let error = Offload::builder().threads(0).build().unwrap_err();
    assert_eq!(error.to_string(), "threads is 0, but must be at least 1");
    let huge = Offload::builder().threads(u32::MAX).queue(usize::MAX);
    assert_eq!(huge.build().unwrap().snapshot().threads, u32::MAX);
}

#[tokio::test]
async fn a_result_an_error_and_a_panic_are_outcomes() {
    let offload = offload(1, 1);
    assert_eq!(offload.run(|| Ok::<_, ()>(7)).await, Ok(7));
    let error = offload.run(|| Err::<(), _>("no")).await;
    assert_eq!(error, Err(Error::operation("no")));
    let panicked = offload.run(|| -> Result<(), ()> { panic!("on a thread") });
    assert_eq!(panicked.await, Err(Error::panicked("on a thread")));
    assert_eq!(offload.run(|| Ok::<_, ()>(8)).await, Ok(8));
    let seen = offload.snapshot();
    assert_eq!((seen.running, seen.abandoned, seen.queued), (0, 0, 0));
}

#[test]
fn outside_of_a_runtime_it_is_refused() {
    let offload = offload(1, 1);
    let refused = spin(offload.run(|| Ok::<_, ()>(7))).unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::NoRuntime));
    assert_eq!(offload.slots.snapshot().in_use, 0);
    // Also where it would have to wait, for which there is no timer.
    let _busy = offload.slots.try_acquire(1);
    let refused = spin(offload.run(|| Ok::<_, ()>(7))).unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::NoRuntime));
}

/// No wait is begun that could not end before the deadline.
#[tokio::test(start_paused = true)]
async fn a_call_without_time_left_does_not_wait() {
    let offload = offload(1, 1);
    let busy = offload.slots.try_acquire(1).unwrap();
    let call = offload.run(|| Ok::<_, ()>(7)).timeout(Duration::ZERO);
    let full = Refusal::bulkhead_full(Duration::ZERO);
    assert_eq!(call.await, Err(Error::refused(full)));
    drop(busy);
}

#[tokio::test]
async fn what_has_no_place_is_refused_at_once() {
    let (offload, door) = (offload(1, 1), Arc::<Door>::default());
    let (mut first, mut second) = (
        pin!(offload.run(door.work())),
        pin!(offload.run(door.work())),
    );
    assert!(step(first.as_mut()).await.is_pending());
    assert!(step(second.as_mut()).await.is_pending());
    let full = Refusal::bulkhead_full(Duration::ZERO);
    let third = offload.run(door.work()).await;
    assert_eq!(third, Err(Error::refused(full)));
    until(|| door.inside.load(SeqCst) == 1).await;
    let seen = offload.snapshot();
    assert_eq!((seen.running, seen.abandoned, seen.queued), (1, 0, 1));
    door.open();
    assert_eq!((first.await, second.await), (Ok(7), Ok(7)));
}

/// Trap 57: whoever polls is not held up by the work, so that a limit can end the wait.
#[tokio::test(start_paused = true)]
async fn what_blocks_is_on_a_thread_of_its_own_and_can_be_cut() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let work = move || {
        let _ = blocked.recv_timeout(5 * SECOND);
        Ok::<_, ()>(7)
    };
    let mut call = pin!(offload(1, 0).run(work).timeout(SECOND));
    assert!(step(call.as_mut()).await.is_pending(), "it ran here");
    tokio::time::advance(SECOND).await;
    assert!(call.await.unwrap_err().is_timed_out());
    drop(release);
}

/// Trap 81: a time limit passes while work runs. The caller is told in time, the thread goes
/// on, its number is visible and its slot is not given to another.
#[tokio::test(start_paused = true)]
async fn a_running_thread_is_abandoned_and_stays_counted() {
    let (offload, door) = (offload(1, 0), Arc::<Door>::default());
    let _opens = Opens(&door);
    let mut call = pin!(offload.run(door.work()).timeout(5 * SECOND));
    assert!(step(call.as_mut()).await.is_pending());
    until(|| door.inside.load(SeqCst) == 1).await;
    tokio::time::advance(5 * SECOND).await;
    let error = call.await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after, attempts: 1, .. } if after == 5 * SECOND));
    let seen = offload.snapshot();
    assert_eq!((seen.running, seen.abandoned, seen.queued), (1, 1, 0));
    let full = offload.run(|| Ok::<_, ()>(1)).await.unwrap_err();
    assert!(matches!(full.refusal(), Some(Refusal::BulkheadFull { .. })));
    door.open();
    until(|| offload.slots.snapshot().in_use == 0).await;
    let seen = offload.snapshot();
    assert_eq!((seen.running, seen.abandoned, seen.queued), (0, 0, 0));
    assert_eq!(offload.run(|| Ok::<_, ()>(1)).await, Ok(1));
}

/// The limit counts the wait: what has not begun by then never does.
#[tokio::test(start_paused = true)]
async fn a_limit_that_passes_in_the_queue_leaves_the_work_unrun() {
    let (offload, door) = (offload(1, 1), Arc::<Door>::default());
    let mut busy = pin!(offload.run(door.work()));
    assert!(step(busy.as_mut()).await.is_pending());
    let dropped = Arc::new(());
    let token = Arc::clone(&dropped);
    let work = move || {
        drop(Arc::clone(&token));
        panic!("never begun");
    };
    let mut call = pin!(offload.run::<_, (), ()>(work).timeout(SECOND));
    assert!(step(call.as_mut()).await.is_pending());
    tokio::time::advance(SECOND).await;
    let error = call.as_mut().await.unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { attempts: 0, .. }),
        "{error:?}"
    );
    door.open();
    assert_eq!(busy.await, Ok(7));
    assert_eq!(offload.run(|| Ok::<_, ()>(1)).await, Ok(1));
    drop(offload);
    assert_eq!(
        Arc::strong_count(&dropped),
        2,
        "the call still owns what it never gave"
    );
}

#[tokio::test(start_paused = true)]
async fn max_wait_limits_the_wait_alone() {
    let door = Arc::<Door>::default();
    let offload = Offload::builder()
        .threads(1)
        .max_wait(SECOND)
        .build()
        .unwrap();
    let mut busy = pin!(offload.run(door.work()));
    let mut call = pin!(offload.run(door.work()));
    assert!(step(busy.as_mut()).await.is_pending());
    assert!(step(call.as_mut()).await.is_pending());
    until(|| door.inside.load(SeqCst) == 1).await;
    tokio::time::advance(2 * SECOND).await;
    let refused = call.await.unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::bulkhead_full(2 * SECOND)));
    assert!(step(busy.as_mut()).await.is_pending());
    door.open();
    assert_eq!(busy.await, Ok(7));
}

/// The runtime's own queue has no limit: the wait in there is limited as that for a slot.
#[test]
fn max_wait_counts_the_wait_for_a_thread_of_the_runtime() {
    let door = Arc::<Door>::default();
    let runtime = saturated(&door);
    let _opens = Opens(&door);
    let builder = Offload::builder().threads(2).queue(0).max_wait(SECOND);
    let offload = builder.build().unwrap();
    runtime.block_on(async {
        let mut call = pin!(offload.run(|| Ok::<_, ()>(1)));
        assert!(step(call.as_mut()).await.is_pending());
        tokio::time::advance(2 * SECOND).await;
        let full = Refusal::bulkhead_full(2 * SECOND);
        let refused = step(call.as_mut()).await;
        assert_eq!(refused, Poll::Ready(Err(Error::refused(full))));
        assert_eq!(offload.snapshot().queued, 1, "its place is still taken");
        door.open();
        until(|| offload.slots.snapshot().in_use == 0).await;
        assert_eq!(offload.run(|| Ok::<_, ()>(2)).await, Ok(2));
    });
}

/// Without a wait there is time to start a thread all the same, and no more than that.
#[test]
fn a_wait_of_zero_leaves_time_to_start_a_thread() {
    let door = Arc::<Door>::default();
    let runtime = saturated(&door);
    let _opens = Opens(&door);
    let builder = Offload::builder().threads(1).max_wait(Duration::ZERO);
    let offload = builder.build().unwrap();
    runtime.block_on(async {
        let mut call = pin!(offload.run(|| Ok::<_, ()>(1)));
        assert!(step(call.as_mut()).await.is_pending());
        tokio::time::advance(SECOND / 1000).await;
        assert!(step(call.as_mut()).await.is_pending());
        tokio::time::advance(SECOND).await;
        let refused = step(call.as_mut()).await.map(Result::unwrap_err);
        let Poll::Ready(Some(Refusal::BulkheadFull { .. })) = refused.map(|e| e.refusal()) else {
            panic!("it still waits");
        };
        door.open();
        until(|| offload.slots.snapshot().in_use == 0).await;
        for n in 0..50 {
            assert_eq!(offload.run(move || Ok::<_, ()>(n)).await, Ok(n));
        }
    });
}

/// What is given up leaves a husk in the runtime's queue: it keeps the slot until the runtime
/// gets rid of it, and so there are never more of them than slots.
#[test]
fn calls_that_are_given_up_do_not_heap_up_in_the_runtime() {
    let door = Arc::<Door>::default();
    let runtime = saturated(&door);
    let _opens = Opens(&door);
    let offload = offload(2, 0);
    runtime.block_on(async {
        let (alive, mut admitted) = (Arc::new(()), 0);
        for _ in 0..100 {
            let held = Arc::clone(&alive);
            let work = move || {
                drop(held);
                Ok::<_, ()>(1)
            };
            let mut call = pin!(offload.run(work));
            admitted += u32::from(step(call.as_mut()).await.is_pending());
        }
        assert_eq!(admitted, 2);
        assert_eq!(Arc::strong_count(&alive), 1, "the work itself goes at once");
        assert_eq!(offload.snapshot().queued, 2);
        door.open();
        until(|| offload.slots.snapshot().in_use == 0).await;
        assert_eq!(offload.run(|| Ok::<_, ()>(1)).await, Ok(1));
    });
}

#[tokio::test]
async fn the_result_of_abandoned_work_is_dropped_before_its_slot_comes_back() {
    struct Tell(Offload, Arc<AtomicUsize>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let running = self.0.snapshot().running as usize;
            self.1.store(10 + running, SeqCst);
            panic!("in the destructor");
        }
    }
    let (offload, door, told) = (offload(1, 0), Arc::<Door>::default(), Arc::default());
    let (work, value) = (door.work(), Tell(offload.clone(), Arc::clone(&told)));
    {
        let run = move || work().map(|_| value);
        let mut call = pin!(offload.run(run));
        assert!(step(call.as_mut()).await.is_pending());
        until(|| door.inside.load(SeqCst) == 1).await;
    }
    assert_eq!(offload.snapshot().abandoned, 1);
    door.open();
    until(|| offload.slots.snapshot().in_use == 0).await;
    assert_eq!(told.load(SeqCst), 11);
    assert_eq!(offload.run(|| Ok::<_, ()>(1)).await, Ok(1));
}

#[tokio::test]
async fn a_call_may_be_dropped_at_every_poll() {
    let offload = offload(1, 4);
    let check = async |_| {
        until(|| offload.slots.snapshot().in_use == 0).await;
        assert_eq!(offload.run(|| Ok::<_, ()>(1)).await, Ok(1));
        let seen = offload.snapshot();
        assert_eq!((seen.running, seen.abandoned, seen.queued), (0, 0, 0));
    };
    let run = || {
        offload.run(|| {
            std::thread::yield_now();
            Ok::<_, ()>(())
        })
    };
    assert!(drop_at_every_poll(run, check).await >= 2);
    let two = || {
        let other = offload.run(|| Ok::<_, ()>(()));
        (run(), async move { assert_eq!(other.await, Ok(())) })
    };
    assert!(drop_beside(two, check).await >= 3);
}

#[tokio::test(start_paused = true)]
async fn retries_through_a_pipeline_are_flat() {
    let retry = Retry::builder()
        .max_attempts(3)
        .backoff(Backoff::constant(Duration::ZERO));
    let pipeline = Pipeline::builder("work").retry(retry).build().unwrap();
    let offload = offload(2, 0);
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let work = move || match counted.fetch_add(1, SeqCst) {
        0 | 1 => Err("not yet"),
        n => Ok(n),
    };
    assert_eq!(offload.run_repeatable(work).through(&pipeline).await, Ok(2));
    let once = offload.run(|| Err::<(), _>("no")).through(&pipeline).await;
    assert_eq!(once, Err(Error::operation("no")));
}

#[test]
fn a_runtime_that_shuts_down_cancels_what_has_not_begun() {
    let build = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .max_blocking_threads(1)
            .build()
            .unwrap()
    };
    let (runtime, door, offload) = (build(), Arc::<Door>::default(), offload(2, 0));
    let mut running = Box::pin(offload.run(door.work()));
    let mut waiting = Box::pin(offload.run(door.work()));
    let mut cx = Context::from_waker(Waker::noop());
    {
        let _inside = runtime.enter();
        assert!(running.as_mut().poll(&mut cx).is_pending());
        while door.inside.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        // The runtime's one thread is taken: a slot is here, a thread is not.
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        assert_eq!(offload.snapshot().queued, 1);
    }
    runtime.shutdown_background();
    door.open();
    let ended = spin(waiting);
    assert!(
        ended == Err(Error::cancelled()) || ended == Ok(7),
        "{ended:?}"
    );
    while offload.slots.snapshot().in_use > 0 {
        std::thread::yield_now();
    }
    assert_eq!(spin(running), Ok(7));
    assert_eq!(offload.snapshot().running, 0);
}

#[test]
fn work_for_a_runtime_that_is_gone_is_cancelled() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let _inside = handle.enter();
    let offload = offload(1, 1);
    let ended = spin(offload.run(|| Ok::<_, ()>(1)));
    assert_eq!(ended, Err(Error::cancelled()));
    assert_eq!(offload.slots.snapshot().in_use, 0);
}

/// Trap 77: the waker of a call looks at the offload when it is woken and dropped.
#[tokio::test]
async fn no_waker_is_woken_or_dropped_under_a_lock() {
    struct Nosy(Offload, Arc<AtomicUsize>);
    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {
            let _ = self.0.snapshot();
            self.1.fetch_add(1, SeqCst);
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            let _ = self.0.snapshot();
        }
    }
    let (offload, door, woken) = (offload(1, 0), Arc::<Door>::default(), Arc::default());
    let mut call = pin!(offload.run(door.work()));
    for _ in 0..3 {
        let nosy = Arc::new(Nosy(offload.clone(), Arc::clone(&woken)));
        let waker = Waker::from(nosy);
        let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    door.open();
    until(|| woken.load(SeqCst) == 1).await;
    assert_eq!(call.await, Ok(7));
}

/// Trap 77: the slot that comes back wakes the next caller, whose waker panics.
#[tokio::test]
async fn a_waker_that_panics_keeps_no_other_caller_waiting() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }
    let (offload, door) = (offload(1, 1), Arc::<Door>::default());
    let mut first = pin!(offload.run(door.work()).timeout(20 * SECOND));
    assert!(step(first.as_mut()).await.is_pending());
    let mut second = pin!(offload.run(door.work()));
    let bad = Waker::from(Arc::new(Bad));
    let polled = second.as_mut().poll(&mut Context::from_waker(&bad));
    assert!(polled.is_pending());
    door.open();
    assert_eq!(first.await, Ok(7));
    assert_eq!(second.await, Ok(7));
}

#[tokio::test]
async fn a_call_can_be_spawned_and_the_limit_changed() {
    let offload = offload(1, 9);
    let calls: Vec<_> = (0..9)
        .map(|n| tokio::spawn(offload.run(move || Ok::<_, ()>(n))))
        .collect();
    offload.resize(3);
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Ok(n));
    }
    assert_eq!(offload.snapshot().threads, 3);
    assert!(format!("{offload:?} {:?}", offload.run(|| Ok::<_, ()>(()))).contains("threads: 3"));
}

/// The thread is there to be blocked: a blocking call works on it.
#[tokio::test]
async fn work_may_wait_for_a_future() {
    let offload = offload(1, 0);
    let inner = offload.run(|| blocking::run(async { 7 })).await;
    assert_eq!(inner, Ok(7));
}

/// Real threads, callers that come and are aborted: in the end the counts are whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_on_many_threads_leaves_nothing_behind() {
    let offload = offload(3, 1000);
    for round in 0..30 {
        let callers: Vec<_> = (0..30)
            .map(|n| {
                let work = move || {
                    for _ in 0..(n % 7) * 50 {
                        std::hint::spin_loop();
                    }
                    Ok::<_, ()>(n)
                };
                tokio::spawn(offload.run(work))
            })
            .collect();
        for (n, caller) in callers.iter().enumerate() {
            if (n + round) % 3 == 0 {
                caller.abort();
            }
        }
        for (n, caller) in callers.into_iter().enumerate() {
            if let Ok(told) = caller.await {
                assert_eq!(told, Ok(n));
            }
        }
        until(|| offload.slots.snapshot().in_use == 0).await;
        let seen = offload.snapshot();
        assert_eq!((seen.running, seen.abandoned, seen.queued), (0, 0, 0));
    }
}

//! From every kind of thread. The background thread has a real clock: the waits are short.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::LocalSet;

use super::*;
use crate::lazy::Lazy;
use crate::offload::Offload;
use crate::retry::{Backoff, Retry};
use crate::testing::sleep;
use crate::{Resilient, panics};

const MS: Duration = Duration::from_millis(1);
const INSIDE: Result<u32, Refusal> = Err(Refusal::InsideRuntime);

fn seven() -> Result<u32, Refusal> {
    run(async {
        sleep(MS).await;
        7
    })
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Trap 83: a plain thread, beside runtimes and without.
#[test]
fn it_works_on_a_plain_thread() {
    assert_eq!(seven(), Ok(7));
    let (_one, _other) = (current_thread(), multi_thread());
    assert_eq!(seven(), Ok(7));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(seven(), Ok(7)));
        }
    });
}

/// Trap 83: a task, a `block_on`, a `LocalSet`, blocking threads of tokio's.
#[test]
fn inside_of_a_runtime_it_is_a_typed_error() {
    for runtime in [current_thread(), multi_thread()] {
        assert_eq!(runtime.block_on(async { seven() }), INSIDE);
        runtime.block_on(async {
            assert_eq!(tokio::spawn(async { seven() }).await.unwrap(), INSIDE);
            let blocking = tokio::task::spawn_blocking(seven);
            assert_eq!(blocking.await.unwrap(), INSIDE);
        });
        let local = LocalSet::new();
        let told =
            local.run_until(async { tokio::task::spawn_local(async { seven() }).await.unwrap() });
        assert_eq!(runtime.block_on(told), INSIDE);
    }
    let runtime = multi_thread();
    let told = runtime.block_on(async { tokio::task::block_in_place(seven) });
    assert_eq!(told, INSIDE);
    let _entered = runtime.enter();
    assert_eq!(seven(), INSIDE);
}

/// Trap 83: a call in a call's future would block the outer one.
#[test]
fn a_nested_call_is_a_typed_error() {
    assert_eq!(run(async { seven() }), Ok(INSIDE));
    let spawned = run(async { tokio::spawn(async { seven() }).await.unwrap() });
    assert_eq!(spawned, Ok(INSIDE));
    assert_eq!(seven(), Ok(7));
}

/// Trap 83: in a destructor, wherever that runs.
#[test]
fn a_destructor_may_call_it_anywhere() {
    struct Last<'a>(&'a Mutex<Vec<Result<u32, Refusal>>>);
    impl Drop for Last<'_> {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(seven());
        }
    }
    let told = Mutex::new(Vec::new());
    drop(Last(&told));
    current_thread().block_on(async { drop(Last(&told)) });
    let unwinding = panics::caught(|| {
        let _last = Last(&told);
        panic!("unwinds");
    });
    assert_eq!(&*panics::message(unwinding.unwrap_err()), "unwinds");
    assert_eq!(*told.lock().unwrap(), [Ok(7), INSIDE, Ok(7)]);
}

#[test]
fn a_thread_that_ends_is_told_so_or_served() {
    struct Last(Option<std::sync::mpsc::Sender<Result<u32, Refusal>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some(told) = self.0.take() {
                let _ = told.send(seven());
            }
        }
    }
    thread_local! {
        static LAST: Cell<Option<Last>> = const { Cell::new(None) };
    }
    for used_before in [false, true] {
        let (told, tell) = std::sync::mpsc::channel();
        let ending = std::thread::spawn(move || {
            LAST.set(Some(Last(Some(told))));
            used_before.then(seven)
        });
        ending.join().unwrap();
        let told = tell.recv().unwrap();
        let ending = Err(Refusal::other("the thread is ending"));
        assert!(told == Ok(7) || told == ending, "{told:?}");
    }
}

#[test]
fn a_thread_of_an_offload_may_be_blocked() {
    let offload = Offload::builder().threads(1).build().unwrap();
    for runtime in [current_thread(), multi_thread()] {
        assert_eq!(runtime.block_on(offload.run(seven)), Ok(7));
    }
    // From a call of the facade itself, and not twice over.
    let nested = || Ok::<_, ()>(run(async { seven() }));
    assert_eq!(run_call(offload.run(nested)), Ok(Ok(INSIDE)));
    let task = || run(async { tokio::spawn(async { seven() }).await.unwrap() });
    assert_eq!(run_call(offload.run(task)), Ok(INSIDE));
    // The mark goes with the work, and not with the thread.
    let told = current_thread().block_on(async {
        offload.run(|| Ok::<_, ()>(())).await.unwrap();
        tokio::task::spawn_blocking(seven).await.unwrap()
    });
    assert_eq!(told, INSIDE);
}

/// Trap 83: work of an offload that drives a runtime of its own: in there it is refused.
#[test]
fn a_runtime_within_the_work_of_an_offload_is_not_blocked() {
    let offload = Offload::builder().threads(1).build().unwrap();
    for inner in [current_thread(), multi_thread()] {
        let work = move || {
            let within = inner.block_on(async { seven() });
            let task = inner.block_on(async { tokio::spawn(async { seven() }).await.unwrap() });
            inner.shutdown_background();
            Ok::<_, ()>((within, task, seven()))
        };
        let told = run_call(offload.run(work)).unwrap();
        assert_eq!(told, (INSIDE, INSIDE, Ok(7)));
    }
}

#[test]
fn tasks_go_on_between_the_calls() {
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    let steps = async {
        for _ in 0..3 {
            sleep(MS).await;
            STEPS.fetch_add(1, SeqCst);
        }
    };
    let mut task = None;
    run(async {
        task = Some(tokio::spawn(steps));
    })
    .unwrap();
    let task = task.unwrap();
    while !task.is_finished() {
        std::thread::yield_now();
    }
    assert_eq!(STEPS.load(SeqCst), 3);
    let rest = run(task).unwrap();
    assert!(rest.is_ok());
}

#[test]
fn the_future_may_borrow_and_stay_on_its_thread() {
    let (words, count) = (String::from("a rope"), Rc::new(Cell::new(0)));
    let length = run(async {
        sleep(MS).await;
        count.set(words.len());
        words.len()
    });
    assert_eq!((length, count.get()), (Ok(6), 6));
}

#[test]
fn the_error_is_flat() {
    let retry = Retry::builder()
        .max_attempts(3)
        .backoff(Backoff::constant(MS));
    let pipeline = Pipeline::builder("script").retry(retry).build().unwrap();
    let mut left = 2;
    let answer = call(&pipeline, || {
        left -= 1;
        let now = left;
        async move { if now == 0 { Ok(now) } else { Err("no") } }
    });
    assert_eq!(answer, Ok(0));
    let failed = call(&pipeline, || async { Err::<(), _>("no") }).unwrap_err();
    assert_eq!((failed.attempts(), failed.last()), (3, Some(&"no")));
    let late = run_call(pending::<Result<(), ()>>().timeout(MS));
    assert_eq!(
        late,
        Err(Error::timed_out(MS).after(crate::Progress::started(1)))
    );
    let inside = current_thread().block_on(async { call(&pipeline, || async { Ok::<_, ()>(7) }) });
    assert_eq!(inside, Err(Error::refused(Refusal::InsideRuntime)));
    let lazy = Lazy::new(|| async { Ok::<_, ()>(7) });
    assert_eq!(run_call(lazy.get()), Ok(&7));
}

#[test]
fn a_panic_passes_and_the_next_call_works() {
    let panicked = panics::caught(|| run(async { panic!("in the future") }));
    let payload = panicked.map(|_: Result<(), _>| ()).unwrap_err();
    assert_eq!(&*panics::message(payload), "in the future");
    assert_eq!(seven(), Ok(7));
}

#[test]
fn a_future_that_was_refused_was_not_polled() {
    let polled = Cell::new(false);
    let refused = current_thread().block_on(async {
        run(poll_fn(|_| {
            polled.set(true);
            Poll::Ready(())
        }))
    });
    assert_eq!(refused, Err(Refusal::InsideRuntime));
    assert!(!polled.get());
    assert!(Handle::try_current().is_err());
}

#[test]
fn a_stray_unpark_wakes_nobody() {
    let woken = Arc::new(AtomicBool::new(false));
    let mut begun = false;
    let out = run(poll_fn(|cx| {
        if begun {
            return Poll::Ready(woken.load(Ordering::SeqCst));
        }
        begun = true;
        let (waker, thread) = (cx.waker().clone(), thread::current());
        let woken = Arc::clone(&woken);
        thread.unpark();
        thread::spawn(move || {
            for _ in 0..9 {
                thread.unpark();
                thread::yield_now();
            }
            woken.store(true, Ordering::SeqCst);
            waker.wake();
        });
        Poll::Pending
    }));
    assert_eq!(out, Ok(true), "polled before it was woken");
}

/// A fork leaves the child without the thread: it is told by its number, which is another.
#[test]
fn a_child_process_starts_a_thread_of_its_own() {
    let thread_of = |process| {
        let background = HOME.background(process).unwrap();
        let spawned = {
            let _within = background.enter();
            tokio::spawn(async { thread::current().id() })
        };
        run(spawned).unwrap().unwrap()
    };
    let own = std::process::id();
    let (parent, child) = (thread_of(own), thread_of(own.wrapping_add(1)));
    assert_ne!(parent, child);
    assert_eq!(seven(), Ok(7));
}

/// Trap 77: a waker that panics in tokio's own timers takes the thread with it. Whoever waits
/// is let go, also one who waits for nothing of the thread's, and the next call has another.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the crate's own timers keep such a panic to themselves"
)]
fn the_death_of_the_thread_lets_its_calls_go() {
    crate::sync::global! { static OTHER: Home = Home::new(); }
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }
    let (waits, other_waits) = std::sync::mpsc::channel();
    let other = thread::spawn(move || {
        run_at(&OTHER, async {
            waits.send(()).unwrap();
            pending::<()>().await;
        })
    });
    other_waits.recv().unwrap();
    let cut = run_at(&OTHER, async {
        let mut sleeps = pin!(tokio::time::sleep(MS));
        let bad = Waker::from(Arc::new(Bad));
        let polled = sleeps.as_mut().poll(&mut Context::from_waker(&bad));
        assert!(polled.is_pending());
        pending::<()>().await;
    });
    assert_eq!(cut, Err(Refusal::ShutDown));
    assert_eq!(other.join().unwrap(), Err(Refusal::ShutDown));
    let served = run_at(&OTHER, async {
        sleep(MS).await;
        7
    });
    assert_eq!(served, Ok(7));
}

mod facades {
    use super::*;
    use crate::pool::Pool;
    use crate::{gather, stream};

    type Connect = fn() -> std::future::Ready<Result<u32, &'static str>>;

    fn pool() -> Pool<Connect> {
        let connect: Connect = || std::future::ready(Ok(7));
        Pool::builder(connect).max_size(1).build().unwrap()
    }

    /// Trap 83: a pool is lent from, and returned to, on a plain thread.
    #[test]
    fn a_pool_works_on_a_plain_thread() {
        let pool = pool();
        for _ in 0..3 {
            let lent = run_call(pool.get()).unwrap();
            assert_eq!(*lent, 7);
        }
        let used = run_call(pool.use_with(async |object| {
            *object += 1;
            Ok::<_, &str>(*object)
        }));
        assert_eq!(used, Ok(8));
        run(pool.close_within(std::time::Duration::from_secs(1))).unwrap();
        assert_eq!(
            run_call(pool.get()).unwrap_err().refusal(),
            Some(Refusal::ShutDown)
        );
    }

    /// Trap 83.
    #[tokio::test]
    async fn inside_of_a_runtime_gather_and_pool_are_refused_as_well() {
        let inside = Refusal::InsideRuntime;
        let pool = pool();
        assert_eq!(run_call(pool.get()).unwrap_err().refusal(), Some(inside));
        let two = || gather([1, 2].map(|n| async move { Ok::<_, &str>(n) }));
        assert_eq!(run(two()).unwrap_err(), inside);
        let mut items = iter(two().as_finished());
        assert_eq!(items.next(), Some(Err(inside)));
        // The stream is as it was.
        let rest = thread::spawn(move || items.map(|item| item.unwrap().1.unwrap()).sum());
        let sum: u32 = rest.join().unwrap();
        assert_eq!(sum, 3);
    }

    #[test]
    fn a_stream_with_timers_is_an_iterator() {
        let beat = stream::every(std::time::Duration::from_millis(1));
        assert!(iter(beat).take(3).all(|tick| tick.is_ok()));
        let none = gather(std::iter::empty::<std::future::Ready<Result<(), ()>>>());
        assert_eq!(iter(none.as_finished()).count(), 0);
    }
}

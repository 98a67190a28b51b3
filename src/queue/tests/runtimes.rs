//! Where the workers live, when that ends, and many threads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn threads(workers: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(workers)
        .enable_time()
        .build()
        .unwrap()
}

#[test]
fn what_is_pushed_outside_of_a_runtime_is_done_in_the_first_one_that_comes() {
    let queue = tasks(2, 9);
    let [first, second, third] = [1, 2, 3].map(|n| queue.try_push(Task::Yield(n)).unwrap());
    assert_eq!(queue.snapshot().workers, 0);
    assert_eq!(runtime().block_on(first), Ok(1));
    // That runtime has shut down, and what ran there was cancelled; what waited waits on.
    let outcome = runtime().block_on(second);
    assert!(outcome.is_ok() || outcome.unwrap_err().is_cancelled());
    drop(third);
    runtime().block_on(works_on(&queue));

    let queue = tasks(1, 9);
    queue.try_push(Task::Yield(1)).unwrap().detach();
    runtime().block_on(queue.drained());
    assert_eq!(queue.snapshot().done, 1);
}

#[test]
fn when_the_runtime_shuts_down_what_runs_is_cancelled_and_what_waits_is_done_in_the_next() {
    for multi in [false, true] {
        let home = if multi { threads(2) } else { runtime() };
        let (queue, tickets) = home.block_on(async {
            let queue = tasks(2, 9);
            let mut tickets = Vec::new();
            for task in [Task::Never, Task::Never, Task::Yield(1), Task::Fail(1)] {
                tickets.push(queue.push(task).await.unwrap());
            }
            while queue.snapshot().running < 2 {
                tokio::task::yield_now().await;
            }
            (queue, tickets)
        });
        drop(home);
        let counts = queue.snapshot();
        assert_eq!((counts.cancelled, counts.waiting), (2, 2), "{counts:?}");
        assert_eq!(counts.workers, 0);
        let next = runtime();
        let outcomes = tickets.into_iter().map(|ticket| next.block_on(ticket));
        let outcomes: Vec<_> = outcomes.collect();
        for cancelled in &outcomes[..2] {
            let error = cancelled.as_ref().unwrap_err();
            assert_eq!((error.is_cancelled(), error.attempts()), (true, 1));
        }
        let failed = Err(Error::operation(String::from("failed")));
        assert_eq!(outcomes[2..], [Ok(1), failed]);
        next.block_on(works_on(&queue));
    }
}

/// Traps 79 and 80: the ticket's side does not keep the future of a lost worker alive.
#[test]
fn what_a_lost_worker_was_at_is_dropped_with_it() {
    let home = runtime();
    let alive = Arc::new(());
    let known = Arc::clone(&alive);
    let ticket = home.block_on(async {
        let queue = Queue::builder()
            .build(move |()| {
                let held = Arc::clone(&known);
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                    Ok::<_, String>(())
                }
            })
            .unwrap();
        let ticket = queue.push(()).await.unwrap();
        tokio::task::yield_now().await;
        [ticket]
    });
    let [ticket] = ticket;
    assert_eq!(Arc::strong_count(&alive), 3);
    drop(home);
    assert!(ticket.is_settled());
    // The handler has gone as well: the queue is closed, and has nothing left.
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// A worker is dropped before its first poll: what waits does not wait for it.
#[test]
fn what_a_worker_was_hired_for_that_its_runtime_never_polled_is_done_in_the_next() {
    let home = runtime();
    let (queue, ticket) = home.block_on(async {
        let queue = tasks(1, 9);
        let ticket = queue.push(Task::Yield(0)).await.unwrap();
        (queue, ticket)
    });
    assert_eq!(queue.snapshot().workers, 1);
    drop(home);
    assert_eq!((queue.snapshot().workers, queue.snapshot().waiting), (0, 1));
    assert_eq!(runtime().block_on(ticket), Ok(0));
}

#[test]
fn a_push_within_another_runtime_moves_the_workers_there_when_theirs_has_gone() {
    let home = runtime();
    let queue = home.block_on(async { tasks(1, 9) });
    let other = runtime();
    drop(home);
    other.block_on(async {
        let ticket = queue.push(Task::Yield(3)).await.unwrap();
        assert_eq!(ticket.await, Ok(3));
        works_on(&queue).await;
    });
    drop(other);
    // Outside of any runtime: accepted, and it waits for one.
    let ticket = queue.try_push(Task::Yield(4)).unwrap();
    assert!(!ticket.is_settled());
    assert_eq!(runtime().block_on(ticket), Ok(4));
}

#[test]
fn handles_that_outlive_the_runtime_are_dropped_without_harm() {
    let home = threads(1);
    let queue = home.block_on(async {
        let queue = Queue::builder().outcomes(3).build(handler).unwrap();
        queue.push(Task::Never).await.unwrap().detach();
        queue
    });
    let (outcomes, drained) = (queue.outcomes(), queue.drained());
    let push = queue.push(Task::Never);
    let ticket = queue.try_push(Task::Never).unwrap();
    drop(home);
    let plain = std::thread::spawn(move || drop((ticket, push, drained, outcomes, queue)));
    plain.join().unwrap();
}

/// The future of an aborted item is dropped within the runtime's context, wherever it is
/// aborted from.
#[test]
fn an_item_aborted_from_a_plain_thread_is_dropped_in_the_context_of_its_runtime() {
    struct Spawns(mpsc::Sender<bool>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let inside = tokio::runtime::Handle::try_current().is_ok();
            let _ = self.0.send(inside);
        }
    }
    let home = threads(1);
    let (tell, told) = mpsc::channel();
    let queue = home.block_on(async {
        let queue = Queue::builder()
            .build(move |()| {
                let spawns = Spawns(tell.clone());
                async move {
                    let _spawns = spawns;
                    std::future::pending::<Result<(), String>>().await
                }
            })
            .unwrap();
        queue.push(()).await.unwrap().detach();
        while queue.snapshot().running == 0 {
            tokio::task::yield_now().await;
        }
        queue
    });
    queue.abort();
    assert!(told.recv().unwrap());
}

/// Trap 85: nobody waits for a thread that is blocked.
#[test]
fn a_handler_that_blocks_its_thread_is_left_behind_and_reported() {
    let home = threads(2);
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let queue: Queue<u32, u32, String> = home
        .block_on(async {
            Queue::builder().workers(1).build(move |n| {
                begun.send(()).unwrap();
                let _ = released.lock().unwrap().recv();
                async move { Ok(n) }
            })
        })
        .unwrap();
    let ticket = queue.try_push(1).unwrap();
    queue.try_push(2).unwrap().detach();
    has_begun.recv().unwrap();
    let report = home.block_on(queue.shutdown(Duration::from_millis(1)));
    assert_eq!((report.still_running, report.returned), (1, vec![2]));
    assert_eq!((report.counts.cancelled, report.counts.running), (1, 0));
    let error = home.block_on(ticket).unwrap_err();
    assert_eq!((error.is_cancelled(), error.attempts()), (true, 1));
    release.send(()).unwrap();
    while queue.snapshot().workers > 0 {
        std::thread::yield_now();
    }
    assert_eq!(
        queue.snapshot(),
        QueueSnapshot {
            workers: 0,
            ..report.counts
        }
    );
}

/// Producers, aborters, a reader of the stream and the workers, all on threads of their own.
#[test]
fn with_many_threads_every_item_has_exactly_one_outcome() {
    const PRODUCERS: u64 = 4;
    const EACH: u64 = crate::testing::rounds(2_000) as u64;
    let home = threads(2);
    let queue = home
        .block_on(async {
            Queue::builder()
                .workers(3)
                .capacity(5)
                .outcomes(7)
                .build(|n: u64| async move {
                    if n % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    assert!(n % 11 != 0, "eleven");
                    if n % 7 == 0 { Err("seven") } else { Ok(n) }
                })
        })
        .unwrap();
    let mut outcomes = queue.outcomes().unwrap();
    let taken = AtomicU64::new(0);
    let start = Barrier::new(1 + usize::try_from(PRODUCERS).unwrap());
    let streamed = std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (queue, taken, start, home) = (queue.clone(), &taken, &start, home.handle());
            scope.spawn(move || {
                start.wait();
                for n in 0..EACH {
                    let ticket = home.block_on(queue.push(n).priority(i32::from(n % 2 == 0)));
                    let ticket = ticket.unwrap();
                    match (n + producer) % 5 {
                        0 => ticket.abort(),
                        1 => ticket.cancel(),
                        2 => {
                            let _ = home.block_on(ticket);
                            taken.fetch_add(1, SeqCst);
                        }
                        3 => drop(queue.take_back(&ticket)),
                        _ => {}
                    }
                }
            });
        }
        let reader = scope.spawn(|| {
            start.wait();
            let mut ids = std::collections::HashSet::new();
            home.block_on(async {
                while let Some((id, _)) = outcomes.next().await {
                    assert!(ids.insert(id), "{id} twice");
                }
            });
            ids.len() as u64
        });
        // Whoever is the last producer closes the queue by going away.
        let counting = queue.clone();
        drop(queue);
        let shared = Arc::clone(counting.shared());
        drop(counting);
        let streamed = reader.join().unwrap();
        let counts = shared.inner.lock().state.snapshot();
        adds_up(&counts);
        assert_eq!(
            (counts.accepted, counts.settled()),
            (PRODUCERS * EACH, PRODUCERS * EACH)
        );
        streamed
    });
    assert_eq!(streamed + taken.load(SeqCst), PRODUCERS * EACH);
}

#[test]
fn a_shutdown_among_producers_on_other_threads_leaves_no_item_without_an_outcome() {
    for round in 0..50_u64 {
        let home = threads(2);
        let queue = home.block_on(async { tasks(2, 3) });
        let (settled, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        let report = std::thread::scope(|scope| {
            for _ in 0..3 {
                let (queue, home) = (queue.clone(), home.handle());
                let (settled, refused) = (&settled, &refused);
                scope.spawn(move || {
                    for n in 0..40 {
                        match home.block_on(queue.push(Task::Yield(n % 3))) {
                            Ok(ticket) => {
                                let _ = home.block_on(ticket);
                                settled.fetch_add(1, SeqCst);
                            }
                            Err(_) => {
                                refused.fetch_add(1, SeqCst);
                            }
                        }
                    }
                });
            }
            home.block_on(queue.shutdown(Duration::from_micros(round * 40)))
        });
        let counts = queue.snapshot();
        assert_eq!(counts.settled(), report.counts.settled());
        assert_eq!(counts.accepted, counts.settled(), "{counts:?}");
        assert_eq!(settled.load(SeqCst), counts.accepted);
        assert_eq!(settled.load(SeqCst) + refused.load(SeqCst), 120);
        assert_eq!(report.returned.len() as u64, counts.returned);
    }
}

struct Hold(Option<Tasks>);

thread_local!(static HOLD: RefCell<Hold> = const { RefCell::new(Hold(None)) });

impl Drop for Hold {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// Trap 80: by then tokio's own thread-local has gone, and nothing can be entered.
#[test]
fn the_last_handle_may_be_dropped_with_the_thread_that_holds_it() {
    let home = threads(1);
    let handle = home.handle().clone();
    let known = std::thread::spawn(move || {
        HOLD.with(|_| ()); // the first to come is the last to go
        let _inside = handle.enter();
        let queue = tasks(1, 9);
        queue.try_push(Task::Never).unwrap().detach();
        while queue.snapshot().running == 0 {
            std::thread::yield_now();
        }
        let shared = Arc::clone(queue.shared());
        HOLD.with(|hold| hold.borrow_mut().0 = Some(queue));
        shared
    });
    let shared = known.join().unwrap();
    let counts = shared.inner.lock().state.snapshot();
    assert_eq!((counts.cancelled, counts.running), (1, 0));
}

/// Trap 84: what is pushed without a runtime waits for the next one, as often as it happens.
#[test]
fn what_is_pushed_after_the_runtime_has_gone_waits_for_the_next_one() {
    let home = runtime();
    let queue = home.block_on(async { tasks(1, 9) });
    drop(home);
    let tickets = [1, 2, 3].map(|n| queue.try_push(Task::Yield(n)).unwrap());
    assert!(tickets.iter().all(|ticket| !ticket.is_settled()));
    let next = runtime();
    for (n, ticket) in (1..).zip(tickets) {
        assert_eq!(next.block_on(ticket), Ok(n));
    }
}

/// Who waits in another runtime learns that the workers' one has gone, and has the work done
/// there: whatever it waits for.
#[test]
fn those_who_wait_in_another_runtime_take_the_work_over_when_the_workers_one_ends() {
    for what in 0..4 {
        let (home, other) = (threads(1), runtime());
        let queue = home
            .block_on(async {
                Queue::builder()
                    .workers(1)
                    .capacity(1)
                    .outcomes(9)
                    .build(handler)
            })
            .unwrap();
        let mut outcomes = queue.outcomes().unwrap();
        let running = queue.try_push(Task::Never).unwrap();
        while queue.snapshot().running == 0 {
            std::thread::yield_now();
        }
        let waiting = queue.try_push(Task::Yield(2)).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let waits = std::thread::spawn(move || {
            other.block_on(async {
                let mut waiting = Some(waiting).filter(|_| what == 0);
                let push = queue.push(Task::Yield(3));
                let waited = async {
                    match what {
                        0 => assert_eq!(waiting.take().unwrap().await, Ok(2)),
                        1 => queue.drained().await,
                        2 => assert_eq!(push.await.unwrap().await, Ok(3)),
                        _ => while outcomes.next().await.unwrap().1.is_err() {},
                    }
                };
                let mut waited = pin!(waited);
                assert!(poll_once(&mut waited.as_mut()).await.is_pending());
                begun.send(()).unwrap();
                let limit = Duration::from_secs(20);
                tokio::time::timeout(limit, waited).await.unwrap();
            });
        });
        has_begun.recv().unwrap();
        // The item that runs goes unasked with its runtime.
        if what == 3 {
            running.detach();
            drop(home);
        } else {
            drop(home);
            let error = runtime().block_on(running).unwrap_err();
            assert_eq!((error.is_cancelled(), error.attempts()), (true, 1));
        }
        waits.join().unwrap();
    }
}

/// The handle of a runtime that has shut down can still poll: whoever does so waits, and does
/// not spin.
#[test]
fn a_ticket_polled_in_the_context_of_a_dead_runtime_waits() {
    let home = threads(1);
    let dead = home.handle().clone();
    let queue = home.block_on(async { tasks(1, 9) });
    drop(home);
    let mut ticket = queue.try_push(Task::Yield(1)).unwrap();
    let polls = AtomicU64::new(0);
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let done = dead.block_on(poll_fn(|cx| {
                if polls.fetch_add(1, SeqCst) == 1_000 {
                    tell.send(()).unwrap();
                    return Poll::Ready(Err(Error::cancelled()));
                }
                std::pin::Pin::new(&mut ticket).poll(cx)
            }));
            assert_eq!(done, Err(Error::cancelled()));
        });
        let spins = told.recv_timeout(Duration::from_millis(200));
        assert!(spins.is_err(), "it spins");
        queue.abort();
    });
    assert!(polls.load(SeqCst) < 10);
}

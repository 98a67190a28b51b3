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
    // That runtime has shut down; whatever it left undone was cancelled with it.
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
fn when_the_runtime_shuts_down_every_item_has_an_outcome_and_the_next_one_takes_over() {
    for multi in [false, true] {
        let home = if multi { threads(2) } else { runtime() };
        let (queue, tickets) = home.block_on(async {
            let queue = tasks(2, 9);
            let mut tickets = Vec::new();
            for task in [Task::Never, Task::Never, Task::Yield(1), Task::Never] {
                tickets.push(queue.push(task).await.unwrap());
            }
            while queue.snapshot().running < 2 {
                tokio::task::yield_now().await;
            }
            (queue, tickets)
        });
        drop(home);
        let counts = queue.snapshot();
        assert_eq!((counts.cancelled, counts.workers), (4, 0), "{counts:?}");
        let next = runtime();
        for (at, ticket) in tickets.into_iter().enumerate() {
            let error = next.block_on(ticket).unwrap_err();
            let attempts = u32::from(at < 2);
            assert_eq!((error.is_cancelled(), error.attempts()), (true, attempts));
        }
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
    assert_eq!(Arc::strong_count(&alive), 2);
}

/// The second worker is dropped before its first poll: what waits does not wait for it.
#[test]
fn a_worker_that_its_runtime_never_polled_leaves_nothing_in_line() {
    let home = runtime();
    let (queue, ticket) = home.block_on(async {
        let queue = tasks(1, 9);
        let ticket = queue.push(Task::Yield(0)).await.unwrap();
        (queue, ticket)
    });
    assert_eq!(queue.snapshot().workers, 1);
    drop(home);
    assert_eq!(
        (queue.snapshot().workers, queue.snapshot().cancelled),
        (0, 1)
    );
    assert_eq!(runtime().block_on(ticket), Err(Error::cancelled()));
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
    // Outside of any runtime: accepted, and cancelled, since there is nobody to do it.
    let ticket = queue.try_push(Task::Yield(3)).unwrap();
    assert!(ticket.is_settled());
    // By now no runtime is known, and it waits for one.
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
    const EACH: u64 = 2_000;
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

//! Everything is dropped, or aborted, at every poll.

use std::cell::Cell;
use std::rc::Rc;

use super::super::home::Hired;
use super::super::worker::Worker;
use super::*;
use crate::testing::{drop_at_every_poll, drop_beside};

/// Pushes from a thread without a runtime: nobody is hired for it.
fn push_aside(queue: &Tasks, tasks: &[Task]) -> Vec<Ticket<u32, String>> {
    std::thread::scope(|scope| {
        let push = || {
            tasks
                .iter()
                .map(|task| queue.try_push(task.clone()).unwrap())
                .collect()
        };
        scope.spawn(push).join().unwrap()
    })
}

/// A worker that the test polls and drops.
fn worker(queue: &Tasks) -> Worker<Task, u32, String> {
    let shared = queue.shared();
    assert!(shared.inner.lock().state.hire(true));
    Worker::new(Arc::clone(shared), Hired::default())
}

/// Built outside of the runtime, so that it hires nobody by itself before it is used in one.
fn aside(workers: usize, capacity: usize) -> Tasks {
    std::thread::scope(|scope| scope.spawn(|| tasks(workers, capacity)).join().unwrap())
}

/// Trap 79.
#[tokio::test(start_paused = true)]
async fn a_worker_aborted_at_any_poll_loses_no_item() {
    let current = RefCell::new(None);
    let drops = drop_at_every_poll(
        || {
            let queue = aside(1, 9);
            let todo = [
                Task::Yield(2),
                Task::Fail(1),
                Task::Panic,
                Task::PanicAtOnce,
                Task::Yield(0),
                Task::Sleep(1),
                Task::Yield(1),
            ];
            let tickets = push_aside(&queue, &todo);
            let worker = worker(&queue);
            *current.borrow_mut() = Some((queue, tickets));
            worker
        },
        async |polls| {
            let (queue, tickets) = current.borrow_mut().take().unwrap();
            adds_up(&queue.snapshot());
            assert_eq!(queue.snapshot().running, 0, "nobody works on it any more");
            let mut cancelled = 0;
            for (at, ticket) in tickets.into_iter().enumerate() {
                match (at, ticket.await) {
                    (_, Err(Error::Cancelled { attempts, .. })) => {
                        assert_eq!(attempts, 1);
                        cancelled += 1;
                    }
                    (1, Err(Error::Operation { .. }))
                    | (2 | 3, Err(Error::Panicked { .. }))
                    | (0 | 4..=6, Ok(_)) => {}
                    (at, other) => panic!("item {at} after {polls} polls: {other:?}"),
                }
            }
            assert!(cancelled <= 1, "{cancelled} after {polls} polls");
            assert_eq!(queue.snapshot().cancelled, cancelled);
            works_on(&queue).await;
        },
    )
    .await;
    assert!(drops > 10, "{drops}");
}

/// What an actor does to a queue while somebody waits at it.
async fn act(queue: Tasks, what: u8, entered: Rc<Cell<u64>>) {
    tokio::task::yield_now().await;
    match what {
        0 => drop(queue.take_waiting()),
        1 => queue.close(),
        2 => queue.cancel(),
        3 => queue.abort(),
        _ => {}
    }
    tokio::task::yield_now().await;
    if queue.try_push(Task::Yield(1)).is_ok() {
        entered.set(entered.get() + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_dropped_at_any_poll_has_put_nothing_in() {
    for what in 0..5 {
        let current = RefCell::new(None);
        let drops = drop_beside(
            || {
                let queue = tasks(1, 1);
                queue.try_push(Task::Sleep(3)).unwrap().detach();
                let (pushed, entered) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(1)));
                let known = (queue.clone(), Rc::clone(&pushed), Rc::clone(&entered));
                *current.borrow_mut() = Some(known);
                let push = queue.push(Task::Fail(9));
                let push = async move {
                    if let Ok(ticket) = push.await {
                        pushed.set(1);
                        ticket.detach();
                    }
                };
                (push, act(queue, what, entered))
            },
            async |polls| {
                let (queue, pushed, entered) = current.borrow_mut().take().unwrap();
                adds_up(&queue.snapshot());
                queue.drained().await;
                let counts = queue.snapshot();
                assert_eq!(counts.producers, 0);
                let accepted = pushed.get() + entered.get();
                assert_eq!(counts.accepted, accepted, "after {polls} polls");
                assert!(counts.failed <= pushed.get(), "{counts:?}");
                if what != 1 {
                    works_on(&queue).await;
                }
            },
        )
        .await;
        assert!(drops > 2, "{drops} for {what}");
    }
}

/// Room that was promised to a producer who goes away unpolled is not lost.
#[tokio::test(start_paused = true)]
async fn a_push_dropped_between_promise_and_poll_leaves_its_place_to_the_next() {
    let queue = tasks(1, 1);
    queue.push(Task::Yield(0)).await.unwrap().detach();
    let mut first = Box::pin(queue.push(Task::Fail(0)));
    let mut second = Box::pin(queue.push(Task::Yield(7)));
    for push in [&mut first, &mut second] {
        assert!(poll_once(push).await.is_pending());
    }
    queue.drained().await; // the room is the first one's now
    assert!(queue.try_push(Task::Fail(0)).is_err());
    drop(first);
    assert_eq!(second.await.unwrap().await, Ok(7));
    assert_eq!(queue.snapshot().failed, 0);
    works_on(&queue).await;
}

#[tokio::test(start_paused = true)]
async fn a_ticket_dropped_at_any_poll_changes_nothing_for_its_item() {
    for what in 2..5 {
        let current = RefCell::new(None);
        drop_beside(
            || {
                let queue = tasks(1, 4);
                let ticket = queue.try_push(Task::Yield(3)).unwrap();
                *current.borrow_mut() = Some(queue.clone());
                (ticket, act(queue, what, Rc::default()))
            },
            async |_| {
                let queue = current.borrow_mut().take().unwrap();
                queue.drained().await;
                let counts = queue.snapshot();
                assert_eq!((counts.accepted, counts.settled()), (2, 2), "{counts:?}");
                assert!(what < 4 || counts.done == 2);
                works_on(&queue).await;
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_outcome_goes_to_its_ticket_or_to_the_stream_and_never_to_both() {
    let current = RefCell::new(None);
    drop_beside(
        || {
            let queue = Queue::builder()
                .workers(2)
                .outcomes(9)
                .build(handler)
                .unwrap();
            let outcomes = queue.outcomes().unwrap();
            let ticket = queue.try_push(Task::Yield(3)).unwrap();
            let taken = Rc::new(Cell::new(0));
            *current.borrow_mut() = Some((queue.clone(), outcomes, Rc::clone(&taken)));
            let ticket = async move {
                ticket.await.unwrap();
                taken.set(1);
            };
            (ticket, act(queue, 9, Rc::default()))
        },
        async |_| {
            let (queue, mut outcomes, taken) = current.borrow_mut().take().unwrap();
            queue.close();
            let mut streamed = 0;
            while let Some((_, outcome)) = outcomes.next().await {
                assert!(outcome.is_ok());
                streamed += 1;
            }
            assert_eq!(streamed + taken.get(), 2);
            assert_eq!(queue.snapshot().done, 2);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_stream_dropped_or_its_next_at_any_poll_loses_no_outcome() {
    let current = RefCell::new(None);
    drop_beside(
        || {
            let queue = Queue::builder()
                .workers(1)
                .capacity(9)
                .outcomes(1)
                .build(handler)
                .unwrap();
            let mut outcomes = queue.outcomes().unwrap();
            for turns in 0..3 {
                queue.try_push(Task::Yield(turns)).unwrap().detach();
            }
            let read = Rc::new(Cell::new(0));
            *current.borrow_mut() = Some((queue.clone(), Rc::clone(&read)));
            let reader = async move {
                while outcomes.next().await.is_some() {
                    read.set(read.get() + 1);
                    if read.get() == 3 {
                        break;
                    }
                }
            };
            (reader, act(queue, 9, Rc::default()))
        },
        async |_| {
            let (queue, read) = current.borrow_mut().take().unwrap();
            // Without a reader nothing is kept, and nothing waits for room.
            queue.drained().await;
            assert_eq!(queue.snapshot().done, 4);
            assert!(read.get() <= 3);
            works_on(&queue).await;
        },
    )
    .await;

    let queue = Queue::builder().outcomes(9).build(handler).unwrap();
    let mut outcomes = queue.outcomes().unwrap();
    queue.push(Task::Yield(5)).await.unwrap().detach();
    let mut polls = 0;
    while crate::testing::run_for(1, crate::testing::Cut::Pending, outcomes.next())
        .await
        .is_none()
    {
        polls += 1;
        tokio::task::yield_now().await;
    }
    assert!(polls > 2, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn drained_dropped_at_any_poll_leaves_nobody_behind() {
    for what in 0..5 {
        let current = RefCell::new(None);
        drop_beside(
            || {
                let queue = tasks(2, 4);
                queue.try_push(Task::Sleep(2)).unwrap().detach();
                *current.borrow_mut() = Some(queue.clone());
                (queue.drained(), act(queue, what, Rc::default()))
            },
            async |_| {
                let queue = current.borrow_mut().take().unwrap();
                assert!(queue.shared().inner.lock().state.nobody_awaits_idle());
                queue.drained().await;
                if what != 1 {
                    works_on(&queue).await;
                }
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_dropped_at_any_poll_leaves_a_closed_queue_that_works_on() {
    for what in 0..5 {
        let current = RefCell::new(None);
        drop_beside(
            || {
                let queue = tasks(1, 4);
                for task in [Task::Yield(2), Task::Sleep(2), Task::Panic, Task::Yield(1)] {
                    queue.try_push(task).unwrap().detach();
                }
                *current.borrow_mut() = Some(queue.clone());
                let shut = queue.clone();
                let shutdown = async move {
                    shut.shutdown(Duration::from_millis(9)).await;
                };
                (shutdown, act(queue, what, Rc::default()))
            },
            async |polls| {
                let queue = current.borrow_mut().take().unwrap();
                adds_up(&queue.snapshot());
                assert!(queue.is_closed() || polls == 0);
                let report = queue.shutdown(Duration::MAX).await;
                assert_eq!(report.counts.settled(), report.counts.accepted);
                assert_eq!((report.returned.len(), report.still_running), (0, 0));
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_aborted_between_any_two_polls_has_one_outcome() {
    for asks in [false, true] {
        let current = RefCell::new(None);
        drop_at_every_poll(
            || {
                let builder = Queue::builder().workers(1);
                let queue = if asks {
                    builder.build_with(|task, _| handler(task)).unwrap()
                } else {
                    builder.build(handler).unwrap()
                };
                let ticket = queue.try_push(Task::Yield(4)).unwrap();
                *current.borrow_mut() = Some((queue, ticket));
                async {
                    for _ in 0..6 {
                        tokio::task::yield_now().await;
                    }
                }
            },
            async |_| {
                let (queue, ticket) = current.borrow_mut().take().unwrap();
                let was_settled = ticket.is_settled();
                ticket.abort();
                assert!(ticket.is_settled());
                let outcome = ticket.await;
                assert_eq!(outcome.is_ok(), was_settled);
                assert_eq!(queue.snapshot().cancelled, u64::from(!was_settled));
                works_on(&queue).await;
            },
        )
        .await;
    }
}

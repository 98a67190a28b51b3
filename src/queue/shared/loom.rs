//! Models of the line behind its lock: see `sync::model`. Whoever has pushed, and finds that a
//! worker is needed, works on its own thread, where tokio would run a task.

use std::future::poll_fn;
use std::task::Poll;

use super::*;
use crate::Refusal;
use crate::queue::home::Hired;
use crate::queue::worker::Worker;
use crate::queue::{Queue, QueueSnapshot};
use crate::sync::model::{block_on, bounded, exhaustive, exhaustive_or, give_up, spawn};

type Plain = Queue<u32, u32, ()>;

fn queue() -> Arc<Plain> {
    queue_of(|| std::future::ready(()))
}

/// One worker, room for one, and items that end when their part does.
fn queue_of<F>(part: fn() -> F) -> Arc<Plain>
where
    F: Future<Output = ()> + Send + 'static,
{
    let queue = Queue::builder()
        .workers(1)
        .capacity(1)
        .build(move |item: u32| async move {
            part().await;
            Ok::<_, ()>(item)
        });
    Arc::new(queue.unwrap())
}

/// Does what `staff` does: hires a worker if one is needed.
fn works(queue: &Plain) {
    let shared = queue.shared();
    let needed = {
        let mut inner = shared.inner.lock();
        let open = inner.outbox.has_room();
        inner.state.hire(open)
    };
    if needed {
        block_on(Worker::new(Arc::clone(shared), Hired::default()));
    }
}

/// Pushes one, and waits for its outcome.
fn pushes(queue: &Plain, item: u32) {
    let ticket = block_on(queue.push(item)).unwrap();
    works(queue);
    assert_eq!(block_on(ticket).ok(), Some(item));
}

fn adds_up(queue: &Plain, accepted: u64) {
    let s = queue.snapshot();
    assert_eq!((s.accepted, s.settled()), (accepted, accepted), "{s:?}");
    assert_eq!((s.waiting, s.running, s.workers, s.producers), (0, 0, 0, 0));
    assert_eq!(queue.shared().inner.lock().state.promised(), 0);
}

/// With room for one and one worker, both are served: room, work and outcomes are handed on.
/// Fails where `receive` retires without the lock under which it has found nothing.
#[test]
fn every_push_gets_room_and_an_outcome() {
    bounded(4, || {
        let queue = queue();
        let other = spawn(&queue, |queue| pushes(queue, 1));
        pushes(&queue, 2);
        other.join().unwrap();
        adds_up(&queue, 2);
    });
}

/// Who gives up while room is made leaves it to the next. Fails where `break_off` keeps what was
/// promised.
#[test]
fn room_passes_by_who_gives_up() {
    bounded(3, || {
        let queue = queue();
        let first = queue.try_push(1).unwrap();
        let gives_up = spawn(&queue, |queue| {
            if let Some(Ok(ticket)) = give_up(queue.push(2)) {
                works(queue);
                ticket.detach();
                return 1;
            }
            0
        });
        let works_first = spawn(&queue, works);
        pushes(&queue, 3);
        works_first.join().unwrap();
        let second = gives_up.join().unwrap();
        assert_eq!(block_on(first).ok(), Some(1));
        adds_up(&queue, 2 + second);
    });
}

/// A close reaches who waits for room. Fails where it forgets to wake them.
#[test]
fn a_close_reaches_who_waits_for_room() {
    exhaustive(|| {
        let queue = queue();
        let first = queue.try_push(1).unwrap();
        let closes = spawn(&queue, Queue::close);
        let rejected = block_on(queue.push(2)).err().unwrap();
        assert_eq!(rejected.reason, Refusal::ShutDown);
        closes.join().unwrap();
        assert!(queue.try_push(3).is_err());
        works(&queue);
        assert_eq!(block_on(first).ok(), Some(1));
        adds_up(&queue, 1);
    });
}

/// As [`queue`], with items that take two polls.
fn slow_queue() -> Arc<Plain> {
    queue_of(|| {
        let mut polled = false;
        poll_fn(move |cx| {
            if polled {
                return Poll::Ready(());
            }
            polled = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    })
}

/// An item that is aborted while it begins, rests or ends has one outcome, which its ticket is
/// told. Fails where `withdraw` does not tell it, and where `stop` does not wake the worker.
#[test]
fn an_abort_and_an_end_are_one_outcome() {
    exhaustive(|| {
        let queue = slow_queue();
        let ticket = queue.try_push(1).unwrap();
        let other = spawn(&queue, works);
        ticket.abort();
        let outcome = block_on(ticket);
        other.join().unwrap();
        works(&queue);
        adds_up(&queue, 1);
        let s = queue.snapshot();
        assert_eq!(s.done, u64::from(outcome.is_ok()));
        assert_eq!(s.cancelled, u64::from(outcome.is_err()));
    });
}

/// An abort reaches an item wherever it meets it. Fails where `put_back` does not look whether it
/// is to stop.
#[test]
fn an_abort_reaches_an_item_that_never_ends() {
    exhaustive(|| {
        let queue = queue_of(std::future::pending);
        let ticket = queue.try_push(1).unwrap();
        let other = spawn(&queue, works);
        ticket.abort();
        assert!(block_on(ticket).is_err());
        other.join().unwrap();
        works(&queue);
        adds_up(&queue, 1);
        assert_eq!(queue.snapshot().cancelled, 1);
    });
}

/// A shutdown that has no time left meets an item anywhere: it comes back, ends, or is cancelled,
/// and is counted once. Fails where `settle` counts an item that is not running any more.
#[test]
fn a_shutdown_counts_what_it_meets_once() {
    exhaustive_or(4, || {
        let queue = slow_queue();
        let ticket = queue.try_push(1).unwrap();
        let other = spawn(&queue, works);
        let report = block_on(queue.shutdown(Duration::ZERO));
        other.join().unwrap();
        works(&queue);
        adds_up(&queue, 1);
        assert_eq!(
            queue.snapshot(),
            QueueSnapshot {
                workers: 0,
                ..report.counts
            }
        );
        assert_eq!(report.counts.returned, report.returned.len() as u64);
        assert_eq!(block_on(ticket).is_ok(), report.counts.done == 1);
    });
}

//! Models: see `sync::model`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::*;
use crate::queue::state::{Arrival, Entry, Limits, State};
use crate::sync::model::{block_on, exhaustive, spawn};
use crate::time::Instant;

type Plain = Cell<u32, ()>;

fn cell() -> Arc<Plain> {
    let limits = Limits {
        capacity: 1,
        workers: 1,
        ageing: None,
    };
    let arrival = Arrival {
        priority: 0,
        now: Instant::NEVER,
        may_wait: false,
    };
    let mut state = State::<(), Rank, Waker>::new(limits);
    match state.enter(&mut None, arrival, &mut None, |rank| ((), rank)) {
        Entry::Entered(rank) => Arc::new(Cell::new(rank, None)),
        _ => unreachable!("there is room"),
    }
}

/// The outcome reaches the ticket that waits, once; who sees that it is settled finds it there.
/// Fails where `collect` looks and leaves its waker in two steps, and where `deliver` says that
/// it is settled before it holds the lock.
#[test]
fn an_outcome_reaches_who_waits_for_it() {
    exhaustive(|| {
        let cell = cell();
        let settles = spawn(&cell, |cell| {
            if let Delivery::Delivered(waker) = cell.deliver(Ok(7)) {
                waker.into_iter().for_each(Waker::wake);
            }
        });
        let outcome = block_on(poll_fn(|cx| {
            let settled = cell.is_settled();
            if let Some(outcome) = cell.collect(&mut Some(cx.waker().clone())) {
                return Poll::Ready(outcome);
            }
            assert!(!settled, "settled, and no outcome");
            Poll::Pending
        }));
        assert_eq!(outcome.ok(), Some(7));
        settles.join().unwrap();
        assert!(cell.collect(&mut None).is_none(), "twice");
    });
}

/// A ticket that is dropped while its item ends: the outcome is one side's. Fails where `let_go`
/// only looks, and leaves `Open` behind.
#[test]
fn an_outcome_is_the_tickets_or_comes_back() {
    exhaustive(|| {
        let cell = cell();
        let settles = spawn(&cell, |cell| {
            matches!(cell.deliver(Ok(7)), Delivery::NoTicket(Ok(7)))
        });
        let (left, _) = cell.let_go();
        let came_back = settles.join().unwrap();
        assert!(left.is_some() != came_back);
    });
}

/// The future of an item that is stopped is dropped by the worker or by who stops it, and who
/// has it knows of the attempts. Fails where `put_back` does not look whether it is to stop.
#[test]
fn a_future_that_is_stopped_is_one_sides() {
    exhaustive(|| {
        let cell = cell();
        let future: Running<u32, ()> = Box::pin(std::future::pending());
        assert!(cell.put_back(future, &mut None).is_none());
        let worker = spawn(&cell, |cell| match cell.take(Waker::noop()) {
            Step::Poll(future, _) => {
                cell.count_attempt();
                let waker = Waker::noop().clone();
                let back = cell.put_back(future, &mut Some(waker)).is_some();
                (true, back)
            }
            Step::Taken => (false, false),
            Step::Settled => unreachable!("nobody settles it"),
        });
        let stopped = cell.stop();
        let attempts = cell.attempts();
        let (polled, came_back) = worker.join().unwrap();
        assert!(stopped.is_some() != came_back);
        if stopped.is_some() {
            assert_eq!(attempts, u32::from(polled));
        }
        assert!(cell.is_stopped());
        assert!(matches!(cell.take(Waker::noop()), Step::Taken));
    });
}

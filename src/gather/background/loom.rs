//! Models of the line between the task and the consumer: see `sync::model`. The task itself is
//! tokio's, and is not run here.

use super::*;
use crate::sync::model::{block_on, bounded, exhaustive, give_up};
use crate::sync::thread;

/// The line, with a thread of the model in place of the task.
fn line(buffer: usize) -> (Line<u32, ()>, Background<u32, ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let mut line = None;
    let background = Background::new(buffer, |end| {
        line = Some(end);
        runtime.unwrap().spawn(async {})
    });
    (line.unwrap(), background)
}

fn sends(line: &Line<u32, ()>, number: u32) {
    block_on(poll_fn(|cx| {
        if line.has_room(cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    line.send((number as usize, Ok(number)));
}

/// Room for one: the task waits for the consumer, who waits for the task; at the end both know.
/// Fails where `has_room` or `poll_done` does not look again after it has left its waker.
#[test]
fn every_outcome_comes_once_and_in_order() {
    // All orders of two outcomes are too many.
    bounded(4, || {
        let (line, mut background) = line(1);
        let task = thread::spawn(move || {
            for number in 0..2 {
                sends(&line, number);
            }
            line.end(true, None);
        });
        for number in 0..2 {
            let (at, outcome) = block_on(background.next()).unwrap();
            assert_eq!((at, outcome.ok()), (number as usize, Some(number)));
        }
        assert!(block_on(background.next()).is_none());
        assert!(background.is_complete());
        task.join().unwrap();
    });
}

/// A task that ends without a word (its runtime has gone) leaves no consumer asleep, and one who
/// gave up before takes nothing away. Fails without the drop of `Line`.
#[test]
fn the_end_of_the_task_is_always_told() {
    exhaustive(|| {
        let (line, mut background) = line(2);
        let task = thread::spawn(move || {
            line.send((0, Ok(0)));
            drop(line);
        });
        let early = give_up(background.next());
        let mut seen = usize::from(matches!(early, Some(Some(_))));
        while block_on(background.next()).is_some() {
            seen += 1;
        }
        assert_eq!(seen, 1);
        assert!(!background.is_complete());
        task.join().unwrap();
    });
}

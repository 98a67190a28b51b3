//! The whole stack, dropped at every poll of every state, while a second call goes its way.

use std::cell::Cell;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

use crate::whole::Whole;

/// How far time goes between two rounds of polls.
const TICK: Duration = Duration::from_millis(250);
/// More rounds than any call takes.
const ROUNDS: usize = 64;

/// When the second call is polled in a round, and whether it is there at all.
#[derive(Clone, Copy, Debug)]
enum Other {
    Absent,
    Before,
    After,
    /// It starts first, so that the one to be dropped has to wait for it.
    Ahead,
    /// It is dropped together with the first.
    DroppedToo,
}

const OTHERS: [Other; 5] = [
    Other::Absent,
    Other::Before,
    Other::After,
    Other::Ahead,
    Other::DroppedToo,
];

/// Polls the call up to `polls` times, then drops it; `true` when it had ended before.
async fn dropped_after(polls: usize, other: Other) -> bool {
    let case = format!("dropped after {polls} polls, other: {other:?}");
    let whole = Whole::new();
    let (mine, theirs) = (Cell::new(0), Cell::new(0));
    let mut victim = Some(whole.call(&mine));
    let mut second = (!matches!(other, Other::Absent)).then(|| whole.call(&theirs));
    if let (Other::Ahead, Some(second)) = (other, &mut second) {
        assert!(second.poll().is_pending());
    }
    let mut ended = false;
    for round in 0..ROUNDS {
        if let (Other::Before | Other::Ahead, Some(call)) = (other, &mut second) {
            if let Poll::Ready(result) = call.poll() {
                assert_eq!(result, Ok(3), "{case}");
                second = None;
            }
        }
        if round == polls {
            let attempts = mine.get();
            victim = None;
            if matches!(other, Other::DroppedToo) {
                second = None;
            }
            if second.is_none() {
                whole.is_whole(&case);
            }
            sleep(TICK).await;
            assert_eq!(
                mine.get(),
                attempts,
                "{case}: nothing was started by the drop"
            );
        }
        if let Some(call) = &mut victim {
            if let Poll::Ready(result) = call.poll() {
                assert_eq!(result, Ok(3), "{case}");
                ended = true;
                victim = None;
            }
        }
        if let (Other::After | Other::DroppedToo, Some(call)) = (other, &mut second) {
            if let Poll::Ready(result) = call.poll() {
                assert_eq!(result, Ok(3), "{case}");
                second = None;
            }
        }
        sleep(TICK).await;
    }
    assert!(
        victim.is_none() && second.is_none(),
        "{case}: both have ended"
    );
    whole.is_whole(&case);
    ended
}

#[tokio::test(start_paused = true)]
async fn a_whole_stack_may_be_dropped_at_every_poll() {
    let mut points = 0;
    for other in OTHERS {
        let mut polls = 0;
        while !dropped_after(polls, other).await {
            polls += 1;
        }
        assert!(polls > 10, "{other:?}: only {polls} polls");
        points += polls;
    }
    println!("{points} points");
}

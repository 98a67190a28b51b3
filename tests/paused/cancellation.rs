//! The whole stack, dropped at every poll of every state, while a second call goes its way.

use std::task::Poll;
use std::time::Duration;

use mainstay::circuit_breaker::CircuitState;
use tokio::time::sleep;

use crate::support::Stepped;
use crate::whole::{Outcome, Whole};

/// How far time goes between two rounds of polls.
const TICK: Duration = Duration::from_millis(250);
/// More rounds than any two calls take.
const ROUNDS: u32 = 100;

/// When the second call is polled in a round, and whether it is there at all.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// Polls a call that may have ended. Its third attempt has to succeed.
fn step(call: &mut Option<Stepped<'_, Outcome>>, case: &str) {
    let polled = call.as_mut().map_or(Poll::Pending, Stepped::poll);
    if let Poll::Ready(result) = polled {
        assert_eq!(result, Ok(3), "{case}");
        *call = None;
    }
}

/// Drops a call after so many polls; `true` when it had ended before.
async fn dropped_after(polls: u32, other: Other, whole: &Whole) -> bool {
    let case = format!("dropped after {polls} polls, other: {other:?}");
    let mut victim = Some(whole.call(2));
    let mut second = (other != Other::Absent).then(|| whole.call(2));
    if other == Other::Ahead {
        step(&mut second, &case);
    }
    let mut ended = false;
    for round in 0..ROUNDS {
        if matches!(other, Other::Before | Other::Ahead) {
            step(&mut second, &case);
        }
        if round == polls {
            ended = victim.take().is_none();
            if other == Other::DroppedToo {
                second = None;
            }
            if second.is_none() {
                whole.holds_nothing(&case);
                break;
            }
        }
        step(&mut victim, &case);
        if matches!(other, Other::After | Other::DroppedToo) {
            step(&mut second, &case);
        }
        sleep(TICK).await;
    }
    assert!(second.is_none(), "{case}: the second call has ended");
    whole.breaker_counted(whole.ended.get(), &case);
    let (started, ended_attempts) = (whole.started.get(), whole.ended.get());
    sleep(ROUNDS * TICK).await;
    assert_eq!(whole.started.get(), started, "{case}: nothing goes on");
    whole.is_whole(&case).await;
    whole.breaker_counted(ended_attempts + 1, &case);
    ended
}

/// Tries every number of polls until the call has ended by itself; says how many that were.
async fn every_poll(other: Other, whole: impl Fn() -> Whole, check: impl Fn(&Whole)) -> u32 {
    for polls in 0.. {
        let whole = whole();
        let ended = dropped_after(polls, other, &whole).await;
        check(&whole);
        if ended {
            return polls;
        }
    }
    unreachable!("a call ends")
}

#[tokio::test(start_paused = true)]
async fn a_whole_stack_may_be_dropped_at_every_poll() {
    let mut points = 0;
    for other in OTHERS {
        // The one that is dropped may have been in the bulkhead's queue, with its permit
        // of the limiter: that stays spent. The last is the call that proves it whole.
        let dropped = if other == Other::DroppedToo { 2 } else { 1 };
        points += every_poll(other, Whole::new, |whole| {
            let started = whole.started.get() + 1;
            let spent = whole.spent();
            assert!(
                spent >= started && spent <= started + dropped,
                "{spent} for {started}"
            );
        })
        .await;
    }
    assert!(points > 80, "only {points} points");
}

/// As above, and each attempt waits for the limiter as well.
#[tokio::test(start_paused = true)]
async fn a_whole_stack_may_be_dropped_while_it_waits_for_its_rate() {
    let mut points = 0;
    for other in OTHERS {
        points += every_poll(other, Whole::paced, |_| ()).await;
    }
    assert!(points > 120, "only {points} points");
}

/// Trap 1, through the whole stack: a probe that is dropped gives its place back.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_at_any_poll_frees_its_place() {
    for polls in 0.. {
        let case = format!("dropped after {polls} polls");
        let whole = Whole::half_open().await;
        let mut probe = Some(whole.call(0));
        for _ in 0..polls {
            let polled = probe.as_mut().map_or(Poll::Pending, Stepped::poll);
            if polled.is_ready() {
                assert!(polls > 3, "only {polls} polls");
                assert_eq!(whole.breaker.state(), CircuitState::Closed);
                return;
            }
            assert_eq!(whole.breaker.state(), CircuitState::HalfOpen, "{case}");
            sleep(TICK).await;
        }
        drop(probe.take());
        whole.is_whole(&case).await;
    }
}

//! The decisions of one process, told the time, with a bucket that is made up.

use std::time::Duration;

use proptest::prelude::*;

use super::super::away::{Failure, Look, Presence};
use super::super::driver::Step;
use super::super::line::Entered;
use super::super::quota::Quota;
use super::state::{Answer, State};
use crate::error::Refusal;
use crate::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// Ten permits a second, five at once.
fn state() -> State<u32> {
    let quota = Quota::new(10, SECOND, 5).unwrap();
    State::new("me".to_owned(), quota, 8, Presence::new(SECOND))
}

#[track_caller]
fn enter(state: &mut State<u32>, permits: u32, until: Instant, now: Instant, whom: u32) -> u64 {
    match state.enter(permits, until, now, || whom) {
        Entered::Waits(id) => id,
        other => panic!("{other:?}"),
    }
}

/// What is asked for: costs in milliseconds.
#[track_caller]
fn asked(state: &mut State<u32>, now: Instant) -> Vec<u64> {
    match state.step(now) {
        Step::Ask(args) => args[5..]
            .chunks(3)
            .map(|call| call[0].parse::<u64>().unwrap() / 1000)
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn answer(state: &mut State<u32>, now: Instant, words: &[i64]) -> Vec<(u32, Answer)> {
    let mut news = Vec::new();
    state.answered(now, Ok(words), &mut news);
    news
}

#[test]
fn all_who_came_meanwhile_share_the_next_question() {
    let mut state = state();
    enter(&mut state, 1, at(0), at(0), 1);
    assert_eq!(asked(&mut state, at(0)), [100]);
    enter(&mut state, 2, at(0), at(0), 2);
    enter(&mut state, 3, at(0), at(0), 3);
    assert_eq!(
        answer(&mut state, at(1), &[7, 0, 0]),
        [(1, Answer::Granted)]
    );
    assert_eq!(asked(&mut state, at(1)), [200, 300]);
    let told = answer(&mut state, at(2), &[7, 0, 0, 5000]);
    let five = Duration::from_millis(5);
    assert_eq!(told, [(2, Answer::Granted), (3, Answer::Refused(five))]);
    assert_eq!(state.step(at(2)), Step::Done);
}

/// Trap 44: behind one who waits, it is known what a wait would be.
#[test]
fn whoever_cannot_be_served_in_time_is_refused_without_a_question() {
    let mut state = state();
    enter(&mut state, 5, at(9000), at(0), 1);
    asked(&mut state, at(0));
    enter(&mut state, 1, at(9000), at(0), 2);
    enter(&mut state, 1, at(400), at(0), 3);
    // The first is due at 300, the second at 400, and the third at 500.
    let told = answer(&mut state, at(0), &[7, 1, 300_000]);
    assert_eq!(told, [(3, Answer::Refused(Duration::from_millis(500)))]);
    assert_eq!(state.step(at(0)), Step::Sleep(at(300)));
    let refused = state.enter(2, at(500), at(100), || 4);
    let wait = Duration::from_millis(500);
    assert_eq!(refused, Entered::Refused(Refusal::rate_limited(wait)));
    enter(&mut state, 2, at(600), at(100), 5);
    assert_eq!(asked(&mut state, at(300)), [500, 100, 200]);
}

/// Trap 34.
#[test]
fn what_was_taken_for_one_who_has_gone_is_for_the_next() {
    let mut state = state();
    let gone = enter(&mut state, 2, at(9000), at(0), 1);
    enter(&mut state, 2, at(9000), at(0), 2);
    asked(&mut state, at(0));
    enter(&mut state, 1, at(9000), at(0), 3);
    assert_eq!(state.leave(gone), (Some(1), false));
    // For the first it was there, for the second only later.
    let told = answer(&mut state, at(1), &[7, 1, 0, 100_000]);
    assert_eq!(told, [(2, Answer::Granted)]);
    assert_eq!(asked(&mut state, at(1)), [100], "nothing is kept for later");
}

#[test]
fn whoever_is_first_after_one_who_has_gone_asks_at_once() {
    let mut state = state();
    let first = enter(&mut state, 5, at(9000), at(0), 1);
    enter(&mut state, 1, at(9000), at(0), 2);
    asked(&mut state, at(0));
    answer(&mut state, at(0), &[7, 1, 300_000]);
    assert_eq!(state.step(at(0)), Step::Sleep(at(300)));
    assert_eq!(state.leave(first), (Some(1), true));
    assert_eq!(asked(&mut state, at(1)), [100]);
}

#[test]
fn a_claim_is_taken_back_when_nobody_waits_any_more() {
    let mut state = state();
    let only = enter(&mut state, 5, at(9000), at(0), 1);
    asked(&mut state, at(0));
    answer(&mut state, at(0), &[7, 1, 300_000]);
    state.leave(only);
    assert_eq!(asked(&mut state, at(1)), [] as [u64; 0]);
    answer(&mut state, at(1), &[7, 0]);
    assert_eq!(state.step(at(1)), Step::Done);
}

#[test]
fn the_queue_is_bounded() {
    let mut state = state();
    for whom in 0..8 {
        enter(&mut state, 1, at(9000), at(0), whom);
    }
    let refused = state.enter(1, at(9000), at(0), || 9);
    assert_eq!(
        refused,
        Entered::Refused(Refusal::rate_limited(Duration::ZERO))
    );
    assert_eq!(state.queued(), (8, 8));
    assert_eq!(state.tally.refused, 1);
}

#[test]
fn whoever_is_due_just_in_time_waits() {
    let mut state = state();
    enter(&mut state, 5, at(9000), at(0), 1);
    enter(&mut state, 1, at(400), at(0), 2);
    asked(&mut state, at(0));
    // The first is due at 300, and so the second at 400.
    assert_eq!(answer(&mut state, at(0), &[7, 1, 300_000]), []);
    enter(&mut state, 1, at(500), at(0), 3);
    assert_eq!(state.queued().0, 3);
    let late = state.enter(1, at(599), at(0), || 4);
    let wait = Duration::from_millis(600);
    assert_eq!(late, Entered::Refused(Refusal::rate_limited(wait)));
}

#[test]
fn a_question_that_is_forgotten_is_asked_anew() {
    let mut state = state();
    enter(&mut state, 5, at(9000), at(0), 1);
    asked(&mut state, at(0));
    assert_eq!(answer(&mut state, at(0), &[7, 1, 300_000]), []);
    assert_eq!(state.step(at(0)), Step::Sleep(at(300)));
    state.forget_question();
    assert_eq!(asked(&mut state, at(0)), [500], "at once");
    state.forget_question();
    let mut news = Vec::new();
    state.answered(at(1), Ok(&[7, 0]), &mut news);
    assert_eq!((news, state.queued().0), (vec![], 1), "it was for nobody");
}

#[test]
fn a_probe_that_is_forgotten_is_one_that_was_never_asked() {
    let mut state = state();
    state.presence.failed(at(0), Failure::TimedOut);
    assert_eq!(state.look(at(1000)), Look::Away { probe: true });
    state.forget_question();
    assert_eq!(state.step(at(1000)), Step::Done);
    assert_eq!(state.look(at(1000)), Look::Away { probe: true });
}

#[test]
fn whoever_waits_is_let_go_of_when_the_task_is_gone() {
    let mut state = state();
    for whom in 1..=2 {
        enter(&mut state, 5, at(9000), at(0), whom);
    }
    asked(&mut state, at(0));
    answer(&mut state, at(0), &[7, 1, 300_000]);
    assert_eq!(state.stopped(), [1, 2]);
    assert_eq!((state.queued(), state.step(at(0))), ((0, 0), Step::Done));
}

#[test]
fn a_question_says_how_long_each_would_wait() {
    let mut state = state();
    enter(&mut state, 1, at(9001), at(0), 1);
    enter(&mut state, 1, Instant::NEVER, at(0), 2);
    let Step::Ask(args) = state.step(at(1)) else {
        panic!("somebody waits");
    };
    assert_eq!(args[..5], ["me", "1", "500000", "0", "250000"]);
    let forever = (1_u64 << 50).to_string();
    assert_eq!(
        args[5..],
        ["100000", "0", "9000000", "100000", "0", &forever]
    );
}

#[test]
fn what_was_asked_granted_and_refused_is_counted() {
    let mut state = state();
    for whom in 1..=3 {
        enter(&mut state, 1, at(0), at(0), whom);
    }
    asked(&mut state, at(0));
    answer(&mut state, at(0), &[7, 0, 0, 0, 100]);
    enter(&mut state, 1, at(0), at(0), 4);
    asked(&mut state, at(0));
    let tally = state.tally;
    let counts = (
        tally.questions,
        tally.granted,
        tally.refused,
        tally.failures,
    );
    assert_eq!(counts, (2, 2, 1, 0));
}

#[test]
fn one_failure_is_asked_again_and_two_are_away() {
    let mut state = state();
    enter(&mut state, 1, at(9000), at(0), 1);
    asked(&mut state, at(0));
    let mut news = Vec::new();
    state.answered(at(0), Err(Failure::Failed), &mut news);
    assert_eq!(news, []);
    assert_eq!(asked(&mut state, at(0)), [100]);
    state.answered(at(0), Err(Failure::Failed), &mut news);
    assert_eq!(news, [(1, Answer::Away)]);
    assert_eq!(state.step(at(0)), Step::Done);
}

#[test]
fn a_server_whose_clock_has_not_begun_is_heard() {
    let mut state = state();
    enter(&mut state, 1, at(9000), at(0), 1);
    asked(&mut state, at(0));
    let told = answer(&mut state, at(0), &[0, 0, 0]);
    assert_eq!(told, [(1, Answer::Granted)]);
}

/// Bad input: whatever the server says that makes no sense is a failure.
#[test]
fn an_answer_that_makes_no_sense_is_none() {
    for words in [
        &[][..],
        &[7],
        &[7, 0],
        &[7, 2, 0],
        &[7, 1],
        &[7, 0, 0, 0],
        &[7, 0, -1],
        &[-7, 0, 0],
    ] {
        let mut state = state();
        enter(&mut state, 1, at(9000), at(0), 1);
        asked(&mut state, at(0));
        assert_eq!(answer(&mut state, at(0), words), [], "{words:?}");
        assert_eq!(asked(&mut state, at(0)), [100], "it is asked again");
        assert_eq!(answer(&mut state, at(0), words), [(1, Answer::Away)]);
        assert_eq!(state.tally.failures, 2);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Enter(u32, u64),
    Leave(usize),
    Step,
    Answer,
    Fail,
    Pass(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..6_u32, 0..2000_u64).prop_map(|(permits, wait)| Op::Enter(permits, wait)),
        2 => (0..8_usize).prop_map(Op::Leave),
        4 => Just(Op::Step),
        4 => Just(Op::Answer),
        1 => Just(Op::Fail),
        3 => (0..200_u64).prop_map(Op::Pass),
    ];
    prop::collection::vec(op, 0..150)
}

/// A bucket in microseconds, as the script keeps it, without other processes.
struct Bucket {
    full: u64,
}

impl Bucket {
    fn answer(&mut self, now: u64, args: &[String]) -> (Vec<i64>, u64) {
        let numbers: Vec<u64> = args[1..].iter().map(|word| word.parse().unwrap()).collect();
        self.full = self.full.max(now);
        let (mut answer, mut booked) = (vec![0, 0], 0);
        for call in numbers[4..].chunks(3) {
            let wait = (self.full + call[0]).saturating_sub(now + numbers[1]);
            answer.push(i64::try_from(wait).unwrap());
            if wait == 0 {
                self.full += call[0];
                booked += call[0] / 100_000;
            } else if wait <= call[2] {
                answer[1] = 1;
                break;
            }
        }
        (answer, booked)
    }
}

/// What is under way: what was asked, and whether it was answered.
#[derive(Default)]
struct World {
    now: u64,
    asked: Option<Vec<String>>,
    waiting: Vec<(u64, u32, u32)>,
    told: Vec<u32>,
    last_granted: Option<u32>,
    granted: u64,
    booked: u64,
}

impl World {
    fn hear(&mut self, news: Vec<(u32, Answer)>) -> Result<(), TestCaseError> {
        for (whom, answer) in news {
            prop_assert!(!self.told.contains(&whom), "{whom} is told twice");
            self.told.push(whom);
            let place = self.waiting.iter().position(|each| each.1 == whom);
            let place = place.expect("it waits");
            let (_, _, permits) = self.waiting.remove(place);
            if answer == Answer::Granted {
                prop_assert!(Some(whom) > self.last_granted, "in order of arrival");
                self.last_granted = Some(whom);
                self.granted += u64::from(permits);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("redis"), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: everyone is told once or has left, in order; what
    /// is granted was booked; and in the end nobody is left waiting.
    #[test]
    fn everyone_is_answered_once_and_in_order(ops in ops()) {
        let mut state = state();
        let (mut world, mut bucket) = (World::default(), Bucket { full: 0 });
        let mut next = 0;
        let at = |micros: u64| Instant::from_nanos(micros * 1000);
        // In the end there is time for all.
        let end = std::iter::repeat_n([Op::Step, Op::Answer, Op::Pass(300)], 60).flatten();
        for op in ops.into_iter().chain(end) {
            let now = at(world.now);
            let mut news = Vec::new();
            match op {
                Op::Enter(permits, wait) => {
                    let until = at(world.now + wait * 1000);
                    let whom = next;
                    next += 1;
                    if let Entered::Waits(id) = state.enter(permits, until, now, || whom) {
                        world.waiting.push((id, whom, permits));
                    }
                }
                Op::Leave(nth) if nth < world.waiting.len() => {
                    let (id, whom, _) = world.waiting.remove(nth);
                    prop_assert_eq!(state.leave(id).0, Some(whom));
                }
                Op::Step if world.asked.is_none() => match state.step(now) {
                    Step::Ask(args) => world.asked = Some(args),
                    Step::Sleep(until) => prop_assert!(until > now),
                    Step::Done => prop_assert_eq!(state.queued().0, 0),
                },
                Op::Answer | Op::Fail => {
                    let Some(args) = world.asked.take() else { continue };
                    let (words, booked) = bucket.answer(world.now, &args);
                    // It was booked also where the answer is lost.
                    world.booked += booked;
                    let answer = match op {
                        Op::Answer => Ok(&words[..]),
                        _ => Err(Failure::Failed),
                    };
                    state.answered(now, answer, &mut news);
                }
                Op::Pass(millis) => world.now += millis * 1000,
                Op::Leave(_) | Op::Step => {}
            }
            world.hear(news)?;
            prop_assert!(world.granted <= world.booked);
        }
        prop_assert_eq!(state.queued().0, 0);
        prop_assert!(world.waiting.is_empty());
    }
}

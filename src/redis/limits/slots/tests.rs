//! The decisions of one process, told the time, with a server that is made up.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::away::{Failure, Look, Presence};
use super::super::driver::Step;
use super::super::line::Entered;
use super::leases::Life;
use super::state::{Answer, News, Settings, State};
use crate::error::Refusal;
use crate::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const LEASE: u64 = 12_000;
/// For its holder.
const HELD: u64 = 11_880;

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

type TestState = State<u32, u32>;

/// Four slots, a queue of three, a lease of twelve seconds.
fn state() -> TestState {
    let settings = Settings {
        me: "me".to_owned(),
        slots: 4,
        max_queue: 3,
        lease: Duration::from_millis(LEASE),
        poll_every: Duration::from_millis(25),
    };
    State::new(settings, Presence::new(SECOND))
}

#[track_caller]
fn enter(state: &mut TestState, weight: u32, whom: u32) -> u64 {
    match state.enter(weight, true, || (whom, whom)) {
        Entered::Waits(id) => id,
        other => panic!("{other:?}"),
    }
}

/// What is given back, renewed and asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Question {
    back: Vec<String>,
    renewed: Vec<String>,
    asked: Vec<String>,
}

fn read(args: &[String]) -> Question {
    let count = |at: usize| args[at].parse::<usize>().unwrap();
    let (back, rest) = args[7..].split_at(count(4));
    let (renewed, asked) = rest.split_at(count(5) * 2);
    assert_eq!(asked.len(), count(6) * 2);
    let names = |words: &[String]| words.iter().step_by(2).cloned().collect();
    Question {
        back: back.to_vec(),
        renewed: names(renewed),
        asked: names(asked),
    }
}

#[track_caller]
fn asked(state: &mut TestState, now: u64) -> Question {
    match state.step(at(now), &mut News::default()) {
        Step::Ask(args) => read(&args),
        other => panic!("{other:?}"),
    }
}

fn answer(state: &mut TestState, now: u64, words: &[i64]) -> News<u32, u32> {
    let mut news = News::default();
    state.answered(at(now), Ok(words), &mut news);
    news
}

fn fail(state: &mut TestState, now: u64, failure: Failure) -> News<u32, u32> {
    let mut news = News::default();
    state.answered(at(now), Err(failure), &mut news);
    news
}

#[test]
fn what_is_given_back_is_not_back_before_the_answer() {
    let (mut state, serial) = one_in();
    assert!(state.leases.give_back(serial, at(2)));
    asked(&mut state, 2);
    assert_eq!(state.returning(), 1);
    answer(&mut state, 3, &[7, 0, 0]);
    assert_eq!(state.returning(), 0);
}

#[test]
fn what_is_asked_for_one_who_has_gone_is_still_to_be_given_back() {
    let mut state = state();
    let id = enter(&mut state, 1, 1);
    asked(&mut state, 0);
    state.leave(id);
    assert_eq!((state.queued(), state.returning()), (0, 1));
    answer(&mut state, 1, &[7, 1, 0, 99]);
    assert_eq!(state.returning(), 1);
    asked(&mut state, 1);
    answer(&mut state, 2, &[7, 0, 0]);
    assert_eq!(state.returning(), 0);
}

/// One who is in, and the number of its lease.
fn one_in() -> (TestState, u64) {
    let mut state = state();
    enter(&mut state, 1, 1);
    asked(&mut state, 0);
    let news = answer(&mut state, 1, &[7, 1, 0, 99]);
    let [
        (
            1,
            Answer::Granted {
                serial,
                fence: 99,
                life: 1,
            },
        ),
    ] = news.answers[..]
    else {
        panic!("{news:?}");
    };
    assert_eq!(news.lives, [(1, Life::Until(at(HELD)))]);
    (state, serial)
}

#[test]
fn what_is_given_back_goes_to_the_next_in_the_same_question() {
    let (mut state, serial) = one_in();
    enter(&mut state, 4, 2);
    assert_eq!(asked(&mut state, 2).asked.len(), 1);
    answer(&mut state, 3, &[7, 1, 1, 0]);
    assert_eq!(state.step(at(3), &mut News::default()), Step::Sleep(at(28)));
    assert!(state.leases.give_back(serial, at(3)));
    let question = asked(&mut state, 4);
    assert_eq!((question.back.len(), question.asked.len()), (1, 1));
    let news = answer(&mut state, 5, &[7, 4, 0, 100]);
    assert!(matches!(news.answers[..], [(2, Answer::Granted { .. })]));
}

#[test]
fn a_lease_for_one_who_has_gone_is_given_back() {
    let mut state = state();
    let gone = enter(&mut state, 1, 1);
    let name = asked(&mut state, 0).asked;
    state.leave(gone);
    let news = answer(&mut state, 1, &[7, 1, 0, 99]);
    assert!(news.answers.is_empty() && news.lives.is_empty());
    assert_eq!(asked(&mut state, 1).back, name);
    answer(&mut state, 2, &[7, 0, 0]);
    assert_eq!(state.step(at(2), &mut News::default()), Step::Done);
}

#[test]
fn what_a_lost_answer_may_have_granted_is_given_back() {
    let mut state = state();
    enter(&mut state, 1, 1);
    let first = asked(&mut state, 0).asked;
    fail(&mut state, 1, Failure::Failed);
    let again = asked(&mut state, 1);
    assert_eq!(again.back, first);
    assert_ne!(again.asked, first, "under a new name");
    let news = fail(&mut state, 2, Failure::TimedOut);
    assert_eq!(news.answers, [(1, Answer::Away)]);
    // At once there is nothing to be asked; a second later both are.
    assert_eq!(
        state.step(at(2), &mut News::default()),
        Step::Sleep(at(1002))
    );
    assert_eq!(asked(&mut state, 1002).back.len(), 2);
    answer(&mut state, 1003, &[7, 0, 0]);
    assert_eq!(state.step(at(1003), &mut News::default()), Step::Done);
    assert!(!state.presence.is_away());
}

/// The process was stopped while its question was answered.
#[test]
fn a_lease_that_has_run_out_on_its_way_is_none() {
    let mut state = state();
    enter(&mut state, 1, 1);
    let first = asked(&mut state, 0).asked;
    let news = answer(&mut state, HELD, &[7, 1, 0, 99]);
    assert!(news.answers.is_empty());
    let again = asked(&mut state, HELD);
    assert_eq!((again.back, again.asked.len()), (first, 1));
}

/// What has run out while it was being renewed was lost, and stays so.
#[test]
fn a_renewal_that_is_answered_too_late_changes_nothing() {
    let (mut state, _) = one_in();
    assert_eq!(asked(&mut state, 4000).renewed.len(), 1);
    let news = answer(&mut state, HELD, &[7, 1, 0, 1]);
    assert_eq!(news.lives, [(1, Life::Lost)]);
}

#[test]
fn a_lease_that_redis_will_not_renew_is_lost() {
    let (mut state, serial) = one_in();
    asked(&mut state, 4000);
    let news = answer(&mut state, 4001, &[7, 4, 0, 0]);
    assert_eq!(news.lives, [(1, Life::Lost)]);
    assert!(!state.leases.give_back(serial, at(4001)));
}

#[test]
fn the_queue_is_bounded_as_soon_as_there_is_one() {
    let mut state = state();
    let full = Refusal::bulkhead_full(Duration::ZERO);
    for whom in 1..=5 {
        enter(&mut state, 4, whom);
    }
    asked(&mut state, 0);
    // The first is in, the second waits, and one more than there is room for goes.
    let news = answer(&mut state, 1, &[7, 4, 1, 99, 0]);
    assert_eq!((news.answers.len(), state.queued()), (2, 3));
    assert_eq!(news.answers[1], (5, Answer::Full));
    let refused = |state: &mut TestState, waits| state.enter(1, waits, || (9, 9));
    assert_eq!(refused(&mut state, true), Entered::Refused(full));
    assert_eq!(refused(&mut state, false), Entered::Refused(full));
    assert_eq!(
        state.enter(5, true, || (9, 9)),
        Entered::Refused(Refusal::too_large(5, 4))
    );
}

#[test]
fn who_needs_nothing_is_free_unless_others_wait() {
    let mut state = state();
    let nothing = |state: &mut TestState| state.enter(0, true, || (1, 1));
    assert_eq!(nothing(&mut state), Entered::Free);
    enter(&mut state, 1, 2);
    assert_eq!(nothing(&mut state), Entered::Waits(1));
}

#[test]
fn behind_one_who_waits_there_is_room_only_for_those_who_wait() {
    let mut state = state();
    enter(&mut state, 4, 1);
    asked(&mut state, 0);
    answer(&mut state, 1, &[7, 4, 1, 0]);
    let full = Entered::Refused(Refusal::bulkhead_full(Duration::ZERO));
    assert_eq!(state.enter(1, false, || (2, 2)), full);
    enter(&mut state, 1, 3);
    assert_eq!(state.queued(), 2);
}

#[test]
fn before_the_first_answer_a_thousand_more_may_wait_for_it() {
    let mut state = state();
    for whom in 0..3 + 1024 {
        enter(&mut state, 1, whom);
    }
    let full = Entered::Refused(Refusal::bulkhead_full(Duration::ZERO));
    assert_eq!(state.enter(1, true, || (9, 9)), full);
    assert_eq!((state.queued(), state.tally.refused), (1027, 1));
    let question = asked(&mut state, 0);
    assert_eq!(question.asked.len(), 64, "so many in one question");
}

#[test]
fn a_question_says_what_the_limit_is_and_how_long_a_claim_lives() {
    let mut state = state();
    enter(&mut state, 3, 1);
    let Step::Ask(args) = state.step(at(0), &mut News::default()) else {
        panic!("somebody waits");
    };
    let claim = "200000";
    assert_eq!(args[..7], ["me", "12000000", "4", claim, "0", "0", "1"]);
    assert_eq!(args[7..], ["me-1:3", "1"]);
}

#[test]
fn what_redis_said_last_is_kept_and_what_was_decided_is_counted() {
    let mut state = state();
    for whom in 1..=3 {
        enter(&mut state, 1, whom);
    }
    asked(&mut state, 0);
    let news = answer(&mut state, 1, &[7, 3, 0, 99, 100, 0]);
    assert_eq!((news.answers.len(), news.lives.len()), (3, 2));
    assert_eq!((state.slots(), state.used()), (4, 3));
    enter(&mut state, 1, 4);
    asked(&mut state, 2);
    fail(&mut state, 3, Failure::Failed);
    asked(&mut state, 3);
    fail(&mut state, 3, Failure::Failed);
    let tally = state.tally;
    let counts = (
        tally.questions,
        tally.granted,
        tally.refused,
        tally.failures,
    );
    assert_eq!(counts, (3, 2, 1, 2));
}

#[test]
fn a_claim_is_taken_back_when_nobody_waits_any_more() {
    let mut state = state();
    let only = enter(&mut state, 1, 1);
    asked(&mut state, 0);
    answer(&mut state, 1, &[7, 4, 1, 0]);
    assert_eq!(state.step(at(1), &mut News::default()), Step::Sleep(at(26)));
    assert_eq!(state.leave(only), (Some((1, 1)), true));
    assert_eq!(asked(&mut state, 1), Question::default());
    answer(&mut state, 2, &[7, 4, 0]);
    assert_eq!(state.step(at(2), &mut News::default()), Step::Done);
}

#[test]
fn who_leaves_from_behind_changes_nothing_for_the_first() {
    let mut state = state();
    enter(&mut state, 1, 1);
    let behind = enter(&mut state, 1, 2);
    asked(&mut state, 0);
    answer(&mut state, 1, &[7, 4, 1, 0]);
    assert_eq!(state.leave(behind), (Some((2, 2)), false));
    assert_eq!(state.leave(behind), (None, false));
    assert_eq!(state.step(at(1), &mut News::default()), Step::Sleep(at(26)));
}

#[test]
fn a_question_that_is_forgotten_is_taken_back_and_asked_anew() {
    let (mut state, serial) = one_in();
    enter(&mut state, 4, 2);
    asked(&mut state, 2);
    answer(&mut state, 3, &[7, 1, 1, 0]);
    let first = asked(&mut state, 4000);
    assert_eq!((first.renewed.len(), first.asked.len()), (1, 1));
    assert!(state.leases.give_back(serial, at(4000)));
    state.forget_question(at(5000));
    let again = asked(&mut state, 5000);
    assert_eq!((again.back.len(), again.asked.len()), (2, 1));
    assert!(again.back.contains(&first.asked[0]));
    state.forget_question(at(5000));
    // It may have been renewed until then, and the server's lasts so much longer.
    state.presence.failed(at(5000), Failure::TimedOut);
    assert_eq!(asked(&mut state, 16_999).back.len(), 3);
}

#[test]
fn a_probe_that_is_forgotten_is_one_that_was_never_asked() {
    let mut state = state();
    state.presence.failed(at(0), Failure::TimedOut);
    assert_eq!(state.look(at(1000)), Look::Away { probe: true });
    state.forget_question(at(1000));
    assert_eq!(state.step(at(1000), &mut News::default()), Step::Done);
    assert_eq!(state.look(at(1000)), Look::Away { probe: true });
}

/// What is given back while a question is under way lasts longer only if that one renewed.
#[test]
fn an_answer_to_a_question_without_renewals_makes_no_lease_last() {
    let (mut state, serial) = one_in();
    enter(&mut state, 4, 2);
    let asked_for = asked(&mut state, 2).asked;
    assert!(state.leases.give_back(serial, at(2)));
    fail(&mut state, 5000, Failure::TimedOut);
    assert_eq!(asked(&mut state, 12_500).back, asked_for);
}

#[test]
fn whoever_waits_is_let_go_of_when_the_task_is_gone() {
    let mut state = state();
    for whom in 1..=2 {
        enter(&mut state, 4, whom);
    }
    asked(&mut state, 0);
    answer(&mut state, 1, &[7, 4, 1, 0]);
    let mut news = News::default();
    state.stopped(&mut news);
    assert_eq!((news.left, state.queued()), (vec![1, 2], 0));
    assert_eq!(state.step(at(1), &mut News::default()), Step::Done);
}

#[test]
fn a_server_whose_clock_has_not_begun_is_heard() {
    let mut state = state();
    enter(&mut state, 1, 1);
    asked(&mut state, 0);
    assert_eq!(answer(&mut state, 1, &[0, 0, 0, 99]).answers.len(), 1);
}

/// Bad input: whatever the server says that makes no sense is a failure.
#[test]
fn an_answer_that_makes_no_sense_is_none() {
    for words in [
        &[][..],
        &[7, 0],
        &[7, 0, 0],
        &[7, 0, 1],
        &[7, 0, 2, 5],
        &[7, -1, 0, 5],
        &[7, 0, 0, -5],
        &[7, 0, 0, 5, 5],
    ] {
        let mut state = state();
        enter(&mut state, 1, 1);
        asked(&mut state, 0);
        answer(&mut state, 1, words);
        assert_eq!(state.tally.failures, 1, "{words:?}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Enter(u32, bool),
    Leave(usize),
    Drop(usize),
    Step,
    Answer,
    /// Whether it was executed all the same.
    Fail(bool, bool),
    Pass(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..5_u32, any::<bool>()).prop_map(|(weight, waits)| Op::Enter(weight, waits)),
        1 => (0..8_usize).prop_map(Op::Leave),
        3 => (0..8_usize).prop_map(Op::Drop),
        6 => Just(Op::Step),
        6 => Just(Op::Answer),
        1 => any::<(bool, bool)>().prop_map(|(done, slow)| Op::Fail(done, slow)),
        3 => (0..5000_u64).prop_map(Op::Pass),
    ];
    prop::collection::vec(op, 0..200)
}

/// What the script does, without other processes.
#[derive(Default)]
struct Server {
    leases: BTreeMap<String, u64>,
    fence: i64,
}

impl Server {
    fn used(&self) -> u64 {
        self.leases.keys().map(|lease| weight(lease)).sum()
    }

    fn answer(&mut self, now: u64, args: &[String]) -> Vec<i64> {
        let question = read(args);
        for lease in &question.back {
            self.leases.remove(lease);
        }
        self.leases.retain(|_, ends| *ends > now);
        let mut answer = vec![0, 0, 0];
        for lease in question.renewed {
            let room = self.leases.contains_key(&lease) || self.used() + weight(&lease) <= 4;
            if room {
                self.leases.insert(lease, now + LEASE);
            }
            answer.push(i64::from(room));
        }
        let waits = args[7..].iter().rev().step_by(2).take(question.asked.len());
        let waits: Vec<bool> = waits.map(|word| word == "1").collect();
        for (lease, waits) in question.asked.into_iter().zip(waits.into_iter().rev()) {
            if self.used() + weight(&lease) <= 4 {
                self.leases.insert(lease, now + LEASE);
                self.fence += 1;
                answer.push(self.fence);
            } else {
                answer.push(0);
                if waits {
                    answer[2] = 1;
                    break;
                }
            }
        }
        answer[1] = i64::try_from(self.used()).unwrap();
        answer
    }
}

fn weight(lease: &str) -> u64 {
    lease.rsplit(':').next().unwrap().parse().unwrap()
}

#[derive(Default)]
struct World {
    now: u64,
    asked: Option<Vec<String>>,
    waiting: Vec<(u64, u32, u32)>,
    /// By whom: number, weight, and until when it believes to have it.
    held: BTreeMap<u32, (u64, u32, u64)>,
}

impl World {
    fn hear(&mut self, news: News<u32, u32>) -> Result<(), TestCaseError> {
        for (whom, life) in news.lives {
            match life {
                Life::Until(until) => {
                    let held = self.held.entry(whom).or_default();
                    held.2 = until.as_nanos() / 1_000_000;
                }
                Life::Lost => {
                    let lost = self.held.remove(&whom);
                    let over = lost.is_none_or(|lost| lost.2 <= self.now);
                    prop_assert!(over, "the server had room for it");
                }
            }
        }
        for (whom, answer) in news.answers {
            let place = self.waiting.iter().position(|each| each.1 == whom);
            let (_, _, weight) = self.waiting.remove(place.expect("it is told once"));
            if let Answer::Granted { serial, life, .. } = answer {
                let held = self.held.get_mut(&life).expect("it has a lease");
                (held.0, held.1) = (serial, weight);
            } else {
                self.held.remove(&whom);
            }
        }
        Ok(())
    }

    /// The weight of all that holders believe to have.
    fn believed(&self) -> u64 {
        let alive = self.held.values().filter(|held| held.2 > self.now);
        alive.map(|held| u64::from(held.1)).sum()
    }
}

fn history(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut state = state();
    let (mut world, mut server) = (World::default(), Server::default());
    let mut next = 0;
    // In the end all is given back, and there is time to tell.
    let drops = std::iter::repeat_n([Op::Drop(0), Op::Leave(0)], 250).flatten();
    let end = std::iter::repeat_n([Op::Step, Op::Answer, Op::Drop(0), Op::Pass(400)], 12);
    for op in ops.into_iter().chain(drops).chain(end.flatten()) {
        let now = at(world.now);
        let mut news = News::default();
        match op {
            Op::Enter(weight, waits) => {
                let whom = next;
                next += 1;
                if let Entered::Waits(id) = state.enter(weight, waits, || (whom, whom)) {
                    world.waiting.push((id, whom, weight));
                }
            }
            Op::Leave(nth) if nth < world.waiting.len() => {
                let (id, whom, _) = world.waiting.remove(nth);
                prop_assert_eq!(state.leave(id).0, Some((whom, whom)));
            }
            Op::Drop(nth) => {
                let whom = world.held.keys().nth(nth).copied();
                if let Some((serial, _, _)) = whom.and_then(|whom| world.held.remove(&whom)) {
                    state.leases.give_back(serial, now);
                }
            }
            Op::Step if world.asked.is_none() => match state.step(now, &mut news) {
                Step::Ask(args) => world.asked = Some(args),
                Step::Sleep(until) => prop_assert!(until > now),
                Step::Done => prop_assert_eq!(state.queued(), 0),
            },
            Op::Answer => {
                let Some(args) = world.asked.take() else {
                    continue;
                };
                let words = server.answer(world.now, &args);
                state.answered(now, Ok(&words), &mut news);
            }
            Op::Fail(done, slow) => {
                let Some(args) = world.asked.take() else {
                    continue;
                };
                if done {
                    server.answer(world.now, &args);
                }
                let failure = if slow {
                    Failure::TimedOut
                } else {
                    Failure::Failed
                };
                state.answered(now, Err(failure), &mut news);
            }
            Op::Pass(millis) => world.now += millis,
            Op::Leave(_) | Op::Step => {}
        }
        world.hear(news)?;
        prop_assert!(server.used() <= 4);
        prop_assert!(world.believed() <= 4, "{:?}", world.held);
    }
    prop_assert_eq!(state.queued(), 0);
    // What has run out needs no telling.
    server.leases.retain(|_, ends| *ends > world.now);
    // What was lost by the time that had passed runs out on the server too.
    if state.leases.lost == 0 {
        prop_assert_eq!(&server.leases, &BTreeMap::new());
    }
    prop_assert_eq!(state.leases.returns(), 0);
    prop_assert_eq!(state.step(at(world.now), &mut News::default()), Step::Done);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("redis"), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: what holders believe to have is never more than the
    /// slots; everyone is told once or has left; and what is given back, the server hears of.
    #[test]
    fn no_slot_is_leaked_and_none_is_given_twice(ops in ops()) {
        history(ops)?;
    }
}

#[test]
fn a_lease_that_is_given_back_while_it_is_renewed_is_given_back_for_as_long_as_it_lasts() {
    use Op::{Answer, Drop, Enter, Pass, Step};
    let renewed_late = vec![
        Enter(1, false),
        Step,
        Answer,
        Pass(4000),
        Step,
        Drop(0),
        Pass(4622),
        Pass(4193),
        Pass(2785),
    ];
    history(renewed_late).unwrap();
}

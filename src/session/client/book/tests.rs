use proptest::prelude::*;

use super::*;
use crate::models::{Move, moves};
use crate::retry::{Backoff, Jitter};

const SECOND: Duration = Duration::from_secs(1);

const RULES: Rules = Rules {
    concurrency: 2,
    max_attempts: 3,
    backoff: Backoff::constant(SECOND).jitter(Jitter::None),
    looks: 2,
};

const fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn id(n: u8) -> SessionId {
    SessionId::new(format!("s{n}"))
}

fn session(n: u8) -> Target {
    Target::Session(id(n))
}

fn creation(n: u8) -> Target {
    Target::Creation(format!("c{n}").into())
}

fn letting_go(sessions: u8) -> Book {
    let mut book = Book::new(RULES);
    for n in 0..sessions {
        assert!(book.hold(&id(n), at(0)));
        assert!(book.let_go(&id(n), at(u64::from(n))));
    }
    book
}

const GONE: End = End::Gone { before: false };

#[test]
fn a_session_has_one_owner() {
    let mut book = Book::new(RULES);
    assert!(book.hold(&id(1), at(0)));
    assert!(!book.hold(&id(1), at(0)));
    book.let_go(&id(1), at(0));
    assert!(!book.hold(&id(1), at(0)), "it is about to end");
    assert!(!book.give_away(&id(1)));
}

#[test]
fn the_one_that_was_let_go_of_first_ends_first_and_so_many_at_once() {
    let mut book = letting_go(3);
    assert_eq!(book.start(at(9)), Some(session(0)));
    assert_eq!(book.start(at(9)), Some(session(1)));
    assert_eq!(book.start(at(9)), None);
    assert_eq!(book.next_due(), None, "there is no room");
    assert_eq!(book.ended(&session(0), GONE, at(9), 0), Course::Done);
    assert_eq!(book.start(at(9)), Some(session(2)));
}

#[test]
fn a_failure_is_tried_again_later_and_given_up_in_the_end() {
    let mut book = letting_go(1);
    for failures in 1..3 {
        let now = at(10 * u64::from(failures));
        assert!(book.start(now).is_some());
        let course = book.ended(&session(0), End::Failed(None), now, 0);
        assert_eq!(course, Course::Again(failures));
        assert_eq!(book.start(now), None);
        assert_eq!(book.next_due(), Some(now.saturating_add(SECOND)));
    }
    assert!(book.start(at(99)).is_some());
    let course = book.ended(&session(0), End::Failed(None), at(99), 0);
    assert_eq!(course, Course::GivenUp(3));
    assert!(book.is_empty());
    assert_eq!(book.snapshot().given_up, 1);
}

#[test]
fn a_time_that_was_named_is_obeyed_even_in_a_hurry() {
    let mut book = letting_go(1);
    assert!(book.start(at(91)).is_some());
    let end = End::Failed(Some(9 * SECOND));
    assert_eq!(book.ended(&session(0), end, at(91), 0), Course::Again(1));
    book.hurry(at(92));
    assert_eq!(book.next_due(), Some(at(100)));
}

#[test]
fn what_comes_after_the_end_of_all_ends_too() {
    let mut book = Book::new(RULES);
    book.end_all(at(1));
    assert!(book.hold(&id(1), at(2)), "it has an owner all the same");
    assert_eq!(book.start(at(2)), Some(session(1)));
    assert!(book.let_go(&id(1), at(3)));
    assert_eq!(book.ended(&session(1), GONE, at(4), 0), Course::Done);
    assert!(book.is_empty());
}

#[test]
fn in_a_hurry_the_next_try_is_at_once() {
    let mut book = letting_go(1);
    assert!(book.start(at(5)).is_some());
    book.ended(&session(0), End::Failed(None), at(5), 0);
    assert_eq!(book.start(at(5)), None);
    book.hurry(at(5));
    assert!(book.start(at(5)).is_some());
}

#[test]
fn a_search_ends_what_it_finds_and_then_looks_until_there_is_nothing() {
    let mut book = Book::new(RULES);
    book.search("c1".into(), Some(id(1)), at(0));
    assert_eq!(book.start(at(0)), Some(creation(1)));
    let found = End::Looked(vec![id(1), id(2)]);
    assert_eq!(book.ended(&creation(1), found, at(0), 0), Course::Again(1));
    assert_eq!(
        book.start(at(0)),
        Some(session(2)),
        "and not the one that is kept"
    );
    assert_eq!(book.ended(&session(2), GONE, at(0), 0), Course::Done);
    for looks in 1..=2 {
        let now = at(10 * looks);
        assert_eq!(book.start(now), Some(creation(1)));
        book.ended(&creation(1), End::Looked(vec![id(1)]), now, 0);
    }
    assert!(book.is_empty());
    assert_eq!((book.snapshot().found, book.snapshot().deleted), (1, 1));
}

#[test]
fn in_a_hurry_one_look_is_enough() {
    let mut book = Book::new(RULES);
    book.hurry(at(0));
    book.search("c1".into(), None, at(0));
    assert!(book.start(at(0)).is_some());
    let course = book.ended(&creation(1), End::Looked(vec![]), at(0), 0);
    assert_eq!(course, Course::Done);
    assert!(book.is_empty());
}

#[test]
fn what_is_found_and_held_stays() {
    let mut book = Book::new(RULES);
    book.hold(&id(2), at(0));
    book.search("c1".into(), None, at(0));
    assert!(book.start(at(0)).is_some());
    book.ended(&creation(1), End::Looked(vec![id(2)]), at(0), 0);
    assert_eq!(book.snapshot().held, 1);
    assert_eq!(book.snapshot().waiting, 0);
}

#[test]
fn who_lets_go_after_the_abort_hears_that_it_is_given_up() {
    let mut book = Book::new(RULES);
    book.abort();
    book.hold(&id(1), at(0));
    assert!(!book.let_go(&id(1), at(0)));
    assert_eq!(book.snapshot().given_up, 1);
}

#[test]
fn an_abort_gives_up_all_that_there_is_and_all_that_comes() {
    let mut book = letting_go(2);
    book.hold(&id(7), at(0));
    book.search("c1".into(), None, at(0));
    assert!(book.start(at(9)).is_some());
    assert!(!book.is_aborted() && !book.is_empty());
    assert_eq!(book.abort(), 4);
    assert!(book.is_aborted() && book.is_empty() && !book.has_work());
    assert_eq!((book.start(at(9)), book.next_due()), (None, None));
    book.search("c2".into(), None, at(9));
    assert_eq!((book.is_empty(), book.snapshot().given_up), (true, 5));
    book.end_all(at(9));
    assert!(book.hold(&id(8), at(9)));
    assert!(!book.has_work(), "nobody would end it");
}

#[test]
fn a_snapshot_counts_each_by_where_it_stands() {
    let mut book = letting_go(4);
    for n in 10..15 {
        book.hold(&id(n), at(0));
    }
    book.closing(&id(10));
    assert_eq!(book.start(at(9)), Some(session(0)));
    assert_eq!(book.start(at(9)), Some(session(1)));
    book.search("c1".into(), None, at(9));
    let now = book.snapshot();
    assert_eq!((now.held, now.waiting, now.ending), (4, 2, 3));
    assert_eq!((now.searching, now.in_flight()), (1, 10));
    book.ended(&session(0), End::Gone { before: true }, at(9), 0);
    book.ended(&session(1), End::Failed(None), at(9), 0);
    book.stranded();
    let now = book.snapshot();
    assert_eq!((now.deleted, now.already_gone), (1, 1));
    assert_eq!((now.failures, now.stranded, now.given_up), (1, 1, 0));
}

#[test]
fn the_delays_between_tries_are_the_back_offs() {
    let backoff = Backoff::exponential(SECOND)
        .max_delay(64 * SECOND)
        .jitter(Jitter::None);
    let (looks, max_attempts) = (9, 99);
    let mut book = Book::new(Rules {
        max_attempts,
        backoff,
        looks,
        ..RULES
    });
    book.search("c1".into(), None, at(0));
    book.hold(&id(1), at(0));
    book.let_go(&id(1), at(0));
    let mut now = at(0);
    for wait in [1, 2, 4, 8, 16, 32, 64, 64] {
        assert_eq!(book.start(now), Some(session(1)));
        assert_eq!(book.start(now), Some(creation(1)));
        book.ended(&session(1), End::Failed(None), now, 0);
        book.ended(&creation(1), End::Looked(vec![]), now, 0);
        now = now.saturating_add(wait * SECOND);
        assert_eq!(book.next_due(), Some(now));
    }
}

/// Something that happens to a book.
#[derive(Clone, Debug)]
enum Event {
    Hold(u8),
    LetGo(u8),
    GiveAway(u8),
    Closing(u8),
    Gone(u8),
    Search(Option<u8>),
    Start,
    Ended(u8, Answer),
    Interrupted(u8),
    Hurry,
    EndAll,
    Pass(Move),
}

#[derive(Clone, Debug)]
enum Answer {
    Gone,
    Found(Vec<u8>),
    Failed(Option<u64>),
}

fn event() -> impl Strategy<Value = Event> {
    let span = || prop::option::of(0..5u64);
    let answer = prop_oneof![
        3 => Just(Answer::Gone),
        2 => prop::collection::vec(0..4u8, 0..3).prop_map(Answer::Found),
        2 => span().prop_map(Answer::Failed),
    ];
    prop_oneof![
        4 => (0..4u8).prop_map(Event::Hold),
        4 => (0..4u8).prop_map(Event::LetGo),
        1 => (0..4u8).prop_map(Event::GiveAway),
        1 => (0..4u8).prop_map(Event::Closing),
        1 => (0..4u8).prop_map(Event::Gone),
        1 => prop::option::of(0..4u8).prop_map(Event::Search),
        6 => Just(Event::Start),
        6 => (any::<u8>(), answer).prop_map(|(which, answer)| Event::Ended(which, answer)),
        1 => any::<u8>().prop_map(Event::Interrupted),
        1 => Just(Event::Hurry),
        1 => Just(Event::EndAll),
        4 => moves(3 * SECOND).prop_map(Event::Pass),
    ]
}

/// The slow one: a list, looked through each time.
#[derive(Default)]
struct Model {
    entries: Vec<(Target, Entry)>,
    hurried: bool,
    ending: bool,
}

impl Model {
    fn find(&mut self, target: &Target) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        entries
            .find(|(other, _)| other == target)
            .map(|(_, entry)| entry)
    }

    fn remove(&mut self, target: &Target) {
        self.entries.retain(|(other, _)| other != target);
    }

    fn stages(&self) -> Vec<(Target, Stage)> {
        let mut stages: Vec<_> = self
            .entries
            .iter()
            .map(|(t, e)| (t.clone(), e.stage))
            .collect();
        stages.sort_by(|a, b| a.0.cmp(&b.0));
        stages
    }

    fn running(&self) -> Vec<Target> {
        let running = self.stages().into_iter();
        let running = running.filter(|(_, stage)| *stage == Stage::Running);
        running.map(|(target, _)| target).collect()
    }

    fn first_due(&self) -> Option<(Instant, Target)> {
        let due = self
            .entries
            .iter()
            .filter_map(|(target, entry)| match entry.stage {
                Stage::Due { at, .. } => Some((at, target.clone())),
                _ => None,
            });
        due.min()
    }

    fn again(&mut self, target: &Target, after: Option<u64>, now: Instant) {
        let wait = after.map_or(SECOND, Duration::from_secs);
        let at = now.saturating_add(wait);
        if let Some(entry) = self.find(target) {
            entry.stage = Stage::Due {
                at,
                named: after.is_some(),
            };
        }
    }

    fn failed(&mut self, target: &Target, after: Option<u64>, now: Instant) {
        let Some(entry) = self.find(target) else {
            return;
        };
        entry.failures += 1;
        entry.empty = 0;
        if entry.failures >= RULES.max_attempts {
            self.remove(target);
        } else {
            self.again(target, after, now);
        }
    }

    fn ended(&mut self, target: &Target, answer: &Answer, now: Instant) {
        let hurried = self.hurried;
        match answer {
            Answer::Gone => self.remove(target),
            Answer::Failed(after) => self.failed(target, *after, now),
            Answer::Found(found) => {
                let kept = self.find(target).unwrap().kept.clone();
                let strays = found
                    .iter()
                    .map(|n| id(*n))
                    .filter(|id| kept.as_ref() != Some(id));
                let strays: Vec<SessionId> = strays.collect();
                for id in &strays {
                    let stray = Target::Session(id.clone());
                    if self.find(&stray).is_none() {
                        let due = Stage::Due {
                            at: now,
                            named: false,
                        };
                        self.entries.push((stray, Entry::new(due, None)));
                    }
                }
                if !strays.is_empty() {
                    return self.failed(target, None, now);
                }
                let entry = self.find(target).unwrap();
                entry.empty += 1;
                if entry.empty >= if hurried { 1 } else { RULES.looks } {
                    self.remove(target);
                } else {
                    self.again(target, None, now);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("session"), ..ProptestConfig::default() })]

    #[test]
    fn the_book_is_a_list_that_is_looked_through(events in prop::collection::vec(event(), 0..80)) {
        let mut book = Book::new(RULES);
        let mut model = Model::default();
        let mut now = at(1);
        let mut searched = 0;
        for event in events {
            match event {
                Event::Pass(by) => now = Instant::from_nanos(by.from(now.as_nanos())),
                Event::Hold(n) => {
                    let new = model.find(&session(n)).is_none();
                    if new {
                        let stage = if model.ending { Stage::due(now) } else { Stage::Held };
                        model.entries.push((session(n), Entry::new(stage, None)));
                    }
                    prop_assert_eq!(book.hold(&id(n), now), new);
                }
                Event::LetGo(n) => {
                    if let Some(entry) = model.find(&session(n)) {
                        if matches!(entry.stage, Stage::Held | Stage::Closing) {
                            entry.stage = Stage::Due { at: now, named: false };
                        }
                    }
                    prop_assert!(book.let_go(&id(n), now));
                }
                Event::GiveAway(n) => {
                    let held = model.find(&session(n)).is_some_and(|e| e.stage == Stage::Held);
                    if held {
                        model.remove(&session(n));
                    }
                    prop_assert_eq!(book.give_away(&id(n)), held);
                }
                Event::Closing(n) => {
                    if let Some(entry) = model.find(&session(n)) {
                        if entry.stage != Stage::Running {
                            entry.stage = Stage::Closing;
                        }
                    }
                    book.closing(&id(n));
                }
                Event::Gone(n) => {
                    let due = |e: &mut Entry| matches!(e.stage, Stage::Due { .. });
                    if model.find(&session(n)).is_some_and(due) {
                        model.remove(&session(n));
                    }
                    book.gone(&id(n));
                }
                Event::Search(kept) => {
                    // Each creation has a key of its own.
                    searched += 1;
                    let (key, kept) = (creation(searched), kept.map(id));
                    let due = Stage::Due { at: now, named: false };
                    model.entries.push((key, Entry::new(due, kept.clone())));
                    book.search(format!("c{searched}").into(), kept, now);
                }
                Event::Start => {
                    let room = model.running().len() < RULES.concurrency;
                    let first = model.first_due().filter(|(at, _)| room && *at <= now);
                    let first = first.map(|(_, target)| target);
                    if let Some(target) = &first {
                        model.find(target).unwrap().stage = Stage::Running;
                    }
                    prop_assert_eq!(book.start(now), first);
                }
                Event::Ended(which, answer) => {
                    let running = model.running();
                    let Some(target) = running.get(which as usize % running.len().max(1)) else {
                        continue;
                    };
                    let answer = match (target, answer) {
                        (Target::Session(_), Answer::Found(_)) => Answer::Gone,
                        (Target::Creation(_), Answer::Gone) => Answer::Found(vec![]),
                        (_, answer) => answer,
                    };
                    let end = match &answer {
                        Answer::Gone => GONE,
                        Answer::Found(found) => End::Looked(found.iter().map(|n| id(*n)).collect()),
                        Answer::Failed(after) => End::Failed(after.map(Duration::from_secs)),
                    };
                    model.ended(target, &answer, now);
                    book.ended(target, end, now, 0);
                }
                Event::Interrupted(which) => {
                    let running = model.running();
                    let Some(target) = running.get(which as usize % running.len().max(1)) else {
                        continue;
                    };
                    model.find(target).unwrap().stage = Stage::Due { at: now, named: false };
                    book.interrupted(target, now);
                }
                Event::Hurry => {
                    model.hurried = true;
                    for (_, entry) in &mut model.entries {
                        if let Stage::Due { named: false, .. } = entry.stage {
                            entry.stage = Stage::Due { at: now, named: false };
                        }
                    }
                    book.hurry(now);
                }
                Event::EndAll => {
                    model.ending = true;
                    for (_, entry) in &mut model.entries {
                        if entry.stage == Stage::Held {
                            entry.stage = Stage::Due { at: now, named: false };
                        }
                    }
                    book.end_all(now);
                }
            }
            let stages: Vec<_> = book.entries.iter().map(|(t, e)| (t.clone(), e.stage)).collect();
            prop_assert_eq!(stages, model.stages());
            prop_assert_eq!(book.running, model.running().len());
            let room = book.running < RULES.concurrency;
            let first = model.first_due().map(|(at, _)| at);
            prop_assert_eq!(book.next_due(), first.filter(|_| room));
            prop_assert_eq!(book.has_work(), first.is_some());
        }
    }
}

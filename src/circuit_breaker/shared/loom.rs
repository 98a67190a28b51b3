//! Models: see `sync::model`.
//!
//! The law of most of them is one: whatever threads do at once, the breaker ends as the pure
//! state does that is told the same one after the other, in some order of which each thread's
//! own is a part. So nothing is lost or counted twice, nothing is decided on a part of the
//! window, and nothing of an older generation counts.

use std::sync::Mutex as Plain;

use super::*;
use crate::circuit_breaker::classify::Cancelled;
use crate::circuit_breaker::model::{FAILED, OK, START, state_with};
use crate::circuit_breaker::state::{Look, Rules};
use crate::circuit_breaker::window::Window;
use crate::retry::{Backoff, Jitter};
use crate::sync::model::{bounded, exhaustive, spawn};

const RULES: Rules = Rules {
    failure_rate: Some(0.5),
    slow_rate: None,
    consecutive_failures: None,
    minimum_calls: 2,
    probes: 1,
    half_open_limit: Duration::from_secs(60),
};

#[derive(Clone, Copy)]
enum Op {
    /// A call of the first generation ends, at a time.
    End(Option<Outcome>, Instant),
    Order(fn(&mut State)),
}

const WELL: Op = Op::End(OK, START);
const BADLY: Op = Op::End(FAILED, START);
const RESET: Op = Op::Order(State::reset);

/// How it all ended, and what the hook was told.
type Ended = (Look, usize);

struct Breaker {
    shared: Shared,
    told: Arc<Plain<Vec<StateChange>>>,
}

/// A breaker that is open for no time at all.
fn state(rules: Rules, window: Window) -> State {
    let no_time = Backoff::constant(Duration::ZERO).jitter(Jitter::None);
    state_with(rules, window, no_time)
}

impl Breaker {
    fn new(state: State, timed_window: bool) -> Self {
        let measure = Measure {
            slower_than: Measure::NEVER_SLOW,
            cancelled: Cancelled::Ignore,
            timed_window,
        };
        let told: Arc<Plain<Vec<StateChange>>> = Arc::default();
        let log = Arc::clone(&told);
        let hook = move |change: &StateChange| log.lock().unwrap().push(*change);
        let shared = Shared::new("".into(), state, measure, Some(Arc::new(hook)));
        Self { shared, told }
    }

    fn run(&self, ops: &[Op]) {
        for op in ops {
            match *op {
                Op::End(outcome, now) if self.shared.word_of(0).is_some() => {
                    self.shared.record(0, outcome, now);
                }
                Op::End(..) => {}
                Op::Order(order) => self.shared.change(order),
            }
        }
    }

    fn end(&self, now: Instant) -> Ended {
        let look = self.shared.change(|state| state.look(now));
        let told = self.told.lock().unwrap();
        let numbers: Vec<u64> = told.iter().map(|change| change.number).collect();
        let all: Vec<u64> = (1..=told.len() as u64).collect();
        assert_eq!(numbers, all, "each change once, and in order");
        (look, told.len())
    }
}

/// What the state comes to that is told all of it in the order of a list.
fn ended(mut state: State, ops: &[Op], now: Instant) -> Ended {
    let mut changes = 0;
    for op in ops {
        match *op {
            Op::End(outcome, now) => state.settle(0, outcome, now),
            Op::Order(order) => order(&mut state),
        }
        changes += usize::from(state.take_change().is_some());
    }
    (state.look(now), changes)
}

/// Every order in which the lists can be merged.
fn merged(lists: &[&[Op]]) -> Vec<Vec<Op>> {
    if lists.iter().all(|list| list.is_empty()) {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, list) in lists.iter().enumerate() {
        if let Some((first, rest)) = list.split_first() {
            let mut left = lists.to_vec();
            left[at] = rest;
            all.extend(merged(&left).into_iter().map(|mut ops| {
                ops.insert(0, *first);
                ops
            }));
        }
    }
    all
}

#[derive(Clone, Copy)]
struct Setting {
    rules: Rules,
    window: Window,
    /// What came before.
    before: &'static [Op],
    /// When it is looked at.
    now: Instant,
}

const CALLS: Setting = Setting {
    rules: RULES,
    window: Window::calls(4),
    before: &[],
    now: START,
};

/// One list for each thread, the first one's first.
fn as_in_some_order<const N: usize>(setting: Setting, lists: [&'static [Op]; N]) {
    let Setting {
        rules,
        window,
        before,
        now,
    } = setting;
    let possible: Vec<Ended> = merged(&lists)
        .into_iter()
        .map(|ops| ended(state(rules, window), &[before, &ops].concat(), now))
        .collect();
    let run = move || {
        let breaker = Arc::new(Breaker::new(
            state(rules, window),
            window.capacity().is_none(),
        ));
        breaker.run(before);
        let others: Vec<_> = lists[1..]
            .iter()
            .map(|ops| spawn(&breaker, |breaker| breaker.run(ops)))
            .collect();
        breaker.run(lists[0]);
        for other in others {
            other.join().unwrap();
        }
        let ended = breaker.end(now);
        assert!(possible.contains(&ended), "{ended:?} in no order");
    };
    if N == 2 {
        exhaustive(run);
    } else {
        bounded(3, run);
    }
}

/// Fails if `shut` or `take` of the inbox are two steps, and if a change is made without what
/// was counted before it.
#[test]
fn results_of_two_threads_are_all_counted_and_open_it_once() {
    as_in_some_order(CALLS, [&[WELL, BADLY], &[BADLY, WELL]]);
}

#[test]
fn two_failures_in_a_row_of_two_threads_open_it_once() {
    let rules = Rules {
        failure_rate: None,
        consecutive_failures: Some(2),
        ..RULES
    };
    as_in_some_order(Setting { rules, ..CALLS }, [&[BADLY, WELL], &[BADLY]]);
}

/// Fails if what was counted is told to the state after the order.
#[test]
fn what_ends_late_does_not_count_in_a_new_generation() {
    as_in_some_order(CALLS, [&[BADLY, BADLY], &[RESET]]);
    as_in_some_order(CALLS, [&[BADLY, WELL], &[Op::Order(State::metrics_only)]]);
    as_in_some_order(CALLS, [&[BADLY, WELL], &[Op::Order(State::disable)]]);
    as_in_some_order(CALLS, [&[BADLY], &[Op::Order(State::force_open), RESET]]);
}

/// A full window of successes: one more is not even counted, unless a failure came before it.
#[test]
fn a_quiet_window_misses_no_failure() {
    let window = Window::calls(2);
    let setting = Setting {
        window,
        before: &[WELL, WELL],
        ..CALLS
    };
    as_in_some_order(setting, [&[WELL, BADLY], &[WELL]]);
    as_in_some_order(setting, [&[BADLY, WELL], &[WELL]]);
}

/// Far from every limit, so that all is counted without the lock, while someone looks.
#[test]
fn a_look_loses_nothing_and_doubles_nothing() {
    const LOOK: Op = Op::Order(|state| {
        state.look(START);
    });
    let rules = Rules {
        minimum_calls: 50,
        ..RULES
    };
    let window = Window::calls(100);
    let setting = Setting {
        rules,
        window,
        ..CALLS
    };
    as_in_some_order(setting, [&[BADLY, WELL], &[LOOK, LOOK]]);
    as_in_some_order(setting, [&[BADLY], &[WELL, BADLY], &[LOOK]]);
}

#[test]
fn three_threads_decide_on_a_whole_window() {
    as_in_some_order(CALLS, [&[BADLY], &[WELL], &[BADLY]]);
}

#[test]
fn three_threads_and_an_order_decide_on_a_whole_window() {
    as_in_some_order(CALLS, [&[BADLY], &[BADLY, WELL], &[RESET]]);
}

/// In a window of time a result may belong to a later step than those that were counted.
#[test]
fn no_result_counts_in_a_step_before_its_own() {
    const LATER: Instant = START.after(32_000_000_000);
    const AFTER: Instant = START.after(33_000_000_000);
    let setting = Setting {
        rules: Rules {
            minimum_calls: 50,
            ..RULES
        },
        window: Window::time(Duration::from_secs(32)),
        now: AFTER,
        ..CALLS
    };
    as_in_some_order(setting, [&[BADLY], &[Op::End(OK, LATER)]]);
}

/// Half-open: an open time of nothing is over at once.
fn open(probes: u32) -> Arc<Breaker> {
    let rules = Rules {
        consecutive_failures: Some(1),
        probes,
        ..RULES
    };
    let breaker = Breaker::new(state(rules, Window::calls(4)), false);
    breaker.run(&[BADLY]);
    assert_eq!(breaker.shared.state(), CircuitState::Open);
    Arc::new(breaker)
}

/// Fails if the probe is looked for and taken in two steps.
#[test]
fn one_probe_is_admitted_of_two() {
    exhaustive(|| {
        let breaker = open(1);
        let other = spawn(&breaker, |breaker| breaker.shared.admit());
        let mine = breaker.shared.admit();
        let other = other.join().unwrap();
        assert!(mine.is_ok() != other.is_ok());
        let probe = mine.or(other).unwrap();
        breaker.shared.settle(&probe, End::Success);
        assert_eq!(breaker.shared.state(), CircuitState::Closed);
        assert_eq!(breaker.end(START).1, 3);
    });
}

#[test]
fn a_probe_that_was_dropped_gives_its_place_back() {
    exhaustive(|| {
        let breaker = open(1);
        let turn = |breaker: &Breaker| {
            let probe = breaker.shared.admit();
            if let Ok(probe) = &probe {
                breaker.shared.settle(probe, End::Cancelled);
            }
            probe.is_ok()
        };
        let other = spawn(&breaker, turn);
        let mine = turn(&breaker);
        assert!(other.join().unwrap() || mine);
        assert!(turn(&breaker), "the place is lost");
        assert_eq!(breaker.shared.state(), CircuitState::HalfOpen);
    });
}

#[test]
fn the_probes_of_three_threads_close_it_or_open_it_once() {
    bounded(3, || {
        let breaker = open(2);
        let turn = |end: End| {
            move |breaker: &Breaker| {
                let probe = breaker.shared.admit().ok()?;
                breaker.shared.settle(&probe, end);
                Some(end == End::Success)
            }
        };
        let others = [End::Success, End::Success].map(|end| spawn(&breaker, turn(end)));
        let mine = turn(End::Success)(&breaker);
        let ends = others.map(|other| other.join().unwrap());
        let well = ends.iter().chain([&mine]).flatten().count();
        // The third came when both places were taken, or when it had closed.
        assert!(well >= 2, "{well} probes");
        assert_eq!(breaker.shared.state(), CircuitState::Closed);
        assert_eq!(breaker.end(START).1, 3, "opened, half-open, closed");
    });
}

#[test]
fn a_probe_that_fails_opens_it_once_whatever_others_bring() {
    exhaustive(|| {
        let breaker = open(2);
        let probes = [
            breaker.shared.admit().unwrap(),
            breaker.shared.admit().unwrap(),
        ];
        let [one, two] = probes;
        let other = spawn(&breaker, move |breaker| {
            breaker.shared.settle(&one, End::Failure);
        });
        breaker.shared.settle(&two, End::Failure);
        other.join().unwrap();
        let (look, told) = breaker.end(START);
        assert_eq!(
            (look.state, look.openings, told),
            (CircuitState::Open, 2, 3)
        );
    });
}

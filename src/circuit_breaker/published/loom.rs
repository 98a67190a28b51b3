//! Models: see `sync::model`. The first thread is the one with the state's lock.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::circuit_breaker::model::{FAILED, OK, SECOND, START, state_with};
use crate::circuit_breaker::state::Rules;
use crate::circuit_breaker::window::Window;
use crate::retry::{Backoff, Jitter};
use crate::sync::model::{bounded, exhaustive, spawn};

/// Opens at each failure, for a second; half-open it takes one probe.
fn state() -> State {
    let rules = Rules {
        failure_rate: None,
        slow_rate: None,
        consecutive_failures: Some(1),
        minimum_calls: 1,
        probes: 1,
        half_open_limit: Duration::from_secs(60),
    };
    let open_time = Backoff::constant(SECOND).jitter(Jitter::None);
    state_with(rules, Window::calls(4), open_time)
}

fn at(seconds: u64) -> Instant {
    START.saturating_add(Duration::from_secs(seconds))
}

/// Open until one second, half-open, open until three, and then closed.
fn changes(state: &mut State, published: &Published) {
    state.settle(0, FAILED, at(0));
    assert!(published.update(state));
    state.admit(at(1)).unwrap();
    assert!(published.update(state));
    state.settle(2, FAILED, at(2));
    assert!(published.update(state));
}

/// What a call does with the words: when it is told to come back, if the breaker is open.
fn look(published: &Published) -> (u64, Option<Instant>) {
    let word = published.word();
    let open = word.is(CircuitState::Open);
    (word.generation(), open.then(|| published.open_until()))
}

fn is_true(seen: (u64, Option<Instant>)) {
    match seen {
        (0 | 2 | 4 | 5, None) => {}
        (1, Some(until)) => assert!(until == at(1) || until == at(3), "{until:?}"),
        (3, Some(until)) => assert_eq!(until, at(3)),
        other => panic!("{other:?}"),
    }
}

/// Fails with Relaxed in `update` or in `word`, and if `update` tells the word first: a call
/// then finds the time of an opening before, or none at all, and is refused for ever.
#[test]
fn who_sees_an_opening_sees_its_end_or_a_later_one() {
    exhaustive(|| {
        let mut state = state();
        let published = Arc::new(Published::new(&state));
        let other = spawn(&published, |published| [look(published), look(published)]);
        changes(&mut state, &published);
        let seen = other.join().unwrap();
        let _ = seen.map(is_true);
        assert!(seen[0].0 <= seen[1].0, "a generation came back");
    });
}

#[test]
fn two_who_look_both_see_what_was_true() {
    bounded(3, || {
        let mut state = state();
        let published = Arc::new(Published::new(&state));
        let others = [0, 1].map(|_| spawn(&published, look));
        changes(&mut state, &published);
        state.admit(at(3)).unwrap();
        assert!(published.update(&state));
        state.settle(4, OK, at(3));
        assert!(published.update(&state));
        for other in others {
            is_true(other.join().unwrap());
        }
    });
}

/// An order holds until told otherwise: nobody may find an end of it.
#[test]
fn who_sees_an_order_sees_no_end() {
    exhaustive(|| {
        let mut state = state();
        let published = Arc::new(Published::new(&state));
        let other = spawn(&published, |published| {
            let word = published.word();
            (word.is(CircuitState::ForcedOpen)).then(|| published.open_until())
        });
        state.settle(0, FAILED, at(0));
        published.update(&state);
        state.force_open();
        published.update(&state);
        let seen = other.join().unwrap();
        assert!(seen.is_none_or(|until| until == Instant::NEVER));
    });
}

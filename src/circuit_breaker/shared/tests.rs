//! What calls are told, and how their ends count, with the clock that there is.

use super::*;
use crate::circuit_breaker::batch::MOST;
use crate::circuit_breaker::classify::Cancelled;
use crate::circuit_breaker::model::{FAILED, OK, SECOND, START, state_with};
use crate::circuit_breaker::state::Rules;
use crate::circuit_breaker::window::Window;
use crate::retry::{Backoff, Jitter};

/// The second failure of two calls or more opens it.
const RULES: Rules = Rules {
    failure_rate: Some(1.0),
    slow_rate: None,
    consecutive_failures: Some(2),
    minimum_calls: 2,
    probes: 1,
    half_open_limit: SECOND,
};

fn breaker(window: Window, open_for: Duration) -> Shared {
    let measure = Measure {
        slower_than: Measure::NEVER_SLOW,
        cancelled: Cancelled::Ignore,
        timed_window: window.capacity().is_none(),
    };
    let backoff = Backoff::constant(open_for).jitter(Jitter::None);
    let state = state_with(RULES, window, backoff);
    Shared::new("it".into(), state, measure, None)
}

fn of_calls(open_for: Duration) -> Shared {
    breaker(Window::calls(1_000), open_for)
}

fn counts(shared: &Shared) -> (u64, u64) {
    let counts = shared.change(|state| state.look(START)).counts;
    (counts.calls, counts.failures)
}

fn open_at(shared: &Shared, now: Instant) {
    (0..2).for_each(|_| shared.change(|state| state.settle(0, FAILED, now)));
    assert_eq!(shared.state(), CircuitState::Open);
}

#[test]
fn each_end_of_a_call_counts_as_what_it_is() {
    let shared = of_calls(SECOND);
    assert_eq!(shared.name(), "it");
    for (end, expected) in [
        (End::Success, (1, 0)),
        (End::Failure, (2, 1)),
        (End::Ignored, (2, 1)),
        (End::Success, (3, 1)),
        (End::Panicked, (4, 2)),
    ] {
        let ticket = shared.admit().unwrap();
        shared.settle(&ticket, end);
        assert_eq!(counts(&shared), expected, "{end:?}");
    }
}

#[test]
fn an_opening_without_a_time_that_was_read_lasts_as_long_as_any() {
    let shared = of_calls(SECOND);
    for _ in 0..2 {
        let ticket = shared.admit().unwrap();
        shared.settle(&ticket, End::Failure);
    }
    let Err(Refusal::CircuitOpen { retry_after }) = shared.admit() else {
        panic!("it is open");
    };
    assert!(
        retry_after.is_some_and(|wait| wait <= SECOND),
        "{retry_after:?}"
    );
}

#[test]
fn an_order_to_open_names_no_end() {
    let shared = of_calls(SECOND);
    shared.change(State::force_open);
    assert_eq!(shared.admit().unwrap_err(), refusal(None));
}

#[test]
fn the_open_time_is_over_at_its_end_and_later() {
    for opened in [time::now(), Instant::from_nanos(1)] {
        let shared = of_calls(Duration::ZERO);
        open_at(&shared, opened);
        let probe = shared.admit().unwrap();
        assert_eq!(shared.state(), CircuitState::HalfOpen);
        assert!(shared.admit().is_err(), "there is one probe");
        shared.settle(&probe, End::Ignored);
        assert!(
            shared.admit().is_ok(),
            "one that does not count gives its place back"
        );
    }
}

#[test]
fn a_late_result_and_one_of_a_disabled_breaker_ask_nobody() {
    let shared = of_calls(SECOND);
    assert!(shared.word_of(0).is_some() && shared.word_of(1).is_none());
    shared.change(State::disable);
    let generation = shared.published.word().generation();
    assert!(shared.word_of(generation).is_none());
}

#[test]
fn within_a_step_of_time_results_are_counted_without_asking() {
    let shared = breaker(Window::time(SECOND), SECOND);
    assert!(!shared.count(0, OK, START), "its first step is over");
    shared.decide(0, OK, START);
    assert!(shared.count(0, OK, START));
    assert!(!shared.count(0, OK, START.saturating_add(SECOND)));
    assert_eq!(counts(&shared), (2, 0));
}

#[test]
fn without_a_window_of_time_no_time_is_needed_to_count() {
    assert!(of_calls(SECOND).count(0, OK, UNREAD));
}

#[test]
fn who_finds_that_others_have_made_room_counts_once() {
    let shared = of_calls(SECOND);
    shared.decide(0, OK, START);
    assert_eq!(counts(&shared), (1, 0));
}

/// The state is told what was counted, and the inbox stays open for others meanwhile.
#[test]
fn who_makes_room_counts_like_the_others() {
    let shared = of_calls(SECOND);
    assert!((0..MOST).all(|_| shared.count(0, OK, START)));
    assert!(!shared.count(0, OK, START));
    shared.decide(0, OK, START);
    assert_eq!(shared.inbox.shut().calls(), 1);
}

//! Single rules of the state: what the model does not show.

use std::time::Duration;

use super::super::entry::Ages;
use super::*;

const NOW: Instant = Instant::from_nanos(1 << 40);

const RULES: Rules = Rules {
    min_idle: 0,
    max_creating: usize::MAX,
    check_after: None,
    hook_before: false,
    newest_first: true,
};

type Real = State<u32, &'static str, &'static str>;

#[expect(clippy::unnecessary_box_returns, reason = "as the state has them")]
fn entry(object: u32) -> Box<Entry<u32>> {
    let ages = Ages {
        idle_time: Duration::MAX,
        life_time: Duration::MAX,
        jitter: 0.0,
    };
    ages.entry(object, NOW, 0.0)
}

fn enter(
    state: &mut Real,
    name: &'static str,
    fx: &mut Effects<u32, &'static str, &'static str>,
) -> u64 {
    match state.enter(None, &mut Some(name), NOW, fx) {
        Turn::Waiting(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

/// Trap 27: the second of two first callers does not start a second pool.
#[test]
fn each_caller_starts_one_creation_up_to_the_maximum() {
    let (mut state, mut fx) = (Real::new(RULES, 2), Effects::none());
    for (name, started) in [("a", 1), ("b", 2), ("c", 2), ("d", 2)] {
        enter(&mut state, name, &mut fx);
        assert_eq!(fx.create, started);
    }
}

/// Trap 24: a creation that is lost with its runtime is not begun anew from there, but by
/// the next who looks, in his own.
#[test]
fn a_lost_creation_is_told_to_the_first_and_started_anew_by_the_next() {
    let (mut state, mut fx) = (Real::new(RULES, 1), Effects::none());
    let first = enter(&mut state, "first", &mut fx);
    let next = enter(&mut state, "next", &mut fx);
    enter(&mut state, "last", &mut fx);
    let mut fx = Effects::none();
    state.lost("lost", None, NOW, &mut fx);
    assert_eq!((fx.create, &fx.wake[..]), (0, &["first", "next"][..]));
    let told = state.look(first, &mut Some("first"), &mut Effects::none());
    assert!(matches!(told, Turn::Failed("lost")));
    assert!(matches!(
        state.look(next, &mut Some("next"), &mut fx),
        Turn::Waiting(_)
    ));
    assert_eq!((fx.create, state.snapshot().creating), (1, 1));
    state.landed(entry(7), NOW, &mut fx);
    assert_eq!(fx.wake, ["first", "next", "next"]);
}

/// Trap 20: what is not needed any more is not created, and what is under way is not doubled.
#[test]
fn a_creation_under_way_is_for_whoever_comes() {
    let (mut state, mut fx) = (Real::new(RULES, 9), Effects::none());
    for _ in 0..5 {
        let ticket = enter(&mut state, "a", &mut fx);
        assert_eq!(state.leave(ticket, NOW, &mut fx), Some("a"));
    }
    assert_eq!((fx.create, state.snapshot().pending), (1, 0));
}

#[test]
fn a_closed_state_starts_nothing_and_ends_what_lands() {
    let (mut state, mut fx) = (Real::new(RULES, 2), Effects::none());
    let ticket = enter(&mut state, "a", &mut fx);
    state.close(&mut fx);
    assert!(matches!(
        state.look(ticket, &mut None, &mut fx),
        Turn::Closed
    ));
    let (mut key, mut waker) = (None, Some("drain"));
    assert!(!state.poll_drained(&mut key, &mut waker));
    let mut fx = Effects::none();
    state.landed(entry(7), NOW, &mut fx);
    assert_eq!((fx.close.len(), fx.create), (1, 0));
    assert_eq!(fx.close[0].1, Reason::PoolClosed);
    assert!(fx.wake.is_empty());
    state.ended(Reason::PoolClosed, &mut fx);
    assert_eq!(fx.wake, ["drain"]);
    assert_eq!((state.snapshot().size, state.snapshot().created), (0, 1));
}

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
        Turn::Waiting(ticket, _) => ticket,
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

/// Trap 19: what comes back after a caller found nothing, and before it stands in the line.
#[test]
fn who_takes_a_place_in_the_line_looks_once_more() {
    let (mut state, mut fx) = (Real::new(RULES, 1), Effects::none());
    let user = enter(&mut state, "user", &mut fx);
    state.landed(entry(7), NOW, &mut fx);
    let Turn::Candidate(lent) = state.look(user, &mut None, NOW, &mut fx) else {
        panic!("it is served")
    };
    assert!(state.arrived(&mut fx));
    assert!(matches!(state.take(NOW, false, &mut fx), Take::Empty));
    state.put(lent.entry, NOW, &mut fx);
    let turn = state.enter(None, &mut Some("late"), NOW, &mut fx);
    assert!(matches!(turn, Turn::Candidate(_)), "{turn:?}");
}

#[test]
fn what_is_idle_and_needs_nothing_is_taken_the_short_way_and_once() {
    let (mut state, mut fx) = (Real::new(RULES, 1), Effects::none());
    let user = enter(&mut state, "user", &mut fx);
    state.landed(entry(7), NOW, &mut fx);
    let Turn::Candidate(lent) = state.look(user, &mut None, NOW, &mut fx) else {
        panic!("it is served")
    };
    assert!(state.arrived(&mut fx));
    assert!(state.take_plain(NOW).is_none(), "it is in use");
    state.put(lent.entry, NOW, &mut fx);
    let taken = state.take_plain(NOW).map(|entry| entry.object);
    assert_eq!(taken, Some(7));
    assert!(state.take_plain(NOW).is_none());
    let back = state.put_plain(entry(7), NOW);
    assert!(back.is_none(), "one is not too many");
    state.take_plain(NOW);
    state.max = 0;
    assert!(state.put_plain(entry(7), NOW).is_some(), "it is to end");
}

/// Both of them idle.
fn with_two() -> Real {
    let (mut state, mut fx) = (Real::new(RULES, 2), Effects::none());
    let users = ["a", "b"].map(|name| enter(&mut state, name, &mut fx));
    for object in [7, 8] {
        state.landed(entry(object), NOW, &mut fx);
    }
    let lent = users.map(|user| match state.look(user, &mut None, NOW, &mut fx) {
        Turn::Candidate(lent) => lent.entry,
        other => panic!("{other:?}"),
    });
    for entry in lent {
        assert!(state.arrived(&mut fx));
        state.put(entry, NOW, &mut fx);
    }
    state
}

#[test]
fn a_smaller_pool_ends_as_many_as_are_too_many() {
    let mut state = with_two();
    assert_eq!((state.max(), state.is_closed()), (2, false));
    for (max, ends) in [(3, 0), (2, 0), (1, 1), (0, 1)] {
        let mut fx = Effects::none();
        state.resize(max, &mut fx);
        let reasons: Vec<Reason> = fx.close.iter().map(|(_, reason)| *reason).collect();
        assert_eq!(reasons, vec![Reason::Resized; ends], "to {max}");
        assert_eq!(state.max(), max);
        assert!(!fx.sooner, "nothing is to be done earlier");
    }
    state.close(&mut Effects::none());
    assert!(state.is_closed());
}

#[test]
fn who_waits_no_more_for_the_end_gets_the_waker_back() {
    let mut state = with_two();
    state.close(&mut Effects::none());
    let mut key = None;
    assert!(
        !state.poll_drained(&mut key, &mut Some("a")),
        "two are being closed"
    );
    let key = key.expect("it has a place");
    assert_eq!(state.leave_drain(key), Some("a"));
    assert_eq!(state.leave_drain(key), None);
}

#[test]
fn what_is_on_its_way_to_a_caller_is_counted_and_has_a_ticket_of_its_own() {
    let mut state = with_two();
    state.rules.hook_before = true;
    let mut fx = Effects::none();
    let tickets = [(); 2].map(|()| match state.take(NOW, false, &mut fx) {
        Take::Candidate(_, ticket) => ticket,
        other => panic!("{other:?}"),
    });
    assert_ne!(tickets[0], tickets[1]);
    assert_eq!(state.snapshot().changing_hands, 2);
    let mut state = with_two();
    for on_their_way in [1, 2] {
        let turn = state.enter(None, &mut Some("late"), NOW, &mut fx);
        assert!(matches!(turn, Turn::Candidate(_)));
        assert_eq!(state.snapshot().changing_hands, on_their_way);
    }
}

#[test]
fn of_two_that_were_idle_too_long_the_last_of_the_minimum_is_lent_out() {
    let second = Duration::from_secs(1);
    let ages = Ages {
        idle_time: second,
        life_time: Duration::MAX,
        jitter: 0.0,
    };
    let mut state = with_two();
    state.rules.min_idle = 1;
    state.idle = [7, 8].map(|object| ages.entry(object, NOW, 0.0)).into();
    let mut fx = Effects::none();
    let late = NOW.saturating_add(2 * second);
    let Take::Ready(entry) = state.take(late, false, &mut fx) else {
        panic!("there is one");
    };
    let ended: Vec<_> = fx
        .close
        .iter()
        .map(|(entry, why)| (entry.object, *why))
        .collect();
    assert_eq!((entry.object, ended), (7, vec![(8, Reason::IdleTime)]));
}

#[test]
fn of_the_idle_those_that_are_to_be_checked_end_with_a_check_that_took_too_long() {
    let mut state = with_two();
    state.rules.check_after = Some(2_000_000_000);
    state.idle[1].since = NOW.saturating_add(Duration::from_secs(1));
    let mut fx = Effects::none();
    state.end_doubtful(NOW.saturating_add(Duration::from_secs(2)), &mut fx);
    let ended: Vec<_> = fx.close.iter().map(|(_, why)| *why).collect();
    assert_eq!(ended, [Reason::CheckFailed]);
    assert_eq!(state.snapshot().idle, 1);
}

#[test]
fn a_pause_has_an_end_to_wait_for_only_where_a_minimum_is_kept() {
    for min_idle in [0, 1] {
        let mut state = Real::new(Rules { min_idle, ..RULES }, 1);
        let mut fx = Effects::none();
        state.pause_fill(NOW, 0.0, &mut fx);
        assert_eq!(fx.sooner, min_idle > 0);
        let next = state.tick(NOW, &mut fx);
        assert_eq!(next == Some(Instant::NEVER), min_idle == 0, "{next:?}");
    }
}

#[test]
fn only_what_is_due_earlier_is_told() {
    let mut state = Real::new(RULES, 1);
    let later = NOW.saturating_add(Duration::from_secs(1));
    for (at, sooner) in [(later, true), (later, false), (NOW, true), (later, false)] {
        let mut fx = Effects::none();
        state.is_due(at, &mut fx);
        assert_eq!(fx.sooner, sooner);
    }
}

#[test]
fn there_is_something_to_do_for_each_effect() {
    type Fx = Effects<u32, &'static str, &'static str>;
    let changes: [fn(&mut Fx); 5] = [
        |fx| fx.create = 1,
        |fx| fx.close.push((entry(7), Reason::Broken)),
        |fx| fx.wake.push("a"),
        |fx| fx.failures.push("no"),
        |fx| fx.sooner = true,
    ];
    assert!(Fx::none().are_none());
    for change in changes {
        let mut fx = Fx::none();
        change(&mut fx);
        assert!(!fx.are_none(), "{fx:?}");
    }
}

fn look(state: &mut Real, ticket: u64, fx: &mut Fx<u32, &'static str, &'static str>) -> String {
    match state.look(ticket, &mut Some("again"), NOW, fx) {
        Turn::Waiting(..) => "waits".into(),
        Turn::Failed(failure) => failure.into(),
        other => panic!("{other:?}"),
    }
}

/// Traps 24, 28: a creation that is lost with its runtime is not begun anew from there, but
/// by the next who waits, in his own; and by the next but one, when that one goes.
#[test]
fn a_lost_creation_is_told_to_its_starter_and_started_anew_by_the_next_who_stays() {
    for goes in [false, true] {
        let (mut state, mut fx) = (Real::new(RULES, 1), Effects::none());
        let first = enter(&mut state, "first", &mut fx);
        let mut next = enter(&mut state, "next", &mut fx);
        let last = enter(&mut state, "last", &mut fx);
        assert_eq!((fx.create, fx.starter), (1, Some(first)));
        let mut fx = Effects::none();
        state.lost(Some(first), "lost", None, NOW, &mut fx);
        assert_eq!((fx.create, &fx.wake[..]), (0, &["first", "next"][..]));
        assert_eq!(look(&mut state, first, &mut fx), "lost");
        if goes {
            assert_eq!(state.leave(next, NOW, &mut fx), (None, None));
            assert_eq!(fx.wake, ["first", "next", "last"]);
            next = last;
        }
        assert_eq!(look(&mut state, next, &mut fx), "waits");
        assert_eq!((fx.create, fx.starter), (1, Some(next)));
        fx.wake.clear();
        state.landed(entry(7), NOW, &mut fx);
        assert_eq!(fx.wake, ["again"]);
    }
}

/// Trap 24: nobody is failed by the loss of what another has started.
#[test]
fn a_lost_creation_fails_nobody_when_its_starter_has_gone() {
    let (mut state, mut fx) = (Real::new(RULES, 1), Effects::none());
    let first = enter(&mut state, "first", &mut fx);
    let next = enter(&mut state, "next", &mut fx);
    assert_eq!(state.leave(first, NOW, &mut fx).0, Some("first"));
    state.lost(Some(first), "lost", None, NOW, &mut fx);
    assert_eq!(
        (&fx.wake[..], &fx.failures[..]),
        (&["next"][..], &["lost"][..])
    );
    assert_eq!(look(&mut state, next, &mut fx), "waits");
    assert_eq!(state.snapshot().creating, 1);
}

/// What starts a creation for those who wait is one of them, whoever makes room.
#[test]
fn room_calls_the_first_who_waits_and_creates_nothing_itself() {
    let (mut state, mut fx) = (Real::new(RULES, 1), Effects::none());
    let user = enter(&mut state, "user", &mut fx);
    state.landed(entry(7), NOW, &mut fx);
    let Turn::Candidate(mine) = state.look(user, &mut None, NOW, &mut fx) else {
        panic!("it is served")
    };
    assert!(state.arrived(&mut fx));
    let ticket = enter(&mut state, "waits", &mut fx);
    let mut fx = Effects::none();
    state.discard(mine.entry, Reason::Broken, &mut fx);
    state.ended(Reason::Broken, &mut fx);
    assert_eq!((fx.create, &fx.wake[..]), (0, &["waits"][..]));
    assert_eq!(look(&mut state, ticket, &mut fx), "waits");
    assert_eq!((fx.create, fx.starter), (1, Some(ticket)));
}

/// What was handed over before the end, and is looked at after it, is not lent out.
#[test]
fn a_close_takes_back_what_nobody_has_looked_at() {
    let (mut state, mut fx) = (Real::new(RULES, 1), Effects::none());
    let ticket = enter(&mut state, "a", &mut fx);
    state.landed(entry(7), NOW, &mut fx);
    state.close(&mut fx);
    assert_eq!(fx.close[0].1, Reason::PoolClosed);
    let turn = state.look(ticket, &mut None, NOW, &mut fx);
    assert!(matches!(turn, Turn::Closed));
    assert_eq!(state.snapshot().changing_hands, 0);
}

/// Trap 33.
#[test]
fn a_huge_minimum_beside_one_who_waits_does_not_overflow() {
    let rules = Rules {
        min_idle: usize::MAX,
        max_creating: 3,
        ..RULES
    };
    let (mut state, mut fx) = (Real::new(rules, usize::MAX), Effects::none());
    state.tick(NOW, &mut fx);
    enter(&mut state, "a", &mut fx);
    state.tick(NOW, &mut fx);
    assert_eq!((fx.create, state.snapshot().creating), (3, 3));
}

/// Trap 20: what is not needed any more is not created, and what is under way is not doubled.
#[test]
fn a_creation_under_way_is_for_whoever_comes() {
    let (mut state, mut fx) = (Real::new(RULES, 9), Effects::none());
    for _ in 0..5 {
        let ticket = enter(&mut state, "a", &mut fx);
        assert_eq!(state.leave(ticket, NOW, &mut fx).0, Some("a"));
    }
    assert_eq!((fx.create, state.snapshot().pending), (1, 0));
}

#[test]
fn a_closed_state_starts_nothing_and_ends_what_lands() {
    let (mut state, mut fx) = (Real::new(RULES, 2), Effects::none());
    let ticket = enter(&mut state, "a", &mut fx);
    state.close(&mut fx);
    assert!(matches!(
        state.look(ticket, &mut None, NOW, &mut fx),
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

/// Objects that are kept stay in their order, and hide nobody behind them who is too old.
#[test]
fn what_is_too_old_ends_wherever_it_lies_among_the_idle() {
    let (mut state, mut fx) = (Real::new(RULES, 5), Effects::none());
    for name in ["a", "b", "c", "d", "e"] {
        enter(&mut state, name, &mut fx);
    }
    let lent: Vec<_> = (0..5)
        .map(|object| {
            state.landed(entry(object), NOW, &mut fx);
            match state.look(u64::from(object) + 1, &mut None, NOW, &mut fx) {
                Turn::Candidate(candidate) if state.arrived(&mut fx) => candidate.entry,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    for mut entry in lent {
        if entry.object % 2 == 1 {
            entry.expires = NOW.after(1);
        }
        state.put(entry, NOW, &mut fx);
    }
    assert_eq!(state.tick(NOW.after(1), &mut fx), Some(Instant::NEVER));
    let ended: Vec<_> = fx.close.iter().map(|end| (end.0.object, end.1)).collect();
    assert_eq!(ended, [(1, Reason::LifeTime), (3, Reason::LifeTime)]);
    let kept: Vec<_> = state.idle.iter().map(|entry| entry.object).collect();
    assert_eq!(kept, [0, 2, 4]);
}

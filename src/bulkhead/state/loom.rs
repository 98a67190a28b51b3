//! Models: see `sync::model`. Those who wait are names; the woken come back as such.

use std::sync::Arc;

use super::*;
use crate::sync::model::{bounded, exhaustive, spawn};

type Named = State<u32>;

/// One slot, which is taken.
fn taken() -> Arc<Named> {
    let state = State::new(1, 8);
    assert_eq!(state.try_enter(1), Place::Admitted);
    Arc::new(state)
}

fn enter(state: &Named, name: u32) -> Place {
    state.enter(1, &mut Some(name))
}

/// Everyone has gone: there is one slot, and nobody waits.
fn is_idle(state: &Named) {
    assert_eq!((state.in_use(), state.queued()), (0, 0));
    assert_eq!(state.try_enter(1), Place::Admitted);
    assert_eq!(state.try_enter(1), Place::Full);
}

/// Fails if the mark is set after the look at the slots, or if they are two steps.
#[test]
fn who_comes_to_wait_as_the_slot_comes_free_is_not_forgotten() {
    exhaustive(|| {
        let state = taken();
        let holder = spawn(&state, |state| state.release(1));
        let place = enter(&state, 7);
        let woken = holder.join().unwrap();
        match place {
            Place::Admitted => assert_eq!(woken, []),
            Place::Queued(key) => {
                assert_eq!(woken, [7]);
                assert_eq!(state.check(key, &mut None), Place::Admitted);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(state.release(1), []);
        is_idle(&state);
    });
}

/// Trap: the slot that was handed to one who goes away.
#[test]
fn one_who_leaves_as_it_is_admitted_keeps_nothing() {
    exhaustive(|| {
        let state = taken();
        let Place::Queued(key) = enter(&state, 7) else {
            panic!("it is taken");
        };
        let holder = spawn(&state, |state| state.release(1));
        let left = state.leave(key);
        let woken = holder.join().unwrap();
        // Either it had left, or it was admitted and gives its slot back.
        assert_eq!(woken.len(), usize::from(left.is_none()));
        if left.is_none() {
            state.release(1);
        }
        is_idle(&state);
    });
}

#[test]
fn one_who_leaves_makes_way_for_those_behind() {
    bounded(3, || {
        let state = taken();
        let keys = [1, 2].map(|name| match enter(&state, name) {
            Place::Queued(key) => key,
            other => panic!("{other:?}"),
        });
        let holder = spawn(&state, |state| state.release(1));
        let leaver = spawn(&state, move |state| {
            let left = state.leave(keys[0]);
            let had_it = left.is_none();
            let woken = left.unwrap_or_else(|| state.release(1));
            (had_it, woken)
        });
        let early = state.check(keys[1], &mut Some(3));
        let mut woken = holder.join().unwrap();
        let (had_it, others) = leaver.join().unwrap();
        woken.extend(others);
        assert_eq!(woken.contains(&1), had_it);
        // The second has the slot in the end, and was woken by the waker that it gave last.
        assert_eq!(state.check(keys[1], &mut None), Place::Admitted);
        let name = if early == Place::Admitted { 2 } else { 3 };
        assert_eq!(woken.iter().filter(|woken| **woken == name).count(), 1);
        assert_eq!(woken.len(), 1 + usize::from(had_it));
        state.release(1);
        is_idle(&state);
    });
}

/// Fails if one who leaves does not admit those who fit without it.
#[test]
fn a_heavy_one_who_leaves_makes_way_for_a_light_one() {
    exhaustive(|| {
        let state: Arc<Named> = Arc::new(State::new(2, 8));
        assert_eq!(state.try_enter(1), Place::Admitted);
        let Place::Queued(heavy) = state.enter(2, &mut Some(1)) else {
            panic!("one slot is free");
        };
        let Place::Queued(light) = enter(&state, 2) else {
            panic!("nobody passes");
        };
        let leaver = spawn(&state, move |state| {
            let left = state.leave(heavy);
            left.unwrap_or_else(|| state.release(2))
        });
        let early = state.check(light, &mut Some(2));
        let mut woken = leaver.join().unwrap();
        assert_eq!(state.check(light, &mut None), Place::Admitted);
        assert!(woken == [2], "{woken:?} after {early:?}");
        woken = state.release(1);
        woken.extend(state.release(1));
        assert!(woken.is_empty());
        assert_eq!((state.in_use(), state.queued()), (0, 0));
    });
}

#[test]
fn nobody_passes_one_who_waits() {
    bounded(4, || {
        let state = taken();
        let Place::Queued(key) = enter(&state, 7) else {
            panic!("it is taken");
        };
        let holder = spawn(&state, |state| state.release(1));
        let newcomer = spawn(&state, |state| state.try_enter(1));
        assert_eq!(state.try_enter(1), Place::Full);
        assert_eq!(newcomer.join().unwrap(), Place::Full);
        assert_eq!(holder.join().unwrap(), [7]);
        assert_eq!(state.check(key, &mut None), Place::Admitted);
        state.release(1);
        is_idle(&state);
    });
}

/// Fails if `try_enter` believes the mark of one who did not come to wait.
#[test]
fn a_mark_that_means_nobody_keeps_nobody_out() {
    exhaustive(|| {
        let state: Arc<Named> = Arc::new(State::new(1, 8));
        let heavy = spawn(&state, |state| state.enter(2, &mut Some(1)));
        assert_eq!(state.try_enter(1), Place::Admitted);
        let place = heavy.join().unwrap();
        assert_eq!(place, Place::TooLarge { limit: 1 });
        state.release(1);
        is_idle(&state);
    });
}

#[test]
fn a_new_limit_admits_and_refuses_each_once() {
    bounded(3, || {
        let state = taken();
        let holder = spawn(&state, |state| state.release(1));
        let resizer = spawn(&state, |state| state.resize(2));
        let places = [enter(&state, 1), enter(&state, 2)];
        let mut woken = holder.join().unwrap();
        woken.extend(resizer.join().unwrap());
        woken.sort_unstable();
        let waited: Vec<u32> = (1..).zip(&places).filter_map(waits).collect();
        assert_eq!(woken, waited, "woken, and who waited");
        for place in places {
            if let Place::Queued(key) = place {
                assert_eq!(state.check(key, &mut None), Place::Admitted);
            }
        }
        assert_eq!((state.in_use(), state.queued()), (2, 0));
    });
}

fn waits((name, place): (u32, &Place)) -> Option<u32> {
    matches!(place, Place::Queued(_)).then_some(name)
}

/// Three calls, one slot: whoever waits is admitted by one of the others.
#[test]
fn three_calls_all_come_in() {
    bounded(3, || {
        let state: Arc<Named> = Arc::new(State::new(1, 8));
        let call = |name| {
            move |state: &Named| match enter(state, name) {
                Place::Admitted => (state.release(1), None),
                Place::Queued(key) => (Vec::new(), Some((name, key))),
                other => panic!("{other:?}"),
            }
        };
        let others = [spawn(&state, call(1)), spawn(&state, call(2))];
        let mut ends = vec![call(3)(&state)];
        ends.extend(others.map(|other| other.join().unwrap()));
        let mut woken: Vec<u32> = Vec::new();
        let mut waiting = Vec::new();
        for (admitted, waits) in ends {
            woken.extend(admitted);
            waiting.extend(waits);
        }
        while let Some(name) = woken.pop() {
            let at = waiting.iter().position(|(waits, _)| *waits == name);
            let (_, key) = waiting.swap_remove(at.expect("it waited, and is woken once"));
            assert_eq!(state.check(key, &mut None), Place::Admitted);
            woken.extend(state.release(1));
        }
        assert!(waiting.is_empty(), "{waiting:?} wait for ever");
        is_idle(&state);
    });
}

//! Models: see `sync::model`. The law: at one instant exactly the burst is given, however many
//! ask, and nobody passes one who waits.

use std::sync::Arc;

use super::*;
use crate::rate_limit::bucket::Rate;
use crate::rate_limit::state::{Ask, Place};
use crate::sync::Key;
use crate::sync::model::{Woken, bounded, exhaustive, spawn};

const NOW: Instant = Instant::from_nanos(5);

/// One permit in ten nanoseconds.
fn full(burst: u32) -> Arc<Shared> {
    let rate = Rate::new(1, Duration::from_nanos(10)).unwrap();
    Arc::new(Shared::new(Bucket::new(rate, burst, NOW)))
}

fn take(shared: &Shared) -> bool {
    shared.try_take(1, NOW).is_ok()
}

fn enter(shared: &Shared, permits: u32, waker: Option<Waker>) -> Place {
    let ask = Ask {
        permits,
        until: Instant::NEVER,
    };
    shared.ask(|state| state.enter(ask, NOW, &mut { waker }))
}

fn waits(place: Place) -> (Key, Instant) {
    match place {
        Place::Waits(key, due) => (key, due),
        other => panic!("{other:?}"),
    }
}

fn check(shared: &Shared, key: Key, now: Instant) -> Place {
    shared.ask(|state| state.check(key, 1, now, &mut None).0)
}

/// Fails if the door is opened while someone waits, or opened before the bucket is changed.
#[test]
fn at_one_instant_exactly_the_burst_is_given() {
    exhaustive(|| {
        let shared = full(2);
        let other = spawn(&shared, |shared| {
            u32::from(take(shared)) + u32::from(take(shared))
        });
        let available = shared.ask(|state| state.bucket().available());
        let mine = u32::from(take(&shared));
        let taken = mine + other.join().unwrap();
        assert_eq!(taken, 2);
        assert!(available <= 2 && !take(&shared));
    });
}

#[test]
fn three_threads_get_exactly_the_burst() {
    bounded(3, || {
        let shared = full(2);
        let others = [
            spawn(&shared, take),
            // Through the lock.
            spawn(&shared, |shared| {
                shared.ask(|state| state.try_take(1, NOW)).is_ok()
            }),
        ];
        let mine = take(&shared);
        let others = others.map(|other| other.join().unwrap());
        let taken = u32::from(mine) + others.map(u32::from).iter().sum::<u32>();
        assert_eq!(taken, 2);
    });
}

#[test]
fn nobody_takes_what_one_who_waits_is_to_have() {
    exhaustive(|| {
        let shared = full(2);
        assert!(take(&shared));
        let newcomer = spawn(&shared, take);
        let (key, due) = waits(enter(&shared, 2, None));
        let passed = newcomer.join().unwrap();
        // Before it, or not at all.
        let expected = if passed { 25 } else { 15 };
        assert_eq!(due, Instant::from_nanos(expected));
        assert!(!take(&shared));
        let place = shared.ask(|state| state.check(key, 2, due, &mut None).0);
        assert_eq!(place, Place::Taken);
        assert!(shared.try_take(1, due).is_err());
    });
}

/// Fails if one who leaves does not wake the next.
#[test]
fn who_moves_up_is_told_its_new_time() {
    exhaustive(|| {
        let shared = full(1);
        assert!(take(&shared));
        let (first, _) = waits(enter(&shared, 1, None));
        let woken = Arc::new(Woken::default());
        let (second, _) = waits(enter(&shared, 1, Some(Waker::from(Arc::clone(&woken)))));
        let leaver = spawn(&shared, move |shared| {
            drop(shared.ask(|state| state.leave(first, NOW)));
        });
        let mut waker = Some(Waker::from(Arc::clone(&woken)));
        let place = shared.ask(|state| state.check(second, 1, NOW, &mut waker).0);
        let (_, told) = waits(place);
        leaver.join().unwrap();
        let moved_up = told == Instant::from_nanos(15);
        assert!(moved_up || woken.times() == 1, "it sleeps until {told:?}");
        let place = check(&shared, second, Instant::from_nanos(15));
        assert_eq!(place, Place::Taken);
        assert_eq!(shared.try_take(1, Instant::from_nanos(25)), Ok(()));
    });
}

#[test]
fn one_who_leaves_has_taken_nothing() {
    bounded(3, || {
        let shared = full(1);
        assert!(take(&shared));
        let (first, _) = waits(enter(&shared, 1, None));
        let leaver = spawn(&shared, move |shared| {
            drop(shared.ask(|state| state.leave(first, NOW)));
        });
        let taker = spawn(&shared, |shared| {
            shared.try_take(1, Instant::from_nanos(15)).is_ok()
        });
        let mine = shared.try_take(1, Instant::from_nanos(15)).is_ok();
        leaver.join().unwrap();
        let other = taker.join().unwrap();
        assert!(!(mine && other), "one permit had come");
        let left = shared.try_take(1, Instant::from_nanos(15)).is_ok();
        assert_eq!(u32::from(mine) + u32::from(other) + u32::from(left), 1);
    });
}

/// Settings that change while calls come in at the door: with a bound, as the door's own models of
/// that.
#[test]
fn a_lower_burst_holds_for_all_who_come_after_it() {
    bounded(2, || {
        let shared = full(3);
        let other = spawn(&shared, |shared| u32::from(take(shared)));
        shared.ask(|state| state.set_burst(1, NOW));
        let after = u32::from(take(&shared)) + u32::from(take(&shared));
        let before = other.join().unwrap();
        assert!(after <= 1, "the new burst is one");
        // One before the change, and one of what is left; or one of what is left.
        assert!((1..=2).contains(&(before + after)));
        assert!(!take(&shared), "one was there for the last");
    });
}

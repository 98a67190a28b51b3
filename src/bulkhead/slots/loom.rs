//! Models: see `sync::model`.

use std::sync::Arc;

use super::*;
use crate::sync::model::{bounded, exhaustive, spawn};

fn enters(slots: &Slots) -> bool {
    slots.try_take(1) == Place::Admitted
}

/// Fails if a slot is looked for and taken in two steps.
#[test]
fn one_slot_is_given_to_one() {
    exhaustive(|| {
        let slots = Arc::new(Slots::new(1));
        let other = spawn(&slots, enters);
        assert!(enters(&slots) != other.join().unwrap());
        assert_eq!(slots.in_use(), 1);
    });
}

#[test]
fn two_slots_are_given_to_two_of_three() {
    bounded(4, || {
        let slots = Arc::new(Slots::new(2));
        let others = [spawn(&slots, enters), spawn(&slots, enters)];
        let mine = enters(&slots);
        let inside = others.map(|other| other.join().unwrap());
        let inside = u32::from(mine) + inside.map(u32::from).iter().sum::<u32>();
        assert_eq!((inside, slots.in_use()), (2, 2));
    });
}

#[test]
fn a_slot_that_comes_back_can_be_taken() {
    bounded(3, || {
        let slots = Arc::new(Slots::new(1));
        let turn = |slots: &Slots| {
            let inside = enters(slots);
            assert!(slots.in_use() <= 1);
            if inside {
                slots.give_back(1);
            }
            inside
        };
        let others = [spawn(&slots, turn), spawn(&slots, turn)];
        let inside = turn(&slots);
        let others = others.map(|other| other.join().unwrap());
        assert!(inside || others.contains(&true), "nobody came in");
        assert_eq!(slots.in_use(), 0);
    });
}

/// Fails with Relaxed in `give_back`, or where `take` exchanges the word: the slot may have been
/// taken and given back since it was looked at.
#[test]
fn who_takes_a_slot_sees_what_its_last_holder_did() {
    exhaustive(|| {
        let both = Arc::new((Slots::new(1), AtomicU32::new(0)));
        let holder = spawn(&both, |(slots, work)| {
            let inside = enters(slots);
            if inside {
                work.store(1, Ordering::Relaxed);
                slots.give_back(1);
            }
            inside
        });
        let (slots, work) = &*both;
        // It is kept: whoever else was inside came before.
        let seen = enters(slots).then(|| work.load(Ordering::Relaxed));
        if holder.join().unwrap() {
            assert!(seen.is_none_or(|work| work == 1));
        }
    });
}

/// Fails if the change of the limit does not change the word, and with Relaxed where `take` reads
/// the word or in `set_limit`.
#[test]
fn nobody_is_admitted_by_a_limit_that_has_gone() {
    exhaustive(|| {
        let slots = Arc::new(Slots::new(2));
        assert!(enters(&slots));
        let other = spawn(&slots, enters);
        slots.set_limit(1);
        let inside = slots.in_use();
        let admitted = other.join().unwrap();
        assert!(!(admitted && inside == 1), "past the new limit");
        assert_eq!(slots.in_use(), 1 + u32::from(admitted));
    });
}

/// Fails if the change of the limit does not change the word, or changes it back the second time.
#[test]
fn nobody_is_admitted_by_one_of_many_limits() {
    exhaustive(|| {
        let slots = Arc::new(Slots::new(2));
        assert!(enters(&slots));
        let other = spawn(&slots, enters);
        slots.set_limit(1);
        slots.set_limit(0);
        let inside = slots.in_use();
        let admitted = other.join().unwrap();
        assert!(!(admitted && inside == 1), "past the new limit");
        assert_eq!(slots.in_use(), 1 + u32::from(admitted));
    });
}

/// Fails with Relaxed in `set_limit`.
#[test]
fn who_sees_a_change_of_the_limit_judges_by_it() {
    exhaustive(|| {
        let slots = Arc::new(Slots::new(1));
        let other = spawn(&slots, |slots| {
            let epoch = slots.word.load(Ordering::Acquire) & !(EPOCH - 1);
            (epoch > 0, enters(slots))
        });
        slots.set_limit(0);
        let (sees, admitted) = other.join().unwrap();
        assert!(!(sees && admitted));
    });
}

/// Fails if the mark and the slots were two words.
#[test]
fn either_the_mark_or_the_release_is_seen() {
    exhaustive(|| {
        let slots = Arc::new(Slots::new(1));
        assert!(enters(&slots));
        let holder = spawn(&slots, |slots| slots.give_back(1));
        slots.mark_queued();
        let had = slots.take_for_head(1);
        let sees = holder.join().unwrap();
        assert!(had || sees, "a lost wake-up");
    });
}

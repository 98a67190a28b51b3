//! Models: see `sync::model`.

use std::sync::Arc;

use super::*;
use crate::sync::model::{bounded, exhaustive, spawn};

fn enters(slots: &Slots) -> bool {
    slots.try_take(1) == Place::Admitted
}

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

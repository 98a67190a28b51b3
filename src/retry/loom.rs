//! Models: see `sync::model`.

use std::sync::Arc;

use super::*;
use crate::sync::model::{bounded, exhaustive, spawn};

fn seeds() -> Arc<Seeds> {
    Arc::new(Seeds::Fixed(AtomicU64::new(7)))
}

/// Fails if a seed is read and the next one written in two steps.
#[test]
fn two_calls_have_a_seed_each() {
    exhaustive(|| {
        let seeds = seeds();
        let other = spawn(&seeds, |seeds| [seeds.next(), seeds.next()]);
        let mine = seeds.next();
        let [first, second] = other.join().unwrap();
        assert!(mine != first && mine != second && first != second);
    });
}

#[test]
fn three_calls_have_a_seed_each() {
    bounded(3, || {
        let seeds = seeds();
        let others = [0, 1].map(|_| spawn(&seeds, Seeds::next));
        let mine = seeds.next();
        let [one, two] = others.map(|other| other.join().unwrap());
        assert!(mine != one && mine != two && one != two);
    });
}

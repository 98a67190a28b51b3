//! The number of keys of a keyed limiter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::prelude::*;

use super::series::{Figure, Law, Series, Unit};
use super::sweep::{Numbers, Sweep};
use crate::meter::Sample;

const LEAST: u64 = 100;
const MOST: u64 = 1_000_000;

type Keyed = KeyedRateLimiter<u64>;

/// So fast that a key is idle again after a nanosecond.
fn fast(max_keys: u64) -> Keyed {
    of(max_keys, 1_000_000_000, Duration::from_secs(1))
}

/// So slow that a key owes for as long as we look, and its bucket still fits into a word: a
/// larger one has a limiter of its own, with a lock, which is not what is usual.
fn slow(max_keys: u64) -> Keyed {
    of(max_keys, 1, Duration::from_secs(100))
}

fn of(max_keys: u64, permits: u32, per: Duration) -> Keyed {
    let one = RateLimiter::builder().rate(permits, per).burst(1_000_000);
    let keyed = one.keyed().max_keys(max_keys as usize);
    keyed.build().expect("the settings are in range")
}

/// Every key is known, and owes a little, so that none is forgotten.
fn filled(keys: u64) -> Keyed {
    // Room for the parts of the table that get more than their share.
    let keyed = slow(keys * 2 + 16_384);
    for key in 0..keys {
        keyed.try_acquire(&key, 1).expect("there is room");
    }
    keyed
}

pub(crate) fn known(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(LEAST, MOST);
    Figure {
        file: "",
        title: "Keyed rate limiter: a known key",
        axis: "keys",
        about: "One `try_acquire` of a key that is remembered: each time the same one, or any of \
                them. The yardstick is a mutex around a `HashMap` whose values have a mutex and a \
                reference count of their own, any key.",
        unit: Unit::Nanoseconds,
        ours: vec![
            sweep.series("the same key", &sizes, one),
            sweep.series("any key", &sizes, any),
        ],
        yardsticks: vec![map(sweep, &sizes)],
        law: Law::Logarithmic,
    }
}

fn one(sweep: &Sweep, keys: u64) -> Sample {
    let keyed = filled(keys);
    sweep.time(move || keyed.try_acquire(&7, 1).is_ok())
}

fn any(sweep: &Sweep, keys: u64) -> Sample {
    let (keyed, mut numbers) = (filled(keys), Numbers::new());
    sweep.time(move || keyed.try_acquire(&numbers.below(keys), 1).is_ok())
}

fn map(sweep: &Sweep, sizes: &[u64]) -> Series {
    sweep.series("a mutexed HashMap of mutexes", sizes, |sweep, keys| {
        let values = (0..keys).map(|key| (key, Arc::new(Mutex::new([key; 12]))));
        let (map, mut numbers) = (
            Mutex::new(values.collect::<HashMap<_, _>>()),
            Numbers::new(),
        );
        sweep.time(move || {
            let key = numbers.below(keys);
            let value = map.lock().expect("no panic").get(&key).cloned();
            value.map(|value| value.lock().expect("no panic")[1] += 1)
        })
    })
}

pub(crate) fn strangers(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(LEAST, MOST);
    Figure {
        file: "",
        title: "Keyed rate limiter: ever new keys",
        axis: "keys it may remember, all taken",
        about: "One `try_acquire` of a key that was never seen, while the table is full: of keys \
                that are idle, so that one is forgotten for each new one; or of keys that owe, \
                so that the new one is refused. The yardstick takes one out of a mutexed \
                `HashMap` and puts another one in.",
        unit: Unit::Nanoseconds,
        ours: vec![
            sweep.series("in the place of an idle one", &sizes, admitted),
            sweep.series("refused: all owe", &sizes, refused),
        ],
        yardsticks: vec![replace(sweep, &sizes)],
        law: Law::Logarithmic,
    }
}

fn admitted(sweep: &Sweep, keys: u64) -> Sample {
    let (keyed, mut next) = (fast(keys), 0_u64);
    let mut stranger = move || {
        next += 1;
        keyed.try_acquire(&next, 1).is_ok()
    };
    (0..keys * 2).for_each(|_| assert!(stranger(), "one is idle"));
    sweep.time(stranger)
}

fn refused(sweep: &Sweep, keys: u64) -> Sample {
    let (keyed, mut next) = (slow(keys), 0_u64);
    let mut stranger = move || {
        next += 1;
        keyed.try_acquire(&next, 1).is_ok()
    };
    // Until every part of the table is full.
    while (0..1000).any(|_| stranger()) {}
    sweep.time(stranger)
}

fn replace(sweep: &Sweep, sizes: &[u64]) -> Series {
    sweep.series("a mutexed HashMap", sizes, |sweep, keys| {
        let values = (0..keys).map(|key| (key, Box::new([key; 12])));
        let map = Mutex::new(values.collect::<HashMap<_, _>>());
        let mut next = keys;
        sweep.time(move || {
            let mut map = map.lock().expect("no panic");
            map.remove(&(next - keys));
            map.insert(next, Box::new([next; 12]));
            next += 1;
        })
    })
}

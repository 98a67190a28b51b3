//! Models: see `sync::model`. The first thread is the one with the lock, and so with the bucket;
//! what it all comes to is what the bucket would have come to, in some order.

use std::sync::Arc;

use super::*;
use crate::rate_limit::bucket::Rate;
use crate::sync::model::{bounded, exhaustive, spawn};

const NOW: Instant = Instant::from_nanos(5);

type Taken = Option<Result<(), Duration>>;

/// One permit in so many nanoseconds.
fn rate(nanos: u64) -> Rate {
    Rate::new(1, Duration::from_nanos(nanos)).unwrap()
}

fn open(burst: u32) -> (Arc<Door>, Bucket) {
    let bucket = Bucket::new(rate(10), burst, NOW);
    let door = Door::new();
    door.open(&bucket);
    (Arc::new(door), bucket)
}

fn take(door: &Door) -> Taken {
    door.try_take(1, NOW)
}

fn took(taken: &Taken) -> u32 {
    u32::from(matches!(taken, Some(Ok(()))))
}

/// Fails if `shut` reads the number and sets the mark in two steps.
#[test]
fn what_is_taken_at_the_door_is_missing_behind_it() {
    exhaustive(|| {
        let (door, mut bucket) = open(2);
        let other = spawn(&door, |door| [take(door), take(door)]);
        door.shut(&mut bucket);
        let mine = u32::from(bucket.covers(1));
        bucket.take(mine);
        door.open(&bucket);
        let taken = mine + other.join().unwrap().iter().map(took).sum::<u32>();
        door.shut(&mut bucket);
        assert_eq!(bucket.available() + taken, 2);
    });
}

#[test]
fn two_at_the_door_and_one_behind_it_share_the_burst() {
    bounded(3, || {
        let (door, mut bucket) = open(1);
        let others = [0, 1].map(|_| spawn(&door, take));
        door.shut(&mut bucket);
        let mine = u32::from(bucket.covers(1));
        bucket.take(mine);
        door.open(&bucket);
        let others = others.map(|other| took(&other.join().unwrap()));
        let taken = mine + others.iter().sum::<u32>();
        assert_eq!(taken, 1);
    });
}

/// What the bucket is when the rate has changed, with a take before or after it, or none.
fn possible(taken: &Taken, change: impl Fn(&mut Bucket)) -> Vec<Bucket> {
    let full = || Bucket::new(rate(10), 2, NOW);
    let (mut before, mut after, mut none) = (full(), full(), full());
    before.take(1);
    change(&mut before);
    change(&mut after);
    if took(taken) == 0 {
        change(&mut none);
        return vec![none];
    }
    if !after.covers(1) {
        return vec![before];
    }
    after.take(1);
    vec![before, after]
}

/// The seven words of a scale are read by one thread while the other writes them: that is too many
/// orders even for two threads, so these models have a bound.
///
/// Fails if a take does not look at the version again, and if the version is stored first:
/// it then takes by the old scale, or by parts of two.
#[test]
fn nobody_takes_by_a_scale_that_has_gone() {
    bounded(3, || {
        let (door, mut bucket) = open(2);
        let other = spawn(&door, take);
        door.shut(&mut bucket);
        bucket.set_rate(rate(1_000));
        door.open(&bucket);
        let taken = other.join().unwrap();
        door.shut(&mut bucket);
        let possible = possible(&taken, |bucket| bucket.set_rate(rate(1_000)));
        assert!(possible.contains(&bucket), "{bucket:?} after {taken:?}");
    });
}

/// The scale changes and changes back: its number must not come again.
#[test]
fn nobody_takes_by_one_of_many_scales() {
    bounded(2, || {
        let (door, mut bucket) = open(2);
        let other = spawn(&door, take);
        let change = |bucket: &mut Bucket| {
            bucket.set_rate(rate(1_000));
            bucket.set_rate(rate(7));
        };
        for nanos in [1_000, 7] {
            door.shut(&mut bucket);
            bucket.set_rate(rate(nanos));
            door.open(&bucket);
        }
        let taken = other.join().unwrap();
        door.shut(&mut bucket);
        let mut between = Bucket::new(rate(10), 2, NOW);
        between.set_rate(rate(1_000));
        between.take(1);
        between.set_rate(rate(7));
        let possible = possible(&taken, change);
        let fits = possible.contains(&bucket) || (took(&taken) == 1 && bucket == between);
        assert!(fits, "{bucket:?} after {taken:?}");
    });
}

/// A refusal tells a time of the one scale or of the other, not of a mixture.
#[test]
fn a_refusal_tells_a_time_of_one_scale() {
    bounded(3, || {
        let (door, mut bucket) = open(1);
        assert_eq!(take(&door), Some(Ok(())));
        let other = spawn(&door, take);
        door.shut(&mut bucket);
        bucket.set_rate(rate(1_000));
        door.open(&bucket);
        if let Some(taken) = other.join().unwrap() {
            let wait = taken.unwrap_err();
            let nanos = u64::try_from(wait.as_nanos()).unwrap();
            assert!([10, 1_000].contains(&nanos), "{nanos} ns");
        }
    });
}

/// Both have read the scale, and judge by it while it changes: to read its seven words as well
/// would be too many orders for three threads.
#[test]
fn two_takers_and_a_new_rate_lose_no_permit() {
    bounded(3, || {
        let (door, mut bucket) = open(2);
        let others = [0, 1].map(|_| {
            let (version, scale) = door.scale.load();
            spawn(&door, move |door| door.try_take_by(1, NOW, version, &scale))
        });
        door.shut(&mut bucket);
        bucket.set_rate(rate(20));
        door.open(&bucket);
        let taken: u32 = others
            .map(|other| took(&other.join().unwrap()))
            .iter()
            .sum();
        door.shut(&mut bucket);
        assert_eq!(bucket.available() + taken, 2);
    });
}

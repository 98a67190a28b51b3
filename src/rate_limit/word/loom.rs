//! Models: see `sync::model`. The law: of any two takes, what was taken from the first up to
//! the second is at most the burst and what came in between.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::rate_limit::bucket::{Bucket, Rate};
use crate::sync::model::{bounded, exhaustive, spawn};

/// As of a door that is shut.
const SHUT: u64 = 1 << 63;

struct Limit {
    scale: Scale,
    word: Word,
    latest: Latest,
}

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// A full bucket of so many permits, of which one comes back every two grains.
fn limit(burst: u32) -> Arc<Limit> {
    let rate = Rate::new(1, Duration::from_nanos(2 * GRAIN)).unwrap();
    let bucket = Bucket::new(rate, burst, at(0));
    let scale = Scale::new(&bucket, 0).unwrap();
    Arc::new(Limit {
        word: Word::new(scale.number(&bucket).unwrap()),
        latest: Latest::new(at(0)),
        scale,
    })
}

fn takes(limit: &Limit, now: u64) -> bool {
    let Limit {
        scale,
        word,
        latest,
    } = limit;
    let taken = word.try_take(1, (at(now), latest), scale, |_| true);
    taken.expect("it is always valid").is_ok()
}

/// Fails if the number is read and written in two steps; so do the next two.
#[test]
fn at_one_instant_the_burst_is_given_and_no_more() {
    exhaustive(|| {
        let limit = limit(1);
        let other = spawn(&limit, |limit| takes(limit, 0));
        assert!(takes(&limit, 0) != other.join().unwrap());
        assert!(!takes(&limit, 0));
    });
}

#[test]
fn three_threads_share_a_burst_of_two() {
    bounded(4, || {
        let limit = limit(2);
        let others = [0, 1].map(|_| spawn(&limit, |limit| takes(limit, 0)));
        let mine = takes(&limit, 0);
        let others = others.map(|other| other.join().unwrap());
        let taken = u32::from(mine) + others.map(u32::from).iter().sum::<u32>();
        assert_eq!(taken, 2);
    });
}

/// Who comes late with an early reading takes nothing that is not there, and nothing from who
/// has the later one.
#[test]
fn readings_that_come_in_the_wrong_order_make_no_permits() {
    bounded(4, || {
        let limit = limit(1);
        let later = [0, 1].map(|_| spawn(&limit, |limit| takes(limit, 2 * GRAIN)));
        let early = takes(&limit, 0);
        let later = later.map(|other| other.join().unwrap());
        let taken = u32::from(early) + later.map(u32::from).iter().sum::<u32>();
        assert!(taken <= 2, "the burst, and one that came back");
        assert!(later.contains(&true), "one has been there all the time");
        assert!(!takes(&limit, 2 * GRAIN) || (!early && taken == 1));
    });
}

/// Fails with Relaxed in `set`, where the word is read, or where it fails to be exchanged: the
/// door stores its scale so.
#[test]
fn who_sees_a_number_sees_what_was_stored_before_it() {
    exhaustive(|| {
        let both = Arc::new((limit(2), AtomicU64::new(0)));
        let number = both.0.word.number() + 1;
        let other = spawn(&both, move |(limit, version)| {
            let is_valid = |word| {
                assert!(word != number || version.load(Ordering::Relaxed) == 1);
                word & SHUT == 0
            };
            let now = (at(0), &limit.latest);
            limit.word.try_take(1, now, &limit.scale, is_valid);
        });
        both.0.word.mark(SHUT);
        both.1.store(1, Ordering::Relaxed);
        both.0.word.set(number);
        other.join().unwrap();
    });
}

/// Fails with Relaxed in `mark`, or where a take exchanges the word.
#[test]
fn who_marks_the_word_sees_what_takers_did_before() {
    exhaustive(|| {
        let both = Arc::new((limit(1), AtomicU64::new(0)));
        let start = both.0.word.number();
        let other = spawn(&both, |(limit, before)| {
            before.store(1, Ordering::Relaxed);
            // Once it is marked the number says nothing.
            takes(limit, 0);
        });
        let (limit, before) = &*both;
        if limit.word.mark(SHUT) != start {
            assert_eq!(before.load(Ordering::Relaxed), 1);
        }
        other.join().unwrap();
    });
}

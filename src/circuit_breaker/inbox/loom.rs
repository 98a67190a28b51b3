//! Models: see `sync::model`. The first thread is the one with the state's lock.

use std::sync::Arc;

use super::*;
use crate::sync::model::{bounded, exhaustive, spawn};

const OK: Outcome = Outcome {
    failed: false,
    slow: false,
};
const FAILED: Outcome = Outcome {
    failed: true,
    slow: false,
};
const TERMS: Terms = Terms {
    generation: 5,
    quiet: false,
    room: 3,
    until: Instant::NEVER,
};

fn inbox(terms: Terms) -> Arc<Inbox> {
    Arc::new(Inbox::new(Some(terms)))
}

/// Puts both in; the calls and the failures that were counted.
fn put(inbox: &Inbox, outcomes: [Outcome; 2]) -> (u64, u64) {
    let mut counted = (0, 0);
    for outcome in outcomes {
        if inbox.put(5, outcome) {
            counted.0 += 1;
            counted.1 += u64::from(outcome.failed);
        }
    }
    counted
}

fn sum(batches: &[Batch]) -> (u64, u64) {
    let calls = batches.iter().map(|batch| batch.calls()).sum();
    let failed = batches
        .iter()
        .map(|batch| u64::from(batch.failed().count_ones()));
    (calls, failed.sum())
}

/// Fails, in every run, if `take` or `shut` reads the word and writes it in two steps; so do
/// the next three.
#[test]
fn what_is_counted_is_taken_once() {
    exhaustive(|| {
        let inbox = inbox(TERMS);
        let other = spawn(&inbox, |inbox| put(inbox, [FAILED, OK]));
        let first = inbox.take().unwrap();
        inbox.renew(Some(TERMS));
        let second = inbox.shut();
        let counted = other.join().unwrap();
        assert_eq!(sum(&[first, second, inbox.shut()]), counted);
    });
}

#[test]
fn what_is_counted_before_it_is_shut_comes_before() {
    exhaustive(|| {
        let inbox = inbox(TERMS);
        let other = spawn(&inbox, |inbox| (inbox.put(5, FAILED), inbox.put(5, OK)));
        let first = inbox.shut();
        inbox.open(Some(Terms {
            generation: 6,
            ..TERMS
        }));
        let second = inbox.shut();
        let (one, two) = other.join().unwrap();
        assert_eq!(
            sum(&[first]),
            (u64::from(one) + u64::from(two), u64::from(one))
        );
        assert_eq!(sum(&[second]), (0, 0), "of the generation that has gone");
        assert!(one || !two);
    });
}

#[test]
fn two_who_put_and_one_who_takes_agree() {
    bounded(3, || {
        let inbox = inbox(TERMS);
        let others =
            [FAILED, OK].map(|second| spawn(&inbox, move |inbox| put(inbox, [FAILED, second])));
        let first = inbox.take().unwrap();
        inbox.renew(Some(TERMS));
        let second = inbox.shut();
        inbox.open(Some(TERMS));
        let [one, two] = others.map(|other| other.join().unwrap());
        let taken = sum(&[first, second, inbox.shut()]);
        assert_eq!(taken, (one.0 + two.0, one.1 + two.1));
    });
}

/// Fails if `renew` does not count what came meanwhile against the new terms.
#[test]
fn no_more_failures_are_counted_than_there_is_room_for() {
    exhaustive(|| {
        let inbox = inbox(Terms { room: 2, ..TERMS });
        let other = spawn(&inbox, |inbox| {
            put(inbox, [FAILED, FAILED]).1 + u64::from(inbox.put(5, FAILED))
        });
        let batch = inbox.take().unwrap();
        // What the state says that has been told of them.
        let left = 2 - batch.failed().count_ones();
        inbox.renew(Some(Terms {
            room: left,
            ..TERMS
        }));
        let counted = other.join().unwrap();
        assert!(counted <= 2, "{counted} failures counted");
        assert_eq!(sum(&[batch, inbox.shut()]).1, counted);
    });
}

#[test]
fn two_who_fail_share_the_room() {
    bounded(3, || {
        let inbox = inbox(Terms { room: 1, ..TERMS });
        let others = [0, 1].map(|_| spawn(&inbox, |inbox| inbox.put(5, FAILED)));
        let batch = inbox.take().unwrap();
        let left = 1 - batch.failed().count_ones();
        inbox.renew(Some(Terms {
            room: left,
            ..TERMS
        }));
        let counted: u64 = others
            .map(|other| u64::from(other.join().unwrap()))
            .iter()
            .sum();
        assert_eq!(counted, 1);
        assert_eq!(sum(&[batch, inbox.shut()]), (1, 1));
    });
}

/// A plain success that changes nothing needs not be counted, but one after a failure does.
#[test]
fn a_success_after_a_failure_is_not_lost_in_the_quiet() {
    exhaustive(|| {
        let inbox = inbox(Terms {
            quiet: true,
            ..TERMS
        });
        let other = spawn(&inbox, |inbox| inbox.put(5, FAILED) && inbox.put(5, OK));
        let first = inbox.take().unwrap();
        inbox.renew(Some(Terms {
            quiet: first.is_empty(),
            ..TERMS
        }));
        assert!(other.join().unwrap());
        let second = inbox.shut();
        assert_eq!(sum(&[first, second]), (2, 1));
    });
}

/// A step of a window of time: whoever sees its end counts into what comes after it.
///
/// Fails if `open` tells the end before the inbox was shut. It cannot show that Release and
/// Acquire are needed: loom lets an exchange see nothing but the latest value.
#[test]
fn who_sees_the_end_of_a_step_counts_after_it() {
    exhaustive(|| {
        let ends = |nanos| Terms {
            until: Instant::from_nanos(nanos),
            ..TERMS
        };
        let inbox = inbox(ends(10));
        let other = spawn(&inbox, |inbox| {
            !inbox.is_over(Instant::from_nanos(15)) && inbox.put(5, FAILED)
        });
        let before = inbox.shut();
        inbox.open(Some(ends(20)));
        let counted = other.join().unwrap();
        assert_eq!(sum(&[before]), (0, 0), "a later step's result");
        assert_eq!(sum(&[inbox.shut()]).0, u64::from(counted));
    });
}

//! Models: see `sync::model`.

use super::*;
use crate::sync::atomic::AtomicU32;
use crate::sync::model::{block_on, bounded, exhaustive, give_up, spawn};

#[derive(Default)]
struct Site {
    tracker: Tracker,
    done: AtomicU32,
}

/// Enters, works, leaves; whether it was let in.
fn visit(site: &Site) -> bool {
    let Ok(_entered) = site.tracker.enter() else {
        return false;
    };
    let before = site.done.load(Ordering::Relaxed);
    site.done.store(before + 1, Ordering::Relaxed);
    true
}

/// After the close and the drain nobody is in, nobody comes in, and what was done inside is seen.
/// Fails where `try_enter` looks at the mark first and adds itself then, and with a relaxed order
/// in `leave`.
#[test]
fn what_was_closed_and_drained_stays_so() {
    exhaustive(|| {
        let site = Arc::new(Site::default());
        let visitor = spawn(&site, visit);
        site.tracker.close();
        block_on(site.tracker.drained());
        assert_eq!(site.tracker.in_flight(), 0);
        let done = site.done.load(Ordering::Relaxed);
        assert!(!visit(&site));
        assert_eq!(done, u32::from(visitor.join().unwrap()));
        assert_eq!(
            site.done.load(Ordering::Relaxed),
            done,
            "worked after the end"
        );
        assert_eq!(site.tracker.word.load(Ordering::Relaxed) / ONE, 0);
    });
}

/// The last to leave wakes who waits, whichever of them that is. Fails where `poll_drained` looks
/// before it sets its mark.
#[test]
fn the_last_to_leave_wakes_who_waits() {
    bounded(3, || {
        let tracker = Arc::new(Tracker::new());
        let others = [(); 2].map(|()| {
            let entered = tracker.enter_owned().unwrap();
            crate::sync::thread::spawn(move || drop(entered))
        });
        block_on(tracker.drained());
        assert_eq!(tracker.in_flight(), 0);
        for other in others {
            other.join().unwrap();
        }
    });
}

/// One who waits and gives up takes no one's wake-up along. Fails where it clears the mark.
#[test]
fn who_gives_up_takes_no_wake_up_along() {
    bounded(3, || {
        let tracker = Arc::new(Tracker::new());
        let entered = tracker.enter_owned().unwrap();
        let leaves = crate::sync::thread::spawn(move || drop(entered));
        let gives_up = spawn(&tracker, |tracker| {
            give_up(tracker.drained());
        });
        block_on(tracker.drained());
        leaves.join().unwrap();
        gives_up.join().unwrap();
    });
}

//! The tracker's one word.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready, task};

use crate::Refusal;
use crate::scope::Tracker;
use crate::testing::drop_beside;

#[test]
fn what_was_dropped_or_has_ended_is_not_in_flight() {
    let tracker = Tracker::new();
    let held = (
        tracker.enter().unwrap(),
        tracker.track(async { 1 }).unwrap(),
    );
    assert_eq!(tracker.in_flight(), 2);
    let mut wait = task::spawn(tracker.drained());
    assert_pending!(wait.poll());
    let mut ran = task::spawn(held.1);
    assert_eq!(assert_ready!(ran.poll()), 1);
    drop((held.0, ran));
    assert!(wait.is_woken());
    assert_ready!(wait.poll());
    assert_eq!(
        format!("{tracker:?}"),
        "Tracker { in_flight: 0, is_closed: false, .. }"
    );
}

/// Trap 80: refused after the close, and the future comes back.
#[test]
fn a_closed_tracker_refuses_and_gives_the_future_back() {
    let tracker = Arc::new(Tracker::new());
    let held = tracker.enter_owned().unwrap();
    tracker.close();
    assert!(tracker.is_closed());
    assert_eq!(tracker.enter().unwrap_err(), Refusal::ShutDown);
    let refused = tracker.track_owned(std::future::ready(3)).unwrap_err();
    assert_eq!(assert_ready!(task::spawn(refused.into_inner()).poll()), 3);
    assert_eq!(tracker.in_flight(), 1, "refusals leave no trace");
    drop(held);
    assert_ready!(task::spawn(tracker.drained()).poll());
}

struct Nosy(&'static Tracker, AtomicUsize);

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        let _held = self.0.enter().unwrap();
        assert_pending!(task::spawn(self.0.drained()).poll(), "another is in");
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let _ = task::spawn(self.0.drained()).poll();
    }
}

struct Angry;

impl Wake for Angry {
    fn wake(self: Arc<Self>) {
        panic!("waker");
    }
}

/// Traps 76 and 77.
#[test]
fn wakers_are_woken_outside_of_the_lock_and_may_panic() {
    crate::sync::global! { static TRACKER: Tracker = Tracker::new(); }
    let held = TRACKER.enter().unwrap();
    let mut waits = [(); 3].map(|()| Box::pin(TRACKER.drained()));
    let nosy = Waker::from(Arc::new(Nosy(&TRACKER, AtomicUsize::new(0))));
    let angry = Waker::from(Arc::new(Angry));
    for (wait, waker) in waits.iter_mut().zip([&angry, &nosy, &angry]) {
        assert_pending!(wait.as_mut().poll(&mut Context::from_waker(waker)));
        assert_pending!(wait.as_mut().poll(&mut Context::from_waker(waker)));
    }
    let [_, nosy_wait, last] = &mut waits;
    assert_pending!(last.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    drop(nosy);
    drop(held);
    assert_ready!(
        nosy_wait
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_can_be_dropped_at_every_poll() {
    let tracker = Tracker::new();
    let actor = || {
        let held = tracker.enter().unwrap();
        let tracker = &tracker;
        async move {
            tokio::task::yield_now().await;
            let second = tracker.enter().unwrap();
            drop(held);
            tokio::task::yield_now().await;
            drop(second);
        }
    };
    drop_beside(
        || (tracker.drained(), actor()),
        async |_| {
            assert_eq!(tracker.in_flight(), 0);
            tracker.drained().await;
        },
    )
    .await;
}

/// What sleeps for longer sleeps for ever.
const BOUND: std::time::Duration = std::time::Duration::from_secs(10);

/// Who closes and waits has waited for everyone who was let in.
#[test]
fn nobody_is_in_flight_after_a_close_and_a_wait() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for _ in 0..crate::testing::rounds(300) {
        let tracker = Tracker::new();
        let inside = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    while let Ok(_held) = tracker.enter() {
                        inside.fetch_add(1, Ordering::Relaxed);
                        std::hint::spin_loop();
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
            std::thread::yield_now();
            tracker.close();
            let drained = async { tokio::time::timeout(BOUND, tracker.drained()).await };
            assert!(runtime.block_on(drained).is_ok(), "asleep at zero");
            assert_eq!(inside.load(Ordering::Relaxed), 0);
            assert_eq!(tracker.in_flight(), 0);
        });
    }
}

/// Who is refused is never in flight, not even for a moment.
#[test]
fn the_refused_are_never_in_flight() {
    let tracker = Tracker::new();
    tracker.close();
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(tracker.enter().is_err());
                }
            });
        }
        let looks = (0..crate::testing::rounds(50_000)).filter(|_| {
            tracker.in_flight() > 0 || task::spawn(tracker.drained()).poll().is_pending()
        });
        let seen = looks.count();
        stop.store(true, Ordering::Relaxed);
        seen
    });
    assert_eq!(seen, 0, "of so many looks");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("scope"), ..ProptestConfig::default() })]

    /// Whatever happens: the number is right, and nobody sleeps at zero.
    #[test]
    fn nobody_sleeps_when_nothing_is_in_flight(ops in prop::collection::vec((0..5u8, any::<prop::sample::Index>()), 0..60)) {
        let tracker = Tracker::new();
        let mut held = Vec::new();
        let mut waits = Vec::new();
        let mut closed = false;
        for (op, at) in ops {
            match op {
                0 | 1 => {
                    let entered = tracker.enter();
                    prop_assert_eq!(entered.is_ok(), !closed);
                    held.extend(entered);
                }
                2 if !held.is_empty() => drop(held.swap_remove(at.index(held.len()))),
                3 => {
                    let mut wait = task::spawn(tracker.drained());
                    prop_assert_eq!(wait.poll().is_ready(), held.is_empty());
                    if !held.is_empty() {
                        waits.push(wait);
                    }
                }
                4 if !waits.is_empty() => drop(waits.swap_remove(at.index(waits.len()))),
                4 => closed = at.index(8) == 0 && { tracker.close(); true } || closed,
                _ => {}
            }
            prop_assert_eq!(tracker.in_flight(), held.len());
            if held.is_empty() {
                prop_assert!(waits.iter().all(task::Spawn::is_woken), "asleep at zero");
                prop_assert!(waits.iter_mut().all(|wait| wait.poll().is_ready()));
                waits.clear();
            }
        }
    }
}

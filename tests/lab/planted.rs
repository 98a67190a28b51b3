//! The laboratory can fail: leaks that are planted are found, each at its point.

use std::process::{Command, Stdio};
use std::sync::Arc;

use mainstay::bulkhead::BulkheadSnapshot;
use mainstay::prelude::*;
use mainstay::testing::{Ending, Failure, Laboratory, Order, Point};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::proof;
use crate::world::{Gates, MILLI};

fn one_slot() -> Bulkhead {
    Bulkhead::builder().max_concurrent(1).build().unwrap()
}

/// The next call, once all is counted.
async fn is_whole(slots: &Bulkhead) {
    let BulkheadSnapshot { in_use, queued, .. } = slots.snapshot();
    assert_eq!((in_use, queued), (0, 0), "slots");
    drop(slots.acquire(1).await.unwrap());
}

/// A permit that is forgotten over a wait, and its slot given back by hand.
#[tokio::test(start_paused = true)]
async fn a_forgotten_permit_is_pinpointed_by_poll_and_ending() {
    for (ending, polls) in [
        (Ending::Drop, 1),
        (Ending::DropWoken, 1),
        (Ending::TimeOut, 0),
        (Ending::Abort, 1),
    ] {
        let leaking = |slots: Arc<Bulkhead>| async move {
            let permit = slots.acquire(1).await.unwrap();
            // Whoever is cancelled here has lost it.
            let permit = std::mem::ManuallyDrop::new(permit);
            sleep(5 * MILLI).await;
            drop(std::mem::ManuallyDrop::into_inner(permit));
        };
        let found = Laboratory::new("planted")
            .endings([ending])
            .try_run(
                async || one_slot(),
                leaking,
                async |slots: &Bulkhead, _: &Point| {
                    is_whole(slots).await;
                },
            )
            .await
            .unwrap_err();
        assert_eq!(found.point, Point::new(polls, ending, Order::AfterCut));
        proof::count("lab.planted_leaks_found", 1);
    }
}

/// Takes a permit whenever a call is cut.
struct Burns<'a>(&'a RateLimiter);

impl Drop for Burns<'_> {
    fn drop(&mut self) {
        self.0.try_acquire(1).unwrap();
    }
}

/// Nothing is held and nobody waits, and yet a permit is gone: the next calls have fewer.
#[tokio::test(start_paused = true)]
async fn a_permit_that_is_burnt_by_a_cancellation_is_missed() {
    let burns = |gates: Arc<Gates>| async move {
        let burns = Burns(&gates.limiter);
        yield_now().await;
        std::mem::forget(burns);
    };
    let found = missed(burns).await;
    assert_eq!(found.point, Point::new(1, Ending::Drop, Order::AfterCut));
    assert!(found.what.contains("permits"), "{found}");
    // Trap 34: it pays before its turn has come, and does not get that back.
    let pays_ahead = |gates: Arc<Gates>| async move {
        let got = gates.limiter.try_acquire(1);
        sleep(5 * MILLI).await;
        gates.spent(1, got).unwrap();
    };
    let found = missed(pays_ahead).await;
    assert_eq!(found.point, Point::new(1, Ending::Drop, Order::AfterCut));
    assert!(found.what.contains("permits"), "{found}");
    proof::count("lab.planted_leaks_found", 2);
}

async fn missed<Fut: Future<Output = ()> + Send + 'static>(
    leaking: impl FnMut(Arc<Gates>) -> Fut,
) -> Failure {
    let check = async |gates: &Gates, _: &Point| gates.are_whole(async || Ok(7)).await;
    let lab = Laboratory::new("planted");
    let tried = lab.try_run(async || Gates::free(), leaking, check).await;
    tried.unwrap_err()
}

/// A neighbour's step matters: a wait that passes its turn on only if it was not woken.
#[tokio::test(start_paused = true)]
async fn a_turn_lost_by_one_who_was_woken_is_pinpointed() {
    use tokio::sync::{Notify, Semaphore};
    /// One permit, announced by a `Notify` that is stored away before it is looked at.
    struct World {
        turn: Semaphore,
        told: Notify,
    }
    let found = Laboratory::new("planted")
        .try_run_beside(
            async || World {
                turn: Semaphore::new(0),
                told: Notify::new(),
            },
            |world: Arc<World>| async move {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                let told = Arc::clone(&world);
                // Takes the turn for the one who waits, whether he is still there or not.
                tokio::spawn(async move {
                    told.told.notified().await;
                    let _ = sender.send(());
                });
                receiver.await.unwrap();
                world.turn.add_permits(1);
            },
            |world: Arc<World>| async move {
                yield_now().await;
                world.told.notify_one();
                yield_now().await;
            },
            async |world: &World, point: &Point| {
                // Who was never told is none who lost it.
                if point.ending() == Ending::DropWoken {
                    assert_eq!(world.turn.available_permits(), 1, "a turn");
                }
            },
        )
        .await
        .unwrap_err();
    assert_eq!(found.point.ending(), Ending::DropWoken);
    assert_eq!(found.point.polls(), 1);
    proof::count("lab.planted_leaks_found", 1);
}

/// Files and children are counted for the whole process, so this one runs alone in its own.
#[cfg(target_os = "linux")]
#[test]
fn a_file_and_a_child_that_stay_are_missed() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "planted::alone", "--ignored", "--test-threads=1"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    proof::count("lab.planted_leaks_found", 2);
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "runs alone, started by the test before"]
async fn alone() {
    let lab = || {
        Laboratory::new("planted")
            .patience(300 * MILLI)
            .endings([Ending::Drop])
    };
    let nothing = async |(): &(), _: &Point| {};
    let opens = |_: Arc<()>| async {
        let file = std::fs::File::open("/dev/null").unwrap();
        let file = std::mem::ManuallyDrop::new(file);
        yield_now().await;
        drop(std::mem::ManuallyDrop::into_inner(file));
    };
    let found = lab()
        .watch_descriptors()
        .try_run(async || (), opens, nothing)
        .await;
    let found = found.unwrap_err();
    assert_eq!(found.point, Point::new(1, Ending::Drop, Order::AfterCut));
    assert!(found.what.contains("descriptors"), "{found}");

    let starts = |_: Arc<()>| async {
        let mut child = Command::new("sleep").arg("0").spawn().unwrap();
        yield_now().await;
        child.wait().unwrap();
    };
    let found = lab()
        .watch_children()
        .try_run(async || (), starts, nothing)
        .await;
    let found = found.unwrap_err();
    assert_eq!(found.point, Point::new(1, Ending::Drop, Order::AfterCut));
    assert!(found.what.contains("1 children"), "{found}");
}

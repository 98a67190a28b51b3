//! The laboratory finds what is planted, and says where.

use std::future::{Future, pending, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::yield_now;

use super::{Ending, Failure, Laboratory, Order, Point, catch_panic, sleep};

const MILLI: Duration = Duration::from_millis(1);

async fn one() -> Semaphore {
    Semaphore::new(1)
}

fn one_free(permits: &Semaphore) {
    assert_eq!(permits.available_permits(), 1, "a permit is lost");
}

fn lab() -> Laboratory {
    Laboratory::new("planted")
}

/// Tries a future over one permit that has no neighbour.
async fn leaks<Fut: Future<Output = ()> + Send + 'static>(
    lab: Laboratory,
    future: impl FnMut(Arc<Semaphore>) -> Fut,
) -> Failure {
    let check = async |permits: &Semaphore, _: &Point| one_free(permits);
    lab.try_run(one, future, check).await.unwrap_err()
}

/// Holds its permit by hand over two waits.
async fn by_hand(permits: Arc<Semaphore>, mut wait: impl AsyncFnMut()) {
    permits.acquire().await.unwrap().forget();
    wait().await;
    wait().await;
    permits.add_permits(1);
}

#[tokio::test(start_paused = true)]
async fn a_permit_forgotten_after_one_poll_is_found_there() {
    let found = leaks(lab(), |permits| async {
        yield_now().await;
        by_hand(permits, async || sleep(5 * MILLI).await).await;
    })
    .await;
    assert_eq!(found.point, Point::new(2, Ending::Drop, Order::AfterCut));
    let text = found.to_string();
    assert!(text.starts_with("planted: dropped after 2 polls: the check panicked: "));
    assert!(text.contains("a permit is lost"), "{text}");
    let replay = ".only(Point::new(2, Ending::Drop, Order::AfterCut))";
    assert!(text.ends_with(replay), "{text}");
}

#[tokio::test(start_paused = true)]
async fn each_ending_finds_the_leak_where_it_is() {
    for (ending, polls) in [
        (Ending::Drop, 1),
        (Ending::DropWoken, 1),
        // Its limit polls it once more, and passes in the middle of the first wait.
        (Ending::TimeOut, 0),
        (Ending::Abort, 1),
    ] {
        let found = leaks(lab().endings([ending]), |permits| {
            by_hand(permits, async || sleep(5 * MILLI).await)
        })
        .await;
        let point = Point::new(polls, ending, Order::AfterCut);
        assert_eq!(found.point, point);
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_point_is_tried_alone() {
    let well = Point::new(0, Ending::Abort, Order::AfterCut);
    let leak = Point::new(1, Ending::Abort, Order::AfterCut);
    let wait = async || yield_now().await;
    let found = leaks(lab().only(leak), |permits| by_hand(permits, wait)).await;
    assert_eq!(found.point, leak);
    let check = async |permits: &Semaphore, _: &Point| one_free(permits);
    let future = |permits| by_hand(permits, wait);
    let report = lab().only(well).run(one, future, check).await;
    assert_eq!(report.points(), 1);
}

/// A permit is handed over, and its receiver is cancelled before it has seen it.
#[tokio::test(start_paused = true)]
async fn what_was_handed_to_one_who_was_cancelled_is_missed() {
    type World = (Semaphore, Mutex<Option<oneshot::Sender<()>>>);
    let found = lab()
        .try_run_beside(
            async || -> World { (Semaphore::new(0), Mutex::default()) },
            |world: Arc<World>| async move {
                let (sender, receiver) = oneshot::channel();
                *world.1.lock().unwrap() = Some(sender);
                receiver.await.unwrap();
                world.0.add_permits(1);
            },
            |world: Arc<World>| async move {
                let waits = world.1.lock().unwrap().take();
                if waits.is_none_or(|waits| waits.send(()).is_err()) {
                    world.0.add_permits(1);
                }
            },
            async |world: &World, _: &Point| one_free(&world.0),
        )
        .await
        .unwrap_err();
    let point = Point::new(1, Ending::DropWoken, Order::Between);
    assert_eq!(found.point, point);
}

/// Trap of the kind "after two steps of somebody else": only some interleavings have it.
#[tokio::test(start_paused = true)]
async fn an_order_by_chance_finds_what_takes_several_steps_at_once() {
    type World = AtomicUsize;
    let run = |lab: Laboratory| {
        lab.endings([Ending::Drop]).try_run_beside(
            async || AtomicUsize::new(0),
            |steps: Arc<World>| async move {
                let before = steps.load(Ordering::SeqCst);
                yield_now().await;
                assert!(steps.load(Ordering::SeqCst) < before + 3, "overrun");
            },
            |steps: Arc<World>| async move {
                for _ in 0..5 {
                    steps.fetch_add(1, Ordering::SeqCst);
                    yield_now().await;
                }
            },
            async |_: &World, _: &Point| {},
        )
    };
    assert!(run(lab()).await.is_ok());
    let found = run(lab().shuffles(100)).await.unwrap_err();
    assert!(found.what.contains("overrun"), "{found}");
    assert!(matches!(found.point.order(), Order::Shuffled(_)));
    let again = run(lab().only(found.point)).await.unwrap_err();
    assert_eq!(again, found);
}

#[tokio::test(start_paused = true)]
async fn a_lost_wake_up_shows_as_a_future_that_never_ends() {
    let deaf = |_: Arc<()>| async {
        let mut polls = 0;
        poll_fn(|_| {
            polls += 1;
            if polls == 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    };
    let check = async |(): &(), _: &Point| {};
    let found = lab().try_run(async || (), deaf, check).await.unwrap_err();
    assert!(found.what.contains("a wake-up was lost"), "{found}");
    let point = Point::new(2, Ending::Drop, Order::AfterCut);
    assert_eq!(found.point, point);
    let report = lab().may_stay_pending().run(async || (), deaf, check).await;
    assert_eq!(report.most_polls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_always_goes_on_is_given_up() {
    let lab = lab().most_polls(20);
    let found = leaks(lab, |_| async {
        loop {
            yield_now().await;
        }
    })
    .await;
    let what = "it has still not ended: more polls than 20 are not tried; `up_to` tries so many";
    assert_eq!(found.what, what);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_never_ends_is_tried_as_far_as_that_is_asked_for() {
    let heartbeat = |permits: Arc<Semaphore>| async move {
        loop {
            let _permit = permits.acquire().await.unwrap();
            sleep(1_000 * MILLI).await;
        }
    };
    let check = async |permits: &Semaphore, _: &Point| one_free(permits);
    let report = lab().up_to(3).run(one, heartbeat, check).await;
    // After 0, 1, 2 and 3 polls; none is woken before its first.
    assert_eq!((report.points(), report.most_polls()), (4 + 3 + 4 + 4, 3));
    // It still finds what is wrong there, and one that ends does so.
    let found = leaks(lab().up_to(3), |permits| async {
        sleep(MILLI).await;
        by_hand(permits, async || sleep(MILLI).await).await;
    });
    let point = Point::new(2, Ending::Drop, Order::AfterCut);
    assert_eq!(found.await.point, point);
    let report = lab().up_to(9).run(one, |_| yield_now(), check).await;
    assert_eq!(report.most_polls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_stays_is_missed() {
    let found = leaks(lab(), |_| async {
        tokio::spawn(pending::<()>());
    })
    .await;
    assert_eq!(
        found.what,
        "0 tasks before, and 1 tasks when its world is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_takes_its_time_stays_unless_it_has_that_time() {
    let spawning = |_: Arc<Semaphore>| async {
        tokio::spawn(sleep(100 * MILLI));
        yield_now().await;
    };
    let found = leaks(lab(), spawning).await;
    assert_eq!(
        found.what,
        "0 tasks before, and 1 tasks when its world is gone"
    );
    let check = async |permits: &Semaphore, _: &Point| one_free(permits);
    let patient = lab().settle_within(150 * MILLI);
    let report = patient.run(one, spawning, check).await;
    // Cut at 0, 1, ended at 2; woken at 1; in a task as in the first place.
    assert_eq!((report.points(), report.most_polls()), (3 + 2 + 3 + 3, 2));
}

/// As one that is left behind in a list of waiters.
#[tokio::test(start_paused = true)]
async fn a_waker_that_is_kept_is_found_where_it_is_asked_for() {
    let keeping = || {
        |kept: Arc<Mutex<Vec<Waker>>>| async move {
            poll_fn(|cx| {
                kept.lock().unwrap().push(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
            sleep(MILLI).await;
        }
    };
    let check = async |_: &Mutex<Vec<Waker>>, _: &Point| {};
    let lab = || lab().watch_waker(true);
    let found = lab()
        .try_run(async || Mutex::default(), keeping(), check)
        .await;
    let found = found.unwrap_err();
    assert_eq!(
        found.what,
        "something still holds the waker that it was polled with"
    );
    assert_eq!(found.point, Point::new(1, Ending::Drop, Order::AfterCut));
    let unwatched = lab().watch_waker(false);
    unwatched
        .run(async || Mutex::default(), keeping(), check)
        .await;
}

/// The clock jumps over the patience, and the thread needs real time.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "it is about real time")]
async fn another_thread_that_takes_its_time_is_waited_for() {
    let lending = |permits: Arc<Semaphore>| async {
        std::thread::spawn(move || {
            std::thread::sleep(20 * MILLI);
            drop(permits);
        });
    };
    let check = async |permits: &Semaphore, _: &Point| one_free(permits);
    let lab = lab().endings([Ending::Drop]);
    let report = lab.run(one, lending, check).await;
    assert_eq!(report.points(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_the_world_is_found() {
    let found = leaks(lab(), |permits| async {
        std::mem::forget(permits);
    })
    .await;
    assert_eq!(
        found.what,
        "something still holds the world that it was given"
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_or_a_neighbour_that_hangs_is_told() {
    let hangs = async |_: &Semaphore, _: &Point| pending().await;
    let found = lab().try_run(one, |_| async {}, hangs).await.unwrap_err();
    assert_eq!(found.what, "the check is not through after 60s");
    let check = async |_: &Semaphore, _: &Point| {};
    let beside = lab().try_run_beside(one, |_| async {}, |_| pending(), check);
    let found = beside.await.unwrap_err();
    assert_eq!(found.what, "its neighbour does not come to its end");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_laid_at_its_door() {
    let check = async |_: &Semaphore, _: &Point| {};
    for (lab, polls) in [(lab(), 2), (lab().endings([Ending::Abort]), 2)] {
        let future = |_: Arc<Semaphore>| async {
            yield_now().await;
            panic!("of its own");
        };
        let found = lab.try_run(one, future, check).await.unwrap_err();
        assert_eq!(
            found.what,
            "the future or its neighbour panicked: of its own"
        );
        assert_eq!(found.point.polls(), polls);
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "planted: dropped after 1 poll: the check")]
async fn run_panics_with_the_failure() {
    let check = async |permits: &Semaphore, _: &Point| one_free(permits);
    let wait = async || yield_now().await;
    lab()
        .run(one, |permits| by_hand(permits, wait), check)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[should_panic(expected = "a laboratory wants a current-thread runtime")]
async fn several_threads_are_refused() {
    lab().run(one, |_| async {}, async |_, _| {}).await;
}

/// Which polls and steps there are in each order: `f` a poll, `a` a step, `x` the drop.
#[tokio::test(start_paused = true)]
async fn the_actor_takes_its_steps_where_the_order_says() {
    type World = Mutex<String>;
    struct Dropped(Arc<World>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.lock().unwrap().push('x');
        }
    }
    async fn steps(world: Arc<World>, of: char) {
        for _ in 0..2 {
            world.lock().unwrap().push(of);
            yield_now().await;
        }
        world.lock().unwrap().push(of);
    }
    for (ending, seen) in [
        (
            Ending::Drop,
            [
                "xaaa fxaaa ffxaaa fffxaaa",
                "xaaa fxaaa fafxaa fafafxa",
                "axaa afxaa afafxa afafafx",
            ],
        ),
        (
            Ending::DropWoken,
            [
                "fxaaa ffxaaa fffxaaa",
                "faxaa fafaxa fafafxa",
                "afaxa afafax afafafx",
            ],
        ),
        (
            Ending::Abort,
            [
                "xaaa fxaaa ffxaaa fffxaaa",
                "xaaa fxaaa fafxaa fafafxa",
                "axaa afxaa afafxa afafafx",
            ],
        ),
    ] {
        let mut all = Vec::new();
        let check = async |world: &World, _: &Point| all.push(world.lock().unwrap().clone());
        lab()
            .endings([ending])
            .run_beside(
                async || World::default(),
                |world: Arc<World>| {
                    let dropped = Dropped(Arc::clone(&world));
                    async move {
                        let _dropped = dropped;
                        steps(world, 'f').await;
                    }
                },
                |world| steps(world, 'a'),
                check,
            )
            .await;
        assert_eq!(all.join(" "), seen.join(" "), "{ending:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_wakes_nobody_is_never_excused() {
    let nothing = async |(): &(), _: &Point| {};
    let lab = |limit| {
        let lab = lab().endings([Ending::TimeOut]).patience(10 * MILLI);
        lab.limit_after(limit).may_stay_pending()
    };
    let found = lab(1_000 * MILLI)
        .try_run_beside(async || (), |_| pending::<()>(), |_| async {}, nothing)
        .await
        .unwrap_err();
    assert_eq!(found.point, Point::new(0, Ending::TimeOut, Order::AfterCut));
    assert_eq!(
        found.what,
        "its time limit of 1s has not woken it for 10ms: set less, or more patience"
    );
    let in_time = lab(5 * MILLI).run(async || (), |_| pending::<()>(), nothing);
    assert_eq!(in_time.await.most_polls(), 1);
}

/// What a laboratory of nothing, with a neighbour or without, panics with.
async fn refused(lab: Laboratory, with_actor: bool) -> String {
    let check = async |_: &Semaphore, _: &Point| {};
    let tried = async {
        if with_actor {
            lab.run_beside(one, |_| async {}, |_| async {}, check).await
        } else {
            lab.run(one, |_| async {}, check).await
        }
    };
    let panic = catch_panic(tried).await.expect_err("it tried nothing");
    crate::panics::message(panic).into()
}

#[tokio::test(start_paused = true)]
async fn trials_that_try_nothing_are_refused() {
    let nothing = "planted: there is nothing to try: no endings, orders or polls";
    assert_eq!(refused(lab().endings([]), false).await, nothing);
    assert_eq!(refused(lab().endings([]), true).await, nothing);
    assert_eq!(refused(lab().orders([]), true).await, nothing);
    let unpolled = lab().endings([Ending::DropWoken]).up_to(0);
    assert_eq!(refused(unpolled, false).await, nothing);
}

#[tokio::test(start_paused = true)]
async fn orders_without_a_neighbour_are_refused() {
    let alone = "planted: orders are those of a neighbour, and there is none: see `run_beside`";
    assert_eq!(refused(lab().shuffles(3), false).await, alone);
    assert_eq!(refused(lab().orders([Order::First]), false).await, alone);
    let beside = Point::new(0, Ending::Drop, Order::Between);
    assert_eq!(refused(lab().only(beside), false).await, alone);
}

#[tokio::test(start_paused = true)]
async fn a_point_that_is_not_there_is_a_failure() {
    let only = |polls, ending| lab().only(Point::new(polls, ending, Order::AfterCut));
    let yields = |_: Arc<Semaphore>| yield_now();
    for (polls, ending) in [
        (700, Ending::Drop),
        (3, Ending::Abort),
        (3, Ending::TimeOut),
    ] {
        let found = leaks(only(polls, ending), yields).await;
        let what = "it ended after 2 polls: there is no such point";
        assert_eq!((found.point.polls(), &*found.what), (polls, what));
    }
    let found = leaks(only(0, Ending::DropWoken), yields).await;
    assert_eq!(
        found.what,
        "what was never polled is never woken: there is no such point"
    );
    let stays = only(4, Ending::Drop).may_stay_pending();
    let found = leaks(stays, |_| pending::<()>()).await;
    assert_eq!(
        found.what,
        "nothing woke it after 1 poll: there is no such point"
    );
    // The last one is where it ends.
    let check = async |_: &Semaphore, _: &Point| {};
    let last = only(2, Ending::Drop).run(one, yields, check).await;
    assert_eq!((last.points(), last.most_polls()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn without_a_neighbour_its_order_is_not_told() {
    let check = async |permits: &Semaphore, _: &Point| one_free(permits);
    let wait = async || yield_now().await;
    let hold = |permits| by_hand(permits, wait);
    let alone = leaks(lab(), hold).await.to_string();
    assert!(
        alone.starts_with("planted: dropped after 1 poll: the check"),
        "{alone}"
    );
    let beside = lab().try_run_beside(one, hold, |_| async {}, check).await;
    let beside = beside.unwrap_err().to_string();
    let begin = "planted: dropped after 1 poll (the actor waits for the cut): the check";
    assert!(beside.starts_with(begin), "{beside}");
}

/// Gives its permit back a long while after it was cancelled.
async fn slow_to_give_back(permits: Arc<Semaphore>) {
    struct Late(Arc<Semaphore>);
    impl Drop for Late {
        fn drop(&mut self) {
            let permits = Arc::clone(&self.0);
            tokio::spawn(async move {
                sleep(50_000 * MILLI).await;
                permits.add_permits(1);
            });
        }
    }
    permits.acquire().await.unwrap().forget();
    let _late = Late(permits);
    yield_now().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_late_is_lost() {
    let found = leaks(lab(), slow_to_give_back).await;
    assert_eq!(found.point, Point::new(1, Ending::Drop, Order::AfterCut));
    assert_eq!(
        found.what,
        "something still holds the world that it was given"
    );
    // It has its time where that is said.
    let lab = lab().settle_within(60_000 * MILLI);
    let check = async |permits: &Semaphore, _: &Point| one_free(permits);
    let by_drop = lab.endings([Ending::Drop]);
    // When it is not cut it gives its permit back as late.
    let report = by_drop.run(one, slow_to_give_back, check).await;
    assert_eq!(report.points(), 3);
}

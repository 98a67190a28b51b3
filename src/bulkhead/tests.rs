//! The bulkhead's shell, on a paused clock.
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::config::Value;
use crate::observe::{Event, EventKind};
use crate::prelude::*;
use crate::testing::{catch_panic, drop_at_every_poll, sleep, spin};
use crate::time::now;
use crate::{ConfigError, Error};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<(), &'static str>;

fn bulkhead(slots: u32, queue: usize) -> Bulkhead {
    let builder = Bulkhead::builder().max_concurrent(slots);
    builder.max_queue(queue).build().unwrap()
}

async fn slow() -> Answer {
    sleep(SECOND).await;
    Ok(())
}

#[track_caller]
fn assert_free(bulkhead: &Bulkhead) {
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_use, snapshot.queued), (0, 0));
}

#[track_caller]
fn refusal<T>(result: Result<T, Error<&'static str>>) -> Refusal {
    match result {
        Err(error) => error.refusal().unwrap(),
        Ok(_) => panic!("not refused"),
    }
}

const FULL: Refusal = Refusal::BulkheadFull {
    waited: Duration::ZERO,
};

#[tokio::test(start_paused = true)]
async fn runs_so_many_queues_so_many_and_refuses_the_rest() {
    let bulkhead = bulkhead(2, 1);
    let start = now();
    let call = || slow.bulkhead(&bulkhead);
    let (a, b, c, d) = tokio::join!(call(), call(), call(), call());
    assert_eq!((a, b, c), (Ok(()), Ok(()), Ok(())));
    assert_eq!(refusal(d), FULL);
    assert_eq!(now().since(start), 2 * SECOND);
    assert_free(&bulkhead);
}

#[tokio::test(start_paused = true)]
async fn first_come_first_served() {
    let bulkhead = bulkhead(1, 9);
    let order = RefCell::new(Vec::new());
    let call = |name: u32| {
        let order = &order;
        (move || async move {
            order.borrow_mut().push(name);
            slow().await
        })
        .bulkhead(&bulkhead)
    };
    let all = tokio::join!(call(1), call(2), call(3), call(4), call(5));
    assert_eq!(all, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(())));
    assert_eq!(*order.borrow(), [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_ends_in_a_refusal_that_says_how_long_it_was() {
    let builder = Bulkhead::builder().max_concurrent(1);
    let bulkhead = builder.max_wait(SECOND / 2).build().unwrap();
    let held = bulkhead.try_acquire(1).unwrap();
    let start = now();
    let waited = SECOND / 2;
    let refused = refusal(slow.bulkhead(&bulkhead).await);
    assert_eq!(refused, Refusal::BulkheadFull { waited });
    assert_eq!(now().since(start), waited);
    assert_eq!(bulkhead.snapshot().queued, 0);
    drop(held);
    assert_eq!(slow.bulkhead(&bulkhead).await, Ok(()));
}

/// Trap 60: a slot that comes free at the end of the wait is taken.
#[tokio::test(start_paused = true)]
async fn the_slot_wins_a_tie_with_the_longest_wait() {
    let builder = Bulkhead::builder().max_concurrent(1);
    let bulkhead = builder.max_wait(SECOND).build().unwrap();
    let held = bulkhead.try_acquire(1).unwrap();
    let mut late = task::spawn(bulkhead.acquire(1));
    assert_pending!(late.poll());
    tokio::time::advance(9 * SECOND).await;
    drop(held);
    assert!(assert_ready!(late.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_zero_refuses_at_once_without_the_timer() {
    let builder = Bulkhead::builder().max_concurrent(1);
    let bulkhead = builder.max_wait(Duration::ZERO).build().unwrap();
    let _held = bulkhead.try_acquire(1).unwrap();
    let outside = std::thread::spawn({
        let bulkhead = bulkhead.clone();
        move || refusal(spin(slow.bulkhead(&bulkhead)))
    });
    assert_eq!(outside.join().unwrap(), FULL);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_call_takes_its_weight() {
    let bulkhead = bulkhead(4, 9);
    let heavy = bulkhead.weighing(3);
    let start = now();
    let all = tokio::join!(
        slow.bulkhead(&heavy),
        slow.bulkhead(&bulkhead),
        slow.bulkhead(&heavy), // has to wait, and so has everyone behind it
        slow.bulkhead(&bulkhead),
    );
    assert_eq!(all, (Ok(()), Ok(()), Ok(()), Ok(())));
    assert_eq!(now().since(start), 2 * SECOND);
    let asked = 5;
    let refused = refusal(slow.bulkhead(&bulkhead.weighing(asked)).await);
    assert_eq!(refused, Refusal::TooLarge { asked, limit: 4 });
    assert_free(&bulkhead);
}

#[tokio::test(start_paused = true)]
async fn a_weight_of_zero_takes_nothing_and_passes_nobody() {
    let bulkhead = bulkhead(1, 9);
    let held = bulkhead.try_acquire(1).unwrap();
    let light = bulkhead.weighing(0);
    assert_eq!(slow.bulkhead(&light).await, Ok(()));
    let mut waiting = task::spawn(bulkhead.acquire(1));
    assert_pending!(waiting.poll());
    let mut light = task::spawn(slow.bulkhead(&light));
    assert_pending!(light.poll());
    assert_eq!(bulkhead.snapshot().queued, 2);
    drop((held, waiting));
    assert!(light.is_woken());
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_in_those_who_wait() {
    let bulkhead = bulkhead(1, 9);
    let _held = bulkhead.try_acquire(1).unwrap();
    let mut waiting: Vec<_> = (0..3).map(|_| task::spawn(bulkhead.acquire(1))).collect();
    for wait in &mut waiting {
        assert_pending!(wait.poll());
    }
    bulkhead.resize(3);
    let woken: Vec<_> = waiting.iter().map(task::Spawn::is_woken).collect();
    assert_eq!(woken, [true, true, false]);
    assert_eq!(bulkhead.snapshot().in_use, 3);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_leaves_those_inside_and_refuses_what_became_too_heavy() {
    let bulkhead = bulkhead(4, 9);
    let inside = bulkhead.try_acquire(4).unwrap();
    let mut heavy = task::spawn(bulkhead.acquire(3));
    let mut light = task::spawn(bulkhead.acquire(1));
    assert_pending!(heavy.poll());
    assert_pending!(light.poll());
    bulkhead.resize(2);
    assert_eq!(bulkhead.snapshot().in_use, 4);
    let refused = assert_ready!(heavy.poll()).unwrap_err();
    assert_eq!(refused, Refusal::TooLarge { asked: 3, limit: 2 });
    assert_pending!(light.poll());
    drop(inside);
    assert!(assert_ready!(light.poll()).is_ok());
    drop((heavy, light));
    assert_free(&bulkhead);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_lets_nothing_in_until_it_is_raised() {
    let bulkhead = bulkhead(1, 9);
    bulkhead.resize(0);
    let refused = refusal(slow.bulkhead(&bulkhead).await);
    assert_eq!(refused, Refusal::TooLarge { asked: 1, limit: 0 });
    bulkhead.resize(1);
    assert_eq!(slow.bulkhead(&bulkhead).await, Ok(()));
}

/// One call that waits a second for its slot and then runs for two.
async fn contended(bulkhead: &Bulkhead) {
    let held = bulkhead.try_acquire(2).unwrap();
    let free = async {
        sleep(SECOND).await;
        drop(held);
    };
    let twice = || async {
        slow().await?;
        slow().await
    };
    let ((), result) = tokio::join!(free, twice.bulkhead(bulkhead));
    result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_at_every_poll_it_gives_back_slots_and_place() {
    let bulkhead = bulkhead(2, 1);
    let drops = drop_at_every_poll(
        || contended(&bulkhead),
        async |_| {
            assert_free(&bulkhead);
            assert_eq!(slow.bulkhead(&bulkhead.weighing(2)).await, Ok(()));
        },
    )
    .await;
    assert_eq!(drops, 10);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_at_every_poll_gives_back_its_slots() {
    let bulkhead = bulkhead(3, 1);
    let waits = || async {
        let held = bulkhead.try_acquire(2).unwrap();
        let free = async {
            sleep(SECOND).await;
            drop(held);
        };
        let take = async {
            let permit = bulkhead.acquire(3).await.unwrap();
            sleep(SECOND).await;
            permit.settle(crate::policy::End::Success);
        };
        tokio::join!(free, take)
    };
    drop_at_every_poll(waits, async |_| assert_free(&bulkhead)).await;
}

/// The permit is back when the error is there, and not only when the call is dropped.
#[tokio::test(start_paused = true)]
async fn a_time_limit_gives_the_slot_back_before_it_returns() {
    let bulkhead = bulkhead(1, 1);
    let mut inside = task::spawn(pending::<Answer>.bulkhead(&bulkhead).timeout(SECOND));
    let mut queued = task::spawn(pending::<Answer>.bulkhead(&bulkhead).timeout(2 * SECOND));
    assert_pending!(inside.poll());
    assert_pending!(queued.poll());
    tokio::time::advance(SECOND).await;
    let error = assert_ready!(inside.poll()).unwrap_err();
    assert_eq!((error.is_timed_out(), error.attempts()), (true, 1));
    // The slot has gone to the next, which has not seen it yet.
    assert_eq!(
        (bulkhead.snapshot().in_use, bulkhead.snapshot().queued),
        (1, 0)
    );
    assert!(queued.is_woken());
    assert_pending!(queued.poll());
    tokio::time::advance(SECOND).await;
    let error = assert_ready!(queued.poll()).unwrap_err();
    assert_eq!((error.is_timed_out(), error.attempts()), (true, 1));
    assert_free(&bulkhead);
    drop((inside, queued));
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_gives_the_place_back_before_it_returns() {
    let bulkhead = bulkhead(1, 1);
    let _held = bulkhead.try_acquire(1).unwrap();
    let mut queued = task::spawn(pending::<Answer>.bulkhead(&bulkhead).timeout(SECOND));
    assert_pending!(queued.poll());
    tokio::time::advance(SECOND).await;
    let error = assert_ready!(queued.poll()).unwrap_err();
    assert_eq!((error.is_timed_out(), error.attempts()), (true, 0));
    assert_eq!(bulkhead.snapshot().queued, 0);
    drop(queued);
}

/// Trap 64: where the limit stands says whether it counts the queue.
#[tokio::test(start_paused = true)]
async fn the_order_of_the_stack_says_whether_the_limit_counts_the_queue() {
    let bulkhead = bulkhead(1, 9);
    let limit = 5 * SECOND / 2;
    let outside = || slow.bulkhead(&bulkhead).timeout(limit);
    let all = tokio::join!(biased; outside(), outside(), outside(), outside(), outside());
    assert_eq!((&all.0, &all.1), (&Ok(()), &Ok(())));
    let late = all.2.unwrap_err();
    assert_eq!((late.is_timed_out(), late.attempts()), (true, 1));
    // The slot comes free at the very end of their time: too late to start anything.
    for late in [all.3, all.4] {
        assert_eq!(late.as_ref().unwrap_err().attempts(), 0);
        assert_eq!(refusal(late), Refusal::BulkheadFull { waited: limit });
    }
    let inside = || slow.timeout(limit).bulkhead(&bulkhead);
    let all = tokio::join!(inside(), inside(), inside(), inside(), inside());
    assert_eq!(all, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(())));
    assert_free(&bulkhead);
}

/// Trap 64: one deadline for the queue and the attempt.
#[tokio::test(start_paused = true)]
async fn an_attempt_is_told_what_the_queue_has_left() {
    let pipeline = Pipeline::builder("queue")
        .timeout(9 * SECOND)
        .bulkhead(1)
        .build()
        .unwrap();
    let left = Cell::new(None);
    let told = pipeline.call_with(|attempt| {
        left.set(attempt.remaining());
        slow()
    });
    assert_eq!(tokio::join!(pipeline.call(slow), told), (Ok(()), Ok(())));
    assert_eq!(left.get(), Some(8 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn without_time_left_nobody_waits() {
    let bulkhead = bulkhead(1, 9);
    let held = bulkhead.try_acquire(1).unwrap();
    let start = now();
    let refused = refusal(slow.bulkhead(&bulkhead).timeout(Duration::ZERO).await);
    assert_eq!(refused, FULL);
    // A deadline that has passed long ago.
    let outer = Pipeline::builder("outer").timeout(SECOND).build().unwrap();
    let attempt = Cell::new(None);
    let noted = outer.call_with(|now| {
        attempt.set(Some(now));
        std::future::ready(Answer::Ok(()))
    });
    noted.await.unwrap();
    tokio::time::advance(2 * SECOND).await;
    let attempt = attempt.take().unwrap();
    let late = slow.bulkhead(&bulkhead).during(attempt.clone());
    assert_eq!(refusal(late.await), FULL);
    assert_eq!(now().since(start), 2 * SECOND);
    assert_eq!(bulkhead.snapshot().queued, 0);
    // A free slot needs no wait, and no time.
    drop(held);
    let late = (|| async { Answer::Ok(()) }).bulkhead(&bulkhead);
    assert_eq!(late.during(attempt).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_below_a_retry_keeps_the_earlier_error_and_is_not_hammered() {
    let bulkhead = bulkhead(1, 0);
    let tries = Cell::new(0);
    let held = RefCell::new(None);
    let operation = || {
        tries.set(tries.get() + 1);
        std::future::ready(Answer::Err("down"))
    };
    let retry = Retry::builder()
        .max_attempts(9)
        .on_retry(|_: &crate::retry::RetryEvent<'_, (), &str>| {
            *held.borrow_mut() = bulkhead.try_acquire(1).ok();
        })
        .build()
        .unwrap();
    let error = operation
        .bulkhead(&bulkhead)
        .retry(&retry)
        .await
        .unwrap_err();
    assert_eq!(error.refusal(), Some(FULL));
    assert_eq!((error.attempts(), error.last()), (1, Some(&"down")));
    assert_eq!(tries.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_observer_is_told_of_refusals_only() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let pipeline = Pipeline::builder("narrow")
        .observe(move |event: &Event<'_>| {
            told.lock()
                .unwrap()
                .push((event.pipeline.to_owned(), event.attempt, event.kind));
        })
        .bulkhead(Bulkhead::builder().max_concurrent(1).max_queue(1))
        .build()
        .unwrap();
    let call = || pipeline.call(slow);
    let (a, b, c) = tokio::join!(call(), call(), call());
    assert_eq!((a, b, refusal(c)), (Ok(()), Ok(()), FULL));
    let want = ("narrow".to_owned(), 1, EventKind::Refused(FULL));
    assert_eq!(*events.lock().unwrap(), [want]);
}

/// Trap 28.
#[tokio::test(start_paused = true)]
async fn a_cancelled_head_lets_those_behind_it_run_at_once() {
    let bulkhead = bulkhead(2, 9);
    let _held = bulkhead.try_acquire(1).unwrap();
    let mut big = task::spawn(bulkhead.acquire(2));
    let mut small = task::spawn(bulkhead.acquire(1));
    assert_pending!(big.poll());
    assert_pending!(small.poll());
    drop(big);
    assert!(small.is_woken());
    assert!(assert_ready!(small.poll()).is_ok());
}

/// Trap 29: slots that were handed over and not yet seen are not lost.
#[tokio::test(start_paused = true)]
async fn slots_handed_to_a_wait_that_is_dropped_go_on() {
    let bulkhead = bulkhead(3, 9);
    let held = bulkhead.try_acquire(3).unwrap();
    let mut heavy = task::spawn(bulkhead.acquire(3));
    let mut light = task::spawn(bulkhead.acquire(1));
    assert_pending!(heavy.poll());
    assert_pending!(light.poll());
    drop(held);
    assert!(heavy.is_woken() && !light.is_woken());
    drop(heavy);
    assert!(light.is_woken());
    let permit = assert_ready!(light.poll()).unwrap();
    assert_eq!(bulkhead.snapshot().in_use, 1);
    drop(permit);
    assert_free(&bulkhead);
}

/// Trap 30: the documentation says what an acquire that is never polled again keeps.
#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_not_polled_keeps_what_it_was_handed_until_it_is_dropped() {
    let bulkhead = bulkhead(1, 9);
    let held = bulkhead.try_acquire(1).unwrap();
    let mut parked = task::spawn(bulkhead.acquire(1));
    assert_pending!(parked.poll());
    drop(held);
    let mut next = task::spawn(bulkhead.acquire(1));
    assert_pending!(next.poll());
    tokio::time::advance(3600 * SECOND).await;
    assert_pending!(next.poll());
    drop(parked);
    assert!(assert_ready!(next.poll()).is_ok());
}

/// Trap 30: a call of a pipeline is one future, and dropping it is enough; a `select!` that
/// drops the loser leaves no slot behind.
#[tokio::test(start_paused = true)]
async fn the_loser_of_a_select_leaves_no_slot() {
    let bulkhead = bulkhead(1, 9);
    let held = bulkhead.try_acquire(1).unwrap();
    tokio::select! {
        biased;
        _ = bulkhead.acquire(1) => panic!("the slot is taken"),
        () = sleep(SECOND) => drop(held),
    }
    assert_free(&bulkhead);
}

/// Trap 33.
#[test]
fn bad_settings_are_refused_by_name() {
    let refused = |error: ConfigError| (error.field(), error.value(), error.allowed());
    let none = Bulkhead::builder().build().unwrap_err();
    assert_eq!(
        refused(none),
        ("max_concurrent", Value::Missing, "at least 1")
    );
    let heavy = Bulkhead::builder()
        .max_concurrent(2)
        .weight(3)
        .build()
        .unwrap_err();
    assert_eq!(
        refused(heavy),
        ("weight", Value::Integer(3), "at most max_concurrent")
    );
    let pipeline = Pipeline::builder("none").bulkhead(0).build().unwrap_err();
    assert_eq!(
        refused(pipeline),
        ("max_concurrent", Value::Integer(0), "at least 1")
    );
}

/// Trap 33: the extremes that are accepted work.
#[tokio::test(start_paused = true)]
async fn the_largest_settings_work() {
    let huge = Bulkhead::builder()
        .max_concurrent(u32::MAX)
        .max_queue(usize::MAX)
        .max_wait(Duration::MAX)
        .weight(u32::MAX)
        .build()
        .unwrap();
    let start = now();
    let call = || slow.bulkhead(&huge);
    assert_eq!(
        tokio::join!(call(), call(), call()),
        (Ok(()), Ok(()), Ok(()))
    );
    assert_eq!(now().since(start), 3 * SECOND);
    let held = huge.try_acquire(u32::MAX).unwrap();
    huge.resize(1);
    assert_eq!(
        huge.try_acquire(u32::MAX).unwrap_err(),
        Refusal::TooLarge {
            asked: u32::MAX,
            limit: 1,
        }
    );
    assert_eq!(huge.try_acquire(1).unwrap_err(), FULL);
    drop(held);
    assert!(huge.try_acquire(1).is_ok());
    assert_free(&huge);
}

async fn angry() -> Answer {
    sleep(SECOND).await;
    panic!("angry")
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_operation_gives_the_slot_back() {
    let bulkhead = bulkhead(1, 9);
    let at_start = || -> std::future::Ready<Answer> { panic!("start") };
    assert!(catch_panic(at_start.bulkhead(&bulkhead)).await.is_err());
    let mut waiting = task::spawn(bulkhead.acquire(1));
    let mut call = task::spawn(catch_panic(angry.bulkhead(&bulkhead)));
    assert_pending!(call.poll());
    assert_pending!(waiting.poll());
    tokio::time::advance(SECOND).await;
    assert!(assert_ready!(call.poll()).is_err());
    // Although the call is not dropped yet.
    assert!(assert_ready!(waiting.poll()).is_ok());
    drop(waiting);
    assert_free(&bulkhead);
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_at_a_refusal_harms_nothing() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).max_wait(SECOND);
    let bulkhead = bulkhead.build().unwrap();
    let pipeline = Pipeline::builder("angry")
        .observe(|_: &Event<'_>| panic!("observer"))
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let held = bulkhead.try_acquire(1).unwrap();
    for _ in 0..3 {
        assert!(catch_panic(pipeline.call(slow)).await.is_err());
        assert_eq!(
            (bulkhead.snapshot().in_use, bulkhead.snapshot().queued),
            (1, 0)
        );
    }
    drop(held);
    assert_eq!(pipeline.call(slow).await, Ok(()));
}

/// A waker that looks at the bulkhead when it is woken and when it is dropped.
struct Reentrant {
    bulkhead: Bulkhead,
    looks: Arc<AtomicU32>,
}

impl Reentrant {
    fn waker(bulkhead: &Bulkhead, looks: &Arc<AtomicU32>) -> Waker {
        Waker::from(Arc::new(Self {
            bulkhead: bulkhead.clone(),
            looks: Arc::clone(looks),
        }))
    }

    fn look(&self) {
        let _ = self.bulkhead.try_acquire(0);
        self.bulkhead
            .resize(self.bulkhead.snapshot().max_concurrent);
        self.looks.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        self.look();
    }
}

/// Trap 77: under the lock each of these would wait for itself.
#[test]
fn wakers_are_woken_and_dropped_outside_of_the_lock() {
    let bulkhead = bulkhead(1, 9);
    let looks = Arc::new(AtomicU32::new(0));
    let held = bulkhead.try_acquire(1).unwrap();
    let mut waiting = Box::pin(bulkhead.acquire(1));
    for expected in [0, 1, 2] {
        let waker = Reentrant::waker(&bulkhead, &looks);
        assert!(
            waiting
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(waker);
        assert_eq!(
            looks.load(Ordering::Relaxed),
            expected,
            "exchanged, then dropped"
        );
    }
    drop(held);
    assert_eq!(looks.load(Ordering::Relaxed), 4, "woken, then dropped");
    drop(waiting);
    let held = bulkhead.try_acquire(1).unwrap();
    let mut waiting = Box::pin(bulkhead.acquire(1));
    let waker = Reentrant::waker(&bulkhead, &looks);
    assert!(
        waiting
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(waker);
    drop(waiting);
    assert_eq!(looks.load(Ordering::Relaxed), 5, "dropped with its place");
    drop(held);
    assert_free(&bulkhead);
}

#[tokio::test(start_paused = true)]
async fn an_owned_permit_moves_into_a_task_and_comes_back_from_there() {
    let bulkhead = bulkhead(2, 9);
    let tried = bulkhead.try_acquire_owned(2).unwrap();
    let waiting = tokio::spawn(bulkhead.acquire(2));
    tokio::task::yield_now().await;
    assert_eq!(bulkhead.snapshot().queued, 1);
    tokio::spawn(async move { drop(tried) }).await.unwrap();
    let permit = waiting.await.unwrap().unwrap();
    assert_eq!(bulkhead.snapshot().in_use, 2);
    drop(permit);
    assert_free(&bulkhead);
}

/// The slots that come back are those that were taken, not the handle's own weight.
#[test]
fn a_permit_gives_back_what_it_took_through_whatever_handle() {
    let bulkhead = bulkhead(9, 0).weighing(4);
    let held = (
        bulkhead.try_acquire(1).unwrap(),
        bulkhead.try_acquire_owned(3).unwrap(),
    );
    let own = assert_ready!(task::spawn(crate::Acquire::new(&bulkhead)).poll()).unwrap();
    assert_eq!(bulkhead.snapshot().in_use, 8);
    drop(held);
    assert_eq!(bulkhead.snapshot().in_use, 4);
    drop(own);
    assert_free(&bulkhead);
}

struct Angry;

impl Wake for Angry {
    fn wake(self: Arc<Self>) {
        panic!("waker");
    }
}

/// Trap 76: everyone who was admitted is woken.
#[test]
fn a_waker_that_panics_does_not_leave_the_others_asleep() {
    let bulkhead = bulkhead(3, 9);
    let held = bulkhead.try_acquire(3).unwrap();
    let mut first = Box::pin(bulkhead.acquire(1));
    let angry = Waker::from(Arc::new(Angry));
    assert!(
        first
            .as_mut()
            .poll(&mut Context::from_waker(&angry))
            .is_pending()
    );
    let mut others: Vec<_> = (0..2).map(|_| task::spawn(bulkhead.acquire(1))).collect();
    for other in &mut others {
        assert_pending!(other.poll());
    }
    let release = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(held)));
    assert!(release.is_err());
    assert!(others.iter().all(task::Spawn::is_woken));
    drop((first, others));
    assert_free(&bulkhead);
}

/// Trap 76: one who gives up while another's waker panics gives nothing back twice.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_harms_nobody_who_gives_up() {
    let builder = Bulkhead::builder().max_concurrent(2).max_wait(SECOND);
    let bulkhead = builder.build().unwrap();
    let held = bulkhead.try_acquire(1).unwrap();
    let mut heavy = task::spawn(bulkhead.acquire(2));
    assert_pending!(heavy.poll());
    tokio::time::advance(SECOND / 2).await;
    let mut light = Box::pin(bulkhead.acquire(1));
    let angry = Waker::from(Arc::new(Angry));
    assert!(
        light
            .as_mut()
            .poll(&mut Context::from_waker(&angry))
            .is_pending()
    );
    tokio::time::advance(SECOND / 2).await;
    let gives_up = std::panic::AssertUnwindSafe(|| heavy.poll().is_ready());
    assert!(std::panic::catch_unwind(gives_up).is_err());
    drop(heavy);
    assert_eq!(bulkhead.snapshot().in_use, 2);
    drop((held, light));
    assert_free(&bulkhead);
}

/// Only a wait that is limited needs the timer, and so a runtime; without one tokio panics.
#[test]
fn a_panic_for_want_of_a_runtime_leaves_the_queue() {
    let builder = Bulkhead::builder().max_concurrent(1).max_wait(SECOND);
    let bulkhead = builder.build().unwrap();
    let held = bulkhead.try_acquire(1).unwrap();
    let mut call = Box::pin(slow.bulkhead(&bulkhead));
    let poll = std::panic::AssertUnwindSafe(|| task::spawn(call.as_mut()).poll().is_ready());
    assert!(std::panic::catch_unwind(poll).is_err());
    drop(call);
    assert_eq!(bulkhead.snapshot().queued, 0);
    drop(held);
    assert_free(&bulkhead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_at_once_than_allowed() {
    let bulkhead = bulkhead(3, usize::MAX);
    let inside = Arc::new(AtomicU32::new(0));
    let callers = if cfg!(miri) { 8 } else { 64 };
    let calls = (0..callers).map(|_| {
        let (bulkhead, inside) = (bulkhead.clone(), Arc::clone(&inside));
        tokio::spawn(async move {
            for _ in 0..crate::testing::rounds(50) {
                let call = || async {
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    Answer::Ok(())
                };
                call.bulkhead(&bulkhead).await.unwrap();
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_free(&bulkhead);
}

/// A limit that was lowered holds for everyone as soon as `resize` has returned.
#[test]
fn nobody_is_admitted_by_a_limit_that_was_lowered() {
    let bulkhead = bulkhead(10, 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..5 {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(bulkhead.try_acquire(9));
                }
            });
        }
        let resizer = threads.spawn(|| {
            let mut most = 1;
            // Five threads spin beside it, which Miri runs by turns.
            let rounds = if cfg!(miri) { 20 } else { 150_000 };
            for _ in 0..rounds {
                bulkhead.resize(10);
                bulkhead.resize(1);
                if let Ok(_held) = bulkhead.try_acquire(1) {
                    most = most.max(bulkhead.snapshot().in_use);
                }
            }
            most
        });
        let most = resizer.join();
        done.store(true, Ordering::Relaxed);
        assert_eq!(most.unwrap(), 1, "slots in use under a limit of 1");
    });
    assert_free(&bulkhead);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(u32),
    Drop(prop::sample::Index),
    Resize(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u32).prop_map(Step::Start),
        4 => any::<prop::sample::Index>().prop_map(Step::Drop),
        1 => (0..5u32).prop_map(Step::Resize),
    ]
}

/// One who wants so many slots, and has them or waits.
struct Caller {
    weight: u32,
    wait: Option<task::Spawn<Acquire<Bulkhead>>>,
    held: Option<Permit<Bulkhead>>,
}

impl Caller {
    fn new(bulkhead: &Bulkhead, weight: u32) -> Self {
        let wait = Some(task::spawn(bulkhead.acquire(weight)));
        Self {
            weight,
            wait,
            held: None,
        }
    }

    /// `false`: it was refused.
    fn poll(&mut self) -> bool {
        let Some(Poll::Ready(result)) = self.wait.as_mut().map(task::Spawn::poll) else {
            return true;
        };
        self.wait = None;
        self.held = result.ok();
        self.held.is_some()
    }

    fn is_woken(&self) -> bool {
        self.wait.as_ref().is_some_and(task::Spawn::is_woken)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("bulkhead"), ..ProptestConfig::default() })]

    /// Whatever callers do: no slot is lost, and nobody sleeps who could run.
    #[test]
    fn slots_are_conserved(steps in prop::collection::vec(step(), 0..40)) {
        let bulkhead = bulkhead(3, 4);
        let mut callers: Vec<Caller> = Vec::new();
        for step in steps {
            match step {
                Step::Start(weight) => {
                    let mut caller = Caller::new(&bulkhead, weight);
                    if caller.poll() {
                        callers.push(caller);
                    }
                }
                Step::Drop(at) if !callers.is_empty() => drop(callers.remove(at.index(callers.len()))),
                Step::Drop(_) => {}
                Step::Resize(limit) => bulkhead.resize(limit),
            }
            // Those refused leave the queue, which may let others in.
            while callers.iter().any(Caller::is_woken) {
                callers.retain_mut(|caller| !caller.is_woken() || caller.poll());
            }
            let held: u32 = callers.iter().filter(|c| c.held.is_some()).map(|c| c.weight).sum();
            let mut waiting = callers.iter().filter(|c| c.wait.is_some());
            let snapshot = bulkhead.snapshot();
            prop_assert_eq!(snapshot.in_use, held);
            prop_assert_eq!(snapshot.queued, waiting.clone().count());
            if let Some(head) = waiting.next() {
                prop_assert!(held + head.weight > snapshot.max_concurrent);
            }
        }
        drop(callers);
        prop_assert_eq!((bulkhead.snapshot().in_use, bulkhead.snapshot().queued), (0, 0));
    }
}

#[test]
fn a_weight_of_zero_needs_no_slot_even_where_the_limit_was_lowered() {
    let bulkhead = Bulkhead::builder().max_concurrent(4).build().unwrap();
    let _held = bulkhead.try_acquire(4).unwrap();
    bulkhead.resize(2);
    assert!(bulkhead.try_acquire(0).is_ok());
}

/// Giving back wakes the next, and its waker may panic: the stage is idle by then.
#[tokio::test(start_paused = true)]
async fn nothing_runs_without_a_permit_after_a_waker_has_panicked() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let starts = Cell::new(0);
    let call = || {
        starts.set(starts.get() + 1);
        let first = starts.get() == 1;
        async move {
            if first {
                tokio::task::yield_now().await;
                return Answer::Ok(());
            }
            std::future::pending().await
        }
    };
    let mut call = pin!(call.bulkhead(&bulkhead));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    let angry = Waker::from(Arc::new(Angry));
    let mut next = pin!(bulkhead.acquire(1));
    assert!(
        next.as_mut()
            .poll(&mut Context::from_waker(&angry))
            .is_pending()
    );
    let polled = AssertUnwindSafe(|| call.as_mut().poll(&mut cx).is_ready());
    assert!(catch_unwind(polled).is_err(), "the waker panics");
    let Poll::Ready(Ok(_held)) = next.as_mut().poll(&mut cx) else {
        panic!("the slot was handed over");
    };
    let again = call.as_mut().poll(&mut cx);
    assert!(again.is_pending(), "it waits for the slot");
    assert_eq!(starts.get(), 1);
}

//! The time limit, on a paused clock.
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;
use tokio_test::task;

use crate::observe::{Event, EventKind};
use crate::prelude::*;
use crate::testing::{catch_panic, drop_at_every_poll, sleep, spin};
use crate::time::{Instant, now};
use crate::{Attempt, Error};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(1);

type Answer = Result<(), &'static str>;

async fn slow(span: Duration) -> Answer {
    sleep(span).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn cuts_after_the_limit_and_says_how_long_that_is() {
    let start = now();
    let error = slow(3 * SECOND).timeout(2 * SECOND).await.unwrap_err();
    assert_eq!(now().since(start), 2 * SECOND);
    assert!(
        matches!(error, Error::TimedOut { after, attempts: 1, last: None } if after == 2 * SECOND)
    );
    assert_eq!(error.to_string(), "timed out after 2s");
    assert_eq!(slow(SECOND).timeout(2 * SECOND).await, Ok(()));
}

/// The timer would panic here.
#[test]
fn an_operation_that_is_ready_touches_no_timer() {
    assert_eq!(spin((|| ready(Answer::Ok(()))).timeout(SECOND)), Ok(()));
    assert_eq!(
        spin(async { Answer::Ok(()) }.timeout(Duration::ZERO)),
        Ok(())
    );
}

/// Trap 59: as long as it takes, and no timer either.
#[test]
fn the_longest_limit_means_never() {
    let yielding = || async {
        for _ in 0..100 {
            yield_once().await;
        }
        Answer::Ok(())
    };
    assert_eq!(spin(yielding.timeout(Duration::MAX)), Ok(()));
    assert_eq!(
        spin(yielding.timeout(Duration::from_nanos(u64::MAX))),
        Ok(())
    );
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|_| {
        if std::mem::replace(&mut yielded, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Trap 59: no limit panics, however close to the end of the scale.
#[tokio::test(start_paused = true)]
async fn a_limit_of_centuries_does_not_panic() {
    let left = u64::MAX - now().as_nanos();
    let edges = [0, 1, 2, 1 << 20, 1 << 40, 1 << 62];
    let spans = edges.map(|edge| Duration::from_nanos(left - edge.min(left)));
    let others = [
        Duration::MAX.saturating_sub(TICK),
        Duration::from_secs(u64::MAX),
        Duration::from_nanos(left + 1),
    ];
    for limit in spans.into_iter().chain(others) {
        if !limit.is_zero() {
            assert_eq!(slow(SECOND).timeout(limit).await, Ok(()), "{limit:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_leaves_one_chance() {
    assert_eq!(
        async { Answer::Ok(()) }.timeout(Duration::ZERO).await,
        Ok(())
    );
    let start = now();
    let error = slow(SECOND).timeout(Duration::ZERO).await.unwrap_err();
    assert!(error.is_timed_out());
    assert_eq!(now(), start);
}

/// Trap 60: at the deadline itself the result wins, at any distance in polls.
#[tokio::test(start_paused = true)]
async fn the_ready_result_wins_a_tie() {
    assert_eq!(slow(SECOND).timeout(SECOND).await, Ok(()));
    let late = slow(SECOND + TICK).timeout(SECOND).await;
    assert!(late.unwrap_err().is_timed_out());
    let mut call = task::spawn(slow(SECOND).timeout(SECOND));
    assert!(call.poll().is_pending());
    tokio::time::advance(5 * SECOND).await;
    assert_eq!(call.poll(), Poll::Ready(Ok(())));
}

/// Trap 60: the same winner where the limit is around a retry, a bulkhead, another limit.
#[tokio::test(start_paused = true)]
async fn the_ready_result_wins_a_tie_through_every_policy() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let retry = Retry::exponential(SECOND);
    let call = (|| slow(SECOND))
        .timeout(SECOND)
        .bulkhead(&bulkhead)
        .retry(&retry)
        .fallback(Fallback::with(|_: Error<&str>| panic!("the limit won")))
        .timeout(SECOND);
    assert_eq!(call.await, Ok(()));
}

/// Trap 57: what blocks its thread is not cut; its result wins, however late.
#[tokio::test(start_paused = true)]
async fn a_future_that_never_yields_cannot_be_cut() {
    let blocking = async {
        tokio::time::advance(9 * SECOND).now_or_never();
        Answer::Ok(())
    };
    let start = now();
    assert_eq!(blocking.timeout(SECOND).await, Ok(()));
    assert_eq!(now().since(start), 9 * SECOND);
}

/// Trap 57: what the documentation says to do about it.
#[tokio::test]
async fn blocking_work_on_its_own_thread_can_be_cut() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let work = tokio::task::spawn_blocking(move || wait.recv());
    let error = work.timeout(10 * TICK).await.unwrap_err();
    assert!(error.is_timed_out());
    done.send(()).unwrap();
}

/// Trap 58: the operation uses up the task's budget, in which tokio's own timer would
/// never be ready.
#[tokio::test(start_paused = true)]
async fn a_used_up_budget_does_not_hide_the_limit() {
    let greedy = poll_fn(|cx| {
        while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
        Poll::<Answer>::Pending
    });
    let mut call = pin!(greedy.timeout(SECOND));
    assert!(
        poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx)))
            .await
            .is_pending()
    );
    tokio::time::advance(SECOND).await;
    let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
    assert!(matches!(polled, Poll::Ready(Err(error)) if error.is_timed_out()));
}

#[tokio::test(start_paused = true)]
async fn the_limit_counts_from_the_first_pending_poll() {
    let call = slow(SECOND).timeout(SECOND);
    tokio::time::advance(9 * SECOND).await;
    assert_eq!(call.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_a_limit_of_its_own() {
    let attempts = Cell::new(0);
    let operation = || {
        attempts.set(attempts.get() + 1);
        slow(if attempts.get() < 3 {
            9 * SECOND
        } else {
            SECOND / 2
        })
    };
    let retry = Retry::builder()
        .backoff(Backoff::none())
        .no_budget()
        .build()
        .unwrap();
    let start = now();
    assert_eq!(operation.timeout(SECOND).retry(&retry).await, Ok(()));
    assert_eq!(now().since(start), 5 * SECOND / 2);
    attempts.set(-9);
    let error = operation.timeout(SECOND).retry(&retry).await.unwrap_err();
    assert_eq!((error.is_timed_out(), error.attempts()), (true, 3));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_in_time_takes_nothing_from_the_next() {
    let failing = || async {
        sleep(3 * SECOND / 4).await;
        Answer::Err("down")
    };
    let retry = Retry::builder().backoff(Backoff::none()).build().unwrap();
    let start = now();
    let error = failing.timeout(SECOND).retry(&retry).await.unwrap_err();
    assert_eq!((error.attempts(), error.is_timed_out()), (3, false));
    assert_eq!(now().since(start), 9 * SECOND / 4);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_limit_wins() {
    for (outer, inner) in [(1, 2), (2, 1)] {
        let start = now();
        let call = slow(9 * SECOND)
            .timeout(inner * SECOND)
            .timeout(outer * SECOND);
        let error = call.await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { after, .. } if after == SECOND));
        assert_eq!(now().since(start), SECOND);
    }
}

async fn told(pipeline: impl AsyncFnOnce(&RefCell<Vec<Attempt>>)) -> Vec<Attempt> {
    let seen = RefCell::new(Vec::new());
    pipeline(&seen).await;
    seen.into_inner()
}

#[tokio::test(start_paused = true)]
async fn the_deadline_goes_down_the_stack() {
    let start = now();
    let pipeline = Pipeline::builder("deadline")
        .timeout(10 * SECOND)
        .retry(Retry::builder().backoff(Backoff::constant(SECOND).jitter(super_none())))
        .timeout(4 * SECOND)
        .build()
        .unwrap();
    let seen = told(async |seen| {
        let call = pipeline.call_with(|attempt| {
            assert_eq!(attempt.remaining(), Some(attempt.deadline().since(now())));
            seen.borrow_mut().push(attempt);
            slow(9 * SECOND)
        });
        call.await.unwrap_err();
    })
    .await;
    let after = |seconds: u32| start.saturating_add(seconds * SECOND);
    let deadlines: Vec<_> = seen.iter().map(Attempt::deadline).collect();
    // From 0 and from 5, of which the second would end at 9. The next wait ends at 10.
    assert_eq!(deadlines, [after(4), after(9)]);
    assert_eq!(seen.iter().map(Attempt::number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(now(), after(9));
}

fn super_none() -> crate::retry::Jitter {
    crate::retry::Jitter::None
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_there_is_no_deadline() {
    for limit in [None, Some(Duration::MAX)] {
        let pipeline = Pipeline::builder("open")
            .timeout(limit.unwrap_or(Duration::MAX))
            .build();
        let seen = told(async |seen| {
            let pipeline = pipeline.unwrap();
            let call = pipeline.call_with(|attempt| {
                seen.borrow_mut().push(attempt);
                ready(Answer::Ok(()))
            });
            call.await.unwrap();
        })
        .await;
        assert_eq!(
            (seen[0].remaining(), seen[0].deadline()),
            (None, Instant::NEVER)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_during_another_inherits_its_deadline() {
    let outer = Pipeline::builder("page").timeout(SECOND).build().unwrap();
    let inner = Pipeline::builder("part")
        .retry(Retry::builder().backoff(Backoff::constant(2 * SECOND).jitter(super_none())))
        .build()
        .unwrap();
    let start = now();
    let failing = || ready(Answer::Err("down"));
    let call = outer.call_with(|attempt| inner.call(failing).during(attempt));
    let error = call.await.unwrap_err();
    assert_eq!((now(), error.attempts()), (start, 1));
    // Without it the wait is begun, and cut.
    let call = outer.call_with(|_| inner.call(failing));
    assert!(call.await.unwrap_err().is_timed_out());
    assert_eq!(now().since(start), SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_inherited_deadline_holds_through_a_whole_pipeline() {
    let outer = Pipeline::builder("page").timeout(SECOND).build().unwrap();
    let part = Pipeline::builder("part")
        .timeout(9 * SECOND)
        .build()
        .unwrap();
    let again = Pipeline::builder("again")
        .retry(Retry::builder().backoff(Backoff::constant(2 * SECOND).jitter(super_none())))
        .build()
        .unwrap();
    let start = now();
    let remaining = Cell::new(None);
    let call = outer.call_with(|attempt| {
        let failing = |attempt: Attempt| {
            remaining.set(attempt.remaining());
            ready(Answer::Err("down"))
        };
        part.call_with(failing).during(attempt).through(&again)
    });
    let error = call.await.unwrap_err();
    assert_eq!(remaining.get(), Some(SECOND));
    assert_eq!((now(), error.attempts()), (start, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_through_another_pipeline_is_told_to_its_own_observer() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let named = |name: &'static str| {
        let log = Arc::clone(&log);
        Pipeline::builder(name).observe(move |event: &Event<'_>| {
            let told = (name, event.pipeline.to_owned(), event.attempt, event.kind);
            log.lock().unwrap().push(told);
        })
    };
    let inner = named("inner").timeout(SECOND).build().unwrap();
    let retry = Retry::builder().max_attempts(2).backoff(Backoff::none());
    let outer = named("outer")
        .timeout(5 * SECOND)
        .retry(retry)
        .build()
        .unwrap();
    let call = inner.call(pending::<Answer>).through(&outer);
    assert_eq!(call.await.unwrap_err().attempts(), 2);
    let by = |name: &'static str, attempt, kind| (name, name.to_owned(), attempt, kind);
    let timed_out = EventKind::TimedOut { after: SECOND };
    let retrying = EventKind::Retrying {
        delay: Duration::ZERO,
    };
    let gave_up = EventKind::GaveUp(crate::observe::GaveUp::Attempts);
    let want = [
        by("inner", 1, timed_out),
        by("outer", 1, retrying),
        by("inner", 2, timed_out),
        by("outer", 2, gave_up),
    ];
    assert_eq!(*log.lock().unwrap(), want);
}

#[tokio::test(start_paused = true)]
async fn the_operation_is_dropped_before_the_error_is_returned() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let hang = async move {
        pending::<()>().await;
        drop(held);
        Answer::Ok(())
    };
    let mut call = task::spawn(hang.timeout(SECOND));
    assert!(call.poll().is_pending());
    tokio::time::advance(SECOND).await;
    assert!(matches!(call.poll(), Poll::Ready(Err(_))));
    // The call itself is still there.
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn dropped_at_every_poll_it_drops_the_operation() {
    let alive = Arc::new(());
    let call = || {
        let alive = &alive;
        (move || {
            let alive = Arc::clone(alive);
            async move {
                for _ in 0..3 {
                    sleep(SECOND).await;
                }
                drop(alive);
                Answer::Ok(())
            }
        })
        .timeout(5 * SECOND)
        .timeout(9 * SECOND)
    };
    let drops = drop_at_every_poll(call, async |_| {
        assert_eq!(Arc::strong_count(&alive), 1);
        assert_eq!(slow(SECOND).timeout(SECOND).await, Ok(()));
    })
    .await;
    assert_eq!(drops, 8);
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_operation_or_the_observer_harms_nothing() {
    let pipeline = Pipeline::builder("angry")
        .observe(|_: &Event<'_>| panic!("observer"))
        .bulkhead(1)
        .timeout(SECOND)
        .build()
        .unwrap();
    for _ in 0..3 {
        assert!(catch_panic(pipeline.call(pending::<Answer>)).await.is_err());
        let angry = || async {
            sleep(SECOND / 2).await;
            panic!("operation")
        };
        assert!(
            catch_panic(pipeline.call::<_, _, (), &str>(angry))
                .await
                .is_err()
        );
        assert_eq!(pipeline.call(|| slow(SECOND / 2)).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn outside_of_a_pipeline_the_attempts_are_known_too() {
    let tries = Cell::new(0);
    let operation = || {
        tries.set(tries.get() + 1);
        let n = tries.get();
        async move {
            if n == 3 {
                pending::<()>().await;
            }
            Answer::Err(if n == 1 { "first" } else { "second" })
        }
    };
    let retry = Retry::builder()
        .max_attempts(9)
        .backoff(Backoff::none())
        .build()
        .unwrap();
    let error = operation.retry(&retry).timeout(SECOND).await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (3, Some(&"second")));
}

/// Polls a future once, where it is known to do its work in the first poll.
trait NowOrNever: Future + Sized {
    fn now_or_never(self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = pin!(self).poll(&mut cx);
    }
}

impl<F: Future> NowOrNever for F {}

/// The slow model: of all limits and the operation itself, the first to end decides; at one
/// moment the operation comes before the limits, and an inner limit before an outer one.
fn first_to_end(latency: u64, limits: &[u64]) -> (u64, Option<u64>) {
    limits.iter().fold((latency, None), |(end, by), limit| {
        if *limit < end {
            (*limit, Some(*limit))
        } else {
            (end, by)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("timeout"), ..ProptestConfig::default() })]

    #[test]
    fn nested_limits_end_a_call_as_the_slow_model_says(
        latency in 0..9u64,
        limits in [0..9u64, 0..9, 0..9],
        yields in 0..3u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let millis = Duration::from_millis;
        let [inner, middle, outer] = limits.map(millis);
        let (elapsed, result) = runtime.block_on(async {
            let start = now();
            let operation = async {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
                sleep(millis(latency)).await;
                Answer::Ok(())
            };
            let result = operation.timeout(inner).timeout(middle).timeout(outer).await;
            (now().since(start), result)
        });
        // A zero limit leaves one chance to be ready at once.
        let latency = if latency == 0 && yields > 0 { 1 } else { 2 * latency };
        let (end, by) = first_to_end(latency, &limits.map(|limit| 2 * limit));
        prop_assert_eq!(elapsed, millis(end / 2));
        match (result, by) {
            (Ok(()), None) => {}
            (Err(Error::TimedOut { after, attempts: 1, last: None }), Some(by)) => {
                prop_assert_eq!(after, millis(by / 2));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

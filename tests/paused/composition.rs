//! The order of policies, and the one flat error.

use std::error::Error as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::circuit_breaker::{Cancelled, CircuitState};
use mainstay::observe::Event;
use mainstay::prelude::*;
use mainstay::retry::{RetryBudget, RetryBuilder};
use mainstay::{BoxError, BoxedError, Error, Progress, Refusal};
use tokio::time::{Instant, sleep};

use crate::support::{Oops, Stepped, limiter};

const SECOND: Duration = Duration::from_secs(1);

fn every_second() -> RetryBuilder {
    Retry::builder().backoff(Backoff::constant(SECOND).jitter(mainstay::retry::Jitter::None))
}

async fn stuck() -> Result<u32, Oops> {
    std::future::pending().await
}

async fn broken() -> Result<u32, Oops> {
    Err(Oops(7))
}

#[tokio::test(start_paused = true)]
async fn a_limit_outside_of_a_retry_is_for_all_attempts_and_inside_for_each() {
    let start = Instant::now();
    let whole = Pipeline::builder("whole")
        .timeout(3 * SECOND)
        .retry(Retry::builder().backoff(Backoff::none()))
        .build()
        .unwrap();
    let error = whole.call(stuck).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after, attempts: 1, .. } if after == 3 * SECOND));
    assert_eq!(start.elapsed().as_secs(), 3);
    let start = Instant::now();
    let each = Pipeline::builder("each")
        .retry(Retry::builder().backoff(Backoff::none()))
        .timeout(SECOND)
        .build()
        .unwrap();
    let error = each.call(stuck).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after, attempts: 3, .. } if after == SECOND));
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_outside_of_a_retry_is_held_over_the_back_off_and_inside_it_is_not() {
    let outside = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let inside = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let pipeline = Pipeline::builder("order")
        .bulkhead(outside.clone())
        .retry(every_second())
        .bulkhead(inside.clone())
        .build()
        .unwrap();
    let mut call = Stepped::new(pipeline.call(broken));
    assert!(
        call.poll().is_pending(),
        "the first attempt has failed, the back-off runs"
    );
    assert_eq!(outside.snapshot().in_use, 1);
    assert_eq!(inside.snapshot().in_use, 0);
    drop(call);
    assert_eq!(outside.snapshot().in_use, 0);
}

/// An attempt that is cut short has ended: its slot is free while the retry waits.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_limit_cuts_gives_everything_back_before_the_back_off() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let breaker = CircuitBreaker::builder()
        .cancelled(Cancelled::Failure)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("cut")
        .retry(every_second())
        .timeout(SECOND)
        .circuit_breaker(breaker.clone())
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let held = || (bulkhead.snapshot().in_use, bulkhead.snapshot().queued);
    let mut running = Stepped::new(pipeline.call(stuck));
    assert!(running.poll().is_pending());
    assert_eq!(held(), (1, 0));
    sleep(SECOND).await;
    assert!(running.poll().is_pending(), "in its back-off");
    assert_eq!(held(), (0, 0));
    let _other = bulkhead.try_acquire(1).unwrap();
    let mut queued = Stepped::new(pipeline.call(stuck));
    assert!(queued.poll().is_pending());
    assert_eq!(held(), (1, 1));
    sleep(SECOND).await;
    assert!(queued.poll().is_pending(), "in its back-off");
    assert_eq!(held(), (1, 0));
    assert_eq!(breaker.snapshot().failures, 2);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_outside_of_a_retry_is_the_last_resort_and_inside_it_ends_the_first_attempt() {
    let outside = Pipeline::builder("outside")
        .fallback(Fallback::with(|error: Error<Oops>| error.attempts()))
        .retry(every_second())
        .build()
        .unwrap();
    let start = Instant::now();
    assert_eq!(outside.call(broken).await, Ok(3));
    assert_eq!(start.elapsed().as_secs(), 2);
    let inside = Pipeline::builder("inside")
        .retry(every_second())
        .fallback(Fallback::with(|error: Error<Oops>| error.attempts()))
        .build()
        .unwrap();
    let start = Instant::now();
    assert_eq!(inside.call(broken).await, Ok(1));
    assert_eq!(start.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_come_from_the_inside_to_the_outside() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let pipeline = Pipeline::builder("events")
        .observe(move |event: &Event<'_>| kept.lock().unwrap().push(event.to_string()))
        .fallback(Fallback::value(0))
        .timeout(10 * SECOND)
        .retry(every_second().max_attempts(2))
        .timeout(3 * SECOND)
        .build()
        .unwrap();
    assert_eq!(pipeline.call(stuck).await, Ok(0));
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "events: attempt 1: timed out after 3s",
            "events: attempt 1: trying again in 1s",
            "events: attempt 2: timed out after 3s",
            "events: attempt 2: gave up: all attempts were made",
            "events: attempt 1: fell back",
        ]
    );
}

/// Chained policies are the same stack the other way round: the last is the outermost.
#[tokio::test(start_paused = true)]
async fn chained_policies_stand_in_the_order_of_the_chain() {
    let start = Instant::now();
    let retry = Retry::builder().backoff(Backoff::none()).build().unwrap();
    let error = stuck.timeout(SECOND).retry(&retry).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after, attempts: 3, .. } if after == SECOND));
    let error = stuck.retry(&retry).timeout(SECOND).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after, attempts: 1, .. } if after == SECOND));
    assert_eq!(start.elapsed().as_secs(), 4);
}

/// Stacks of no policy up to six; the type alone shows that the error does not nest.
fn stacks() -> Vec<DynPipeline<u32, Oops>> {
    let limit = 10 * SECOND;
    let none = || Pipeline::builder("none");
    let two = || none().timeout(limit).retry(every_second());
    let four = || {
        two()
            .circuit_breaker(CircuitBreaker::builder())
            .rate_limit(limiter())
    };
    vec![
        none().build().unwrap().erase(),
        none().timeout(limit).build().unwrap().erase(),
        two().build().unwrap().erase(),
        two()
            .circuit_breaker(CircuitBreaker::builder())
            .build()
            .unwrap()
            .erase(),
        four().build().unwrap().erase(),
        four().bulkhead(4).build().unwrap().erase(),
        four().bulkhead(4).timeout(SECOND).build().unwrap().erase(),
    ]
}

#[tokio::test(start_paused = true)]
async fn errors_stay_flat_however_high_the_stack() {
    for (height, stack) in stacks().into_iter().enumerate() {
        let error = stack.call(broken).await.unwrap_err();
        let attempts = if height < 2 { 1 } else { 3 };
        assert!(
            matches!(error, Error::Operation { error: Oops(7), attempts: n, .. } if n == attempts)
        );
        let source = error.source().and_then(|source| source.downcast_ref());
        assert_eq!(source, Some(&Oops(7)));
        assert!(source.unwrap().source().is_none(), "one step, and no more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_keeps_the_last_real_error() {
    let stack = Pipeline::builder("late")
        .timeout(5 * SECOND)
        .retry(every_second())
        .build()
        .unwrap();
    let error = stack
        .call_with(|attempt| async move {
            match attempt.number() {
                2 => std::future::pending().await,
                n => Err::<u32, _>(Oops(n)),
            }
        })
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { after, attempts: 2, last: Some(Oops(1)), .. } if after == 5 * SECOND)
    );
    assert_eq!(error.source().unwrap().to_string(), "oops 1");
    assert_eq!(
        error.to_string(),
        "timed out after 5s (2 attempts; last error: oops 1)"
    );
}

#[tokio::test(start_paused = true)]
async fn the_cause_is_found_through_a_boxed_error() {
    async fn caller(stack: &DynPipeline<u32, Oops>) -> Result<u32, BoxError> {
        Ok(stack.call(broken).await?)
    }
    for stack in stacks() {
        let error = caller(&stack).await.unwrap_err();
        assert_eq!(error.source().unwrap().downcast_ref(), Some(&Oops(7)));
        let error = error.downcast::<Error<Oops>>().unwrap();
        assert_eq!(error.into_last(), Some(Oops(7)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_cause_is_found_in_a_stack_around_boxed_errors() {
    let stack = Pipeline::builder("boxed")
        .timeout(SECOND)
        .retry(every_second().max_attempts(1));
    let stack = stack.build().unwrap();
    let start = || async { Err::<u32, BoxError>(Box::new(Oops(7))) };
    let error = stack
        .call(start)
        .await
        .map_err(Error::into_boxed)
        .unwrap_err();
    assert_eq!(error.source().unwrap().downcast_ref(), Some(&Oops(7)));
    assert!(error.is::<Error<BoxedError>>());
}

/// The error of a user's own program.
#[derive(Debug, PartialEq)]
enum Trouble {
    Theirs(Oops),
    Late(Duration),
    Busy(Refusal),
}

impl From<Error<Oops>> for Trouble {
    fn from(error: Error<Oops>) -> Self {
        match error {
            Error::Operation { error, .. } => Self::Theirs(error),
            Error::TimedOut { after, .. } => Self::Late(after),
            Error::Refused { reason, .. } => Self::Busy(reason),
            other => unreachable!("a new kind of error: {other}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_question_mark_converts_into_the_users_own_error() {
    async fn through<Fut: Future<Output = Result<u32, Oops>>>(
        bulkhead: &Bulkhead,
        start: impl FnMut() -> Fut,
    ) -> Result<u32, Trouble> {
        Ok(start.bulkhead(bulkhead).timeout(SECOND).await?)
    }
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    assert_eq!(
        through(&bulkhead, broken).await,
        Err(Trouble::Theirs(Oops(7)))
    );
    assert_eq!(through(&bulkhead, stuck).await, Err(Trouble::Late(SECOND)));
    let _held = bulkhead.try_acquire(1).unwrap();
    let full = Refusal::bulkhead_full(Duration::ZERO);
    assert_eq!(through(&bulkhead, broken).await, Err(Trouble::Busy(full)));
}

/// How many calls reach the bottom of three nested pipelines in a total outage.
async fn reached(calls: u32, retry: impl Fn() -> RetryBuilder) -> u32 {
    let nested = [(), (), ()].map(|()| {
        let retry = retry().backoff(Backoff::none());
        Pipeline::builder("nested").retry(retry).build().unwrap()
    });
    let [outer, middle, inner] = &nested;
    let reached = std::cell::Cell::new(0);
    for _ in 0..calls {
        let call = outer.call_with(|attempt| {
            let middle = middle.call_with(|attempt| {
                let inner = inner.call(|| {
                    reached.set(reached.get() + 1);
                    broken()
                });
                async move { inner.during(attempt).await.map_err(Trouble::from) }
            });
            async move { middle.during(attempt).await.map_err(|_| Oops(7)) }
        });
        assert_eq!(call.await.unwrap_err().last(), Some(&Oops(7)));
    }
    reached.get()
}

/// Trap 50.
///
/// A budget limits what its own layer adds: each multiplies by 1.2 and not by 3. One that is
/// shared by nested layers gets a deposit of each of them for one call, and so allows more
/// than one layer's worth, but less than what the layers would with budgets of their own
/// and no end of depth.
#[tokio::test(start_paused = true)]
async fn an_outage_is_not_multiplied_by_nested_retries() {
    const CALLS: u32 = 1_000;
    let none = reached(CALLS, || Retry::builder().no_budget()).await;
    assert_eq!(none, 27 * CALLS, "what a missing budget costs");
    let budget = || RetryBudget::new(0.2, 0).unwrap();
    let own = reached(CALLS, || Retry::builder().budget(budget())).await;
    assert!(own <= 1728 * CALLS / 1000, "budgets of their own: {own}");
    let shared = budget();
    let shared = reached(CALLS, || Retry::builder().budget(shared.clone())).await;
    assert!(shared <= 2 * CALLS, "a shared budget: {shared}");
}

/// Trap 50, for one retry in a stack: the default budget is the whole of what is added.
#[tokio::test(start_paused = true)]
async fn an_outage_costs_the_default_stack_a_fifth_more_and_the_reserve() {
    const CALLS: u32 = 1_000;
    let retry = Retry::builder().backoff(Backoff::none());
    let pipeline = Pipeline::builder("outage")
        .timeout(SECOND)
        .retry(retry)
        .build()
        .unwrap();
    let mut attempts = 0;
    for _ in 0..CALLS {
        attempts += pipeline.call(broken).await.unwrap_err().attempts();
    }
    assert_eq!(attempts, CALLS + CALLS / 5 + 100);
}

/// Trap 52.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_in_its_back_off_starts_no_further_attempt() {
    let pipeline = Pipeline::builder("dropped")
        .timeout(60 * SECOND)
        .retry(every_second())
        .bulkhead(1)
        .timeout(SECOND)
        .build()
        .unwrap();
    let attempts = std::cell::Cell::new(0);
    let mut call = Stepped::new(pipeline.call(|| {
        attempts.set(attempts.get() + 1);
        broken()
    }));
    assert!(call.poll().is_pending());
    sleep(SECOND / 2).await;
    assert!(call.poll().is_pending());
    drop(call);
    sleep(60 * SECOND).await;
    assert_eq!(attempts.get(), 1);
    let mut call = Stepped::new(pipeline.call(|| {
        attempts.set(attempts.get() + 1);
        broken()
    }));
    assert!(call.poll().is_pending());
    sleep(SECOND).await;
    assert_eq!(call.wakes(), 1);
    assert!(call.poll().is_pending(), "the second attempt was made");
    assert_eq!(attempts.get(), 3);
}

/// What a breaker saw of 20 calls of which each was ended by a limit around the whole stack.
async fn seen_of_cut_calls(rule: Cancelled) -> (u64, u64, CircuitState) {
    let breaker = CircuitBreaker::builder()
        .slow_calls(0.5, SECOND)
        .minimum_calls(10)
        .cancelled(rule)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("cut")
        .timeout(2 * SECOND)
        .retry(every_second())
        .circuit_breaker(breaker.clone())
        .build()
        .unwrap();
    for _ in 0..20 {
        assert!(pipeline.call(stuck).await.is_err());
    }
    let seen = breaker.snapshot();
    (seen.failures, seen.slow, seen.state)
}

/// Trap 63.
#[tokio::test(start_paused = true)]
async fn a_breaker_sees_the_calls_that_an_outer_limit_cuts_by_the_rule_that_was_chosen() {
    let ignored = seen_of_cut_calls(Cancelled::Ignore).await;
    assert_eq!(ignored, (0, 0, CircuitState::Closed));
    let failed = seen_of_cut_calls(Cancelled::Failure).await;
    assert_eq!(failed, (10, 10, CircuitState::Open));
    let slow = seen_of_cut_calls(Cancelled::Slow).await;
    assert_eq!(slow, (10, 10, CircuitState::Open));
}

/// Trap 63: a limit further in than the breaker needs no rule.
#[tokio::test(start_paused = true)]
async fn a_breaker_sees_the_limit_of_an_attempt_as_a_failure() {
    let breaker = CircuitBreaker::builder().minimum_calls(10).build().unwrap();
    let pipeline = Pipeline::builder("inner limit")
        .retry(Retry::builder().backoff(Backoff::none()).max_attempts(2))
        .circuit_breaker(breaker.clone())
        .timeout(SECOND)
        .build()
        .unwrap();
    for n in 1..=5 {
        assert!(pipeline.call(stuck).await.unwrap_err().is_timed_out());
        assert_eq!(breaker.snapshot().failures, 2 * n);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_inside_of_a_retry_counts_attempts_and_outside_it_counts_calls() {
    let failures = |breaker: &CircuitBreaker| breaker.snapshot().failures;
    let outside = CircuitBreaker::builder().build().unwrap();
    let inside = CircuitBreaker::builder().build().unwrap();
    let pipeline = Pipeline::builder("counts")
        .circuit_breaker(outside.clone())
        .retry(every_second())
        .circuit_breaker(inside.clone())
        .build()
        .unwrap();
    assert_eq!(pipeline.call(broken).await.unwrap_err().attempts(), 3);
    assert_eq!((failures(&outside), failures(&inside)), (1, 3));
}

/// An open circuit is not hammered, and does not count what was never called.
#[tokio::test(start_paused = true)]
async fn a_retry_stops_at_an_open_circuit_and_keeps_the_real_error() {
    let breaker = CircuitBreaker::builder()
        .consecutive_failures(2)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("opens")
        .retry(every_second().max_attempts(9))
        .circuit_breaker(breaker.clone())
        .build()
        .unwrap();
    let start = Instant::now();
    let error = pipeline.call(broken).await.unwrap_err();
    assert!(matches!(error.refusal(), Some(Refusal::CircuitOpen { .. })));
    assert_eq!((error.attempts(), error.last()), (2, Some(&Oops(7))));
    assert_eq!(error.retry_after(), Some(9 * SECOND));
    assert_eq!(
        start.elapsed().as_secs(),
        2,
        "no back-off after the refusal"
    );
}

#[tokio::test(start_paused = true)]
async fn each_attempt_takes_its_own_permit_of_a_limiter_inside_of_a_retry() {
    let limiter = RateLimiter::per_minute(60).burst(10).build().unwrap();
    let inside = Pipeline::builder("inside")
        .retry(Retry::builder().backoff(Backoff::none()))
        .rate_limit(limiter.clone())
        .build()
        .unwrap();
    assert_eq!(inside.call(broken).await.unwrap_err().attempts(), 3);
    assert_eq!(limiter.snapshot().available, 7);
    let outside = Pipeline::builder("outside")
        .rate_limit(limiter.clone())
        .retry(Retry::builder().backoff(Backoff::none()))
        .build()
        .unwrap();
    assert_eq!(outside.call(broken).await.unwrap_err().attempts(), 3);
    assert_eq!(limiter.snapshot().available, 6);
}

/// Trap 64: the queue's wait counts for the limit outside of the bulkhead, and only there.
#[tokio::test(start_paused = true)]
async fn a_limit_outside_of_a_bulkhead_counts_the_queue_and_one_inside_does_not() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(8)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("queue")
        .timeout(10 * SECOND)
        .bulkhead(bulkhead.clone())
        .timeout(3 * SECOND)
        .build()
        .unwrap();
    let start = Instant::now();
    let callers: Vec<_> = (0..5_u32)
        .map(|n| {
            let pipeline = pipeline.clone();
            tokio::spawn(async move {
                let work = || async {
                    sleep(Duration::from_millis(2400)).await;
                    Ok::<_, Oops>(n)
                };
                (pipeline.call(work).await, start.elapsed().as_millis())
            })
        })
        .collect();
    let late = Error::timed_out(10 * SECOND).after(Progress::started(1));
    let expected = [
        (Ok(0), 2400),
        (Ok(1), 4800),
        (Ok(2), 7200),
        (Ok(3), 9600),
        (Err(late), 10_000),
    ];
    for (caller, expected) in callers.into_iter().zip(expected) {
        assert_eq!(caller.await.unwrap(), expected);
    }
    assert_eq!(bulkhead.snapshot().in_use, 0);
    assert_eq!(bulkhead.snapshot().queued, 0);
}

/// Trap 64: a call that never left the queue has started nothing.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_short_in_the_queue_has_made_no_attempt() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let pipeline = Pipeline::builder("queue")
        .timeout(SECOND)
        .bulkhead(bulkhead.clone());
    let pipeline = pipeline.build().unwrap();
    let _held = bulkhead.try_acquire(1).unwrap();
    let error = pipeline.call(broken).await.unwrap_err();
    assert_eq!(error, Error::timed_out(SECOND));
    assert_eq!(bulkhead.snapshot().queued, 0);
}

//! One deadline goes down with each call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::observe::{Event, EventKind, GaveUp};
use mainstay::prelude::*;
use mainstay::retry::{Jitter, RetryBuilder};
use mainstay::{Attempt, Error, Refusal};
use tokio::time::{Instant, sleep};

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

fn every(delay: Duration) -> RetryBuilder {
    Retry::builder().backoff(Backoff::constant(delay).jitter(Jitter::None))
}

/// A wait that is wrongly begun fails its test, and does not hang it.
async fn bounded<T>(future: impl Future<Output = T>) -> T {
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, future).await.unwrap()
}

type Reasons = Arc<Mutex<Vec<GaveUp>>>;

/// An observer that keeps why retries gave up.
fn gave_up() -> (Reasons, impl Fn(&Event<'_>) + Send + Sync) {
    let reasons = Reasons::default();
    let kept = Arc::clone(&reasons);
    let observer = move |event: &Event<'_>| {
        if let EventKind::GaveUp(reason) = event.kind {
            kept.lock().unwrap().push(reason);
        }
    };
    (reasons, observer)
}

#[tokio::test(start_paused = true)]
async fn a_back_off_that_cannot_end_before_the_outer_pipelines_deadline_is_not_begun() {
    let (reasons, observer) = gave_up();
    let outer = Pipeline::builder("outer")
        .timeout(3 * SECOND)
        .build()
        .unwrap();
    let inner = Pipeline::builder("inner")
        .observe(observer)
        .retry(every(5 * SECOND))
        .build()
        .unwrap();
    let start = Instant::now();
    let error = outer
        .call_with(|attempt| {
            let part = inner
                .call(|| async { Err::<(), _>(Oops(7)) })
                .during(attempt);
            async move { part.await.map_err(|error| error.into_last().unwrap()) }
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Operation { error: Oops(7), .. }));
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody slept");
    assert_eq!(*reasons.lock().unwrap(), [GaveUp::Deadline]);
}

/// Without `during` the inner pipeline knows of no deadline, and is cut off.
#[tokio::test(start_paused = true)]
async fn without_during_the_wait_is_begun_and_cut_off() {
    let outer = Pipeline::builder("outer")
        .timeout(3 * SECOND)
        .build()
        .unwrap();
    let inner = Pipeline::builder("inner")
        .retry(every(5 * SECOND))
        .build()
        .unwrap();
    let start = Instant::now();
    let error = outer
        .call(|| async {
            let part = inner.call(|| async { Err::<(), _>(Oops(7)) });
            part.await.map_err(|error| error.into_last().unwrap())
        })
        .await
        .unwrap_err();
    assert!(error.is_timed_out());
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_not_entered_after_the_inherited_deadline() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let outer = Pipeline::builder("outer").timeout(SECOND).build().unwrap();
    let mut kept = None;
    let first = outer.call_with(|attempt| {
        kept = Some(attempt);
        async { Ok::<_, Oops>(()) }
    });
    first.await.unwrap();
    sleep(2 * SECOND).await;
    let _held = bulkhead.try_acquire(1).unwrap();
    let inner = Pipeline::builder("inner")
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let start = Instant::now();
    let late = inner
        .call(|| async { Ok::<_, Oops>(()) })
        .during(kept.unwrap());
    let error = bounded(late).await.unwrap_err();
    assert!(matches!(
        error.refusal(),
        Some(Refusal::BulkheadFull { .. })
    ));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(bulkhead.snapshot().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn an_operation_sees_its_attempt_and_the_nearest_limit() {
    let pipeline = Pipeline::builder("seen")
        .timeout(5 * SECOND)
        .retry(every(SECOND).max_attempts(5))
        .timeout(2 * SECOND)
        .build()
        .unwrap();
    let seen = Mutex::new(Vec::new());
    let error = pipeline
        .call_with(|attempt| {
            let left = attempt.remaining().unwrap().as_millis();
            seen.lock().unwrap().push((attempt.number(), left));
            async {
                sleep(SECOND / 2).await;
                Err::<(), _>(Oops(1))
            }
        })
        .await
        .unwrap_err();
    // The limit of the attempt counts until that of the whole call is nearer. Each limit is
    // known from the first time its operation was pending.
    assert_eq!(
        *seen.lock().unwrap(),
        [(1, 2000), (2, 2000), (3, 2000), (4, 500)]
    );
    assert_eq!(error.attempts(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_operation_without_a_limit_sees_none() {
    let pipeline = Pipeline::builder("free")
        .retry(every(SECOND))
        .build()
        .unwrap();
    let look = |attempt: Attempt| async move { Ok::<_, Oops>(attempt.remaining()) };
    assert_eq!(pipeline.call_with(look).await, Ok(None));
    let never = Pipeline::builder("never")
        .timeout(Duration::MAX)
        .build()
        .unwrap();
    assert_eq!(never.call_with(look).await, Ok(None));
    assert_eq!(never.erase().call_with(look).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_goes_through_three_pipelines() {
    let outer = Pipeline::builder("outer")
        .timeout(3 * SECOND)
        .build()
        .unwrap();
    let middle = Pipeline::builder("middle")
        .timeout(60 * SECOND)
        .build()
        .unwrap();
    let inner = Pipeline::builder("inner")
        .timeout(10 * SECOND)
        .build()
        .unwrap();
    let left = outer
        .call_with(|attempt| {
            let (middle, inner) = (&middle, &inner);
            async move {
                sleep(SECOND).await;
                let part = middle.call_with(|attempt| {
                    let part = inner
                        .call_with(|attempt| async move { Ok::<_, Oops>(attempt.remaining()) })
                        .during(attempt);
                    async move { part.await.map_err(|_| Oops(0)) }
                });
                part.during(attempt).await.map_err(|_| Oops(1))
            }
        })
        .await;
    assert_eq!(left, Ok(Some(2 * SECOND)));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_after_the_deadline_is_refused_at_once_through_two_pipelines() {
    let limiter = RateLimiter::per_minute(6)
        .burst(1)
        .max_wait(60 * SECOND)
        .build()
        .unwrap();
    let inner = Pipeline::builder("inner")
        .rate_limit(limiter.clone())
        .build()
        .unwrap();
    let outer = Pipeline::builder("outer")
        .timeout(3 * SECOND)
        .build()
        .unwrap();
    let refused = Mutex::new(None);
    let start = Instant::now();
    for _ in 0..2 {
        let part = |attempt| {
            let part = inner.call(|| async { Ok::<_, Oops>(()) }).during(attempt);
            let refused = &refused;
            async move {
                part.await.map_err(|error| {
                    *refused.lock().unwrap() = error.refusal();
                    Oops(1)
                })
            }
        };
        let _ = outer.call_with(part).await;
    }
    let retry_after = 10 * SECOND;
    assert_eq!(
        *refused.lock().unwrap(),
        Some(Refusal::rate_limited(retry_after))
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(limiter.snapshot().queued, 0);
}

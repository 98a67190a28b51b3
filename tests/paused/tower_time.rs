//! The tower service and time.

use std::task::Poll;
use std::time::Duration;

use mainstay::prelude::*;
use mainstay::{BoxedError, Error};
use tokio::time::{Instant, sleep};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_time_in_which_the_inner_service_is_not_ready_counts() {
    let (inner, mut handle) = mock::pair::<u32, u32>();
    handle.allow(0);
    let pipeline = Pipeline::builder("unready")
        .retry(Retry::builder().backoff(Backoff::none()))
        .timeout(SECOND)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = pipeline
        .layer()
        .boxed()
        .layer(inner)
        .oneshot(7)
        .await
        .unwrap_err();
    let error = error.downcast::<Error<BoxedError>>().unwrap();
    assert!(error.is_timed_out());
    assert_eq!(
        start.elapsed().as_secs(),
        3,
        "each attempt waited for its own readiness"
    );
    assert_eq!(error.attempts(), 0, "the service itself was never called");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_retried_and_limited_behind_the_service() {
    let pipeline = Pipeline::builder("slow")
        .timeout(10 * SECOND)
        .retry(Retry::builder().backoff(Backoff::none()).max_attempts(2))
        .timeout(SECOND)
        .build()
        .unwrap();
    let mut service = pipeline
        .layer()
        .layer(service_fn(|seconds: u64| async move {
            sleep(Duration::from_secs(seconds)).await;
            Ok::<_, Oops>(seconds)
        }));
    let start = Instant::now();
    assert_eq!(service.ready().await.unwrap().call(0).await, Ok(0));
    let error = service.ready().await.unwrap().call(5).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after, attempts: 2, .. } if after == SECOND));
    assert_eq!(start.elapsed().as_secs(), 2);
}

/// Trap 30: what `poll_ready` has taken, or queued for, is given back with the attempt that
/// is cut short, and not when the whole call ends.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cut_short_gives_back_its_readiness() {
    const HOUR: Duration = Duration::from_secs(3600);
    let inner = ConcurrencyLimit::new(
        service_fn(|ms: u64| async move {
            sleep(Duration::from_millis(ms)).await;
            Ok::<_, Oops>(ms)
        }),
        1,
    );
    let pipeline = Pipeline::builder("cut")
        .retry(Retry::builder().max_attempts(2).delay_by(|_| HOUR))
        .timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let mut held = inner.clone();
    let holder = tokio::spawn(async move { held.ready().await.unwrap().call(1000).await });
    tokio::task::yield_now().await;
    let mut ours = pipeline.layer().layer(inner.clone());
    let _in_back_off = tokio::spawn(ours.call(1));
    sleep(Duration::from_millis(500)).await;
    let mut other = inner.clone();
    let other = tokio::spawn(async move { other.ready().await.unwrap().call(1).await });
    holder.await.unwrap().unwrap();
    let served = tokio::time::timeout(Duration::from_secs(60), other).await;
    assert!(
        served.is_ok(),
        "the free slot belongs to a call that sleeps"
    );
}

/// A request that must not be lost is not sent to be cut at once.
#[tokio::test(start_paused = true)]
async fn no_request_is_sent_when_the_deadline_has_passed_before_readiness() {
    let (inner, mut handle) = mock::pair::<u32, u32>();
    handle.allow(0);
    let pipeline = Pipeline::builder("late").timeout(SECOND).build().unwrap();
    let mut service = pipeline.layer().layer(inner);
    let mut call = tokio_test::task::spawn(service.call(7));
    assert!(call.poll().is_pending());
    tokio::time::advance(2 * SECOND).await;
    handle.allow(1);
    let Poll::Ready(Err(error)) = call.poll() else {
        panic!("the deadline has passed");
    };
    assert_eq!(error.attempts(), 0);
    assert!(error.is_timed_out());
    // A zero limit leaves one chance to be ready at once.
    let at_once = Pipeline::builder("at once")
        .timeout(Duration::ZERO)
        .build()
        .unwrap();
    let echo = service_fn(|n: u32| async move { Ok::<_, Oops>(n) });
    assert_eq!(at_once.layer().layer(echo).oneshot(1).await, Ok(1));
}

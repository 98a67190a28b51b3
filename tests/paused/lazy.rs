//! A value that is made once, behind a whole pipeline.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay::circuit_breaker::CircuitState;
use mainstay::lazy::Lazy;
use mainstay::prelude::*;
use mainstay::retry::Jitter;
use mainstay::{Error, Refusal};
use tokio::time::{Instant, sleep};

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

/// Takes a second each time, and fails so often first.
fn dial(failures: u32) -> (Arc<AtomicU32>, impl Fn() -> Dial + Send + Sync) {
    let dialled = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&dialled);
    let start = move || -> Dial {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            sleep(SECOND).await;
            if number < failures {
                Err(Oops(number))
            } else {
                Ok(number)
            }
        })
    };
    (dialled, start)
}

type Dial = std::pin::Pin<Box<dyn Future<Output = Result<u32, Oops>> + Send>>;

/// Trap 69, through a time limit of the callers': each gives up, and the value is made.
#[tokio::test(start_paused = true)]
async fn callers_that_time_out_leave_the_initialiser_to_the_next() {
    let (dialled, start) = dial(0);
    let lazy = Lazy::new(start);
    let begun = Instant::now();
    let mut late = 0;
    while lazy.try_get().is_none() {
        let limit = SECOND * 3 / 10;
        late += u32::from(tokio::time::timeout(limit, lazy.get()).await.is_err());
    }
    assert_eq!((late, dialled.load(Ordering::SeqCst)), (3, 1));
    assert!(begun.elapsed() <= SECOND + SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_in_the_pipeline_spares_the_callee() {
    let (dialled, start) = dial(u32::MAX);
    let breaker = CircuitBreaker::builder()
        .no_failure_rate()
        .consecutive_failures(2);
    let breaker = breaker.build().unwrap();
    let backoff = Backoff::constant(SECOND).jitter(Jitter::None);
    let retry = Retry::builder().max_attempts(2).backoff(backoff);
    let pipeline = Pipeline::builder("dial")
        .retry(retry)
        .policy(breaker.clone());
    let lazy = Lazy::new(start).through(&pipeline.build().unwrap());
    let error = lazy.get().await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (2, Some(&Oops(1))));
    assert_eq!(breaker.state(), CircuitState::Open);
    let refused = lazy.get().await.unwrap_err();
    assert!(matches!(
        refused.refusal(),
        Some(Refusal::CircuitOpen { .. })
    ));
    assert_eq!(dialled.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_around_the_get_does_not_nest() {
    let (_, start) = dial(1);
    let lazy = Lazy::new(start);
    let outer = Pipeline::builder("page")
        .timeout(9 * SECOND)
        .build()
        .unwrap();
    let polled = Cell::new(0);
    let result = outer.call(|| {
        polled.set(polled.get() + 1);
        lazy.get()
    });
    let error: Error<Oops> = result.await.map_err(Error::flatten).unwrap_err();
    assert_eq!(error, Error::operation(Oops(0)));
    assert_eq!(lazy.get().await, Ok(&1));
}

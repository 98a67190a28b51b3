//! The driver, on a paused clock.
use std::cell::Cell;
use std::time::Duration;

use crate::prelude::*;
use crate::time::now;

#[tokio::test(start_paused = true)]
async fn waits_between_attempts_and_keeps_the_last_error() {
    let retry = Retry::builder()
        .backoff(Backoff::exponential(Duration::from_millis(100)).jitter(super::Jitter::None))
        .build()
        .unwrap();
    let start = now();
    let tries = Cell::new(0);
    let error = (|| {
        tries.set(tries.get() + 1);
        let n = tries.get();
        async move { Err::<(), _>(format!("failure {n}")) }
    })
    .retry(&retry)
    .await
    .unwrap_err();
    assert_eq!(now().since(start), Duration::from_millis(300));
    assert_eq!(error.attempts(), 3);
    assert_eq!(error.to_string(), "failure 3 (after 3 attempts)");
}

#[tokio::test(start_paused = true)]
async fn an_outer_time_limit_knows_the_attempts_and_the_last_error() {
    let mut tries = 0;
    let error = (|| {
        tries += 1;
        let hang = tries == 2;
        async move {
            if hang {
                std::future::pending::<()>().await;
            }
            Err::<(), _>("refused")
        }
    })
    .retry(Retry::exponential(Duration::from_millis(100)))
    .timeout(Duration::from_secs(1))
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out after 1s (after 2 attempts; last error: refused)"
    );
}

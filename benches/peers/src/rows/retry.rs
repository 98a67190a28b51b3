//! Retries: one that is not needed, and one that succeeds at the fourth attempt.

use std::future::ready;
use std::time::Duration;

use backon::Retryable as Backon;
use mainstay::prelude::*;
use tokio_retry2::RetryError;
use tokio_retry2::strategy::{ExponentialBackoff, FixedInterval};
use tower::Layer;
use tower_resilience::retry::RetryLayer;

use crate::calls::{Failed, Flaky, Prompt, SharedFlaky, ThreeMore, ask, ok};
use crate::row::{Row, each};

pub(super) fn first(row: &mut Row) {
    row.goal(2.0).note(
        "Ours has a budget (so that retries cannot multiply an outage) and jitter; tower's policy \
         is written by its user and here has neither.",
    );
    row.floor(
        "a loop",
        each!(=> {
            let mut failures = 0;
            loop {
                match ok().await {
                    Err(_) if failures < 3 => failures += 1,
                    done => break done,
                }
            }
        }),
    )
    .anchor(0.93);
    let service = tower::retry::Retry::new(ThreeMore(3), Prompt);
    row.peer("tower", "Retry", each!(service => ask(&mut service).await))
        .anchor(1.59);
    let backoff = backon::ConstantBuilder::default();
    row.peer(
        "backon",
        "constant delay",
        each!(backoff => Backon::retry(ok, backoff).await),
    )
    .anchor(2.81);
    let backoff = backon::ExponentialBuilder::default().with_jitter();
    row.peer(
        "backon",
        "exponential with jitter",
        each!(backoff => {
            Backon::retry(ok, backoff).await
        }),
    )
    .anchor(3.7);
    row.peer(
        "tokio-retry2",
        "exponential",
        each!(=> {
            let delays = ExponentialBackoff::from_millis(10).take(3);
            tokio_retry2::Retry::spawn(delays, transient).await
        }),
    )
    .anchor(3.72);
    let layer = RetryLayer::<u64, u64, Failed>::builder()
        .max_attempts(4)
        .build();
    let service = layer.layer(Prompt);
    row.peer(
        "tower-resilience",
        "retry",
        each!(service => ask(&mut service).await),
    )
    .anchor(51.55);
    let retry = Retry::builder().max_attempts(4).build().expect("a retry");
    let retry = std::sync::Arc::new(retry);
    row.ours(
        "retry()",
        each!(retry => Resilient::retry(ok, &*retry).await),
    );
}

async fn transient() -> Result<u64, RetryError<Failed>> {
    ok().await.map_err(RetryError::transient)
}

pub(super) fn fourth(row: &mut Row) {
    const NO_DELAY: Duration = Duration::ZERO;

    row.goal(10.0).note(
        "A delay of zero is no delay to the floor, tower and ours. The others ask tokio's timer, \
         which rounds up to the next millisecond; backon can be given a sleeper that is ready.",
    );
    let flaky = Flaky::default();
    row.floor(
        "a loop",
        each!(flaky => {
            let mut failures = 0;
            loop {
                match flaky.answer() {
                    Err(_) if failures < 4 => failures += 1,
                    done => break done,
                }
            }
        }),
    )
    .anchor(1.5);
    let service = tower::retry::Retry::new(ThreeMore(4), SharedFlaky::default());
    row.peer(
        "tower",
        "Retry, a policy that is ready",
        each!(service => ask(&mut service).await),
    )
    .anchor(6.5);
    let delays = backon::ConstantBuilder::default()
        .with_delay(NO_DELAY)
        .with_max_times(5);
    row.peer(
        "backon",
        "a sleeper that is ready",
        each!(flaky, delays => {
            let attempt = || ready(flaky.answer());
            Backon::retry(attempt, delays).sleep(|_| ready(())).await
        }),
    )
    .anchor(19.6);
    row.peer(
        "tokio-retry2",
        "no delay",
        each!(flaky => {
            let attempt = || ready(flaky.answer().map_err(RetryError::transient));
            tokio_retry2::Retry::spawn(FixedInterval::new(NO_DELAY).take(5), attempt).await
        }),
    )
    .sleeps();
    let layer = RetryLayer::<u64, u64, Failed>::builder()
        .max_attempts(5)
        .fixed_backoff(NO_DELAY)
        .build();
    let service = layer.layer(SharedFlaky::default());
    row.peer(
        "tower-resilience",
        "no delay",
        each!(service => ask(&mut service).await),
    )
    .sleeps();
    let retry = Retry::builder().backoff(Backoff::none()).no_budget();
    let retry = retry.max_attempts(5).build().expect("a retry");
    let retry = std::sync::Arc::new(retry);
    row.ours(
        "retry(), no budget",
        each!(flaky, retry => {
            let attempt = || ready(flaky.answer());
            Resilient::retry(attempt, &*retry).await
        }),
    );
}

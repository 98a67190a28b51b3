//! How large the future of a call is: it lives in every task that makes one.
//!
//! The budgets stand one word above what was measured, so that growth is a decision and not an
//! accident. They are for 64-bit targets.
#![cfg(target_pointer_width = "64")]

use std::time::Duration;

use mainstay::policy::{Identity, PipelineBuilder};
use mainstay::prelude::*;

use crate::support::{self, Oops};

const SECOND: Duration = Duration::from_secs(1);

/// What a call weighs around which there is no policy: the context, and the operation.
const BARE: usize = 40;
/// What each policy adds, alone, to a call.
const TIMEOUT: usize = 64;
const RETRY: usize = 136;
const CIRCUIT_BREAKER: usize = 56;
const RATE_LIMIT: usize = 40;
const BULKHEAD: usize = 32;
const FALLBACK: usize = 24;
/// Timeout, retry, circuit breaker, rate limit and bulkhead, and a timeout for each attempt.
const WHOLE: usize = 376;

async fn leaf() -> Result<u32, Oops> {
    Ok(1)
}

/// The bytes of a call through the pipeline.
macro_rules! bytes {
    ($pipeline:expr) => {
        size_of_val(&$pipeline.build().unwrap().call(leaf))
    };
}

fn start() -> PipelineBuilder<Identity> {
    Pipeline::builder("size")
}

#[track_caller]
fn within(name: &str, bytes: usize, budget: usize) {
    println!("{name}: {bytes} of {budget} bytes");
    assert!(
        bytes <= budget,
        "{name}: {bytes} bytes, but {budget} are allowed"
    );
}

#[test]
fn no_policy_adds_more_than_its_budget() {
    let bare = bytes!(start());
    within("bare call", bare, BARE);
    let added = |bytes: usize| bytes - bare;
    within("timeout", added(bytes!(start().timeout(SECOND))), TIMEOUT);
    within(
        "retry",
        added(bytes!(start().retry(Retry::builder()))),
        RETRY,
    );
    let breaker = start().circuit_breaker(CircuitBreaker::builder());
    within("circuit breaker", added(bytes!(breaker)), CIRCUIT_BREAKER);
    let limited = start().rate_limit(support::limiter());
    within("rate limit", added(bytes!(limited)), RATE_LIMIT);
    within("bulkhead", added(bytes!(start().bulkhead(4))), BULKHEAD);
    within(
        "fallback",
        added(bytes!(start().fallback(Fallback::value(1)))),
        FALLBACK,
    );
}

#[test]
fn a_whole_pipeline_stays_within_its_budget() {
    let pipeline = start()
        .timeout(SECOND)
        .retry(Retry::builder())
        .circuit_breaker(CircuitBreaker::builder())
        .rate_limit(support::limiter())
        .bulkhead(4)
        .timeout(SECOND);
    within("whole pipeline", bytes!(pipeline), WHOLE);
}

/// A stack holds no more than its parts: the operation is not stored once per policy.
#[test]
fn the_operation_is_stored_once() {
    let large = [0_u8; 1024];
    let start = || async move {
        std::future::ready(()).await;
        Ok::<_, Oops>(large.len())
    };
    let pipeline = Pipeline::builder("large")
        .timeout(SECOND)
        .retry(Retry::builder())
        .bulkhead(4)
        .timeout(SECOND)
        .build()
        .unwrap();
    let future = size_of_val(&start());
    let bytes = size_of_val(&pipeline.call(start));
    // The closure and its future each have the array; nothing else does.
    let most = size_of_val(&start) + future + WHOLE;
    assert!(bytes <= most, "{bytes} bytes of at most {most}");
}

//! What a call costs in allocations, with the production clock and an allocator that counts.
//!
//! Counted is every allocation and reallocation of the calling thread from before the
//! operation is made until its result has been dropped.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use mainstay::prelude::*;
use support::{Oops, limiter};

const SECOND: Duration = Duration::from_secs(1);
const CALLS: u64 = 100;

macro_rules! whole {
    () => {
        Pipeline::builder("whole")
            .timeout(10 * SECOND)
            .retry(Retry::builder().backoff(Backoff::none()).no_budget())
            .circuit_breaker(CircuitBreaker::builder().failure_rate(1.0))
            .rate_limit(limiter())
            .bulkhead(64)
            .timeout(SECOND)
            .build()
            .unwrap()
    };
}

async fn ready() -> Result<u32, Oops> {
    Ok(7)
}

/// Counts over many calls, of which none is the first.
fn steady(mut call: impl FnMut()) -> AllocationInfo {
    for _ in 0..CALLS {
        call();
    }
    measure(|| (0..CALLS).for_each(|_| call()))
}

/// The test harness's `block_on` allocates; these futures need neither reactor nor timer.
fn poll_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it should have been ready at once"),
    }
}

#[test]
fn the_counter_counts() {
    let counted = steady(|| drop(std::hint::black_box(Box::new(7))));
    assert_eq!(counted.count_total, CALLS);
    assert_eq!(counted.count_current, 0);
}

#[test]
fn a_whole_pipeline_allocates_nothing_around_a_ready_operation() {
    let pipeline = whole!();
    let counted = steady(|| assert_eq!(poll_once(pipeline.call(ready)), Ok(7)));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_call_that_is_told_its_attempt_allocates_nothing() {
    let pipeline = whole!();
    let counted = steady(|| {
        let call = pipeline.call_with(|attempt| async move {
            assert_eq!(attempt.number(), 1);
            Ok::<_, Oops>(7)
        });
        assert_eq!(poll_once(call), Ok(7));
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn each_policy_alone_allocates_nothing_around_a_ready_operation() {
    let retry = Retry::default();
    let bulkhead = Bulkhead::builder().max_concurrent(4).build().unwrap();
    let breaker = CircuitBreaker::builder().build().unwrap();
    let limiter = limiter();
    let counted = steady(|| {
        assert_eq!(poll_once(ready.timeout(SECOND)), Ok(7));
        assert_eq!(poll_once(ready.retry(&retry)), Ok(7));
        assert_eq!(poll_once(ready.bulkhead(&bulkhead)), Ok(7));
        assert_eq!(poll_once(ready.circuit_breaker(&breaker)), Ok(7));
        assert_eq!(poll_once(ready.rate_limit(&limiter)), Ok(7));
        assert_eq!(poll_once(ready.fallback(Fallback::value(1))), Ok(7));
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn retries_without_delay_allocate_nothing() {
    let pipeline = whole!();
    let counted = steady(|| {
        let mut tries = 0;
        let call = pipeline.call(|| {
            tries += 1;
            std::future::ready(if tries < 3 {
                Err(Oops(tries))
            } else {
                Ok(tries)
            })
        });
        assert_eq!(poll_once(call), Ok(3));
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_refusal_allocates_nothing() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("full")
        .timeout(SECOND)
        .retry(Retry::builder())
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let _held = bulkhead.try_acquire(1).unwrap();
    let counted = steady(|| assert!(poll_once(pipeline.call(ready)).is_err()));
    assert_eq!(counted.count_total, 0);
}

/// The one is the box of the whole stack's future.
#[test]
fn an_erased_pipeline_allocates_once_a_call() {
    let pipeline = whole!().erase::<u32, Oops>();
    let counted = steady(|| assert_eq!(poll_once(pipeline.call(ready)), Ok(7)));
    assert_eq!(counted.count_total, CALLS);
}

#[test]
fn a_clone_of_a_pipeline_allocates_nothing() {
    let pipeline = whole!();
    let erased = pipeline.erase::<u32, Oops>();
    let counted = steady(|| {
        drop(pipeline.clone());
        drop(erased.clone());
    });
    assert_eq!(counted.count_total, 0);
}

#[cfg(feature = "tower")]
mod service {
    use super::*;
    use std::future::{Ready, ready};
    use std::task::{Context, Poll};
    use tower::{Layer, Service};

    /// A service that allocates nothing itself, and whose clone does not either.
    #[derive(Clone)]
    struct Echo;

    impl Service<u32> for Echo {
        type Response = u32;
        type Error = Oops;
        type Future = Ready<Result<u32, Oops>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Oops>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: u32) -> Self::Future {
            ready(Ok(request))
        }
    }

    /// The one is the box of the whole stack's future; readiness costs none, and neither do
    /// the clones of the inner service and of the request, which allocate nothing here.
    #[test]
    fn a_service_allocates_once_a_call() {
        let mut service = whole!().layer().layer(Echo);
        let counted = steady(|| {
            poll_once(std::future::poll_fn(|cx| service.poll_ready(cx))).unwrap();
            assert_eq!(poll_once(service.call(7)), Ok(7));
        });
        assert_eq!(counted.count_total, CALLS);
    }

    /// A boxed error is made only when there is an error.
    #[test]
    fn a_service_with_boxed_errors_allocates_no_more() {
        let mut service = whole!().layer().boxed().layer(Echo);
        let counted = steady(|| assert_eq!(poll_once(service.call(7)).unwrap(), 7));
        assert_eq!(counted.count_total, CALLS);
    }
}

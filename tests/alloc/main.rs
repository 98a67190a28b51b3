//! What a call costs in allocations, with the production clock and an allocator that counts.
//!
//! Counted is every allocation and reallocation of the calling thread from before the
//! operation is made until its result has been dropped.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

#[cfg(feature = "agentbay")]
mod agentbay;
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

mod gathers {
    use super::*;
    use mainstay::gather::gather;

    /// Pending once, and woken at once.
    async fn yields(n: u32) -> Result<u32, Oops> {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(Ok(n));
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await
    }

    fn spin<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
        }
    }

    async fn all_of(items: u32, limit: usize, pipeline: bool) {
        let bulkhead = Bulkhead::builder().max_concurrent(4).build().unwrap();
        let gather = gather((0..items).map(|n| move || yields(n))).limit(limit);
        let mut sum = 0;
        if pipeline {
            let pipeline = Pipeline::builder("held")
                .bulkhead(bulkhead.weighing(0))
                .build();
            let pipeline = pipeline.unwrap();
            let mut all = gather.through(&pipeline).as_finished();
            while let Some((_, outcome)) = all.next().await {
                sum += outcome.unwrap();
            }
        } else {
            let mut all = gather.in_order();
            while let Some(outcome) = all.next().await {
                sum += outcome.unwrap();
            }
        }
        assert_eq!(sum, (0..items).sum::<u32>());
    }

    #[test]
    fn a_gather_allocates_its_slots_once_and_nothing_for_an_item() {
        for pipeline in [false, true] {
            let few = measure(|| spin(all_of(1_000, 64, pipeline)));
            let many = measure(|| spin(all_of(10_000, 64, pipeline)));
            assert_eq!(many.count_total, few.count_total);
            assert_eq!(many.bytes_max, few.bytes_max);
            // A box and a waker for each slot, and some lists that grow.
            assert!((128..128 + 40).contains(&few.count_total), "{few:?}");
        }
    }

    /// Trap 33.
    #[test]
    fn a_huge_limit_allocates_what_is_in_flight() {
        let modest = measure(|| spin(all_of(10, 10, false)));
        let huge = measure(|| spin(all_of(10, usize::MAX, false)));
        assert_eq!(modest.count_total, huge.count_total);
        assert_eq!(modest.bytes_max, huge.bytes_max);
        let ready = measure(|| {
            let items = (0..1_000).map(|n| std::future::ready(Ok::<u32, Oops>(n)));
            let mut all = gather(items).limit(usize::MAX).as_finished();
            while spin(all.next()).is_some() {}
        });
        assert!(ready.count_total <= 8, "one slot: {ready:?}");
    }

    #[test]
    fn time_limits_cost_one_timer() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let limited = |items: u32| {
            runtime.block_on(async {
                let all = gather((0..items).map(yields)).limit(8).timeout(SECOND);
                let mut all = all.deadline(9 * SECOND).as_finished();
                while all.next().await.is_some() {}
            });
        };
        limited(10);
        let few = measure(|| limited(100));
        let many = measure(|| limited(10_000));
        assert_eq!(many.count_total, few.count_total);
    }
}

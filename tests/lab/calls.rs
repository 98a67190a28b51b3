//! `Call`: each policy alone, in each of its states, beside two other calls.

use std::sync::Arc;

use mainstay::prelude::*;
use mainstay::{Error, Pipeline};
use tokio::task::yield_now;

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::{Gates, MILLI, is_usual, retry};

/// A pipeline, and what it is made of.
pub(crate) struct World<P> {
    pub(crate) pipeline: Pipeline<P>,
    pub(crate) gates: Gates,
}

/// A trial of a call through a pipeline: beside it two more calls, one ahead of it or behind
/// and one later, and somebody who lets go of what he holds.
macro_rules! call {
    ($trials:ident, $name:literal, $least:literal, $gates:expr, failing $failing:literal, $build:expr) => {
        call!($trials, $name, &["policy::Call"], $least, $gates, failing $failing, $build,
            |world, operation| world.pipeline.call_with(move |attempt| operation(attempt.number())));
    };
    ($trials:ident, $name:literal, $covers:expr, $least:literal, $gates:expr, failing $failing:literal, $build:expr,
     |$world:ident, $operation:ident| $call:expr) => {
        $trials.push(trial($name, $covers, $least, |lab| async move {
            lab.run_beside(
                async || {
                    let gates: Gates = $gates;
                    let build: fn(mainstay::PipelineBuilder<mainstay::policy::Identity>, &Gates) -> _ = $build;
                    let pipeline = build(Pipeline::builder("trial"), &gates).build().unwrap();
                    crate::calls::World { pipeline, gates }
                },
                |$world: Arc<crate::calls::World<_>>| async move {
                    let $operation = |attempt: u32| $world.gates.work(attempt, $failing);
                    is_usual(&$call.await);
                },
                |$world: Arc<crate::calls::World<_>>| async move {
                    let ahead = async {
                        let $operation = |attempt: u32| $world.gates.work(attempt, 0);
                        is_usual(&$call.await);
                    };
                    let behind = async {
                        yield_now().await;
                        $world.gates.release();
                        yield_now().await;
                        $world.gates.release();
                        let $operation = |attempt: u32| $world.gates.work(attempt, 1);
                        is_usual(&$call.await);
                    };
                    futures_util::future::join(ahead, behind).await;
                },
                async |$world: &crate::calls::World<_>, _: &mainstay::testing::Point| {
                    let next = async || {
                        let $operation = |_: u32| async { Ok::<_, Oops>(7) };
                        $call.await
                    };
                    $world.gates.are_whole(next).await;
                },
            )
            .await
        }));
    };
}
pub(crate) use call;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    call!(all, "call: no policy", 4, Gates::free(), failing 0, |b, _| b);
    call!(all, "timeout: in time", 4, Gates::free(), failing 0, |b, _| b.timeout(9 * MILLI));
    call!(all, "timeout: too late", 2, Gates::free(), failing 0, |b, _| b.timeout(MILLI));
    call!(all, "timeout: at the same time", 2, Gates::free(), failing 0, |b, _| b.timeout(2 * MILLI));
    of_retries(&mut all);
    of_breakers(&mut all);
    call!(all, "limiter: free", 4, Gates::free(), failing 0, |b, g| b.rate_limit(g.limiter.clone()).policy(g.meter(1)));
    call!(all, "limiter: queued", 4, Gates::slow(), failing 0, |b, g| b.rate_limit(g.limiter.clone()).policy(g.meter(1)));
    call!(all, "limiter: queued, two permits", 4, Gates::slow(), failing 0,
        |b, g| b.rate_limit(g.limiter.costing(2)).policy(g.meter(2)));
    call!(all, "limiter: refused for the deadline", 1, Gates::slow(), failing 0,
        |b, g| b.timeout(3 * MILLI).rate_limit(g.limiter.clone()).policy(g.meter(1)));
    call!(all, "bulkhead: free", 4, Gates::free(), failing 0, |b, g| b.bulkhead(g.bulkhead.clone()));
    call!(all, "bulkhead: one slot for three", 4, Gates::with(1, 1), failing 0,
        |b, g| b.bulkhead(g.bulkhead.clone()));
    call!(all, "bulkhead: queued", 4, Gates::full(1), failing 0, |b, g| b.bulkhead(g.bulkhead.clone()));
    call!(all, "bulkhead: queued for two shares", 4, Gates::full(2), failing 0,
        |b, g| b.bulkhead(g.bulkhead.weighing(2)));
    call!(all, "bulkhead: refused", 1, Gates::full(1), failing 0, |b, _| {
        let bulkhead = Bulkhead::builder().max_concurrent(1).max_queue(0);
        b.timeout(MILLI).bulkhead(bulkhead)
    });
    of_fallbacks(&mut all);
    call!(all, "infallible", &["policy::Call", "operation::infallible"], 4, Gates::free(), failing 0, |b, _| b,
    |world, operation| async {
        let sure = async {
            let _ = operation(1).await;
        };
        let told = mainstay::infallible(sure).timeout(90 * MILLI).await;
        told.map(|()| 7).map_err(|error| error.map(|never| match never {}))
    });
    all
}

fn of_retries(all: &mut Vec<Trial>) {
    call!(all, "retry: first attempt", 4, Gates::free(), failing 0, |b, g| b.retry(retry(g)));
    call!(all, "retry: second attempt", 8, Gates::free(), failing 1, |b, g| b.retry(retry(g)));
    call!(all, "retry: third attempt", 12, Gates::free(), failing 2, |b, g| b.retry(retry(g)));
    call!(all, "retry: given up", 12, Gates::free(), failing 9, |b, g| b.retry(retry(g)));
    call!(all, "retry: without a pause", 8, Gates::free(), failing 1, |b, g| {
        let retry = Retry::builder().backoff(Backoff::none());
        b.retry(retry.budget(g.budget.clone()))
    });
    call!(all, "retry: budget used up", 12, Gates::free(), failing 9, |b, g| {
        let retry = Retry::builder().backoff(Backoff::none()).max_attempts(30);
        b.retry(retry.budget(g.budget.clone()))
    });
    call!(all, "retry: cut in a pause", 6, Gates::free(), failing 9,
        |b, g| b.timeout(9 * MILLI).retry(retry(g)));
    call!(all, "retry: attempts cut short", 6, Gates::free(), failing 9,
        |b, g| b.retry(retry(g)).timeout(MILLI));
}

fn of_breakers(all: &mut Vec<Trial>) {
    call!(all, "breaker: closed", 4, Gates::free(), failing 0, |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: closed, a failure", 4, Gates::free(), failing 1,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: open", 1, Gates::open(), failing 0, |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: forced open", 1, Gates::forced_open(), failing 0,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: forced open during a call", 4, Gates::free().opened_later(), failing 0,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: forced open during a probe", 4, Gates::half_open(0).await.opened_later(), failing 1,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: disabled", 4, Gates::set(CircuitBreaker::disable), failing 1,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: metrics only", 4, Gates::set(CircuitBreaker::metrics_only), failing 1,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: probe", 4, Gates::half_open(0).await, failing 0,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: second probe", 4, Gates::half_open(1).await, failing 0,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: all probes under way", 1, Gates::half_open(2).await, failing 0,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: a probe that fails", 4, Gates::half_open(0).await, failing 1,
        |b, g| b.circuit_breaker(g.breaker.clone()));
    call!(all, "breaker: a probe that is cut short", 2, Gates::half_open(0).await, failing 0,
        |b, g| b.timeout(MILLI).circuit_breaker(g.breaker.clone()));
}

fn of_fallbacks(all: &mut Vec<Trial>) {
    call!(all, "fallback: not needed", 4, Gates::free(), failing 0, |b, _| b.fallback(Fallback::value(7)));
    call!(all, "fallback: a value", &["policy::Call", "fallback::Given"], 4, Gates::free(), failing 1,
        |b, _| b.fallback(Fallback::value(7)),
        |world, operation| world.pipeline.call_with(move |attempt| operation(attempt.number())));
    call!(all, "fallback: another call", &["policy::Call", "fallback::Own"], 8, Gates::free(), failing 1,
        |b, _| b.fallback(Fallback::call(|_: Error<Oops>| async {
            tokio::time::sleep(MILLI).await;
            yield_now().await;
            Ok::<_, Oops>(7)
        })),
        |world, operation| world.pipeline.call_with(move |attempt| operation(attempt.number())));
    call!(all, "fallback: another call, cut short", 5, Gates::free(), failing 1,
    |b, _| b.timeout(3 * MILLI).fallback(Fallback::call(|_: Error<Oops>| async {
        tokio::time::sleep(9 * MILLI).await;
        Ok::<_, Oops>(7)
    })));
    call!(all, "fallback: hands the error back", 6, Gates::free(), failing 1,
    |b, _| b.fallback(Fallback::recover(|error: Error<Oops>| async {
        tokio::time::sleep(MILLI).await;
        Err::<u32, _>(error)
    })));
}

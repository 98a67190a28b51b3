//! The depth of a stack: one to ten policies.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use mainstay::prelude::*;

use super::series::{Figure, Law, Point, Series, Unit};
use super::sweep::Sweep;
use crate::meter::runtime;

const LONG: Duration = Duration::from_secs(30);

fn ok() -> std::future::Ready<Result<u64, Infallible>> {
    std::future::ready(Ok(black_box(1)))
}

/// So fast that it never refuses.
fn limiter() -> mainstay::rate_limit::RateLimiterBuilder {
    RateLimiter::builder()
        .rate(1_000_000_000, Duration::from_secs(1))
        .burst(1_000_000_000)
}

/// `$each(depth, pipeline)` with every stack from one policy to ten.
macro_rules! stacks {
    ($each:ident) => {
        stacks!(@ $each, 1, (), timeout retry breaker limiter bulkhead
            timeout retry breaker limiter bulkhead)
    };
    (@ $each:ident, $depth:expr, ($($policy:ident)*), $next:ident $($more:ident)*) => {
        $each!($depth, pipeline!($($policy)* $next));
        stacks!(@ $each, $depth + 1, ($($policy)* $next), $($more)*);
    };
    (@ $each:ident, $depth:expr, $policies:tt,) => {};
}

/// A pipeline of these policies, there for good.
macro_rules! pipeline {
    ($($policy:ident)*) => {{
        let builder = Pipeline::builder("depth");
        $(let builder = $policy!(builder);)*
        &*Box::leak(Box::new(builder.build().expect("in range")))
    }};
}

macro_rules! timeout {
    ($builder:expr) => {
        $builder.timeout(LONG)
    };
}
macro_rules! retry {
    ($builder:expr) => {
        $builder.retry(Retry::builder().seed(1))
    };
}
macro_rules! breaker {
    ($builder:expr) => {
        $builder.circuit_breaker(CircuitBreaker::builder())
    };
}
macro_rules! limiter {
    ($builder:expr) => {
        $builder.rate_limit(limiter())
    };
}
macro_rules! bulkhead {
    ($builder:expr) => {
        $builder.bulkhead(100)
    };
}

pub(crate) fn time(sweep: &Sweep) -> Figure {
    let mut whole = Series::new("the stack");
    macro_rules! each {
        ($depth:expr, $pipeline:expr) => {
            let pipeline = $pipeline;
            let body = async move || pipeline.call(ok).await.is_ok();
            whole.points.push(Point {
                size: $depth,
                cost: sweep.await_in(&runtime(), body).p10,
            });
        };
    }
    stacks!(each);
    let mut alone = Vec::new();
    macro_rules! alone {
        ($pipeline:expr) => {
            let pipeline = $pipeline;
            let body = async move || pipeline.call(ok).await.is_ok();
            alone.push(sweep.await_in(&runtime(), body).p10);
        };
    }
    alone!(pipeline!(timeout));
    alone!(pipeline!(retry));
    alone!(pipeline!(breaker));
    alone!(pipeline!(limiter));
    alone!(pipeline!(bulkhead));
    figure("Depth of a stack: time", Unit::Nanoseconds, whole, &alone)
}

pub(crate) fn size(_: &Sweep) -> Figure {
    let mut whole = Series::new("the stack");
    macro_rules! each {
        ($depth:expr, $pipeline:expr) => {
            whole.points.push(Point {
                size: $depth,
                cost: size_of_val(&$pipeline.call(ok)) as f64,
            });
        };
    }
    stacks!(each);
    let alone = [
        size_of_val(&pipeline!(timeout).call(ok)),
        size_of_val(&pipeline!(retry).call(ok)),
        size_of_val(&pipeline!(breaker).call(ok)),
        size_of_val(&pipeline!(limiter).call(ok)),
        size_of_val(&pipeline!(bulkhead).call(ok)),
    ];
    let alone = alone.map(|bytes| bytes as f64);
    figure(
        "Depth of a stack: the call's future",
        Unit::Bytes,
        whole,
        &alone,
    )
}

fn figure(title: &'static str, unit: Unit, whole: Series, alone: &[f64]) -> Figure {
    let mut sums = Series::new("its policies alone, added up");
    let mut sum = 0.0;
    for (point, cost) in whole.points.iter().zip(alone.iter().cycle()) {
        sum += cost;
        sums.points.push(Point {
            cost: sum,
            ..*point
        });
    }
    Figure {
        file: "",
        title,
        axis: "policies",
        about: "A call that succeeds at once, through timeout, retry, breaker, limiter and \
                bulkhead, and these five once more; cut off at each depth. The yardstick adds up \
                what a call costs through each policy alone.",
        unit,
        ours: vec![whole],
        yardsticks: vec![sums],
        law: Law::SumOfParts,
    }
}

//! Five policies around one call: a time limit, a retry, a breaker, a rate limit, a bulkhead.

use std::sync::Arc;

use backon::Retryable;
use futures::TryFutureExt;
use governor::RateLimiter as Governor;
use mainstay::policy::Pipeline;
use mainstay::prelude::*;
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_resilience as resilience;

use super::{circuit_breaker, rate_limit};
use crate::calls::{Answer, Failed, HOUR, LONG, Prompt, ThreeMore, ask, ok};
use crate::floor::breaker::Counted;
use crate::floor::limiter::Rate;
use crate::floor::slots::Slots;
use crate::floor::timeout::Limited;
use crate::goals::Goal;
use crate::row::{Row, each};

/// Ours, as a value of its own type.
macro_rules! pipeline {
    () => {
        Pipeline::builder("five")
            .timeout(LONG)
            .retry(Retry::builder().max_attempts(4))
            .circuit_breaker(CircuitBreaker::builder())
            .rate_limit(rate_limit::ours())
            .bulkhead(100)
            .build()
            .expect("a pipeline")
    };
}

const BY_HAND: &str = "tokio + backon + recloser + governor";

pub(super) fn five(row: &mut Row) {
    row.shared().goal(40.0).note(
        "The same five patterns in the same order. The mix by hand has no events and no \
         common error; its limiter is not fair.",
    );
    row.require(Goal::Allocations(0.0));
    row.require(Goal::Share {
        of: BY_HAND,
        share: 0.5,
    });
    row.require(Goal::Share {
        of: "tower-resilience",
        share: 0.05,
    });
    floor(row);
    by_hand(row);
    let service = by_tower_resilience();
    row.peer(
        "tower-resilience",
        "five layers",
        each!(service => ask(&mut service).await),
    )
    .anchor(956.0);
    let ours = pipeline!();
    row.ours("Pipeline::call", each!(ours => ours.call(ok).await));
    let erased = ours.erase();
    row.aside(
        "mainstay",
        "an erased pipeline",
        each!(erased => erased.call(ok).await),
    )
    .note("its type is written down, for one allocation");
}

pub(super) fn layer(row: &mut Row) {
    row.shared().goal(75.0).note(
        "tower's own rate limit cannot be shared, so it is measured on one thread; next to it \
         governor takes its place.",
    );
    row.require(Goal::Share {
        of: "tower-resilience",
        share: 0.1,
    });
    floor(row);
    let breaker = circuit_breaker::recloser();
    row.peer("tower + recloser", "four layers and a call", move || {
        let breaker = breaker.clone();
        let guarded = service_fn(move |request| {
            let call = breaker.call(async move { Answer::Ok(request) });
            call.map_err(|_| Failed)
        });
        let mut service = ServiceBuilder::new()
            .rate_limit(u64::MAX, HOUR)
            .timeout(LONG)
            .retry(ThreeMore(3))
            .concurrency_limit(100)
            .service(guarded);
        async move || ask(&mut service).await
    })
    .alone()
    .anchor(147.3);
    let service = by_tower_and_governor();
    row.peer(
        "tower + recloser + governor",
        "three layers and a call",
        each!(service => {
            ask(&mut service).await
        }),
    );
    let service = by_tower_resilience();
    row.peer(
        "tower-resilience",
        "five layers",
        each!(service => ask(&mut service).await),
    )
    .anchor(956.0);
    let service = pipeline!().layer().layer(Prompt);
    row.ours("Pipeline::layer", each!(service => ask(&mut service).await));
}

fn floor(row: &mut Row) {
    let breaker = Arc::new(Counted::default());
    let (rate, slots) = (Arc::new(Rate::default()), Arc::new(Slots::new(100)));
    row.floor("the five floors", move || {
        let (breaker, rate, slots) = (breaker.clone(), rate.clone(), slots.clone());
        let mut timer = None;
        async move || {
            let attempt = async || {
                if !rate.admit() {
                    return Err(Failed);
                }
                let Some(_inside) = slots.enter() else {
                    return Err(Failed);
                };
                ok().await
            };
            let tried = async {
                let mut failures = 0;
                loop {
                    match breaker.call(attempt()).await {
                        Err(_) if failures < 3 => failures += 1,
                        done => break done,
                    }
                }
            };
            Limited::new(LONG, tried, &mut timer).await
        }
    })
    .anchor(29.0);
}

fn by_hand(row: &mut Row) {
    let breaker = circuit_breaker::recloser();
    let limiter = Arc::new(Governor::direct(rate_limit::quota()));
    let slots = Arc::new(Semaphore::new(100));
    let backoff = backon::ExponentialBuilder::default().with_jitter();
    row.peer(
        BY_HAND,
        "by hand",
        each!(breaker, limiter, slots, backoff => {
            let attempt = || async {
                limiter.until_ready().await;
                let _permit = slots.acquire().await;
                breaker.call(ok()).await
            };
            tokio::time::timeout(LONG, Retryable::retry(attempt, backoff)).await
        }),
    )
    .anchor(108.1);
}

fn by_tower_resilience()
-> impl Service<u64, Response = u64, Error: Send, Future: Send> + Clone + Send {
    let service = resilience::bulkhead::BulkheadLayer::builder()
        .max_concurrent_calls(100)
        .build()
        .expect("a bulkhead")
        .layer(Prompt);
    let service = resilience::ratelimiter::RateLimiterLayer::builder()
        .limit_for_period(1 << 40)
        .refresh_period(HOUR)
        .build()
        .expect("a rate limit")
        .layer(service);
    let service = resilience::circuitbreaker::CircuitBreakerLayer::builder()
        .build()
        .expect("a breaker")
        .layer_fn(service);
    let service = resilience::retry::RetryLayer::<u64, u64, _>::builder()
        .max_attempts(4)
        .build()
        .layer(service);
    resilience::timelimiter::TimeLimiterLayer::builder()
        .timeout_duration(LONG)
        .build()
        .layer(service)
}

fn by_tower_and_governor()
-> impl Service<u64, Response = u64, Error: Send, Future: Send> + Clone + Send {
    let breaker = circuit_breaker::recloser();
    let limiter = Arc::new(Governor::direct(rate_limit::quota()));
    let guarded = service_fn(move |request| {
        let limiter = Arc::clone(&limiter);
        let call = breaker.call(async move {
            limiter.until_ready().await;
            Answer::Ok(request)
        });
        call.map_err(|_| Failed)
    });
    ServiceBuilder::new()
        .timeout(LONG)
        .retry(ThreeMore(3))
        .concurrency_limit(100)
        .service(guarded)
}

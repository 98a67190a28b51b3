//! What one call costs when nothing goes wrong, as a ratio to `tokio::time::timeout` in the
//! same run: `cargo bench -p mainstay-benches`.
//!
//! Each row runs on one thread of a current-thread runtime, with its loop inside of it, so
//! that neither a scheduler nor `block_on` is measured.

use std::fs;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use criterion::Criterion;
use mainstay::circuit_breaker::{CircuitState, Window};
use mainstay::policy::End;
use mainstay::prelude::*;
use mainstay::tower::IntoLayer;
use tower::{Layer, Service, ServiceExt, service_fn};

const LONG: Duration = Duration::from_secs(30);
const BASE: &str = "tokio timeout, ready";

#[derive(Clone, Copy, Debug)]
struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

async fn ok() -> Result<u64, Failed> {
    Ok(black_box(1))
}

/// Pending once, without a wake-up, then ready.
async fn pending_once() -> Result<u64, Failed> {
    let mut polled = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut polled, true) {
            Poll::Ready(Ok(black_box(1)))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Polls again at once what was pending: both polls without a scheduler.
async fn twice<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending => future.as_mut().poll(cx),
        ready => ready,
    })
    .await
}

struct Rows {
    criterion: Criterion,
    names: Vec<&'static str>,
}

/// Adds a row: an expression that is evaluated in an async loop.
macro_rules! row {
    ($rows:ident, $name:expr, $call:expr) => {
        $rows.names.push($name);
        $rows.criterion.bench_function($name, |bencher| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime");
            bencher.iter_custom(|n| {
                runtime.block_on(tokio::task::unconstrained(async {
                    let start = Instant::now();
                    for _ in 0..n {
                        let _ = black_box($call);
                    }
                    start.elapsed()
                }))
            });
        });
    };
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rows = Rows {
        criterion: Criterion::default()
            .configure_from_args()
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_millis(1500)),
        names: Vec::new(),
    };
    singles(&mut rows)?;
    stacks(&mut rows)?;
    pools(&mut rows)?;
    peers(&mut rows)?;
    summary(&rows.names);
    Ok(())
}

/// So fast that it never refuses.
fn limiter() -> Result<RateLimiter, mainstay::ConfigError> {
    RateLimiter::builder()
        .rate(1_000_000_000, Duration::from_secs(1))
        .burst(1_000_000_000)
        .build()
}

fn singles(rows: &mut Rows) -> Result<(), Box<dyn std::error::Error>> {
    row!(rows, "bare future", ok().await);
    row!(rows, BASE, tokio::time::timeout(LONG, ok()).await);
    row!(rows, "timeout, ready", ok().timeout(LONG).await);
    row!(
        rows,
        "tokio timeout, pending once",
        twice(tokio::time::timeout(LONG, pending_once())).await
    );
    row!(
        rows,
        "timeout, pending once",
        twice(pending_once().timeout(LONG)).await
    );

    let retry = Retry::builder()
        .backoff(Backoff::none())
        .max_attempts(4)
        .build()?;
    row!(rows, "retry, first attempt ok", ok.retry(&retry).await);
    let unlimited = Retry::builder()
        .backoff(Backoff::none())
        .max_attempts(4)
        .no_budget()
        .build()?;
    row!(rows, "retry, 3 failures, zero delay", {
        let mut n = 0;
        let flaky = || {
            n += 1;
            std::future::ready(if n < 4 { Err(Failed) } else { Ok(n) })
        };
        flaky.retry(&unlimited).await
    });

    let limiter = limiter()?;
    row!(rows, "rate limit, admit", ok().rate_limit(&limiter).await);
    let counting = CircuitBreaker::builder().build()?;
    row!(
        rows,
        "breaker closed, count window",
        ok().circuit_breaker(&counting).await
    );
    let timing = CircuitBreaker::builder()
        .window(Window::time(LONG))
        .build()?;
    row!(
        rows,
        "breaker closed, time window",
        ok().circuit_breaker(&timing).await
    );
    let open = CircuitBreaker::builder()
        .open_for(Duration::from_secs(3600))
        .build()?;
    while open.state() == CircuitState::Closed {
        let permit = open.try_acquire()?;
        permit.settle(End::Failure);
    }
    row!(
        rows,
        "breaker open, refusal",
        ok().circuit_breaker(&open).await
    );
    let bulkhead = Bulkhead::builder().max_concurrent(100).build()?;
    row!(
        rows,
        "bulkhead, admit and release",
        ok().bulkhead(&bulkhead).await
    );
    row!(rows, "bulkhead, try_acquire and drop", {
        let _permit = bulkhead.try_acquire(1);
        black_box(1)
    });
    let semaphore = tokio::sync::Semaphore::new(100);
    row!(rows, "tokio semaphore, acquire and release", {
        let _permit = semaphore.acquire().await;
        ok().await
    });
    row!(
        rows,
        "fallback not used",
        ok().fallback(Fallback::value(7)).await
    );
    Ok(())
}

fn stacks(rows: &mut Rows) -> Result<(), Box<dyn std::error::Error>> {
    let pipeline = Pipeline::builder("five")
        .timeout(LONG)
        .retry(Retry::builder().max_attempts(4))
        .circuit_breaker(CircuitBreaker::builder())
        .rate_limit(limiter()?)
        .bulkhead(100)
        .build()?;
    row!(rows, "stack of five", pipeline.call(ok).await);
    let erased = pipeline.erase();
    row!(rows, "stack of five, erased", erased.call(ok).await);
    let mut service = pipeline.layer().layer(service_fn(|(): ()| ok()));
    row!(
        rows,
        "stack of five, tower layer",
        service.ready().await.expect("ready").call(()).await
    );
    let mut service = Timeout::new(LONG)
        .into_layer()?
        .layer(service_fn(|(): ()| ok()));
    row!(
        rows,
        "timeout alone, tower layer",
        service.ready().await.expect("ready").call(()).await
    );
    Ok(())
}

/// An idle object is lent out and comes back.
fn pools(rows: &mut Rows) -> Result<(), Box<dyn std::error::Error>> {
    use mainstay::pool::{Check, Manage, Pool, Pooled};

    struct Numbers;

    impl Manage for Numbers {
        type Object = u64;
        type Error = Failed;

        async fn create(&self) -> Result<u64, Failed> {
            ok().await
        }
    }

    let fill = |pool: &Pool<Numbers>| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let _both = tokio::join!(pool.get(), pool.get());
        });
    };
    let builder = || Pool::builder(Numbers).max_size(8);
    let unchecked = builder().check(Check::Never).build()?;
    fill(&unchecked);
    row!(rows, "pool, get and return", {
        let object = unchecked.get().await.expect("an idle one");
        black_box(*object)
    });
    row!(rows, "pool, get owned and return", {
        let object = Pooled::into_owned(unchecked.get().await.expect("an idle one"));
        black_box(*object)
    });
    row!(rows, "pool, try_get and return", {
        let object = unchecked.try_get().expect("an idle one");
        black_box(*object)
    });
    let timed = builder().build()?;
    fill(&timed);
    row!(rows, "pool, defaults (two clock readings)", {
        let object = timed.get().await.expect("an idle one");
        black_box(*object)
    });

    let objects = std::sync::Mutex::new(vec![1_u64, 2]);
    let permits = tokio::sync::Semaphore::new(2);
    row!(rows, "pool by hand (tokio semaphore, mutexed vec)", {
        let _permit = permits.acquire().await;
        let object = objects.lock().expect("no panic").pop();
        objects.lock().expect("no panic").extend(black_box(object));
    });
    Ok(())
}

/// The same five patterns by other means.
fn peers(rows: &mut Rows) -> Result<(), Box<dyn std::error::Error>> {
    let breaker = recloser::Recloser::custom().closed_len(100).build();
    let breaker = recloser::AsyncRecloser::from(breaker);
    let rate = std::num::NonZeroU32::MAX;
    let limiter = governor::RateLimiter::direct(governor::Quota::per_second(rate));
    let slots = tokio::sync::Semaphore::new(100);
    let mixed = || async {
        let attempt = || async {
            limiter.until_ready().await;
            let _slot = slots.acquire().await;
            recloser::AsyncRecloser::call(&breaker, ok()).await
        };
        let backoff = backon::ExponentialBuilder::default().with_jitter();
        tokio::time::timeout(LONG, backon::Retryable::retry(attempt, backoff)).await
    };
    row!(
        rows,
        "five by hand (tokio, backon, recloser, governor)",
        mixed().await
    );

    let inner = service_fn(|(): ()| ok());
    let inner = tower_resilience::bulkhead::BulkheadLayer::builder()
        .max_concurrent_calls(100)
        .build()?
        .layer(inner);
    let inner = tower_resilience::ratelimiter::RateLimiterLayer::builder()
        .limit_for_period(1 << 40)
        .refresh_period(Duration::from_secs(3600))
        .build()?
        .layer(inner);
    let inner = tower_resilience::circuitbreaker::CircuitBreakerLayer::builder()
        .build()?
        .layer_fn(inner);
    let inner = tower_resilience::retry::RetryLayer::<(), u64, _>::builder()
        .max_attempts(4)
        .build()
        .layer(inner);
    let mut service = tower_resilience::timelimiter::TimeLimiterLayer::builder()
        .timeout_duration(LONG)
        .build()
        .layer(inner);
    row!(
        rows,
        "five by tower-resilience",
        service.ready().await.expect("ready").call(()).await
    );
    Ok(())
}

/// Prints every row's median next to the base's.
fn summary(names: &[&str]) {
    let medians: Vec<_> = names.iter().map(|name| median(name)).collect();
    let base = names
        .iter()
        .position(|name| *name == BASE)
        .and_then(|i| medians[i]);
    println!(
        "\n{:<50} {:>10} {:>24}",
        "one call", "ns", "ratio to tokio timeout"
    );
    for (name, median) in names.iter().zip(&medians) {
        if let (Some(ns), Some(base)) = (median, base) {
            println!("{name:<50} {ns:>10.1} {:>24.3}", ns / base);
        }
    }
}

fn median(name: &str) -> Option<f64> {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "../target".into());
    let file = format!("{target}/criterion/{name}/new/estimates.json");
    let estimates: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

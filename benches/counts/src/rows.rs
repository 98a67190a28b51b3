//! The rows: what is called, and so many times.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay::ConfigError;
use mainstay::circuit_breaker::{CircuitState, Window};
use mainstay::policy::End;
use mainstay::pool::{Check, Manage};
use mainstay::prelude::*;
use mainstay::scope::Tracker;
use mainstay::time;
use mainstay::tower::IntoLayer;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::AnyError;
use crate::callgrind::announce;
use crate::laps::{CALL, Iterations, lap, run_of};
use crate::setting::processor;

/// So long that nothing ends by it, and that no window turns while we count.
const LONG: Duration = Duration::from_secs(3600);

const ITEMS: u64 = 1000;
const LIMIT: usize = 64;

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

/// Pending so many times, woken at once each time, then ready.
struct Yields(u32);

impl Future for Yields {
    type Output = Result<u64, Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0 == 0 {
            return Poll::Ready(Ok(black_box(1)));
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
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

/// Runs a row: an expression that is evaluated in an async loop, on one thread.
macro_rules! row {
    ($name:expr, $call:expr) => {
        row!($name, CALL, $call)
    };
    ($name:expr, $iterations:expr, $call:expr) => {{
        let iterations: Iterations = $iterations;
        announce($name, iterations);
        block_on(async {
            for n in [iterations.warm, iterations.few, iterations.many] {
                lap();
                for _ in 0..n {
                    let _ = black_box($call);
                }
            }
            lap();
        });
    }};
}

/// Outside of tokio's budget, which would make every 128th poll another one.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(tokio::task::unconstrained(future))
}

/// Runs every row, in callgrind.
pub(crate) fn run() -> Result<(), AnyError> {
    println!("{}", processor());
    timeouts();
    retries()?;
    limiters()?;
    breakers()?;
    bulkheads()?;
    stacks()?;
    gathers();
    pools()?;
    many()?;
    Ok(())
}

fn timeouts() {
    row!("bare future", ok().await);
    row!("clock reading", time::now());
    row!("timeout, ready", ok().timeout(LONG).await);
    row!(
        "timeout, pending once",
        twice(Yields(1).timeout(LONG)).await
    );
    row!(
        "fallback, not used",
        ok().fallback(Fallback::value(7)).await
    );
}

fn retries() -> Result<(), ConfigError> {
    let patient = || {
        Retry::builder()
            .backoff(Backoff::none())
            .max_attempts(4)
            .seed(1)
    };
    let retry = patient().build()?;
    row!("retry, first attempt ok", ok.retry(&retry).await);
    let unlimited = patient().no_budget().build()?;
    row!("retry, 3 failures", {
        let mut n = 0;
        let flaky = || {
            n += 1;
            std::future::ready(if n < 4 { Err(Failed) } else { Ok(n) })
        };
        flaky.retry(&unlimited).await
    });
    Ok(())
}

/// So fast that it never refuses.
fn limiter() -> mainstay::rate_limit::RateLimiterBuilder {
    RateLimiter::builder()
        .rate(1_000_000_000, Duration::from_secs(1))
        .burst(1_000_000_000)
}

fn limiters() -> Result<(), ConfigError> {
    let limiter_of_all = limiter().build()?;
    row!("limiter, admit", ok().rate_limit(&limiter_of_all).await);
    row!("limiter, try_acquire", limiter_of_all.try_acquire(1));
    let keyed: KeyedRateLimiter<u64> = limiter().keyed().build()?;
    row!("limiter, keyed, try_acquire", keyed.try_acquire(&7, 1));
    Ok(())
}

fn breakers() -> Result<(), AnyError> {
    let counting = CircuitBreaker::builder().build()?;
    row!(
        "breaker, closed, count window",
        ok().circuit_breaker(&counting).await
    );
    let timing = CircuitBreaker::builder()
        .window(Window::time(LONG))
        .build()?;
    row!(
        "breaker, closed, time window",
        ok().circuit_breaker(&timing).await
    );
    let open = CircuitBreaker::builder().open_for(LONG).build()?;
    while open.state() == CircuitState::Closed {
        open.try_acquire()?.settle(End::Failure);
    }
    row!("breaker, open, refusal", ok().circuit_breaker(&open).await);
    Ok(())
}

fn bulkheads() -> Result<(), ConfigError> {
    let bulkhead = Bulkhead::builder().max_concurrent(100).build()?;
    row!(
        "bulkhead, admit and release",
        ok().bulkhead(&bulkhead).await
    );
    row!("bulkhead, try_acquire and drop", bulkhead.try_acquire(1));
    Ok(())
}

fn stacks() -> Result<(), AnyError> {
    let pipeline = Pipeline::builder("five")
        .timeout(LONG)
        .retry(Retry::builder().max_attempts(4).seed(1))
        .circuit_breaker(CircuitBreaker::builder())
        .rate_limit(limiter().build()?)
        .bulkhead(100)
        .build()?;
    row!("stack of five", pipeline.call(ok).await);
    row!(
        "stack of five, pending once",
        twice(pipeline.call(|| Yields(1))).await
    );
    let erased = pipeline.erase();
    row!("stack of five, erased", erased.call(ok).await);
    let mut service = pipeline.layer().layer(service_fn(|(): ()| ok()));
    row!("stack of five, tower layer", {
        let ready = service.ready().await.expect("ready");
        ready.call(()).await
    });
    let mut service = Timeout::new(LONG)
        .into_layer()?
        .layer(service_fn(|(): ()| ok()));
    row!("timeout, tower layer", {
        let ready = service.ready().await.expect("ready");
        ready.call(()).await
    });
    Ok(())
}

fn gathers() {
    let items = |yields| (0..ITEMS).map(move |_| Yields(yields));
    for (name, yields) in [("gather, ready", 0), ("gather, yielding once", 1)] {
        row!(name, run_of(ITEMS), {
            let mut all = gather(items(yields)).limit(LIMIT).as_finished();
            while let Some(outcome) = all.next().await {
                let _ = black_box(outcome);
            }
        });
    }
    row!(
        "gather, ready, all outcomes",
        run_of(ITEMS),
        gather(items(0)).limit(LIMIT).await
    );
}

struct Numbers;

impl Manage for Numbers {
    type Object = u64;
    type Error = Failed;

    async fn create(&self) -> Result<u64, Failed> {
        ok().await
    }
}

/// Of eight places, with two idle objects in it.
fn pool(check: Check) -> Result<Pool<Numbers>, ConfigError> {
    let pool = Pool::builder(Numbers).max_size(8).check(check).build()?;
    block_on(async {
        let _both = (pool.get().await, pool.get().await);
    });
    Ok(pool)
}

fn pools() -> Result<(), ConfigError> {
    let unchecked = pool(Check::Never)?;
    row!("pool, get and return", unchecked.get().await);
    row!("pool, try_get and return", unchecked.try_get());
    // It reads the clock, and finds that nothing was idle for long.
    let timed = pool(Check::AfterIdle(LONG))?;
    row!("pool, get and return, defaults", timed.get().await);
    Ok(())
}

fn many() -> Result<(), AnyError> {
    let tracker = Tracker::new();
    row!(
        "tracker, track",
        match tracker.track(ok()) {
            Ok(tracked) => tracked.await,
            Err(_) => Err(Failed),
        }
    );
    let shared = Arc::new(Tracker::new());
    row!("tracker, enter_owned and drop", shared.enter_owned());
    let scope = Scope::new();
    row!(
        "scope, spawn and join one",
        match scope.spawn("one", ok()) {
            Ok(task) => task.await.is_ok(),
            Err(_) => false,
        }
    );
    let queue: Queue<u64, u64, Failed> = Queue::builder()
        .workers(1)
        .capacity(64)
        .build(|_item| ok())?;
    row!(
        "queue, push and run",
        match queue.push(1).await {
            Ok(ticket) => ticket.await.is_ok(),
            Err(_) => false,
        }
    );
    let lazy: Lazy<u64, Infallible> = Lazy::new(|| async { Ok(1) });
    row!("lazy, get when set", lazy.get().await);
    Ok(())
}

//! Huge settings: an error at the build, or memory that is only taken as it is needed.

use std::time::Duration;

use mainstay::circuit_breaker::Window;
use mainstay::gather::gather;
use mainstay::offload::Offload;
use mainstay::prelude::*;
use mainstay::queue::Queue;
use mainstay::retry::RetryBudget;
use mainstay::{CircuitBreaker, Pipeline};

use crate::proof;
use crate::support::Oops;

const ENDLESS: Duration = Duration::MAX;

/// An iterator that says that it has more than memory can hold.
struct Promises(u32);
impl Iterator for Promises {
    type Item = std::future::Ready<Result<u32, Oops>>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0 = self.0.checked_sub(1)?;
        Some(std::future::ready(Ok(self.0)))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, Some(usize::MAX))
    }
}

#[tokio::test(start_paused = true)]
#[expect(clippy::too_many_lines, reason = "a list")]
async fn the_largest_settings_are_refused_or_cost_nothing() {
    let mut tried = 0;
    let mut tell = |name: &'static str| {
        tried += 1;
        println!("{name}");
    };
    tell("bulkhead: slots and line");
    let bulkhead = Bulkhead::builder()
        .max_concurrent(u32::MAX)
        .max_queue(usize::MAX)
        .max_wait(ENDLESS);
    if let Ok(bulkhead) = bulkhead.build() {
        let call = async { Ok::<_, Oops>(1) }.bulkhead(&bulkhead).await;
        assert_eq!(call, Ok(1));
        drop(bulkhead.try_acquire(u32::MAX).unwrap());
        bulkhead.resize(0);
        bulkhead.resize(u32::MAX);
    }
    tell("bulkhead: one slot, endless line");
    let narrow = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(usize::MAX)
        .build()
        .unwrap();
    let held = narrow.try_acquire(1).unwrap();
    let mut waits: Vec<_> = (0..100)
        .map(|_| tokio_test::task::spawn(narrow.acquire(1)))
        .collect();
    assert!(waits.iter_mut().all(|wait| wait.poll().is_pending()));
    drop((held, waits));
    assert_eq!(narrow.snapshot().in_use, 0);
    tell("limiter: rate, burst and wait");
    for (rate, per) in [
        (u32::MAX, Duration::from_nanos(1)),
        (1, ENDLESS),
        (u32::MAX, ENDLESS),
    ] {
        let limiter = RateLimiter::builder()
            .rate(rate, per)
            .burst(u32::MAX)
            .max_wait(ENDLESS);
        if let Ok(limiter) = limiter.build() {
            limiter.try_acquire(u32::MAX).unwrap();
            let _ = limiter.try_acquire(u32::MAX);
            let _ = limiter.snapshot();
        }
    }
    tell("keyed limiter: keys");
    let keyed = RateLimiter::per_second(1)
        .keyed()
        .max_keys(usize::MAX)
        .build::<u64>();
    if let Ok(keyed) = &keyed {
        for key in 0..1000 {
            keyed.try_acquire(&key, 1).unwrap();
        }
    }
    tell("breaker: window of calls");
    for calls in [u32::MAX, 1 << 24] {
        let breaker = CircuitBreaker::builder()
            .window(Window::calls(calls))
            .minimum_calls(1);
        if let Ok(breaker) = breaker.build() {
            assert_eq!(
                async { Ok::<_, Oops>(1) }.circuit_breaker(&breaker).await,
                Ok(1)
            );
        }
    }
    tell("breaker: window of time, probes, limits");
    let breaker = CircuitBreaker::builder()
        .window(Window::time(ENDLESS))
        .minimum_calls(u32::MAX)
        .consecutive_failures(u32::MAX)
        .half_open_probes(u32::MAX)
        .half_open_limit(ENDLESS)
        .open_for(ENDLESS);
    if let Ok(breaker) = breaker.build() {
        assert_eq!(
            async { Ok::<_, Oops>(1) }.circuit_breaker(&breaker).await,
            Ok(1)
        );
    }
    tell("retry: attempts, times, delays");
    let retry = Retry::builder()
        .max_attempts(u32::MAX)
        .max_elapsed(ENDLESS)
        .max_retry_after(ENDLESS)
        .backoff(Backoff::exponential(ENDLESS).max_delay(ENDLESS));
    let pipeline = Pipeline::builder("largest")
        .timeout(ENDLESS)
        .retry(retry)
        .build()
        .unwrap();
    assert_eq!(pipeline.call(|| async { Ok::<_, Oops>(1) }).await, Ok(1));
    tell("retry: budget");
    assert!(RetryBudget::new(f64::INFINITY, u32::MAX).is_err());
    assert!(RetryBudget::new(f64::NAN, u32::MAX).is_err());
    assert!(RetryBudget::new(1000.0, u32::MAX).unwrap().withdraw());
    tell("pool: objects");
    let pool = Pool::builder(|| async { Ok::<_, Oops>(1) })
        .max_size(usize::MAX)
        .max_creating(usize::MAX)
        .max_wait(ENDLESS)
        .create_limit(ENDLESS)
        .close_limit(ENDLESS)
        .life_time(ENDLESS)
        .idle_time(ENDLESS);
    if let Ok(pool) = pool.build() {
        assert_eq!(*pool.get().await.unwrap(), 1);
        pool.resize(0);
        pool.resize(usize::MAX);
        assert_eq!(*pool.get().await.unwrap(), 1);
    }
    tell("pool: least idle");
    let eager = Pool::builder(|| async { Ok::<_, Oops>(1) })
        .max_size(usize::MAX)
        .min_idle(usize::MAX);
    assert!(eager.build().is_err(), "it would create without an end");
    tell("queue: workers, line, outcomes");
    let queue = Queue::builder()
        .workers(usize::MAX)
        .capacity(usize::MAX)
        .outcomes(usize::MAX)
        .ageing(ENDLESS);
    if let Ok(queue) = queue.build(|n: u32| async move { Ok::<_, Oops>(n) }) {
        let tickets: Vec<_> = (0..1000).map(|n| queue.try_push(n).unwrap()).collect();
        for ticket in tickets {
            assert!(ticket.await.is_ok());
        }
        assert_eq!(queue.shutdown(ENDLESS).await.counts.done, 1000);
    }
    tell("gather: limit, batches, buffer, times");
    let two = || (0..2).map(|n| async move { Ok::<u32, Oops>(n) });
    assert_eq!(
        gather(two())
            .limit(usize::MAX)
            .timeout(ENDLESS)
            .deadline(ENDLESS)
            .await
            .len(),
        2
    );
    assert_eq!(gather(two()).limit(usize::MAX).spawned().await.len(), 2);
    assert_eq!(
        gather(two())
            .batches(usize::MAX)
            .next()
            .await
            .unwrap()
            .len(),
        2
    );
    let mut all = gather(two()).in_background(usize::MAX);
    assert!(all.next().await.is_some() && all.next().await.is_some());
    tell("gather: a source that promises too much");
    assert_eq!(gather(Promises(3)).limit(usize::MAX).await.len(), 3);
    tell("scope: places, grace");
    let scope = Scope::builder()
        .limit(usize::MAX)
        .grace(ENDLESS)
        .build()
        .unwrap();
    let task = scope.spawn("one", async { Ok::<_, Oops>(1) }).unwrap();
    assert_eq!(task.await, Ok(1));
    scope.join_within(ENDLESS).await;
    tell("offload: threads, line");
    let offload = Offload::builder()
        .threads(u32::MAX)
        .queue(usize::MAX)
        .max_wait(ENDLESS);
    if let Ok(offload) = offload.build() {
        assert_eq!(offload.run(|| Ok::<_, Oops>(1)).await, Ok(1));
        offload.resize(0);
        offload.resize(u32::MAX);
        assert_eq!(offload.run(|| Ok::<_, Oops>(1)).await, Ok(1));
    }
    tell("shutdown: deadline");
    let shutdown = Shutdown::builder()
        .deadline(ENDLESS)
        .component("scope", Scope::new());
    if let Ok(shutdown) = shutdown.build() {
        shutdown.request();
        assert!(shutdown.run().await.is_orderly());
    }
    proof::count("faults.sizes", tried);
}

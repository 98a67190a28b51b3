//! Who is `Send`, `Sync`, `Unpin` and `Clone`, and that calls may borrow: most of it is
//! proved by compiling.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Ready;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mainstay::bulkhead::{BulkheadBuilder, BulkheadSnapshot};
use mainstay::circuit_breaker::{self, CircuitBreaker};
use mainstay::config::Value;
use mainstay::fallback::{Always, Value as FallbackValue};
use mainstay::observe::{Event, EventKind, GaveUp};
use mainstay::operation::{Closure, Once, Plain};
use mainstay::policy::{
    Acquire, CallContext, Gate, Identity, IntoPolicy, Permit, PipelineBuilder, Policy, Stack,
};
use mainstay::prelude::*;
use mainstay::rate_limit;
use mainstay::retry::{BackoffDelays, Jitter, RetryBudget, RetryBuilder, Verdict};
use mainstay::time::{Instant, Timer};
use mainstay::{Attempt, BoxError, BoxedError, Call, ConfigError, Error, Progress, Refusal};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use tokio::task::LocalSet;

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

/// An operation that is sent nowhere.
type Leaf<T, E> = Closure<Plain<fn() -> Ready<Result<T, E>>>, Ready<Result<T, E>>>;

type Protected = Stack<Stack<Stack<Identity, Timeout>, Retry>, CircuitBreaker>;

/// The pipeline of most users.
type Usual = Stack<Stack<Stack<Protected, RateLimiter>, Bulkhead>, Timeout>;

// Policies and what they are made of: shared between threads.
assert_impl_all!(Bulkhead: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(RateLimiter: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(CircuitBreaker: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(CircuitBreaker<circuit_breaker::Failures>: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(Retry: Send, Sync, Unpin, Debug);
assert_impl_all!(RetryBudget: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(Timeout: Send, Sync, Unpin, Copy, Eq, Debug);
assert_impl_all!(Fallback<FallbackValue<u32>, Always>: Send, Sync, Unpin, Copy, Debug);
assert_impl_all!(Backoff: Send, Sync, Unpin, Copy, PartialEq, Debug);
assert_impl_all!(BackoffDelays: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(Jitter: Send, Sync, Copy, Eq, Debug, Default);
assert_impl_all!(Verdict: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(BulkheadSnapshot: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(BulkheadBuilder: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(RetryBuilder: Send, Sync, Unpin, Debug);

assert_impl_all!(circuit_breaker::CircuitBreakerBuilder: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(circuit_breaker::CircuitSnapshot: Send, Sync, Copy, PartialEq, Debug);
assert_impl_all!(circuit_breaker::CircuitState: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(circuit_breaker::StateChange: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(circuit_breaker::Cause: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(circuit_breaker::CountAs: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(circuit_breaker::Cancelled: Send, Sync, Copy, Eq, Debug, Default);
assert_impl_all!(circuit_breaker::Window: Send, Sync, Copy, PartialEq, Debug);
assert_impl_all!(CircuitBreaker<circuit_breaker::By<fn()>>: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(rate_limit::RateLimiterBuilder: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(rate_limit::RateLimiterSnapshot: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(rate_limit::KeyedRateLimiter<String>: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(rate_limit::KeyedRateLimiterBuilder: Send, Sync, Unpin, Clone, Debug);
// A breaker shares its state whatever its classifier is, which alone binds it to a thread.
assert_not_impl_any!(CircuitBreaker<Rc<()>>: Send, Sync);
assert_not_impl_any!(rate_limit::KeyedRateLimiter<Rc<()>>: Send, Sync);

// A retry's settings are counted per policy: a copy would look like the same and be another.
assert_not_impl_any!(Retry: Clone);

// Pipelines: shared, cheap to clone, whatever is in them.
assert_impl_all!(Pipeline<Usual>: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(PipelineBuilder<Usual>: Send, Sync, Unpin, Debug);
assert_impl_all!(DynPipeline<String, io::Error>: Send, Sync, Unpin, Clone, Debug);
// The erased pipeline holds no result: what it yields does not bind it to a thread.
assert_impl_all!(DynPipeline<Rc<()>, Rc<()>>: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(Pipeline<Rc<()>>: Unpin, Clone, Debug);
assert_not_impl_any!(Pipeline<Rc<()>>: Send, Sync);

// Errors.
assert_impl_all!(Error<Oops>: Send, Sync, Unpin, Clone, Eq, Debug, std::error::Error);
assert_impl_all!(Error<io::Error>: Send, Sync, Unpin, Debug, std::error::Error, Into<BoxError>);
assert_not_impl_any!(Error<Rc<()>>: Send, Sync);
// A boxed error is no `std::error::Error`; `into_boxed` is for it.
assert_not_impl_any!(Error<BoxError>: std::error::Error);
assert_impl_all!(BoxedError: Send, Sync, Unpin, Debug, std::error::Error);
assert_impl_all!(Refusal: Send, Sync, Copy, Eq, Debug, std::error::Error);
assert_impl_all!(Progress<Oops>: Send, Sync, Clone, Eq, Debug);
assert_impl_all!(ConfigError: Send, Sync, Copy, PartialEq, Debug, std::error::Error, Into<BoxError>);
assert_impl_all!(Value: Send, Sync, Copy, PartialEq, Debug);

// What goes down with a call, and what is told about it.
assert_impl_all!(Attempt: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(CallContext<'static>: Send, Sync, Unpin, Copy, Debug);
assert_impl_all!(Event<'static>: Send, Sync, Copy, Debug);
assert_impl_all!(EventKind: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(GaveUp: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(Instant: Send, Sync, Copy, Ord, std::hash::Hash, Debug);
assert_impl_all!(Timer: Send, Sync, Unpin, Debug, Default);

// Guards and waits move with their task, and cannot be duplicated.
assert_impl_all!(Permit<&'static Bulkhead>: Send, Sync, Unpin, Debug);
assert_impl_all!(Permit<Bulkhead>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(Permit<Bulkhead>: Clone);
assert_not_impl_any!(<Bulkhead as Gate>::Ticket: Clone, Copy, Default, From<u32>);
assert_not_impl_any!(<RateLimiter as Gate>::Ticket: Clone, Copy, Default, From<()>);
assert_not_impl_any!(<CircuitBreaker as Gate>::Ticket: Clone, Copy, Default);
assert_impl_all!(Acquire<Bulkhead>: Send, Sync, Unpin, Debug, Future<Output = Result<Permit<Bulkhead>, Refusal>>);
assert_not_impl_any!(Acquire<Bulkhead>: Clone);

assert_impl_all!(Permit<&'static CircuitBreaker>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(Permit<CircuitBreaker>: Clone);
assert_impl_all!(rate_limit::Acquire: Send, Sync, Unpin, Debug, Future<Output = Result<(), Refusal>>);
assert_not_impl_any!(rate_limit::Acquire: Clone);
assert_impl_all!(rate_limit::KeyedAcquire<'static, String>: Send, Sync, Unpin, Debug, Future<Output = Result<(), Refusal>>);

// A call is as `Send` and as `Unpin` as what it calls, and no more.
type CallOf<O> = Call<'static, O>;
type Limited<O> = <Timeout as Policy<'static, O>>::Operation;
type Repeated<O> = <Retry as Policy<'static, O>>::Operation;
type Slotted<O> = <Bulkhead as Policy<'static, O>>::Operation;
type Broken<O> = <CircuitBreaker as Policy<'static, O>>::Operation;
type Paced<O> = <RateLimiter as Policy<'static, O>>::Operation;
type Whole<O> = <Usual as Policy<'static, O>>::Operation;

assert_impl_all!(CallOf<Limited<Leaf<u32, Oops>>>: Send, Sync, Unpin, Debug, Future<Output = Result<u32, Error<Oops>>>);
assert_impl_all!(CallOf<Repeated<Leaf<u32, Oops>>>: Send, Sync, Unpin, Debug);
assert_impl_all!(CallOf<Slotted<Leaf<u32, Oops>>>: Send, Sync, Unpin, Debug);
assert_impl_all!(CallOf<Broken<Leaf<u32, Oops>>>: Send, Sync, Unpin, Debug);
assert_impl_all!(CallOf<Paced<Leaf<u32, Oops>>>: Send, Sync, Unpin, Debug);
assert_impl_all!(CallOf<Whole<Leaf<u32, Oops>>>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(CallOf<Limited<Leaf<Rc<()>, Oops>>>: Send, Sync);
assert_not_impl_any!(CallOf<Repeated<Leaf<u32, Rc<()>>>>: Send, Sync);
assert_not_impl_any!(CallOf<Whole<Leaf<Rc<()>, Oops>>>: Send, Sync);
type Immovable = Once<std::pin::Pin<Box<dyn Future<Output = Result<(), Oops>> + Send>>>;
assert_impl_all!(CallOf<Limited<Immovable>>: Send, Unpin);
assert_not_impl_any!(CallOf<Limited<Immovable>>: Sync);
assert_not_impl_any!(CallOf<Limited<Once<PinnedResult>>>: Unpin);

/// A future that must not be moved.
struct PinnedResult(std::marker::PhantomPinned);

impl Future for PinnedResult {
    type Output = Result<(), Oops>;

    fn poll(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tower")]
mod tower_types {
    use super::*;
    use mainstay::tower::{
        BoxedFuture, BoxedLayer, BoxedService, Cloned, CopiedBy, PipelineLayer, PipelineService,
        ServiceFuture, UsedUp,
    };

    type Inner = tower::util::BoxCloneService<u32, u32, Oops>;

    assert_impl_all!(PipelineLayer<Usual>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(PipelineLayer<Usual, UsedUp>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(PipelineLayer<Usual, CopiedBy<fn(&u32) -> Option<u32>>>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(BoxedLayer<Usual>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(Cloned: Send, Sync, Copy, Debug, Default);
    assert_impl_all!(UsedUp: Send, Sync, Copy, Debug, Default);
    assert_impl_all!(PipelineService<Usual, Inner>: Send, Unpin, Clone, Debug, tower::Service<u32>);
    assert_impl_all!(BoxedService<PipelineService<Usual, Inner>>: Send, Unpin, Clone, Debug, tower::Service<u32>);
    assert_impl_all!(ServiceFuture<u32, Error<Oops>>: Send, Unpin);
    assert_impl_all!(BoxedFuture<ServiceFuture<u32, Error<Oops>>>: Send, Unpin);
    // As `Sync` as the service inside.
    assert_not_impl_any!(PipelineService<Usual, Inner>: Sync);
    assert_impl_all!(PipelineService<Usual, fn()>: Sync);
}

fn usual() -> Pipeline<Usual> {
    Pipeline::builder("usual")
        .timeout(SECOND)
        .retry(Retry::builder().backoff(Backoff::none()))
        .circuit_breaker(CircuitBreaker::builder().failure_rate(1.0))
        .rate_limit(crate::support::limiter())
        .bulkhead(8)
        .timeout(SECOND)
        .build()
        .unwrap()
}

#[tokio::test]
async fn calls_with_futures_that_are_not_send_work() {
    let pipeline = usual();
    let count = Rc::new(Cell::new(0));
    let start = || {
        let count = Rc::clone(&count);
        async move {
            count.set(count.get() + 1);
            tokio::task::yield_now().await;
            if count.get() < 2 {
                Err(Oops(1))
            } else {
                Ok(Rc::clone(&count))
            }
        }
    };
    assert_eq!(pipeline.call(start).await.unwrap().get(), 2);
    let chained = start.retry(Retry::default()).timeout(SECOND);
    assert_eq!(chained.await.unwrap().get(), 3);
}

#[tokio::test]
async fn calls_that_are_not_send_run_as_local_tasks() {
    let pipeline = usual();
    let local = LocalSet::new();
    let task = local.spawn_local(async move {
        let word = Rc::new(String::from("rope"));
        pipeline.call(|| async { Ok::<_, Oops>(word.len()) }).await
    });
    local.await;
    assert_eq!(task.await.unwrap(), Ok(4));
}

#[tokio::test]
async fn policies_and_operations_may_borrow_from_the_stack() {
    let allowed = [7_u32, 8];
    let fallback = String::from("none");
    let pipeline = Pipeline::builder("borrows")
        .fallback(Fallback::with(|_: Error<Oops>| fallback.as_str()))
        .retry(Retry::builder().retry_if(|error: &Oops| allowed.contains(&error.0)))
        .timeout(SECOND)
        .build()
        .unwrap();
    let word = String::from("rope");
    let answer = pipeline.call(|| async { Ok(word.as_str()) }).await;
    assert_eq!(answer, Ok("rope"));
    let refused = pipeline.call(|| async { Err(Oops(1)) }).await;
    assert_eq!(refused, Ok("none"));
}

#[tokio::test]
async fn an_operation_may_change_what_it_borrows() {
    let pipeline = usual();
    let mut attempts = Vec::new();
    let answer = pipeline
        .call_with(|attempt| {
            attempts.push(attempt.number());
            let n = attempts.len();
            async move { if n < 3 { Err(Oops(0)) } else { Ok(n) } }
        })
        .await;
    assert_eq!(answer, Ok(3));
    assert_eq!(attempts, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spawned_tasks_may_call_with_closures_that_borrow_their_locals() {
    let pipeline = usual();
    let tasks: Vec<_> = (0..16_u32)
        .map(|n| {
            let pipeline = pipeline.clone();
            tokio::spawn(async move {
                let order = format!("order {n}");
                let order = &order;
                let mut tries = 0;
                let reply = pipeline
                    .call(|| {
                        tries += 1;
                        async move {
                            tokio::task::yield_now().await;
                            if tries < 2 {
                                Err(Oops(n))
                            } else {
                                Ok(order.len())
                            }
                        }
                    })
                    .await;
                (reply, order.len())
            })
        })
        .collect();
    for task in tasks {
        let (reply, expected) = task.await.unwrap();
        assert_eq!(reply, Ok(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chained_calls_may_be_spawned() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(2)
        .max_queue(64)
        .build()
        .unwrap();
    let retry = Arc::new(Retry::builder().backoff(Backoff::none()).build().unwrap());
    let tasks: Vec<_> = (0..16_u32)
        .map(|n| {
            let (bulkhead, retry) = (bulkhead.clone(), Arc::clone(&retry));
            tokio::spawn(async move {
                let local = n.to_string();
                let mut tries = 0;
                (|| {
                    tries += 1;
                    let (tries, local) = (tries, &local);
                    async move {
                        tokio::task::yield_now().await;
                        if tries < 2 {
                            Err(Oops(n))
                        } else {
                            Ok(local.clone())
                        }
                    }
                })
                .bulkhead(&bulkhead)
                .retry(&*retry)
                .timeout(10 * SECOND)
                .await
            })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), Ok(n.to_string()));
    }
    assert_eq!(bulkhead.snapshot().in_use, 0);
}

struct Client {
    pipeline: DynPipeline<String, Oops>,
}

impl Client {
    async fn fetch(&self, name: &str) -> Result<String, Error<Oops>> {
        self.pipeline
            .call(|| async move {
                tokio::task::yield_now().await;
                Ok(format!("hello {name}"))
            })
            .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_pipeline_is_a_field_and_serves_many_tasks() {
    let client = Arc::new(Client {
        pipeline: usual().erase(),
    });
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.fetch(&n.to_string()).await })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), Ok(format!("hello {n}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_holds_erased_pipelines_of_different_stacks() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(64)
        .build()
        .unwrap();
    let slow = Pipeline::builder("slow")
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let plain = Pipeline::builder("plain").build().unwrap();
    let registry: HashMap<&str, DynPipeline<usize, Oops>> = HashMap::from([
        ("usual", usual().erase()),
        ("slow", slow.erase()),
        ("plain", plain.erase()),
    ]);
    let registry = Arc::new(registry);
    let tasks: Vec<_> = (0..30)
        .map(|n| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move {
                let name = ["usual", "slow", "plain"][n % 3];
                let mut seen = 0;
                let reply = registry[name]
                    .call_with(|attempt| {
                        seen = attempt.number();
                        async move {
                            tokio::task::yield_now().await;
                            Ok(n)
                        }
                    })
                    .await;
                (reply, seen)
            })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), (Ok(n), 1));
    }
    assert_eq!(registry["slow"].name(), "slow");
    // The erased pipeline holds the same bulkhead as the one it was made of.
    let held = bulkhead.try_acquire(1).unwrap();
    let mut waiting = crate::support::Stepped::new(registry["slow"].call(|| async { Ok(0) }));
    assert!(waiting.poll().is_pending());
    assert_eq!(bulkhead.snapshot().queued, 1);
    drop(held);
    assert_eq!(waiting.poll(), std::task::Poll::Ready(Ok(0)));
}

/// Takes what `tokio::spawn` takes.
fn spawnable<F: Future + Send + 'static>(task: F) -> F {
    task
}

/// An attempt that borrows, and holds its borrow over an await.
async fn length(word: &str) -> Result<usize, Oops> {
    tokio::task::yield_now().await;
    Ok(word.len())
}

/// Each policy by itself, so that the one which breaks it has a name.
#[tokio::test]
async fn every_policy_may_be_spawned_around_an_operation_that_borrows() {
    let word = || String::from("rope");
    let timeout = spawnable(async move {
        let word = word();
        (|| async { length(&word).await }).timeout(SECOND).await
    });
    let retry = spawnable(async move {
        let word = word();
        (|| async { length(&word).await })
            .retry(Retry::default())
            .await
    });
    let bulkhead = spawnable(async move {
        let (word, bulkhead) = (word(), 4.into_policy().unwrap());
        (|| async { length(&word).await }).bulkhead(&bulkhead).await
    });
    let breaker = spawnable(async move {
        let (word, breaker) = (word(), CircuitBreaker::builder().build().unwrap());
        (|| async { length(&word).await })
            .circuit_breaker(&breaker)
            .await
    });
    let allowed = spawnable(async move {
        let (word, fatal) = (word(), [7_u32]);
        let breaker = CircuitBreaker::builder().build().unwrap();
        let breaker = breaker.failure_if(|error: &Oops| fatal.contains(&error.0));
        (|| async { length(&word).await })
            .circuit_breaker(&breaker)
            .await
    });
    let limiter = spawnable(async move {
        let (word, limiter) = (word(), crate::support::limiter());
        (|| async { length(&word).await })
            .rate_limit(&limiter)
            .await
    });
    let keyed = spawnable(async move {
        let (word, tenants) = (word(), RateLimiter::per_second(9).keyed().build().unwrap());
        tenants.acquire(word.as_str(), 1).await.unwrap();
        let tenant = tenants.limiter(word.as_str()).unwrap();
        (|| async { length(&word).await }).rate_limit(&tenant).await
    });
    let fallback = spawnable(async move {
        let word = word();
        (|| async { length(&word).await })
            .fallback(Fallback::value(7))
            .await
    });
    let other = spawnable(async move {
        let (word, other) = (word(), String::from("cord"));
        (|| async { length(&word).await })
            .fallback(Fallback::call(|_| async { length(&other).await }))
            .await
    });
    let pipeline = spawnable(async move {
        let word = word();
        usual().call_with(|_| async { length(&word).await }).await
    });
    let through = spawnable(async move {
        let word = word();
        let retry = Retry::builder().backoff(Backoff::none()).build().unwrap();
        let inner = (|| async { length(&word).await }).timeout(SECOND);
        inner.through(&usual()).retry(&retry).await
    });
    let erased = spawnable(async move {
        let word = word();
        usual().erase().call(|| async { length(&word).await }).await
    });
    assert_eq!(timeout.await, Ok(4));
    assert_eq!(retry.await, Ok(4));
    assert_eq!(bulkhead.await, Ok(4));
    assert_eq!(breaker.await, Ok(4));
    assert_eq!(allowed.await, Ok(4));
    assert_eq!(limiter.await, Ok(4));
    assert_eq!(keyed.await, Ok(4));
    assert_eq!(fallback.await, Ok(4));
    assert_eq!(other.await, Ok(4));
    assert_eq!(pipeline.await, Ok(4));
    assert_eq!(through.await, Ok(4));
    assert_eq!(erased.await, Ok(4));
}

#[tokio::test]
async fn borrowed_results_and_settings_may_be_spawned() {
    let value = spawnable(async {
        let word = String::from("rope");
        let start = || async {
            tokio::task::yield_now().await;
            Ok::<_, Oops>(&word)
        };
        start.retry(Retry::default()).await.map(String::len)
    });
    let error = spawnable(async {
        let word = String::from("rope");
        let start = || async {
            tokio::task::yield_now().await;
            Err::<(), _>(&word)
        };
        let error = start
            .retry(Backoff::none().into_policy().unwrap())
            .await
            .unwrap_err();
        error.last().map(|word| word.len())
    });
    let settings = spawnable(async {
        let allowed = [7_u32];
        let delays = [Duration::ZERO];
        let retry = Retry::builder()
            .retry_if(|error: &Oops| allowed.contains(&error.0))
            .delays(|| delays.iter().copied())
            .build()
            .unwrap();
        (|| async {
            tokio::task::yield_now().await;
            Err::<(), _>(Oops(allowed[0]))
        })
        .retry(&retry)
        .await
        .map_err(|error| error.attempts())
    });
    assert_eq!(value.await, Ok(4));
    assert_eq!(error.await, Some(4));
    assert_eq!(settings.await, Err(2));
}

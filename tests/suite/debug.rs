//! What one sees of a thing in a log: its name and where it stands, also while it is in use,
//! and nothing of what it carries.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use mainstay::operation::Operation;
use mainstay::policy::{IntoPolicy, Policy};
use mainstay::pool::{Check, Manage, Pooled};
use mainstay::prelude::*;
use mainstay::retry::{RetryEvent, Verdict};
use mainstay::scope::Tracker;
use mainstay::shutdown::{Component, Shutdown};
use mainstay::stream::{every, resume};
use mainstay::{Acquire, Error, blocking};

use crate::support::{Oops, Stepped, now};

const SECOND: Duration = Duration::from_secs(1);

/// What no log may show.
const SECRET: &str = "hunter2";

/// The form begins with the name and has these parts. It takes no lock that the user of the
/// thing holds: then this would hang.
#[track_caller]
fn shows(thing: &impl Debug, name: &str, parts: &[&str]) {
    let text = format!("{thing:?}");
    let rest = text.strip_prefix(name).expect(&text);
    assert!(!rest.starts_with(char::is_alphanumeric), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains(SECRET), "{text}");
}

async fn secret() -> Result<&'static str, Oops> {
    tokio::task::yield_now().await;
    Ok(SECRET)
}

/// As a policy: writes down how the operation inside of it looks.
#[derive(Clone, Default)]
struct Looks(Arc<Mutex<Vec<String>>>);

impl<O: Operation + Debug> Policy<'_, O> for Looks {
    type Operation = O;

    fn wrap(&self, inner: O) -> O {
        self.0.lock().unwrap().push(format!("{inner:?}"));
        inner
    }
}

impl IntoPolicy for Looks {
    type Policy = Self;

    fn into_policy(self) -> Result<Self, mainstay::ConfigError> {
        Ok(self)
    }
}

impl Looks {
    #[track_caller]
    fn saw(&self, expected: &[&str]) {
        let seen = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(seen.len(), expected.len(), "{seen:?}");
        for (text, begins) in seen.iter().zip(expected) {
            assert!(text.starts_with(begins), "{begins} in {text}");
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}

#[tokio::test]
async fn every_operation_has_a_form_that_names_it() {
    let looks = Looks::default();
    assert_eq!(secret().policy(&looks).await, Ok(SECRET));
    looks.saw(&["Once { .. }"]);
    assert_eq!((|| secret()).policy(&looks).await, Ok(SECRET));
    looks.saw(&["Closure { running: false, .. }"]);

    let breaker = CircuitBreaker::builder().build().unwrap();
    let call = (|| secret())
        .timeout(SECOND)
        .policy(&looks)
        .retry(Retry::default())
        .policy(&looks)
        .circuit_breaker(&breaker)
        .policy(&looks)
        .fallback(Fallback::value(SECRET))
        .policy(&looks);
    assert_eq!(call.await, Ok(SECRET));
    looks.saw(&[
        "Timed { limit: 1s, timer: Timer {",
        "Retrying { attempts: 0, sleeping: false, .. }",
        "Gated { admitted: false, .. }",
        "FallingBack { answering: false, .. }",
    ]);

    let inner = Pipeline::builder("inner").policy(looks.clone()).build();
    let inner = inner.unwrap();
    let call = |_| async { Ok::<_, Oops>(SECRET) };
    assert_eq!(inner.call_with(call).await, Ok(SECRET));
    looks.saw(&["Closure { running: false, .. }"]);
    assert_eq!((|| secret()).through(&inner).await, Ok(SECRET));
    looks.0.lock().unwrap().clear();

    let offload = Offload::builder().threads(1).build().unwrap();
    let once = offload.run(|| Ok::<_, Oops>(1)).policy(&looks);
    assert_eq!(once.await, Ok(1));
    let again = offload.run_repeatable(|| Ok::<_, Oops>(2)).policy(&looks);
    assert_eq!(again.await, Ok(2));
    let seen = std::mem::take(&mut *looks.0.lock().unwrap());
    for text in seen {
        assert!(text.starts_with("Offloaded { offload: Offload"), "{text}");
        assert!(text.ends_with("given: false, .. }"), "{text}");
    }
}

#[tokio::test]
async fn an_erased_operation_and_a_part_of_another_pipeline_have_forms() {
    let looks = Looks::default();
    let outer = Pipeline::builder("outer").policy(looks.clone()).build();
    let outer = outer.unwrap();
    let inner = Pipeline::builder("inner").timeout(SECOND).build().unwrap();
    let call = (|| secret()).through(&inner).through(&outer);
    assert_eq!(call.await, Ok(SECRET));
    let seen = looks.0.lock().unwrap().join("\n");
    assert!(seen.starts_with("Part { source: Some(Source"), "{seen}");
    assert!(seen.contains("inner"), "{seen}");
}

#[tokio::test]
async fn pipelines_and_their_policies_show_their_names_and_settings() {
    let limiter = crate::support::limiter();
    let builder = Pipeline::builder("orders").timeout(SECOND);
    shows(&builder, "PipelineBuilder", &["orders", "error: None"]);
    let wrong = Pipeline::builder("orders").bulkhead(0);
    shows(&wrong, "PipelineBuilder", &["orders", "error: Some"]);
    let pipeline = builder.build().unwrap();
    shows(&pipeline, "Pipeline", &["name: \"orders\""]);
    let erased: DynPipeline<(), Oops> = pipeline.erase();
    shows(&erased, "DynPipeline", &["name: \"orders\""]);

    let picky = Retry::builder().retry_if(|_: &Oops| SECRET.is_empty());
    shows(&picky, "RetryBuilder", &["classifier: If"]);
    let all = Retry::builder().classify(|_: Result<&(), &Error<Oops>>| Verdict::Stop);
    shows(&all, "RetryBuilder", &["classifier: By,"]);
    let ok = Retry::builder().classify_ok(|(): &()| Verdict::Stop);
    shows(&ok, "RetryBuilder", &["classifier: ByOk"]);
    let hooked = Retry::builder().on_retry(|_: &RetryEvent<'_, (), Oops>| {});
    shows(&hooked, "RetryBuilder", &["hook: OnRetry"]);

    let keyed = RateLimiter::per_second(9).keyed().build().unwrap();
    shows(&keyed, "KeyedRateLimiter", &["limits"]);
    let waiting = keyed.acquire(SECRET, 2);
    shows(&waiting, "KeyedAcquire", &["permits: 2", "max_wait"]);
    drop(waiting);
    shows(&limiter, "RateLimiter", &[]);
}

#[tokio::test]
async fn permits_and_waits_show_whether_they_are_answered() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).max_queue(1).build();
    let bulkhead = bulkhead.unwrap();
    let permit = Acquire::new(bulkhead.clone()).await.unwrap();
    shows(&permit, "Permit", &[]);
    let mut waits = Box::pin(Acquire::new(bulkhead.clone()));
    shows(&waits, "Acquire", &["waits: false", "answered: false"]);
    assert!(Stepped::new(waits.as_mut()).poll().is_pending());
    shows(&waits, "Acquire", &["waits: true", "answered: false"]);
    drop(permit);
    drop(now(waits.as_mut()).unwrap());
    shows(&waits, "Acquire", &["answered: true"]);
}

#[tokio::test]
async fn gathers_show_how_far_they_are() {
    let pipeline = Pipeline::builder("pages").build().unwrap();
    let items = || (0..5).map(|_| secret());
    let closures = || (0..5).map(|_| || secret());
    let told = gather(items()).on_progress(|_| {}).limit(2);
    shows(&told, "Gather", &["limit: 2"]);
    shows(&gather(items()).try_all(), "TryAll", &["pulled: 0"]);
    shows(&gather(items()).in_order(), "InOrder", &["next: 0"]);
    shows(&gather(items()).batches(3), "Batches", &["size: 3"]);
    let collect = gather(items()).into_future();
    shows(&collect, "Collect", &["running: 0"]);

    let mut finished = gather(items()).limit(2).as_finished();
    assert_eq!(finished.next().await.unwrap().1, Ok(SECRET));
    shows(&finished, "AsFinished", &["running: 1", "pulled: 2"]);
    let through = gather(closures()).through(&pipeline).in_background(3);
    shows(&through, "Background", &["buffer: 3", "waiting: 0"]);
}

#[tokio::test]
async fn streams_show_their_limits_and_their_end() {
    let source = || stream::iter([Ok::<_, Oops>(SECRET)]);
    let mut guarded = source().time_limit(SECOND).time_limit_each(2 * SECOND);
    shows(
        &guarded,
        "Guarded",
        &["time_limit_each: 2s", "time_limit: 1s", "ended: false"],
    );
    while guarded.next().await.is_some() {}
    shows(&guarded, "Guarded", &["ended: true"]);

    let mut background = source().in_background(2);
    shows(&background, "Background", &["not started"]);
    assert_eq!(background.next().await, Some(Ok(SECRET)));
    shows(&background, "Background", &["running"]);
    while background.next().await.is_some() {}
    shows(&background, "Background", &["over"]);

    let open = |_: u32| async move { Ok(source()) };
    let resumed = resume(7, open, |at, _| *at += 1);
    shows(&resumed, "Resumed", &["cursor: 7", "ended: false"]);
    shows(&every(SECOND), "Every", &[]);
    shows(&blocking::iter(source()), "Iter", &[]);
}

/// Makes nothing but the secret.
struct Maker;

/// Prints its number and not what it keeps.
struct Thing(
    u32,
    #[expect(dead_code, reason = "kept from the log")] &'static str,
);

impl Debug for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "thing {}", self.0)
    }
}

impl Manage for Maker {
    type Object = Thing;
    type Error = Oops;

    async fn create(&self) -> Result<Thing, Oops> {
        Ok(Thing(4, SECRET))
    }
}

#[tokio::test]
async fn a_pool_and_what_it_lends_show_how_they_are_used() {
    let builder = Pool::builder(Maker).max_size(1).max_wait(SECOND);
    shows(
        &builder,
        "PoolBuilder",
        &["max_size: Some(1)", "max_wait: 1s", "check:", "ages:"],
    );
    let pool = builder.build().unwrap();
    let get = pool.get();
    shows(
        &get,
        "Get",
        &["max_wait: 1s", "waits: false", "done: false"],
    );
    let lent = get.await.unwrap();
    shows(&lent, "Pooled", &["thing 4"]);
    shows(&pool, "Pool", &["in_use: 1"]);
    drop(lent);
    shows(&pool.drained(), "Drained", &[]);
}

/// What a manager leaves out: every object is well, and may be used again.
#[tokio::test]
async fn a_manager_without_a_check_takes_every_object_for_well() {
    let pool = Pool::builder(Maker)
        .max_size(1)
        .check(Check::Always)
        .build()
        .unwrap();
    drop(pool.get().await.unwrap());
    let again = pool.get().await.unwrap();
    assert_eq!(Pooled::uses(&again), 2);
    assert_eq!(Maker.check(&mut Thing(0, SECRET)).await, Ok(()));
}

#[tokio::test]
async fn scopes_queues_and_shutdowns_show_what_is_under_way() {
    let builder = Scope::builder().limit(1);
    shows(&builder, "ScopeBuilder", &["limit: 1", "grace: 100ms"]);
    let scope = builder.build().unwrap();
    let task = scope.spawn("reader", secret()).unwrap();
    shows(&scope, "Scope", &["in_flight: 1", "reader"]);
    shows(&scope.handle(), "ScopeHandle", &["in_flight: 1", "reader"]);
    shows(&task, "Task", &["is_finished: false"]);
    scope.close();
    let refused = scope.spawn("late", secret()).unwrap_err();
    shows(&refused, "Refused", &["reason: ShutDown"]);
    assert_eq!(task.await, Ok(SECRET));
    shows(&Scope::default(), "Scope", &["in_flight: 0"]);
    let tracker = Tracker::new();
    shows(&tracker, "Tracker", &[]);

    let queue: Queue<&str, &str, Oops> = Queue::builder().build(|_| secret()).unwrap();
    shows(
        &queue.push(SECRET),
        "Push",
        &["waiting: false", "done: false"],
    );
    queue.close();
    let rejected = queue.try_push(SECRET).unwrap_err();
    shows(&rejected, "Rejected", &["reason: ShutDown"]);

    let boxed: Box<dyn Component> = Box::new(scope);
    let builder = Shutdown::builder().component("tasks", boxed);
    shows(&builder, "ShutdownBuilder", &["deadline: 30s", "tasks"]);
    let shutdown = builder.build().unwrap();
    shows(&shutdown, "Shutdown", &["is_requested: false", "tasks"]);
}

/// Answers with the secret.
#[cfg(feature = "tower")]
#[derive(Clone, Debug)]
struct Inner;

#[cfg(feature = "tower")]
impl tower::Service<u32> for Inner {
    type Response = &'static str;
    type Error = Oops;
    type Future = std::future::Ready<Result<&'static str, Oops>>;
    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Oops>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: u32) -> Self::Future {
        std::future::ready(Ok(SECRET))
    }
}

#[cfg(feature = "tower")]
#[tokio::test]
async fn layers_and_services_show_their_pipeline() {
    use tower::{Layer, ServiceExt};

    let looks = Looks::default();
    let pipeline = Pipeline::builder("web").policy(looks.clone()).build();
    let pipeline = pipeline.unwrap();
    let copied = pipeline.layer_with(|request: &u32| Some(*request));
    shows(&copied, "PipelineLayer", &["web"]);
    let boxed = copied.boxed();
    shows(&boxed.clone(), "BoxedLayer", &["PipelineLayer", "web"]);
    let service = pipeline.layer().layer(Inner);
    shows(&service, "PipelineService", &["web", "Inner"]);
    shows(service.get_ref(), "Inner", &[]);
    shows(service.pipeline(), "Pipeline", &["web"]);
    assert_eq!(service.oneshot(7).await.unwrap(), SECRET);
    looks.saw(&["ServiceCall { running: false, repeatable: true, .. }"]);
}

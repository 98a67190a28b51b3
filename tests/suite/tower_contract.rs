//! What tower asks of a service, and what a service of ours asks of the one inside.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay::observe::{Event, EventKind, GaveUp};
use mainstay::prelude::*;
use mainstay::tower::IntoLayer;
use mainstay::{BoxError, BoxedError, Error, Refusal};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::{Oops, Stepped, now};

const SECOND: Duration = Duration::from_secs(1);

/// A service that holds its caller to the contract: it panics when an instance is called
/// that is not ready, and when one is used whose readiness has failed.
#[derive(Debug)]
struct Strict {
    readiness: Readiness,
    id: usize,
    seen: Arc<Seen>,
}

#[derive(Debug, PartialEq)]
enum Readiness {
    Unready,
    Asked,
    Ready,
    Failed,
}

/// What all instances saw together.
#[derive(Debug, Default)]
struct Seen {
    instances: Mutex<usize>,
    readied: Mutex<Vec<usize>>,
    called: Mutex<Vec<usize>>,
    requests: Mutex<Vec<u32>>,
    /// What readiness says; afterwards it is `Ok`.
    readiness: Mutex<VecDeque<Result<(), Oops>>>,
    /// What calls say; afterwards they echo.
    answers: Mutex<VecDeque<Result<u32, Oops>>>,
}

impl Strict {
    fn new() -> (Self, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        (Self::instance(&seen), seen)
    }

    fn answering(answers: impl IntoIterator<Item = Result<u32, Oops>>) -> (Self, Arc<Seen>) {
        let (service, seen) = Self::new();
        seen.answers.lock().unwrap().extend(answers);
        (service, seen)
    }

    fn instance(seen: &Arc<Seen>) -> Self {
        let mut instances = seen.instances.lock().unwrap();
        *instances += 1;
        Self {
            readiness: Readiness::Unready,
            id: *instances,
            seen: Arc::clone(seen),
        }
    }
}

impl Clone for Strict {
    /// Readiness belongs to the instance: the clone has none.
    fn clone(&self) -> Self {
        Self::instance(&self.seen)
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = Oops;
    type Future = Ready<Result<u32, Oops>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Oops>> {
        match self.readiness {
            Readiness::Failed => panic!("instance {} was to be discarded", self.id),
            Readiness::Unready => {
                self.readiness = Readiness::Asked;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Readiness::Asked | Readiness::Ready => {}
        }
        let said = self
            .seen
            .readiness
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Ok(()));
        self.readiness = match said {
            Ok(()) => Readiness::Ready,
            Err(_) => Readiness::Failed,
        };
        self.seen.readied.lock().unwrap().push(self.id);
        Poll::Ready(said)
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let readiness = std::mem::replace(&mut self.readiness, Readiness::Unready);
        assert_eq!(readiness, Readiness::Ready, "instance {}", self.id);
        self.seen.called.lock().unwrap().push(self.id);
        self.seen.requests.lock().unwrap().push(request);
        let answer = self.seen.answers.lock().unwrap().pop_front();
        ready(answer.unwrap_or(Ok(request)))
    }
}

fn eager() -> mainstay::retry::RetryBuilder {
    Retry::builder().backoff(Backoff::none())
}

/// Trap 72.
#[tokio::test]
async fn the_instance_that_is_called_is_the_one_that_was_readied() {
    let (strict, seen) = Strict::new();
    let pipeline = Pipeline::builder("strict")
        .timeout(SECOND)
        .bulkhead(4)
        .build()
        .unwrap();
    let mut service = pipeline.layer().layer(strict);
    for n in 0..3 {
        assert_eq!(service.ready().await.unwrap().call(n).await, Ok(n));
    }
    // Also of clones, and without having been asked for readiness.
    assert_eq!(service.clone().call(3).await, Ok(3));
    let called = seen.called.lock().unwrap().clone();
    assert_eq!(*seen.readied.lock().unwrap(), called);
    assert_eq!(called.len(), 4);
}

/// Trap 67, for the attempts of a retry: each is driven to readiness itself.
#[tokio::test]
async fn every_attempt_is_readied() {
    let (strict, seen) = Strict::answering([Err(Oops(1)), Err(Oops(2))]);
    let pipeline = Pipeline::builder("strict").retry(eager()).build().unwrap();
    let mut service = pipeline.layer().layer(strict);
    assert_eq!(service.ready().await.unwrap().call(7).await, Ok(7));
    assert_eq!(*seen.requests.lock().unwrap(), [7, 7, 7]);
    assert_eq!(seen.readied.lock().unwrap().len(), 3);
    assert_eq!(*seen.readied.lock().unwrap(), *seen.called.lock().unwrap());
}

#[tokio::test]
async fn readiness_may_be_asked_again_and_again() {
    let (strict, seen) = Strict::new();
    let pipeline = Pipeline::builder("strict").bulkhead(1).build().unwrap();
    let mut service = pipeline.layer().boxed().layer(strict);
    for _ in 0..100 {
        now(service.ready()).unwrap();
    }
    assert!(
        seen.readied.lock().unwrap().is_empty(),
        "readiness takes nothing"
    );
    assert_eq!(service.call(1).await.unwrap(), 1);
}

/// Trap 75.
#[tokio::test]
async fn readiness_that_is_not_used_consumes_nothing() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(3)
        .max_queue(0)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("burst")
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let service = pipeline.layer().layer(service_fn(|n: u32| async move {
        tokio::task::yield_now().await;
        Ok::<_, Oops>(n)
    }));
    for _ in 0..5 {
        let mut readied = service.clone();
        now(readied.ready()).unwrap();
    }
    assert_eq!(bulkhead.snapshot().in_use, 0);
    let mut burst: Vec<_> = (0..3)
        .map(|n| Stepped::new(service.clone().oneshot(n)))
        .collect();
    assert!(
        burst.iter_mut().all(|call| call.poll().is_pending()),
        "the burst is whole"
    );
    assert_eq!(bulkhead.snapshot().in_use, 3);
    let refused = service.clone().oneshot(3).await.unwrap_err();
    assert!(matches!(
        refused.refusal(),
        Some(Refusal::BulkheadFull { .. })
    ));
    drop(burst);
    assert_eq!(bulkhead.snapshot().in_use, 0);
}

/// Trap 75, for permits that do not come back.
#[tokio::test]
async fn readiness_that_is_not_used_spends_no_permits() {
    let limiter = RateLimiter::per_minute(1)
        .burst(3)
        .max_wait(Duration::ZERO)
        .build()
        .unwrap();
    let (strict, _) = Strict::new();
    let mut service = limiter.clone().into_layer().unwrap().layer(strict);
    for n in 0..5 {
        now(service.ready()).unwrap();
        now(service.clone().ready()).unwrap();
        drop(service.call(n));
    }
    assert_eq!(limiter.snapshot().available, 3);
    for n in 0..3 {
        assert_eq!(
            service.ready().await.unwrap().call(n).await,
            Ok(n),
            "the burst is whole"
        );
    }
    let error = service.ready().await.unwrap().call(3).await.unwrap_err();
    assert!(matches!(error.refusal(), Some(Refusal::RateLimited { .. })));
}

/// Trap 73: a clone that is ready and idle holds no permit, so nobody waits for it.
#[tokio::test]
async fn a_ready_and_idle_clone_holds_nothing() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let layer = bulkhead.clone().into_layer().unwrap();
    // Nor one of the service inside, whose readiness is a permit.
    let inner = service_fn(|n: u32| async move { Ok::<_, Oops>(n) });
    let mut idle = layer.layer(ConcurrencyLimit::new(inner, 1));
    let mut busy = idle.clone();
    now(idle.ready()).unwrap();
    now(busy.ready()).unwrap();
    assert_eq!(now(busy.call(1)), Ok(1));
    assert_eq!(idle.call(2).await, Ok(2));
}

/// A future made by `call` and never polled has taken nothing either.
#[tokio::test]
async fn a_call_that_is_not_polled_takes_nothing() {
    let (strict, seen) = Strict::new();
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let mut service = bulkhead.clone().into_layer().unwrap().layer(strict);
    let unpolled = service.call(1);
    assert_eq!(bulkhead.snapshot().in_use, 0);
    assert_eq!(service.call(2).await, Ok(2));
    drop(unpolled);
    assert_eq!(*seen.requests.lock().unwrap(), [2]);
}

#[test]
fn a_call_goes_on_when_the_inner_service_becomes_ready() {
    let (inner, mut handle) = mock::pair::<u32, u32>();
    let pipeline = Pipeline::builder("mock").bulkhead(1).build().unwrap();
    let mut service = pipeline.layer().boxed().layer(inner);
    handle.allow(0);
    let mut call = tokio_test::task::spawn(service.call(7));
    assert!(call.poll().is_pending());
    assert!(!call.is_woken());
    let mut asked = tokio_test::task::spawn(());
    assert!(asked.enter(|_, _| handle.poll_request()).is_pending());
    handle.allow(1);
    assert!(call.is_woken(), "the waker was handed to the inner service");
    assert!(call.poll().is_pending());
    let Poll::Ready(Some((request, answer))) = asked.enter(|_, _| handle.poll_request()) else {
        panic!("the request was to be sent");
    };
    assert_eq!(request, 7);
    answer.send_response(8);
    assert!(call.is_woken());
    let Poll::Ready(Ok(8)) = call.poll() else {
        panic!("the answer was to arrive");
    };
}

#[test]
fn a_dropped_call_gives_the_inner_service_back_its_turn() {
    let (inner, mut handle) = mock::pair::<u32, u32>();
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let mut service = bulkhead.clone().into_layer().unwrap().boxed().layer(inner);
    handle.allow(0);
    let mut unready = tokio_test::task::spawn(service.call(1));
    assert!(unready.poll().is_pending());
    drop(unready);
    assert_eq!(bulkhead.snapshot().in_use, 0);
    handle.allow(1);
    let mut call = tokio_test::task::spawn(service.call(2));
    assert!(call.poll().is_pending());
    let mut asked = tokio_test::task::spawn(());
    let Poll::Ready(Some((request, _))) = asked.enter(|_, _| handle.poll_request()) else {
        panic!("the request was to be sent");
    };
    assert_eq!(request, 2);
}

#[tokio::test]
async fn an_error_of_the_inner_readiness_is_the_operations_own() {
    let (strict, seen) = Strict::new();
    seen.readiness.lock().unwrap().push_back(Err(Oops(9)));
    let pipeline = Pipeline::builder("strict").timeout(SECOND).build().unwrap();
    let mut service = pipeline.layer().layer(strict);
    let error = service.ready().await.unwrap().call(1).await.unwrap_err();
    assert!(matches!(error, Error::Operation { error: Oops(9), .. }));
    assert!(seen.called.lock().unwrap().is_empty());
    // The next call has an instance of its own.
    assert_eq!(service.ready().await.unwrap().call(2).await, Ok(2));
}

/// tower: "the service is no longer able to service requests and the caller should discard
/// the service instance".
#[tokio::test]
async fn an_instance_whose_readiness_failed_is_not_asked_again() {
    let (strict, seen) = Strict::new();
    seen.readiness
        .lock()
        .unwrap()
        .extend([Err(Oops(9)), Err(Oops(10))]);
    let (reasons, observer) = gave_up();
    let pipeline = Pipeline::builder("strict")
        .observe(observer)
        .retry(eager())
        .build()
        .unwrap();
    let error = pipeline.layer().layer(strict).oneshot(1).await.unwrap_err();
    assert!(matches!(error, Error::Operation { error: Oops(9), .. }));
    assert_eq!(*reasons.lock().unwrap(), [GaveUp::NotRepeatable]);
}

type Reasons = Arc<Mutex<Vec<GaveUp>>>;

/// An observer that keeps why retries gave up.
fn gave_up() -> (Reasons, impl Fn(&Event<'_>) + Send + Sync) {
    let reasons = Reasons::default();
    let kept = Arc::clone(&reasons);
    let observer = move |event: &Event<'_>| {
        if let EventKind::GaveUp(reason) = event.kind {
            kept.lock().unwrap().push(reason);
        }
    };
    (reasons, observer)
}

/// Trap 74: a gate that lets nothing in says so with a typed error; readiness holds nothing
/// that could be closed.
#[tokio::test]
async fn a_gate_that_is_closed_gives_a_typed_error() {
    let (strict, seen) = Strict::new();
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let mut service = bulkhead.clone().into_layer().unwrap().layer(strict);
    now(service.ready()).unwrap();
    bulkhead.resize(0);
    let error = now(service.call(1)).unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::too_large(1, 0)));
    assert!(now(service.ready()).is_ok(), "and the service stays usable");
    assert!(seen.readied.lock().unwrap().is_empty());
    bulkhead.resize(1);
    assert_eq!(service.call(2).await, Ok(2));
}

/// Trap 74, for a breaker that an operator holds open.
#[tokio::test]
async fn a_circuit_that_is_held_open_gives_a_typed_error() {
    let (strict, seen) = Strict::new();
    let breaker = CircuitBreaker::builder().build().unwrap();
    let mut service = breaker.clone().into_layer().unwrap().layer(strict);
    now(service.ready()).unwrap();
    breaker.force_open();
    let error = now(service.call(1)).unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::circuit_open(None)));
    assert!(seen.readied.lock().unwrap().is_empty());
    breaker.reset();
    assert_eq!(service.ready().await.unwrap().call(2).await, Ok(2));
}

/// Trap 11.
#[test]
fn an_open_circuit_refuses_at_once_and_leaves_a_pending_service_alone() {
    let (inner, mut handle) = mock::pair::<u32, u32>();
    handle.allow(0);
    let breaker = CircuitBreaker::builder().build().unwrap();
    let mut service = breaker.clone().into_layer().unwrap().boxed().layer(inner);
    let mut call = tokio_test::task::spawn(service.call(1));
    assert!(call.poll().is_pending(), "closed, it waits for the service");
    breaker.force_open();
    let error = now(service.call(2)).unwrap_err();
    let error = error.downcast::<Error<BoxedError>>().unwrap();
    assert!(matches!(error.refusal(), Some(Refusal::CircuitOpen { .. })));
    // It never stood in the service's queue: the one turn goes to the call that waits.
    handle.allow(1);
    assert!(call.is_woken());
    assert!(call.poll().is_pending());
    let mut asked = tokio_test::task::spawn(());
    let Poll::Ready(Some((request, _))) = asked.enter(|_, _| handle.poll_request()) else {
        panic!("the request was to be sent");
    };
    assert_eq!(request, 1);
}

/// As trap 11, for a full bulkhead: a refused call does not wait for the inner service.
#[test]
fn a_refused_call_does_not_touch_the_inner_service() {
    let (inner, mut handle) = mock::pair::<u32, u32>();
    handle.allow(0);
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let mut service = bulkhead.clone().into_layer().unwrap().boxed().layer(inner);
    let _held = bulkhead.try_acquire(1).unwrap();
    let error = now(service.call(1)).unwrap_err();
    let error = error.downcast::<Error<BoxedError>>().unwrap();
    assert!(matches!(
        error.refusal(),
        Some(Refusal::BulkheadFull { .. })
    ));
}

#[tokio::test]
async fn a_service_shares_its_state_with_clones_and_with_direct_calls() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("shared")
        .bulkhead(bulkhead)
        .build()
        .unwrap();
    let inner = service_fn(|n: u32| async move {
        if n == 0 {
            std::future::pending::<()>().await;
        }
        Ok::<_, Oops>(n)
    });
    let service = pipeline.layer().layer(inner);
    let other_layer = pipeline.layer().layer(inner);
    let erased = pipeline.erase::<u32, Oops>();
    let mut held = Stepped::new(service.clone().oneshot(0));
    assert!(held.poll().is_pending());
    let full = |result: Result<u32, Error<Oops>>| {
        matches!(
            result.unwrap_err().refusal(),
            Some(Refusal::BulkheadFull { .. })
        )
    };
    assert!(full(service.clone().oneshot(1).await));
    assert!(full(other_layer.clone().oneshot(1).await));
    assert!(full(pipeline.call(|| async { Ok::<_, Oops>(1) }).await));
    assert!(full(erased.call(|| async { Ok(1) }).await));
    drop(held);
    let mut direct = Stepped::new(pipeline.call(std::future::pending::<Result<u32, Oops>>));
    assert!(direct.poll().is_pending());
    assert!(full(service.clone().oneshot(1).await));
    drop(direct);
    assert_eq!(service.oneshot(1).await, Ok(1));
}

#[tokio::test]
async fn every_single_policy_is_a_layer() {
    let (strict, seen) = Strict::answering([Err(Oops(1)), Ok(2)]);
    let service = ServiceBuilder::new()
        .layer(Fallback::value(0_u32).into_layer().unwrap())
        .map_err(|error: Error<Oops>| error.into_last().unwrap_or(Oops(0)))
        .layer(SECOND.into_layer().unwrap())
        .map_err(|error: Error<Oops>| error.into_last().unwrap_or(Oops(0)))
        .layer(eager().into_layer().unwrap())
        .map_err(|error: Error<Oops>| error.into_last().unwrap_or(Oops(0)))
        .layer(CircuitBreaker::builder().into_layer().unwrap())
        .map_err(|error: Error<Oops>| error.into_last().unwrap_or(Oops(0)))
        .layer(crate::support::limiter().into_layer().unwrap())
        .map_err(|error: Error<Oops>| error.into_last().unwrap_or(Oops(0)))
        .layer(4.into_layer().unwrap())
        .service(strict);
    assert_eq!(service.oneshot(7).await, Ok(2));
    assert_eq!(*seen.requests.lock().unwrap(), [7, 7]);
}

#[test]
fn a_layer_of_a_bad_setting_is_refused() {
    let error = Bulkhead::builder().into_layer().unwrap_err();
    assert_eq!(error.field(), "max_concurrent");
    let error = Retry::builder().max_attempts(0).into_layer().unwrap_err();
    assert_eq!(error.field(), "max_attempts");
}

/// A request that can be sent only once.
#[derive(Debug, PartialEq)]
struct Unique(u32);

#[tokio::test]
async fn a_request_that_cannot_be_cloned_goes_through_what_does_not_repeat() {
    let pipeline = Pipeline::builder("once")
        .timeout(SECOND)
        .circuit_breaker(CircuitBreaker::builder())
        .bulkhead(1)
        .build()
        .unwrap();
    let mut service = pipeline
        .layer_once()
        .layer(service_fn(|request: Unique| async move {
            Ok::<_, Oops>(request)
        }));
    assert_eq!(
        service.ready().await.unwrap().call(Unique(7)).await,
        Ok(Unique(7))
    );
    assert_eq!(
        service.ready().await.unwrap().call(Unique(8)).await,
        Ok(Unique(8))
    );
}

/// Trap 51: what cannot be copied is sent once, and its error is the caller's.
#[tokio::test]
async fn a_request_without_a_copy_is_sent_once_and_never_again() {
    let (reasons, observer) = gave_up();
    let pipeline = Pipeline::builder("copies")
        .observe(observer)
        .retry(eager())
        .build()
        .unwrap();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&sent);
    let service = pipeline
        .layer_with(|request: &Unique| (request.0 < 10).then_some(Unique(request.0)))
        .layer(service_fn(move |request: Unique| {
            kept.lock().unwrap().push(request.0);
            ready(Err::<(), _>(Oops(request.0)))
        }));
    let error = service.clone().oneshot(Unique(1)).await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (3, Some(&Oops(1))));
    let error = service.clone().oneshot(Unique(10)).await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (1, Some(&Oops(10))));
    assert_eq!(*sent.lock().unwrap(), [1, 1, 1, 10]);
    assert_eq!(
        *reasons.lock().unwrap(),
        [GaveUp::Attempts, GaveUp::NotRepeatable]
    );
}

/// The copy is asked for anew at each attempt.
#[tokio::test]
async fn a_request_whose_copies_run_out_is_not_sent_again() {
    static COPIES: Mutex<u32> = Mutex::new(1);
    let pipeline = Pipeline::builder("copies")
        .retry(eager().max_attempts(9))
        .build()
        .unwrap();
    let service = pipeline
        .layer_with(|request: &Unique| {
            let mut copies = COPIES.lock().unwrap();
            *copies = copies.checked_sub(1)?;
            Some(Unique(request.0))
        })
        .layer(service_fn(|request: Unique| {
            ready(Err::<(), _>(Oops(request.0)))
        }));
    let error = service.oneshot(Unique(7)).await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (2, Some(&Oops(7))));
}

#[tokio::test]
async fn a_service_of_boxed_errors_goes_through_and_keeps_its_cause() {
    let pipeline = Pipeline::builder("boxed")
        .timeout(SECOND)
        .retry(eager())
        .build()
        .unwrap();
    let inner = service_fn(|n: u32| async move { Err::<u32, BoxError>(Box::new(Oops(n))) });
    let mut service = ServiceBuilder::new()
        .layer(pipeline.layer().boxed())
        .service(inner);
    let error: BoxError = service.ready().await.unwrap().call(7).await.unwrap_err();
    assert_eq!(error.to_string(), "oops 7 (3 attempts)");
    let error = error.downcast::<Error<BoxedError>>().unwrap();
    assert_eq!(error.attempts(), 3);
    assert_eq!(error.into_last().unwrap().0.downcast_ref(), Some(&Oops(7)));
}

/// A pipeline around a pipeline's service: the errors are boxed once each, and not lost.
#[tokio::test]
async fn services_stack_through_boxes_and_the_chain_of_causes_leads_down() {
    let inner = Pipeline::builder("inner").timeout(SECOND).build().unwrap();
    let outer = Pipeline::builder("outer").timeout(SECOND).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(outer.layer().boxed())
        .layer(inner.layer().boxed())
        .service(service_fn(|n: u32| ready(Err::<u32, _>(Oops(n)))));
    let error = service.oneshot(7).await.unwrap_err();
    let first: &(dyn std::error::Error + 'static) = &*error;
    let mut causes = std::iter::successors(Some(first), |cause| cause.source());
    let oops = causes.find_map(|cause| cause.downcast_ref::<Oops>());
    assert_eq!(oops, Some(&Oops(7)));
}

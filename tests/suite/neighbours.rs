//! Between other people's services: axum, reqwest, tower. Over loopback where there are
//! sockets; every test ends by itself within its time limit.

use std::collections::HashSet;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mainstay::policy::{Identity, Stack};
use mainstay::prelude::*;
use mainstay::retry::Verdict;
use mainstay::tower::IntoLayer;
use mainstay::{BoxError, BoxedError, Error, Refusal};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);
/// No test of this file takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves the router on a port of its own; the URL of its root.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/")
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn request(url: &str) -> reqwest::Request {
    reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap())
}

/// What a server answers when its pipeline gives no result.
async fn unavailable<E>(error: Error<E>) -> (StatusCode, String) {
    let status = match &error {
        Error::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        Error::Refused { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let text = error
        .refusal()
        .map_or_else(String::new, |refusal| refusal.to_string());
    (status, text)
}

async fn bounded(test: impl Future<Output = ()>) {
    let limited = mainstay::infallible(test).timeout(PATIENCE);
    assert!(limited.await.is_ok(), "not done within {PATIENCE:?}");
}

#[tokio::test]
async fn an_axum_router_answers_for_calls_that_its_pipeline_refuses() {
    bounded(async {
        let bulkhead = Bulkhead::builder()
            .max_concurrent(1)
            .max_queue(0)
            .build()
            .unwrap();
        let pipeline = Pipeline::builder("server")
            .bulkhead(bulkhead.clone())
            .timeout(SECOND / 10)
            .build()
            .unwrap();
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/slow", get(std::future::pending::<StatusCode>))
            .layer(
                ServiceBuilder::new()
                    .layer(HandleErrorLayer::new(unavailable))
                    .layer(pipeline.layer_once()),
            );
        let url = serve(router).await;
        let client = client();
        let reply = client.get(&url).send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 200);
        assert_eq!(reply.text().await.unwrap(), "hello");
        let slow = client.get(format!("{url}slow")).send().await.unwrap();
        assert_eq!(slow.status().as_u16(), 504);
        let held = bulkhead.try_acquire(1).unwrap();
        let full = client.get(&url).send().await.unwrap();
        assert_eq!(full.status().as_u16(), 503);
        assert_eq!(full.text().await.unwrap(), "bulkhead is full");
        drop(held);
        assert_eq!(
            client.get(&url).send().await.unwrap().status().as_u16(),
            200
        );
        assert_eq!(bulkhead.snapshot().in_use, 0);
    })
    .await;
}

/// A request of axum's is not `Clone`; one without a body can be copied all the same.
fn copy_of_get(request: &Request) -> Option<Request> {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    (request.method() == Method::GET).then_some(copy)
}

#[tokio::test]
async fn a_router_retries_what_may_be_repeated() {
    bounded(async {
        let served = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&served);
        let flaky = move || {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if n % 3 < 2 {
                    StatusCode::BAD_GATEWAY
                } else {
                    StatusCode::OK
                }
            }
        };
        let retry = Retry::builder().backoff(Backoff::none()).classify(
            |reply: Result<&Response, &Error<_>>| match reply {
                Ok(reply) if reply.status().is_server_error() => Verdict::Retry,
                _ => Verdict::Stop,
            },
        );
        let pipeline = Pipeline::builder("server").retry(retry).build().unwrap();
        let router = Router::new()
            .route("/", get(flaky.clone()).post(flaky))
            .layer(
                ServiceBuilder::new()
                    .layer(HandleErrorLayer::new(unavailable))
                    .layer(pipeline.layer_with(copy_of_get)),
            );
        let url = serve(router).await;
        let reply = client().get(&url).send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 200);
        assert_eq!(served.load(Ordering::SeqCst), 3);
        let reply = client().post(&url).send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 502, "a POST is sent once");
        assert_eq!(served.load(Ordering::SeqCst), 4);
    })
    .await;
}

#[tokio::test]
async fn a_reqwest_client_is_retried_until_the_server_has_recovered() {
    bounded(async {
        let served = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&served);
        let handler = move || {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if n < 2 {
                    StatusCode::SERVICE_UNAVAILABLE.into_response()
                } else {
                    "recovered".into_response()
                }
            }
        };
        let url = serve(Router::new().route("/", get(handler))).await;
        let retry = Retry::builder()
            .backoff(Backoff::constant(Duration::from_millis(1)))
            .classify(
                |reply: Result<&reqwest::Response, &Error<reqwest::Error>>| match reply {
                    Ok(reply) if reply.status().is_server_error() => Verdict::Retry,
                    Err(Error::Operation { error, .. }) if error.is_connect() => Verdict::Retry,
                    _ => Verdict::Stop,
                },
            );
        let pipeline = Pipeline::builder("client")
            .timeout(PATIENCE)
            .retry(retry)
            .circuit_breaker(CircuitBreaker::builder())
            .bulkhead(8)
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let mut service = ServiceBuilder::new()
            .layer(pipeline.layer_with(reqwest::Request::try_clone))
            .service(client());
        let reply = service
            .ready()
            .await
            .unwrap()
            .call(request(&url))
            .await
            .unwrap();
        assert_eq!(reply.text().await.unwrap(), "recovered");
        assert_eq!(served.load(Ordering::SeqCst), 3);
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_is_the_clients_own_error() {
    bounded(async {
        // Bound and dropped: nobody listens there.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let pipeline = Pipeline::builder("client")
            .timeout(PATIENCE)
            .retry(Retry::builder().backoff(Backoff::none()).max_attempts(2))
            .build()
            .unwrap();
        let service = pipeline
            .layer_with(reqwest::Request::try_clone)
            .layer(client());
        let error = service.oneshot(request(&url)).await.unwrap_err();
        assert_eq!(error.attempts(), 2);
        assert!(matches!(error, Error::Operation { error, .. } if error.is_connect()));
    })
    .await;
}

/// A client that gives up frees its slot in the server, whose pipeline drops the handler.
#[tokio::test]
async fn a_client_that_goes_away_frees_its_slot_in_the_server() {
    bounded(async {
        let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
        let entered = Arc::new(Notify::new());
        let enter = Arc::clone(&entered);
        let stuck = move || {
            enter.notify_one();
            std::future::pending::<StatusCode>()
        };
        let router = Router::new().route("/stuck", get(stuck)).layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(unavailable))
                .layer(
                    Pipeline::builder("server")
                        .bulkhead(bulkhead.clone())
                        .build()
                        .unwrap()
                        .layer_once(),
                ),
        );
        let url = serve(router).await;
        let gone = tokio::spawn(client().get(format!("{url}stuck")).send());
        entered.notified().await;
        assert_eq!(bulkhead.snapshot().in_use, 1);
        gone.abort();
        drop(bulkhead.acquire(1).await.unwrap());
    })
    .await;
}

fn full() -> (Bulkhead, Pipeline<Stack<Identity, Bulkhead>>) {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("full")
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    (bulkhead, pipeline)
}

fn echo() -> impl Service<u32, Response = u32, Error = Oops, Future: Send> + Clone + Send + 'static
{
    service_fn(|n: u32| async move {
        tokio::task::yield_now().await;
        Ok(n)
    })
}

#[tokio::test]
async fn under_a_buffer_the_error_can_be_found_again() {
    bounded(async {
        let (bulkhead, pipeline) = full();
        let mut service = ServiceBuilder::new()
            .buffer(4)
            .layer(pipeline.layer())
            .service(echo());
        assert_eq!(service.ready().await.unwrap().call(7).await.unwrap(), 7);
        let _held = bulkhead.try_acquire(1).unwrap();
        let error = service.ready().await.unwrap().call(7).await.unwrap_err();
        let error = error.downcast::<Error<Oops>>().unwrap();
        assert!(matches!(
            error.refusal(),
            Some(Refusal::BulkheadFull { .. })
        ));
    })
    .await;
}

#[tokio::test]
async fn above_a_buffer_many_callers_share_one_worker() {
    bounded(async {
        let pipeline = Pipeline::builder("above")
            .timeout(PATIENCE)
            .retry(Retry::builder().backoff(Backoff::none()))
            .bulkhead(Bulkhead::builder().max_concurrent(2).max_queue(64))
            .build()
            .unwrap();
        // Not `Clone`: the buffer is what makes it so. Each request fails the first time.
        let mut seen = HashSet::new();
        let inner =
            service_fn(move |n: u32| ready(if seen.insert(n) { Err(Oops(n)) } else { Ok(n) }));
        let service = ServiceBuilder::new()
            .layer(pipeline.layer().boxed())
            .buffer(1)
            .service(inner);
        let calls: Vec<_> = (0..16)
            .map(|n| tokio::spawn(service.clone().oneshot(n)))
            .collect();
        for (n, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap().unwrap(), n);
        }
    })
    .await;
}

#[tokio::test]
async fn above_a_concurrency_limit_every_call_gets_its_turn() {
    bounded(async {
        let pipeline = Pipeline::builder("above")
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let service = ServiceBuilder::new()
            .layer(pipeline.layer())
            .concurrency_limit(1)
            .service(echo());
        let calls: Vec<_> = (0..16)
            .map(|n| tokio::spawn(service.clone().oneshot(n)))
            .collect();
        for (n, call) in (0_u32..).zip(calls) {
            assert_eq!(call.await.unwrap(), Ok(n));
        }
    })
    .await;
}

/// Its permit is held by an instance from readiness to call: one that is cut short in between
/// must give it back.
#[tokio::test]
async fn a_cut_call_gives_a_concurrency_limit_its_permit_back() {
    bounded(async {
        let pipeline = Pipeline::builder("above")
            .timeout(SECOND / 100)
            .build()
            .unwrap();
        let service = ServiceBuilder::new()
            .layer(pipeline.layer())
            .concurrency_limit(1)
            .service(service_fn(|stuck: bool| async move {
                if stuck {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Oops>(())
            }));
        for _ in 0..3 {
            assert!(
                service
                    .clone()
                    .oneshot(true)
                    .await
                    .unwrap_err()
                    .is_timed_out()
            );
            assert_eq!(service.clone().oneshot(false).await, Ok(()));
        }
    })
    .await;
}

#[tokio::test]
async fn load_shed_above_sheds_nothing_and_below_is_an_error_to_retry() {
    bounded(async {
        let (bulkhead, pipeline) = full();
        let above = ServiceBuilder::new()
            .load_shed()
            .layer(pipeline.layer())
            .service(echo());
        assert_eq!(above.clone().oneshot(7).await.unwrap(), 7);
        let held = bulkhead.try_acquire(1).unwrap();
        // Our service is always ready: it is the bulkhead that refuses, with its own words.
        let error: BoxError = above.clone().oneshot(7).await.unwrap_err();
        assert!(error.downcast::<Error<Oops>>().unwrap().refusal().is_some());
        drop(held);
        let retry = Retry::builder().backoff(Backoff::none()).max_attempts(2);
        let below = ServiceBuilder::new()
            .layer(retry.into_layer().unwrap().boxed())
            .load_shed()
            .concurrency_limit(1)
            .service(service_fn(|()| std::future::pending::<Result<(), Oops>>()));
        let mut busy = crate::support::Stepped::new(below.clone().oneshot(()));
        assert!(busy.poll().is_pending());
        let error = below.clone().oneshot(()).await.unwrap_err();
        let error = error.downcast::<Error<BoxedError>>().unwrap();
        assert_eq!(error.attempts(), 2);
        assert!(
            error
                .into_last()
                .unwrap()
                .0
                .is::<tower::load_shed::error::Overloaded>()
        );
    })
    .await;
}

/// `ServiceBuilder`'s first layer is the outermost, as the pipeline's first policy is.
#[tokio::test]
async fn layers_stand_in_the_order_of_the_service_builder() {
    bounded(async {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let inner = service_fn(move |()| {
            counted.fetch_add(1, Ordering::SeqCst);
            ready(Err::<u32, _>(Oops(7)))
        });
        let eager = || {
            Retry::builder()
                .backoff(Backoff::none())
                .into_layer()
                .unwrap()
        };
        let rescue = || Fallback::value(0).into_layer().unwrap();
        let last_resort = ServiceBuilder::new()
            .layer(rescue())
            .layer(eager())
            .service(inner.clone());
        assert_eq!(last_resort.oneshot(()).await, Ok(0));
        assert_eq!(calls.swap(0, Ordering::SeqCst), 3);
        let first_aid = ServiceBuilder::new()
            .layer(eager())
            .layer(rescue())
            .service(inner);
        assert_eq!(first_aid.oneshot(()).await, Ok(0));
        assert_eq!(calls.swap(0, Ordering::SeqCst), 1);
    })
    .await;
}

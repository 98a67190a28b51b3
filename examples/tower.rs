//! One pipeline as a layer: around an axum router, and around an HTTP client.
//!
//! ```text
//! cargo run --example tower
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::routing::get;
use mainstay::Error;
use mainstay::observe::Event;
use mainstay::prelude::*;
use mainstay::retry::Verdict;
use reqwest::{Client, Method, Request, Response};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

type Failure = Box<dyn std::error::Error>;

/// Two calls at once, and none longer than 50 ms; what is more is answered, not dropped.
fn server() -> Result<Router, mainstay::ConfigError> {
    let protection = Pipeline::builder("server")
        .bulkhead(2)
        .timeout(Duration::from_millis(50))
        .build()?;
    let asked = Arc::new(AtomicU32::new(0));
    let third_time_lucky = move || {
        let n = asked.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            match n {
                1 => Err(StatusCode::BAD_GATEWAY),
                2 => std::future::pending().await,
                n => Ok(format!("answer {n}")),
            }
        }
    };
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(answer_for))
        .layer(protection.layer_once());
    Ok(Router::new()
        .route("/", get(third_time_lucky))
        .layer(layers))
}

async fn answer_for<E>(error: Error<E>) -> StatusCode {
    match error {
        Error::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Server errors are tried again, and connections that could not be made.
fn verdict(result: Result<&Response, &Error<reqwest::Error>>) -> Verdict {
    match result {
        Ok(response) if response.status().is_server_error() => Verdict::Retry,
        Err(Error::Operation { error, .. }) if error.is_connect() => Verdict::Retry,
        _ => Verdict::Stop,
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?).parse()?;
    let router = server()?;
    tokio::spawn(async move { axum::serve(listener, router).await });

    let retry = Retry::builder()
        .backoff(Backoff::exponential(Duration::from_millis(20)))
        .classify(verdict);
    let calls = Pipeline::builder("calls")
        .observe(|event: &Event<'_>| println!("  {event}"))
        .timeout(Duration::from_secs(1))
        .retry(retry)
        .circuit_breaker(CircuitBreaker::builder())
        .build()?;
    // A request is copied for each attempt; one whose body is a stream is sent once.
    let mut client = ServiceBuilder::new()
        .layer(calls.layer_with(Request::try_clone))
        .service(Client::builder().no_proxy().build()?);

    println!("A server that fails, hangs and then answers:");
    let request = Request::new(Method::GET, url);
    let response = client.ready().await?.call(request).await?;
    println!("{}: {}", response.status(), response.text().await?);
    Ok(())
}

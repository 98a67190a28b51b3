//! The two clients: a plain one, and the same one behind a pipeline.

use std::time::Duration;

use mainstay::circuit_breaker::{CountAs, Window};
use mainstay::prelude::*;
use mainstay::retry::Verdict;
use mainstay::{ConfigError, Error};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt};

/// How long a caller waits, with either client.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) type CallError = Error<reqwest::Error>;

/// What both clients are.
pub(crate) trait Shopper:
    Service<Request, Response = Response, Error = CallError, Future: Send> + Clone + Send + 'static
{
}

impl<S> Shopper for S where
    S: Service<Request, Response = Response, Error = CallError, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// A plain client: keeps connections alive and has a time limit for the whole request.
pub(crate) fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().timeout(PATIENCE).build()
}

/// The same error as through the pipeline, for the client alone.
pub(crate) fn plain() -> reqwest::Result<impl Shopper> {
    Ok(client()?.map_err(Error::operation))
}

/// What the pipeline puts around the client, outermost first.
pub(crate) fn pipeline() -> Result<impl Layer<Client, Service: Shopper>, ConfigError> {
    // Opens when half of the latest second's requests have failed, and looks again soon.
    let breaker = CircuitBreaker::builder()
        .window(Window::time(Duration::from_secs(1)))
        .open_for(Duration::from_millis(500))
        .classify_ok(health);
    // A healthy server has ten of our requests at a time.
    let bulkhead = Bulkhead::builder()
        .max_concurrent(24)
        .max_wait(Duration::from_millis(500));
    let pipeline = Pipeline::builder("shop")
        .timeout(PATIENCE)
        .retry(Retry::builder().max_attempts(4).classify_ok(verdict))
        .circuit_breaker(breaker)
        .rate_limit(RateLimiter::per_second(150).burst(20))
        .bulkhead(bulkhead)
        .timeout(Duration::from_secs(1))
        .build()?;
    Ok(pipeline.layer_with(Request::try_clone))
}

/// Which answers to try again: a `503`, when the server says.
fn verdict(response: &Response) -> Verdict {
    match response.status() {
        StatusCode::SERVICE_UNAVAILABLE => {
            retry_after(response).map_or(Verdict::Retry, Verdict::RetryAfter)
        }
        _ => Verdict::Stop,
    }
}

/// Which answers count as a failure of the server.
fn health(response: &Response) -> CountAs {
    if response.status().is_server_error() {
        CountAs::Failure
    } else {
        CountAs::Success
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

//! The two clients, and the load that both get.

use std::time::Duration;

use indicatif::ProgressBar;
use mainstay::circuit_breaker::{self, Classify as _, Window};
use mainstay::policy::End;
use mainstay::prelude::*;
use mainstay::retry::{self, Classify as _, Verdict};
use mainstay::{ConfigError, Error};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, Request, Response, StatusCode, Url};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use tower::{Layer, Service, ServiceExt};

use crate::server::{PLAN_END, fault};

/// How long a caller waits, with either client.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// Calls start at fixed times, whether or not earlier ones have ended: as customers do.
const BETWEEN_CALLS: Duration = Duration::from_millis(10);
/// So soon, a caller can still turn to something else.
const AT_ONCE: Duration = Duration::from_millis(100);

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
    let breaker = CircuitBreaker::builder()
        .window(Window::time(Duration::from_secs(1)))
        .open_for(Duration::from_millis(500))
        .build()?;
    let bulkhead = Bulkhead::builder()
        .max_concurrent(24)
        .max_wait(Duration::from_millis(500));
    let pipeline = Pipeline::builder("shop")
        .timeout(PATIENCE)
        .retry(Retry::builder().max_attempts(4).classify(verdict))
        .circuit_breaker(breaker.classify(health))
        .rate_limit(RateLimiter::per_second(150).burst(20))
        .bulkhead(bulkhead)
        .timeout(Duration::from_secs(1))
        .build()?;
    Ok(pipeline.layer_with(Request::try_clone))
}

/// Whether to try again: as by default, and after a `503`, when the server says.
fn verdict(result: Result<&Response, &CallError>) -> Verdict {
    match result {
        Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
            retry_after(response).map_or(Verdict::Retry, Verdict::RetryAfter)
        }
        other => retry::Failures.classify(other),
    }
}

/// What counts as a failure of the server: as by default, and answers of `500` and more.
fn health(result: Result<&Response, &CallError>) -> End {
    match result {
        Ok(response) if response.status().is_server_error() => End::Failure,
        other => circuit_breaker::Failures.classify(other),
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    /// A policy said no at once, and nothing was sent.
    RefusedAtOnce,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it was due, from the start of the run.
    pub(crate) at: Duration,
    /// How long after that its caller knew the outcome.
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

/// How many calls a run makes.
pub(crate) fn calls() -> u32 {
    u32::try_from(PLAN_END.as_millis() / BETWEEN_CALLS.as_millis()).unwrap_or(u32::MAX)
}

/// Makes every call of a run, and waits for all of them.
pub(crate) async fn load(
    client: impl Shopper,
    url: &Url,
    start: Instant,
    bar: &ProgressBar,
) -> Vec<Record> {
    // A late tick does not move the later ones: what is due is due.
    let mut ticks = interval_at(start, BETWEEN_CALLS);
    let mut running = JoinSet::new();
    for _ in 0..calls() {
        let due = ticks.tick().await;
        let at = due.duration_since(start);
        let call = client
            .clone()
            .oneshot(Request::new(Method::GET, url.clone()));
        running.spawn(async move {
            let outcome = outcome(call.await, due).await;
            let took = due.elapsed();
            Record { at, took, outcome }
        });
        bar.set_message(fault(at).name());
        bar.inc(1);
    }
    bar.set_message("last answers");
    running.join_all().await
}

/// Reads the answer, which is part of the call.
async fn outcome(result: Result<Response, CallError>, due: Instant) -> Outcome {
    let answer = match result {
        Ok(response) => response.error_for_status(),
        Err(Error::Refused { attempts: 0, .. }) if due.elapsed() < AT_ONCE => {
            return Outcome::RefusedAtOnce;
        }
        Err(_) => return Outcome::Failed,
    };
    let Ok(answer) = answer else {
        return Outcome::Failed;
    };
    match answer.bytes().await {
        Ok(_) => Outcome::Succeeded,
        Err(_) => Outcome::Failed,
    }
}

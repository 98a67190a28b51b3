//! One client for all requests: what is sent, and what comes back within its limits.

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind::InvalidData, ErrorKind::InvalidInput};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};
use super::failure::{failure, words};
use super::reply::Raw;
use super::reuse::{ReuseLayer, Server};
use crate::time::{Instant, Timer, now};

/// Idle connections are closed before the service closes them, so that a request rarely meets
/// one that is being closed.
const IDLE_TIME: Duration = Duration::from_secs(45);

/// The most idle connections to a host.
const MOST_IDLE: usize = 256;

/// Sends requests.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    pub(super) client: Client,
    reuse: ReuseLayer,
    most_bytes: usize,
}

/// Why no reply came, in words without an address: an address may hold a secret.
#[derive(Debug)]
pub(super) struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

impl Transport {
    /// A client that goes where it is told: no redirects, no proxies of the environment, no
    /// repeats.
    pub(super) fn new(connect_limit: Duration, most_bytes: usize) -> Result<Self, reqwest::Error> {
        let reuse = ReuseLayer::default();
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(connect_limit)
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(MOST_IDLE)
            .http1_only()
            .connector_layer(reuse.clone())
            .user_agent(concat!("mainstay/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            reuse,
            most_bytes,
        })
    }

    /// Sends a request and reads its reply, all within a limit.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Raw, SessionError> {
        let request = request.build().map_err(not_sent)?;
        let server = Server::of(request.url());
        let exchange = async {
            let sent = self.client.execute(request);
            let sent = self.reuse.call(server.clone(), sent).await;
            self.receive(sent.map_err(not_sent)?, server).await
        };
        match within(limit, exchange).await {
            Some(result) => result,
            None => Err(too_slow(limit)),
        }
    }

    async fn receive(&self, mut response: Response, server: Server) -> Result<Raw, SessionError> {
        let mut raw = Raw {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body: Vec::new(),
        };
        let told = response.content_length().unwrap_or(0);
        let broken = if told > self.most_bytes as u64 {
            Some(self.too_long())
        } else {
            self.read_body(&mut response, &mut raw.body).await.err()
        };
        if broken.is_none() {
            self.reuse.ended(server, &raw.headers);
        }
        match broken {
            // Of a failure the status says enough.
            Some(error) if raw.status < 400 => Err(error.with_status(raw.status)),
            _ => Ok(raw),
        }
    }

    async fn read_body(
        &self,
        response: &mut Response,
        body: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        while let Some(chunk) = response.chunk().await.map_err(cut_off)? {
            if body.len() + chunk.len() > self.most_bytes {
                return Err(self.too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    }

    fn too_long(&self) -> SessionError {
        let message = format!("the answer is longer than {} bytes", self.most_bytes);
        failure(Kind::Protocol, Effect::Unknown, &message)
    }
}

/// No reply came: nothing was sent if there was no connection, else nobody knows.
fn not_sent(error: reqwest::Error) -> SessionError {
    if error.is_builder() {
        broken(Effect::None, "the request could not be built", error)
    } else if error.is_connect() {
        broken(Effect::None, "no connection to the service", error)
    } else {
        failed("the connection broke before the answer", error)
    }
}

/// A reply began and did not end.
fn cut_off(error: reqwest::Error) -> SessionError {
    failed("the connection broke inside of the answer", error)
}

/// What came was not HTTP, or else nothing more came.
fn failed(message: &str, error: reqwest::Error) -> SessionError {
    if is_not_http(&error) {
        let cause = cause(&error.without_url());
        let message = format!("the answer is not HTTP: {cause}");
        failure(Kind::Protocol, Effect::Unknown, &message).with_source(cause)
    } else {
        broken(Effect::Unknown, message, error)
    }
}

fn broken(effect: Effect, message: &str, error: reqwest::Error) -> SessionError {
    let cause = cause(&error.without_url());
    failure(Kind::Connection, effect, &format!("{message}: {cause}")).with_source(cause)
}

/// Whether what came made no sense: a head that cannot be read, or a piece of a body.
fn is_not_http(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(StdError::source(error), |cause| (*cause).source());
    causes.any(|cause| {
        let is_head = cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse);
        let is_piece = cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| matches!(error.kind(), InvalidData | InvalidInput));
        is_head || is_piece
    })
}

fn too_slow(limit: Duration) -> SessionError {
    let message = format!("no answer within {limit:?}");
    failure(Kind::Connection, Effect::Unknown, &message)
}

/// The innermost of the reasons: the others say that there is one.
fn cause(error: &(dyn StdError + 'static)) -> Cause {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Cause(words(&innermost.to_string()))
}

/// Drives a future for so long; `None` when it took longer. The future is dropped here, and
/// with it the connection of a reply that was not read to its end.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let until = now().saturating_add(limit);
    let mut timer = Timer::new();
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.poll_until(until, cx).map(|()| None),
    })
    .await
}

/// Waits until then.
pub(super) async fn sleep(until: Instant) {
    let mut timer = Timer::new();
    poll_fn(|cx| timer.poll_until(until, cx)).await;
}

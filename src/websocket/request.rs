//! What is to be sent, and the wait for what comes of it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::Client;
use super::error::{RpcError, RpcErrorKind};
use super::shared::Body;
use super::table::Wants;
use crate::{Error, Resilient};

/// A call that is to be made; await it for the reply.
///
/// Nothing happens before. It holds a handle of the client, so that it can be moved into a
/// task.
#[must_use = "a call does nothing unless awaited"]
pub struct Request<T> {
    pub(super) send: Outbound,
    pub(super) is_repeatable: bool,
    pub(super) reply: PhantomData<fn() -> T>,
}

/// A notification that is to be sent; await it until it is handed to the socket.
#[must_use = "a notification does nothing unless awaited"]
pub struct Notify {
    pub(super) send: Outbound,
}

/// The frame of both, but for its end: the id is given when it takes its place.
pub(super) struct Outbound {
    client: Client,
    body: Result<Body, RpcError>,
    limit: Duration,
}

/// A reply on its way, as a boxed future.
pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, Error<RpcError>>> + Send>>;

impl<T> Request<T> {
    /// Limits the time of this call, in place of the client's `call_timeout`.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.send.limit = limit;
        self
    }

    /// Lets this call be sent again after a lost connection, within its time limit and
    /// [`max_attempts`](super::ClientBuilder::max_attempts): only for what may be done twice.
    pub fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }
}

impl Notify {
    /// Limits the time of this one, in place of the client's `call_timeout`.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.send.limit = limit;
        self
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for Request<T> {
    type Output = Result<T, Error<RpcError>>;
    type IntoFuture = Reply<T>;

    fn into_future(self) -> Reply<T> {
        Box::pin(async move {
            let reply = self.send.run(Wants::Reply, self.is_repeatable).await?;
            serde_json::from_value(reply).map_err(|error| {
                let error = RpcError::new(RpcErrorKind::BadReply, &error.to_string());
                Error::operation(error)
            })
        })
    }
}

impl IntoFuture for Notify {
    type Output = Result<(), Error<RpcError>>;
    type IntoFuture = Reply<()>;

    fn into_future(self) -> Reply<()> {
        Box::pin(async move { self.send.run(Wants::Dispatch, false).await.map(drop) })
    }
}

impl Outbound {
    pub(super) fn new(client: &Client, method: &str, params: &impl Serialize) -> Self {
        let settings = &client.handle.shared.settings;
        Self {
            client: client.clone(),
            body: encode(method, params, settings.max_message_size),
            limit: settings.call_timeout,
        }
    }

    async fn run(self, wants: Wants, is_repeatable: bool) -> Result<Value, Error<RpcError>> {
        let handle = &*self.client.handle;
        let body = self.body.map_err(not_started)?;
        let _counted = handle.calls.enter().map_err(Error::refused)?;
        // Also for a call that is to be refused while there is no connection.
        handle.shared.start().map_err(Error::refused)?;
        let attempt = || self.client.attempt(Arc::clone(&body), wants);
        let done = if is_repeatable {
            let repeated = attempt.retry(&handle.retry).bulkhead(&handle.bulkhead);
            repeated.timeout(self.limit).await
        } else {
            // A bare future: it cannot be started twice.
            let once = attempt().bulkhead(&handle.bulkhead);
            once.timeout(self.limit).await
        };
        done.map_err(|error| self.client.explain(error))
    }
}

fn not_started(error: RpcError) -> Error<RpcError> {
    Error::operation(error)
}

/// All of the frame but its id and its end.
fn encode(method: &str, params: &impl Serialize, limit: usize) -> Result<Body, RpcError> {
    let bad =
        |error: serde_json::Error| RpcError::new(RpcErrorKind::BadRequest, &error.to_string());
    let method = serde_json::to_string(method).map_err(bad)?;
    let params = serde_json::to_string(params).map_err(bad)?;
    let mut body = format!("{{\"jsonrpc\":\"2.0\",\"method\":{method}");
    match params.as_bytes().first() {
        Some(b'[' | b'{') => {
            body.push_str(",\"params\":");
            body.push_str(&params);
        }
        _ if params == "null" => {}
        _ => {
            let what = "parameters are a list or an object";
            return Err(RpcError::new(RpcErrorKind::BadRequest, what));
        }
    }
    if body.len() + LONGEST_END > limit {
        let what = format!("{} bytes, of {limit} that may be", body.len());
        return Err(RpcError::new(RpcErrorKind::TooLarge, &what));
    }
    Ok(body.into())
}

/// `,"id":18446744073709551615}`
const LONGEST_END: usize = 27;

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("limit", &self.send.limit)
            .field("is_repeatable", &self.is_repeatable)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify")
            .field("limit", &self.send.limit)
            .finish_non_exhaustive()
    }
}

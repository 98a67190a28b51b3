//! A client's handles.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::builder::ClientBuilder;
use super::error::{RpcError, RpcErrorKind};
use super::notifications::Notifications;
use super::request::{Notify, Outbound, Request};
use super::shared::{Body, Shared, Standing};
use super::snapshot::Snapshot;
use super::table::Wants;
use crate::classify::{Classify, Decision};
use crate::retry::{Backoff, Verdict};
use crate::scope::Tracker;
use crate::time::now;
use crate::{Bulkhead, Error, Resilient, Retry};

/// A JSON-RPC 2.0 client over one WebSocket, which is made anew whenever it is lost.
///
/// A clone is the same client. One task owns the socket; any number of callers send through it
/// at once and get their own reply, in whatever order the replies come. Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `call_timeout` | 30 s | a lost reply must not hold a caller for good |
/// | `max_in_flight` | 256 | bounds memory here and work at the server |
/// | `max_waiting` | as `max_in_flight` | absorbs a burst; a longer queue is only latency |
/// | `max_message_size` | 4 MiB | a line of 1 MiB fits, also where half of it is escaped |
/// | `notification_buffer` | 256 | a reader may pause; then it is told what it missed |
/// | while there is no connection | calls wait | a restart of the server is no failure |
/// | `max_attempts` | 3 | of a call that is marked as repeatable; every other is sent once |
/// | `connect_timeout` | 10 s | two lost packets, and a slow upgrade |
/// | `ping_interval` | 20 s | below the idle limit of common proxies (60 s) |
/// | `pong_timeout` | 10 s | so a dead peer is known after 30 s |
/// | `write_timeout` | 30 s | as long as a dead peer takes to be known |
/// | `backoff` | exponential, 500 ms to 30 s, full jitter | a server that restarts is not stormed |
/// | `stable_after` | 10 s | a connection that dies sooner is no sign of health |
/// | `close_timeout` | 5 s | a peer that does not answer must not hold a shutdown |
///
/// # Errors
///
/// [`Error::TimedOut`] after the call's time limit, wherever it was by then: waiting for its
/// turn, for the connection, or for the reply: it may have been carried out, unless the error
/// says that there was no connection. [`Error::Refused`] by a full bulkhead, outside
/// of a runtime, and in a shutdown. [`Error::Operation`] with an [`RpcError`] for the rest.
///
/// # What is lost with a connection
///
/// A call whose request has gone out fails, once, with [`RpcErrorKind::Lost`]: it may have been
/// carried out, so it is not sent again, unless it is marked as
/// [repeatable](Request::repeatable). A call that has not been sent waits for the next
/// connection.
///
/// # Bad input
///
/// | what comes | what follows |
/// |---|---|
/// | a reply with an id that nobody waits for | counted: late, duplicate or unknown |
/// | a reply with neither or both of result and error | [`RpcErrorKind::BadReply`] for its call |
/// | a result of another type than the caller's | [`RpcErrorKind::BadReply`] for its call |
/// | text that is not JSON, binary, a message of no kind | counted as malformed |
/// | a batch | taken apart; each part is looked at as above |
/// | a request of the server's | counted; it gets no answer |
/// | a frame against the WebSocket protocol, text that is not UTF-8, a message too large | the connection ends |
/// | an answer to the upgrade that is none, such as a page of HTML | the attempt to connect fails |
///
/// # Memory
///
/// At most `max_in_flight` requests and as many replies, each up to `max_message_size`; one
/// message in the socket's buffer in each direction; and, for the slowest reader of
/// [`notifications`](Self::notifications), `notification_buffer` of them, each of that size at
/// most: 1 GiB by default from a server that means ill. Lower both for one that is not trusted.
/// What was read takes more than its text: up to 16 times as much for a list of many small things.
///
/// # Cancel safety
///
/// A call can be dropped at any point: it leaves the table of pending calls at once, is not
/// sent if it was not yet, and its late reply is counted and goes to nobody. When the last
/// handle and the last call are dropped, the owner of the socket says good-bye to the peer
/// and ends.
///
/// # Runtimes
///
/// The socket lives in the runtime of the first call, or of [`connect`](Self::connect). When
/// that one ends, calls fail as with a lost connection, and the next call takes the socket
/// into its own. TLS (`wss://`) works where the program switches on a TLS feature of
/// `tokio-tungstenite`; else the attempt to connect says so.
///
/// # Examples
///
/// ```
/// use mainstay::websocket::{Client, RpcErrorKind};
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder("ws://127.0.0.1:8765/").build()?;
/// let (sum, product): (i64, i64) = tokio::try_join!(
///     client.call("add", [2, 3]),
///     client.call("multiply", [2, 3]).repeatable(),
/// )?;
/// assert_eq!((sum, product), (5, 6));
///
/// let error = client.call::<i64>("divide", [1, 0]).await.unwrap_err();
/// if let Some(RpcErrorKind::Server { code }) = error.last().map(|error| error.kind()) {
///     println!("refused: {code}");
/// }
/// client.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(super) handle: Arc<Handle>,
}

/// What all clones share. Its end is the client's.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) calls: Tracker,
    pub(super) bulkhead: Bulkhead,
    pub(super) retry: Retry<Backoff, OnlyLost>,
}

/// How a [`close`](Client::close) went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Whether the peer has answered the good-bye, or there was no connection.
    pub graceful: bool,
    /// How many calls it cut short.
    pub failed: usize,
}

impl Client {
    /// A client of the server at this `ws://` or `wss://` address, with every default.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url)
    }

    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle: Arc::new(handle),
        }
    }

    /// Waits until there is a connection. A call does so by itself: this is for a program that
    /// wants to know early.
    ///
    /// # Errors
    ///
    /// [`RpcErrorKind::NotConnected`] after the first attempt that fails from now on; the
    /// client goes on trying. [`Error::TimedOut`] after the `call_timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the wait, and not the connecting.
    pub async fn connect(&self) -> Result<(), Error<RpcError>> {
        let shared = &self.handle.shared;
        shared.start().map_err(Error::refused)?; // outside of a runtime there is no timer either
        let limit = shared.settings.call_timeout;
        self.connected().timeout(limit).await
    }

    async fn connected(&self) -> Result<(), RpcError> {
        let shared = &self.handle.shared;
        let mut changes = shared.watch();
        let mut failures = None;
        loop {
            // Whoever has owned it so far may have ended with its runtime.
            let _ = shared.start();
            match (shared.standing(), failures) {
                (Standing::Up, _) => return Ok(()),
                (Standing::Closed, _) => return Err(closed()),
                (Standing::Not(now, why), Some(before)) if now > before => {
                    return Err(why.unwrap_or_else(closed));
                }
                (Standing::Not(now, _), _) => failures = failures.or(Some(now)),
            }
            // An error would mean that the client is gone, and it is borrowed.
            let _ = changes.changed().await;
        }
    }

    /// Calls a method; await it for the reply. `params` become a list or an object; `()` sends
    /// none.
    ///
    /// # Errors
    ///
    /// See the [type's text](Self).
    ///
    /// # Cancel safety
    ///
    /// See the [type's text](Self).
    ///
    /// # Examples
    ///
    /// ```
    /// # use mainstay::websocket::Client;
    /// use serde_json::{Value, json};
    /// use std::time::Duration;
    ///
    /// # async fn f(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let reply: Value = client
    ///     .call("execute", json!({"command": "make test"}))
    ///     .timeout(Duration::from_secs(600))
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn call<T: DeserializeOwned>(&self, method: &str, params: impl Serialize) -> Request<T> {
        Request {
            send: Outbound::new(self, method, &params),
            is_repeatable: false,
            reply: PhantomData,
        }
    }

    /// Tells the server something that it does not answer; await it until it is handed to the
    /// socket.
    ///
    /// # Errors
    ///
    /// As a call, as far as that goes: there is no telling whether it has arrived.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is handed over, it is not sent.
    pub fn notify(&self, method: &str, params: impl Serialize) -> Notify {
        Notify {
            send: Outbound::new(self, method, &params),
        }
    }

    /// What the server says of its own accord from now on. Each reader has a stream of its own;
    /// see [`Notifications`].
    #[must_use]
    pub fn notifications(&self) -> Notifications {
        self.handle.shared.subscribe()
    }

    /// The connection and the calls now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.handle.shared.snapshot()
    }

    /// Closes the client, of all handles, for good: calls under way fail at once with
    /// [`RpcErrorKind::Closed`], and the peer has `close_timeout` to answer the good-bye.
    ///
    /// # Cancel safety
    ///
    /// Closed is closed, from its first poll on: dropping it only ends the wait.
    pub async fn close(&self) -> Closed {
        let failed = self.handle.shared.close();
        let graceful = self.parted().await;
        Closed { graceful, failed }
    }

    /// The owner keeps to the limit by itself; this is for one that cannot run.
    async fn parted(&self) -> bool {
        let shared = &self.handle.shared;
        if tokio::runtime::Handle::try_current().is_err() {
            return !shared.is_owned();
        }
        let limit = shared.settings.close_timeout.saturating_mul(2);
        let ended = async {
            self.disowned().await;
            Ok::<_, RpcError>(())
        };
        ended.timeout(limit).await.is_ok() && shared.is_parted()
    }

    async fn disowned(&self) {
        let mut changes = self.handle.shared.watch();
        while self.handle.shared.is_owned() {
            let _ = changes.changed().await;
        }
    }

    /// Sends it once, and waits for the answer.
    pub(super) async fn attempt(
        &self,
        body: Body,
        wants: Wants,
    ) -> Result<serde_json::Value, RpcError> {
        let shared = &self.handle.shared;
        let started = now();
        let (slot, answer) = oneshot::channel();
        let _waiting = shared.begin(body, wants, slot)?;
        let answer = answer.await.unwrap_or_else(|_| Err(closed()));
        answer.map_err(|error| error.took(now().since(started)))
    }

    /// A call that timed out without a connection says what is wrong with that.
    pub(super) fn explain(&self, error: Error<RpcError>) -> Error<RpcError> {
        let is_bare = matches!(&error, Error::TimedOut { last: None, .. });
        match self.handle.shared.standing() {
            Standing::Not(_, Some(why)) if is_bare => {
                let message = why.message();
                let why = RpcError::new(RpcErrorKind::NotConnected, message);
                error.after(crate::Progress::new(0, Some(why)))
            }
            _ => error,
        }
    }
}

fn closed() -> RpcError {
    RpcError::new(RpcErrorKind::Closed, "closed")
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

/// What a repeatable call is sent again after: the loss of the connection that it was sent on.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnlyLost;

impl<T> Classify<T, RpcError, Verdict> for OnlyLost {
    fn classify(&self, result: Result<&T, &Error<RpcError>>) -> Verdict {
        match result {
            Err(Error::Operation { error, .. }) if error.kind() == RpcErrorKind::Lost => {
                Verdict::FAILED
            }
            _ => Verdict::ANSWERED,
        }
    }
}

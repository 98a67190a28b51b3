//! One connection: how it is made, what is known of it, when it is not to be used any more.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use super::bound::{Fault, ReplyBound};
use super::job::Extent;
use super::redial::Redial;
use super::stats::Counters;
use super::{Effect, RedisError, RedisErrorKind};
use crate::time::{Instant, now};
use crate::{Error, Resilient};

/// What every connection to one database is made with.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) info: ConnectionInfo,
    pub(super) limit: Duration,
    pub(super) max_reply: u64,
    pub(super) redial: Arc<Mutex<Redial>>,
    pub(super) counters: Arc<Counters>,
}

impl Dial {
    /// Connects, unless there is a pause; within its time limit.
    pub(super) async fn connect(&self) -> Result<Wire, RedisError> {
        self.redial().ask(now())?;
        let opened = self.connect_now().await;
        match &opened {
            Ok(_) => self.redial().connected(now()),
            Err(error) => self.redial().failed(now(), error),
        }
        opened
    }

    fn redial(&self) -> MutexGuard<'_, Redial> {
        locked(&self.redial)
    }

    /// As [`connect`](Self::connect), whatever the pause.
    pub(super) async fn connect_now(&self) -> Result<Wire, RedisError> {
        let begun = now();
        let opened = self.open().timeout(self.limit).await;
        let opened = opened.map_err(|error| match error {
            Error::Operation { error, .. } => error,
            _ => RedisError::new(
                RedisErrorKind::Connection,
                Effect::NotSent,
                "the server did not answer while the connection was set up",
            ),
        });
        self.counters.connected(opened.is_ok());
        opened.map_err(|error| error.after(now().since(begun)))
    }

    async fn open(&self) -> Result<Wire, RedisError> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = tokio::net::TcpStream::connect((host.as_str(), *port));
                let stream = stream.await.map_err(|error| unreachable(&error))?;
                // Without it small commands wait for each other's acknowledgement.
                stream
                    .set_nodelay(true)
                    .map_err(|error| unreachable(&error))?;
                self.set_up(stream).await
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                self.set_up(stream.map_err(|error| unreachable(&error))?)
                    .await
            }
            _ => Err(RedisError::usage("this kind of address is not supported")),
        }
    }

    async fn set_up<S>(&self, stream: S) -> Result<Wire, RedisError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let seen = Arc::new(Seen::default());
        let stream = Metered {
            stream,
            bound: ReplyBound::new(self.max_reply),
            seen: Arc::clone(&seen),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let settings = self.info.redis_settings();
        let made = MultiplexedConnection::new_with_config(settings, stream, config).await;
        let (connection, driver) = made.map_err(|error| match seen.fault.get() {
            Some(fault) => of_fault(*fault).with_effect(Effect::NotSent),
            None => RedisError::unconnected(&error, settings.password()),
        })?;
        Ok(Wire {
            connection,
            driver: tokio::spawn(driver),
            seen,
            born: now(),
            redial: Arc::clone(&self.redial),
            pending: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
        })
    }
}

fn locked(redial: &Mutex<Redial>) -> MutexGuard<'_, Redial> {
    redial.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unreachable(error: &io::Error) -> RedisError {
    let message = format!("cannot connect: {error}");
    RedisError::new(RedisErrorKind::Connection, Effect::NotSent, message)
}

fn of_fault(fault: Fault) -> RedisError {
    let (kind, effect, message) = match fault {
        Fault::TooLarge => (
            RedisErrorKind::ReplyTooLarge,
            Effect::Done,
            "the reply is larger than the limit".to_owned(),
        ),
        Fault::NotRedis(byte) => (
            RedisErrorKind::Protocol,
            Effect::Unknown,
            format!(
                "this is no Redis server: a reply began with {:?}",
                char::from(byte)
            ),
        ),
        Fault::Malformed => (
            RedisErrorKind::Protocol,
            Effect::Unknown,
            "this is no Redis server: a length in a reply is no number".to_owned(),
        ),
    };
    RedisError::new(kind, effect, message)
}

/// A connection. It is closed when this is dropped.
pub(super) struct Wire {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    seen: Arc<Seen>,
    born: Instant,
    redial: Arc<Mutex<Redial>>,
    /// Commands without an answer, those that were given up included; not counted while it is
    /// shared.
    pending: AtomicUsize,
    given_up: AtomicBool,
}

impl Wire {
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Whether it is not to be used any more.
    pub(super) fn is_dead(&self) -> bool {
        self.driver.is_finished() || self.given_up.load(Ordering::Relaxed)
    }

    /// Gives it up: nobody else is to use it.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// It was found dead, and another will be made: not at once again and again. One that was
    /// given up, or closed for the size of a reply, says nothing against the next.
    pub(super) fn buried(&self) {
        let is_too_large = self.seen.fault.get() == Some(&Fault::TooLarge);
        if self.driver.is_finished() && !is_too_large {
            locked(&self.redial).died(self.born, now());
        }
    }

    /// How many bytes have come so far.
    pub(super) fn received(&self) -> u64 {
        self.seen.received.load(Ordering::Relaxed)
    }

    /// Whether nothing is under way on it.
    pub(super) fn is_quiet(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }

    /// Something is sent. Dropped before its [end](Sent::answered) it was given up; when
    /// nothing at all was received for `patience`, while this or others before it waited, so
    /// is the wire.
    pub(super) fn sent(&self, patience: Duration) -> Sent<'_> {
        self.sends(patience, false)
    }

    /// As [`sent`](Self::sent), by one who has the wire for itself.
    pub(super) fn sent_alone(&self) -> Sent<'_> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.sends(Duration::MAX, true)
    }

    fn sends(&self, patience: Duration, is_counted: bool) -> Sent<'_> {
        let since = now();
        self.seen.asked(since);
        Sent {
            wire: self,
            is_counted,
            since,
            patience,
            is_over: false,
        }
    }

    /// What the library's error means on this wire.
    pub(super) fn error(&self, error: &::redis::RedisError, extent: Extent) -> RedisError {
        match self.seen.fault.get() {
            // It hears of the connection's end only, and not whose reply it was; nor does anyone
            // know how far it has come.
            Some(fault) if extent == Extent::Batch => of_fault(*fault).with_effect(Effect::Unknown),
            // The first in line is the one whose reply it was; to the others the connection
            // was lost.
            Some(fault) if !error.is_connection_dropped() => of_fault(*fault),
            _ => RedisError::answered(error, extent),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Something that was sent and has no answer yet.
pub(super) struct Sent<'w> {
    wire: &'w Wire,
    is_counted: bool,
    since: Instant,
    patience: Duration,
    is_over: bool,
}

impl Sent<'_> {
    /// There is an answer, or will never be one.
    pub(super) fn answered<T>(mut self, answer: Result<T, RedisError>) -> Result<T, RedisError> {
        self.is_over = true;
        if self.is_counted {
            self.wire.pending.fetch_sub(1, Ordering::Relaxed);
        }
        answer.map_err(|error| error.after(now().since(self.since)))
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.wire.seen.silence(now()) >= Some(self.patience) {
            self.wire.give_up();
        }
    }
}

/// What the stream has seen, for those who wait.
#[derive(Debug, Default)]
struct Seen {
    received: AtomicU64,
    /// When the first was sent after which nothing was received: its nanoseconds; 0 for none.
    waiting: AtomicU64,
    fault: OnceLock<Fault>,
}

/// Relaxed throughout: these are hints, and each stands for itself.
impl Seen {
    fn asked(&self, now: Instant) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            let now = now.as_nanos().max(1);
            // Another may have been quicker: then it is that one.
            let _first =
                self.waiting
                    .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn heard(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// For how long nothing was received, though something was sent.
    fn silence(&self, now: Instant) -> Option<Duration> {
        match self.waiting.load(Ordering::Relaxed) {
            0 => None,
            since => Some(now.since(Instant::from_nanos(since))),
        }
    }
}

pin_project! {
    /// A stream on which no reply gets larger than its limit.
    struct Metered<S> {
        #[pin]
        stream: S,
        bound: ReplyBound,
        seen: Arc<Seen>,
    }
}

impl<S: AsyncRead> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.seen.fault.get().is_some() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        ready!(this.stream.poll_read(cx, buffer))?;
        let fresh = &buffer.filled()[before..];
        this.seen.heard(fresh.len());
        let Err((whole, fault)) = this.bound.feed(fresh) else {
            return Poll::Ready(Ok(()));
        };
        let _first = this.seen.fault.set(fault);
        buffer.set_filled(before + whole);
        // Nothing at all would mean that the stream has ended.
        Poll::Ready(match whole {
            0 => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(()),
        })
    }
}

impl<S: AsyncWrite> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

//! What the server says of its own accord, as a stream for any number of readers.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde_json::Value;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;

/// Something that the server has said without being asked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Notification {
    /// What it is about.
    pub method: String,
    /// A list, an object, or `Null` where there were none.
    pub params: Value,
}

/// Notifications were missed: this reader was slower than the server by more than the
/// client keeps. It goes on with the oldest that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged {
    missed: u64,
}

impl Lagged {
    /// How many were missed since the last one that was read.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} notifications missed: read faster", self.missed)
    }
}

impl std::error::Error for Lagged {}

type Received = (
    Result<Notification, RecvError>,
    broadcast::Receiver<Notification>,
);

/// A stream of all notifications from the moment it was asked for, over all connections.
///
/// What is said while there is no connection is lost, and nobody can tell how much it was.
/// The stream ends when the client is closed, or its last handle dropped.
///
/// # Cancel safety
///
/// Dropping a wait for the next loses nothing. Dropping the stream gives up what it held.
pub struct Notifications {
    next: ReusableBoxFuture<'static, Received>,
}

impl Notifications {
    pub(super) fn new(receiver: broadcast::Receiver<Notification>) -> Self {
        Self {
            next: ReusableBoxFuture::new(receive(receiver)),
        }
    }

    /// Waits for the next one; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Lagged`] says how many this reader has missed; the next call goes on after them.
    pub async fn recv(&mut self) -> Option<Result<Notification, Lagged>> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Notification, Lagged>>> {
        let (next, receiver) = ready!(self.next.poll(cx));
        self.next.set(receive(receiver));
        Poll::Ready(match next {
            Ok(notification) => Some(Ok(notification)),
            Err(RecvError::Lagged(missed)) => Some(Err(Lagged { missed })),
            Err(RecvError::Closed) => None,
        })
    }
}

async fn receive(mut receiver: broadcast::Receiver<Notification>) -> Received {
    (receiver.recv().await, receiver)
}

impl Stream for Notifications {
    type Item = Result<Notification, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl fmt::Debug for Notifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifications").finish_non_exhaustive()
    }
}

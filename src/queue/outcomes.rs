//! Outcomes as they come: for items whose tickets nobody holds.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::cell::Settled;
use super::ticket::Desk;
use crate::error::Error;

/// The outcomes of all items whose tickets were dropped or [detached](super::Ticket::detach),
/// with their numbers, in the order in which they end; see
/// [`Queue::outcomes`](super::Queue::outcomes).
///
/// It ends when the queue is closed, nothing waits or runs any more, and all was read; it does
/// not wait for outcomes that tickets hold. A queue whose outcomes nobody reads stops when its
/// [bound](super::QueueBuilder::outcomes) is reached; once this is dropped, outcomes are no
/// longer kept and nothing waits for room.
pub struct Outcomes<T, E> {
    desk: Arc<dyn Desk<T, E>>,
    ended: bool,
}

impl<T, E> Outcomes<T, E> {
    pub(super) fn new(desk: Arc<dyn Desk<T, E>>) -> Self {
        Self { desk, ended: false }
    }

    /// The next outcome; `None` when there will be none any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<(u64, Result<T, Error<E>>)> {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Option<(u64, Settled<T, E>)>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = self.desk.poll_outcome(cx);
        if matches!(next, Poll::Ready(None)) {
            self.ended = true;
            self.desk.close_outbox();
        }
        next
    }
}

impl<T, E> Stream for Outcomes<T, E> {
    type Item = (u64, Result<T, Error<E>>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_outcome(cx)
    }
}

impl<T, E> Drop for Outcomes<T, E> {
    fn drop(&mut self) {
        self.desk.close_outbox();
    }
}

impl<T, E> fmt::Debug for Outcomes<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

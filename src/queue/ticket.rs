//! The producer's hold on an item: its outcome, and the ways to end it early.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Owner;
use super::cell::Settled;
use super::shared::Record;
use super::snapshot::Outcome;
use crate::error::Error;
use crate::panics::discard;

/// What tickets and streams need of a queue, whatever its items are.
pub(super) trait Desk<T, E>: Send + Sync {
    /// Hires workers, if work waits for them: what was pushed outside of a runtime.
    fn staff(&self);
    fn cancel(&self, cell: &Record<T, E>);
    fn abort(&self, cell: &Record<T, E>);
    /// Passes an outcome on that nobody holds a ticket for.
    fn pass_on(&self, id: u64, outcome: Settled<T, E>);
    fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Option<(u64, Settled<T, E>)>>;
    fn close_outbox(&self);
}

impl<J, T, E> Desk<T, E> for Owner<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn staff(&self) {
        self.shared.staff();
    }

    fn cancel(&self, cell: &Record<T, E>) {
        match self.shared.withdraw(cell, Outcome::Cancelled) {
            Some(item) => discard(item),
            None => self.shared.ask(std::slice::from_ref(cell)),
        }
    }

    fn abort(&self, cell: &Record<T, E>) {
        match self.shared.withdraw(cell, Outcome::Cancelled) {
            Some(item) => discard(item),
            None => self.shared.stop(std::slice::from_ref(cell)),
        }
    }

    fn pass_on(&self, id: u64, outcome: Settled<T, E>) {
        let unwanted = self.shared.change(|inner, after| {
            inner.keep(id, outcome, after);
            after.unwanted.take()
        });
        drop(unwanted); // its panic is the ticket's owner's
    }

    fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Option<(u64, Settled<T, E>)>> {
        let mut waker = Some(cx.waker().clone());
        let next = self.shared.change(|inner, _| match inner.outbox.take() {
            Some(next) => Poll::Ready(Some(next)),
            None if inner.has_ended() => Poll::Ready(None),
            None => {
                std::mem::swap(&mut inner.outbox.reader, &mut waker);
                Poll::Pending
            }
        });
        self.shared.staff();
        next
    }

    fn close_outbox(&self) {
        let unread = self.shared.change(|inner, _| inner.outbox.close());
        self.shared.staff();
        drop(unread);
    }
}

/// An item that was taken in: a future of its outcome.
///
/// It can be dropped without consequence for the item, as long as another handle is left;
/// see [`Queue`](super::Queue). Where the queue has a stream of
/// [outcomes](super::Queue::outcomes), an outcome that the ticket has not taken goes there;
/// once the stream has ended or was dropped, it is dropped with the ticket. The stream of a
/// closed queue ends without waiting for what tickets hold.
///
/// The outcome is the handler's result, or the [`Error`] that says why there is none:
///
/// | error | what happened |
/// |---|---|
/// | [`Operation`](Error::Operation) | the handler failed |
/// | [`TimedOut`](Error::TimedOut), [`Refused`](Error::Refused) | the pipeline gave up |
/// | [`Panicked`](Error::Panicked) | the handler panicked, or its future |
/// | [`Cancelled`](Error::Cancelled) | it was cancelled, aborted or returned; with 0 attempts it was never begun |
///
/// Attempts are exact. Of a call that was cancelled or panicked the earlier attempts' error
/// is not kept.
///
/// # Panics
///
/// When polled after it was ready.
#[must_use = "a ticket is a future; `detach` it if its outcome is of no interest here"]
pub struct Ticket<T, E> {
    desk: Arc<dyn Desk<T, E>>,
    cell: Record<T, E>,
    taken: bool,
}

impl<T, E> Ticket<T, E> {
    pub(super) fn new(desk: Arc<dyn Desk<T, E>>, cell: Record<T, E>) -> Self {
        Self {
            desk,
            cell,
            taken: false,
        }
    }

    pub(super) fn cell(&self) -> &Record<T, E> {
        &self.cell
    }

    /// The item's number. Later arrivals have higher ones; not every number is used.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.cell.id()
    }

    /// Whether the item has had its outcome.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.cell.is_settled()
    }

    /// Lets the item go its way; its number.
    ///
    /// The item keeps nothing alive: when the last handle of the queue is dropped before it
    /// has ended, it is cancelled, and nobody hears of it. Await
    /// [`drained`](super::Queue::drained) or [`shutdown`](super::Queue::shutdown) first.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn detach(self) -> u64 {
        self.id()
    }

    /// Ends the item early: one that waits is dropped unbegun. One that runs is asked by its
    /// [token](super::Job::token), and its own result counts. In a pipeline that is the result
    /// of the attempt under way; there is no further one, and an item that waits there to be
    /// tried again, or for a permit, ends as cancelled. Where the handler takes no
    /// [`Job`](super::Job) it cannot be asked, and is aborted. To have a waiting item back, see
    /// [`Queue::take_back`](super::Queue::take_back).
    pub fn cancel(&self) {
        self.desk.cancel(&self.cell);
    }

    /// Ends the item here and now: one that runs is dropped before this returns. If it is
    /// being polled on another thread at this moment it is dropped after that poll, and a
    /// result which that poll yields counts.
    pub fn abort(&self) {
        self.desk.abort(&self.cell);
    }
}

impl<T, E> Future for Ticket<T, E> {
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.taken, "polled after it was ready");
        // One that is settled needs no waker.
        let mut waker: Option<Waker> = (!self.is_settled()).then(|| cx.waker().clone());
        if let Some(outcome) = self.cell.collect(&mut waker) {
            self.taken = true;
            return Poll::Ready(outcome);
        }
        self.desk.staff();
        Poll::Pending
    }
}

impl<T, E> Drop for Ticket<T, E> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let (unread, waker) = self.cell.let_go();
        if let Some(outcome) = unread {
            self.desk.pass_on(self.cell.id(), outcome);
        }
        drop(waker);
    }
}

impl<T, E> fmt::Debug for Ticket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("id", &self.id())
            .field("settled", &self.is_settled())
            .finish_non_exhaustive()
    }
}

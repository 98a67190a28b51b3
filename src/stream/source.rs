//! What a guarded stream reads, and who asks for items.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::error::{Error, Progress};
use crate::time::Instant;

/// What asking a source for an item yields.
pub(super) type Polled<S> =
    Poll<Option<Result<<S as Source>::Output, Error<<S as Source>::Error>>>>;

/// What a [`Guarded`](super::Guarded) reads: any stream of results, or one that is opened
/// again. It knows more than a stream: how long it may go on, and that nobody asks for now.
pub trait Source {
    /// An item.
    type Output;
    /// The source's own error.
    type Error;

    /// Asks for an item, as `poll_next`. Whoever asks ends it at `deadline`: no wait is begun
    /// in it that could not end before.
    fn poll_within(self: Pin<&mut Self>, deadline: Instant, cx: &mut Context<'_>) -> Polled<Self>;

    /// Nobody asks for a while: limits on the time of an item stand still.
    fn pause(self: Pin<&mut Self>);

    /// Gives it up before its end; how far it came.
    fn cancel(self: Pin<&mut Self>) -> Progress<Self::Error>;
}

pin_project! {
    /// A stream of results, whose errors are those of an operation.
    #[must_use = "a stream does nothing unless polled"]
    pub struct Flat<S> {
        #[pin]
        stream: S,
    }
}

impl<S> Flat<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream }
    }
}

impl<S, T, E> Source for Flat<S>
where
    S: Stream<Item = Result<T, E>>,
{
    type Output = T;
    type Error = E;

    fn poll_within(self: Pin<&mut Self>, _: Instant, cx: &mut Context<'_>) -> Polled<Self> {
        let item = ready!(self.project().stream.poll_next(cx));
        Poll::Ready(item.map(|item| item.map_err(Error::operation)))
    }

    fn pause(self: Pin<&mut Self>) {}

    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        Progress::started(1)
    }
}

/// One who asks by `next`, and may be dropped: then nobody waits any more.
// The rest is not shared: a future of its own in here would name the item, and a task that
// asks would not be seen to be `Send` (see `Retrying`).
pub(super) struct Asking<'a, S> {
    pub(super) stream: &'a mut S,
    pub(super) pause: fn(&mut S),
}

impl<S> Drop for Asking<'_, S> {
    fn drop(&mut self) {
        (self.pause)(self.stream);
    }
}

impl<S> fmt::Debug for Flat<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flat").finish_non_exhaustive()
    }
}

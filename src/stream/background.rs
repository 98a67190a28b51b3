//! A stream that a task of its own reads ahead.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

use crate::error::{Error, Progress, Refusal};
use crate::panics;

/// A stream that a task of its own reads ahead: see
/// [`Guarded::in_background`](super::Guarded::in_background).
///
/// It is the outermost thing to put around a stream: limits belong further in, where their
/// errors do not nest.
///
/// # Errors
///
/// Those of the source; when it panics, [`Error::Panicked`] as the last item; when the
/// runtime shuts down, [`Error::Cancelled`] as the last item; outside of a runtime
/// [`Error::Refused`] as the only one. An end without an error is the source's own.
///
/// # Cancel safety
///
/// Dropping a `next` loses nothing. Dropping the stream aborts the task: the source is dropped
/// by the runtime when it next awaits, and what was read ahead is lost.
#[must_use = "a stream does nothing unless polled"]
pub struct Background<T, E>(Stage<T, E>);

type Item<T, E> = Result<T, Error<E>>;

enum Stage<T, E> {
    Idle(Pump, Receiver<Item<T, E>>),
    Running(Task, Receiver<Item<T, E>>),
    Over,
}

type Pump = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Aborted when it is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Send + 'static, E: Send + 'static> Background<T, E> {
    pub(super) fn new<S>(stream: S, buffer: usize) -> Self
    where
        S: Stream<Item = Item<T, E>> + Unpin + Send + 'static,
    {
        let (items, receiver) = mpsc::channel(buffer.clamp(1, Semaphore::MAX_PERMITS));
        Self(Stage::Idle(Box::pin(pump(stream, items)), receiver))
    }
}

/// Asks for an item only where there is room for it.
async fn pump<S>(mut stream: S, items: Sender<S::Item>)
where
    S: Stream + Unpin,
{
    while let Ok(place) = items.reserve().await {
        let Some(item) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await else {
            return;
        };
        place.send(item);
    }
}

impl<T, E> Background<T, E> {
    /// The next item, `None` at the end.
    ///
    /// # Errors
    ///
    /// An item may be one; see the type's text.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no item.
    pub async fn next(&mut self) -> Option<Result<T, Error<E>>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn start(&mut self) -> Result<(), Refusal> {
        self.0 = match std::mem::replace(&mut self.0, Stage::Over) {
            Stage::Idle(pump, items) => {
                let runtime = Handle::try_current().map_err(|_| Refusal::NoRuntime)?;
                Stage::Running(Task(runtime.spawn(pump)), items)
            }
            other => other,
        };
        Ok(())
    }

    /// How the task ended that has handed in everything.
    fn poll_end(task: &mut Task, cx: &mut Context<'_>) -> Poll<Option<Item<T, E>>> {
        let Err(error) = ready!(Pin::new(&mut task.0).poll(cx)) else {
            return Poll::Ready(None);
        };
        let error = match error.try_into_panic() {
            Ok(payload) => Error::panicked(panics::message(payload)),
            Err(_) => Error::cancelled().after(Progress::started(1)),
        };
        Poll::Ready(Some(Err(error)))
    }
}

impl<T, E> Stream for Background<T, E> {
    type Item = Result<T, Error<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Err(reason) = this.start() {
            return Poll::Ready(Some(Err(Error::refused(reason))));
        }
        let Stage::Running(task, items) = &mut this.0 else {
            return Poll::Ready(None);
        };
        if let Some(item) = ready!(items.poll_recv(cx)) {
            return Poll::Ready(Some(item));
        }
        let end = ready!(Self::poll_end(task, cx));
        this.0 = Stage::Over;
        Poll::Ready(end)
    }
}

/// Nothing in it is ever pinned.
impl<T, E> Unpin for Background<T, E> {}

impl<T, E> fmt::Debug for Background<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.0 {
            Stage::Idle(..) => "not started",
            Stage::Running(..) => "running",
            Stage::Over => "over",
        };
        f.debug_tuple("Background").field(&stage).finish()
    }
}

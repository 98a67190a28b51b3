//! One task: what is spawned, the handle on it, and what comes back when it was refused.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::task::{JoinError, JoinHandle};

use super::effects::{Ending, Turn};
use super::report::TaskId;
use super::shared::Shared;
use super::state::Key;
use crate::error::{Error, Refusal};
use crate::panics::{self, swallow};
use crate::sync::Lock;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A task of a scope: awaiting it gives its result.
///
/// Dropping the handle lets the task go on; it stays its scope's.
///
/// # Errors
///
/// The task's own error; [`Error::Panicked`]; [`Error::Cancelled`] when the task was
/// aborted (`attempts` is 1) or never begun (0).
///
/// # Cancel safety
///
/// It can be awaited by reference, dropped and awaited again.
///
/// # Panics
///
/// When it is polled again after it gave its result.
pub struct Task<T, E> {
    join: JoinHandle<()>,
    slot: Arc<Slot<T, E>>,
    /// It has given its result.
    taken: bool,
}

/// What a task and its handle share.
pub(super) struct Slot<T, E> {
    shared: Arc<Shared>,
    key: Key,
    /// Whether the task's future was ever polled.
    begun: AtomicBool,
    output: Lock<Output<T, E>>,
}

/// The runtime would keep a result for longer than the task is counted.
enum Output<T, E> {
    Awaited,
    There(Result<T, Error<E>>),
    /// Nobody takes it any more.
    Unwanted,
}

impl<T, E> Slot<T, E> {
    pub(super) fn new(shared: Arc<Shared>, key: Key) -> Arc<Self> {
        Arc::new(Self {
            shared,
            key,
            begun: AtomicBool::new(false),
            output: Lock::new(Output::Awaited),
        })
    }

    fn turn(&self, cx: &Context<'_>) -> Turn {
        self.shared.turn(self.key, cx)
    }

    fn end(&self, how: Ending) {
        self.shared.end(self.key, how);
    }

    fn has_begun(&self) -> bool {
        // Relaxed: it is set by the task itself.
        self.begun.load(Ordering::Relaxed)
    }

    /// Leaves the result for the handle, or drops it, which is foreign code.
    fn put(&self, result: Result<T, Error<E>>) {
        let mut output = self.output.lock();
        if matches!(*output, Output::Awaited) {
            *output = Output::There(result);
            return;
        }
        drop(output);
        swallow(move || drop(result));
    }

    /// Takes the result, if it is there; no other is wanted.
    fn take(&self) -> Option<Result<T, Error<E>>> {
        let output = std::mem::replace(&mut *self.output.lock(), Output::Unwanted);
        match output {
            Output::There(result) => Some(result),
            Output::Awaited | Output::Unwanted => None,
        }
    }
}

impl<T, E> Task<T, E> {
    pub(super) fn new(join: JoinHandle<()>, slot: Arc<Slot<T, E>>) -> Self {
        let taken = false;
        Self { join, slot, taken }
    }

    /// Its number in the scope.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.slot.key.id
    }

    /// Aborts it. That takes effect at its next await: code that blocks goes on until it
    /// stops blocking by itself.
    pub fn abort(&self) {
        self.slot.shared.abort(self.slot.key);
    }

    /// Whether its result is there.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }
}

impl<T, E> Future for Task<T, E> {
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(Pin::new(&mut self.join).poll(cx));
        self.taken = true;
        if let Some(result) = self.slot.take() {
            return Poll::Ready(result);
        }
        Poll::Ready(Err(match ended.map_err(JoinError::try_into_panic) {
            Err(Ok(panic)) => Error::panicked(panics::message(panic)),
            Ok(()) | Err(Err(_)) => self.cancelled(),
        }))
    }
}

impl<T, E> Drop for Task<T, E> {
    /// The drop of a result that nobody has taken is foreign code.
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let result = self.slot.take();
        swallow(move || drop(result));
    }
}

impl<T, E> Task<T, E> {
    /// Relaxed: the runtime's own hand-over orders it.
    fn cancelled(&self) -> Error<E> {
        Error::Cancelled {
            attempts: self.slot.begun.load(Ordering::Relaxed).into(),
            last: None,
        }
    }
}

impl<T, E> fmt::Debug for Task<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id())
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// What the runtime runs: it waits for its place, runs the future, and says how it ended
    /// when the future is gone, not before.
    pub(super) struct Tracked<F, T, E> {
        #[pin]
        future: Option<F>,
        // It need not wait for its place.
        given: bool,
        slot: Arc<Slot<T, E>>,
    }

    impl<F, T, E> PinnedDrop for Tracked<F, T, E> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if !crate::operation::is_vacant(&mut this.future) {
                let how = dropped(&mut this.future, this.slot.has_begun());
                this.slot.end(how);
            }
        }
    }
}

/// Drops the future, whose destructor is foreign code.
fn dropped<F>(future: &mut Pin<&mut Option<F>>, begun: bool) -> Ending {
    match panics::caught(|| future.set(None)) {
        Ok(()) => Ending::Dropped { begun },
        Err(panic) => Ending::Panicked(panics::message(panic)),
    }
}

impl<F, T, E> Tracked<F, T, E> {
    pub(super) fn new(slot: Arc<Slot<T, E>>, given: bool, future: F) -> Self {
        Self {
            future: Some(future),
            given,
            slot,
        }
    }
}

impl<F, T, E> Future for Tracked<F, T, E>
where
    F: Future<Output = Result<T, E>>,
    E: fmt::Display,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if !this.slot.has_begun() {
            let turn = if *this.given {
                Turn::Begin
            } else {
                this.slot.turn(cx)
            };
            match turn {
                Turn::Begin => this.slot.begun.store(true, Ordering::Relaxed),
                Turn::Wait => return Poll::Pending,
                Turn::Never => {
                    let how = dropped(&mut this.future, false);
                    if let Ending::Panicked(message) = &how {
                        this.slot.put(Err(Error::panicked(message.clone())));
                    }
                    this.slot.end(how);
                    return Poll::Ready(());
                }
            }
        }
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        let result = match ready!(panics::poll_caught(future, cx)) {
            Ok(result) => result.map_err(Error::operation),
            Err(panic) => Err(Error::panicked(panics::message(panic))),
        };
        // A panic of its destructor is one of the task.
        let result = match dropped(&mut this.future, true) {
            Ending::Panicked(message) if !is_panicked(&result) => {
                swallow(move || drop(result));
                Err(Error::panicked(message))
            }
            _ => result,
        };
        let how = ending(&result);
        // Before it is counted out: an unwanted result is dropped in here.
        this.slot.put(result);
        this.slot.end(how);
        Poll::Ready(())
    }
}

fn is_panicked<T, E>(result: &Result<T, Error<E>>) -> bool {
    matches!(result, Err(error) if error.is_panicked())
}

pub(super) fn ending<T, E: fmt::Display>(result: &Result<T, Error<E>>) -> Ending {
    match result {
        Ok(_) => Ending::Completed,
        Err(Error::Panicked { message, .. }) => Ending::Panicked(message.clone()),
        // The text is made by foreign code.
        Err(error) => Ending::Failed(panics::caught(|| error.to_string().into()).unwrap_or_else(
            |panic| {
                drop(panics::message(panic));
                Box::default()
            },
        )),
    }
}

/// What was not started, and why; the future comes back as it was.
pub struct Refused<F> {
    reason: Refusal,
    /// Behind a lock that is never taken: it makes the error `Sync`, as boxed errors must be.
    future: Mutex<F>,
}

impl<F> Refused<F> {
    pub(super) fn new(reason: Refusal, future: F) -> Self {
        let future = Mutex::new(future);
        Self { reason, future }
    }

    /// Why it was not started.
    #[must_use]
    pub fn reason(&self) -> Refusal {
        self.reason
    }

    /// The future, unstarted.
    #[must_use]
    pub fn into_inner(self) -> F {
        let inner = self.future.into_inner();
        inner.unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> From<Refused<F>> for Refusal {
    fn from(refused: Refused<F>) -> Self {
        refused.reason
    }
}

impl<F> fmt::Debug for Refused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for Refused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<F> std::error::Error for Refused<F> {}

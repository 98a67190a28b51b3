//! What a shutdown closes.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::counts::Counts;
use crate::panics::{self, swallow};
use crate::scope::{Scope, ScopeHandle, Tracker};
use crate::sync::Lock;

/// Something that a [`Shutdown`](super::Shutdown) closes.
///
/// Each function comes from a task of the component's own; `counts` also from a thread, when
/// the deadline is over and that task does not answer. `stop`, `cancel` and `abort` must
/// not block; each is called once at most, in this order, and some may be left out. A panic in
/// any of them is reported, and the next one is called nevertheless.
///
/// `Arc`s of components are components.
///
/// # Examples
///
/// A server that counts its requests by itself:
///
/// ```
/// use std::pin::Pin;
/// use mainstay::scope::Tracker;
/// use mainstay::shutdown::{Component, Counts};
/// use tokio_util::sync::CancellationToken;
///
/// struct Server {
///     requests: Tracker,
///     cancel: CancellationToken,
/// }
///
/// impl Component for Server {
///     fn stop(&self) {
///         self.requests.close();
///     }
///
///     fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
///         Box::pin(self.requests.drained())
///     }
///
///     fn cancel(&self) {
///         self.cancel.cancel();
///     }
///
///     fn abort(&self) {}
///
///     fn counts(&self) -> Counts {
///         Counts::new(self.requests.in_flight() as u64)
///     }
/// }
/// ```
pub trait Component: Send + Sync + 'static {
    /// Takes in nothing new from now on.
    fn stop(&self);

    /// Resolves when nothing is under way. It is polled after `stop`; dropping it early must
    /// change nothing.
    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Asks what is under way to end.
    fn cancel(&self);

    /// Ends what is under way.
    fn abort(&self);

    /// What is under way, and totals of what has ended.
    fn counts(&self) -> Counts;

    /// What went wrong, in words, if something did: for the report.
    fn failure(&self) -> Option<Box<str>> {
        None
    }
}

impl<C: Component + ?Sized> Component for Arc<C> {
    fn stop(&self) {
        (**self).stop();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        (**self).drained()
    }

    fn cancel(&self) {
        (**self).cancel();
    }

    fn abort(&self) {
        (**self).abort();
    }

    fn counts(&self) -> Counts {
        (**self).counts()
    }

    fn failure(&self) -> Option<Box<str>> {
        (**self).failure()
    }
}

impl<C: Component + ?Sized> Component for Box<C> {
    fn stop(&self) {
        (**self).stop();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        (**self).drained()
    }

    fn cancel(&self) {
        (**self).cancel();
    }

    fn abort(&self) {
        (**self).abort();
    }

    fn counts(&self) -> Counts {
        (**self).counts()
    }

    fn failure(&self) -> Option<Box<str>> {
        (**self).failure()
    }
}

/// As its handle; the shutdown owns the scope.
impl Component for Scope {
    fn stop(&self) {
        self.handle().stop();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Scope::drained(self))
    }

    fn cancel(&self) {
        self.handle().ask();
    }

    fn abort(&self) {
        Scope::abort(self);
    }

    fn counts(&self) -> Counts {
        Scope::counts(self)
    }

    fn failure(&self) -> Option<Box<str>> {
        Component::failure(&self.handle())
    }
}

/// The tasks of a scope. The shutdown's own times hold, not the scope's grace. The first error
/// since it was stopped is the component's.
impl Component for ScopeHandle {
    fn stop(&self) {
        ScopeHandle::stop(self);
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(ScopeHandle::drained(self))
    }

    fn cancel(&self) {
        self.ask();
    }

    fn abort(&self) {
        ScopeHandle::abort(self);
    }

    fn counts(&self) -> Counts {
        ScopeHandle::counts(self)
    }

    fn failure(&self) -> Option<Box<str>> {
        ScopeHandle::failure(self).map(|failure| failure.to_string().into())
    }
}

/// What is in flight. A tracker can end nothing: `cancel` and `abort` do nothing.
impl Component for Tracker {
    fn stop(&self) {
        self.close();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Tracker::drained(self))
    }

    fn cancel(&self) {}

    fn abort(&self) {}

    fn counts(&self) -> Counts {
        Counts::new(self.in_flight() as u64)
    }
}

type Last = Pin<Box<dyn Future<Output = Result<(), Box<str>>> + Send>>;

/// A component that is one future, run when its turn comes.
pub(super) struct Closing(Lock<State>);

enum State {
    /// Also while it is polled.
    Away,
    Idle(Last),
    Ended {
        counts: Counts,
        failure: Option<Box<str>>,
    },
}

impl Closing {
    pub(super) fn new<E, F>(close: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let last = async move { close().await.map_err(|error| error.to_string().into()) };
        Self(Lock::new(State::Idle(Box::pin(last))))
    }

    /// Takes the state out, so that nothing of it is touched under the lock.
    fn swap(&self, new: State) -> State {
        std::mem::replace(&mut *self.0.lock(), new)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut last = match self.swap(State::Away) {
            State::Idle(last) => last,
            state => {
                let ended = matches!(state, State::Ended { .. });
                self.swap(state);
                return if ended {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            }
        };
        let (counts, failure) = match panics::poll_caught(Pin::new(&mut last), cx) {
            Poll::Pending => {
                self.swap(State::Idle(last));
                return Poll::Pending;
            }
            Poll::Ready(Ok(Ok(()))) => (of(|c| &mut c.completed), None),
            Poll::Ready(Ok(Err(message))) => (of(|c| &mut c.failed), Some(message)),
            Poll::Ready(Err(panic)) => {
                let message = panics::message(panic);
                let text = format!("panicked: {message}").into();
                (of(|c| &mut c.panicked), Some(text))
            }
        };
        swallow(move || drop(last));
        self.swap(State::Ended { counts, failure });
        Poll::Ready(())
    }
}

/// One that ended so.
fn of(how: impl FnOnce(&mut Counts) -> &mut u64) -> Counts {
    let mut counts = Counts::default();
    *how(&mut counts) = 1;
    counts
}

impl Component for Closing {
    fn stop(&self) {}

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(poll_fn(|cx| self.poll(cx)))
    }

    fn cancel(&self) {}

    fn abort(&self) {
        let counts = of(|c| &mut c.aborted);
        let ended = State::Ended {
            counts,
            failure: None,
        };
        match self.swap(ended) {
            State::Idle(last) => swallow(move || drop(last)),
            // It cannot be away: this comes from the task that polls it.
            state => drop(self.swap(state)),
        }
    }

    fn counts(&self) -> Counts {
        match &*self.0.lock() {
            State::Away | State::Idle(_) => Counts::new(1),
            State::Ended { counts, .. } => *counts,
        }
    }

    fn failure(&self) -> Option<Box<str>> {
        match &*self.0.lock() {
            State::Away | State::Idle(_) => None,
            State::Ended { failure, .. } => failure.clone(),
        }
    }
}

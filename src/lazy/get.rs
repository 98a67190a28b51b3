//! One caller's wait for the value.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::state::Step;
use super::{Execution, Lazy};
use crate::error::{Error, Refusal};
use crate::panics::{poll_caught, swallow};
use crate::sync::{Key, thread, wake_all};

const REENTERED: Refusal = Refusal::other("the initialiser asks for its own value");

/// A caller's wait for the value of a [`Lazy`]: see [`Lazy::get`].
#[must_use = "it does nothing unless awaited"]
pub struct Get<'a, T, E> {
    lazy: &'a Lazy<T, E>,
    place: Option<Key>,
}

type Made<'a, T, E> = Poll<Result<&'a T, Arc<Error<E>>>>;

impl<'a, T, E> Get<'a, T, E> {
    #[inline]
    pub(super) const fn new(lazy: &'a Lazy<T, E>) -> Self {
        Self { lazy, place: None }
    }
}

impl<'a, T, E> Future for Get<'a, T, E>
where
    T: Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    type Output = Result<&'a T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.lazy.value.get() {
            Some(value) => Poll::Ready(Ok(value)),
            None => this.poll_made(cx).map_err(owned),
        }
    }
}

impl<'a, T, E> Get<'a, T, E>
where
    T: Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// What this returns fits into registers, so that the caller of `poll` has no result in
    /// memory when the value is there.
    #[cold]
    #[inline(never)]
    fn poll_made(&mut self, cx: &mut Context<'_>) -> Made<'a, T, E> {
        // A waker's clone and drop are foreign code: the one is done before anything is
        // taken, the other after it was put back.
        let mut waker = Some(cx.waker().clone());
        let me = thread::current().id();
        let state = &self.lazy.shared.state;
        let step = state.lock().ask(&mut self.place, &mut waker, me);
        match step {
            Step::Wait => Poll::Pending,
            Step::Made => Poll::Ready(Ok(self.value())),
            Step::Failed(error) => Poll::Ready(Err(error)),
            Step::Reentered => Poll::Ready(Err(Arc::new(Error::refused(REENTERED)))),
            Step::Start => self.drive(self.lazy.execution()),
            Step::Drive(execution) => self.drive(execution),
        }
    }

    fn value(&self) -> &'a T {
        let value = self.lazy.value.get();
        value.expect("it is set before that is said")
    }

    /// Polls the execution, which is this caller's until it is put back or has ended.
    fn drive(&mut self, mut execution: Execution<T, E>) -> Made<'a, T, E> {
        let shared = &self.lazy.shared;
        let waker = Waker::from(Arc::clone(shared));
        let polled = poll_caught(
            Pin::new(&mut execution.run),
            &mut Context::from_waker(&waker),
        );
        let Poll::Ready(ended) = polled else {
            let callers = shared.state.lock().put_back(execution);
            wake_all(callers);
            return Poll::Pending;
        };
        let result = ended.unwrap_or_else(|panic| Err(execution.panicked(panic)));
        // What a panic in its destructor has to say comes too late to be of use.
        swallow(move || drop(execution));
        Poll::Ready(self.end(result))
    }

    fn end(&mut self, result: Result<T, Error<E>>) -> Result<&'a T, Arc<Error<E>>> {
        let state = &self.lazy.shared.state;
        match result {
            Ok(value) => {
                // Nobody else can have set it: there is one execution.
                let _unset = self.lazy.value.set(value);
                let callers = state.lock().end(&mut self.place, None);
                wake_all(callers);
                Ok(self.value())
            }
            Err(error) => {
                let error = Arc::new(error);
                let callers = state.lock().end(&mut self.place, Some(&error));
                wake_all(callers);
                Err(error)
            }
        }
    }
}

/// The last one to be told needs no copy.
fn owned<E: Clone>(error: Arc<Error<E>>) -> Error<E> {
    Arc::unwrap_or_clone(error)
}

impl<T, E> Get<'_, T, E> {
    #[cold]
    fn leave(&mut self) {
        let left = self.lazy.shared.state.lock().leave(&mut self.place);
        drop(left);
    }
}

impl<T, E> Drop for Get<'_, T, E> {
    #[inline]
    fn drop(&mut self) {
        if self.place.is_some() {
            self.leave();
        }
    }
}

impl<T, E> fmt::Debug for Get<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get")
            .field("waits", &self.place.is_some())
            .finish_non_exhaustive()
    }
}

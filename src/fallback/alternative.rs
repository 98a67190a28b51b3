//! What a fallback answers with, and when.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::error::{Error, Progress};
use crate::policy::CallContext;

/// What answers in place of the operation.
#[diagnostic::on_unimplemented(
    message = "this fallback does not answer with the operation's `Result<{T}, {E}>`",
    note = "a value and the answer of a closure must be a `{T}`; another operation must yield a `Result<{T}, {E}>`"
)]
pub trait Alternative<T, E> {
    /// Whether it is an operation of its own: then it counts as an attempt, and is not
    /// started when the deadline has passed.
    const IS_ATTEMPT: bool = false;
    /// The answer.
    type Future: Future<Output = Result<T, Error<E>>>;

    /// Starts it; told why, and of which call it is part.
    fn answer(&self, error: Error<E>, call: &CallContext<'_>) -> Self::Future;
}

/// Whether a fallback steps in.
pub trait When<E> {
    /// Looks at the error.
    fn applies(&self, error: &Error<E>) -> bool;
}

/// A fixed value.
#[derive(Clone, Copy, Debug)]
pub struct Value<T>(pub(super) T);

impl<T: Clone, E> Alternative<T, E> for Value<T> {
    type Future = Given<T, E>;

    fn answer(&self, _: Error<E>, _: &CallContext<'_>) -> Self::Future {
        Given::new(self.0.clone())
    }
}

/// An answer that is there at once: no larger than itself, whatever the error is.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Given<T, E> {
    value: Option<T>,
    error: PhantomData<fn() -> E>,
}

impl<T, E> Given<T, E> {
    const fn new(value: T) -> Self {
        Self {
            value: Some(value),
            error: PhantomData,
        }
    }
}

impl<T, E> Unpin for Given<T, E> {}

impl<T, E> Future for Given<T, E> {
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.value.take() {
            Some(value) => Poll::Ready(Ok(value)),
            None => panic!("polled after its end"),
        }
    }
}

/// A function of the error.
#[derive(Clone, Copy, Debug)]
pub struct With<F>(pub(super) F);

impl<T, E, F: Fn(Error<E>) -> T> Alternative<T, E> for With<F> {
    type Future = Given<T, E>;

    fn answer(&self, error: Error<E>, _: &CallContext<'_>) -> Self::Future {
        Given::new((self.0)(error))
    }
}

/// Another operation.
#[derive(Clone, Copy, Debug)]
pub struct Other<F>(pub(super) F);

impl<T, E, F, Fut> Alternative<T, E> for Other<F>
where
    F: Fn(Error<E>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    const IS_ATTEMPT: bool = true;
    type Future = Own<Fut>;

    fn answer(&self, error: Error<E>, _: &CallContext<'_>) -> Own<Fut> {
        Own {
            earlier: error.attempts(),
            future: (self.0)(error),
        }
    }
}

pin_project! {
    /// The other operation's future: its error is an operation's own, and one attempt more.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Own<Fut> {
        #[pin]
        future: Fut,
        earlier: u32,
    }
}

impl<Fut, T, E> Future for Own<Fut>
where
    Fut: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let earlier = Progress::started(*this.earlier);
        let result = ready!(this.future.poll(cx));
        Poll::Ready(result.map_err(|error| Error::operation(error).after(earlier)))
    }
}

/// Another operation that may hand the error back.
#[derive(Clone, Copy, Debug)]
pub struct Recover<F>(pub(super) F);

impl<T, E, F, Fut> Alternative<T, E> for Recover<F>
where
    F: Fn(Error<E>) -> Fut,
    Fut: Future<Output = Result<T, Error<E>>>,
{
    type Future = Fut;

    fn answer(&self, error: Error<E>, _: &CallContext<'_>) -> Fut {
        (self.0)(error)
    }
}

/// For every error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Always;

impl<E> When<E> for Always {
    fn applies(&self, _: &Error<E>) -> bool {
        true
    }
}

/// For the errors that a predicate accepts.
#[derive(Clone, Copy, Debug)]
pub struct If<F>(pub(super) F);

impl<E, F: Fn(&Error<E>) -> bool> When<E> for If<F> {
    fn applies(&self, error: &Error<E>) -> bool {
        (self.0)(error)
    }
}

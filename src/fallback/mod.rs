//! Another answer in place of a failure.

mod alternative;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

pub use alternative::{Alternative, Always, Given, If, Other, Own, Recover, Value, When, With};

use crate::config::ConfigError;
use crate::error::{Error, Progress};
use crate::observe::EventKind;
use crate::operation::{Operation, Outcome, Repeatable, is_vacant};
use crate::policy::{CallContext, IntoPolicy, Policy};

/// Answers in place of an operation that failed: with a value, with a function of the error,
/// or by another operation.
///
/// By default it steps in for every error; [`when`](Self::when) narrows that down. The
/// caller sees an `Ok`; that it is a fallback's is seen by the pipeline's observer, as
/// [`EventKind::FellBack`], after the event of what went wrong.
///
/// # Errors
///
/// An error for which it does not step in, as it was. When the other operation fails too, its
/// own error, which counts as one more attempt.
///
/// # Cancel safety
///
/// Dropping the call drops the operation or its alternative, whichever runs. A time limit
/// that ends the alternative knows the number of attempts, but no last error: that was
/// given to the alternative.
///
/// # Examples
///
/// ```
/// use mainstay::{Fallback, prelude::*};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let broken = || async { Err::<Vec<u32>, _>("no connection") };
/// let cached = broken.fallback(Fallback::value(vec![1, 2])).await;
/// assert_eq!(cached, Ok(vec![1, 2]));
///
/// let told = broken.fallback(Fallback::with(|error| vec![error.attempts()])).await;
/// assert_eq!(told, Ok(vec![1]));
///
/// let other = broken.fallback(Fallback::call(|_| async { Ok(vec![3]) })).await;
/// assert_eq!(other, Ok(vec![3]));
///
/// // What finds no answer hands the error back.
/// let cache: Option<Vec<u32>> = None;
/// let missed = broken.fallback(Fallback::recover(|error| {
///     let hit = cache.clone();
///     async move { hit.ok_or(error) }
/// }));
/// assert_eq!(missed.await.unwrap_err().last(), Some(&"no connection"));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fallback<A, W = Always> {
    alternative: A,
    when: W,
}

impl<T: Clone> Fallback<Value<T>> {
    /// Answers with a clone of `value`.
    #[must_use]
    pub const fn value(value: T) -> Self {
        Self::of(Value(value))
    }
}

impl<F> Fallback<With<F>> {
    /// Answers with what `answer` makes of the error.
    #[must_use]
    pub const fn with<T, E>(answer: F) -> Self
    where
        F: Fn(Error<E>) -> T,
    {
        Self::of(With(answer))
    }
}

impl<F> Fallback<Other<F>> {
    /// Answers with the result of the operation that `start` starts.
    #[must_use]
    pub const fn call<T, E, Fut>(start: F) -> Self
    where
        F: Fn(Error<E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Self::of(Other(start))
    }
}

impl<F> Fallback<Recover<F>> {
    /// Answers with the result of the operation that `start` starts, which may hand the
    /// error back: for an answer that may be missing, such as a cache's.
    #[must_use]
    pub const fn recover<T, E, Fut>(start: F) -> Self
    where
        F: Fn(Error<E>) -> Fut,
        Fut: Future<Output = Result<T, Error<E>>>,
    {
        Self::of(Recover(start))
    }
}

impl<A> Fallback<A> {
    /// Answers with an [`Alternative`] of your own.
    #[must_use]
    pub const fn by(alternative: A) -> Self {
        Self::of(alternative)
    }

    const fn of(alternative: A) -> Self {
        Self {
            alternative,
            when: Always,
        }
    }

    /// Steps in only where `condition` is true of the error.
    #[must_use]
    pub fn when<E, W>(self, condition: W) -> Fallback<A, If<W>>
    where
        W: Fn(&Error<E>) -> bool,
    {
        Fallback {
            alternative: self.alternative,
            when: If(condition),
        }
    }
}

impl<'a, O, A, W> Policy<'a, O> for Fallback<A, W>
where
    O: Operation,
    A: Alternative<O::Output, O::Error> + 'a,
    W: When<O::Error> + 'a,
{
    type Operation = FallingBack<&'a Self, Self, A::Future, O>;

    #[inline]
    fn wrap(&'a self, inner: O) -> Self::Operation {
        FallingBack::new(self, inner)
    }
}

impl<A, W> IntoPolicy for Fallback<A, W> {
    type Policy = Self;

    fn into_policy(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

/// An operation with a [`Fallback`]; `R` is that policy, or a reference to it.
pub type Rescued<R, A, W, O> = FallingBack<
    R,
    Fallback<A, W>,
    <A as Alternative<<O as Operation>::Output, <O as Operation>::Error>>::Future,
    O,
>;

pin_project! {
    /// An operation with a fallback. `R` is the policy `P`, or a reference to it.
    #[must_use = "an operation does nothing unless polled"]
    pub struct FallingBack<R, P, Fut, O>
    where
        O: Operation,
    {
        #[pin]
        inner: O,
        #[pin]
        answer: Option<Fut>,
        // Attempts before the answer was started.
        attempts: u32,
        fallback: R,
        policy: PhantomData<fn() -> P>,
    }
}

impl<R, P, Fut, O: Operation> FallingBack<R, P, Fut, O> {
    #[inline]
    pub(crate) const fn new(fallback: R, inner: O) -> Self {
        Self {
            inner,
            answer: None,
            attempts: 0,
            fallback,
            policy: PhantomData,
        }
    }
}

impl<R, A, W, O> Operation for FallingBack<R, Fallback<A, W>, A::Future, O>
where
    R: Borrow<Fallback<A, W>>,
    A: Alternative<O::Output, O::Error>,
    W: When<O::Error>,
    O: Operation,
{
    type Output = O::Output;
    type Error = O::Error;

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let mut this = self.project();
        if is_vacant(&mut this.answer) {
            let fallback = (*this.fallback).borrow();
            let error = match ready!(this.inner.poll(call, cx)) {
                Err(error) if fallback.when.applies(&error) => error,
                result => return Poll::Ready(result),
            };
            if A::IS_ATTEMPT && call.remaining() == Some(Duration::ZERO) {
                return Poll::Ready(Err(error));
            }
            *this.attempts = error.attempts();
            call.emit(EventKind::FellBack);
            let answer = fallback.alternative.answer(error, call);
            this.answer.set(Some(answer));
        }
        let Some(answer) = this.answer.as_mut().as_pin_mut() else {
            unreachable!("it was set above");
        };
        let result = ready!(answer.poll(cx));
        this.answer.set(None);
        *this.attempts = 0;
        Poll::Ready(result)
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<O::Error> {
        let this = self.project();
        let mut progress = this.inner.cancel();
        let answer: Progress<O::Error> = crate::operation::cancel_slot(this.answer);
        let answer = if A::IS_ATTEMPT { answer.attempts } else { 0 };
        let started = std::mem::take(this.attempts).saturating_add(answer);
        progress.attempts = progress.attempts.saturating_add(started);
        progress
    }
}

impl<R, A, W, O> Repeatable for FallingBack<R, Fallback<A, W>, A::Future, O>
where
    R: Borrow<Fallback<A, W>>,
    A: Alternative<O::Output, O::Error>,
    W: When<O::Error>,
    O: Repeatable,
{
    fn can_repeat(&self) -> bool {
        self.inner.can_repeat()
    }
}

impl<R, P, Fut, O: Operation> fmt::Debug for FallingBack<R, P, Fut, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallingBack")
            .field("answering", &self.answer.is_some())
            .finish_non_exhaustive()
    }
}

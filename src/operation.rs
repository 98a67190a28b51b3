//! What a policy is put around: something that can be started, and started again.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::error::{Error, Progress};
use crate::policy::{Attempt, CallContext};

/// A future that is told about its call, can be cut short, and (when it is also
/// [`Repeatable`]) started again where it stands.
///
/// Invariants, on which every policy relies:
///
/// 1. Nothing is started before the first `poll`.
/// 2. When `poll` has returned `Ready`, or `cancel` has returned, nothing is in flight any
///    more: futures are dropped and permits are given back, whatever happens to `self`.
/// 3. The next `poll` after that starts a new attempt, if the operation is [`Repeatable`].
#[must_use = "an operation does nothing unless polled"]
pub trait Operation {
    /// What it yields.
    type Output;
    /// Its own error; policies add theirs as [`Error<Self::Error>`](Error).
    type Error;

    /// Starts the attempt if none is in flight, and drives it.
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>>;

    /// Drops what is in flight and says how far it came.
    fn cancel(self: Pin<&mut Self>) -> Progress<Self::Error>;
}

/// What an operation yields in the end.
pub type Outcome<O> = Result<<O as Operation>::Output, Error<<O as Operation>::Error>>;

/// An operation that starts a new attempt when it is polled after its end.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can be started only once",
    label = "this would have to be started again",
    note = "a future runs once: give a closure that makes one, as in `(|| fetch(url)).retry(..)`, `pipeline.call(|| fetch(url))` and `gather(urls.map(|url| move || fetch(url))).through(&pipeline)`",
    note = "a tower request that cannot be cloned needs `layer_with`, or a pipeline that does not repeat"
)]
pub trait Repeatable: Operation {
    /// Whether another attempt is possible: an operation may find out while it runs.
    #[inline]
    fn can_repeat(&self) -> bool {
        true
    }
}

/// Whatever becomes an operation: a future, or a closure that makes one.
///
/// `Kind` tells the two apart; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a future of a `Result` nor a closure that returns one",
    note = "a future that cannot fail becomes one by `mainstay::infallible(future)`"
)]
pub trait IntoOperation<Kind> {
    /// The operation.
    type Operation: Operation;

    /// Converts. Starts nothing.
    fn into_operation(self) -> Self::Operation;
}

/// [`IntoOperation`]'s kind of a future.
#[derive(Debug)]
pub enum OfFuture {}

/// [`IntoOperation`]'s kind of a closure.
#[derive(Debug)]
pub enum OfClosure {}

impl<Fut, T, E> IntoOperation<OfFuture> for Fut
where
    Fut: Future<Output = Result<T, E>>,
{
    type Operation = Once<Fut>;

    #[inline]
    fn into_operation(self) -> Once<Fut> {
        Once { future: Some(self) }
    }
}

impl<F, Fut, T, E> IntoOperation<OfClosure> for F
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Operation = Closure<Plain<F>, Fut>;

    #[inline]
    fn into_operation(self) -> Self::Operation {
        Closure::new(Plain(self))
    }
}

pin_project! {
    /// A bare future: started once.
    #[must_use = "an operation does nothing unless polled"]
    pub struct Once<Fut> {
        #[pin]
        future: Option<Fut>,
    }
}

impl<Fut, T, E> Operation for Once<Fut>
where
    Fut: Future<Output = Result<T, E>>,
{
    type Output = T;
    type Error = E;

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        _: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        poll_slot(self.project().future, cx)
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        cancel_slot(self.project().future)
    }
}

pin_project! {
    /// A closure that makes a future: started as often as a policy wants.
    #[must_use = "an operation does nothing unless polled"]
    pub struct Closure<F, Fut> {
        start: F,
        #[pin]
        future: Option<Fut>,
    }
}

impl<F, Fut> Closure<F, Fut> {
    #[inline]
    pub(crate) const fn new(start: F) -> Self {
        Self {
            start,
            future: None,
        }
    }
}

/// Makes the future of one attempt.
pub trait Start {
    /// The attempt.
    type Future: Future;

    /// Starts an attempt of this call.
    fn start(&mut self, call: &CallContext<'_>) -> Self::Future;
}

/// A closure that asks for nothing.
pub struct Plain<F>(pub(crate) F);

impl<F: FnMut() -> Fut, Fut: Future> Start for Plain<F> {
    type Future = Fut;

    #[inline]
    fn start(&mut self, _: &CallContext<'_>) -> Fut {
        (self.0)()
    }
}

/// A closure that is told which [`Attempt`] it is.
pub struct WithAttempt<F>(pub(crate) F);

impl<F: FnMut(Attempt) -> Fut, Fut: Future> Start for WithAttempt<F> {
    type Future = Fut;

    #[inline]
    fn start(&mut self, call: &CallContext<'_>) -> Fut {
        (self.0)(call.to_attempt())
    }
}

impl<F, Fut, T, E> Operation for Closure<F, Fut>
where
    F: Start<Future = Fut>,
    Fut: Future<Output = Result<T, E>>,
{
    type Output = T;
    type Error = E;

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let mut this = self.project();
        if is_vacant(&mut this.future) {
            let future = this.start.start(call);
            this.future.set(Some(future));
        }
        poll_slot(this.future, cx)
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        cancel_slot(self.project().future)
    }
}

impl<F, Fut, T, E> Repeatable for Closure<F, Fut>
where
    F: Start<Future = Fut>,
    Fut: Future<Output = Result<T, E>>,
{
}

pin_project! {
    /// A closure that makes a future, once: policies that repeat accept it, and find that
    /// there can be no second attempt.
    #[must_use = "an operation does nothing unless polled"]
    pub struct Single<F, Fut> {
        start: Option<F>,
        #[pin]
        future: Option<Fut>,
    }
}

impl<F, Fut> Single<F, Fut> {
    #[inline]
    pub(crate) const fn new(start: F) -> Self {
        Self {
            start: Some(start),
            future: None,
        }
    }
}

impl<F, Fut, T, E> Operation for Single<F, Fut>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Output = T;
    type Error = E;

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        _: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let mut this = self.project();
        if let Some(start) = this.start.take() {
            this.future.set(Some(start()));
        }
        poll_slot(this.future, cx)
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        cancel_slot(self.project().future)
    }
}

impl<F, Fut, T, E> Repeatable for Single<F, Fut>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    #[inline]
    fn can_repeat(&self) -> bool {
        self.start.is_some()
    }
}

/// Hands an outcome up to the next level, after `look` has looked at it and tidied up.
///
/// An outcome is moved once at each level, and so must not be in memory meanwhile: as a whole,
/// next to something that may unwind, it would be, and copying what has just been written in
/// parts stalls the processor (7 ns a level, when the answer is a number).
#[inline(always)]
pub(crate) fn hand_up<T, E>(
    polled: Poll<Result<T, Error<E>>>,
    look: impl FnOnce(Result<&T, &Error<E>>),
) -> Poll<Result<T, Error<E>>> {
    match polled {
        Poll::Ready(Ok(answer)) => {
            look(Ok(&answer));
            Poll::Ready(Ok(answer))
        }
        Poll::Ready(Err(error)) => {
            look(Err(&error));
            Poll::Ready(Err(error))
        }
        Poll::Pending => Poll::Pending,
    }
}

/// Whether there is no future in the slot.
///
/// Asked for through a `&Option`, as `is_none` has it, it would be a read of the whole future, which
/// ends the exclusive borrows that the future holds of itself: in the model of Miri (stacked
/// borrows) its next use of them is undefined behaviour.
#[inline(always)]
pub(crate) fn is_vacant<Fut>(slot: &mut Pin<&mut Option<Fut>>) -> bool {
    slot.as_mut().as_pin_mut().is_none()
}

/// Drives the future in the slot, and empties the slot when it has ended.
#[inline(always)]
pub(crate) fn poll_slot<Fut, T, E>(
    mut slot: Pin<&mut Option<Fut>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, Error<E>>>
where
    Fut: Future<Output = Result<T, E>>,
{
    let Some(future) = slot.as_mut().as_pin_mut() else {
        panic!("polled after its end");
    };
    let polled = future.poll(cx).map_err(Error::operation);
    hand_up(polled, |_| slot.set(None))
}

pub(crate) fn cancel_slot<Fut, E>(mut slot: Pin<&mut Option<Fut>>) -> Progress<E> {
    let attempts = u32::from(!is_vacant(&mut slot));
    slot.set(None);
    Progress::started(attempts)
}

impl<Fut> fmt::Debug for Once<Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl<F, Fut> fmt::Debug for Closure<F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closure")
            .field("running", &self.future.is_some())
            .finish_non_exhaustive()
    }
}

impl<F, Fut> fmt::Debug for Single<F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Single")
            .field("started", &self.start.is_none())
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Plain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

impl<F> fmt::Debug for WithAttempt<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithAttempt")
    }
}

/// Makes a future that cannot fail into one that every policy accepts.
///
/// # Examples
///
/// ```
/// use mainstay::prelude::*;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let seven = mainstay::infallible(async { 7 }).timeout(Duration::from_secs(1)).await;
/// assert_eq!(seven, Ok(7));
/// # }
/// ```
///
/// # Errors
///
/// Never of its own; a policy around it may refuse or time out.
#[inline]
pub fn infallible<Fut: Future>(
    future: Fut,
) -> impl Future<Output = Result<Fut::Output, std::convert::Infallible>> {
    Sure { future }
}

pin_project! {
    /// Polls the future where it lies. An `async fn` around it would move it first, just after it
    /// was made: 5 ns for most futures, since the processor waits for what was written in parts.
    struct Sure<Fut> {
        #[pin]
        future: Fut,
    }
}

impl<Fut: Future> Future for Sure<Fut> {
    type Output = Result<Fut::Output, std::convert::Infallible>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Ok)
    }
}

//! From what the source yields to what is in flight.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Error, Progress};
use crate::operation::{IntoOperation, Operation};
use crate::policy::{CallContext, Part, Pipeline, Policy};
use crate::time::Instant;

/// What a source may yield: an operation (a future of a `Result`, or a closure that makes
/// one), or a pair of a weight and an operation. `Kind` tells these apart; it is always
/// inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that can be gathered",
    note = "an item is a future of a `Result`, a closure that makes one, or a pair `(weight: u32, item)`",
    note = "a future that cannot fail becomes one by `mainstay::infallible(future)`"
)]
pub trait IntoItem<Kind> {
    /// The operation.
    type Operation: Operation;

    /// Its weight, and the operation. Starts nothing.
    fn into_item(self) -> (u32, Self::Operation);
}

/// [`IntoItem`]'s kind of an operation without a weight: it weighs 1.
#[derive(Debug)]
pub struct Alone<Kind>(Kind);

/// [`IntoItem`]'s kind of a pair `(weight, operation)`.
#[derive(Debug)]
pub struct Weighted<Kind>(Kind);

impl<Kind, O: IntoOperation<Kind>> IntoItem<Alone<Kind>> for O {
    type Operation = O::Operation;

    #[inline]
    fn into_item(self) -> (u32, O::Operation) {
        (1, self.into_operation())
    }
}

impl<Kind, O: IntoOperation<Kind>> IntoItem<Weighted<Kind>> for (u32, O) {
    type Operation = O::Operation;

    #[inline]
    fn into_item(self) -> (u32, O::Operation) {
        (self.0, self.1.into_operation())
    }
}

/// How long an item may take, as it is known when it starts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When its time is up, or that for the whole.
    pub(super) until: Instant,
}

/// How an operation is put in flight. Never implemented by hand.
pub trait Launch<R: Operation> {
    /// What is in flight.
    type Item: Item<Output = R::Output, Error = R::Error>;

    #[doc(hidden)]
    fn launch(&self, operation: R, limits: Limits) -> Self::Item;
}

/// What is in flight: every [`Operation`], and one in a task of its own. Never implemented by
/// hand.
pub trait Item {
    /// What it yields.
    type Output;
    /// Its own error.
    type Error;

    #[doc(hidden)]
    fn poll_item(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Output, Error<Self::Error>>>;

    /// Ends it before its time; once begun, it is polled until it has ended.
    #[doc(hidden)]
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<Self>>;
}

/// How an item has ended that was to be ended.
#[derive(Debug)]
pub enum End<T, E> {
    /// It was cut short.
    Cut(Progress<E>),
    /// It came to its end by itself.
    Itself(Result<T, Error<E>>),
}

/// [`End`] of an [`Item`].
pub type Ended<O> = End<<O as Item>::Output, <O as Item>::Error>;

impl<O: Operation> Item for O {
    type Output = O::Output;
    type Error = O::Error;

    #[inline]
    fn poll_item(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<O::Output, Error<O::Error>>> {
        self.poll(call, cx)
    }

    fn poll_end(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Ended<Self>> {
        Poll::Ready(End::Cut(self.cancel()))
    }
}

/// Each item is driven by the gather itself.
#[derive(Clone, Copy, Debug)]
pub struct Here;

impl<R: Operation> Launch<R> for Here {
    type Item = R;

    #[inline]
    fn launch(&self, operation: R, _: Limits) -> R {
        operation
    }
}

/// Each item is driven by the gather itself, through a pipeline.
pub struct Through<'a, P>(pub(super) &'a Pipeline<P>);

impl<'a, P, R> Launch<R> for Through<'a, P>
where
    R: Operation,
    P: Policy<'a, R>,
{
    type Item = Part<'a, P::Operation>;

    #[inline]
    fn launch(&self, operation: R, _: Limits) -> Self::Item {
        self.0.part(operation)
    }
}

impl<P> fmt::Debug for Through<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Through").field(self.0).finish()
    }
}

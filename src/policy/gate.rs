//! The one plan for all that admit or refuse: admit, permit, settle.
//!
//! A [`Gate`] is a state and a configuration. The driver (`gated`) waits for its admission,
//! holds the [`Permit`](super::Permit) while the operation runs, and settles it with how the
//! operation ended. What was acquired is always a value that gives itself back when it is
//! dropped: a place in a queue, a permit. A permit dropped unsettled is a cancelled call.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::CallContext;
use crate::classify::Decision;
use crate::error::{Error, Refusal};

/// Something that admits a call or refuses it.
///
/// With [`Judge`] every gate is a [`Policy`](super::Policy), and what
/// [`PipelineBuilder::policy`](super::PipelineBuilder::policy) takes. So are a reference to it
/// and an [`Arc`] of it. [`Permit`](super::Permit) and [`Acquire`](super::Acquire) let it
/// through outside of a pipeline.
///
/// # Examples
///
/// A gate that refuses while it is off:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use mainstay::policy::{Acquire, Admission, CallContext, End, Gate, Judge};
/// use mainstay::{Error, Pipeline, Refusal};
///
/// struct Switch(AtomicBool);
///
/// impl Gate for Switch {
///     type Wait = ();
///     type Ticket = ();
///
///     fn admit(&self, _: &CallContext<'_>) -> Admission<()> {
///         if self.0.load(Ordering::Relaxed) {
///             Admission::Admitted(())
///         } else {
///             Admission::Refused(Refusal::ShutDown)
///         }
///     }
///
///     fn settle(&self, (): (), _: End) {}
/// }
///
/// impl<T, E> Judge<T, E> for Switch {}
///
/// # async fn work() -> std::io::Result<u32> { Ok(7) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let switch = Arc::new(Switch(AtomicBool::new(true)));
/// let pipeline = Pipeline::builder("work").policy(Arc::clone(&switch)).build()?;
/// assert_eq!(pipeline.call(work).await?, 7);
///
/// let permit = Acquire::new(Arc::clone(&switch)).await?;
/// tokio::spawn(async move { permit.settle(End::Success) }).await?;
///
/// switch.0.store(false, Ordering::Relaxed);
/// let refused = pipeline.call(work).await.unwrap_err();
/// assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
/// # Ok(())
/// # }
/// ```
pub trait Gate {
    /// What a call needs while it waits for admission; nothing, for a gate that never
    /// lets wait.
    type Wait: Default;
    /// What an admission says about itself, such as the generation it belongs to.
    ///
    /// It is worth an admission: a type that others can neither make nor copy keeps them
    /// from giving back what they were not given.
    type Ticket;

    /// Admits or refuses at once, or says that the call has to wait.
    fn admit(&self, call: &CallContext<'_>) -> Admission<Self::Ticket>;

    /// Waits for what [`admit`](Self::admit) could not give; called only after that said so.
    ///
    /// A gate that never lets wait needs neither this nor [`leave`](Self::leave).
    ///
    /// # Errors
    ///
    /// The [`Refusal`] says when to come back, where that is known. After it, as after an
    /// admission, `wait` holds nothing any more.
    fn poll_admit(
        &self,
        wait: &mut Self::Wait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Ticket, Refusal>> {
        let _ = (wait, cx);
        match self.admit(call) {
            Admission::Admitted(ticket) => Poll::Ready(Ok(ticket)),
            Admission::Refused(reason) => Poll::Ready(Err(reason)),
            Admission::Wait => Poll::Pending,
        }
    }

    /// Takes back whatever a call holds that stops waiting.
    fn leave(&self, wait: &mut Self::Wait) {
        let _ = wait;
    }

    /// Takes an admission of this gate back. Called exactly once for each.
    fn settle(&self, ticket: Self::Ticket, end: End);
}

/// A gate's first answer. There will be no other: a gate around a gate has to know them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission<T> {
    /// Come in.
    Admitted(T),
    /// Not now.
    Refused(Refusal),
    /// Wait.
    Wait,
}

/// How an admitted call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// It counts as a success.
    Success,
    /// It counts as a failure.
    Failure,
    /// It says nothing about the health of what was called.
    Ignored,
    /// It was dropped before it had a result.
    Cancelled,
    /// It panicked.
    Panicked,
}

impl Decision for End {
    const ANSWERED: Self = Self::Success;
    const FAILED: Self = Self::Failure;
    const REFUSED: Self = Self::Ignored;
}

/// A gate that can tell how a result of this type ended the call.
pub trait Judge<T, E>: Gate {
    /// The end that this result means.
    ///
    /// By default a refusal further down is ignored (what this gate guards was not
    /// called), and otherwise an `Ok` is a success and an error a failure.
    #[inline]
    fn judge(&self, result: Result<&T, &Error<E>>) -> End {
        End::by_default(result)
    }
}

impl<G: Gate + ?Sized> Gate for &G {
    type Wait = G::Wait;
    type Ticket = G::Ticket;

    #[inline]
    fn admit(&self, call: &CallContext<'_>) -> Admission<G::Ticket> {
        (**self).admit(call)
    }

    fn poll_admit(
        &self,
        wait: &mut G::Wait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<G::Ticket, Refusal>> {
        (**self).poll_admit(wait, call, cx)
    }

    fn leave(&self, wait: &mut G::Wait) {
        (**self).leave(wait);
    }

    #[inline]
    fn settle(&self, ticket: G::Ticket, end: End) {
        (**self).settle(ticket, end);
    }
}

impl<G: Judge<T, E> + ?Sized, T, E> Judge<T, E> for &G {
    #[inline]
    fn judge(&self, result: Result<&T, &Error<E>>) -> End {
        (**self).judge(result)
    }
}

impl<G: Gate + ?Sized> Gate for Arc<G> {
    type Wait = G::Wait;
    type Ticket = G::Ticket;

    #[inline]
    fn admit(&self, call: &CallContext<'_>) -> Admission<G::Ticket> {
        (**self).admit(call)
    }

    fn poll_admit(
        &self,
        wait: &mut G::Wait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<G::Ticket, Refusal>> {
        (**self).poll_admit(wait, call, cx)
    }

    fn leave(&self, wait: &mut G::Wait) {
        (**self).leave(wait);
    }

    #[inline]
    fn settle(&self, ticket: G::Ticket, end: End) {
        (**self).settle(ticket, end);
    }
}

impl<G: Judge<T, E> + ?Sized, T, E> Judge<T, E> for Arc<G> {
    #[inline]
    fn judge(&self, result: Result<&T, &Error<E>>) -> End {
        (**self).judge(result)
    }
}

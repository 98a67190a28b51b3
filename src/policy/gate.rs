//! The one driver for all that admit or refuse: admit, permit, settle.
//!
//! A [`Gate`] is a state and a configuration. The driver waits for its admission, holds the
//! [`Permit`] while the operation runs, and settles it with how the operation ended. What
//! was acquired is always a value that gives itself back when it is dropped: a place in a
//! queue, a permit. A permit dropped unsettled is a cancelled call.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::{CallContext, IntoPolicy, Policy};
use crate::classify::Decision;
use crate::config::ConfigError;
use crate::error::{Error, Progress, Refusal};
use crate::observe::EventKind;
use crate::operation::{Operation, Outcome, Repeatable};

/// Something that admits a call or refuses it.
pub trait Gate {
    /// What a call needs while it waits for admission; nothing, for a gate that never
    /// lets wait.
    type Wait: Default;
    /// What an admission says about itself, such as the generation it belongs to.
    type Ticket: Copy;

    /// Admits or refuses at once, or says that the call has to wait.
    fn admit(&self, call: &CallContext<'_>) -> Admission<Self::Ticket>;

    /// Waits for what [`admit`](Self::admit) could not give; called only after that said so.
    ///
    /// A gate that never lets wait needs neither this nor [`leave`](Self::leave).
    ///
    /// # Errors
    ///
    /// The [`Refusal`] says when to come back, where that is known. After it `wait` holds
    /// nothing any more.
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

    /// Takes an admission back. Called exactly once for each.
    fn settle(&self, ticket: Self::Ticket, end: End);
}

/// A gate's first answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    fn judge(&self, result: Result<&T, &Error<E>>) -> End {
        End::by_default(result)
    }
}

/// An admission. Dropped without [`settle`](Self::settle), it is a cancelled call.
#[must_use = "a permit that is dropped at once guards nothing"]
pub struct Permit<'a, G: Gate> {
    gate: &'a G,
    /// `None` once it is settled.
    ticket: Option<G::Ticket>,
}

impl<'a, G: Gate> Permit<'a, G> {
    pub(crate) const fn new(gate: &'a G, ticket: G::Ticket) -> Self {
        Self {
            gate,
            ticket: Some(ticket),
        }
    }

    /// Gives the permit back and says how the call ended.
    pub fn settle(mut self, end: End) {
        self.settle_once(end);
    }

    /// Settled in place: moving what has just been written stalls the processor (7 ns).
    #[inline]
    fn settle_once(&mut self, end: End) {
        if let Some(ticket) = self.ticket {
            self.ticket = None;
            self.gate.settle(ticket, end);
        }
    }
}

impl<G: Gate> Drop for Permit<'_, G> {
    fn drop(&mut self) {
        self.settle_once(End::Cancelled);
    }
}

/// A place in a gate's queue, or the intention to take one.
pub(crate) struct Waiting<'a, G: Gate> {
    gate: &'a G,
    wait: G::Wait,
}

impl<'a, G: Gate> Waiting<'a, G> {
    pub(crate) fn new(gate: &'a G) -> Self {
        Self {
            gate,
            wait: G::Wait::default(),
        }
    }

    pub(crate) fn wait_mut(&mut self) -> &mut G::Wait {
        &mut self.wait
    }

    pub(crate) fn poll(
        &mut self,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit<'a, G>, Refusal>> {
        let admitted = ready!(self.gate.poll_admit(&mut self.wait, call, cx));
        Poll::Ready(admitted.map(|ticket| Permit::new(self.gate, ticket)))
    }
}

impl<G: Gate> Drop for Waiting<'_, G> {
    fn drop(&mut self) {
        self.gate.leave(&mut self.wait);
    }
}

enum Stage<'a, G: Gate> {
    Idle,
    /// Boxed, since few calls wait and all calls would carry the room for it.
    Waiting(Box<Waiting<'a, G>>),
    Admitted(Permit<'a, G>),
}

impl<'a, G: Gate> Stage<'a, G> {
    /// Goes on until the call is admitted.
    #[inline]
    fn poll_admit(
        &mut self,
        gate: &'a G,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        if let Self::Idle = self {
            match gate.admit(call) {
                Admission::Admitted(ticket) => *self = Self::Admitted(Permit::new(gate, ticket)),
                Admission::Refused(reason) => return Poll::Ready(Err(reason)),
                Admission::Wait => *self = Self::Waiting(Box::new(Waiting::new(gate))),
            }
        }
        if let Self::Waiting(waiting) = self {
            match ready!(waiting.poll(call, cx)) {
                Ok(permit) => *self = Self::Admitted(permit),
                Err(reason) => {
                    *self = Self::Idle;
                    return Poll::Ready(Err(reason));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the permit back, if there is one, and is idle again.
    #[inline]
    fn settle(&mut self, end: End) {
        if let Self::Admitted(permit) = self {
            permit.settle_once(end);
        }
        *self = Self::Idle;
    }
}

pin_project! {
    /// An operation behind a gate.
    #[must_use = "an operation does nothing unless polled"]
    pub struct Gated<'a, G, O>
    where
        G: Gate,
    {
        // Dropped before `stage`: what the permit guards ends before the permit does.
        #[pin]
        inner: O,
        stage: Stage<'a, G>,
        gate: &'a G,
    }
}

impl<'a, G: Gate, O> Gated<'a, G, O> {
    pub(crate) fn new(gate: &'a G, inner: O) -> Self {
        Self {
            inner,
            stage: Stage::Idle,
            gate,
        }
    }
}

/// Settles the permit as panicked if the operation or the judge unwinds.
struct Unwinding<'s, 'a, G: Gate>(&'s mut Stage<'a, G>);

impl<G: Gate> Drop for Unwinding<'_, '_, G> {
    fn drop(&mut self) {
        self.0.settle(End::Panicked);
    }
}

impl<G, O> Operation for Gated<'_, G, O>
where
    G: Judge<O::Output, O::Error>,
    O: Operation,
{
    type Output = O::Output;
    type Error = O::Error;

    #[inline]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let this = self.project();
        let gate = *this.gate;
        if let Err(reason) = ready!(this.stage.poll_admit(gate, call, cx)) {
            call.emit(EventKind::Refused(reason));
            return Poll::Ready(Err(Error::refused(reason)));
        }
        let unwinding = Unwinding(this.stage);
        let polled = this.inner.poll(call, cx);
        let end = match &polled {
            Poll::Ready(result) => Some(gate.judge(result.as_ref())),
            Poll::Pending => None,
        };
        mem::forget(unwinding);
        if let Some(end) = end {
            this.stage.settle(end);
        }
        polled
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<O::Error> {
        let this = self.project();
        let progress = this.inner.cancel();
        *this.stage = Stage::Idle;
        progress
    }
}

impl<G, O> Repeatable for Gated<'_, G, O>
where
    G: Judge<O::Output, O::Error>,
    O: Repeatable,
{
    fn can_repeat(&self) -> bool {
        self.inner.can_repeat()
    }
}

/// Every gate is a policy.
impl<'a, G, O> Policy<'a, O> for G
where
    G: Judge<O::Output, O::Error> + 'a,
    O: Operation,
{
    type Operation = Gated<'a, G, O>;

    fn wrap(&'a self, inner: O) -> Self::Operation {
        Gated::new(self, inner)
    }
}

impl<G: Gate> IntoPolicy for G {
    type Policy = Self;

    fn into_policy(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

impl<G: Gate> fmt::Debug for Waiting<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl<G: Gate> fmt::Debug for Permit<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl<G: Gate, O> fmt::Debug for Gated<'_, G, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated")
            .field("admitted", &matches!(self.stage, Stage::Admitted(_)))
            .finish_non_exhaustive()
    }
}

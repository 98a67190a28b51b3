//! The one driver of every gate: admit, run, settle.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::{Acquire, Admission, CallContext, End, Gate, IntoPolicy, Judge, Permit, Policy};
use crate::config::ConfigError;
use crate::error::{Error, Progress, Refusal};
use crate::observe::EventKind;
use crate::operation::{Operation, Outcome, Repeatable};

enum Stage<'a, G: Gate> {
    Idle,
    /// Boxed, since few calls wait and all calls would carry the room for it.
    Waiting(Box<Acquire<&'a G>>),
    Admitted(Permit<&'a G>),
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
                Admission::Wait => *self = Self::Waiting(Box::new(Acquire::begun(gate))),
            }
        }
        if let Self::Waiting(waiting) = self {
            match ready!(waiting.poll_within(call, cx)) {
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
        // Idle also where that unwinds: it wakes others, and a waker may panic.
        let leaving = Leaving(self);
        if let Stage::Admitted(permit) = &mut *leaving.0 {
            permit.settle_once(end);
        }
    }
}

/// Makes a stage idle when it goes.
struct Leaving<'s, 'a, G: Gate>(&'s mut Stage<'a, G>);

impl<G: Gate> Drop for Leaving<'_, '_, G> {
    fn drop(&mut self) {
        *self.0 = Stage::Idle;
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

impl<G: Gate, O> fmt::Debug for Gated<'_, G, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated")
            .field("admitted", &matches!(self.stage, Stage::Admitted(_)))
            .finish_non_exhaustive()
    }
}

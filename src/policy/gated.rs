//! The one driver of every gate: admit, run, settle.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::{Acquire, Admission, CallContext, End, Gate, IntoPolicy, Judge, Policy};
use crate::config::ConfigError;
use crate::error::{Error, Progress, Refusal};
use crate::observe::EventKind;
use crate::operation::{Operation, Outcome, Repeatable, hand_up};
use crate::rare::Rare;

/// A gate, and where a call stands with it. Dropped, it leaves the queue or gives back what it
/// was admitted with.
struct Passage<'a, G: Gate> {
    gate: &'a G,
    stage: Stage<'a, G>,
}

enum Stage<'a, G: Gate> {
    Idle,
    /// Boxed, since few calls wait and all calls would carry the room for it.
    Waiting(Rare<Acquire<&'a G>>),
    Admitted(G::Ticket),
}

impl<G: Gate> Passage<'_, G> {
    /// Goes on until the call is admitted.
    #[inline(always)]
    fn poll_admit(
        &mut self,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        match self.stage {
            Stage::Admitted(_) => return Poll::Ready(Ok(())),
            Stage::Waiting(_) => {}
            Stage::Idle => match self.gate.admit(call) {
                Admission::Admitted(ticket) => {
                    self.stage = Stage::Admitted(ticket);
                    return Poll::Ready(Ok(()));
                }
                Admission::Refused(reason) => return Poll::Ready(Err(reason)),
                Admission::Wait => self.begin_wait(),
            },
        }
        self.poll_wait(&{ *call }, cx)
    }

    #[cold]
    #[inline(never)]
    fn begin_wait(&mut self) {
        self.stage = Stage::Waiting(Rare::new(Acquire::begun(self.gate)));
    }

    #[cold]
    fn poll_wait(
        &mut self,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let waiting = match &mut self.stage {
            Stage::Waiting(waiting) => waiting.get_mut(),
            Stage::Idle | Stage::Admitted(_) => None,
        };
        let Some(waiting) = waiting else {
            return Poll::Ready(Ok(()));
        };
        let answer = ready!(waiting.poll_ticket(call, cx));
        self.stage = Stage::Idle;
        Poll::Ready(answer.map(|ticket| self.stage = Stage::Admitted(ticket)))
    }

    /// Gives back what the call was admitted with, if it was, and is idle from the first:
    /// settling may wake others, and a waker may panic.
    #[inline(always)]
    fn settle(&mut self, end: End) {
        if let Stage::Admitted(ticket) = mem::replace(&mut self.stage, Stage::Idle) {
            self.gate.settle(ticket, end);
        }
    }

    /// Never inlined, so that the drop of a call is small enough to be.
    #[cold]
    #[inline(never)]
    fn cancel(&mut self) {
        self.settle(End::Cancelled);
    }
}

impl<G: Gate> Drop for Passage<'_, G> {
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Idle) {
            self.cancel();
        }
    }
}

pin_project! {
    /// An operation behind a gate.
    #[must_use = "an operation does nothing unless polled"]
    #[project = GatedProjection]
    pub struct Gated<'a, G, O>
    where
        G: Gate,
    {
        // Dropped before `passage`: what the permit guards ends before the permit does.
        #[pin]
        inner: O,
        passage: Passage<'a, G>,
    }
}

impl<'a, G: Gate, O> Gated<'a, G, O> {
    #[inline]
    pub(crate) fn new(gate: &'a G, inner: O) -> Self {
        Self {
            inner,
            passage: Passage {
                gate,
                stage: Stage::Idle,
            },
        }
    }
}

/// Settles the permit as panicked if the operation or the judge unwinds.
struct Running<'s, 'a, G: Gate>(&'s mut Passage<'a, G>);

impl<G: Gate> Running<'_, '_, G> {
    #[inline(always)]
    fn ended<T, E>(self, result: Result<&T, &Error<E>>)
    where
        G: Judge<T, E>,
    {
        let end = self.0.gate.judge(result);
        self.0.settle(end);
        mem::forget(self);
    }
}

impl<G: Gate> Drop for Running<'_, '_, G> {
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

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let mut this = self.project();
        match this.passage.poll_admit(call, cx) {
            Poll::Ready(Ok(())) => this.run(call, cx),
            Poll::Ready(Err(reason)) => refused(reason, call),
            Poll::Pending => Poll::Pending,
        }
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<O::Error> {
        let this = self.project();
        let progress = this.inner.cancel();
        this.passage.cancel();
        progress
    }
}

impl<G: Gate, O: Operation> GatedProjection<'_, '_, G, O>
where
    G: Judge<O::Output, O::Error>,
{
    /// Drives the operation of an admitted call.
    ///
    /// What it yields is looked at where the caller wants it, and never moved.
    #[inline(always)]
    fn run(&mut self, call: &CallContext<'_>, cx: &mut Context<'_>) -> Poll<Outcome<O>> {
        let running = Running(self.passage);
        let polled = self.inner.as_mut().poll(call, cx);
        if polled.is_pending() {
            mem::forget(running);
            return Poll::Pending;
        }
        hand_up(polled, |result| running.ended(result))
    }
}

/// Written where the outcome is wanted: a refusal is the answer of a breaker that is open.
#[inline(always)]
fn refused<T, E>(reason: Refusal, call: &CallContext<'_>) -> Poll<Result<T, Error<E>>> {
    call.emit(EventKind::Refused(reason));
    Poll::Ready(Err(Error::refused(reason)))
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

    #[inline]
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
            .field(
                "admitted",
                &matches!(self.passage.stage, Stage::Admitted(_)),
            )
            .finish_non_exhaustive()
    }
}

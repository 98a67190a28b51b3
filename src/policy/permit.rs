//! What a gate gives: a permit, and the wait for one. Both give themselves back.

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::{Admission, CallContext, End, Gate};
use crate::error::Refusal;

/// An admission. Dropped without [`settle`](Self::settle), it is a cancelled call.
///
/// A `Permit<&G>` borrows its gate. Where the gate is a handle to shared state, as a
/// [`Bulkhead`](crate::Bulkhead) is, a `Permit<G>` owns it, and can be moved into a task or
/// a struct.
#[must_use = "a permit that is dropped at once guards nothing"]
pub struct Permit<G: Gate> {
    gate: G,
    /// `None` once it is settled.
    ticket: Option<G::Ticket>,
}

impl<G: Gate> Permit<G> {
    /// Keeps a ticket that this gate, or another handle to the same one, has just given.
    #[inline]
    pub const fn new(gate: G, ticket: G::Ticket) -> Self {
        Self {
            gate,
            ticket: Some(ticket),
        }
    }

    /// Gives the permit back and says how the call ended.
    pub fn settle(mut self, end: End) {
        self.settle_once(end);
    }

    #[inline]
    fn settle_once(&mut self, end: End) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.settle(ticket, end);
        }
    }
}

impl<G: Gate> Drop for Permit<G> {
    fn drop(&mut self) {
        self.settle_once(End::Cancelled);
    }
}

/// A wait for a [`Permit`], outside of every pipeline: a place in the gate's queue, or the
/// intention to take one.
///
/// Of a borrowed gate it makes a borrowed permit, of an owned one an owned permit.
///
/// # Errors
///
/// What the gate refuses by.
///
/// # Cancel safety
///
/// Dropping it leaves the queue. Nothing happens before it is polled.
///
/// # Panics
///
/// When polled after it was ready, as most futures do; and, from tokio, when a limited wait
/// is begun outside of a runtime whose timer is enabled.
///
/// # Examples
///
/// ```
/// use mainstay::Bulkhead;
/// use mainstay::policy::{Acquire, Permit};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bulkhead = Bulkhead::builder().max_concurrent(1).build()?;
/// let borrowed: Permit<&Bulkhead> = Acquire::new(&bulkhead).await?;
/// drop(borrowed);
/// let owned: Permit<Bulkhead> = Acquire::new(bulkhead).await?;
/// # drop(owned);
/// # Ok(())
/// # }
/// ```
#[must_use = "a wait does nothing unless awaited"]
pub struct Acquire<G: Gate> {
    /// `None` once it has answered.
    gate: Option<G>,
    wait: G::Wait,
    /// Whether the gate has said so.
    waits: bool,
}

impl<G: Gate> Acquire<G> {
    /// A wait that is to begin.
    #[inline]
    pub fn new(gate: G) -> Self {
        Self::at(gate, false)
    }

    /// The wait of one whom the gate has told to wait.
    pub(super) fn begun(gate: G) -> Self {
        Self::at(gate, true)
    }

    fn at(gate: G, waits: bool) -> Self {
        Self {
            gate: Some(gate),
            wait: G::Wait::default(),
            waits,
        }
    }

    pub(crate) fn poll_within(
        &mut self,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit<G>, Refusal>> {
        let (gate, answer) = ready!(self.poll_answer(call, cx));
        Poll::Ready(answer.map(|ticket| Permit::new(gate, ticket)))
    }

    /// As [`poll_within`](Self::poll_within), for one who keeps gate and ticket himself.
    pub(super) fn poll_ticket(
        &mut self,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<G::Ticket, Refusal>> {
        self.poll_answer(call, cx).map(|(_, answer)| answer)
    }

    /// After its answer, it holds nothing any more.
    fn poll_answer(
        &mut self,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<(G, Result<G::Ticket, Refusal>)> {
        let answer = ready!(self.ask(call, cx));
        let gate = self.gate.take().expect("it has just answered");
        Poll::Ready((gate, answer))
    }

    fn ask(
        &mut self,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<G::Ticket, Refusal>> {
        let gate = self.gate.as_ref().expect("polled after it was ready");
        if !self.waits {
            match gate.admit(call) {
                Admission::Admitted(ticket) => return Poll::Ready(Ok(ticket)),
                Admission::Refused(reason) => return Poll::Ready(Err(reason)),
                Admission::Wait => self.waits = true,
            }
        }
        gate.poll_admit(&mut self.wait, call, cx)
    }
}

impl<G: Gate> Future for Acquire<G> {
    type Output = Result<Permit<G>, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_within(&CallContext::root(), cx)
    }
}

/// Nothing in it is ever pinned.
impl<G: Gate> Unpin for Acquire<G> {}

impl<G: Gate> Drop for Acquire<G> {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.leave(&mut self.wait);
        }
    }
}

impl<G: Gate> fmt::Debug for Permit<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl<G: Gate> fmt::Debug for Acquire<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("waits", &self.waits)
            .field("answered", &self.gate.is_none())
            .finish_non_exhaustive()
    }
}

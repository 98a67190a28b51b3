//! A limit on how many calls run at once, with a bounded queue.
//!
//! A semaphore with weights, in order of arrival. The decision is made in `state`.

mod builder;
mod slots;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

pub use builder::BulkheadBuilder;

use crate::config::ConfigError;
use crate::error::Refusal;
use crate::policy::{Acquire, Admission, CallContext, End, Gate, IntoPolicy, Judge, Permit};
use crate::sync::{Key, wake_all};
use crate::time::{self, Instant, Timer};
use state::{Place, State};

/// Lets at most so many calls run at once; more wait in a bounded queue, or are refused.
///
/// A clone is the same bulkhead. Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `max_concurrent` | none; it must be set | only you know what the callee bears |
/// | `max_queue` | as `max_concurrent` | absorbs a burst; a longer queue is only latency |
/// | `max_wait` | none | the call's deadline is the better limit |
/// | weight of a call | 1 | |
///
/// # Errors
///
/// [`Refusal::BulkheadFull`] at once when the queue is full or the call has no time left to
/// wait, after `max_wait` when no slot came free, and when a slot comes free only as the
/// call's deadline passes: nothing is started that could not end in time.
/// [`Refusal::TooLarge`] when a call weighs more than the whole bulkhead.
///
/// # Cancel safety
///
/// A call that is dropped gives its slots back, and its place in the queue; those behind it
/// move up at once. So does one that panics.
///
/// # Fairness
///
/// First come, first served: a heavy call at the head of the queue holds up light ones
/// behind it until it fits, and no newcomer passes anyone who waits. A slot is handed to the
/// head of the queue when it comes free; a task that waits and is then never polled again
/// nor dropped keeps what it was handed, and its place.
///
/// # Threads
///
/// All handles share one word, on a cache line of its own: one atomic exchange lets a call
/// in and one addition lets it out, and the count is exact at every moment. Nothing else is
/// written while nobody waits; whoever waits takes a lock.
///
/// # Examples
///
/// ```
/// use mainstay::{Bulkhead, Error, Refusal, prelude::*};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bulkhead = Bulkhead::builder().max_concurrent(1).max_queue(0).build()?;
/// let held = bulkhead.try_acquire(1)?;
/// let error = async { Ok::<_, std::io::Error>(()) }.bulkhead(&bulkhead).await.unwrap_err();
/// assert!(matches!(error.refusal(), Some(Refusal::BulkheadFull { .. })));
/// drop(held);
/// async { Ok::<_, std::io::Error>(()) }.bulkhead(&bulkhead).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Bulkhead {
    shared: Arc<Shared>,
    weight: u32,
}

#[derive(Debug)]
struct Shared {
    state: State<Waker>,
    max_wait: Duration,
}

/// What a bulkhead holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadSnapshot {
    /// The most that may be inside.
    pub max_concurrent: u32,
    /// What is inside: the sum of the weights. More than the limit while that was lowered.
    pub in_use: u32,
    /// How many calls wait.
    pub queued: usize,
}

impl Bulkhead {
    /// A bulkhead with every default, to be given its limit.
    pub fn builder() -> BulkheadBuilder {
        BulkheadBuilder::new()
    }

    /// The same bulkhead, for calls that weigh `weight` slots each. A weight of 0 passes
    /// without a slot, but not ahead of those who wait.
    #[must_use]
    pub fn weighing(&self, weight: u32) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            weight,
        }
    }

    /// Takes `weight` slots if they are free now and nobody waits. The permit borrows the
    /// bulkhead.
    ///
    /// # Errors
    ///
    /// [`Refusal::BulkheadFull`] or [`Refusal::TooLarge`].
    pub fn try_acquire(&self, weight: u32) -> Result<Permit<&Self>, Refusal> {
        let ticket = self.try_enter(weight)?;
        Ok(Permit::new(self, ticket))
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that can be moved into a task or
    /// a struct: it holds a handle of its own.
    ///
    /// # Errors
    ///
    /// [`Refusal::BulkheadFull`] or [`Refusal::TooLarge`].
    pub fn try_acquire_owned(&self, weight: u32) -> Result<Permit<Self>, Refusal> {
        let ticket = self.try_enter(weight)?;
        Ok(Permit::new(self.clone(), ticket))
    }

    /// Waits for `weight` slots, by the bulkhead's own rules for queue and wait. The wait and
    /// its permit hold a handle of their own, and can be moved into a task or a struct.
    ///
    /// # Errors
    ///
    /// As for a call; see the type's text.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the queue. Nothing happens before it is polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::Bulkhead;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bulkhead = Bulkhead::builder().max_concurrent(2).build()?;
    /// let permit = bulkhead.acquire(2).await?;
    /// let job = tokio::spawn(async move {
    ///     let _held = permit;
    /// });
    /// job.await?;
    /// assert_eq!(bulkhead.snapshot().in_use, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire(&self, weight: u32) -> Acquire<Self> {
        Acquire::new(self.weighing(weight))
    }

    /// Changes the limit. Calls inside stay inside; a waiting call that has become too heavy
    /// is refused when it is polled. A limit of 0 lets nothing in until it is raised: every
    /// call that weighs anything is then [too large](Refusal::TooLarge).
    pub fn resize(&self, max_concurrent: u32) {
        let wake = self.shared.state.resize(max_concurrent);
        wake_all(wake);
    }

    /// What it holds now.
    #[must_use]
    pub fn snapshot(&self) -> BulkheadSnapshot {
        let state = &self.shared.state;
        BulkheadSnapshot {
            max_concurrent: state.limit(),
            in_use: state.in_use(),
            queued: state.queued(),
        }
    }

    #[inline]
    fn try_enter(&self, weight: u32) -> Result<BulkheadTicket, Refusal> {
        match self.shared.state.try_enter(weight) {
            Place::Admitted => Ok(BulkheadTicket(weight)),
            Place::TooLarge { limit } => Err(too_large(weight, limit)),
            Place::Full | Place::Queued(_) => Err(full(Duration::ZERO)),
        }
    }

    /// The way in for one who has to wait.
    fn enter(&self, cx: &Context<'_>) -> Place {
        // A waker's clone and drop are foreign code: both happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        self.shared.state.enter(self.weight, &mut waker)
    }

    /// A refusal at once needs no place to wait in.
    fn lets_wait(&self) -> bool {
        !self.shared.max_wait.is_zero() && self.shared.state.has_room_to_wait()
    }

    fn check(&self, key: Key, cx: &Context<'_>) -> Place {
        let mut waker = Some(cx.waker().clone());
        self.shared.state.check(key, &mut waker)
    }

    /// Waits on until the time for it is up.
    fn poll_wait(
        &self,
        wait: &mut BulkheadWait,
        key: Key,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if wait.queued.is_none() {
            let since = time::now();
            if self.shared.max_wait.is_zero() || call.deadline(since) <= since {
                return Poll::Ready(());
            }
            wait.queued = Some((key, since));
        }
        let until = wait.since().saturating_add(self.shared.max_wait);
        wait.timer.poll_until(until, cx)
    }

    /// Ends a wait whose time is up, unless the slots have come meanwhile.
    fn give_up(&self, wait: &mut BulkheadWait, key: Key) -> Result<BulkheadTicket, Refusal> {
        let waited = wait.end();
        if self.leave_queue(key) {
            Err(full(waited))
        } else {
            Ok(BulkheadTicket(self.weight))
        }
    }

    /// Takes the slots whose turn has come, unless it comes too late to start anything.
    fn take(
        &self,
        wait: &mut BulkheadWait,
        call: &CallContext<'_>,
    ) -> Result<BulkheadTicket, Refusal> {
        let late = wait.queued.is_some() && call.remaining() == Some(Duration::ZERO);
        let waited = wait.end();
        if late {
            self.release(self.weight);
            return Err(full(waited));
        }
        Ok(BulkheadTicket(self.weight))
    }

    /// Leaves the queue; `false` when it turns out to have been admitted meanwhile.
    fn leave_queue(&self, key: Key) -> bool {
        let left = self.shared.state.leave(key);
        left.map(wake_all).is_some()
    }

    #[inline]
    fn release(&self, weight: u32) {
        let admitted = self.shared.state.release(weight);
        wake_all(admitted);
    }
}

fn full(waited: Duration) -> Refusal {
    Refusal::BulkheadFull { waited }
}

fn too_large(asked: u32, limit: u32) -> Refusal {
    Refusal::TooLarge { asked, limit }
}

/// What a call holds while it waits for its slots.
#[derive(Debug, Default)]
pub struct BulkheadWait {
    queued: Option<(Key, Instant)>,
    timer: Timer,
}

impl BulkheadWait {
    fn since(&self) -> Instant {
        self.queued.map_or(Instant::NEVER, |(_, since)| since)
    }

    /// Forgets the place; how long it was held. First of all, so that a panic in someone
    /// else's waker finds nothing to give back twice.
    fn end(&mut self) -> Duration {
        self.timer.disarm();
        self.queued
            .take()
            .map_or(Duration::ZERO, |(_, since)| time::now().since(since))
    }
}

/// The slots that a bulkhead has given.
#[derive(Debug)]
#[must_use = "slots that are not given back are lost"]
pub struct BulkheadTicket(u32);

impl Gate for Bulkhead {
    type Wait = BulkheadWait;
    type Ticket = BulkheadTicket;

    #[inline]
    fn admit(&self, _: &CallContext<'_>) -> Admission<BulkheadTicket> {
        match self.shared.state.try_enter(self.weight) {
            Place::Admitted => Admission::Admitted(BulkheadTicket(self.weight)),
            Place::TooLarge { limit } => Admission::Refused(too_large(self.weight, limit)),
            Place::Full | Place::Queued(_) if self.lets_wait() => Admission::Wait,
            Place::Full | Place::Queued(_) => Admission::Refused(full(Duration::ZERO)),
        }
    }

    fn poll_admit(
        &self,
        wait: &mut BulkheadWait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BulkheadTicket, Refusal>> {
        let place = match wait.queued {
            Some((key, _)) => self.check(key, cx),
            None => self.enter(cx),
        };
        Poll::Ready(match place {
            Place::Admitted => self.take(wait, call),
            Place::Full => Err(full(Duration::ZERO)),
            Place::TooLarge { limit } => {
                self.leave(wait);
                Err(too_large(self.weight, limit))
            }
            Place::Queued(key) => {
                ready!(self.poll_wait(wait, key, call, cx));
                self.give_up(wait, key)
            }
        })
    }

    fn leave(&self, wait: &mut BulkheadWait) {
        wait.timer.disarm();
        let Some((key, _)) = wait.queued.take() else {
            return;
        };
        if !self.leave_queue(key) {
            self.release(self.weight);
        }
    }

    #[inline]
    fn settle(&self, ticket: BulkheadTicket, _: End) {
        self.release(ticket.0);
    }
}

impl<T, E> Judge<T, E> for Bulkhead {}

impl IntoPolicy for u32 {
    type Policy = Bulkhead;

    fn into_policy(self) -> Result<Bulkhead, ConfigError> {
        Bulkhead::builder().max_concurrent(self).build()
    }
}

//! Work in order of arrival or of importance, done by so many workers.
//!
//! What waits, runs and has ended is kept in `state`. A worker is a task that takes one item
//! after the other and ends when there is none: while there is nothing to do there are no
//! tasks, and nothing has to be woken.

mod after;
mod asked;
mod builder;
mod cell;
mod component;
mod drained;
mod home;
mod job;
mod outbox;
mod outcomes;
mod priority;
mod push;
mod shared;
mod snapshot;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod ticket;
mod worker;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

pub use builder::{Direct, QueueBuilder, Through};
pub use drained::Drained;
pub use job::{IntoDynPipeline, Job};
pub use outcomes::Outcomes;
pub use priority::Priority;
pub use push::{Push, Rejected};
pub use snapshot::{QueueReport, QueueSnapshot};
pub use ticket::Ticket;

use crate::error::Refusal;
use crate::time::{self, Instant, Timer};
use shared::Shared;
use snapshot::Outcome;
use state::{Arrival, Entry, Place};

/// Takes items in, in bounded number, and has them worked on by so many workers.
///
/// A clone is the same queue. Items of type `J` are pushed; the handler makes a future of
/// each, on a task of the queue's own, and its result is a `Result<T, Error<E>>`, to be had
/// from the item's [`Ticket`] or from the stream of [`outcomes`](Self::outcomes).
///
/// Every item that is taken in has exactly one outcome, whatever happens: it is done or
/// failed, given up by the pipeline's time limits and refusals, cancelled, or returned to
/// its owner unbegun. That holds as well when the handler panics, when the runtime of the
/// workers shuts down (what waits then waits for another), and when producers pause: workers
/// wait for nobody, and come back when there is work.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `workers` | 4 | kind to whatever they call; only you know what that bears |
/// | `capacity` | 64 | absorbs a burst; a longer line is only latency and memory |
/// | `max_wait` | none | back-pressure; a producer can put a limit on its own push |
/// | priority of an item | 0 | |
/// | `ageing` | none | strict order, unless asked |
/// | `outcomes` | not kept | a stream that nobody reads must not fill the memory |
/// | `through` | no pipeline | an item may not be fit to be tried twice |
///
/// # Errors
///
/// What is not taken in comes back to its producer as [`Rejected`], with the item:
/// [`Refusal::QueueFull`] at once or after `max_wait`, [`Refusal::ShutDown`] when the queue
/// is closed.
///
/// # Cancel safety
///
/// A [`push`](Self::push) that is dropped before it was ready has put nothing in; see there.
/// A ticket can be dropped without consequence for its item, unless it was the last handle.
///
/// The queue lives as long as someone can push or may want a result: a `Queue`, a `Push`,
/// `Outcomes`, `Drained` or a `Ticket`. When the last `Queue` and `Push` is gone it is closed. When
/// the last of all is gone, what waits and what runs is cancelled. A handler that holds a
/// `Queue` (to push more) keeps it alive: [close](Self::close) it then. Handler and callback
/// are dropped as soon as the queue is closed and has nothing left.
///
/// # Fairness
///
/// Producers get room in order of arrival, whatever the priorities of their items; nobody
/// passes them by [`try_push`](Self::try_push). Items begin by priority, and in order of
/// arrival among equals. Without [ageing](QueueBuilder::ageing), less important items wait
/// for as long as more important ones keep coming.
///
/// # Panics
///
/// Never. A panic of the handler is its item's outcome. Waiting for room with a time limit
/// needs tokio's timer, as does [`shutdown`](Self::shutdown).
///
/// # Threads
///
/// All threads share one line behind one lock; each item has a small one of its own beside it.
/// Nothing is sharded: the counts are exact, and the order is one for all. With `n` in the line
/// an item enters, begins and is taken back at a cost of `log n`.
///
/// # Runtime
///
/// The workers live on the tokio runtime in which the queue was built or, if that was
/// outside of any, first used. What is pushed outside of a runtime waits until the queue, a
/// ticket or a stream is used within one. When the runtime shuts down, what runs ends as
/// cancelled, and what waits waits for the next one: whoever waits for the queue within
/// another runtime is woken, and has the work done there. A thread that waits for an item
/// without any runtime waits until there is one.
/// A runtime that is alive but not driven (a current-thread one outside of `block_on`) does
/// nothing, and neither do workers on it.
///
/// Aborting drops a future between two polls: a handler that blocks its thread cannot be
/// stopped.
///
/// # Examples
///
/// ```
/// use mainstay::queue::Queue;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::builder()
///     .workers(2)
///     .build(|word: String| async move { Ok::<_, std::io::Error>(word.len()) })?;
/// let ticket = queue.push(String::from("rope")).await?;
/// assert_eq!(ticket.await?, 4);
/// # Ok(())
/// # }
/// ```
pub struct Queue<J, T, E> {
    side: Arc<Side<J, T, E>>,
}

/// The side on which items are pushed; when it is gone, nothing more can come.
struct Side<J, T, E> {
    owner: Arc<Owner<J, T, E>>,
}

/// All who may want something of the queue; when they are gone, nobody does.
struct Owner<J, T, E> {
    shared: Arc<Shared<J, T, E>>,
}

impl<J, T, E> Drop for Side<J, T, E> {
    fn drop(&mut self) {
        self.owner.shared.close();
    }
}

impl<J, T, E> Drop for Owner<J, T, E> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Queue<(), (), ()> {
    /// A queue with every default, to be given its handler.
    pub fn builder() -> QueueBuilder {
        QueueBuilder::new()
    }
}

impl<J, T, E> Queue<J, T, E> {
    fn shared(&self) -> &Arc<Shared<J, T, E>> {
        &self.side.owner.shared
    }

    /// Refuses everything new from now on, and those who wait to push: they get their items
    /// back. What was taken in goes on. It cannot be opened again.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared().inner.lock().state.is_closed()
    }

    /// The counts of this moment.
    #[must_use]
    pub fn snapshot(&self) -> QueueSnapshot {
        self.shared().inner.lock().state.snapshot()
    }

    /// Ends what is in it by now, each item as by [`Ticket::cancel`]: what waits is dropped
    /// unbegun, what runs is asked and may finish what it is at. It does not close the queue.
    pub fn cancel(&self) {
        self.shared().cancel_waiting();
        self.shared().ask(&self.shared().running());
    }

    /// Ends what is in it here and now: what waits, and what runs, is dropped before this
    /// returns; what is being polled on another thread at this moment is dropped after that
    /// poll. It does not close the queue.
    pub fn abort(&self) {
        self.shared().cancel_waiting();
        self.shared().stop_running();
    }

    /// Takes back what has not begun, in the order in which it would have. Its tickets say
    /// that it was cancelled, with 0 attempts.
    #[must_use = "the items are out of the queue"]
    pub fn take_waiting(&self) -> Vec<J> {
        self.shared().empty(Outcome::Returned)
    }

    /// Takes one item back, unless it has begun, is settled, or is another queue's.
    #[must_use = "the item is out of the queue"]
    pub fn take_back(&self, ticket: &Ticket<T, E>) -> Option<J> {
        self.shared().withdraw(ticket.cell(), Outcome::Returned)
    }
}

impl<J, T, E> Queue<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    /// Pushes an item, as soon as there is room.
    ///
    /// # Errors
    ///
    /// [`Rejected`], which holds the item.
    ///
    /// # Cancel safety
    ///
    /// The item is in the queue if and only if this has yielded its ticket. Dropped before,
    /// it drops the item and leaves its place to the next; [`Push::into_item`] leaves and
    /// keeps the item. Nothing happens before it is polled.
    ///
    /// # Fairness
    ///
    /// First come, first served. The room that comes free is promised to the first who
    /// waits, and stays promised until that one is polled or dropped.
    pub fn push(&self, item: J) -> Push<J, T, E> {
        Push::new(self.clone(), item)
    }

    /// Pushes an item if there is room now and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`Rejected`], which holds the item.
    pub fn try_push(&self, item: J) -> Result<Ticket<T, E>, Rejected<J>> {
        self.try_push_at(Priority::NORMAL, item)
    }

    /// As [`try_push`](Self::try_push), with a priority.
    ///
    /// # Errors
    ///
    /// [`Rejected`], which holds the item.
    pub fn try_push_at(
        &self,
        priority: impl Into<Priority>,
        item: J,
    ) -> Result<Ticket<T, E>, Rejected<J>> {
        let ages = self.shared().ages;
        let arrival = Arrival {
            priority: priority.into().0,
            now: if ages { time::now() } else { Instant::NEVER },
            may_wait: false,
        };
        let mut item = Some(item);
        let entry = self.enter(&mut None, arrival, &mut item, &mut None);
        match (entry, item) {
            (Entry::Closed, Some(item)) => Err(Rejected {
                item,
                reason: Refusal::ShutDown,
            }),
            (Entry::Full | Entry::Waiting, Some(item)) => Err(Rejected {
                item,
                reason: Refusal::queue_full(Duration::ZERO),
            }),
            (Entry::Entered(ticket), _) => Ok(ticket),
            (_, None) => unreachable!("the item is taken only to enter"),
        }
    }

    fn enter(
        &self,
        place: &mut Place,
        arrival: Arrival,
        item: &mut Option<J>,
        waker: &mut Option<Waker>,
    ) -> Entry<Ticket<T, E>> {
        let owner = &self.side.owner;
        let (entry, short) = owner.shared.enter(place, arrival, item, waker);
        let entry = match entry {
            Entry::Entered(cell) => {
                let desk: Arc<Owner<J, T, E>> = Arc::clone(owner);
                Entry::Entered(Ticket::new(desk, cell))
            }
            Entry::Waiting => Entry::Waiting,
            Entry::Full => Entry::Full,
            Entry::Closed => Entry::Closed,
        };
        if short {
            owner.shared.staff();
        }
        entry
    }

    /// The stream of outcomes, if it was asked for by [`QueueBuilder::outcomes`]; once.
    #[must_use = "a stream that is dropped closes the way for outcomes"]
    pub fn outcomes(&self) -> Option<Outcomes<T, E>> {
        let open = self.shared().inner.lock().outbox.open();
        let owner: Arc<Owner<J, T, E>> = Arc::clone(&self.side.owner);
        open.then(|| Outcomes::new(owner))
    }

    /// Waits for a moment in which nothing waits or runs, whether the queue is closed or
    /// not. A push that has not been ready yet does not count. An item of this very queue
    /// that awaits it waits for itself.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped at any point.
    pub fn drained(&self) -> Drained {
        let owner: Arc<Owner<J, T, E>> = Arc::clone(&self.side.owner);
        Drained::new(owner)
    }

    /// Closes the queue, lets it work until all is done or `within` has passed, and then
    /// ends the rest: what has not begun comes back in the report, what runs is aborted.
    ///
    /// It takes no longer than `within`: what cannot be stopped at that point, because it is
    /// in the middle of a poll on another thread, is not waited for; it counts as cancelled,
    /// and the report says how many there are. A stream of outcomes that nobody reads holds
    /// it up until then. To ask running items first, call
    /// [`cancel`](Self::cancel) before: they then have `within` to finish.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the queue stays closed, and works on what it has.
    ///
    /// # Panics
    ///
    /// From tokio, when it has to wait outside of a runtime whose timer is enabled. The queue
    /// is closed by then, as if it had been dropped. Neither no time nor
    /// [`Duration::MAX`] needs a timer.
    pub async fn shutdown(&self, within: Duration) -> QueueReport<J> {
        self.close();
        self.drained_within(within).await;
        let returned = self.take_waiting();
        self.shared().stop_running();
        let still_running = self.shared().running();
        self.shared().settle_cancelled(&still_running);
        QueueReport {
            counts: self.snapshot(),
            returned,
            still_running: still_running.len(),
        }
    }

    async fn drained_within(&self, within: Duration) {
        let deadline = time::now().saturating_add(within);
        let mut drained = pin!(self.drained());
        let mut timer = Timer::new();
        poll_fn(|cx| match drained.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timer.poll_until(deadline, cx),
        })
        .await;
    }
}

impl<J, T, E> Clone for Queue<J, T, E> {
    fn clone(&self) -> Self {
        Self {
            side: Arc::clone(&self.side),
        }
    }
}

impl<J, T, E> fmt::Debug for Queue<J, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&self.snapshot()).finish()
    }
}

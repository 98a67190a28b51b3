//! A producer at the door: the wait for room, and what comes back when there is none.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::state::{Arrival, Entry, Place};
use super::{Priority, Queue, Ticket};
use crate::error::{Error, Refusal};
use crate::time::{self, Instant, Timer};

/// An item that was not taken in, and why: it comes back to its producer.
///
/// It is an error that holds the item: a boxed error that must be `Sync` takes it only where
/// the item is. The reason alone always fits, as does the [`Error`] of a call:
///
/// ```
/// use mainstay::queue::{Queue, Rejected};
/// use mainstay::{BoxError, Error};
/// use std::cell::Cell;
/// use std::io;
///
/// async fn boxed(queue: &Queue<Cell<u32>, (), io::Error>) -> Result<(), BoxError> {
///     let ticket = queue.push(Cell::new(1)).await.map_err(|rejected| rejected.reason)?;
///     Ok(ticket.await?)
/// }
///
/// async fn flat(queue: &Queue<Cell<u32>, (), io::Error>) -> Result<(), Error<io::Error>> {
///     let pushed = queue.push(Cell::new(1)).await;
///     pushed.map_err(Rejected::into_error::<io::Error>)?.await
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let queue = Queue::builder().build(|_| async { Ok(()) }).unwrap();
/// # queue.close();
/// # let reason = boxed(&queue).await.unwrap_err();
/// # assert_eq!(reason.to_string(), flat(&queue).await.unwrap_err().to_string());
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rejected<J> {
    /// What was to be pushed.
    pub item: J,
    /// [`Refusal::QueueFull`] or [`Refusal::ShutDown`].
    pub reason: Refusal,
}

impl<J> Rejected<J> {
    /// The item.
    #[must_use]
    pub fn into_item(self) -> J {
        self.item
    }

    /// The reason as the error of a call that was not made; the item is dropped.
    #[must_use]
    pub fn into_error<E>(self) -> Error<E> {
        Error::refused(self.reason)
    }
}

impl<J> fmt::Display for Rejected<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<J> fmt::Debug for Rejected<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<J> std::error::Error for Rejected<J> {}

/// A push that waits for room; see [`Queue::push`].
#[must_use = "nothing is pushed unless it is awaited"]
pub struct Push<J, T, E> {
    queue: Queue<J, T, E>,
    item: Option<J>,
    priority: Priority,
    max_wait: Duration,
    place: Place,
    since: Instant,
    timer: Timer,
}

/// Nothing in it is pinned.
impl<J, T, E> Unpin for Push<J, T, E> {}

impl<J, T, E> Push<J, T, E> {
    pub(super) fn new(queue: Queue<J, T, E>, item: J) -> Self {
        let max_wait = queue.shared().max_wait;
        Self {
            queue,
            item: Some(item),
            priority: Priority::default(),
            max_wait,
            place: None,
            since: Instant::NEVER,
            timer: Timer::new(),
        }
    }

    /// Where the item stands in the line: higher priorities begin first. It makes no
    /// difference for the wait for room, and is too late once it was polled.
    pub fn priority(mut self, priority: impl Into<Priority>) -> Self {
        self.priority = priority.into();
        self
    }

    /// How long it waits for room, instead of the queue's own limit. Zero does not wait.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = span;
        self
    }

    /// Leaves, and takes the item along; `None` when it has been pushed or refused.
    #[must_use = "the item is dropped with it"]
    pub fn into_item(mut self) -> Option<J> {
        self.item.take()
    }

    fn arrival(&self) -> Arrival {
        let reads_clock = self.place.is_none() && self.queue.shared().ages;
        Arrival {
            priority: self.priority.0,
            now: if reads_clock {
                time::now()
            } else {
                Instant::NEVER
            },
            may_wait: !self.max_wait.is_zero(),
        }
    }

    /// Ends a wait whose time is up; `false` when it has ended otherwise meanwhile.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.since == Instant::NEVER {
            self.since = time::now();
        }
        let until = self.since.saturating_add(self.max_wait);
        let up = self.timer.poll_until(until, cx);
        up.map(|()| self.queue.shared().give_up(&mut self.place))
    }

    fn rejected(&mut self, reason: Refusal) -> Rejected<J> {
        let Some(item) = self.item.take() else {
            panic!("polled after it was ready");
        };
        Rejected { item, reason }
    }

    fn waited(&self) -> Duration {
        time::now().since(self.since)
    }
}

impl<J, T, E> Push<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    pub(super) fn poll_push(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Ticket<T, E>, Rejected<J>>> {
        assert!(self.item.is_some(), "polled after it was ready");
        loop {
            match self.enter(cx) {
                Entry::Entered(ticket) => return Poll::Ready(Ok(ticket)),
                Entry::Closed => return Poll::Ready(Err(self.rejected(Refusal::ShutDown))),
                Entry::Full => {
                    let full = Refusal::queue_full(self.waited());
                    return Poll::Ready(Err(self.rejected(full)));
                }
                Entry::Waiting => match self.poll_time(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(false) => {}
                    Poll::Ready(true) => {
                        let full = Refusal::queue_full(self.waited());
                        return Poll::Ready(Err(self.rejected(full)));
                    }
                },
            }
        }
    }

    fn enter(&mut self, cx: &Context<'_>) -> Entry<Ticket<T, E>> {
        let arrival = self.arrival();
        // Mostly there is room, and then nobody needs a waker.
        if self.place.is_none() {
            let at_once = Arrival {
                may_wait: false,
                ..arrival
            };
            let entry = self
                .queue
                .enter(&mut self.place, at_once, &mut self.item, &mut None);
            if !(arrival.may_wait && matches!(entry, Entry::Full)) {
                return entry;
            }
        }
        // A waker's clone and drop are foreign code: both happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        self.queue
            .enter(&mut self.place, arrival, &mut self.item, &mut waker)
    }
}

impl<J, T, E> Future for Push<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<Ticket<T, E>, Rejected<J>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_push(cx)
    }
}

impl<J, T, E> Drop for Push<J, T, E> {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.queue.shared().break_off(&mut self.place);
        }
    }
}

impl<J, T, E> fmt::Debug for Push<J, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("priority", &self.priority)
            .field("waiting", &self.place.is_some())
            .field("done", &self.item.is_none())
            .finish_non_exhaustive()
    }
}

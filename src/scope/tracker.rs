//! How many are in flight, in one word.
//!
//! The word holds their number and two marks, so that the order of its changes decides
//! everything: whoever enters after the mark of the close sees it; whoever leaves last after
//! the mark of one who waits sees that.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::task::Refused;
use crate::error::Refusal;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{CacheLine, Key, Lock, WaitList, constant, wake_quietly};

/// Nobody enters any more.
const CLOSED: usize = 1;
/// Someone waits for the last to leave. Changed only under the waiters' lock.
const WAITING: usize = 2;
/// One in flight.
const ONE: usize = 4;

/// Counts what is in flight, and lets wait until nothing is: a [`Scope`](super::Scope)
/// without names, tasks or errors, for what is run elsewhere.
///
/// [`track`](Self::track) and [`enter`](Self::enter) borrow it; the functions of an `Arc` of
/// it own their share, and so can be moved into a task. A `static` is borrowed for good, and
/// is the cheapest of all. A tracked future costs 2 atomic operations, and 2 more when it owns
/// an `Arc`.
///
/// What has been refused since [`close`](Self::close) returned never starts again: a tracker
/// that was closed and [`drained`](Self::drained) stays so.
///
/// # Threads
///
/// All threads share one word, on cache lines of its own. Nothing is sharded:
/// [`in_flight`](Self::in_flight) is exact, and so is the moment in which the last has left.
///
/// # Examples
///
/// ```
/// use mainstay::scope::Tracker;
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let requests = Arc::new(Tracker::new());
/// let request = requests.track_owned(async { 42 })?;
/// let task = tokio::spawn(request);
///
/// requests.close();
/// assert!(requests.track(async { 43 }).is_err());
/// requests.drained().await;
/// assert_eq!(task.await?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Tracker {
    word: CacheLine<AtomicUsize>,
    waiters: Lock<WaitList<Option<Waker>>>,
}

impl Tracker {
    constant! {
        /// An open tracker with nothing in flight.
        #[must_use]
        pub const fn new() -> Self {
            Self {
                word: CacheLine::new(AtomicUsize::new(0)),
                waiters: Lock::new(WaitList::new()),
            }
        }
    }

    /// Counts one in, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Refusal::ShutDown`] once it was closed.
    #[inline]
    pub fn enter(&self) -> Result<Entered<&Self>, Refusal> {
        Entered::new(self)
    }

    /// As [`enter`](Self::enter), with a guard that can be moved into a task or a struct.
    ///
    /// # Errors
    ///
    /// [`Refusal::ShutDown`] once it was closed.
    #[inline]
    pub fn enter_owned(self: &Arc<Self>) -> Result<Entered<Arc<Self>>, Refusal> {
        Entered::new(Arc::clone(self))
    }

    /// Counts a future in until it is dropped, also when it has ended before.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the future in it once it was closed.
    #[inline]
    pub fn track<F: Future>(&self, future: F) -> Result<InFlight<F, &Self>, Refused<F>> {
        InFlight::new(self.enter(), future)
    }

    /// As [`track`](Self::track), for a future that is moved into a task.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the future in it once it was closed.
    #[inline]
    pub fn track_owned<F: Future>(
        self: &Arc<Self>,
        future: F,
    ) -> Result<InFlight<F, Arc<Self>>, Refused<F>> {
        InFlight::new(self.enter_owned(), future)
    }

    /// Lets nobody in any more. What is in flight stays.
    pub fn close(&self) {
        // Relaxed: the order of the changes of this one word is all that is needed.
        self.word.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// How many are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        // Acquire: pairs with the Release of `leave`, so that who sees zero sees what was done.
        self.word.load(Ordering::Acquire) / ONE
    }

    /// Waits for a moment at which nothing is in flight. Unless the tracker is closed, others
    /// may have entered by the time that one learns of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub fn drained(&self) -> TrackerDrained<'_> {
        TrackerDrained {
            tracker: self,
            place: None,
        }
    }

    #[inline]
    fn try_enter(&self) -> Result<(), Refusal> {
        // Relaxed: nothing is handed over here; `close` changes the same word. Who is refused
        // changes nothing, so that nobody is in flight for a moment after the last has left.
        let enter = |word| (word & CLOSED == 0).then_some(word + ONE);
        let entered = self
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter);
        match entered {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::ShutDown),
        }
    }

    #[inline]
    fn leave(&self) {
        // Release: pairs with the Acquire of `poll_drained` and `in_flight`.
        let before = self.word.fetch_sub(ONE, Ordering::Release);
        if before / ONE == 1 && before & WAITING != 0 {
            self.tell();
        }
    }

    /// Wakes those who wait. Whoever comes to wait later sets the mark again.
    #[cold]
    fn tell(&self) {
        let mut waiters = self.waiters.lock();
        self.word.fetch_and(!WAITING, Ordering::Relaxed);
        let wakers = waiters.values_mut().filter_map(Option::take).collect();
        drop(waiters);
        wake_quietly(wakers);
    }

    fn poll_drained(&self, place: &mut Option<Key>, cx: &Context<'_>) -> Poll<()> {
        // A waker's clone and drop happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        let mut waiters = self.waiters.lock();
        // Acquire: pairs with the Release of `leave`. If this sees someone in flight, then the
        // last of them sees the mark, and comes for the lock.
        if self.word.fetch_or(WAITING, Ordering::Acquire) < ONE {
            return Poll::Ready(());
        }
        match place.and_then(|key| waiters.get_mut(key)) {
            Some(old) => std::mem::swap(old, &mut waker),
            None => *place = Some(waiters.push_back(waker.take())),
        }
        // Before the waker that was exchanged.
        drop(waiters);
        Poll::Pending
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("in_flight", &self.in_flight())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

mod sealed {
    /// `&Tracker` and `Arc<Tracker>`.
    pub trait Holder: std::ops::Deref<Target = super::Tracker> {}

    impl Holder for &super::Tracker {}
    impl Holder for std::sync::Arc<super::Tracker> {}
}

use sealed::Holder;

/// One who is counted as in flight until this is dropped.
#[derive(Debug)]
#[must_use = "what is dropped is not in flight any more"]
pub struct Entered<R: Holder> {
    tracker: R,
}

impl<R: Holder> Entered<R> {
    #[inline]
    fn new(tracker: R) -> Result<Self, Refusal> {
        tracker.try_enter()?;
        Ok(Self { tracker })
    }
}

impl<R: Holder> Drop for Entered<R> {
    #[inline]
    fn drop(&mut self) {
        self.tracker.leave();
    }
}

pin_project! {
    /// A future that is counted as in flight until it is dropped.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct InFlight<F, R: Holder> {
        // Dropped before it is counted out.
        #[pin]
        future: F,
        entered: Entered<R>,
    }
}

impl<F, R: Holder> InFlight<F, R> {
    #[inline]
    fn new(entered: Result<Entered<R>, Refusal>, future: F) -> Result<Self, Refused<F>> {
        match entered {
            Ok(entered) => Ok(Self { future, entered }),
            Err(reason) => Err(Refused::new(reason, future)),
        }
    }
}

impl<F: Future, R: Holder> Future for InFlight<F, R> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

/// Waits until nothing is in flight; see [`Tracker::drained`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct TrackerDrained<'a> {
    tracker: &'a Tracker,
    place: Option<Key>,
}

impl Future for TrackerDrained<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let tracker = self.tracker;
        let poll = tracker.poll_drained(&mut self.place, cx);
        if poll.is_ready() {
            self.leave();
        }
        poll
    }
}

impl TrackerDrained<'_> {
    fn leave(&mut self) {
        if let Some(place) = self.place.take() {
            // Dropped when the lock is free.
            let _waker = self.tracker.waiters.lock().remove(place);
        }
    }
}

impl Drop for TrackerDrained<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

//! The gathers that are streams: as items finish, in order, in batches.

use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::driver::Driver;
use super::item::Item;
use super::progress::Listen;
use super::reorder::Reorder;
use super::supply::Supply;
use crate::error::Error;

/// The outcomes of a gather as they come, each with its item's place in the source.
///
/// A [`Stream`], which needs no extension trait: [`next`](Self::next).
///
/// # Cancel safety
///
/// `next` can be dropped at any point: what has not been handed out comes the next time.
/// Dropping the stream drops all that is in flight.
#[must_use = "a stream does nothing unless polled"]
pub struct AsFinished<F, H, R, O> {
    driver: Driver<F, H, R, O>,
}

/// The outcomes of a gather in the order of the source.
///
/// A [`Stream`], which needs no extension trait: [`next`](Self::next). At most twice the
/// gather's limit of items are in flight or finished and not handed out: while the item whose
/// turn it is takes long, others are started until that is reached.
///
/// # Cancel safety
///
/// `next` can be dropped at any point: what has not been handed out comes the next time.
/// Dropping the stream drops all that is in flight, and the outcomes not handed out.
#[must_use = "a stream does nothing unless polled"]
pub struct InOrder<F, H, R, O, T, E> {
    driver: Driver<F, H, R, O>,
    waiting: Reorder<Result<T, Error<E>>>,
    /// Other tasks have had their turn while an outcome was at hand.
    paused: bool,
}

/// The outcomes of a gather in batches, in the order of the source.
///
/// A [`Stream`], which needs no extension trait: [`next`](Self::next). A batch starts only
/// when it is asked for, and nothing is in flight between two of them.
///
/// # Cancel safety
///
/// `next` can be dropped at any point: the same batch goes on the next time. Dropping the
/// stream drops all that is in flight, and the outcomes of the batch so far.
#[must_use = "a stream does nothing unless polled"]
pub struct Batches<F, H, R, O, T, E> {
    driver: Driver<F, H, R, O>,
    waiting: Reorder<Result<T, Error<E>>>,
    size: usize,
    batch: Batch<T, E>,
}

/// The outcomes of one batch.
type Batch<T, E> = Vec<Result<T, Error<E>>>;

// Nothing is pinned in them.
impl<F, H, R, O> Unpin for AsFinished<F, H, R, O> {}
impl<F, H, R, O, T, E> Unpin for InOrder<F, H, R, O, T, E> {}
impl<F, H, R, O, T, E> Unpin for Batches<F, H, R, O, T, E> {}

/// The next item of a stream, with the stream's `poll_next` as its whole: a block around it would
/// move each outcome once more.
struct Next<'s, S>(&'s mut S);

impl<S: Stream + Unpin> Future for Next<'_, S> {
    type Output = Option<S::Item>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}

impl<F, H, R, O> AsFinished<F, H, R, O> {
    pub(super) fn new(driver: Driver<F, H, R, O>) -> Self {
        Self { driver }
    }
}

impl<F, H, R, O, T, E> InOrder<F, H, R, O, T, E> {
    pub(super) fn new(driver: Driver<F, H, R, O>) -> Self {
        Self {
            driver,
            waiting: Reorder::new(),
            paused: false,
        }
    }
}

impl<F, H, R, O, T, E> Batches<F, H, R, O, T, E> {
    pub(super) fn new(mut driver: Driver<F, H, R, O>, size: usize) -> Self {
        driver.pull_until = 0;
        Self {
            driver,
            waiting: Reorder::new(),
            size: size.max(1),
            batch: Vec::new(),
        }
    }
}

impl<F, H, R, O, T, E> AsFinished<F, H, R, O>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// The next outcome; `None` when there is no further one.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is a stream, which calls it so too"
    )]
    pub fn next(&mut self) -> impl Future<Output = Option<(usize, Result<T, Error<E>>)>> {
        Next(self)
    }

    /// Whether the source was pulled to its end, every outcome is there, and the deadline for
    /// the whole cut nothing short.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.driver.is_over() && self.driver.is_complete()
    }
}

impl<F, H, R, O, T, E> Stream for AsFinished<F, H, R, O>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    type Item = (usize, Result<T, Error<E>>);

    #[inline(always)]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().driver.poll_finished(cx)
    }
}

impl<F, H, R, O, T, E> InOrder<F, H, R, O, T, E>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// The next outcome; `None` when there is no further one.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is a stream, which calls it so too"
    )]
    pub fn next(&mut self) -> impl Future<Output = Option<Result<T, Error<E>>>> {
        Next(self)
    }

    /// Whether the source was pulled to its end, every outcome is there, and the deadline for
    /// the whole cut nothing short.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.driver.is_over() && self.driver.is_complete()
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error<E>>>> {
        if mem::take(&mut self.paused) {
            if let Some(head) = self.waiting.take() {
                return Poll::Ready(Some(head));
            }
        }
        let window = self.driver.settings().limit.max(1).saturating_mul(2);
        self.driver.pull_until = self.waiting.next().saturating_add(window);
        // Also with an outcome at hand: the others are driven whenever this is polled.
        let driven = loop {
            match self.driver.poll_finished(cx) {
                Poll::Ready(Some((index, outcome))) if self.waiting.pass(index) => {
                    return Poll::Ready(Some(outcome));
                }
                Poll::Ready(Some((index, outcome))) => {
                    self.waiting.put(index, outcome);
                    if self.waiting.is_ready() {
                        break Poll::Pending;
                    }
                }
                Poll::Ready(None) => break Poll::Ready(None),
                // The pause comes before what is at hand, which would lead on to the next poll.
                Poll::Pending if self.driver.is_pausing() => {
                    self.paused = true;
                    return Poll::Pending;
                }
                Poll::Pending => break Poll::Pending,
            }
        };
        self.waiting
            .take()
            .map_or(driven, |head| Poll::Ready(Some(head)))
    }
}

impl<F, H, R, O, T, E> Stream for InOrder<F, H, R, O, T, E>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    type Item = Result<T, Error<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_head(cx)
    }
}

impl<F, H, R, O, T, E> Batches<F, H, R, O, T, E>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Starts the next batch, or goes on with one, until it is whole; `None` when there is no
    /// further one. The last one may be smaller.
    pub async fn next(&mut self) -> Option<Batch<T, E>> {
        poll_fn(|cx| self.poll_batch(cx)).await
    }

    /// Whether the source was pulled to its end, every outcome is there, and the deadline for
    /// the whole cut nothing short.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.driver.is_over() && self.driver.is_complete()
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Batch<T, E>>> {
        let begun = self.waiting.next() - self.batch.len();
        self.driver.pull_until = begun.saturating_add(self.size);
        ready!(self.driver.poll_each(cx, |(index, outcome)| {
            self.waiting.put_through(index, outcome, &mut self.batch);
            ControlFlow::Continue(())
        }));
        let batch = mem::take(&mut self.batch);
        Poll::Ready((!batch.is_empty()).then_some(batch))
    }
}

impl<F, H, R, O, T, E> Stream for Batches<F, H, R, O, T, E>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    type Item = Vec<Result<T, Error<E>>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_batch(cx)
    }
}

impl<F, H, R, O> fmt::Debug for AsFinished<F, H, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsFinished")
            .field("driver", &self.driver)
            .finish()
    }
}

impl<F, H, R, O, T, E> fmt::Debug for InOrder<F, H, R, O, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InOrder")
            .field("driver", &self.driver)
            .field("next", &self.waiting.next())
            .finish_non_exhaustive()
    }
}

impl<F, H, R, O, T, E> fmt::Debug for Batches<F, H, R, O, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("driver", &self.driver)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

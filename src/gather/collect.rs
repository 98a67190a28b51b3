//! The gathers that are awaited: for all outcomes, and for the first error.

use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::driver::Driver;
use super::item::Item;
use super::outcome::{Gathered, ItemError};
use super::progress::Listen;
use super::reorder::Reorder;
use super::supply::Supply;
use crate::error::Error;

/// A gather that is awaited for every outcome.
///
/// # Cancel safety
///
/// Dropping it drops all that is in flight, and the outcomes so far.
#[must_use = "a gather does nothing unless awaited"]
pub struct Collect<F, H, R, O, T, E> {
    driver: Driver<F, H, R, O>,
    /// In the order of the source; those that came before their turn are kept apart.
    outcomes: Vec<Result<T, Error<E>>>,
    waiting: Reorder<Result<T, Error<E>>>,
}

// Nothing is pinned in it.
impl<F, H, R, O, T, E> Unpin for Collect<F, H, R, O, T, E> {}

impl<F, H, R, O, T, E> Collect<F, H, R, O, T, E> {
    pub(super) fn new(driver: Driver<F, H, R, O>) -> Self {
        Self {
            driver,
            outcomes: Vec::new(),
            waiting: Reorder::new(),
        }
    }
}

impl<F, H, R, O, T, E> Future for Collect<F, H, R, O, T, E>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    type Output = Gathered<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Gathered<T, E>> {
        let this = self.get_mut();
        let (waiting, outcomes) = (&mut this.waiting, &mut this.outcomes);
        this.driver.reserve(outcomes);
        ready!(this.driver.poll_each(cx, |(index, outcome)| {
            waiting.put_through(index, outcome, outcomes);
            ControlFlow::Continue(())
        }));
        let mut all = mem::take(outcomes);
        // Somebody waits for good where a panic took an outcome away.
        all.extend(waiting.rest());
        let cut = !this.driver.is_complete();
        let cut_after = cut.then_some(this.driver.settings().deadline);
        Poll::Ready(Gathered::new(all, cut_after))
    }
}

/// A gather that is awaited for every value, or the first error.
///
/// # Cancel safety
///
/// Dropping it drops all that is in flight, and the values so far.
#[must_use = "a gather does nothing unless awaited"]
pub struct TryAll<F, H, R, O, T, E> {
    driver: Driver<F, H, R, O>,
    values: Vec<T>,
    waiting: Reorder<T>,
    error: Option<ItemError<E>>,
}

// Nothing is pinned in it.
impl<F, H, R, O, T, E> Unpin for TryAll<F, H, R, O, T, E> {}

impl<F, H, R, O, T, E> TryAll<F, H, R, O, T, E> {
    pub(super) fn new(driver: Driver<F, H, R, O>) -> Self {
        Self {
            driver,
            values: Vec::new(),
            waiting: Reorder::new(),
            error: None,
        }
    }
}

impl<F, H, R, O, T, E> Future for TryAll<F, H, R, O, T, E>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    type Output = Result<Vec<T>, ItemError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (waiting, values, first) = (&mut this.waiting, &mut this.values, &mut this.error);
        this.driver.reserve(values);
        ready!(this.driver.poll_each(cx, |(index, outcome)| {
            match outcome {
                // What ends after the first error is dropped: nobody wants it.
                _ if first.is_some() => {}
                Ok(value) => waiting.put_through(index, value, values),
                Err(error) => {
                    *first = Some(ItemError::new(index, error));
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        }));
        let mut values = mem::take(values);
        values.extend(waiting.rest());
        match this.error.take().or_else(|| this.not_begun()) {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(values)),
        }
    }
}

impl<F, H, R, O, T, E> TryAll<F, H, R, O, T, E>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// The deadline has passed while nothing was in flight: the item that is missing is the
    /// one that was not pulled.
    fn not_begun(&self) -> Option<ItemError<E>> {
        let late = || Error::timed_out(self.driver.settings().deadline);
        (!self.driver.is_complete()).then(|| ItemError::new(self.driver.index(), late()))
    }
}

impl<F, H, R, O, T, E> fmt::Debug for Collect<F, H, R, O, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

impl<F, H, R, O, T, E> fmt::Debug for TryAll<F, H, R, O, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryAll")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

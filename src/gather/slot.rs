//! The memory of one seat, and the polls of the item in it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::item::{End, Item};
use crate::error::{Error, Progress};
use crate::panics::{self, Payload};
use crate::policy::CallContext;

/// The memory of a seat: allocated once, used by one item after another.
pub(super) struct Slot<O> {
    item: Pin<Box<Option<O>>>,
    waker: Waker,
    /// Why it is being ended, if it is.
    pub(super) ending: Option<Cause>,
}

/// Why items are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its own time is up.
    Timeout,
    /// The time for the whole is up.
    Deadline,
    /// Nobody wants its outcome.
    Stopped,
}

/// An item's place in the source, and its outcome.
pub(super) type Finished<T, E> = (usize, Result<T, Error<E>>);

/// What a poll of a slot gave. Unless it is pending, the slot is empty.
pub(super) enum Polled<T, E> {
    Pending,
    Ready(Result<T, Error<E>>),
    Cut(Progress<E>),
    Panicked(Payload, Progress<E>),
}

impl<O> Slot<O> {
    /// An empty one.
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            item: Box::pin(None),
            waker,
            ending: None,
        }
    }

    pub(super) fn fill(&mut self, item: O) {
        self.item.as_mut().set(Some(item));
    }

    /// Drops what is in it; the panic, if that panics.
    pub(super) fn clear(&mut self) -> Option<Payload> {
        panics::caught(|| self.item.as_mut().set(None)).err()
    }
}

impl<O: Item> Slot<O> {
    #[inline]
    pub(super) fn poll(&mut self, call: &CallContext<'_>) -> Polled<O::Output, O::Error> {
        let mut cx = Context::from_waker(&self.waker);
        let slot = &mut self.item;
        // Kept outside: a panic in the item's drop must not drop the result while unwinding.
        let mut result = None;
        let panicked = panics::caught(|| {
            let item = slot.as_mut().as_pin_mut();
            if let Some(Poll::Ready(ready)) = item.map(|item| item.poll_item(call, &mut cx)) {
                result = Some(ready);
                slot.as_mut().set(None);
            }
        });
        match (panicked, result) {
            (Ok(()), None) => Polled::Pending,
            (Ok(()), Some(result)) => Polled::Ready(result),
            (Err(panic), result) => self.after_panic(panic, result),
        }
    }

    /// Ends the item, or goes on with that.
    pub(super) fn poll_end(&mut self) -> Polled<O::Output, O::Error> {
        let mut cx = Context::from_waker(&self.waker);
        let slot = &mut self.item;
        let mut ended = None;
        let panicked = panics::caught(|| {
            let item = slot.as_mut().as_pin_mut();
            if let Some(Poll::Ready(end)) = item.map(|item| item.poll_end(&mut cx)) {
                ended = Some(end);
                slot.as_mut().set(None);
            }
        });
        match (panicked, ended) {
            (Ok(()), None) => Polled::Pending,
            (Ok(()), Some(End::Cut(progress))) => Polled::Cut(progress),
            (Ok(()), Some(End::Itself(result))) => Polled::Ready(result),
            (Err(panic), Some(End::Itself(result))) => self.after_panic(panic, Some(result)),
            (Err(panic), _) => self.after_panic(panic, None),
        }
    }

    /// Asks the item how far it came, and empties the slot.
    #[cold]
    fn after_panic(
        &mut self,
        panic: Payload,
        result: Option<Result<O::Output, Error<O::Error>>>,
    ) -> Polled<O::Output, O::Error> {
        let mut cx = Context::from_waker(&self.waker);
        let mut item = self.item.as_mut().as_pin_mut();
        let asked = panics::caught(|| item.as_mut().map(|item| item.as_mut().poll_end(&mut cx)));
        let progress = match asked {
            Ok(Some(Poll::Ready(End::Cut(progress)))) => progress,
            _ => Progress::none(),
        };
        // Whatever panics now has been told of.
        let emptied = self.clear();
        let dropped = panics::caught(|| drop(result));
        for second in [emptied, dropped.err()].into_iter().flatten() {
            drop(panics::message(second));
        }
        let attempts = progress.attempts.max(1);
        Polled::Panicked(panic, Progress::new(attempts, progress.last))
    }
}

/// Of two panics only one can be passed on. A payload's drop is foreign code as well.
pub(super) fn keep_first(first: &mut Option<Payload>, second: Option<Payload>) {
    if first.is_none() {
        *first = second;
    } else {
        drop(second.map(panics::message));
    }
}

//! The memory of one seat, and the polls of the item in it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::item::{End, Ended, Item};
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
pub(super) type Polled<D, E> = Result<Poll<D>, Box<Crash<E>>>;

type PolledItem<O> =
    Polled<Result<<O as Item>::Output, Error<<O as Item>::Error>>, <O as Item>::Error>;

/// A panic, and how far the item came.
pub(super) struct Crash<E> {
    pub(super) panic: Payload,
    pub(super) progress: Progress<E>,
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

    /// Drops what is in it; the panic, if that panics.
    #[inline(always)]
    pub(super) fn clear(&mut self) -> Option<Payload> {
        panics::caught(|| self.item.as_mut().set(None)).err()
    }
}

impl<O: Item> Slot<O> {
    /// Puts an item in, and polls it for the first time.
    #[inline(always)]
    pub(super) fn start(&mut self, item: O, call: &CallContext<'_>) -> PolledItem<O> {
        self.drive(Some(item), call)
    }

    #[inline(always)]
    pub(super) fn poll(&mut self, call: &CallContext<'_>) -> PolledItem<O> {
        self.drive(None, call)
    }

    #[inline(always)]
    fn drive(&mut self, new: Option<O>, call: &CallContext<'_>) -> PolledItem<O> {
        let mut cx = Context::from_waker(&self.waker);
        let mut slot = self.item.as_mut();
        if new.is_some() {
            if slot.is_some() {
                std::mem::forget(new);
                unreachable!("a free seat's slot is empty");
            }
            slot.set(new);
        }
        let item = slot.as_mut().as_pin_mut();
        match panics::caught(|| item.map(|item| item.poll_item(call, &mut cx))) {
            Ok(Some(Poll::Ready(result))) => match panics::caught(|| slot.set(None)) {
                Ok(()) => Ok(Poll::Ready(result)),
                Err(panic) => Err(self.after_panic(panic, Some(result))),
            },
            Ok(_) => Ok(Poll::Pending),
            Err(panic) => Err(self.after_panic(panic, None)),
        }
    }

    /// Ends the item, or goes on with that.
    pub(super) fn poll_end(&mut self) -> Polled<Ended<O>, O::Error> {
        let mut cx = Context::from_waker(&self.waker);
        let item = self.item.as_mut().as_pin_mut();
        match panics::caught(|| item.map(|item| item.poll_end(&mut cx))) {
            Ok(Some(Poll::Ready(end))) => match (self.clear(), end) {
                (None, end) => Ok(Poll::Ready(end)),
                (Some(panic), End::Itself(result)) => Err(self.after_panic(panic, Some(result))),
                (Some(panic), End::Cut(_)) => Err(self.after_panic(panic, None)),
            },
            Ok(_) => Ok(Poll::Pending),
            Err(panic) => Err(self.after_panic(panic, None)),
        }
    }

    /// Asks the item how far it came, and empties the slot.
    #[cold]
    #[expect(
        clippy::unnecessary_box_returns,
        reason = "it is rare, and must be small"
    )]
    fn after_panic(
        &mut self,
        panic: Payload,
        result: Option<Result<O::Output, Error<O::Error>>>,
    ) -> Box<Crash<O::Error>> {
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
        let progress = Progress::new(attempts, progress.last);
        Box::new(Crash { panic, progress })
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

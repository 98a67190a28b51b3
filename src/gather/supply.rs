//! What a gather is fed by: a source, and how its items are put in flight.

use std::marker::PhantomData;
use std::task::{Poll, Waker};

use super::item::{IntoItem, Item, Launch, Limits};
use super::source::Source;
use crate::operation::Operation;

/// A source and how its items are put in flight.
#[derive(Debug)]
pub struct Origin<S, K, W> {
    pub(super) source: Option<S>,
    /// The source has said that there is no further item.
    pub(super) exhausted: bool,
    pub(super) launch: W,
    pub(super) kind: PhantomData<fn() -> K>,
}

/// What a gather is fed by. Never implemented by hand.
pub trait Supply {
    /// The operation, as the source gives it.
    type Raw;
    /// The operation, in flight.
    type Item: Item;

    #[doc(hidden)]
    fn pull<'w>(&mut self, waker: impl FnOnce() -> &'w Waker) -> Poll<Option<(u32, Self::Raw)>>;
    #[doc(hidden)]
    fn launch(&self, raw: Self::Raw, limits: Limits) -> Self::Item;
    #[doc(hidden)]
    fn total(&self) -> Option<usize>;
    /// Whether the source was pulled to its end.
    #[doc(hidden)]
    fn is_exhausted(&self) -> bool;
    /// Drops the source, wherever it stands.
    #[doc(hidden)]
    fn close(&mut self);
}

impl<S, K, W, R> Supply for Origin<S, K, W>
where
    S: Source,
    S::Item: IntoItem<K, Operation = R>,
    R: Operation,
    W: Launch<R>,
{
    type Raw = R;
    type Item = W::Item;

    #[inline]
    fn pull<'w>(&mut self, waker: impl FnOnce() -> &'w Waker) -> Poll<Option<(u32, R)>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        match source.pull(waker) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(item.into_item())),
            Poll::Ready(None) => {
                self.exhausted = true;
                self.source = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    #[inline]
    fn launch(&self, raw: R, limits: Limits) -> W::Item {
        self.launch.launch(raw, limits)
    }

    fn total(&self) -> Option<usize> {
        self.source.as_ref()?.total()
    }

    fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    fn close(&mut self) {
        self.source = None;
    }
}

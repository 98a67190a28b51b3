//! Where the items come from: an iterator, or a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

/// What a gather pulls its items from. Never implemented by hand: an iterator or a stream is
/// [converted](IntoSource).
pub trait Source {
    /// What is pulled.
    type Item;

    /// Pulls the next item; nothing is pulled after `None`.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Item>>;

    /// The same, for a source that may need no waker.
    #[doc(hidden)]
    #[inline]
    fn pull<'w>(&mut self, waker: impl FnOnce() -> &'w Waker) -> Poll<Option<Self::Item>> {
        self.poll_next(&mut Context::from_waker(waker()))
    }

    /// How many items there are, if that is known exactly. Nothing relies on it.
    fn total(&self) -> Option<usize>;
}

/// An iterator or a stream. `Kind` tells the two apart; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither an iterator nor a stream",
    note = "give `gather` an `IntoIterator` or a `futures_core::Stream` of operations"
)]
pub trait IntoSource<Kind> {
    /// The source.
    type Source: Source;

    /// Converts. Pulls nothing.
    fn into_source(self) -> Self::Source;
}

/// [`IntoSource`]'s kind of an iterator.
#[derive(Debug)]
pub enum OfIterator {}

/// [`IntoSource`]'s kind of a stream.
#[derive(Debug)]
pub enum OfStream {}

/// An iterator as a source.
pub struct FromIter<I>(I);

// Nothing is pinned in it.
impl<I> Unpin for FromIter<I> {}

impl<I: IntoIterator> IntoSource<OfIterator> for I {
    type Source = FromIter<I::IntoIter>;

    fn into_source(self) -> Self::Source {
        FromIter(self.into_iter())
    }
}

impl<I: Iterator> Source for FromIter<I> {
    type Item = I::Item;

    #[inline]
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }

    #[inline]
    fn pull<'w>(&mut self, _: impl FnOnce() -> &'w Waker) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }

    fn total(&self) -> Option<usize> {
        exact(self.0.size_hint())
    }
}

/// A stream as a source. It is boxed, once.
pub struct FromStream<S>(Pin<Box<S>>);

impl<S: Stream> IntoSource<OfStream> for S {
    type Source = FromStream<S>;

    fn into_source(self) -> FromStream<S> {
        FromStream(Box::pin(self))
    }
}

impl<S: Stream> Source for FromStream<S> {
    type Item = S::Item;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(cx)
    }

    fn total(&self) -> Option<usize> {
        exact(self.0.size_hint())
    }
}

fn exact((low, high): (usize, Option<usize>)) -> Option<usize> {
    high.filter(|high| *high == low)
}

impl<I> fmt::Debug for FromIter<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromIter")
    }
}

impl<S> fmt::Debug for FromStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromStream")
    }
}

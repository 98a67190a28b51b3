//! A stream as an iterator.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;

use super::run;
use crate::error::Refusal;

/// Waits for one item after the other on this thread: for scripts that loop over outcomes.
///
/// The stream is driven while an item is waited for, and only then; see the text of
/// [`Gather`](crate::Gather) on slow consumers, and its `in_background`.
///
/// # Errors
///
/// Each item may be what [`run`] returns instead: the loop can be entered on a plain thread
/// and go on inside of a runtime. The stream is then as it was.
///
/// # Panics
///
/// When the stream does.
///
/// # Examples
///
/// ```
/// use mainstay::{blocking, gather};
///
/// async fn fetch(page: u32) -> std::io::Result<u32> { Ok(page) }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pages = gather((1..=10).map(fetch)).limit(4).as_finished();
///     let mut sum = 0;
///     for item in blocking::iter(pages) {
///         let (_index, page) = item?;
///         sum += page?;
///     }
///     assert_eq!(sum, 55);
///     Ok(())
/// }
/// ```
pub fn iter<S: Stream>(stream: S) -> Iter<S> {
    Iter {
        stream: Box::pin(stream),
    }
}

/// The items of a stream, waited for on this thread; see [`iter`].
#[must_use = "an iterator does nothing unless it is asked"]
pub struct Iter<S> {
    stream: Pin<Box<S>>,
}

impl<S: Stream> Iterator for Iter<S> {
    type Item = Result<S::Item, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        run(poll_fn(|cx| self.stream.as_mut().poll_next(cx))).transpose()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The refusals, of which there may be any number, come in between.
        (self.stream.size_hint().0, None)
    }
}

impl<S> fmt::Debug for Iter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

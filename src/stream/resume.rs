//! A stream that is opened again where it was cut.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio_util::sync::CancellationToken;

use super::limit::Limit;
use super::session::{Event, Session};
use super::source::{Asking, Source};
use super::{Background, Guarded};
use crate::error::{Error, Progress};
use crate::operation::Operation;
use crate::policy::CallContext;
use crate::rate_limit::RateLimiter;
use crate::retry::{Backoff, BackoffDelays, Classify, Delays, Retry, RetryHook, Retrying, Verdict};
use crate::time::Instant;

/// Reads a stream that can be cut, and opens it again from where it was read to.
///
/// `open` is given the cursor and opens a source there; `seen` moves the cursor past each item
/// before it is handed out. With a source that honours the cursor no item comes twice and none
/// is lost.
///
/// A [`Retry`] decides about each end: after an error it waits as its back-off says and opens
/// the source again. An end without an error is an `Ok(())` to its classifier, which ends the
/// stream by default; where the server ends its streams now and then,
/// [`classify_ok`](crate::retry::RetryBuilder::classify_ok) can say [`Verdict::Retry`].
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `retry` | [`Retry::default`] | 3 attempts, back-off, a budget of its own |
/// | `stable_after` | 10 s | longer than a source lives that dies at its start, shorter than most live |
/// | `stable_after_items` | none | a source that repeats its first items for ever makes no progress |
/// | `time_limit_each` | none | only you know how quiet the source may be |
///
/// **What counts as an attempt.** A source that opens, yields an item and dies is no success:
/// its attempts go on being counted, and its back-off grows. Only one that has been open for
/// `stable_after` begins a new course, of which its end is the first failure. A zero
/// `stable_after` makes each opening count as new. It counts up to the last item, or as long as
/// someone waits for the next one: while the consumer is busy with an item, nobody can tell
/// whether the source still lives.
///
/// # Errors
///
/// When the retry gives up, its error is the last item; its attempts are those since the source
/// was last stable.
///
/// # Cancel safety
///
/// Dropping a `next` loses no item, and its time limit stands still until the next one.
/// Dropping the stream drops the source, or opens no other.
///
/// # Examples
///
/// ```
/// use futures_util::stream;
/// use mainstay::stream::resume;
/// use mainstay::retry::{Backoff, Retry};
/// use std::io::{Error, ErrorKind};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A server that is cut off after each second item.
/// let open = async |after: u32| {
///     let items = (after + 1..=5).map(Ok).take(2);
///     let cut = (after < 3).then(|| Err(Error::from(ErrorKind::ConnectionReset)));
///     Ok(stream::iter(items.chain(cut)))
/// };
/// let retry = Retry::builder().backoff(Backoff::constant(Duration::ZERO)).build()?;
/// let mut lines = resume(0, open, |last, line| *last = *line).retry(retry);
/// let mut seen = Vec::new();
/// while let Some(line) = lines.next().await {
///     seen.push(line?);
/// }
/// assert_eq!(seen, [1, 2, 3, 4, 5]);
/// # Ok(())
/// # }
/// ```
#[expect(
    clippy::type_complexity,
    reason = "it is inferred, and nobody writes it"
)]
pub fn resume<C, Open, Seen, Fut, S, T, E>(
    cursor: C,
    open: Open,
    seen: Seen,
) -> Resumed<Retry, BackoffDelays, E, Session<C, Open, Seen, Fut, S, T, E>>
where
    C: Clone,
    Open: FnMut(C) -> Fut,
    Seen: FnMut(&mut C, &T),
    Fut: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<T, E>>,
{
    Resumed::new(
        Retry::<Backoff>::default(),
        Session::new(cursor, open, seen),
    )
}

/// A stream that is opened again where it was cut: see [`resume()`].
///
/// `R` is the retry, `I` are its delays, `O` is the source.
#[must_use = "a stream does nothing unless polled"]
pub struct Resumed<R, I, E, O> {
    run: Retrying<R, R, I, (), E, O>,
    ended: bool,
}

impl<R, I, E, O> Resumed<R, I, E, O> {
    fn new(retry: R, session: O) -> Self {
        Self {
            run: Retrying::new(retry, session),
            ended: false,
        }
    }

    /// Decides about each end; see [`resume()`]. To be said before anything is asked for:
    /// attempts made so far are forgotten.
    pub fn retry<B: Delays, K, H>(
        self,
        retry: Retry<B, K, H>,
    ) -> Resumed<Retry<B, K, H>, B::Iter, E, O> {
        Resumed::new(retry, self.run.into_inner())
    }

    /// Limits the time of the whole stream; see [`Guarded::time_limit`]. No wait of the retry
    /// is begun that could not end in time, and the error tells the cause.
    pub fn time_limit(self, limit: Duration) -> Guarded<Self> {
        Guarded::new(self).time_limit(limit)
    }

    /// Takes a permit for each item, before it is asked for; see [`Guarded::rate_limit`].
    pub fn rate_limit(self, limiter: &RateLimiter) -> Guarded<Self> {
        Guarded::new(self).rate_limit(limiter)
    }

    /// Cancels `token` when the stream goes; see [`Guarded::cancel_on_drop`].
    pub fn cancel_on_drop(self, token: CancellationToken) -> Guarded<Self> {
        Guarded::new(self).cancel_on_drop(token)
    }

    /// Asks for items ahead, in a task of its own; see [`Guarded::in_background`].
    pub fn in_background<T>(self, buffer: usize) -> Background<T, E>
    where
        Self: Source<Output = T, Error = E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Guarded::new(self).in_background(buffer)
    }

    /// The next item, `None` at the end.
    ///
    /// # Errors
    ///
    /// An item may be one, and is the last then; see [`resume()`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no item.
    pub async fn next<T>(&mut self) -> Option<Result<T, Error<E>>>
    where
        Self: Source<Output = T, Error = E> + Unpin,
    {
        let asking = Asking {
            stream: self,
            pause: |this| Pin::new(this).pause(),
        };
        poll_fn(|cx| Pin::new(&mut *asking.stream).poll_next(cx)).await
    }
}

impl<R, I, C, Open, Seen, Fut, S, T, E> Resumed<R, I, E, Session<C, Open, Seen, Fut, S, T, E>> {
    /// How long a source must have been open for its end to begin a new course of attempts.
    pub fn stable_after(mut self, span: Duration) -> Self {
        self.run.inner_mut().stability.after = span;
        self
    }

    /// How many items are as good as the time of [`stable_after`](Self::stable_after).
    pub fn stable_after_items(mut self, items: u64) -> Self {
        self.run.inner_mut().stability.items = items;
        self
    }

    /// Limits the time from asking for an item to getting it, with the opening where there is
    /// one. A source that is too late is dropped, as one that failed with
    /// [`Error::TimedOut`].
    pub fn time_limit_each(mut self, limit: Duration) -> Self {
        self.run.inner_mut().each = Limit::new(limit);
        self
    }

    /// Where the source would be opened now.
    #[must_use]
    pub fn cursor(&self) -> &C {
        self.run.inner().cursor()
    }
}

impl<R, I, E, O> Stream for Resumed<R, I, E, O>
where
    Self: Source<Error = E>,
{
    type Item = Result<<Self as Source>::Output, Error<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_within(Instant::NEVER, cx)
    }
}

impl<B, K, H, C, Open, Seen, Fut, S, T, E> Source
    for Resumed<Retry<B, K, H>, B::Iter, E, Session<C, Open, Seen, Fut, S, T, E>>
where
    B: Delays,
    K: Classify<(), E, Verdict>,
    H: RetryHook<(), E>,
    C: Clone,
    Open: FnMut(C) -> Fut,
    Seen: FnMut(&mut C, &T),
    Fut: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<T, E>>,
{
    type Output = T;
    type Error = E;

    fn poll_within(
        self: Pin<&mut Self>,
        deadline: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, Error<E>>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let call = CallContext::root().until(deadline);
        let polled = Pin::new(&mut this.run).poll(&call, cx);
        match this.run.inner_mut().take_event() {
            Some(Event::HandOut(item)) => Poll::Ready(Some(Ok(item))),
            Some(Event::BeginAnew) => {
                this.run.begin_anew();
                // A source that dies at once and counts as stable must let others run.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                let result = ready!(polled);
                this.ended = true;
                Poll::Ready(result.err().map(Err))
            }
        }
    }

    fn pause(self: Pin<&mut Self>) {
        self.get_mut().run.inner_mut().pause();
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        let this = self.get_mut();
        this.ended = true;
        Pin::new(&mut this.run).cancel()
    }
}

impl<R, I, E, O> Unpin for Resumed<R, I, E, O> where O: Unpin {}

impl<R, I, E, O: fmt::Debug> fmt::Debug for Resumed<R, I, E, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumed")
            .field("session", self.run.inner())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

//! A stream with limits.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Background;
use super::limit::Limit;
use super::source::{Asking, Polled, Source};
use crate::error::{Error, Progress, Refusal};
use crate::policy::{Acquire, CallContext};
use crate::rate_limit::RateLimiter;

/// A stream with limits: made by [`ResilientStream`](super::ResilientStream).
///
/// Defaults, in one place; the last one given of each counts:
///
/// | setting | default | why |
/// |---|---|---|
/// | `time_limit_each` | none | only you know how quiet the source may be |
/// | `time_limit` | none | a stream may be without end |
/// | `rate_limit` | none | |
///
/// # Errors
///
/// The source's own errors, after which it may go on; [`Error::TimedOut`];
/// [`Refusal::RateLimited`] when the next permit would come only after the end of the whole
/// time, and [`Refusal::TooLarge`] when a permit costs more than the limiter ever has.
///
/// # Cancel safety
///
/// Dropping a `next` loses nothing: the permit that was taken and the item that was asked for
/// are the next one's. It leaves the limiter's queue, where it would hold up others; one who
/// uses `poll_next` by hand, and stops, stays there until the stream is dropped, and time goes
/// on for him. Dropping the stream drops its source and leaves the queue.
#[must_use = "a stream does nothing unless polled"]
pub struct Guarded<S> {
    /// `None` once it has ended.
    source: Option<Open<S>>,
    whole: Limit,
    each: Limit,
    limiter: Option<RateLimiter>,
    waiting: Option<Box<Acquire<RateLimiter>>>,
    /// An item was asked for, and has not come.
    asked: bool,
    /// Whether anything was asked for.
    begun: bool,
}

struct Open<S> {
    // Dropped first: when the token tells others, the stream has gone.
    stream: Pin<Box<S>>,
    tokens: Vec<DropGuard>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S) -> Self {
        let stream = Box::pin(stream);
        let tokens = Vec::new();
        Self {
            source: Some(Open { stream, tokens }),
            whole: Limit::none(),
            each: Limit::none(),
            limiter: None,
            waiting: None,
            asked: false,
            begun: false,
        }
    }

    /// Limits the time from asking for an item to getting it. The wait for a permit is not
    /// counted, nor the time in which nobody asks since a [`next`](Self::next) was dropped (by
    /// a `select!` whose other branch takes long): that is not the source's.
    ///
    /// When it passes, the item is an [`Error::TimedOut`], and the stream goes on: what is
    /// late may still come, and the limit begins anew when it is asked for again. Drop the
    /// stream to end it, or let [`resume()`](super::resume()) open it again.
    pub fn time_limit_each(mut self, limit: Duration) -> Self {
        self.each = Limit::new(limit);
        self
    }

    /// Limits the time from the first time an item is asked for to the end.
    ///
    /// When it passes, the source is dropped at once; the last item is an
    /// [`Error::TimedOut`]. An item that is ready in the very poll in which the limit passes
    /// is still given, and none is asked for after it.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.whole = Limit::new(limit);
        self
    }

    /// Takes a permit for each item, before it is asked for, and waits for it as long as that
    /// takes, whatever the limiter's own maximum wait: a stream is slowed down, not refused.
    ///
    /// A permit that would come only after the end of the whole time ends the stream at once,
    /// with [`Refusal::RateLimited`].
    pub fn rate_limit(mut self, limiter: &RateLimiter) -> Self {
        self.limiter = Some(limiter.patient());
        self.waiting = None;
        self
    }

    /// Cancels `token` when the source goes: the stream is dropped, has ended, or its whole
    /// time has passed. Those who work for this stream then know that nobody listens.
    pub fn cancel_on_drop(mut self, token: CancellationToken) -> Self {
        let guard = token.drop_guard();
        if let Some(source) = &mut self.source {
            source.tokens.push(guard);
        }
        self
    }

    /// The next item, `None` at the end.
    ///
    /// # Errors
    ///
    /// An item may be one; see the type's text.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no item.
    pub async fn next<T, E>(&mut self) -> Option<Result<T, Error<E>>>
    where
        S: Source<Output = T, Error = E>,
    {
        let asking = Asking {
            stream: self,
            pause: Self::pause,
        };
        poll_fn(|cx| Pin::new(&mut *asking.stream).poll_next(cx)).await
    }

    /// A place in the queue is not kept for one who may never come back, and what remains of
    /// the item's time is for the one who asks next.
    fn pause(&mut self)
    where
        S: Source,
    {
        self.waiting = None;
        self.each.pause();
        if let Some(source) = &mut self.source {
            source.stream.as_mut().pause();
        }
    }

    /// Asks for items ahead, at most `buffer` of them (at least 1), in a task of its own.
    ///
    /// The task starts when the first item is asked for. It is aborted when the returned
    /// stream is dropped, at the source's next await. See [`Background`].
    pub fn in_background<T, E>(self, buffer: usize) -> Background<T, E>
    where
        S: Source<Output = T, Error = E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Background::new(self, buffer)
    }

    /// Waits for the permit of the next item.
    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let Some(limiter) = &self.limiter else {
            return Poll::Ready(Ok(()));
        };
        let call = CallContext::root().until(self.whole.begin());
        let waiting = &mut self.waiting;
        let acquire = waiting.get_or_insert_with(|| Box::new(Acquire::new(limiter.clone())));
        let permit = ready!(acquire.poll_within(&call, cx));
        *waiting = None;
        // What was taken is spent: there is nothing to hold on to.
        Poll::Ready(permit.map(drop))
    }

    fn end(&mut self) {
        self.whole.clear();
        self.each.clear();
        self.waiting = None;
        self.source = None;
    }
}

impl<S: Source> Stream for Guarded<S> {
    type Item = Result<S::Output, Error<S::Error>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.source.is_none() {
            return Poll::Ready(None);
        }
        if !this.asked {
            if this.whole.has_passed() {
                return Poll::Ready(Some(Err(this.out_of_time())));
            }
            this.whole.begin();
            match this.poll_permit(cx) {
                Poll::Pending => return this.poll_limits(cx).map(|late| Some(Err(late))),
                Poll::Ready(Err(reason)) => {
                    this.end();
                    return Poll::Ready(Some(Err(Error::refused(reason))));
                }
                Poll::Ready(Ok(())) => this.asked = true,
            }
        }
        this.poll_item(cx)
    }
}

impl<S: Source> Guarded<S> {
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Polled<S> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let deadline = self.whole.begin();
        self.begun = true;
        match source.stream.as_mut().poll_within(deadline, cx) {
            Poll::Pending => self.poll_limits(cx).map(|late| Some(Err(late))),
            Poll::Ready(Some(item)) => {
                self.asked = false;
                self.each.clear();
                Poll::Ready(Some(item))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    /// Whether the time of the whole or of the item has passed.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Error<S::Error>> {
        if self.whole.poll(cx).is_ready() {
            return Poll::Ready(self.out_of_time());
        }
        if !self.asked {
            return Poll::Pending;
        }
        ready!(self.each.poll(cx));
        self.each.clear();
        let late = Error::timed_out(self.each.span);
        Poll::Ready(late.after(Progress::started(1)))
    }

    fn out_of_time(&mut self) -> Error<S::Error> {
        let cut = self.source.take().filter(|_| self.begun);
        let progress = cut.map_or_else(Progress::none, |mut cut| cut.stream.as_mut().cancel());
        self.end();
        Error::timed_out(self.whole.span).after(progress)
    }
}

/// The source is in a box, and nothing else is pinned.
impl<S> Unpin for Guarded<S> {}

impl<S> fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("time_limit_each", &self.each.span)
            .field("time_limit", &self.whole.span)
            .field("limiter", &self.limiter)
            .field("ended", &self.source.is_none())
            .finish_non_exhaustive()
    }
}

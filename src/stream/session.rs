//! One run of a source after another: opened, read, cut, opened again where it was cut.
//!
//! Invariants:
//! - There is one source at a time, and none while a retry waits.
//! - The cursor has seen exactly the items that were handed out.
//! - What has run stably and was cut begins a new course of attempts; what has not goes on
//!   with the old one.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use super::limit::Limit;
use crate::error::{Error, Progress};
use crate::operation::{Operation, Repeatable};
use crate::policy::CallContext;
use crate::time::{self, Instant};

/// When a source counts as stable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stability {
    pub(super) after: Duration,
    pub(super) items: u64,
}

impl Stability {
    fn is_reached(self, lasted: Duration, items: u64) -> bool {
        lasted >= self.after || items >= self.items
    }
}

/// A source as an operation: an attempt opens it and reads it to its end.
///
/// What it reads is handed out on the way, by `take_event`: while there is
/// an event, `Pending` says nothing else.
pub struct Session<C, Open, Seen, Fut, S, T, E> {
    cursor: C,
    open: Open,
    seen: Seen,
    stage: Stage<Fut, S>,
    event: Option<Event<T>>,
    /// How a stable source ended, while a new course of attempts is begun.
    ended: Option<Result<(), Error<E>>>,
    pub(super) each: Limit,
    pub(super) stability: Stability,
}

enum Stage<Fut, S> {
    Idle,
    Opening(Pin<Box<Fut>>),
    Reading(Reading<S>),
}

struct Reading<S> {
    source: Pin<Box<S>>,
    since: Instant,
    items: u64,
    /// When it was last seen to live, by an item or by someone who waited; `None` while
    /// someone waits.
    seen: Option<Instant>,
}

impl<S> Reading<S> {
    fn new(source: S) -> Self {
        let source = Box::pin(source);
        Self {
            source,
            since: time::now(),
            items: 0,
            seen: None,
        }
    }

    /// How long it has lived for certain. What passes while its consumer is busy is not
    /// counted: it may have died at the beginning of that.
    fn lasted(&self) -> Duration {
        self.seen.unwrap_or_else(time::now).since(self.since)
    }
}

/// What the one who drives the retry is to do before anything else.
pub(super) enum Event<T> {
    HandOut(T),
    /// The source was stable: its end is the first failure of a new course.
    BeginAnew,
}

impl<C, Open, Seen, Fut, S, T, E> Session<C, Open, Seen, Fut, S, T, E> {
    pub(super) const fn new(cursor: C, open: Open, seen: Seen) -> Self {
        Self {
            cursor,
            open,
            seen,
            stage: Stage::Idle,
            event: None,
            ended: None,
            each: Limit::none(),
            stability: Stability {
                after: Duration::from_secs(10),
                items: u64::MAX,
            },
        }
    }

    pub(super) fn take_event(&mut self) -> Option<Event<T>> {
        self.event.take()
    }

    pub(super) const fn cursor(&self) -> &C {
        &self.cursor
    }

    /// The source is at its end; it is dropped before anything else is done.
    fn end(&mut self, result: Result<(), Error<E>>) -> Poll<Result<(), Error<E>>> {
        self.each.clear();
        let stable = match mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Reading(reading) => self.stability.is_reached(reading.lasted(), reading.items),
            Stage::Idle | Stage::Opening(_) => false,
        };
        if !stable {
            return Poll::Ready(result);
        }
        self.ended = Some(result);
        self.event = Some(Event::BeginAnew);
        Poll::Pending
    }

    /// Nobody waits any more, for a while.
    pub(super) fn pause(&mut self) {
        self.each.pause();
        if let Stage::Reading(reading) = &mut self.stage {
            reading.seen.get_or_insert_with(time::now);
        }
    }

    /// Whether what was asked for is too late.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        if self.each.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let late = Error::timed_out(self.each.span);
        self.end(Err(late.after(Progress::started(1))))
    }
}

impl<C, Open, Seen, Fut, S, T, E> Session<C, Open, Seen, Fut, S, T, E>
where
    C: Clone,
    Open: FnMut(C) -> Fut,
    Seen: FnMut(&mut C, &T),
    Fut: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<T, E>>,
{
    /// What is polled is out of the stage meanwhile: an opening that panics is dropped, and
    /// begun again from what was seen if anyone asks once more. So is a source.
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        let mut opening = match mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => Box::pin((self.open)(self.cursor.clone())),
            Stage::Opening(opening) => opening,
            Stage::Reading(reading) => return self.poll_item(reading, cx),
        };
        match opening.as_mut().poll(cx) {
            Poll::Pending => {
                self.stage = Stage::Opening(opening);
                self.poll_limit(cx)
            }
            Poll::Ready(Err(error)) => self.end(Err(Error::operation(error))),
            Poll::Ready(Ok(source)) => self.poll_item(Reading::new(source), cx),
        }
    }

    fn poll_item(
        &mut self,
        mut reading: Reading<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<E>>> {
        let polled = reading.source.as_mut().poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(item))) => {
                (self.seen)(&mut self.cursor, item);
                reading.items = reading.items.saturating_add(1);
                reading.seen = Some(time::now());
                self.each.clear();
            }
            Poll::Pending => reading.seen = None,
            Poll::Ready(_) => {}
        }
        self.stage = Stage::Reading(reading);
        match polled {
            Poll::Pending => self.poll_limit(cx),
            Poll::Ready(None) => self.end(Ok(())),
            Poll::Ready(Some(Err(error))) => self.end(Err(Error::operation(error))),
            Poll::Ready(Some(Ok(item))) => {
                self.event = Some(Event::HandOut(item));
                Poll::Pending
            }
        }
    }
}

impl<C, Open, Seen, Fut, S, T, E> Operation for Session<C, Open, Seen, Fut, S, T, E>
where
    C: Clone,
    Open: FnMut(C) -> Fut,
    Seen: FnMut(&mut C, &T),
    Fut: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<T, E>>,
{
    type Output = ();
    type Error = E;

    fn poll(
        self: Pin<&mut Self>,
        _: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<E>>> {
        let this = self.get_mut();
        match this.ended.take() {
            Some(result) => Poll::Ready(result),
            None => this.poll_run(cx),
        }
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        let this = self.get_mut();
        let stage = mem::replace(&mut this.stage, Stage::Idle);
        this.each.clear();
        let ended = this.ended.take();
        let last = ended.and_then(|result| result.err()?.into_last());
        let started = last.is_some() || !matches!(stage, Stage::Idle);
        Progress::new(u32::from(started), last)
    }
}

impl<C, Open, Seen, Fut, S, T, E> Repeatable for Session<C, Open, Seen, Fut, S, T, E>
where
    C: Clone,
    Open: FnMut(C) -> Fut,
    Seen: FnMut(&mut C, &T),
    Fut: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<T, E>>,
{
}

/// What needs to be pinned is in boxes.
impl<C, Open, Seen, Fut, S, T, E> Unpin for Session<C, Open, Seen, Fut, S, T, E> {}

impl<C: fmt::Debug, Open, Seen, Fut, S, T, E> fmt::Debug for Session<C, Open, Seen, Fut, S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("cursor", &self.cursor)
            .field("reading", &matches!(self.stage, Stage::Reading(_)))
            .finish_non_exhaustive()
    }
}

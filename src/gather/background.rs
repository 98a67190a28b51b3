//! A gather in a task of its own, which goes on while its consumer is slow.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use tokio::task::JoinHandle;

use super::Settings;
use super::driver::Driver;
use super::item::{IntoItem, Item, Through};
use super::progress::Listen;
use super::slot::{Finished, keep_first};
use super::source::Source;
use super::supply::{Origin, Supply};
use crate::operation::Operation;
use crate::panics::{self, Payload};
use crate::policy::{Pipeline, Policy};
use crate::sync::Lock;

/// What the task hands over to the consumer.
struct State<T, E> {
    waiting: VecDeque<Finished<T, E>>,
    /// Set while the task waits for room, and while the consumer waits for an outcome.
    task: Option<Waker>,
    consumer: Option<Waker>,
    ended: bool,
    complete: bool,
    panic: Option<Payload>,
}

type Shared<T, E> = Arc<Lock<State<T, E>>>;

/// The task's end of the line: its drop, whatever the reason, ends it.
struct Line<T, E> {
    shared: Shared<T, E>,
    buffer: usize,
}

impl<T, E> Line<T, E> {
    /// Whether there is room; if not, who is to be woken when there is.
    fn has_room(&self, cx: &Context<'_>) -> bool {
        if self.shared.lock().waiting.len() < self.buffer {
            return true;
        }
        let waker = cx.waker().clone();
        let (room, unused) = {
            let mut state = self.shared.lock();
            if state.waiting.len() < self.buffer {
                (true, Some(waker))
            } else {
                (false, state.task.replace(waker))
            }
        };
        drop(unused);
        room
    }

    fn send(&self, done: Finished<T, E>) {
        self.change(|state| state.waiting.push_back(done));
    }

    fn end(&self, complete: bool, panic: Option<Payload>) {
        self.change(|state| {
            state.ended = true;
            state.complete = complete;
            state.panic = panic;
        });
    }

    fn change(&self, change: impl FnOnce(&mut State<T, E>)) {
        let consumer = {
            let mut state = self.shared.lock();
            change(&mut state);
            state.consumer.take()
        };
        consumer.into_iter().for_each(Waker::wake);
    }
}

impl<T, E> Drop for Line<T, E> {
    fn drop(&mut self) {
        self.change(|state| state.ended = true);
    }
}

/// What the task holds. When the end is told, all else is gone, also where the task is
/// dropped: the fields are dropped in this order.
struct Pump<D, T, E> {
    driver: D,
    line: Line<T, E>,
}

impl<F, H, R, O, T, E> Pump<Driver<F, H, R, O>, T, E>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Drives the gather to its end, and holds it back while there is no room.
    async fn run(mut self) {
        let panicked = loop {
            match poll_fn(|cx| self.poll_finished(cx)).await {
                Ok(Some(done)) => self.line.send(done),
                Ok(None) => break None,
                Err(panic) => break Some(panic),
            }
        };
        self.end(panicked);
    }

    fn poll_finished(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Finished<T, E>>, Payload>> {
        self.driver.hold(!self.line.has_room(cx));
        match panics::caught(|| self.driver.poll_finished(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }

    fn end(self, mut panicked: Option<Payload>) {
        let Self { driver, line } = self;
        let complete = driver.is_complete();
        keep_first(&mut panicked, panics::caught(|| drop(driver)).err());
        line.end(complete, panicked);
    }
}

/// The outcomes of a gather that runs in a task of its own, as they come, each with its
/// item's place in the source.
///
/// A [`Stream`], which needs no extension trait: [`next`](Self::next).
///
/// # Cancel safety
///
/// `next` can be dropped at any point: what has not been handed out comes the next time.
/// Dropping the stream aborts the task, which drops all that is in flight as soon as the
/// runtime gets to it. When `next` says that there is no further outcome, the source, the
/// listener and all that was in flight have been dropped.
///
/// # Panics
///
/// `next` passes on a panic of the source, of the listener, and of an item if panics are to
/// be propagated, when everything before it has been handed out.
#[must_use = "dropping it ends the gather"]
pub struct Background<T, E> {
    shared: Shared<T, E>,
    task: JoinHandle<()>,
    buffer: usize,
}

impl<T, E> Background<T, E> {
    /// The next outcome; `None` when there is no further one.
    pub async fn next(&mut self) -> Option<Finished<T, E>> {
        poll_fn(|cx| self.poll_done(cx)).await
    }

    /// Whether the source was pulled to its end, every outcome was handed out, and neither
    /// the deadline for the whole nor a panic nor the end of the runtime cut anything short.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let state = self.shared.lock();
        state.complete && state.waiting.is_empty()
    }

    fn poll_done(&mut self, cx: &Context<'_>) -> Poll<Option<Finished<T, E>>> {
        if let Some(done) = self.take() {
            return done;
        }
        let waker = cx.waker().clone();
        let unused = self.shared.lock().consumer.replace(waker);
        drop(unused);
        // Something may have come meanwhile.
        self.take().unwrap_or(Poll::Pending)
    }

    fn take(&mut self) -> Option<Poll<Option<Finished<T, E>>>> {
        let (done, task, panic) = {
            let mut state = self.shared.lock();
            let done = state.waiting.pop_front();
            if done.is_none() && !state.ended {
                return None;
            }
            let room = state.waiting.len() < self.buffer;
            let task = if room { state.task.take() } else { None };
            let panic = if done.is_none() {
                state.panic.take()
            } else {
                None
            };
            (done, task, panic)
        };
        task.into_iter().for_each(Waker::wake);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        Some(Poll::Ready(done))
    }
}

impl<T, E> Stream for Background<T, E> {
    type Item = Finished<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_done(cx)
    }
}

// Nothing is pinned in it.
impl<T, E> Unpin for Background<T, E> {}

impl<T, E> Drop for Background<T, E> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T, E> Background<T, E> {
    fn new(buffer: usize, spawn: impl FnOnce(Line<T, E>) -> JoinHandle<()>) -> Self {
        let buffer = buffer.max(1);
        let shared = Arc::new(Lock::new(State {
            waiting: VecDeque::new(),
            task: None,
            consumer: None,
            ended: false,
            complete: false,
            panic: None,
        }));
        let line = Line {
            shared: Arc::clone(&shared),
            buffer,
        };
        Self {
            shared,
            task: spawn(line),
            buffer,
        }
    }

    /// Of a gather that borrows nothing.
    pub(super) fn spawn<F, H, R, O>(driver: Driver<F, H, R, O>, buffer: usize) -> Self
    where
        F: Supply<Raw = R, Item = O> + Send + 'static,
        O: Item<Output = T, Error = E> + Send + 'static,
        H: Listen + Send + 'static,
        R: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Self::new(buffer, |line| tokio::spawn(Pump { driver, line }.run()))
    }

    /// Of a gather through a pipeline, of which the task holds a handle.
    pub(super) fn spawn_through<S, K, P, H, R>(
        parts: Parts<S, K, H>,
        pipeline: Pipeline<P>,
        buffer: usize,
    ) -> Self
    where
        S: Source + Send + 'static,
        S::Item: IntoItem<K, Operation = R>,
        K: 'static,
        P: for<'b> Policy<'b, R, Operation: Send> + Send + Sync + 'static,
        H: Listen + Send + 'static,
        R: Operation<Output = T, Error = E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Self::new(buffer, |line| {
            let pump = Pump {
                driver: parts,
                line,
            };
            tokio::spawn(async move { pump_through(&pipeline, pump).await })
        })
    }
}

/// What a gather consists of, but for the pipeline.
pub(super) struct Parts<S, K, H> {
    pub(super) source: Option<S>,
    pub(super) kind: PhantomData<fn() -> K>,
    pub(super) listener: H,
    pub(super) settings: Settings,
}

/// With the lifetime spelled out, which `Send` of the task's future needs.
fn pump_through<'b, S, K, P, H, R, T, E>(
    pipeline: &'b Pipeline<P>,
    Pump {
        driver: parts,
        line,
    }: Pump<Parts<S, K, H>, T, E>,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
where
    S: Source + Send + 'b,
    S::Item: IntoItem<K, Operation = R>,
    K: 'b,
    P: Policy<'b, R, Operation: Send> + Send + Sync,
    H: Listen + Send + 'b,
    R: Operation<Output = T, Error = E> + Send + 'b,
    T: Send + 'b,
    E: Send + 'b,
{
    let supply = Origin {
        source: parts.source,
        exhausted: false,
        launch: Through(pipeline),
        kind: parts.kind,
    };
    let driver = Driver::new(supply, parts.listener, parts.settings);
    Box::pin(Pump { driver, line }.run())
}

impl<T, E> fmt::Debug for Background<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background")
            .field("buffer", &self.buffer)
            .field("waiting", &self.shared.lock().waiting.len())
            .finish_non_exhaustive()
    }
}

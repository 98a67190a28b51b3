//! A task that takes one item after the other, and ends when there is none.
//!
//! It holds the item from the moment in which the line gives it away: dropped or aborted at
//! any poll, it gives the item its outcome.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::cell::{Running, Settled, Step};
use super::home::Hired;
use super::shared::{Received, Record, Shared, cancelled};
use crate::error::Error;
use crate::panics::{Payload, caught, discard, message, poll_caught};

pub(super) struct Worker<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    shared: Arc<Shared<J, T, E>>,
    current: Option<Record<T, E>>,
    stage: Stage,
    hired: Hired,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unpolled,
    Working,
    Retired,
}

impl<J, T, E> Worker<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    pub(super) fn new(shared: Arc<Shared<J, T, E>>, hired: Hired) -> Self {
        Self {
            shared,
            current: None,
            stage: Stage::Unpolled,
            hired,
        }
    }

    /// Takes the next item and begins it; `false` when there is none.
    fn begin(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let Some(Received { item, cell, start }) = self.shared.receive() else {
            self.stage = Stage::Retired;
            return None;
        };
        let cell = &*self.current.insert(cell);
        if cell.is_stopped() {
            discard(item);
            self.settle(Err(cancelled(0)));
            return Some(Poll::Ready(()));
        }
        let begun = caught(|| start(item, cell));
        discard(start);
        let driven = match begun {
            Ok(future) => drive(cell, future, Turn::First, cx),
            Err(panic) => Poll::Ready(Err(panicked(panic, cell.attempts()))),
        };
        Some(driven.map(|result| self.settle(result)))
    }

    /// Goes on with the item that has begun, if there is one.
    fn resume(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(cell) = &self.current else {
            return Poll::Ready(());
        };
        let result = match cell.take(cx.waker()) {
            Step::Poll(future, known) => ready!(drive(cell, future, Turn::Later { known }, cx)),
            Step::Taken => return Poll::Pending,
            Step::Settled => {
                self.current = None;
                return Poll::Ready(());
            }
        };
        self.settle(result);
        Poll::Ready(())
    }

    fn settle(&mut self, result: Settled<T, E>) {
        if let Some(cell) = self.current.take() {
            self.shared.settle(&cell, result);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    /// `known`: the worker's waker is in the cell already.
    Later {
        known: bool,
    },
}

/// Polls once. What has ended is dropped before anyone learns of it.
fn drive<T, E>(
    cell: &Record<T, E>,
    mut future: Running<T, E>,
    turn: Turn,
    cx: &mut Context<'_>,
) -> Poll<Settled<T, E>> {
    let polled = poll_caught(Pin::new(&mut future), cx);
    let was_put_back = turn != Turn::First || polled.is_pending();
    let result = match polled {
        Poll::Pending => {
            let known = turn == Turn::Later { known: true };
            let mut waker = (!known).then(|| cx.waker().clone());
            let stopped = cell.put_back(future, &mut waker);
            drop(waker);
            let Some(stopped) = stopped else {
                return Poll::Pending;
            };
            future = stopped;
            None
        }
        Poll::Ready(result) => Some(result),
    };
    discard(future);
    if was_put_back {
        discard(cell.release());
    }
    Poll::Ready(match result {
        Some(Ok(result)) => result,
        Some(Err(panic)) => Err(panicked(panic, cell.attempts())),
        None => Err(cancelled(cell.attempts())),
    })
}

fn panicked<E>(panic: Payload, attempts: u32) -> Error<E> {
    Error::Panicked {
        message: message(panic),
        attempts,
        last: None,
    }
}

impl<J, T, E> Future for Worker<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.stage = Stage::Working;
        loop {
            ready!(this.resume(cx));
            // Handlers that are always ready must not keep the thread for themselves.
            ready!(pin!(tokio::task::coop::consume_budget()).poll(cx));
            match this.begin(cx) {
                None => return Poll::Ready(()),
                Some(begun) => ready!(begun),
            }
        }
    }
}

impl<J, T, E> Drop for Worker<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        if let Some(cell) = self.current.take() {
            self.shared.stop(std::slice::from_ref(&cell));
            // It had not come so far, or somebody else is dropping it.
            self.shared.settle(&cell, Err(cancelled(cell.attempts())));
        }
        match self.stage {
            Stage::Retired => {}
            Stage::Unpolled => self.shared.not_taken(self.hired),
            Stage::Working => self.shared.lost(),
        }
    }
}

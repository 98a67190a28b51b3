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
use super::start::Beginning;
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
        self.current = Some(Arc::clone(&cell));
        if cell.is_stopped() {
            discard(item);
            self.settle(&cell, Err(cancelled(0)));
            return Some(Poll::Ready(()));
        }
        let beginning = Beginning::new(Arc::clone(&cell));
        let begun = caught(|| start(item, beginning));
        discard(start);
        Some(match begun {
            Ok(future) => self.drive(&cell, future, false, cx),
            Err(panic) => {
                self.settle(&cell, Err(panicked(panic, cell.attempts())));
                Poll::Ready(())
            }
        })
    }

    /// Goes on with the item that has begun.
    fn resume(&mut self, cell: &Record<T, E>, cx: &mut Context<'_>) -> Poll<()> {
        match cell.take(cx.waker()) {
            Step::Poll(future, known) => self.drive(cell, future, known, cx),
            Step::Taken => Poll::Pending,
            Step::Settled => {
                self.current = None;
                Poll::Ready(())
            }
        }
    }

    /// Polls once. What has ended is dropped before anyone learns of it.
    fn drive(
        &mut self,
        cell: &Record<T, E>,
        mut future: Running<T, E>,
        known: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let result = match poll_caught(Pin::new(&mut future), cx) {
            Poll::Pending => {
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
        discard(cell.release());
        let result = match result {
            Some(Ok(result)) => result,
            Some(Err(panic)) => Err(panicked(panic, cell.attempts())),
            None => Err(cancelled(cell.attempts())),
        };
        self.settle(cell, result);
        Poll::Ready(())
    }

    fn settle(&mut self, cell: &Record<T, E>, result: Settled<T, E>) {
        self.current = None;
        self.shared.settle(cell, result);
    }
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
            if let Some(cell) = this.current.clone() {
                ready!(this.resume(&cell, cx));
            }
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

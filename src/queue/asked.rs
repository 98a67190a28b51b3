//! A call of a pipeline that can be asked to end, wherever it is.
//!
//! Invariants:
//! - Once the token is cancelled no attempt begins.
//! - Asked while no attempt is alive (before the first, between two), the call ends there.
//! - Asked while one is alive, the call ends with that attempt, whose result is the call's.
//!
//! The result of such an attempt is kept from the policies: one of them would hold on to it,
//! in order to try again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::cell::Settled;
use super::shared::{Record, cancelled};
use crate::error::{Error, Progress};
use crate::sync::Lock;

/// What a call and its attempts share.
pub(super) struct Watch<T, E> {
    token: CancellationToken,
    stage: Lock<Stage<T, E>>,
}

enum Stage<T, E> {
    /// No attempt is alive.
    Between,
    Alive,
    /// An attempt has ended that was asked to.
    Last(Result<T, E>),
}

impl<T, E> Watch<T, E> {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self {
            token,
            stage: Lock::new(Stage::Between),
        }
    }

    fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    fn is_alive(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Alive)
    }

    fn take_last(&self) -> Option<Result<T, E>> {
        let mut stage = self.stage.lock();
        match std::mem::replace(&mut *stage, Stage::Between) {
            Stage::Last(result) => Some(result),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// Moves on, unless an attempt was the last.
    fn turn(&self, next: Stage<T, E>) {
        let mut stage = self.stage.lock();
        if !matches!(*stage, Stage::Last(_)) {
            *stage = next;
        }
    }

    /// An attempt that is watched; `start` is not called any more once it was asked.
    pub(super) fn attempt<Fut>(
        self: &Arc<Self>,
        start: impl FnOnce() -> Fut,
    ) -> Attempted<Fut, T, E> {
        let alive = Alive(Arc::clone(self));
        if self.is_asked() {
            return Attempted {
                future: None,
                alive,
            };
        }
        self.turn(Stage::Alive);
        Attempted {
            future: Some(start()),
            alive,
        }
    }
}

/// Says, when it is dropped, that no attempt is alive any more.
struct Alive<T, E>(Arc<Watch<T, E>>);

impl<T, E> Drop for Alive<T, E> {
    fn drop(&mut self) {
        self.0.turn(Stage::Between);
    }
}

pin_project! {
    /// The future of one attempt.
    pub(super) struct Attempted<Fut, T, E> {
        // `None`: it never yields, the call is about to end.
        #[pin]
        future: Option<Fut>,
        alive: Alive<T, E>,
    }
}

impl<Fut, T, E> Future for Attempted<Fut, T, E>
where
    Fut: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let result = ready!(future.poll(cx));
        this.future.set(None);
        let watch = &this.alive.0;
        if watch.is_asked() {
            watch.turn(Stage::Last(result));
            return Poll::Pending;
        }
        Poll::Ready(result)
    }
}

pin_project! {
    /// The whole call.
    pub(super) struct Asked<Fut, T, E> {
        #[pin]
        call: Fut,
        #[pin]
        end: WaitForCancellationFutureOwned,
        watch: Arc<Watch<T, E>>,
        record: Record<T, E>,
    }
}

impl<Fut, T, E> Asked<Fut, T, E> {
    pub(super) fn new(call: Fut, watch: Arc<Watch<T, E>>, record: Record<T, E>) -> Self {
        Self {
            call,
            end: watch.token.clone().cancelled_owned(),
            watch,
            record,
        }
    }
}

impl<Fut, T, E> Future for Asked<Fut, T, E>
where
    Fut: Future<Output = Settled<T, E>>,
{
    type Output = Settled<T, E>;

    /// Whoever gets the result drops this, and with it what is left of the call.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.watch.is_asked() && !this.watch.is_alive() {
            return Poll::Ready(Err(cancelled(this.record.attempts())));
        }
        let polled = this.call.poll(cx);
        if let Some(last) = this.watch.take_last() {
            let earlier = Progress::started(this.record.attempts().saturating_sub(1));
            return Poll::Ready(last.map_err(|error| Error::operation(error).after(earlier)));
        }
        if polled.is_ready() || this.watch.is_alive() {
            return polled;
        }
        ready!(this.end.poll(cx));
        Poll::Ready(Err(cancelled(this.record.attempts())))
    }
}

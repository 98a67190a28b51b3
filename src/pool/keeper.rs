//! The task that ends what is too old and keeps the minimum: it holds the pool weakly.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use tokio::sync::Notify;

use super::manage::Manage;
use super::shared::Shared;
use crate::time::{self, Instant, Timer};

/// What the task holds. When it is dropped, with its runtime, another one may start.
pub(super) struct Keeps<M: Manage> {
    pool: Weak<Shared<M>>,
    called: Arc<Notify>,
}

impl<M: Manage> Keeps<M> {
    pub(super) fn new(shared: &Arc<Shared<M>>) -> Self {
        Self {
            pool: Arc::downgrade(shared),
            called: Arc::clone(&shared.keeper_called),
        }
    }

    /// Does what is due; when something is due next. `None` when the pool has gone.
    fn tick(&self) -> Option<Instant> {
        let shared = self.pool.upgrade()?;
        let now = time::now();
        shared.change(|state, fx| state.tick(now, fx))
    }
}

pub(super) async fn keep<M: Manage>(keeps: Keeps<M>) {
    while let Some(due) = keeps.tick() {
        let mut called = pin!(keeps.called.notified());
        let mut timer = Timer::new();
        poll_fn(|cx| match called.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timer.poll_until(due, cx),
        })
        .await;
    }
}

impl<M: Manage> Drop for Keeps<M> {
    fn drop(&mut self) {
        if let Some(shared) = self.pool.upgrade() {
            shared.keeper_stopped();
        }
    }
}

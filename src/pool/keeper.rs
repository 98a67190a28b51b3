//! The task that ends what is too old and keeps the minimum: it holds the pool weakly.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

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

    /// Does what is due; when to come again. `None` when the pool has gone.
    fn tick(&self) -> Option<Instant> {
        let shared = self.pool.upgrade()?;
        let now = time::now();
        let due = shared.change(|state, fx| state.tick(now, fx))?;
        Some(not_at_once(now, due))
    }
}

/// Between two rounds there is a pause: tiny spans must not keep the task running for ever.
/// What is too old meanwhile is not lent out anyway.
fn not_at_once(now: Instant, due: Instant) -> Instant {
    due.max(now.saturating_add(PAUSE))
}

const PAUSE: Duration = Duration::from_millis(10);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_pauses_however_soon_something_is_due() {
        let now = Instant::from_nanos(7);
        assert_eq!(not_at_once(now, now), now.saturating_add(PAUSE));
        assert_eq!(
            not_at_once(now, Instant::from_nanos(0)),
            now.saturating_add(PAUSE)
        );
        assert_eq!(not_at_once(now, Instant::NEVER), Instant::NEVER);
        let later = now.saturating_add(2 * PAUSE);
        assert_eq!(not_at_once(now, later), later);
    }
}

//! The end of a pool.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::manage::Manage;
use super::shared::Shared;
use super::snapshot::PoolSnapshot;
use crate::sync::Key;

/// The wait until a pool is closed and empty; see [`Pool::drained`](super::Pool::drained).
///
/// # Cancel safety
///
/// Dropping it changes nothing.
#[must_use = "a wait does nothing unless awaited"]
pub struct Drained<'p, M: Manage> {
    shared: &'p Arc<Shared<M>>,
    key: Option<Key>,
}

impl<'p, M: Manage> Drained<'p, M> {
    pub(super) fn new(shared: &'p Arc<Shared<M>>) -> Self {
        Self { shared, key: None }
    }
}

impl<M: Manage> Future for Drained<'_, M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // A waker's clone and drop are foreign code: both happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        let this = &mut *self;
        let drained = this.shared.lock().poll_drained(&mut this.key, &mut waker);
        if drained {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<M: Manage> Drop for Drained<'_, M> {
    fn drop(&mut self) {
        let waker = self.key.and_then(|key| self.shared.lock().leave_drain(key));
        drop(waker);
    }
}

impl<M: Manage> fmt::Debug for Drained<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained").finish_non_exhaustive()
    }
}

/// How the end of a pool went; see [`Pool::close_within`](super::Pool::close_within).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolReport {
    /// Whether everything came back and ended in time.
    pub is_drained: bool,
    /// How long it took.
    pub took: Duration,
    /// What there was at the end: without a drain, what is still out.
    pub snapshot: PoolSnapshot,
}

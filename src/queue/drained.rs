//! The wait until there is nothing to do.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Owner;
use crate::sync::Key;

/// What the wait needs of a queue, whatever its items are.
pub(super) trait Idle: Send + Sync {
    fn await_idle(&self, key: Option<Key>, waker: &mut Option<Waker>) -> Option<Key>;
    fn leave(&self, key: Key);
}

impl<J, T, E> Idle for Owner<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn await_idle(&self, key: Option<Key>, waker: &mut Option<Waker>) -> Option<Key> {
        let key = self.shared.inner.lock().state.await_idle(key, waker);
        if key.is_some() {
            self.shared.staff();
        }
        key
    }

    fn leave(&self, key: Key) {
        let waker = self.shared.inner.lock().state.leave_idle(key);
        drop(waker);
    }
}

/// Waits until nothing waits or runs; see [`Queue::drained`](super::Queue::drained).
#[must_use = "futures do nothing unless awaited"]
pub struct Drained {
    queue: Arc<dyn Idle>,
    key: Option<Key>,
    done: bool,
}

impl Drained {
    pub(super) fn new(queue: Arc<dyn Idle>) -> Self {
        Self {
            queue,
            key: None,
            done: false,
        }
    }
}

impl Future for Drained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.done {
            let mut waker = Some(cx.waker().clone());
            self.key = self.queue.await_idle(self.key, &mut waker);
            self.done = self.key.is_none();
        }
        if self.done {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.queue.leave(key);
        }
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained")
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

//! Work that nobody awaits, on whatever runtime there is.

use std::future::Future;
use std::task::{Context, Waker};

use tokio::runtime::Handle;

use crate::panics::{caught, message, swallow};
use crate::sync::Lock;

/// The runtime that was chosen for the pool, or else the one that it was used in last:
/// objects come back from plain threads too.
#[derive(Debug)]
pub(super) struct Runtime {
    chosen: Option<Handle>,
    last: Lock<Option<Handle>>,
}

impl Runtime {
    pub(super) fn new(chosen: Option<Handle>) -> Self {
        Self {
            chosen,
            last: Lock::default(),
        }
    }

    /// Remembers the runtime that this is called in, if it is in one; whether there is any.
    pub(super) fn remember(&self) -> bool {
        if self.chosen.is_some() {
            return true;
        }
        Handle::try_current().is_ok_and(|handle| {
            let before = self.last.lock().replace(handle);
            drop(before);
            true
        })
    }

    /// The one that was chosen, or the one that this is called in, or the last one.
    fn handle(&self) -> Option<Handle> {
        let chosen = self.chosen.clone();
        let here = || Handle::try_current().ok();
        let last = || self.last.lock().clone();
        chosen.or_else(here).or_else(last)
    }

    /// Spawns a task. Where there is no runtime, or one that has shut down, the future is
    /// dropped: it owns what notices that.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let handle = self.handle();
        swallow(|| match handle {
            Some(handle) => drop(handle.spawn(future)),
            None => drop(future),
        });
    }

    /// Polls a future once, here, and leaves the rest of it, if there is any, to a task.
    /// Where there is no runtime, the rest is dropped.
    pub(super) fn run(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut future = Box::pin(future);
        // Without a runtime its timers would panic, which is caught; `enter` panics when the
        // thread is about to end.
        let entered = self.handle();
        let _guard = entered
            .as_ref()
            .and_then(|handle| caught(|| handle.enter()).map_err(message).ok());
        let mut cx = Context::from_waker(Waker::noop());
        match caught(|| future.as_mut().poll(&mut cx)) {
            Ok(poll) if poll.is_pending() => self.spawn(future),
            Ok(_) => swallow(|| drop(future)),
            Err(panic) => {
                message(panic);
                swallow(|| drop(future));
            }
        }
    }
}

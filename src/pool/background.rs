//! Work that nobody awaits, on whatever runtime there is.

use std::future::Future;
use std::task::{Context, Waker};

use tokio::runtime::Handle;

use crate::panics::{caught, message};
use crate::sync::Lock;

/// The runtime that the pool was used in last. Objects come back from plain threads too.
#[derive(Debug, Default)]
pub(super) struct Runtime {
    last: Lock<Option<Handle>>,
}

impl Runtime {
    /// Remembers the runtime that this is called in, if it is in one.
    pub(super) fn remember(&self) -> bool {
        Handle::try_current().is_ok_and(|handle| {
            let before = self.last.lock().replace(handle);
            drop(before);
            true
        })
    }

    /// The runtime that this is called in, or the last one.
    fn handle(&self) -> Option<Handle> {
        self.remember();
        self.last.lock().clone()
    }

    /// Spawns a task. Where there is no runtime, or one that has shut down, the future is
    /// dropped: it owns what notices that.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let handle = self.handle();
        discard_panic(caught(|| match handle {
            Some(handle) => drop(handle.spawn(future)),
            None => drop(future),
        }));
    }

    /// Polls a future once, here, and leaves the rest of it, if there is any, to a task.
    /// Where there is no runtime, the rest is dropped.
    pub(super) fn run(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut future = Box::pin(future);
        // Without a runtime its timers would panic, which is caught; `enter` panics when the
        // thread is about to end.
        let entered = Handle::try_current().is_err().then(|| self.handle());
        let _guard = entered
            .as_ref()
            .and_then(Option::as_ref)
            .and_then(|handle| caught(|| handle.enter()).map_err(message).ok());
        let mut cx = Context::from_waker(Waker::noop());
        match caught(|| future.as_mut().poll(&mut cx)) {
            Ok(poll) if poll.is_pending() => self.spawn(future),
            Ok(_) => discard_panic(caught(|| drop(future))),
            Err(panic) => {
                message(panic);
                discard_panic(caught(|| drop(future)));
            }
        }
    }
}

/// There is nobody to tell: the panic's hook has, and what it cost is counted.
fn discard_panic<T>(result: Result<T, crate::panics::Payload>) {
    if let Err(panic) = result {
        message(panic);
    }
}

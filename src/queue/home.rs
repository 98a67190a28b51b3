//! Where the workers live: they are hired when there is work, on the runtime in which the
//! queue was built or first used.
//!
//! A runtime that has shut down drops a task at once when it is spawned. So a worker that is
//! dropped before its first poll says that its runtime is no more. What waits then waits on,
//! for the next runtime; and all who wait for it are woken once, since each of them that is
//! polled within a runtime makes that one the home.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::shared::Shared;
use super::worker::Worker;
use crate::sync::wake_quietly;

/// The runtime of the workers, once one is known.
#[derive(Debug, Default)]
pub(super) struct Home {
    handle: Option<Handle>,
    /// Tells the runtimes apart that have been home one after another.
    serial: u64,
    /// A worker was spawned on it and not dropped at once.
    lived: bool,
}

impl Home {
    /// The current runtime, if there is one.
    pub(super) fn here() -> Self {
        Self {
            handle: Handle::try_current().ok(),
            serial: 0,
            lived: false,
        }
    }

    pub(super) fn handle(&self) -> Option<Handle> {
        self.handle.clone()
    }

    /// Forgets a runtime that has shut down, unless another is home by now; and whether it
    /// had ever been alive.
    fn forget(&mut self, serial: u64) -> (Option<Handle>, bool) {
        let is_meant = self.serial == serial;
        (self.handle.take_if(|_| is_meant), is_meant && self.lived)
    }

    fn has_taken(&mut self, hired: Hired) {
        self.lived |= self.serial == hired.serial && self.handle.is_some();
    }

    fn settle_in(&mut self, handle: &Handle) -> u64 {
        self.serial += 1;
        self.lived = false;
        self.handle = Some(handle.clone());
        self.serial
    }
}

/// How a worker came to its runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hired {
    serial: u64,
    /// It is the runtime in whose context the worker was spawned: there is no other to try.
    is_last: bool,
}

impl<J, T, E> Shared<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    /// Hires as many workers as are needed, if there is a runtime for them to live on.
    pub(super) fn staff(self: &Arc<Self>) {
        while self.inner.lock().needs_worker() {
            let Some((home, hired)) = self.find_home() else {
                return;
            };
            self.hire(&home, hired);
            if self.home.lock().handle.is_none() {
                return;
            }
        }
    }

    fn find_home(&self) -> Option<(Handle, Hired)> {
        let mut home = self.home.lock();
        if let Some(handle) = home.handle() {
            let (serial, is_last) = (home.serial, false);
            return Some((handle, Hired { serial, is_last }));
        }
        let current = Handle::try_current().ok()?;
        let (serial, is_last) = (home.settle_in(&current), true);
        Some((current, Hired { serial, is_last }))
    }

    fn hire(self: &Arc<Self>, home: &Handle, hired: Hired) {
        let needed = {
            let mut inner = self.inner.lock();
            let open = inner.outbox.has_room();
            inner.state.hire(open)
        };
        if needed {
            drop(home.spawn(Worker::new(Arc::clone(self), hired)));
            self.home.lock().has_taken(hired);
        }
    }

    /// A worker was dropped that had begun; another takes its place.
    pub(super) fn lost(self: &Arc<Self>) {
        self.inner.lock().state.retire();
        self.staff();
    }

    /// A worker was dropped before it began: its runtime has shut down. The one in whose
    /// context this happens is tried next, once.
    pub(super) fn not_taken(self: &Arc<Self>, hired: Hired) {
        self.inner.lock().state.retire();
        let (dead, lived) = self.home.lock().forget(hired.serial);
        drop(dead);
        if !hired.is_last {
            if let Some((home, next)) = self.find_home() {
                let is_last = true;
                self.hire(&home, Hired { is_last, ..next });
            }
        }
        // One that was dead when it was tried is the current one of somebody who waits:
        // that one must not be woken for ever.
        let was_home = lived || !hired.is_last;
        if was_home && self.home.lock().handle.is_none() {
            self.rouse();
        }
    }

    /// Wakes all who wait: those within a runtime have the work done there.
    fn rouse(&self) {
        let wakers = self.inner.lock().sleepers();
        wake_quietly(wakers);
    }
}

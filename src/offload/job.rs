//! What becomes of one piece of work, between its caller and its thread.
//!
//! Invariants:
//! - Work runs at most once, and not at all when its caller went away before it began.
//! - The slot is with the thread's side, also while the runtime has that in its own queue: it
//!   comes back when the work has ended, before the caller sees the result, or when the
//!   runtime lets go of work that was given up. So the runtime never holds more than slots.
//!
//! The lock of `Threads` is only ever taken within that of a stage, or alone.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::stage::{Left, Stage, Threads};
use crate::blocking;
use crate::bulkhead::Bulkhead;
use crate::error::{Error, Progress};
use crate::panics::{self, caught, swallow};
use crate::policy::Permit;
use crate::sync::Lock;

type Outcome<T, E> = Result<T, Error<E>>;

/// What a thread is to do.
pub(super) type Unit<T, E> = Box<dyn FnOnce() -> Result<T, E> + Send>;

struct Desk<T, E> {
    stage: Stage<Unit<T, E>, Outcome<T, E>>,
    caller: Option<Waker>,
}

/// What the caller and the thread share.
struct Shared<T, E> {
    desk: Lock<Desk<T, E>>,
    threads: Arc<Lock<Threads>>,
}

/// The caller's side. Dropped, it has gone.
pub(super) struct Job<T, E>(Arc<Shared<T, E>>);

/// The thread's side. Dropped, the work will not be run.
pub(super) struct OnThread<T, E> {
    shared: Arc<Shared<T, E>>,
    /// `None` once it is on its way back.
    slot: Option<Permit<Bulkhead>>,
}

pub(super) fn job<T, E>(
    unit: Unit<T, E>,
    slot: Permit<Bulkhead>,
    threads: &Arc<Lock<Threads>>,
) -> (Job<T, E>, OnThread<T, E>) {
    let shared = Arc::new(Shared {
        desk: Lock::new(Desk {
            stage: Stage::Queued(unit),
            caller: None,
        }),
        threads: Arc::clone(threads),
    });
    let job = Job(Arc::clone(&shared));
    let slot = Some(slot);
    (job, OnThread { shared, slot })
}

impl<T, E> OnThread<T, E> {
    /// Does the work, unless its caller has gone.
    pub(super) fn run(mut self) {
        let begun = {
            let mut desk = self.shared.desk.lock();
            desk.stage.begin(&mut self.shared.threads.lock())
        };
        let Some(work) = begun else {
            return;
        };
        let result = match caught(|| blocking::lend(work)) {
            Ok(result) => result.map_err(Error::operation),
            Err(payload) => Err(Error::panicked(panics::message(payload))),
        };
        self.end(result);
    }

    fn end(&mut self, result: Outcome<T, E>) {
        let mut result = Some(result);
        let abandoned = matches!(self.shared.desk.lock().stage, Stage::Abandoned);
        if abandoned {
            // Its destructor runs on the thread that is counted.
            swallow(|| drop(result.take()));
        }
        let wanted = {
            let mut desk = self.shared.desk.lock();
            desk.stage.end(&mut self.shared.threads.lock())
        };
        self.give_back();
        if let Some(result) = result.filter(|_| wanted) {
            self.shared.hand_in(result);
        }
    }

    /// Wakes the next caller. If that one's waker panics, this one is told all the same.
    fn give_back(&mut self) {
        let slot = self.slot.take();
        swallow(|| drop(slot));
    }
}

impl<T, E> Shared<T, E> {
    fn hand_in(&self, result: Outcome<T, E>) {
        let (unwanted, caller) = {
            let mut desk = self.desk.lock();
            (desk.stage.hand_in(result), desk.caller.take())
        };
        swallow(|| drop(unwanted));
        if let Some(caller) = caller {
            swallow(|| caller.wake());
        }
    }
}

impl<T, E> Drop for OnThread<T, E> {
    /// The work has ended; or it was given up, or the runtime has shut down, before a thread
    /// came.
    fn drop(&mut self) {
        let unrun = {
            let mut desk = self.shared.desk.lock();
            let unrun = desk.stage.take_queued();
            if unrun.is_some() {
                desk.stage = Stage::Ending;
            }
            unrun
        };
        let cancelled = unrun.is_some();
        // What the slot guards ends before the slot does.
        swallow(|| drop(unrun));
        self.give_back();
        if cancelled {
            self.shared.hand_in(Err(Error::cancelled()));
        }
    }
}

impl<T, E> Job<T, E> {
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome<T, E>> {
        // A waker's clone and drop are foreign code: both happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        let mut desk = self.0.desk.lock();
        if let Some(result) = desk.stage.take_result() {
            return Poll::Ready(result);
        }
        mem::swap(&mut desk.caller, &mut waker);
        Poll::Pending
    }

    /// Gives the work up if it has not begun; whether that is so.
    pub(super) fn give_up(&self) -> bool {
        let unrun = self.0.desk.lock().stage.take_queued();
        unrun.is_some()
    }

    /// Gives the work up; how far it came.
    pub(super) fn leave(&self) -> Progress<E> {
        let (left, caller) = {
            let mut desk = self.0.desk.lock();
            let left = desk.stage.leave(&mut self.0.threads.lock());
            (left, desk.caller.take())
        };
        drop(caller);
        match left {
            Left::Unrun(_) | Left::Nothing => Progress::none(),
            Left::Begun | Left::Ended(Ok(_)) => Progress::started(1),
            Left::Ended(Err(error)) => Progress::new(error.attempts(), error.into_last()),
        }
    }
}

impl<T, E> Drop for Job<T, E> {
    fn drop(&mut self) {
        self.leave();
    }
}

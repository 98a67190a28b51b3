//! An object on its way to a caller, or back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::create::outcome_of;
use super::get::Given;
use super::manage::Manage;
use super::pooled::Pooled;
use super::shared::{Kept, Shared, Slot, within};
use super::snapshot::Reason;
use super::state::{Candidate, Effects};
use crate::error::{Error, Progress, Refusal};
use crate::time::{self, Instant};

/// An object on its way to a caller, or back: given up on the way, it is closed.
pub(super) struct Arriving<M: Manage> {
    shared: Arc<Shared<M>>,
    entry: Option<Slot<M>>,
    check: bool,
    fresh: bool,
}

/// An object, and what its check has shown.
pub(super) type Checked<M> = (Arriving<M>, Result<(), Error<<M as Manage>::Error>>);

impl<M: Manage> Arriving<M> {
    pub(super) fn new(shared: &Arc<Shared<M>>, candidate: Candidate<Kept<M>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            entry: Some(candidate.entry),
            check: candidate.check,
            fresh: candidate.fresh,
        }
    }

    /// One that comes back, and is counted as such.
    pub(super) fn returning(shared: &Arc<Shared<M>>, entry: Slot<M>) -> Self {
        Self {
            shared: Arc::clone(shared),
            entry: Some(entry),
            check: false,
            fresh: false,
        }
    }

    /// Runs the hook after the return.
    pub(super) async fn reset(mut self) {
        match outcome_of(self.after_return()).await {
            Ok(()) => self.land(Ok(())),
            Err(_) => self.end(Reason::Broken, false),
        }
    }

    async fn after_return(&mut self) -> Result<(), Error<M::Error>> {
        let settings = &self.shared.settings;
        let (Some(hook), Some(entry)) = (&settings.after_return, &mut self.entry) else {
            return Ok(());
        };
        let limit = settings.check_limit;
        passed(within(limit, hook(&mut entry.object.object)).await, limit)
    }

    /// Nothing is to be done with it first.
    pub(super) fn is_ready(&self) -> bool {
        !self.check && self.shared.settings.before_hand_over.is_none()
    }

    pub(super) fn is_born_after(&self, at: Instant) -> bool {
        let born = self.entry.as_ref().map(|entry| entry.born);
        self.fresh || born.is_some_and(|born| born > at)
    }

    async fn check(mut self) -> Checked<M> {
        let result = outcome_of(self.prepare()).await;
        (self, result)
    }

    async fn prepare(&mut self) -> Result<(), Error<M::Error>> {
        let settings = &self.shared.settings;
        let Some(entry) = &mut self.entry else {
            return Ok(());
        };
        let limit = settings.check_limit;
        if self.check {
            let checked = within(limit, settings.manager.check(&mut entry.object.object)).await;
            passed(checked, limit)?;
        }
        if let Some(hook) = &settings.before_hand_over {
            let prepared = within(limit, hook(&mut entry.object.object)).await;
            passed(prepared, limit)?;
        }
        Ok(())
    }

    /// Lends the object out, unless the pool has been closed meanwhile.
    pub(super) fn arrive(mut self, home: &Arc<Shared<M>>) -> Given<'_, M> {
        let mut effects = Effects::none();
        let open = self.shared.lock().arrived(&mut effects);
        match self.entry.take() {
            Some(entry) if open => {
                let pooled = Pooled::lent(home, entry);
                home.act(effects);
                Ok(pooled)
            }
            entry => {
                self.entry = entry;
                self.end(Reason::PoolClosed, false);
                Err(Error::refused(Refusal::ShutDown))
            }
        }
    }

    /// Nobody waits for it any more: it is for the next, or idle.
    fn land(mut self, result: Result<(), Error<M::Error>>) {
        let now = time::now();
        match (result, self.entry.take()) {
            (Ok(()), Some(entry)) => self
                .shared
                .change(|state, fx| state.returned(entry, now, fx)),
            (Err(error), entry) => {
                self.entry = entry;
                self.end(Reason::CheckFailed, error.is_timed_out());
            }
            (Ok(()), None) => {}
        }
    }

    /// `hung` says that others, who are to be checked too, may hang as well.
    pub(super) fn end(&mut self, reason: Reason, hung: bool) {
        let Some(entry) = self.entry.take() else {
            return;
        };
        let at = (time::now(), fastrand::f64());
        self.shared.change(|state, fx| {
            if hung {
                state.end_doubtful(at.0, fx);
            }
            state.fail_candidate(entry, reason, at, fx);
        });
    }
}

impl<M: Manage> Drop for Arriving<M> {
    fn drop(&mut self) {
        self.end(Reason::CancelledUse, false);
    }
}

type Running<M> = Pin<Box<dyn Future<Output = Checked<M>> + Send>>;

/// A check under way, which goes on in a task of its own when this is dropped.
pub(super) struct Checking<M: Manage> {
    shared: Arc<Shared<M>>,
    running: Option<Running<M>>,
}

impl<M: Manage> Checking<M> {
    pub(super) fn new(arriving: Arriving<M>) -> Self {
        Self {
            shared: Arc::clone(&arriving.shared),
            running: Some(Box::pin(arriving.check())),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Checked<M>> {
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        let polled = running.as_mut().poll(cx);
        if polled.is_ready() {
            self.running = None;
        }
        polled
    }
}

impl<M: Manage> Drop for Checking<M> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.shared.runtime.spawn(async move {
                let (arriving, result) = running.await;
                arriving.land(result);
            });
        }
    }
}

fn passed<E>(result: Option<Result<(), E>>, limit: Duration) -> Result<(), Error<E>> {
    match result {
        Some(result) => result.map_err(Error::operation),
        None => Err(Error::timed_out(limit).after(Progress::started(1))),
    }
}

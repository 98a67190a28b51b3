//! A creation: a task of its own, whose outcome always reaches the state.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use super::manage::Manage;
use super::shared::{Kept, Shared, Slot, within};
use crate::error::{Error, Progress, Refusal};
use crate::ext::Resilient;
use crate::panics;
use crate::time;

/// A creation that is counted. Dropped before its end, it was lost with its runtime.
pub(super) struct Creation<M: Manage> {
    shared: Arc<Shared<M>>,
    /// The ticket of the one who waits and has started it.
    starter: Option<u64>,
    /// What was created, while the hook has it.
    entry: Option<Slot<M>>,
    over: bool,
}

impl<M: Manage> Creation<M> {
    pub(super) fn start(shared: &Arc<Shared<M>>, starter: Option<u64>) {
        let creation = Self {
            shared: Arc::clone(shared),
            starter,
            entry: None,
            over: false,
        };
        shared.runtime.spawn(creation.run());
    }

    async fn run(mut self) {
        let result = outcome_of(self.create()).await;
        self.over = true;
        let now = time::now();
        match (result, self.entry.take()) {
            (Ok(()), Some(entry)) => self.shared.change(|state, fx| state.landed(entry, now, fx)),
            (Ok(()), None) => unreachable!("a creation that succeeds leaves its object"),
            (Err(error), wreck) => {
                let at = (now, fastrand::f64());
                self.shared
                    .change(|state, fx| state.failed(error, wreck, at, fx));
            }
        }
    }

    async fn create(&mut self) -> Result<(), Error<M::Error>> {
        let shared = Arc::clone(&self.shared);
        let object = new_object(&shared).await?;
        let ages = shared.settings.ages;
        let entry = self
            .entry
            .insert(ages.entry(Kept::new(object), time::now(), fastrand::f64()));
        let Some(hook) = &shared.settings.after_create else {
            return Ok(());
        };
        let limit = shared.settings.create_limit;
        match within(limit, hook(&mut entry.object.object)).await {
            Some(result) => result.map_err(Error::operation),
            None => Err(Error::timed_out(limit).after(Progress::started(1))),
        }
    }
}

async fn new_object<M: Manage>(shared: &Shared<M>) -> Result<M::Object, Error<M::Error>> {
    let create = || shared.manager().create();
    let limit = shared.settings.create_limit;
    match &shared.settings.create_policy {
        Some(policy) => policy.call(create).timeout(limit).await,
        None => create.timeout(limit).await,
    }
}

/// Drives what may panic.
pub(super) async fn outcome_of<E>(
    creation: impl Future<Output = Result<(), Error<E>>>,
) -> Result<(), Error<E>> {
    let mut creation = pin!(creation);
    let ended = poll_fn(|cx| panics::poll_caught(creation.as_mut(), cx)).await;
    ended.unwrap_or_else(|panic| Err(Error::panicked(panics::message(panic))))
}

impl<M: Manage> Drop for Creation<M> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (error, wreck) = (Error::refused(Refusal::NoRuntime), self.entry.take());
        let (starter, now) = (self.starter, time::now());
        self.shared
            .change(|state, fx| state.lost(starter, error, wreck, now, fx));
    }
}

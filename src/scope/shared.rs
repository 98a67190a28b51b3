//! What a scope, its handles and its tasks share: the lock, the token, the runtime.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::effects::{self, Ending, Turn};
use super::report::{ScopeReport, TaskInfo};
use super::state::{self, Registry};
use super::task::{Refused, Slot, Task, Tracked};
use crate::error::Refusal;
use crate::panics::{self, swallow};
use crate::shutdown::Counts;
use crate::sync::{Key, Lock, wake_quietly};
use crate::time::{self, Instant, Timer};

type Effects = effects::Effects<Waker, Means>;

/// How what is there is aborted.
#[derive(Debug)]
pub(super) enum Means {
    Task(AbortHandle),
    Body(CancellationToken),
}

impl Means {
    fn abort(&self) {
        match self {
            Self::Task(task) => task.abort(),
            // Whoever is woken is foreign.
            Self::Body(token) => swallow(|| token.cancel()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) registry: Lock<Registry<Waker, Means>>,
    pub(super) token: CancellationToken,
    /// The time until all are aborted is shorter than it was.
    pub(super) sooner: Notify,
    /// That of the first task; all others run there as well, and so does the watcher.
    pub(super) runtime: OnceLock<Handle>,
    pub(super) grace: Duration,
}

impl Shared {
    pub(super) fn spawn<T, E, F>(
        self: &Arc<Self>,
        name: Cow<'static, str>,
        future: F,
    ) -> Result<Task<T, E>, Refused<F>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let Some(runtime) = self.runtime() else {
            return Err(Refused::new(Refusal::NoRuntime, future));
        };
        if self.token.is_cancelled() {
            self.notice();
        }
        let now = time::now();
        let Some((key, has_place)) = self.registry.lock().enter(name, now) else {
            return Err(Refused::new(Refusal::ShutDown, future));
        };
        let slot = Slot::new(Arc::clone(self), key);
        let join = runtime.spawn(Tracked::new(Arc::clone(&slot), has_place, future));
        let late = self
            .registry
            .lock()
            .attach(key, Means::Task(join.abort_handle()));
        if let Some((by, true)) = late {
            by.abort();
        }
        Ok(Task::new(join, slot))
    }

    /// Binds the scope to the runtime of its first task.
    pub(super) fn runtime(self: &Arc<Self>) -> Option<&Handle> {
        if self.runtime.get().is_none() {
            let here = Handle::try_current().ok()?;
            self.runtime.get_or_init(|| {
                here.spawn(watch(Arc::downgrade(self), self.token.clone()));
                here
            });
        }
        self.runtime.get()
    }

    pub(super) fn turn(&self, key: state::Key, cx: &Context<'_>) -> Turn {
        // A waker's clone and drop happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        self.registry.lock().turn(key, &mut waker)
    }

    pub(super) fn end(&self, key: state::Key, how: Ending) {
        let abort_at = || time::now().saturating_add(self.grace);
        let effects = self.registry.lock().end(key, how, abort_at);
        self.perform(effects);
    }

    pub(super) fn abort(&self, key: state::Key) {
        let by = self.registry.lock().abort(key);
        if let Some(by) = by {
            by.abort();
        }
    }

    pub(super) fn close(&self) {
        self.registry.lock().close();
    }

    /// Asks everyone to end; those who have not after `grace` are aborted. A second time can
    /// only shorten that.
    pub(super) fn cancel(&self, grace: Duration) {
        let now = time::now();
        let mut effects = Effects::default();
        let abort_at = now.saturating_add(grace);
        self.registry.lock().shorten(abort_at, &mut effects);
        self.perform(effects);
    }

    /// The token was cancelled, by whomever: that counts as a cancel, unless there was one.
    fn notice(&self) {
        let mut effects = Effects::default();
        let abort_at = time::now().saturating_add(self.grace);
        self.registry.lock().cancel(abort_at, &mut effects);
        self.perform(effects);
    }

    pub(super) fn abort_all(&self) {
        let now = time::now();
        let effects = self.registry.lock().abort_all(now);
        self.perform(effects);
    }

    /// First the token, so that nobody is aborted who was not asked. A waker may panic: that
    /// must neither keep the others asleep nor unwind through a drop.
    fn perform(&self, effects: Effects) {
        if effects.cancelled {
            swallow(|| self.token.cancel());
            if self.grace.is_zero() {
                self.abort_if_due();
            }
        }
        if effects.sooner {
            swallow(|| self.sooner.notify_waiters());
        }
        for by in effects.abort {
            by.abort();
        }
        drop(effects.unused);
        wake_quietly(effects.wake);
    }

    /// Aborts everyone whose time is up.
    fn abort_if_due(&self) {
        let due = self.registry.lock().abort_at();
        if due.is_some_and(|at| at <= time::now()) {
            self.abort_all();
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.registry.lock().counts()
    }

    pub(super) fn tasks(&self) -> Vec<TaskInfo> {
        let now = time::now();
        self.registry.lock().tasks(now)
    }

    pub(super) fn report(&self) -> ScopeReport {
        let registry = self.registry.lock();
        ScopeReport {
            counts: registry.counts(),
            first_error: registry.first_error(),
        }
    }
}

/// Waits until the scope is cancelled, by whoever holds its token; then for those who were
/// asked to end, until their time is up. It ends at the latest when the scope is dropped.
async fn watch(scope: Weak<Shared>, token: CancellationToken) {
    token.cancelled().await;
    if let Some(shared) = scope.upgrade() {
        shared.notice();
        shared.abort_in_time().await;
    }
}

impl Shared {
    /// Ends when the scope was cancelled and everyone has been aborted.
    pub(super) async fn time_is_up(&self) {
        self.token.cancelled().await;
        self.notice();
        self.abort_in_time().await;
    }

    /// Aborts everyone when their time is up: it can only get shorter meanwhile. When all have
    /// ended there is nothing to wait for.
    async fn abort_in_time(&self) {
        let mut timer = Timer::new();
        loop {
            let mut sooner = pin!(self.sooner.notified());
            let abort_at = self.registry.lock().abort_at().unwrap_or(Instant::NEVER);
            let up = poll_fn(|cx| {
                if sooner.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(false);
                }
                // A runtime without a timer panics here: then there is no grace, rather than
                // no abort.
                let poll = panics::caught(|| timer.poll_until(abort_at, cx).map(|()| true));
                poll.unwrap_or_else(|panic| {
                    drop(panics::message(panic));
                    Poll::Ready(true)
                })
            });
            if up.await {
                return self.abort_all();
            }
        }
    }
}

/// Waits until no task of a scope is there: none that runs, none that is queued.
///
/// # Cancel safety
///
/// Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Drained {
    shared: Arc<Shared>,
    place: Option<Key>,
}

impl Drained {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            place: None,
        }
    }

    fn leave(&mut self) {
        if let Some(place) = self.place.take() {
            // Dropped when the lock is free.
            let _waker = self.shared.registry.lock().stop_waiting(place);
        }
    }
}

impl Future for Drained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut waker = Some(cx.waker().clone());
        let idle = this
            .shared
            .registry
            .lock()
            .poll_idle(&mut this.place, &mut waker);
        if idle {
            this.leave();
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        self.leave();
    }
}

//! What all handles of a pool share: the state behind its lock, and what is done outside.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::background::Runtime;
use super::create::Creation;
use super::entry::{Ages, Entry};
use super::keeper;
use super::manage::{Hook, Manage};
use super::pooled::Pooled;
use super::snapshot::Reason;
use super::state::{Effects, Rules, State, Take};
use crate::error::{Error, Refusal};
use crate::panics;
use crate::policy::DynPipeline;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{CacheLine, Lock, MutexGuard, wake_all};
use crate::time::{self, Instant, Timer};

pub(super) struct Settings<M: Manage> {
    pub(super) manager: M,
    pub(super) max_wait: Duration,
    pub(super) check_limit: Duration,
    pub(super) create_limit: Duration,
    pub(super) close_limit: Duration,
    pub(super) ages: Ages,
    pub(super) create_policy: Option<DynPipeline<M::Object, M::Error>>,
    pub(super) after_create: Option<Hook<M::Object, M::Error>>,
    pub(super) before_hand_over: Option<Hook<M::Object, M::Error>>,
    pub(super) after_return: Option<Hook<M::Object, M::Error>>,
}

/// An object, and what matters while it is lent out. It is here and not in the guard so that
/// the guard is two words: these travel in registers, where a larger one is written to memory
/// and read back at once (6 ns each time).
pub(super) struct Kept<M: Manage> {
    pub(super) object: M::Object,
    /// Why it is not to go back.
    pub(super) spoilt: Option<Reason>,
    /// The pool, if the guard does not borrow it. Never in the pool's own hands, which would
    /// keep the pool alive.
    pub(super) owner: Option<Arc<Shared<M>>>,
}

impl<M: Manage> Kept<M> {
    pub(super) fn new(object: M::Object) -> Self {
        Self {
            object,
            spoilt: None,
            owner: None,
        }
    }
}

pub(super) type Slot<M> = Box<Entry<Kept<M>>>;
pub(super) type PoolState<M> = State<Kept<M>, Waker, Error<<M as Manage>::Error>>;
pub(super) type PoolEffects<M> = Effects<Kept<M>, Waker, Error<<M as Manage>::Error>>;

pub(super) struct Shared<M: Manage> {
    pub(super) settings: Settings<M>,
    /// Apart from what is only read, and from the counts of the handles.
    state: CacheLine<Lock<PoolState<M>>>,
    pub(super) runtime: Runtime,
    /// Whether any setting asks what time it is.
    timed: bool,
    /// Whether any setting needs something done that no caller does.
    kept: bool,
    keeper_runs: AtomicBool,
    pub(super) keeper_called: Arc<Notify>,
}

impl<M: Manage> Shared<M> {
    pub(super) fn new(
        (rules, max): (Rules, usize),
        settings: Settings<M>,
        runtime: Option<Handle>,
    ) -> Arc<Self> {
        let limited = settings.ages.are_limited();
        let checks_by_time = rules.check_after.is_some_and(|after| after > 0);
        Arc::new(Self {
            settings,
            state: CacheLine::new(Lock::new(State::new(rules, max))),
            runtime: Runtime::new(runtime),
            timed: limited || checks_by_time,
            kept: limited || rules.min_idle > 0,
            keeper_runs: AtomicBool::new(false),
            keeper_called: Arc::default(),
        })
    }

    pub(super) fn manager(&self) -> &M {
        &self.settings.manager
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, PoolState<M>> {
        self.state.lock()
    }

    /// The time, if it matters.
    #[inline]
    pub(super) fn now(&self) -> Instant {
        if self.timed {
            time_now()
        } else {
            Instant::from_nanos(0)
        }
    }

    /// An idle object, if there is one and nothing else is to be done.
    ///
    /// A call of its own: what surrounds it is then small enough to become part of the caller's
    /// code, where the result is never moved through memory (12 ns of 39).
    #[inline(never)]
    pub(super) fn take_plain(self: &Arc<Self>) -> Option<Slot<M>> {
        self.keep();
        let now = self.now();
        self.lock().take_plain(now)
    }

    /// As [`take_plain`](Self::take_plain), but what else is to be done is done; or why there
    /// is none.
    #[cold]
    #[inline(never)]
    pub(super) fn take_at_once(self: &Arc<Self>) -> Result<Slot<M>, Refusal> {
        let now = self.now();
        let mut effects = Effects::none();
        let taken = self.lock().take(now, true, &mut effects);
        // What was taken is owned before anything else is done.
        let pooled = match taken {
            Take::Ready(entry) => Ok(Pooled::held(self, entry)),
            Take::Closed => Err(Refusal::ShutDown),
            Take::Empty | Take::Candidate(..) => Err(Refusal::pool_exhausted(Duration::ZERO)),
        };
        self.act(effects);
        pooled.map(Pooled::into_entry)
    }

    /// Changes the state, and then does what follows from it.
    pub(super) fn change<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut PoolState<M>, &mut PoolEffects<M>) -> R,
    ) -> R {
        let mut effects = Effects::none();
        let result = change(&mut self.lock(), &mut effects);
        self.act(effects);
        result
    }

    /// Does what is to be done outside of the lock. Only the wakers at its end can panic.
    #[inline]
    pub(super) fn act(self: &Arc<Self>, effects: PoolEffects<M>) {
        if !effects.are_none() {
            self.act_on(effects);
        }
    }

    #[cold]
    fn act_on(self: &Arc<Self>, effects: PoolEffects<M>) {
        for _ in 0..effects.create {
            Creation::start(self, effects.starter);
        }
        for (entry, reason) in effects.close {
            self.end(entry.object.object, reason);
        }
        if effects.sooner {
            self.keeper_called.notify_one();
        }
        for failure in effects.failures {
            panics::caught(|| drop(failure)).unwrap_or_else(|panic| drop(panics::message(panic)));
        }
        wake_all(effects.wake);
    }

    /// Ends an object that is counted as closing.
    fn end(self: &Arc<Self>, object: M::Object, reason: Reason) {
        let ending = Ending {
            shared: Arc::clone(self),
            reason,
        };
        self.runtime.run(async move {
            let shared = Arc::clone(&ending.shared);
            let close = shared.manager().close(object);
            within(shared.settings.close_limit, close).await;
            drop(ending);
        });
    }

    /// Starts the task that keeps times and the minimum, if it is needed and does not run.
    #[inline]
    pub(super) fn keep(self: &Arc<Self>) {
        // Relaxed: it guards nothing; at worst the task is started by the next caller.
        if self.kept && !self.keeper_runs.load(Ordering::Relaxed) {
            self.start_keeper();
        }
    }

    #[cold]
    fn start_keeper(self: &Arc<Self>) {
        if self.lock().is_closed() || self.keeper_runs.swap(true, Ordering::Relaxed) {
            return;
        }
        let keeps = keeper::Keeps::new(self);
        self.runtime.spawn(keeper::keep(keeps));
    }

    pub(super) fn keeper_stopped(&self) {
        self.keeper_runs.store(false, Ordering::Relaxed);
    }

    /// Begins to create the minimum, where there is a runtime.
    pub(super) fn start_filling(self: &Arc<Self>) {
        if self.runtime.remember() {
            self.keep();
        }
    }
}

/// A call of its own: a reading of the clock takes more registers than all of the plain way,
/// and these would be saved also where none is needed.
#[inline(never)]
fn time_now() -> Instant {
    time::now()
}

/// An object whose end is under way: it counts until this is dropped.
struct Ending<M: Manage> {
    shared: Arc<Shared<M>>,
    reason: Reason,
}

impl<M: Manage> Drop for Ending<M> {
    fn drop(&mut self) {
        let reason = self.reason;
        self.shared.change(|state, fx| state.ended(reason, fx));
    }
}

/// Drives a future for so long at most.
pub(super) async fn within<Fut: Future>(limit: Duration, future: Fut) -> Option<Fut::Output> {
    let mut future = pin!(future);
    let mut timer = Timer::new();
    let mut until = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let until = *until.get_or_insert_with(|| time::now().saturating_add(limit));
        timer.poll_until(until, cx).map(|()| None)
    })
    .await
}

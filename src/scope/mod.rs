//! Tasks that end before their owner does.
//!
//! Who is there and what follows from an end is decided in `state`; `shared` does it; `task`
//! is what runs; [`Tracker`] counts where names and ages are not needed.

mod builder;
mod effects;
mod report;
mod run;
mod shared;
mod state;
mod task;
#[cfg(test)]
mod tests;
mod tracker;

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use builder::{OnError, ScopeBuilder};
pub use report::{ScopeReport, TaskFailure, TaskId, TaskInfo, TaskState};
pub use shared::Drained;
pub use task::{Refused, Task};
pub use tracker::{Entered, InFlight, Tracker, TrackerDrained};

use crate::panics::swallow;
use crate::shutdown::Counts;
use crate::time::{self, Timer};
use builder::OnDrop;
use shared::Shared;

/// Owns tasks: none of them outlives it.
///
/// A task is a future of a `Result` under a name. The first error, or panic, cancels the
/// others; [`ScopeBuilder::on_error`] chooses otherwise. Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `limit` | none | only you know how many fit |
/// | `on_error` | [`OnError::CancelOthers`] | tasks that belong together have no use for a part |
/// | `grace` | 100 ms | enough to write a last line; whoever waits for the error hardly notices |
/// | `parent` | none | |
/// | `on_drop` | none | |
///
/// # How it ends
///
/// [`join`](Self::join) takes in nobody new and waits. [`cancel`](Self::cancel), which an
/// error does as well, cancels the [`token`](Self::token), so that tasks can end in order;
/// tasks that wait for a place never begin; those that have not ended after `grace` are
/// aborted. [`abort`](Self::abort) does not wait. Dropping the scope aborts what is there. Who
/// cancels or aborts again can only shorten the grace that is left.
///
/// The grace is kept by the runtime's timers: it is longer where a thread that is blocked keeps
/// them from going on.
///
/// An abort takes effect at the task's next await. A task that blocks its thread, or computes
/// without an await, cannot be ended by anyone: [`join`](Self::join) waits for it, and
/// [`join_within`](Self::join_within) tells what is left.
///
/// Every task is counted once: by its result when it has one (`completed`, `failed`,
/// `panicked`), also when it was asked to end before; otherwise as `aborted` when it was, and
/// as `cancelled` when it never began or its runtime was shut down.
///
/// # Errors
///
/// [`spawn`](Self::spawn) refuses with [`Refusal::ShutDown`](crate::Refusal::ShutDown) once
/// the scope was closed, cancelled, or dropped.
///
/// # Cancel safety
///
/// Everything that waits can be dropped at any point and waited for again.
///
/// # Fairness
///
/// Places are given in the order of the spawns. A task that waits for another one of its own
/// scope can wait for ever where `limit` leaves that one no place.
///
/// # Runtime
///
/// Tasks run on the tokio runtime on which the first of them was spawned. When it is shut
/// down they are dropped there, and whoever waits is told.
///
/// # Examples
///
/// ```
/// use mainstay::scope::Scope;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scope = Scope::builder().limit(2).build()?;
/// let sum = scope.spawn("sum", async { "20".parse::<u32>().map(|n| n + 22) })?;
/// scope.spawn("words", async { "two".parse::<u32>() })?;
/// assert_eq!(sum.await?, 42);
///
/// let report = scope.join().await;
/// assert_eq!((report.counts.completed, report.counts.failed), (1, 1));
/// let failure = report.first_error.unwrap();
/// assert_eq!(failure.to_string(), "words failed: invalid digit found in string");
/// # Ok(())
/// # }
/// ```
pub struct Scope {
    shared: Arc<Shared>,
    on_drop: Option<OnDrop>,
}

impl Scope {
    /// A scope with every default.
    #[must_use]
    pub fn new() -> Self {
        ScopeBuilder::default().into_scope()
    }

    /// A scope's settings, to be changed.
    pub fn builder() -> ScopeBuilder {
        ScopeBuilder::default()
    }

    /// Starts a task, or lets it wait for a place.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the future in it, unstarted: the scope is closed, or there is no tokio
    /// runtime to run it on.
    pub fn spawn<T, E, F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> Result<Task<T, E>, Refused<F>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        self.shared.spawn(name.into(), future)
    }

    /// A handle to spawn from elsewhere, such as from inside of a task. It does not keep the
    /// scope alive.
    #[must_use]
    pub fn handle(&self) -> ScopeHandle {
        ScopeHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// What is cancelled before tasks are aborted. Cancelling it cancels the scope.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.token.clone()
    }

    /// Takes in nobody new. What is there goes on, also what waits for a place.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Asks everyone to end, and aborts those who have not after the grace. It takes in
    /// nobody new.
    pub fn cancel(&self) {
        self.shared.cancel(self.shared.grace);
    }

    /// Aborts everyone. It takes in nobody new.
    pub fn abort(&self) {
        self.shared.abort_all();
    }

    /// Waits until no task is there. It closes nothing: tasks may go on spawning others.
    pub fn drained(&self) -> Drained {
        Drained::new(Arc::clone(&self.shared))
    }

    /// Takes in nobody new, waits until every task has ended, and tells how.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, it has closed the scope and nothing else. It can be called
    /// again, and by several at once.
    pub async fn join(&self) -> ScopeReport {
        self.close();
        self.drained().await;
        self.report()
    }

    /// As [`join`](Self::join), for so long at most: what has not ended by then is
    /// `in_flight` in the report, and goes on.
    ///
    /// It takes longer where a thread that is blocked keeps the runtime's timers from going on,
    /// even one thread of several. A [`Shutdown`](crate::shutdown::Shutdown) does not.
    ///
    /// # Cancel safety
    ///
    /// As of [`join`](Self::join).
    pub async fn join_within(&self, span: Duration) -> ScopeReport {
        self.close();
        let until = time::now().saturating_add(span);
        let mut drained = std::pin::pin!(self.drained());
        let mut timer = Timer::new();
        poll_fn(|cx| match drained.as_mut().poll(cx) {
            Poll::Pending => timer.poll_until(until, cx),
            ready @ Poll::Ready(()) => ready,
        })
        .await;
        self.report()
    }

    /// How many tasks are there, and how many ended in which way.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// The tasks that have not ended, in the order in which they came.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        self.shared.tasks()
    }

    /// How everyone ended so far.
    #[must_use]
    pub fn report(&self) -> ScopeReport {
        self.shared.report()
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let report = self.report();
        self.shared.abort_all();
        let tell = self.on_drop.take();
        if let Some(tell) = tell.filter(|_| report.counts.in_flight > 0) {
            swallow(|| tell(&report));
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Scope", &self.shared, f)
    }
}

/// A handle on a [`Scope`] which does not keep it alive: once that is dropped, spawning is
/// refused. What it tells stays true afterwards.
#[derive(Clone)]
pub struct ScopeHandle {
    shared: Arc<Shared>,
}

impl ScopeHandle {
    /// As [`Scope::spawn`].
    ///
    /// # Errors
    ///
    /// As for [`Scope::spawn`].
    pub fn spawn<T, E, F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> Result<Task<T, E>, Refused<F>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        self.shared.spawn(name.into(), future)
    }

    /// As [`Scope::token`].
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.token.clone()
    }

    /// As [`Scope::close`].
    pub fn close(&self) {
        self.shared.close();
    }

    /// As [`Scope::cancel`].
    pub fn cancel(&self) {
        self.shared.cancel(self.shared.grace);
    }

    /// As [`Scope::abort`].
    pub fn abort(&self) {
        self.shared.abort_all();
    }

    /// As [`Scope::drained`].
    pub fn drained(&self) -> Drained {
        Drained::new(Arc::clone(&self.shared))
    }

    /// As [`Scope::counts`].
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// As [`Scope::tasks`].
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        self.shared.tasks()
    }

    /// As [`Scope::report`].
    #[must_use]
    pub fn report(&self) -> ScopeReport {
        self.shared.report()
    }

    /// Takes in nobody new, and keeps the first error from now on.
    pub(crate) fn stop(&self) {
        self.shared.registry.lock().note_errors();
        self.close();
    }

    /// The first error since it was stopped.
    pub(crate) fn failure(&self) -> Option<TaskFailure> {
        self.shared.registry.lock().noted_error()
    }

    /// Asks everyone to end, and leaves it to others when to abort.
    pub(crate) fn ask(&self) {
        self.shared.cancel(Duration::MAX);
    }
}

impl fmt::Debug for ScopeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("ScopeHandle", &self.shared, f)
    }
}

fn debug(name: &str, shared: &Shared, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("counts", &shared.counts())
        .field("tasks", &shared.tasks())
        .finish_non_exhaustive()
}

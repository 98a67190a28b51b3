//! A limited number of children, which end together.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::error::ProcessError;
use super::handle::{ProcessHandle, ProcessId};
use super::output::{End, Output};
use super::running::Process;
use super::shared::Outcome;
use crate::bulkhead::BulkheadBuilder;
use crate::policy::Permit;
use crate::scope::{Entered, Tracker};
use crate::shutdown::{Component, Counts};
use crate::time::{self, Instant, Timer};
use crate::{Bulkhead, ConfigError, Error, Refusal};

/// How much longer than its deadline a close waits for those that were killed.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// Limits how many children there are, finds them by their id, and ends them together.
///
/// A clone is the same pool. It owns no child: each ends with its [`Process`], as everywhere.
/// A place is free again when its child is reaped.
///
/// It is a [`Component`] of a shutdown, whose own times hold then: it asks all children to end
/// (SIGTERM) where the shutdown cancels, and kills them where it aborts.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `max_processes` | none; it must be given | only you know what the machine bears |
/// | `max_queue` | as `max_processes` | absorbs a burst; a longer queue is only latency |
/// | `max_wait` | none | the call's deadline is the better limit |
/// | `drain` | 0 | children are seldom about to end |
/// | `grace` | 5 s | as for one child |
///
/// # Fairness
///
/// First come, first served.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use mainstay::process::{Command, ProcessPool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPool::builder(2).grace(Duration::from_millis(100)).build()?;
/// let output = pool.run(&Command::shell("echo done")).await?;
/// assert_eq!(output.stdout.text(), "done\n");
///
/// let process = pool.spawn(&Command::new("sleep").arg("60")).await?;
/// assert!(pool.get(process.id()).is_some());
/// let report = pool.close().await;
/// assert_eq!((report.by_term, report.left), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ProcessPool {
    inner: Arc<Inner>,
}

struct Inner {
    places: Bulkhead,
    drain: Duration,
    grace: Duration,
    /// Calls that wait, and children.
    under_way: Arc<Tracker>,
    closing: CancellationToken,
    children: Mutex<BTreeMap<ProcessId, ProcessHandle>>,
    ends: Ends,
}

/// How many have ended in which way.
#[derive(Default)]
struct Ends {
    well: AtomicU64,
    badly: AtomicU64,
    by_term: AtomicU64,
    by_kill: AtomicU64,
}

/// Builds a [`ProcessPool`]; its text has the table of defaults.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ProcessPoolBuilder {
    max_processes: u32,
    places: BulkheadBuilder,
    drain: Duration,
    grace: Duration,
}

/// How the children of a pool ended when it was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Without being asked to.
    pub by_themselves: u64,
    /// After SIGTERM.
    pub by_term: u64,
    /// By SIGKILL.
    pub by_kill: u64,
    /// Not ended in time, though killed: the system holds them (a dead disk).
    pub left: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl ProcessPool {
    /// A pool of at most `max_processes` children, with every other setting at its default.
    pub fn builder(max_processes: u32) -> ProcessPoolBuilder {
        ProcessPoolBuilder {
            max_processes,
            places: Bulkhead::builder().max_concurrent(max_processes),
            drain: Duration::ZERO,
            grace: Duration::from_secs(5),
        }
    }

    /// Waits for a place and starts `command`.
    ///
    /// # Errors
    ///
    /// The [`ProcessError`] when it could not be started;
    /// [`BulkheadFull`](Refusal::BulkheadFull) when no place came in time;
    /// [`ShutDown`](Refusal::ShutDown) when the pool is closed, also while it waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the queue.
    pub async fn spawn(&self, command: &Command) -> Result<Process, Error<ProcessError>> {
        let entered = self.inner.enter().map_err(Error::refused)?;
        let place = self.inner.place().await.map_err(Error::refused)?;
        self.start(command, entered, place)
    }

    /// As [`spawn`](Self::spawn), if there is a place now.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn try_spawn(&self, command: &Command) -> Result<Process, Error<ProcessError>> {
        let entered = self.inner.enter().map_err(Error::refused)?;
        let place = self.inner.places.try_acquire_owned(1);
        self.start(command, entered, place.map_err(Error::refused)?)
    }

    /// Waits for a place and runs `command` to its end.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn) and [`Command::run`].
    ///
    /// # Cancel safety
    ///
    /// As for [`spawn`](Self::spawn) and [`Command::run`].
    pub async fn run(&self, command: &Command) -> Result<Output, Error<ProcessError>> {
        let mut process = self.spawn(command).await?;
        Ok(process.wait().await?)
    }

    /// The child with this id, if it has not ended.
    #[must_use]
    pub fn get(&self, id: ProcessId) -> Option<ProcessHandle> {
        self.inner.lock().get(&id).cloned()
    }

    /// All children that have not ended, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<ProcessHandle> {
        self.inner.lock().values().cloned().collect()
    }

    /// How many children there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.closing.is_cancelled()
    }

    /// Starts nothing more, gives all children `drain` to end by themselves, asks those left
    /// to end (SIGTERM, all at once), and kills them after one common `grace`: when that is
    /// over they are dead, however many there are. Then it waits until they are reaped, for 1 s
    /// at most.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the pool closed. Children that have been asked to end are killed
    /// after their grace nevertheless. It can be called again.
    pub async fn close(&self) -> CloseReport {
        let begun = time::now();
        let before = self.inner.ends.report();
        self.inner.stop();
        let ask_at = begun.saturating_add(self.inner.drain);
        let kill_at = ask_at.saturating_add(self.inner.grace);
        if !self.inner.drained_by(ask_at).await {
            self.inner.each(|child| child.cancel_by(kill_at));
            let last = kill_at.saturating_add(AFTER_KILL);
            self.inner.drained_by(last).await;
        }
        let mut report = self.inner.ends.report().since(&before);
        report.left = self.len() as u64;
        report.elapsed = time::now().since(begun);
        report
    }

    /// Starts `command` in its place, and sees to it that it is found and counted.
    fn start(
        &self,
        command: &Command,
        entered: Entered<Arc<Tracker>>,
        place: Permit<Bulkhead>,
    ) -> Result<Process, Error<ProcessError>> {
        let process = command.spawn()?;
        let handle = process.handle();
        let id = handle.id();
        let shared = Arc::clone(&handle.0);
        self.inner.lock().insert(id, handle);
        let inner = Arc::clone(&self.inner);
        shared.on_end(Box::new(move |outcome| {
            inner.ends.count(outcome);
            let child = inner.lock().remove(&id);
            drop(child);
            drop(place);
            drop(entered);
        }));
        // Who closes looks for children after it has said so: one of the two sees the other.
        if self.is_closed() {
            return Err(Error::refused(Refusal::ShutDown));
        }
        Ok(process)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProcessId, ProcessHandle>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Result<Entered<Arc<Tracker>>, Refusal> {
        self.under_way.enter_owned()
    }

    /// Waits for a place, or for the end of the pool.
    async fn place(&self) -> Result<Permit<Bulkhead>, Refusal> {
        let mut closing = pin!(self.closing.cancelled());
        let mut acquire = self.places.acquire(1);
        poll_fn(|cx| match closing.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Refusal::ShutDown)),
            Poll::Pending => Pin::new(&mut acquire).poll(cx),
        })
        .await
    }

    fn stop(&self) {
        self.under_way.close();
        self.closing.cancel();
    }

    /// Does something to every child there is.
    fn each(&self, act: impl Fn(&ProcessHandle) -> bool) {
        let children: Vec<_> = self.lock().values().cloned().collect();
        for child in &children {
            act(child);
        }
    }

    /// Whether nothing is under way any more, by `until`.
    async fn drained_by(&self, until: Instant) -> bool {
        let mut drained = pin!(self.under_way.drained());
        let mut timer = Timer::new();
        poll_fn(|cx: &mut Context<'_>| match drained.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => timer.poll_until(until, cx).map(|()| false),
        })
        .await
    }
}

impl Ends {
    fn count(&self, outcome: &Outcome) {
        let end = match outcome.end() {
            _ if outcome.forced => &self.by_kill,
            Some(End::Exited(0)) => &self.well,
            Some(End::TimedOut { .. } | End::Cancelled) => &self.by_term,
            _ => &self.badly,
        };
        // Release: pairs with the Acquire of `load`, for the sake of totals that add up.
        end.fetch_add(1, Ordering::Release);
    }

    fn report(&self) -> CloseReport {
        CloseReport {
            by_themselves: load(&self.well) + load(&self.badly),
            by_term: load(&self.by_term),
            by_kill: load(&self.by_kill),
            ..CloseReport::default()
        }
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Acquire)
}

impl CloseReport {
    fn since(&self, before: &Self) -> Self {
        Self {
            by_themselves: self.by_themselves - before.by_themselves,
            by_term: self.by_term - before.by_term,
            by_kill: self.by_kill - before.by_kill,
            ..*self
        }
    }
}

/// Such as `3 ended by themselves, 1 by SIGTERM, 0 by SIGKILL, 0 left, after 120.3ms`.
impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ended by themselves, {} by SIGTERM, {} by SIGKILL, {} left, after {:.1?}",
            self.by_themselves, self.by_term, self.by_kill, self.left, self.elapsed
        )
    }
}

/// Children: those there are or that wait for a place, and those that have ended: with code 0
/// (completed), else by themselves (failed), or after a signal from here (aborted).
impl Component for ProcessPool {
    fn stop(&self) {
        self.inner.stop();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.inner.under_way.drained())
    }

    fn cancel(&self) {
        self.inner.each(|child| child.cancel_by(Instant::NEVER));
    }

    fn abort(&self) {
        self.inner.each(ProcessHandle::kill);
    }

    fn counts(&self) -> Counts {
        let ends = &self.inner.ends;
        let mut counts = Counts::new(self.inner.under_way.in_flight() as u64);
        counts.completed = load(&ends.well);
        counts.failed = load(&ends.badly);
        counts.aborted = load(&ends.by_term) + load(&ends.by_kill);
        counts
    }
}

impl fmt::Debug for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPool")
            .field("children", &self.list())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl ProcessPoolBuilder {
    /// How many calls may wait for a place. Default: as many as there are places; 0 refuses
    /// at once.
    pub fn max_queue(mut self, calls: usize) -> Self {
        self.places = self.places.max_queue(calls);
        self
    }

    /// How long a call may wait for a place. Default: no limit of its own.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.places = self.places.max_wait(span);
        self
    }

    /// How long children may go on when the pool closes before they are asked to end.
    /// Default 0.
    pub fn drain(mut self, span: Duration) -> Self {
        self.drain = span;
        self
    }

    /// How long all of them together have between SIGTERM and SIGKILL. Default 5 s. A child
    /// that was asked to end before keeps its own, if that ends earlier.
    pub fn grace(mut self, span: Duration) -> Self {
        self.grace = span;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `max_processes` of 0.
    pub fn build(self) -> Result<ProcessPool, ConfigError> {
        if self.max_processes == 0 {
            return Err(ConfigError::new("max_processes", 0_u32, "at least 1"));
        }
        let inner = Inner {
            places: self.places.build()?,
            drain: self.drain,
            grace: self.grace,
            under_way: Arc::new(Tracker::new()),
            closing: CancellationToken::new(),
            children: Mutex::new(BTreeMap::new()),
            ends: Ends::default(),
        };
        Ok(ProcessPool {
            inner: Arc::new(inner),
        })
    }
}

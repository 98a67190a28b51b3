//! One call: the wait for a slot, the wait for the thread.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;

use super::Offload;
use super::job::{Job, OnThread, job};
use crate::bulkhead::Bulkhead;
use crate::error::{Error, Progress, Refusal};
use crate::observe::EventKind;
use crate::operation::{Operation, Outcome, Repeatable};
use crate::panics::{self, caught};
use crate::policy::{Acquire, CallContext, Permit};
use crate::time::{self, Instant, Timer};

const NO_THREAD: Refusal = Refusal::other("no thread could be started");

/// Work for a thread, to be done once or again.
pub trait Work<T, E> {
    /// What a thread is to do now; `None` when it was given away already.
    fn unit(&mut self) -> Option<Box<dyn FnOnce() -> Result<T, E> + Send>>;

    /// Whether there is work to be given.
    fn can_repeat(&self) -> bool;
}

/// Work that is done once: see [`Offload::run`].
pub struct OnceWork<F>(Option<F>);

/// Work that can be done again: see [`Offload::run_repeatable`].
pub struct RepeatableWork<F>(Arc<F>);

impl<F> OnceWork<F> {
    pub(super) const fn new(work: F) -> Self {
        Self(Some(work))
    }
}

impl<F> RepeatableWork<F> {
    pub(super) fn new(work: F) -> Self {
        Self(Arc::new(work))
    }
}

impl<F, T, E> Work<T, E> for OnceWork<F>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    fn unit(&mut self) -> Option<Box<dyn FnOnce() -> Result<T, E> + Send>> {
        let work = self.0.take()?;
        Some(Box::new(work))
    }

    fn can_repeat(&self) -> bool {
        self.0.is_some()
    }
}

impl<F, T, E> Work<T, E> for RepeatableWork<F>
where
    F: Fn() -> Result<T, E> + Send + Sync + 'static,
{
    fn unit(&mut self) -> Option<Box<dyn FnOnce() -> Result<T, E> + Send>> {
        let work = Arc::clone(&self.0);
        Some(Box::new(move || work()))
    }

    fn can_repeat(&self) -> bool {
        true
    }
}

/// Work of an [`Offload`] as an operation: see [`Offload::run`].
#[must_use = "an operation does nothing unless polled"]
pub struct Offloaded<W, T, E> {
    offload: Offload,
    work: W,
    stage: Stage<T, E>,
}

enum Stage<T, E> {
    Idle,
    Waiting(Box<Acquire<Bulkhead>>, Wait),
    Given(Job<T, E>, Wait),
}

/// So much time has the runtime at least to start a thread, however short the wait may be.
const START: Duration = Duration::from_millis(10);

/// How long a call may wait, for a slot and then for a thread of the runtime's. The first is
/// limited by the slots themselves.
struct Wait {
    since: Instant,
    until: Instant,
    timer: Timer,
}

impl Wait {
    /// Reads no clock for no limit.
    fn begin(max: Duration) -> Self {
        let limited = max != Duration::MAX;
        let since = if limited { time::now() } else { Instant::NEVER };
        let until = since.saturating_add(max);
        let timer = Timer::new();
        Self {
            since,
            until,
            timer,
        }
    }

    /// There is a slot: now it is the runtime's turn.
    fn go_on(&self) -> Self {
        let mut until = self.until;
        if until != Instant::NEVER {
            until = until.max(time::now().saturating_add(START));
        }
        let (since, timer) = (self.since, Timer::new());
        Self {
            since,
            until,
            timer,
        }
    }

    /// Once it is over, it does not begin again.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        ready!(self.timer.poll_until(self.until, cx));
        self.until = Instant::NEVER;
        self.timer.disarm();
        Poll::Ready(time::now().since(self.since))
    }
}

impl<W, T, E> Offloaded<W, T, E> {
    pub(super) const fn new(offload: Offload, work: W) -> Self {
        let stage = Stage::Idle;
        Self {
            offload,
            work,
            stage,
        }
    }
}

/// Nothing in it is ever pinned.
impl<W, T, E> Unpin for Offloaded<W, T, E> {}

impl<W, T, E> Offloaded<W, T, E>
where
    W: Work<T, E>,
    T: Send + 'static,
    E: Send + 'static,
{
    /// Gives the work, and the slot with it, to a thread.
    fn give(&mut self, runtime: &Handle, slot: Permit<Bulkhead>) -> Result<Job<T, E>, Refusal> {
        let work = self.work.unit().expect("polled after its end");
        let (job, thread) = job(work, slot, &self.offload.threads);
        match caught(|| spawn(runtime, thread)) {
            Ok(()) => Ok(job),
            Err(panic) => {
                panics::message(panic);
                Err(NO_THREAD)
            }
        }
    }

    fn poll_result(&mut self, call: &CallContext<'_>, cx: &mut Context<'_>) -> Poll<Outcome<Self>> {
        loop {
            match &mut self.stage {
                Stage::Idle => {
                    if Handle::try_current().is_err() {
                        return refuse(Refusal::NoRuntime, call);
                    }
                    let slots = self.offload.slots.clone();
                    let wait = Wait::begin(self.offload.max_wait);
                    self.stage = Stage::Waiting(Box::new(Acquire::new(slots)), wait);
                }
                Stage::Waiting(acquire, wait) => {
                    let acquired = ready!(acquire.poll_within(call, cx));
                    let wait = wait.go_on();
                    let runtime = Handle::try_current().map_err(|_| Refusal::NoRuntime);
                    let given = acquired
                        .and_then(|slot| runtime.and_then(|runtime| self.give(&runtime, slot)));
                    match given {
                        Ok(job) => self.stage = Stage::Given(job, wait),
                        Err(reason) => return refuse(reason, call),
                    }
                }
                Stage::Given(job, wait) => {
                    if let Poll::Ready(result) = job.poll(cx) {
                        return Poll::Ready(result);
                    }
                    let waited = ready!(wait.poll(cx));
                    if job.give_up() {
                        return refuse(Refusal::bulkhead_full(waited), call);
                    }
                    // It runs, and has no limit of its own.
                    return Poll::Pending;
                }
            }
        }
    }
}

fn refuse<T, E>(reason: Refusal, call: &CallContext<'_>) -> Poll<Result<T, Error<E>>> {
    call.emit(EventKind::Refused(reason));
    Poll::Ready(Err(Error::refused(reason)))
}

/// Whoever waits for the work waits for it alone: the task is not joined.
fn spawn<T: Send + 'static, E: Send + 'static>(runtime: &Handle, thread: OnThread<T, E>) {
    drop(runtime.spawn_blocking(move || thread.run()));
}

impl<W, T, E> Operation for Offloaded<W, T, E>
where
    W: Work<T, E>,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = T;
    type Error = E;

    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let this = self.get_mut();
        let result = ready!(this.poll_result(call, cx));
        this.stage = Stage::Idle;
        Poll::Ready(result)
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        match std::mem::replace(&mut self.get_mut().stage, Stage::Idle) {
            Stage::Idle | Stage::Waiting(..) => Progress::none(),
            Stage::Given(job, _) => job.leave(),
        }
    }
}

impl<W, T, E> Repeatable for Offloaded<W, T, E>
where
    W: Work<T, E>,
    T: Send + 'static,
    E: Send + 'static,
{
    fn can_repeat(&self) -> bool {
        self.work.can_repeat()
    }
}

impl<W, T, E> fmt::Debug for Offloaded<W, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offloaded")
            .field("offload", &self.offload)
            .field("given", &matches!(self.stage, Stage::Given(..)))
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for OnceWork<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnceWork")
    }
}

impl<F> fmt::Debug for RepeatableWork<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepeatableWork")
    }
}

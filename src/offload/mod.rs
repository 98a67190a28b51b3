//! Blocking work on a bounded number of threads.
//!
//! A [`Bulkhead`] in front of tokio's blocking threads: the slot goes with the work, and comes
//! back when the thread is done with it, or tokio's own queue has let go of it, whoever has
//! given up by then. What becomes of one piece of work is decided in `job`.

mod builder;
mod job;
mod run;
mod stage;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use builder::OffloadBuilder;
pub use run::{Offloaded, OnceWork, RepeatableWork, Work};

use crate::bulkhead::Bulkhead;
use crate::operation::{Operation, Repeatable};
use crate::policy::Call;
use crate::sync::Lock;
use stage::Threads;

/// Runs work that blocks (a library without async, a computation, a slow file) on a bounded
/// number of threads, with a bounded queue before them.
///
/// A clone is the same. Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `threads` | none; it must be set | only you know whether the work computes (as many as processors) or waits |
/// | `queue` | as `threads` | absorbs a burst; a longer queue is only latency |
/// | `max_wait` | none | the call's deadline is the better limit; see [the setting](OffloadBuilder::max_wait) for the 10 ms that are always there |
///
/// The threads are those of tokio's `spawn_blocking`, of the runtime that polls the call; one
/// runtime has 512 of them for everybody. Where others have taken them all, work that has a
/// slot waits in the runtime's own queue: that is `queued` as well, and counts into `max_wait`.
/// What is given up there is dropped at once, but keeps its slot until the runtime comes to it.
///
/// **A thread that runs cannot be stopped.** A call that is given up (dropped, timed out) lets
/// work that has begun go on to its end, and its result is dropped. Its thread stays in the
/// count until then: [`abandoned`](OffloadSnapshot::abandoned) says how many there are, and
/// they are never more than `threads`. When all are, nothing begins: new calls wait in the
/// queue, as long as their deadline and `max_wait` let them, and are refused when it is full.
/// Work that should end early needs a flag of its own to look at. A runtime that is dropped
/// waits for threads that run; `Runtime::shutdown_timeout` does not.
///
/// Work that waits for other work of the same offload keeps the thread that the other may
/// need, and can wait for ever: give it an offload of its own.
///
/// # Errors
///
/// The work's own error; [`Error::Panicked`](crate::Error::Panicked) when it panics;
/// [`Refusal::BulkheadFull`](crate::Refusal::BulkheadFull) as of a [`Bulkhead`], which it has
/// in it: all slots are taken and the queue is full, or the wait took too long;
/// [`Refusal::TooLarge`](crate::Refusal::TooLarge) while the number of threads is
/// [set to 0](Self::resize);
/// [`Error::Cancelled`](crate::Error::Cancelled) when the runtime shuts down before the work has
/// begun; [`Refusal::NoRuntime`](crate::Refusal::NoRuntime) outside of a tokio runtime, and
/// [`Refusal::Other`](crate::Refusal::Other) where no thread can be started.
///
/// A [`timeout`](Call::timeout) around it counts the wait and the work. When it passes,
/// [`attempts`](crate::Error::attempts) says whether the work had begun (1: it goes on) or not
/// (0: it never will).
///
/// To send it through a pipeline use [`through`](Call::through):
/// `pipeline.call(|| offload.run(work))` works as well, and its errors nest
/// ([`Error::flatten`](crate::Error::flatten)).
///
/// # Cancel safety
///
/// Dropping the call leaves the queue; work that has not begun is dropped unrun, and at once.
/// Work that has begun goes on, see above.
///
/// # Fairness
///
/// First come, first served, as with a [`Bulkhead`].
///
/// # Panics
///
/// From tokio, with a `max_wait` in a runtime whose timer is not enabled.
///
/// # Examples
///
/// ```
/// use mainstay::offload::Offload;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let offload = Offload::builder().threads(4).build()?;
/// let text = offload
///     .run(|| std::fs::read_to_string("Cargo.toml"))
///     .timeout(Duration::from_secs(2))
///     .await?;
/// assert!(text.contains("mainstay"));
/// assert_eq!(offload.snapshot().running, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Offload {
    slots: Bulkhead,
    threads: Arc<Lock<Threads>>,
    max_wait: Duration,
}

/// What an [`Offload`] holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadSnapshot {
    /// How many threads there may be.
    pub threads: u32,
    /// How much work runs, with what was abandoned.
    pub running: u32,
    /// How much of what runs has no caller any more.
    pub abandoned: u32,
    /// How many calls wait for a thread, with those that were given up and are still in the
    /// runtime's own queue.
    pub queued: usize,
}

impl Offload {
    /// An offload with every default, to be given its number of threads.
    pub fn builder() -> OffloadBuilder {
        OffloadBuilder::new()
    }

    /// Runs `work` on a thread, once. A retry around it finds that there can be no second
    /// attempt.
    ///
    /// It is a [`Call`]: policies can be put around it, and their errors do not nest.
    ///
    /// # Errors
    ///
    /// See the type's text.
    ///
    /// # Cancel safety
    ///
    /// Nothing is begun before the first poll; see the type's text.
    pub fn run<F, T, E>(&self, work: F) -> Call<'static, Offloaded<OnceWork<F>, T, E>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call(OnceWork::new(work))
    }

    /// Runs `work` on a thread, as often as the policies around want.
    ///
    /// An attempt that was given up (a time limit of one attempt) may still run when the next
    /// one begins: they are different threads, and `work` has to bear that.
    ///
    /// # Errors
    ///
    /// See the type's text.
    ///
    /// # Cancel safety
    ///
    /// Nothing is begun before the first poll; see the type's text.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::offload::Offload;
    /// use mainstay::prelude::*;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let offload = Offload::builder().threads(4).build()?;
    /// let reading = Pipeline::builder("read")
    ///     .timeout(Duration::from_secs(5))
    ///     .retry(Retry::builder().max_attempts(2))
    ///     .build()?;
    /// let missing = || std::fs::read_to_string("no such file");
    /// let error = offload.run_repeatable(missing).through(&reading).await.unwrap_err();
    /// assert_eq!(error.attempts(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_repeatable<F, T, E>(
        &self,
        work: F,
    ) -> Call<'static, Offloaded<RepeatableWork<F>, T, E>>
    where
        F: Fn() -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call(RepeatableWork::new(work))
    }

    fn call<W, T, E>(&self, work: W) -> Call<'static, Offloaded<W, T, E>>
    where
        Offloaded<W, T, E>: Operation<Output = T, Error = E> + Repeatable,
    {
        Call::new(Offloaded::new(self.clone(), work), None)
    }

    /// Changes the number of threads. What runs goes on; a limit of 0 lets nothing begin until
    /// it is raised: every call, also one that waits for a slot, is then
    /// [too large](crate::Refusal::TooLarge).
    pub fn resize(&self, threads: u32) {
        self.slots.resize(threads);
    }

    /// What it holds now.
    #[must_use]
    pub fn snapshot(&self) -> OffloadSnapshot {
        let slots = self.slots.snapshot();
        let Threads { running, abandoned } = *self.threads.lock();
        // A slot that is taken and does not run waits for a thread of tokio's.
        let given = slots.in_use.saturating_sub(running) as usize;
        OffloadSnapshot {
            threads: slots.max_concurrent,
            running,
            abandoned,
            queued: slots.queued.saturating_add(given),
        }
    }
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

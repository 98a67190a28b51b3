//! An orderly end, within one deadline.
//!
//! `plan` decides which component does what, and until when; `conductor` does it; `signals`
//! catches what asks for it.

mod builder;
mod component;
mod conductor;
mod counts;
#[cfg(all(test, mainstay_loom))]
mod loom;
mod pace;
mod plan;
mod report;
mod section;
#[cfg(all(feature = "signal", unix))]
mod signals;
#[cfg(all(feature = "signal", not(unix)))]
#[path = "ctrl_c.rs"]
mod signals;
#[cfg(test)]
mod tests;
mod watchdog;

use std::fmt;
use std::sync::{Arc, OnceLock};

use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use builder::{ShutdownBuilder, Stage};
pub use component::Component;
pub use counts::Counts;
pub use report::{Cause, ComponentReport, ShutdownReport, Status};
pub use section::Protected;

use crate::error::Refusal;
use crate::panics::swallow;
use crate::scope::Tracker;
use crate::sync::Lock;
use crate::time::{self, Instant};
use conductor::Conductor;
use pace::Pace;
use plan::Plan;
use watchdog::Watchdog;

/// Ends a program in order, and within one deadline.
///
/// Components close one stage after the other, in the order in which they were declared, so
/// declare first what takes work in, and last what the others need. Each stage is told to stop
/// taking in, and drains: what is under way may end by itself. When the time to drain is over,
/// all that is left is asked to end; then it is aborted; then nobody waits for it any more.
///
/// A clone is the same shutdown. Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `deadline` | 30 s | what most supervisors wait before they kill |
/// | share to drain | 0.8 | nearly all of the time is for what was promised |
/// | share to cancel | 0.15 | to write down how far it came |
/// | share to abort | 0.05 | takes effect at the next await |
/// | `exit_at_deadline` | no | a library ends no process unless it is told to |
/// | signals | none | `on_signals`, with the feature `signal` |
///
/// # One deadline
///
/// Every point in time is set when the shutdown is requested, and none moves. The whole takes
/// the deadline at most (and some milliseconds for last words), whatever components do: one
/// that never drains has timed out in the report, one that panics has failed.
///
/// A thread that is blocked holds up what the runtime had given it to do next, which may be a
/// part of the shutdown; a thread of the shutdown's own keeps the deadline nevertheless. Only
/// code that blocks every thread of the runtime holds it up, since nobody is left to see the
/// report: [`exit_at_deadline`](ShutdownBuilder::exit_at_deadline) is for that.
///
/// # Protected sections
///
/// [`protect`](Self::protect) gives a guard. Before anything is told to stop, a shutdown waits
/// until all guards are dropped, within the time to drain.
///
/// # Cancel safety
///
/// Once [`run`](Self::run) has been polled after the request, the shutdown goes on by itself to
/// its end, whoever waits for it or not. When its runtime is shut down meanwhile, everything
/// left is aborted.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use mainstay::scope::Scope;
/// use mainstay::shutdown::{Shutdown, Status};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = Scope::new();
/// let shutdown = Shutdown::builder()
///     .deadline(Duration::from_secs(10))
///     .component("jobs", jobs.handle())
///     .closing("client", || async { Ok::<_, Infallible>(()) })
///     .build()?;
///
/// let stop = shutdown.token();
/// jobs.spawn("poller", async move {
///     stop.cancelled().await; // a loop would look at it each time round
///     Ok::<_, Infallible>(())
/// })?;
///
/// shutdown.request(); // or a signal
/// let report = shutdown.run().await;
/// println!("{report}");
/// assert!(report.is_orderly());
/// assert_eq!(report.components[0].status, Status::Completed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

struct Shared {
    components: Vec<Named>,
    /// Everything that waits for a shutdown waits for this.
    requested: CancellationToken,
    request: Lock<Option<(Cause, Instant)>>,
    sections: Arc<Tracker>,
    plan: Lock<Plan>,
    /// The plan has changed.
    changed: watch::Sender<()>,
    report: OnceLock<ShutdownReport>,
    done: CancellationToken,
    /// Of those who run it and wait for the request.
    waiting: Lock<Slab<Handle>>,
    /// Where the phases go on: set when they begin.
    runtime: OnceLock<Handle>,
    pace: Pace,
    watchdog: Watchdog,
    #[cfg(feature = "signal")]
    listening: Lock<Option<signals::Listening>>,
}

/// A component, as it was declared.
struct Named {
    name: Box<str>,
    component: Box<dyn Component>,
    asks: bool,
    stage: usize,
}

impl Shutdown {
    /// A shutdown's settings and components, to be declared.
    pub fn builder() -> ShutdownBuilder {
        ShutdownBuilder::new()
    }

    fn new(plan: Plan, components: Vec<Named>, watch: bool) -> Self {
        let shared = Shared {
            components,
            requested: CancellationToken::new(),
            request: Lock::new(None),
            sections: Arc::default(),
            plan: Lock::new(plan),
            changed: watch::Sender::new(()),
            report: OnceLock::new(),
            done: CancellationToken::new(),
            waiting: Lock::default(),
            runtime: OnceLock::new(),
            pace: Pace::default(),
            watchdog: Watchdog::new(watch),
            #[cfg(feature = "signal")]
            listening: Lock::new(None),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Requests the shutdown: the deadline runs from now on, and protected sections are
    /// refused. Only the first request counts. Nothing is closed before [`run`](Self::run).
    pub fn request(&self) {
        self.shared.request(Cause::Request);
    }

    /// Whether it was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.shared.requested.is_cancelled()
    }

    /// Waits until it is requested.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn requested(&self) {
        self.shared.requested.cancelled().await;
    }

    /// A token that is cancelled when the shutdown is requested, at once: also while protected
    /// sections are held, and before anything drains. Cancelling it by hand requests nothing.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.requested.child_token()
    }

    /// Begins a section that a shutdown waits for: it ends when the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Refusal::ShutDown`] once the shutdown was requested.
    pub fn protect(&self) -> Result<Protected, Refusal> {
        Protected::new(&self.shared.sections)
    }

    /// Catches SIGINT and SIGTERM (ctrl-c elsewhere than on Unix), from now until the shutdown
    /// has ended. Called again it changes nothing.
    ///
    /// The first signal requests the shutdown, also while the runtime is blocked: a thread of
    /// its own listens. From then on a second one, of either kind, ends the process at once with
    /// the usual status, 128 and the signal's number: on Unix from inside of the signal handler,
    /// so no lock and no thread of the program can hold it up, and no destructor runs. Mind
    /// senders that signal a process and then its group: to it that is a second signal.
    ///
    /// # Afterwards
    ///
    /// When the shutdown has ended, or all its handles were dropped, a signal ends the process
    /// as if nobody had ever listened. (The first process of a container, which the system
    /// shields from that, exits with the usual status.)
    ///
    /// # Handlers of others
    ///
    /// They are called as well, all the time. On Linux a signal that had a handler before the
    /// first call has that one only afterwards, and one that was ignored (SIGINT in a background
    /// job of a script) stays so, and is not caught. A handler installed later does not keep a
    /// signal from ending the process: nobody can tell that it is there. Elsewhere this holds
    /// for all of them.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler, a pipe or a thread.
    #[cfg(feature = "signal")]
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut listening = self.shared.listening.lock();
        if listening.is_none() && self.shared.report.get().is_none() {
            *listening = Some(signals::listen(&self.shared)?);
        }
        Ok(())
    }

    /// Waits until the shutdown is requested, goes through its phases, and tells how it went.
    ///
    /// Several may wait; each gets the report. After the end it gives it at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the request it has done nothing; afterwards the shutdown goes on, and
    /// waiting for it again gives the report.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its timer enabled.
    pub async fn run(&self) -> ShutdownReport {
        let runtime = Handle::current();
        if !self.is_requested() {
            let _waits = Waits::new(&self.shared, runtime.clone());
            self.requested().await;
        }
        self.shared.begin(&runtime);
        self.shared.done.cancelled().await;
        self.shared
            .report
            .get()
            .cloned()
            .unwrap_or_else(|| self.shared.tell())
    }
}

/// One who runs the shutdown, and waits for the request.
struct Waits<'a> {
    shared: &'a Shared,
    key: usize,
}

impl<'a> Waits<'a> {
    fn new(shared: &'a Shared, runtime: Handle) -> Self {
        let key = shared.waiting.lock().insert(runtime);
        Self { shared, key }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        // Dropped when the lock is free.
        let _runtime = self.shared.waiting.lock().remove(self.key);
    }
}

impl Shared {
    fn request(self: &Arc<Self>, cause: Cause) {
        if self.note(cause) {
            let deadline = self.with_plan(|plan| plan.deadline());
            self.watchdog.watch(deadline, cause);
            self.pace.keep(self);
        }
        // By whoever comes first: it is requested when this returns.
        pace::from_outside(|| self.requested.cancel());
    }

    /// Whether it is the first request.
    fn note(&self, cause: Cause) -> bool {
        let now = time::now();
        let mut request = self.request.lock();
        let first = request.is_none();
        if first {
            *request = Some((cause, now));
            // Under the lock: whoever comes second finds it done.
            self.sections.close();
            self.with_plan(|plan| plan.begin(now));
        }
        first
    }

    fn waiting_runtime(&self) -> Option<Handle> {
        let waiting = self.waiting.lock();
        waiting.iter().next().map(|(_, runtime)| runtime.clone())
    }

    /// Begins the phases, unless someone has.
    fn begin(self: &Arc<Self>, runtime: &Handle) {
        if self.runtime.set(runtime.clone()).is_err() {
            return;
        }
        self.pace.begun();
        // Made here: whatever becomes of the task, its drop sees to the end.
        let conductor = Conductor::new(Arc::clone(self));
        runtime.spawn(conductor.conduct());
    }

    fn cause(&self) -> (Cause, Instant) {
        let request = *self.request.lock();
        request.unwrap_or_else(|| (Cause::Request, time::now()))
    }

    fn with_plan<T>(&self, with: impl FnOnce(&mut Plan) -> T) -> T {
        with(&mut self.plan.lock())
    }

    /// Ends it; who comes second changes nothing.
    fn finish(&self) {
        // First of all: nobody comes to listen from now on.
        if self.report.set(self.tell()).is_err() {
            return;
        }
        #[cfg(feature = "signal")]
        {
            let listening = self.listening.lock().take();
            drop(listening);
        }
        self.watchdog.dismiss();
        self.pace.dismiss();
        // Those who wait are foreign: a panic of their wakers is not the shutdown's.
        swallow(|| self.done.cancel());
    }

    fn tell(&self) -> ShutdownReport {
        let now = time::now();
        let sections_held = self.sections.in_flight();
        let components = self.components.iter().enumerate();
        self.with_plan(|plan| ShutdownReport {
            cause: self.cause().0,
            duration: plan.taken(now),
            deadline: plan.deadline(),
            sections_held,
            components: components
                .map(|(at, one)| plan.report(at, &one.name, now))
                .collect(),
        })
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("is_requested", &self.is_requested())
            .field("components", &self.shared.components)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

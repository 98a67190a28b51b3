//! The deadline, kept from outside of the runtime.
//!
//! Of a runtime's threads one drives its timers. It hands that on when it goes to sleep, not
//! when it blocks: then all others sleep, and no timer goes on. And a task that was woken on a
//! thread that blocks afterwards stays with that thread. So a thread of our own puts a task in
//! from outside at each point of the plan, which wakes a thread of the runtime that sleeps, and
//! that one sees to the timers; and it ends the shutdown itself when nobody else has.
//!
//! Time is the runtime's: where that is paused, in tests, its points in time do not come by
//! themselves, and this thread does nothing.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::Shared;
use super::conductor::LAST_WORDS;
use crate::panics::swallow;
use crate::sync::Lock;
use crate::time::{self, Instant};

/// How long the runtime itself has for everything that is due: it comes first.
const SLACK: Duration = Duration::from_millis(10);

/// The thread's leash: its drop ends the thread.
#[derive(Debug, Default)]
pub(super) struct Pace(Lock<Option<Sender<()>>>);

impl Pace {
    /// Keeps the pace from now on. Without a thread to be had only the runtime keeps it.
    pub(super) fn keep(&self, shared: &Arc<Shared>) {
        let (leash, told) = mpsc::channel();
        *self.0.lock() = Some(leash);
        let keeper = Keeper {
            shared: Arc::downgrade(shared),
            told,
        };
        let name = thread::Builder::new().name("mainstay-shutdown".into());
        let _ = name.spawn(move || keeper.run());
    }

    /// The phases have begun: the keeper may wait for that.
    pub(super) fn begun(&self) {
        if let Some(leash) = &*self.0.lock() {
            let _ = leash.send(());
        }
    }

    pub(super) fn dismiss(&self) {
        drop(self.0.lock().take());
    }
}

struct Keeper {
    shared: Weak<Shared>,
    told: Receiver<()>,
}

/// It was called off.
struct Over;

impl Keeper {
    fn run(self) {
        let _ = self.keep();
    }

    fn keep(&self) -> Result<(), Over> {
        let begun = self.begin()?;
        let points = self.shared()?.with_plan(|plan| plan.points());
        for at in points {
            self.until(at)?;
            self.nudge()?;
        }
        let [.., over] = points;
        self.until(over.max(begun).saturating_add(LAST_WORDS + SLACK))?;
        self.shared()?.give_up_from_outside();
        Ok(())
    }

    /// Waits until the phases have begun; begins them where whoever runs the shutdown has been
    /// woken, and does not come to it.
    fn begin(&self) -> Result<Instant, Over> {
        self.pause(SLACK)?;
        loop {
            let shared = self.shared()?;
            if let Some(runtime) = shared.waiting_runtime() {
                shared.begin(&runtime);
            }
            if let Some(runtime) = shared.runtime.get() {
                return Ok(now(runtime));
            }
            drop(shared);
            self.pause(Duration::MAX)?;
        }
    }

    fn until(&self, at: Instant) -> Result<(), Over> {
        loop {
            let runtime = self.runtime()?;
            let left = at.since(now(&runtime));
            if left.is_zero() {
                return Ok(());
            }
            // At a time that does not pass it looks again, now and then.
            self.pause(left.max(Duration::from_millis(1)))?;
        }
    }

    fn nudge(&self) -> Result<(), Over> {
        self.runtime()?.spawn(async {});
        Ok(())
    }

    fn pause(&self, span: Duration) -> Result<(), Over> {
        match self.told.recv_timeout(span) {
            Err(RecvTimeoutError::Disconnected) => Err(Over),
            Ok(()) | Err(RecvTimeoutError::Timeout) => Ok(()),
        }
    }

    fn runtime(&self) -> Result<Handle, Over> {
        self.shared()?.runtime.get().cloned().ok_or(Over)
    }

    fn shared(&self) -> Result<Arc<Shared>, Over> {
        let shared = self.shared.upgrade().ok_or(Over)?;
        if shared.done.is_cancelled() {
            return Err(Over);
        }
        Ok(shared)
    }
}

/// Wakes others from outside of a runtime with several threads: what is woken on one of them
/// is that thread's to do next, and it may block instead.
pub(super) fn from_outside(wake: impl Fn() + Sync) {
    let several = |runtime: Handle| runtime.runtime_flavor() != RuntimeFlavor::CurrentThread;
    let woken = Handle::try_current().is_ok_and(several)
        && thread::scope(|threads| {
            let waker = thread::Builder::new().name("mainstay-wake".into());
            let spawned = waker.spawn_scoped(threads, || swallow(&wake));
            spawned.is_ok()
        });
    if !woken {
        swallow(wake);
    }
}

/// What the runtime's clock says.
fn now(runtime: &Handle) -> Instant {
    let _in = runtime.enter();
    time::now()
}

//! Reaps killed children that nobody waits for any more.
//!
//! Where a [`Process`](super::Process) is dropped there may be no runtime, or one that is
//! never driven again; and to wait on the spot could block for as long as the system holds the
//! child. So a thread does it: one for all, which ends with the last of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::shared::Shared;

/// A killed child takes about as long to end.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// What has not ended by then is held by the system.
const LONGEST_LOOK: Duration = Duration::from_millis(100);

struct Reaper {
    children: Vec<Arc<Shared>>,
    /// How long to wait before the next look.
    look: Duration,
    /// Whether there is a thread.
    runs: bool,
}

static REAPER: Mutex<Reaper> = Mutex::new(Reaper {
    children: Vec::new(),
    look: FIRST_LOOK,
    runs: false,
});
static ARRIVED: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Reaper> {
    REAPER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps `child`, which has been killed. Without a thread to be had, the next one to come
/// tries again.
pub(super) fn hand_over(child: Arc<Shared>) {
    let mut reaper = lock();
    reaper.children.push(child);
    reaper.look = FIRST_LOOK;
    if reaper.runs {
        ARRIVED.notify_one();
        return;
    }
    let thread = thread::Builder::new().name("mainstay-reaper".into());
    reaper.runs = thread.spawn(run).is_ok();
}

fn run() {
    loop {
        let mut children = std::mem::take(&mut lock().children);
        children.retain(is_left);
        let mut reaper = lock();
        reaper.children.append(&mut children);
        if reaper.children.is_empty() {
            reaper.runs = false;
            return;
        }
        let look = reaper.look;
        reaper.look = LONGEST_LOOK.min(look * 2);
        drop(ARRIVED.wait_timeout(reaper, look));
    }
}

/// A task that waits for the end is woken here, and its waker may panic: that must not end
/// the thread.
fn is_left(child: &Arc<Shared>) -> bool {
    catch_unwind(AssertUnwindSafe(|| child.tick().is_some())).unwrap_or(false)
}

//! Ends the process at the deadline, when nothing else does.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::report::Cause;
use crate::sync::Lock;

/// How much later than the deadline: the shutdown itself comes first.
const SLACK: Duration = Duration::from_millis(50);

/// A thread that waits beside the runtime. Dropping it calls it off.
#[derive(Debug)]
pub(super) struct Watchdog {
    wanted: bool,
    /// Its drop ends the thread.
    leash: Lock<Option<Sender<()>>>,
}

impl Watchdog {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            leash: Lock::new(None),
        }
    }

    /// Watches from now on, if it is wanted. Without a thread to be had nobody watches.
    pub(super) fn watch(&self, deadline: Duration, cause: Cause) {
        if !self.wanted {
            return;
        }
        let (leash, called_off) = mpsc::channel::<()>();
        *self.leash.lock() = Some(leash);
        let name = thread::Builder::new().name("mainstay-deadline".into());
        let _ = name.spawn(move || {
            let after = deadline.saturating_add(SLACK);
            if called_off.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                exit(deadline, cause);
            }
        });
    }

    pub(super) fn dismiss(&self) {
        drop(self.leash.lock().take());
    }
}

fn exit(deadline: Duration, cause: Cause) {
    let after = crate::span::Rounded(deadline);
    let line = format!("shutdown ({cause}): not ended after {after}, a thread is blocked: exit");
    say(line);
    std::process::exit(match cause {
        Cause::Request => 1,
        Cause::Signal(n) => 128 + n,
    });
}

/// Whoever is blocked may hold the lock of the standard error: it is not waited for long.
fn say(line: String) {
    let (said, heard) = mpsc::channel();
    let _ = thread::Builder::new().spawn(move || {
        let _ = writeln!(io::stderr(), "{line}");
        let _ = said.send(());
    });
    let _ = heard.recv_timeout(SLACK);
}

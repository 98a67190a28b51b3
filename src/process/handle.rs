//! What can be done to a child from anywhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::output::End;
use super::shared::Shared;
use crate::time::Instant;

/// Names a child of this process: unique while this process lives, and never used again, as
/// the system's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(u64);

impl ProcessId {
    /// As a number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// From a number, such as one that has come over the wire: for a look-up.
impl From<u64> for ProcessId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It runs.
    Running,
    /// It is stopped, and can be resumed.
    Paused,
    /// It has been asked to end, or has ended and others of its group still hold its pipes.
    Ending,
    /// It has ended and is reaped; its group is gone.
    Ended,
}

/// A handle on a child, to pause, resume and end it from elsewhere. A clone is the same.
///
/// It does not keep the child alive: that ends with its [`Process`](super::Process).
#[derive(Clone, Debug)]
pub struct ProcessHandle(pub(super) Arc<Shared>);

impl ProcessHandle {
    /// Its name in this process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.0.id
    }

    /// The system's number for it, which is that of its group too. It may be somebody else's
    /// once the child has ended: for logs, not for signals.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The program it runs.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.0.program
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// How it ended, if it has, and if it is known: not when somebody else has reaped it.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.0.outcome()?.end()
    }

    /// Stops the whole group (SIGSTOP). `false` when it is ending or has ended.
    pub fn pause(&self) -> bool {
        self.0.drive(|plan, _| plan.pause(true))
    }

    /// Lets a paused group go on (SIGCONT). `false` when it is ending or has ended.
    pub fn resume(&self) -> bool {
        self.0.drive(|plan, _| plan.pause(false))
    }

    /// Asks the whole group to end: SIGTERM, and SIGCONT so that a paused one hears it; SIGKILL
    /// after [`Command::grace`](super::Command::grace). It returns at once. `false` when it was
    /// ending or has ended.
    pub fn cancel(&self) -> bool {
        self.0.drive(super::plan::Plan::cancel)
    }

    /// As [`cancel`](Self::cancel), with a grace of its own. If it was ending before, that can
    /// only become shorter.
    pub fn cancel_within(&self, grace: Duration) -> bool {
        self.0
            .drive(|plan, now| plan.cancel_by(now, now.saturating_add(grace)))
    }

    /// With SIGKILL at `kill_at`.
    pub(super) fn cancel_by(&self, kill_at: Instant) -> bool {
        self.0.drive(|plan, now| plan.cancel_by(now, kill_at))
    }

    /// Kills the whole group at once (SIGKILL). `false` when it was killed before or has ended.
    pub fn kill(&self) -> bool {
        self.0.drive(super::plan::Plan::kill)
    }

    /// Resolves when it has ended and is reaped.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn ended(&self) {
        self.0.ended.cancelled().await;
    }
}

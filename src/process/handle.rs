//! What can be done to a child from anywhere.

use std::fmt;

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
pub struct ProcessHandle(());

impl ProcessHandle {
    /// Its name in this process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        todo!()
    }

    /// The system's number for it, which is that of its group too. It may be somebody else's
    /// once the child has ended: for logs, not for signals.
    #[must_use]
    pub fn pid(&self) -> u32 {
        todo!()
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        todo!()
    }

    /// Stops the whole group (SIGSTOP). `false` when it is ending or has ended.
    pub fn pause(&self) -> bool {
        todo!()
    }

    /// Lets a paused group go on (SIGCONT). `false` when it is ending or has ended.
    pub fn resume(&self) -> bool {
        todo!()
    }

    /// Asks the whole group to end: SIGTERM, and SIGCONT so that a paused one hears it; SIGKILL
    /// after [`Command::grace`](super::Command::grace). It returns at once. `false` when it was
    /// ending or has ended.
    pub fn cancel(&self) -> bool {
        todo!()
    }

    /// Kills the whole group at once (SIGKILL). `false` when it has ended.
    pub fn kill(&self) -> bool {
        todo!()
    }

    /// Resolves when it has ended and is reaped.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn ended(&self) {
        todo!()
    }
}

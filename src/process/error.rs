//! What can go wrong with a child process.

use std::fmt;
use std::io;

use super::output::Output;

/// Says what went wrong with which program, and what to do about it.
#[derive(Debug)]
pub struct ProcessError {
    pub(super) kind: ProcessErrorKind,
    pub(super) program: Box<str>,
    pub(super) cause: Option<io::Error>,
    pub(super) output: Option<Box<Output>>,
}

/// The kinds of a [`ProcessError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessErrorKind {
    /// There is no such program.
    NotFound,
    /// There is no such directory to start in.
    NoDirectory,
    /// The program or the directory may not be used.
    PermissionDenied,
    /// The system has no process, descriptor or memory left; it may have later.
    TooMany,
    /// A zero byte in an argument, too long a list of arguments, or a file that is no program.
    Invalid,
    /// There is no tokio runtime here.
    NoRuntime,
    /// Another error of the system.
    Io,
    /// It exited with another code than 0.
    Failed,
    /// A signal from elsewhere ended it.
    Signalled,
    /// Its time limit was over.
    TimedOut,
    /// It was cancelled.
    Cancelled,
}

impl ProcessError {
    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ProcessErrorKind {
        self.kind
    }

    /// The program that was to run.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// What it had written and how it ended, if it ran: see [`Output::into_result`].
    #[must_use]
    pub fn output(&self) -> Option<&Output> {
        self.output.as_deref()
    }

    /// As [`output`](Self::output), by value.
    #[must_use]
    pub fn into_output(self) -> Option<Output> {
        self.output.map(|output| *output)
    }

    /// Whether the same call may well succeed later: the system had too little of something.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind == ProcessErrorKind::TooMany
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {:?}", self.program, self.kind)
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|error| error as _)
    }
}

//! What can go wrong with a child process.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::command::Command;
use super::output::{End, Output};

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
    /// Somebody else in this process has reaped it: its end is not known.
    Lost,
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

    /// Whether the same call may well succeed later: the system had too little of something,
    /// or the program's file is being written.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let cause = self.cause.as_ref().map(io::Error::kind);
        self.kind == ProcessErrorKind::TooMany || cause == Some(io::ErrorKind::ExecutableFileBusy)
    }

    /// The system would not start it.
    pub(super) fn start(command: &Command, cause: io::Error) -> Self {
        let has_dir = command.dir.as_ref().is_none_or(|dir| dir.is_dir());
        let kind = match kind_of(&cause) {
            // What is there and no directory is one of the system's other errors.
            ProcessErrorKind::NotFound | ProcessErrorKind::Io if !has_dir => {
                ProcessErrorKind::NoDirectory
            }
            kind => kind,
        };
        Self {
            cause: Some(cause),
            ..Self::new(kind, command.program())
        }
    }

    pub(super) fn new(kind: ProcessErrorKind, program: Box<str>) -> Self {
        Self {
            kind,
            program,
            cause: None,
            output: None,
        }
    }

    /// It ran, and did not succeed.
    pub(super) fn ran(output: Output) -> Self {
        let kind = match output.end {
            End::Exited(_) => ProcessErrorKind::Failed,
            End::Signalled(_) => ProcessErrorKind::Signalled,
            End::TimedOut { .. } => ProcessErrorKind::TimedOut,
            End::Cancelled => ProcessErrorKind::Cancelled,
        };
        let program = output.program.clone();
        Self {
            output: Some(Box::new(output)),
            ..Self::new(kind, program)
        }
    }

    /// What happened, and what to do.
    fn words(&self) -> &'static str {
        match self.kind {
            ProcessErrorKind::NotFound => "not found: is it installed, and in PATH?",
            ProcessErrorKind::NoDirectory => "the directory to start in does not exist",
            ProcessErrorKind::PermissionDenied => {
                "permission denied: may this user execute it, and enter its directory?"
            }
            ProcessErrorKind::TooMany => {
                "the system has no process, descriptor or memory left: run fewer at once, or \
                 raise the limits"
            }
            ProcessErrorKind::Invalid => {
                "cannot be started so: a zero byte, too many arguments, or not a program"
            }
            ProcessErrorKind::NoRuntime => "there is no tokio runtime here: enter one first",
            ProcessErrorKind::Lost => {
                "somebody else has reaped it: this process must not wait for any child, nor \
                 ignore SIGCHLD"
            }
            ProcessErrorKind::Io => "the system refused",
            ProcessErrorKind::Failed => "failed",
            ProcessErrorKind::Signalled => "ended by a signal from elsewhere",
            ProcessErrorKind::TimedOut => "its time limit was over",
            ProcessErrorKind::Cancelled => "cancelled",
        }
    }
}

/// The same kinds as the system's.
fn kind_of(cause: &io::Error) -> ProcessErrorKind {
    const TOO_MANY: [Errno; 4] = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    let errno = Errno::from_io_error(cause);
    match cause.kind() {
        _ if errno.is_some_and(|errno| TOO_MANY.contains(&errno)) => ProcessErrorKind::TooMany,
        _ if errno == Some(Errno::NOEXEC) => ProcessErrorKind::Invalid,
        io::ErrorKind::NotFound => ProcessErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ProcessErrorKind::PermissionDenied,
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => {
            ProcessErrorKind::Invalid
        }
        _ => ProcessErrorKind::Io,
    }
}

/// Such as ``` `git`: exited with 128 after 12ms: fatal: not a git repository ```: the last line
/// of its standard error comes with it.
impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: ", self.program)?;
        let Some(output) = &self.output else {
            return f.write_str(self.words());
        };
        match output.end {
            End::Exited(code) => write!(f, "exited with {code}")?,
            End::Signalled(signal) => write!(f, "ended by signal {signal} from elsewhere")?,
            End::TimedOut { .. } | End::Cancelled => f.write_str(self.words())?,
        }
        write!(f, " after {:.1?}", output.elapsed)?;
        match output.last_words() {
            Some(words) => write!(f, ": {words}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProcessErrorKind as Kind;

    #[test]
    fn each_refusal_of_the_system_has_a_kind_and_says_what_to_do() {
        let all = [
            (Errno::NOENT, Kind::NotFound, "is it installed"),
            (
                Errno::ACCESS,
                Kind::PermissionDenied,
                "may this user execute it",
            ),
            (Errno::AGAIN, Kind::TooMany, "run fewer at once"),
            (Errno::NOMEM, Kind::TooMany, "raise the limits"),
            (Errno::NOEXEC, Kind::Invalid, "not a program"),
            (Errno::TOOBIG, Kind::Invalid, "too many arguments"),
            (Errno::IO, Kind::Io, "the system refused"),
        ];
        for (errno, kind, words) in all {
            let error = ProcessError::start(&Command::new("tool"), errno.into());
            assert_eq!(error.kind(), kind, "{errno:?}");
            let text = error.to_string();
            assert!(
                text.starts_with("`tool`: ") && text.contains(words),
                "{text}"
            );
        }
        let lost = ProcessError::new(Kind::Lost, "tool".into()).to_string();
        assert!(lost.contains("must not wait for any child"), "{lost}");
    }
}

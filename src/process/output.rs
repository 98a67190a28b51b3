//! What a child leaves: how it ended, and what it wrote.

use std::borrow::Cow;
use std::process::ExitStatus;
use std::time::Duration;

use super::error::ProcessError;

/// How a child ended, and what it wrote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// What the system says of its end: also for one that was cancelled or timed out, which
    /// may have exited by itself within its grace.
    pub status: ExitStatus,
    /// Whether SIGKILL had to end it, after a cancel or its time limit.
    pub forced: bool,
    /// What it wrote to its standard output, as far as it was kept.
    pub stdout: Captured,
    /// What it wrote to its standard error, as far as it was kept.
    pub stderr: Captured,
    /// From its start to the end of its group.
    pub elapsed: Duration,
    pub(super) program: Box<str>,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// It exited by itself, with this code.
    Exited(i32),
    /// This signal ended it, and it was not ours.
    Signalled(i32),
    /// Its time limit was over, and it was ended.
    #[non_exhaustive]
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// It was cancelled or killed through its [`Process`](super::Process) or a handle.
    Cancelled,
}

impl Output {
    /// Whether it exited by itself, with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.end == End::Exited(0)
    }

    /// The code it exited with, if it did, also within its grace.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The output of a success; anything else as an error that holds it, for a pipeline to
    /// count and to retry.
    ///
    /// # Errors
    ///
    /// A [`ProcessError`] unless it exited with code 0.
    pub fn into_result(self) -> Result<Self, ProcessError> {
        if self.success() {
            Ok(self)
        } else {
            Err(ProcessError::ran(self))
        }
    }

    /// The last line of its standard error that says anything, cut to a length for an error.
    pub(super) fn last_words(&self) -> Option<String> {
        const LONGEST: usize = 200;
        let text = self.stderr.text();
        let line = text
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty())?;
        Some(line.chars().take(LONGEST).collect())
    }
}

/// What was kept of a stream: its beginning and its end, when it was too long to keep whole.
///
/// The beginning says what was being done, the end what came of it: of a log that fails, the
/// middle is the part to do without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Captured {
    /// The bytes that were kept.
    pub bytes: Vec<u8>,
    /// How many there were; those that were read as chunks or lines are not among them.
    pub total: u64,
    /// Where in `bytes` the others are missing, if any are.
    pub cut_at: Option<usize>,
}

impl Captured {
    /// Whether bytes are missing: see [`cut_at`](Self::cut_at).
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.cut_at.is_some()
    }

    /// The text; a byte that is not UTF-8 becomes U+FFFD, and where bytes are missing a line
    /// says how many.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let Some(at) = self.cut_at else {
            return String::from_utf8_lossy(&self.bytes);
        };
        let (head, tail) = self.bytes.split_at(at);
        let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        Cow::Owned(format!("{head}\n[{} bytes cut]\n{tail}", self.cut()))
    }

    /// How many bytes are missing.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.total - self.bytes.len() as u64
    }
}

/// Which stream of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl Source {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Stdout => Self::Stderr,
            Self::Stderr => Self::Stdout,
        }
    }
}

/// Some bytes that a child wrote, as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunk {
    /// Where it wrote them.
    pub source: Source,
    /// At least one byte, 64 KiB at most.
    pub bytes: Vec<u8>,
}

/// A line that a child wrote, or a piece of one that is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// Where it wrote it.
    pub source: Source,
    /// The line, without its end (`\n` or `\r\n`).
    pub bytes: Vec<u8>,
    /// Whether the line goes on in the next [`Line`] from this source: it was longer than
    /// [`Command::line_limit`](super::Command::line_limit).
    pub partial: bool,
}

impl Line {
    /// The text; a byte that is not UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

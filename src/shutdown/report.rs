//! What a shutdown tells afterwards.

use std::fmt;
use std::time::Duration;

use super::counts::Counts;
use crate::span::Rounded;

/// What began a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// [`Shutdown::request`](super::Shutdown::request).
    Request,
    /// The signal of this number.
    Signal(i32),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("request"),
            Self::Signal(2) => f.write_str("SIGINT"),
            Self::Signal(15) => f.write_str("SIGTERM"),
            Self::Signal(n) => write!(f, "signal {n}"),
        }
    }
}

/// How a component ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// By itself: everything that was under way has ended.
    Completed,
    /// After it was asked to end.
    Cancelled,
    /// After it was aborted.
    Aborted,
    /// Not at all within the deadline: something may be under way still.
    TimedOut,
    /// With an error or a panic of its own.
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
            Self::TimedOut => "timed out",
            Self::Failed => "failed",
        })
    }
}

/// How one component ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentReport {
    /// The name that it was declared under.
    pub name: Box<str>,
    /// How it ended.
    pub status: Status,
    /// How much was under way when the shutdown began.
    pub at_start: u64,
    /// How much has ended since, in which way; `in_flight` is what remains.
    pub counts: Counts,
    /// From its turn to its end.
    pub duration: Duration,
    /// The text of its first error or panic.
    pub failure: Option<Box<str>>,
}

/// How a shutdown went.
///
/// As text it has a line for each component:
///
/// ```text
/// shutdown (SIGTERM): 2 of 3 components in order, 10s of 10s
///   http    completed  in 1.2s  12 at start: 14 completed
///   jobs    cancelled  in 6.8s  3 at start: 2 completed, 1 cancelled
///   cache   timed out  in 2s    1 at start: 1 in flight
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// What began it.
    pub cause: Cause,
    /// From the request to the end.
    pub duration: Duration,
    /// How long it was allowed to take.
    pub deadline: Duration,
    /// Protected sections that had not ended when it was over.
    pub sections_held: usize,
    /// In the order in which they were declared.
    pub components: Vec<ComponentReport>,
}

impl ShutdownReport {
    /// Whether nothing was left, lost or went wrong: every component has ended in time and
    /// without an error, none of what was under way has failed, panicked or been aborted
    /// meanwhile, and no protected section is held. What ended when it was asked to, and what
    /// had never begun, was not lost.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        self.sections_held == 0 && self.components.iter().all(ComponentReport::is_orderly)
    }

    /// The usual exit status: 128 and the signal's number where a signal began it; otherwise
    /// 0 when it was [orderly](Self::is_orderly), else 1.
    ///
    /// Some supervisors take 130 and 143 for failures; use `is_orderly` for a status of your
    /// own there. A status does not end tasks that block a thread, nor does the drop of a
    /// runtime: after a shutdown leave by `std::process::exit`.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.cause {
            Cause::Signal(n) => 128 + n,
            Cause::Request => i32::from(!self.is_orderly()),
        }
    }
}

impl ComponentReport {
    fn is_orderly(&self) -> bool {
        let lost = self.counts.failed | self.counts.panicked | self.counts.aborted;
        lost == 0 && matches!(self.status, Status::Completed | Status::Cancelled)
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.components.len();
        let orderly = self.components.iter().filter(|one| one.is_orderly());
        write!(
            f,
            "shutdown ({}): {} of {all} components in order, {} of {}",
            self.cause,
            orderly.count(),
            Rounded(self.duration),
            Rounded(self.deadline),
        )?;
        if self.sections_held > 0 {
            write!(f, "; {} protected sections still held", self.sections_held)?;
        }
        let names = self.components.iter().map(|one| one.name.chars().count());
        let width = names.max().unwrap_or(0);
        self.components
            .iter()
            .try_for_each(|one| one.line(width, f))
    }
}

impl ComponentReport {
    fn line(&self, width: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duration = Rounded(self.duration).to_string();
        write!(
            f,
            "\n  {:width$}  {:9}  in {duration:6}",
            self.name, self.status
        )?;
        write!(f, "  {} at start", self.at_start)?;
        if self.counts == Counts::default() {
            f.write_str(", none left")?;
        } else {
            write!(f, ": {}", self.counts)?;
        }
        match &self.failure {
            Some(failure) => write!(f, " ({failure})"),
            None => Ok(()),
        }
    }
}

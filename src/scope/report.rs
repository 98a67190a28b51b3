//! What a scope tells: who is there, and how everyone ended.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::shutdown::Counts;

/// Names a task of a scope: the first has 1, the next 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(super) u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A task that has not ended yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Its number in the scope.
    pub id: TaskId,
    /// The name it was spawned under.
    pub name: Cow<'static, str>,
    /// Time since it was spawned.
    pub age: Duration,
    /// What it does.
    pub state: TaskState,
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = crate::span::Rounded(self.age);
        write!(f, "{} {}: {} for {age}", self.id, self.name, self.state)
    }
}

/// What a task of a scope does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// It waits for one of the scope's places.
    Queued,
    /// It has been started.
    Running,
    /// It was told to end, and has not ended yet.
    Cancelling,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
        })
    }
}

/// The error or the panic of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskFailure {
    /// Which task.
    pub id: TaskId,
    /// The name it was spawned under.
    pub name: Cow<'static, str>,
    /// The text of its error or of its panic.
    pub message: Box<str>,
    /// Whether it panicked.
    pub panicked: bool,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.panicked { "panicked" } else { "failed" };
        write!(f, "{} {verb}", self.name)?;
        if self.message.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for TaskFailure {}

/// How the tasks of a scope ended, as far as they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopeReport {
    /// How many ended in which way; `in_flight` are those that have not.
    pub counts: Counts,
    /// The first task that failed or panicked.
    pub first_error: Option<TaskFailure>,
}

impl ScopeReport {
    /// The counts, or the first failure.
    ///
    /// # Errors
    ///
    /// The first task's that failed or panicked.
    pub fn into_result(self) -> Result<Counts, TaskFailure> {
        match self.first_error {
            Some(failure) => Err(failure),
            None => Ok(self.counts),
        }
    }
}

impl fmt::Display for ScopeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.fmt(f)?;
        match &self.first_error {
            Some(failure) => write!(f, "; first error: {failure}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(message: &str, panicked: bool) -> TaskFailure {
        TaskFailure {
            id: TaskId(7),
            name: "feeder".into(),
            message: message.into(),
            panicked,
        }
    }

    #[test]
    fn a_failure_says_who_and_why() {
        let text = |message, panicked| failure(message, panicked).to_string();
        assert_eq!(text("no", false), "feeder failed: no");
        assert_eq!(text("oh", true), "feeder panicked: oh");
        assert_eq!(text("", true), "feeder panicked");
    }

    #[test]
    fn a_task_says_what_it_does_and_for_how_long() {
        for (state, what) in [
            (TaskState::Queued, "queued"),
            (TaskState::Running, "running"),
            (TaskState::Cancelling, "cancelling"),
        ] {
            let info = TaskInfo {
                id: TaskId(3),
                name: "feeder".into(),
                age: Duration::from_secs(2),
                state,
            };
            assert_eq!(info.to_string(), format!("#3 feeder: {what} for 2s"));
        }
    }

    #[test]
    fn a_report_is_its_counts_or_its_first_error() {
        let counts = Counts::new(2);
        let mut report = ScopeReport {
            counts,
            first_error: None,
        };
        assert_eq!(report.to_string(), "2 in flight");
        assert_eq!(report.clone().into_result(), Ok(counts));
        report.first_error = Some(failure("no", false));
        let text = "2 in flight; first error: feeder failed: no";
        assert_eq!(report.to_string(), text);
        assert_eq!(report.into_result(), Err(failure("no", false)));
    }
}

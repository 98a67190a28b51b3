//! The kinds of operations, and how long each may take.

use std::time::Duration;

use crate::config::ConfigError;

/// What a client asks a provider for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OperationKind {
    /// Making a session.
    Create,
    /// Finding a session.
    Get,
    /// Asking for its state.
    Status,
    /// Listing sessions.
    List,
    /// Reading and replacing labels.
    Labels,
    /// Running a command.
    Run,
    /// Running code.
    Code,
    /// Reading a file or a directory.
    Read,
    /// Writing a file.
    Write,
    /// Ending a session.
    Delete,
}

impl OperationKind {
    pub(super) const ALL: [Self; 10] = [
        Self::Create,
        Self::Get,
        Self::Status,
        Self::List,
        Self::Labels,
        Self::Run,
        Self::Code,
        Self::Read,
        Self::Write,
        Self::Delete,
    ];

    /// A word for names of pipelines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Status => "status",
            Self::List => "list",
            Self::Labels => "labels",
            Self::Run => "run",
            Self::Code => "code",
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

/// How long one attempt of each kind may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimits {
    each: [Duration; OperationKind::ALL.len()],
    /// What is added to a command's own limit.
    pub(super) margin: Duration,
}

impl TimeLimits {
    pub(super) const fn of(&self, kind: OperationKind) -> Duration {
        self.each[kind as usize]
    }

    pub(super) fn set(&mut self, kind: OperationKind, limit: Duration) {
        self.each[kind as usize] = limit;
    }

    /// A command's own limit and the margin, or else what holds for those without one.
    pub(super) fn running(&self, kind: OperationKind, own: Option<Duration>) -> Duration {
        own.map_or(self.of(kind), |own| own.saturating_add(self.margin))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.each.iter().find(|limit| limit.is_zero()) {
            Some(limit) => Err(ConfigError::new("time_limit", *limit, "more than zero")),
            None => Ok(()),
        }
    }
}

impl Default for TimeLimits {
    fn default() -> Self {
        let seconds = |kind| match kind {
            OperationKind::Create | OperationKind::Delete => 60,
            OperationKind::Run | OperationKind::Code => 300,
            OperationKind::Read | OperationKind::Write => 30,
            _ => 10,
        };
        Self {
            each: OperationKind::ALL.map(|kind| Duration::from_secs(seconds(kind))),
            margin: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_limit_of_its_own() {
        let mut limits = TimeLimits::default();
        for (n, kind) in (1..).zip(OperationKind::ALL) {
            limits.set(kind, Duration::from_secs(n));
        }
        for (n, kind) in (1..).zip(OperationKind::ALL) {
            assert_eq!(limits.of(kind), Duration::from_secs(n));
        }
    }

    #[test]
    fn a_command_has_its_own_limit_and_a_margin() {
        let limits = TimeLimits::default();
        let own = Some(Duration::from_secs(7));
        let run = OperationKind::Run;
        assert_eq!(limits.running(run, own), Duration::from_secs(17));
        assert_eq!(limits.running(run, None), Duration::from_secs(300));
        assert_eq!(limits.running(run, Some(Duration::MAX)), Duration::MAX);
    }
}

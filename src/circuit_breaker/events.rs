//! Changes of state, and their delivery: in order, each exactly once, under no lock.
//!
//! A change is queued under the lock that makes it, so that the queue's order is that of
//! the changes. Whoever finds nobody at it delivers, until the queue is empty; a change
//! made meanwhile, by another thread or by the hook itself, is only queued.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// What a breaker does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitState {
    /// Lets every call pass, and counts it.
    Closed,
    /// Refuses every call until its time is over.
    Open,
    /// Lets a few probes pass, to see.
    HalfOpen,
    /// Refuses every call until an operator says otherwise.
    ForcedOpen,
    /// Lets every call pass and counts none, until an operator says otherwise.
    Disabled,
    /// Lets every call pass and counts it, but never opens, until an operator says
    /// otherwise.
    MetricsOnly,
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Too large a share of the calls failed.
    FailureRate,
    /// Too large a share of the calls was slow.
    SlowCallRate,
    /// Too many calls in a row failed.
    ConsecutiveFailures,
    /// The open time was over when a call came.
    OpenTimeElapsed,
    /// Enough of the probes were good.
    ProbesSucceeded,
    /// Someone told it to.
    Operator,
}

/// One change of a breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateChange {
    /// The first change of a breaker is number 1, the next 2, without a gap.
    pub number: u64,
    /// The state before.
    pub from: CircuitState,
    /// The state after.
    pub to: CircuitState,
    /// Why.
    pub cause: Cause,
    /// How long it will be open, where it has just opened of itself.
    pub open_for: Option<Duration>,
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics only",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FailureRate => "failure rate",
            Self::SlowCallRate => "slow-call rate",
            Self::ConsecutiveFailures => "consecutive failures",
            Self::OpenTimeElapsed => "the open time is over",
            Self::ProbesSucceeded => "the probes succeeded",
            Self::Operator => "told by an operator",
        })
    }
}

impl fmt::Display for StateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: {}", self.from, self.to, self.cause)
    }
}

/// Changes on their way to the hook.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<StateChange>,
    delivering: bool,
}

impl Outbox {
    /// Queues a change. `true`: nobody is delivering, and the caller now has to.
    #[must_use]
    pub(super) fn push(&mut self, change: StateChange) -> bool {
        self.queue.push_back(change);
        !std::mem::replace(&mut self.delivering, true)
    }

    /// What to deliver next. `None` ends the delivery: whoever queues after it delivers.
    pub(super) fn next(&mut self) -> Option<StateChange> {
        let change = self.queue.pop_front();
        self.delivering = change.is_some();
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: u64) -> StateChange {
        StateChange {
            number,
            from: CircuitState::Closed,
            to: CircuitState::Open,
            cause: Cause::FailureRate,
            open_for: None,
        }
    }

    #[test]
    fn a_change_reads_as_a_sentence() {
        let change = StateChange {
            cause: Cause::OpenTimeElapsed,
            from: CircuitState::Open,
            to: CircuitState::HalfOpen,
            ..change(1)
        };
        assert_eq!(
            change.to_string(),
            "open to half-open: the open time is over"
        );
        assert_eq!(CircuitState::ForcedOpen.to_string(), "forced open");
        assert_eq!(Cause::Operator.to_string(), "told by an operator");
    }

    #[test]
    fn one_at_a_time_delivers_and_in_order() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(change(1)));
        assert!(!outbox.push(change(2)));
        assert_eq!(outbox.next(), Some(change(1)));
        assert!(!outbox.push(change(3)));
        assert_eq!(outbox.next(), Some(change(2)));
        assert_eq!(outbox.next(), Some(change(3)));
        assert_eq!(outbox.next(), None);
        assert!(outbox.push(change(4)));
    }
}

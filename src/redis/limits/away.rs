//! What happens while Redis cannot be asked: the choice, and the state that knows when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::ConfigError;
use crate::time::Instant;

/// What a shared limit does while Redis is away.
///
/// It is away when a question was not answered within `ask_within`, when one failed twice in
/// a row (no connection, an open breaker, a server that is loading or out of memory), or when
/// the answer makes no sense. From then on calls are decided at once by this choice, and a
/// question in the background every `probe_every` finds out when it is back: a call has at
/// most one `ask_within` of waiting from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenAway {
    /// Refuse every call, by [`Refusal::Other`](crate::Refusal::Other): the limit holds
    /// whatever happens.
    #[default]
    Refuse,
    /// Let every call through: the limit is gone meanwhile.
    Allow,
    /// Each process limits itself to a part of the limit.
    #[non_exhaustive]
    Local {
        /// The part: one in so many, such as the number of processes.
        one_in: u32,
    },
}

impl WhenAway {
    /// Each process keeps to one part in so many of the limit, by a local limiter or bulkhead:
    /// of a limiter, the rate divided by it, and the burst; of a bulkhead, the slots. At least
    /// one permit or slot each, so more processes than that exceed the whole. A call that needs
    /// more than the part is refused by [`Refusal::TooLarge`](crate::Refusal::TooLarge).
    #[must_use]
    pub const fn local(one_in: u32) -> Self {
        Self::Local { one_in }
    }

    pub(super) fn check(self) -> Result<(), ConfigError> {
        match self {
            Self::Local { one_in: 0 } => {
                Err(ConfigError::new("when_away", 0_u32, "one in 1 at least"))
            }
            Self::Refuse | Self::Allow | Self::Local { .. } => Ok(()),
        }
    }
}

/// How calls were decided while Redis was away: counts for people to read.
#[derive(Debug, Default)]
pub(super) struct Without {
    allowed: AtomicU64,
    refused: AtomicU64,
}

impl Without {
    // Relaxed: nothing is decided by them.
    pub(super) fn count(&self, allowed: Option<bool>) {
        let count = match allowed {
            Some(true) => &self.allowed,
            Some(false) => &self.refused,
            None => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were allowed, and how many refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.allowed), read(&self.refused))
    }
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// None came in time.
    TimedOut,
    /// It failed, or made no sense.
    Failed,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    AskAgain,
    Away,
}

/// How a call is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Redis decides.
    Here,
    /// The choice decides; `probe` asks the caller to start a question.
    Away { probe: bool },
}

/// Whether Redis answers, as far as is known.
#[derive(Debug)]
pub(super) struct Presence {
    probe_every: Duration,
    /// In a row.
    failures: u32,
    away: Option<Away>,
}

#[derive(Clone, Copy, Debug)]
struct Away {
    since: Instant,
    probe_at: Instant,
    probing: bool,
}

/// A connection that broke while idle fails the next question and is there for the one after.
const FAILURES: u32 = 2;

impl Presence {
    pub(super) const fn new(probe_every: Duration) -> Self {
        Self {
            probe_every,
            failures: 0,
            away: None,
        }
    }

    /// One of the callers after `probe_every` is asked to start a question.
    pub(super) fn look(&mut self, now: Instant) -> Look {
        let Some(away) = &mut self.away else {
            return Look::Here;
        };
        let probe = !away.probing && away.probe_at <= now;
        away.probing |= probe;
        Look::Away { probe }
    }

    /// Whether a question is to be asked only to see whether it is answered.
    pub(super) fn wants_probe(&self) -> bool {
        self.away.is_some_and(|away| away.probing)
    }

    #[cfg(test)]
    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    pub(super) fn away_for(&self, now: Instant) -> Option<Duration> {
        self.away.map(|away| now.since(away.since))
    }

    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.away = None;
    }

    /// A failure that came at once may be of a connection that had broken long before; one
    /// that took the whole time will not be waited for twice.
    pub(super) fn failed(&mut self, now: Instant, failure: Failure) -> Next {
        self.failures = self.failures.saturating_add(1);
        let again = failure == Failure::Failed && self.failures < FAILURES;
        if again && self.away.is_none() {
            return Next::AskAgain;
        }
        self.away = Some(Away {
            since: self.away.map_or(now, |away| away.since),
            probe_at: now.saturating_add(self.probe_every),
            probing: false,
        });
        Next::Away
    }

    /// The question that was to be asked will not be.
    pub(super) fn given_up(&mut self) {
        if let Some(away) = &mut self.away {
            away.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn one_failure_that_comes_at_once_is_asked_again() {
        let mut presence = Presence::new(SECOND);
        assert_eq!(presence.failed(at(0), Failure::Failed), Next::AskAgain);
        assert_eq!(presence.look(at(0)), Look::Here);
        presence.answered();
        assert_eq!(presence.failed(at(1), Failure::Failed), Next::AskAgain);
        assert_eq!(presence.failed(at(1), Failure::Failed), Next::Away);
        assert_eq!(presence.look(at(1)), Look::Away { probe: false });
    }

    #[test]
    fn a_time_out_is_away_at_once() {
        let mut presence = Presence::new(SECOND);
        assert_eq!(presence.failed(at(0), Failure::TimedOut), Next::Away);
        assert_eq!(presence.away_for(at(3)), Some(3 * SECOND));
    }

    #[test]
    fn one_caller_in_each_period_looks_whether_it_is_back() {
        let mut presence = Presence::new(SECOND);
        presence.failed(at(0), Failure::TimedOut);
        assert_eq!(presence.look(at(1)), Look::Away { probe: true });
        assert_eq!(presence.look(at(2)), Look::Away { probe: false });
        assert!(presence.wants_probe());
        presence.failed(at(2), Failure::Failed);
        assert!(!presence.wants_probe());
        assert_eq!(presence.look(at(2)), Look::Away { probe: false });
        assert_eq!(presence.look(at(3)), Look::Away { probe: true });
        presence.answered();
        assert_eq!(presence.look(at(3)), Look::Here);
        assert_eq!(presence.away_for(at(3)), None);
    }

    #[test]
    fn a_probe_that_was_never_asked_is_asked_by_the_next() {
        let mut presence = Presence::new(SECOND);
        presence.failed(at(0), Failure::TimedOut);
        assert_eq!(presence.look(at(1)), Look::Away { probe: true });
        presence.given_up();
        assert_eq!(presence.look(at(1)), Look::Away { probe: true });
    }

    #[test]
    fn what_was_decided_without_redis_is_counted_by_how() {
        let without = Without::default();
        for allowed in [Some(true), None, Some(false), Some(true)] {
            without.count(allowed);
        }
        assert_eq!(without.counts(), (2, 1));
    }

    #[test]
    fn one_in_none_is_no_part() {
        assert_eq!(WhenAway::local(0).check().unwrap_err().field(), "when_away");
        for choice in [WhenAway::Refuse, WhenAway::Allow, WhenAway::local(1)] {
            assert!(choice.check().is_ok(), "{choice:?}");
        }
    }
}

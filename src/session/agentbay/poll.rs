//! When to ask again whether something has come about: told the time, it asks no clock.

use std::time::Duration;

use crate::time::Instant;

use super::super::error::{SessionError, SessionErrorKind as Kind};
use super::super::types::SessionStatus;

/// Asks in even steps until a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poll {
    until: Instant,
    interval: Duration,
}

impl Poll {
    pub(super) fn new(now: Instant, interval: Duration, limit: Duration) -> Self {
        Self {
            until: now.saturating_add(limit),
            interval,
        }
    }

    /// How long an answer may take: to the end, and the last one for another step.
    pub(super) fn time(&self, now: Instant) -> Duration {
        self.until.since(now).max(self.interval)
    }

    /// When to ask again after an answer, or after a failure that told when; never past the
    /// end, and not at all after it.
    pub(super) fn next(&self, now: Instant, hint: Option<Duration>) -> Option<Instant> {
        let wait = self.interval.max(hint.unwrap_or_default());
        (now < self.until).then(|| now.saturating_add(wait).min(self.until))
    }
}

/// Whether an answer that failed says nothing of the thing that is waited for.
pub(super) fn may_ask_again(error: &SessionError) -> bool {
    matches!(
        error.kind(),
        Kind::Throttled | Kind::Unavailable | Kind::Connection | Kind::Protocol
    )
}

/// Follows a session that pauses, or resumes.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    from: SessionStatus,
    on_the_way: SessionStatus,
    to: SessionStatus,
    has_begun: bool,
}

/// What a state says of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    NotYet,
    Done,
    Failed,
}

impl Turn {
    pub(super) fn pause() -> Self {
        Self {
            from: SessionStatus::Running,
            on_the_way: SessionStatus::Pausing,
            to: SessionStatus::Paused,
            has_begun: false,
        }
    }

    pub(super) fn resume() -> Self {
        Self {
            from: SessionStatus::Paused,
            on_the_way: SessionStatus::Resuming,
            to: SessionStatus::Running,
            has_begun: false,
        }
    }

    /// Where it shall go.
    pub(super) fn goal(&self) -> &SessionStatus {
        &self.to
    }

    /// Learns a state. The one from which it started is waited out until the turn has begun,
    /// and a failure afterwards.
    pub(super) fn learn(&mut self, status: &SessionStatus) -> Turned {
        if *status == self.to {
            Turned::Done
        } else if *status == self.on_the_way {
            self.has_begun = true;
            Turned::NotYet
        } else if *status == self.from && !self.has_begun {
            Turned::NotYet
        } else {
            Turned::Failed
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
    fn it_asks_in_even_steps_and_once_more_at_the_end() {
        let poll = Poll::new(at(0), 2 * SECOND, 5 * SECOND);
        assert_eq!(poll.next(at(0), None), Some(at(2)));
        assert_eq!(poll.next(at(2), None), Some(at(4)));
        assert_eq!(poll.next(at(4), None), Some(at(5)));
        assert_eq!(poll.next(at(5), None), None);
        assert_eq!(poll.time(at(0)), 5 * SECOND);
        assert_eq!(poll.time(at(4)), 2 * SECOND);
        assert_eq!(poll.time(at(9)), 2 * SECOND);
    }

    #[test]
    fn a_hint_puts_it_off_but_not_past_the_end() {
        let poll = Poll::new(at(0), SECOND, 9 * SECOND);
        assert_eq!(poll.next(at(0), Some(3 * SECOND)), Some(at(3)));
        assert_eq!(poll.next(at(0), Some(Duration::MAX)), Some(at(9)));
        assert_eq!(poll.next(at(0), Some(Duration::ZERO)), Some(at(1)));
    }

    #[test]
    fn no_limit_never_ends() {
        let poll = Poll::new(at(1), SECOND, Duration::MAX);
        assert_eq!(poll.next(at(1), None), Some(at(2)));
    }

    #[test]
    fn a_turn_waits_for_its_begin_and_sees_its_failure() {
        use SessionStatus::{Deleted, Paused, Pausing, Resuming, Running};
        let mut turn = Turn::pause();
        for (status, turned) in [
            (Running, Turned::NotYet),
            (Pausing, Turned::NotYet),
            (Paused, Turned::Done),
            (Running, Turned::Failed),
        ] {
            assert_eq!(turn.learn(&status), turned, "{status:?}");
        }
        assert_eq!(Turn::pause().learn(&Deleted), Turned::Failed);
        assert_eq!(Turn::resume().learn(&Resuming), Turned::NotYet);
        assert_eq!(Turn::resume().learn(&Running), Turned::Done);
        assert_eq!(Turn::resume().learn(&Pausing), Turned::Failed);
    }

    #[test]
    fn a_failure_is_asked_about_again_if_it_may_pass() {
        let again = |kind| may_ask_again(&SessionError::new(kind, ""));
        for kind in [
            Kind::Throttled,
            Kind::Unavailable,
            Kind::Connection,
            Kind::Protocol,
        ] {
            assert!(again(kind), "{kind}");
        }
        for kind in [Kind::NotFound, Kind::Denied, Kind::Invalid, Kind::Tool] {
            assert!(!again(kind), "{kind}");
        }
    }

    #[test]
    fn a_turn_has_a_goal() {
        assert_eq!(*Turn::pause().goal(), SessionStatus::Paused);
        assert_eq!(*Turn::resume().goal(), SessionStatus::Running);
    }
}

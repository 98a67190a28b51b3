//! What a failure means: for a retry, for the breaker, for a creation. Pure.

use std::time::Duration;

use super::super::error::{Effect, SessionError, SessionErrorKind};
use crate::Error;
use crate::circuit_breaker::CountAs;
use crate::classify::{Classify, Decision};
use crate::retry::Verdict;

/// Whether a failure of this kind may be gone the next time.
const fn may_pass(kind: SessionErrorKind) -> bool {
    matches!(
        kind,
        SessionErrorKind::Throttled
            | SessionErrorKind::Unavailable
            | SessionErrorKind::Connection
            | SessionErrorKind::Protocol
    )
}

/// What may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Anything: it changes nothing, or the same each time.
    Always,
    /// Only what has not happened.
    Undone,
    /// Nothing: whoever calls decides.
    Never,
}

impl Repeat {
    fn verdict(self, error: &SessionError) -> Verdict {
        let harmless = match self {
            Self::Always => true,
            Self::Undone => error.effect() == Effect::None,
            Self::Never => false,
        };
        match (harmless && may_pass(error.kind()), error.retry_after()) {
            (false, _) => Verdict::Stop,
            (true, Some(span)) => Verdict::RetryAfter(span),
            (true, None) => Verdict::Retry,
        }
    }
}

impl<T> Classify<T, SessionError, Verdict> for Repeat {
    fn classify(&self, result: Result<&T, &Error<SessionError>>) -> Verdict {
        match result {
            Err(Error::Operation { error, .. }) => self.verdict(error),
            // The reply is still to come: what was asked for may have happened.
            Err(Error::TimedOut { .. }) if *self == Self::Always => Verdict::Retry,
            _ => Verdict::Stop,
        }
    }
}

/// What tells of the provider's health. A throttled call does not: it lives, and wants fewer
/// calls; to stop all would make an outage of it. Whoever says "not found" has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Health;

impl<T> Classify<T, SessionError, CountAs> for Health {
    fn classify(&self, result: Result<&T, &Error<SessionError>>) -> CountAs {
        match result {
            Err(Error::Operation { error, .. }) => match error.kind() {
                SessionErrorKind::Throttled => CountAs::Nothing,
                SessionErrorKind::Unavailable
                | SessionErrorKind::Connection
                | SessionErrorKind::Protocol
                | SessionErrorKind::Local => CountAs::Failure,
                _ => CountAs::Success,
            },
            other => CountAs::by_default(other),
        }
    }
}

/// Whether it makes sense to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    No,
    /// After the back-off's next delay.
    Later,
    /// After this time: the provider has named it.
    After(Duration),
}

/// How a call has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was not made; when to come back, if that is known.
    Refused(Option<Duration>),
    /// It may have happened, or not.
    Failed { effect: Effect, again: Again },
}

impl Failure {
    pub(super) fn of(error: &Error<SessionError>) -> Self {
        let unknown = |again| Self::Failed {
            effect: Effect::Unknown,
            again,
        };
        match error {
            Error::Operation { error, .. } => Self::Failed {
                effect: error.effect(),
                again: match (may_pass(error.kind()), error.retry_after()) {
                    (false, _) => Again::No,
                    (true, None) => Again::Later,
                    (true, Some(span)) => Again::After(span),
                },
            },
            Error::TimedOut { .. } => unknown(Again::Later),
            Error::Refused { reason, .. } => Self::Refused(reason.retry_after()),
            // A panic, a cancellation: nobody knows how far it came.
            _ => unknown(Again::No),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;
    use SessionErrorKind as Kind;

    const KINDS: [Kind; 10] = [
        Kind::NotFound,
        Kind::Throttled,
        Kind::Unavailable,
        Kind::Denied,
        Kind::Invalid,
        Kind::Unsupported,
        Kind::Tool,
        Kind::Connection,
        Kind::Protocol,
        Kind::Local,
    ];

    fn decide<V>(rule: &impl Classify<(), SessionError, V>, error: &Error<SessionError>) -> V {
        rule.classify(Err(error))
    }

    /// Trap 51.
    #[test]
    fn what_may_have_happened_is_repeated_only_where_that_does_no_harm() {
        for kind in KINDS {
            for effect in [Effect::None, Effect::Unknown, Effect::Partial] {
                let error = Error::operation(SessionError::new(kind, "").with_effect(effect));
                let passes = may_pass(kind);
                let verdict = |yes| if yes { Verdict::Retry } else { Verdict::Stop };
                assert_eq!(decide(&Repeat::Always, &error), verdict(passes));
                let undone = passes && effect == Effect::None;
                assert_eq!(decide(&Repeat::Undone, &error), verdict(undone));
                assert_eq!(decide(&Repeat::Never, &error), Verdict::Stop);
            }
        }
        let late = Error::timed_out(Duration::from_secs(1));
        assert_eq!(decide(&Repeat::Always, &late), Verdict::Retry);
        assert_eq!(decide(&Repeat::Undone, &late), Verdict::Stop);
    }

    #[test]
    fn a_hint_is_obeyed() {
        let span = Duration::from_secs(7);
        let error = SessionError::new(Kind::Throttled, "").with_retry_after(span);
        let error = Error::operation(error);
        assert_eq!(decide(&Repeat::Undone, &error), Verdict::RetryAfter(span));
    }

    #[test]
    fn only_what_tells_of_the_providers_health_counts() {
        for kind in KINDS {
            let error = Error::operation(SessionError::new(kind, ""));
            let expected = match kind {
                Kind::Throttled => CountAs::Nothing,
                Kind::Unavailable | Kind::Connection | Kind::Protocol | Kind::Local => {
                    CountAs::Failure
                }
                _ => CountAs::Success,
            };
            assert_eq!(decide(&Health, &error), expected, "{kind}");
        }
        let late = Error::timed_out(Duration::from_secs(1));
        assert_eq!(decide(&Health, &late), CountAs::Failure);
    }

    #[test]
    fn how_a_call_has_failed_says_whether_to_ask_again() {
        let span = Duration::from_secs(7);
        let failed = |effect, again| Failure::Failed { effect, again };
        let of = |error: SessionError| Failure::of(&Error::operation(error));
        let throttled = SessionError::new(Kind::Throttled, "");
        assert_eq!(of(throttled.clone()), failed(Effect::None, Again::Later));
        let later = throttled.with_retry_after(span);
        assert_eq!(of(later), failed(Effect::None, Again::After(span)));
        let denied = SessionError::new(Kind::Denied, "").with_retry_after(span);
        assert_eq!(of(denied), failed(Effect::None, Again::No));
        let late = Error::timed_out(span);
        assert_eq!(Failure::of(&late), failed(Effect::Unknown, Again::Later));
        let refused = Error::refused(Refusal::CircuitOpen {
            retry_after: Some(span),
        });
        assert_eq!(Failure::of(&refused), Failure::Refused(Some(span)));
        let panicked = Error::panicked("oh");
        assert_eq!(Failure::of(&panicked), failed(Effect::Unknown, Again::No));
    }
}

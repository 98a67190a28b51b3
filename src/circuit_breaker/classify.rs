//! Which results count, and as what.

use std::fmt;
use std::time::Duration;

use super::window::Outcome;
use crate::error::Error;
use crate::policy::End;

/// Decides how a result counts.
pub trait Classify<T, E> {
    /// Looks at the result of one call. [`End::Success`] and [`End::Failure`] count,
    /// [`End::Ignored`] does not.
    fn classify(&self, result: Result<&T, &Error<E>>) -> End;
}

/// The default: an `Ok` is a success; the operation's own error and a time limit are
/// failures; a refusal from further down is ignored, since nothing was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures;

impl<T, E> Classify<T, E> for Failures {
    fn classify(&self, result: Result<&T, &Error<E>>) -> End {
        match result {
            Ok(_) => End::Success,
            Err(Error::Operation { .. } | Error::TimedOut { .. }) => End::Failure,
            Err(Error::Refused { .. }) => End::Ignored,
        }
    }
}

/// As [`Failures`], but those of the operation's errors that a predicate rejects are
/// successes: the callee answered.
#[derive(Clone, Copy)]
pub struct If<F>(pub(super) F);

impl<T, E, F: Fn(&E) -> bool> Classify<T, E> for If<F> {
    fn classify(&self, result: Result<&T, &Error<E>>) -> End {
        match result {
            Err(Error::Operation { error, .. }) if !(self.0)(error) => End::Success,
            other => Failures.classify(other),
        }
    }
}

/// A closure that decides about every result.
#[derive(Clone, Copy)]
pub struct By<F>(pub(super) F);

impl<T, E, F: Fn(Result<&T, &Error<E>>) -> End> Classify<T, E> for By<F> {
    fn classify(&self, result: Result<&T, &Error<E>>) -> End {
        (self.0)(result)
    }
}

/// As [`Failures`], but a closure decides about each `Ok`.
#[derive(Clone, Copy)]
pub struct ByOk<F>(pub(super) F);

impl<T, E, F: Fn(&T) -> End> Classify<T, E> for ByOk<F> {
    fn classify(&self, result: Result<&T, &Error<E>>) -> End {
        match result {
            Ok(answer) => (self.0)(answer),
            Err(error) => Classify::<T, E>::classify(&Failures, Err(error)),
        }
    }
}

impl<F> fmt::Debug for ByOk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByOk")
    }
}

impl<F> fmt::Debug for If<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("If")
    }
}

impl<F> fmt::Debug for By<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("By")
    }
}

/// How a call counts that was dropped before it had a result, such as by a time limit
/// around the breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cancelled {
    /// Not at all: who hangs up says nothing about the callee.
    #[default]
    Ignore,
    /// As a failure: for callers who only hang up when they have waited too long.
    Failure,
    /// As a failure that was slow, if it had by then run longer than the limit given to
    /// [`slow_calls`](super::CircuitBreakerBuilder::slow_calls); not at all otherwise.
    Slow,
}

/// How an end counts: the settings that it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// The limit above which a call is slow, where that is asked for.
    pub(super) slower_than: Option<Duration>,
    pub(super) cancelled: Cancelled,
    /// Whether the window is one of time.
    pub(super) timed_window: bool,
}

impl Measure {
    /// Whether a call's start has to be known.
    pub(super) fn times_calls(&self) -> bool {
        self.slower_than.is_some()
    }

    /// Whether the time has to be known to count this end. That of a failure is: the
    /// breaker may open on it.
    pub(super) fn needs_time(&self, end: End) -> bool {
        match end {
            End::Success => self.timed_window || self.times_calls(),
            End::Failure | End::Panicked => true,
            End::Cancelled => self.cancelled != Cancelled::Ignore,
            End::Ignored => false,
        }
    }

    /// What counts of a call that ended like this after having `ran` so long.
    pub(super) fn outcome(&self, end: End, ran: Duration) -> Option<Outcome> {
        let slow = self.slower_than.is_some_and(|limit| ran > limit);
        let failed = match (end, self.cancelled) {
            (End::Success, _) => false,
            (End::Failure | End::Panicked, _) | (End::Cancelled, Cancelled::Failure) => true,
            (End::Cancelled, Cancelled::Slow) if slow => true,
            (End::Ignored | End::Cancelled, _) => return None,
        };
        Some(Outcome { failed, slow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn measure(cancelled: Cancelled) -> Measure {
        Measure {
            slower_than: Some(SECOND),
            cancelled,
            timed_window: false,
        }
    }

    fn outcome(failed: bool, slow: bool) -> Outcome {
        Outcome { failed, slow }
    }

    #[test]
    fn slow_is_longer_than_the_limit_and_not_as_long() {
        let rule = measure(Cancelled::Ignore);
        assert_eq!(
            rule.outcome(End::Success, SECOND),
            Some(outcome(false, false))
        );
        assert_eq!(
            rule.outcome(End::Success, 2 * SECOND),
            Some(outcome(false, true))
        );
        assert_eq!(
            rule.outcome(End::Failure, 2 * SECOND),
            Some(outcome(true, true))
        );
        assert_eq!(
            rule.outcome(End::Panicked, SECOND),
            Some(outcome(true, false))
        );
        assert_eq!(rule.outcome(End::Ignored, 2 * SECOND), None);
    }

    /// Trap 13.
    #[test]
    fn a_cancelled_call_counts_by_the_rule_that_was_chosen() {
        let after = |rule, ran| measure(rule).outcome(End::Cancelled, ran);
        assert_eq!(after(Cancelled::Ignore, 2 * SECOND), None);
        assert_eq!(
            after(Cancelled::Failure, SECOND),
            Some(outcome(true, false))
        );
        assert_eq!(
            after(Cancelled::Failure, 2 * SECOND),
            Some(outcome(true, true))
        );
        assert_eq!(after(Cancelled::Slow, SECOND), None);
        assert_eq!(
            after(Cancelled::Slow, 2 * SECOND),
            Some(outcome(true, true))
        );
    }

    #[test]
    fn the_time_is_read_only_where_it_counts() {
        let plain = Measure {
            slower_than: None,
            ..measure(Cancelled::Ignore)
        };
        let timed = Measure {
            timed_window: true,
            ..plain
        };
        assert!(!plain.needs_time(End::Success) && !plain.times_calls());
        assert!(timed.needs_time(End::Success) && !timed.times_calls());
        assert!(measure(Cancelled::Ignore).needs_time(End::Success));
        assert!(plain.needs_time(End::Failure) && plain.needs_time(End::Panicked));
        assert!(!plain.needs_time(End::Cancelled) && !plain.needs_time(End::Ignored));
        assert!(measure(Cancelled::Failure).needs_time(End::Cancelled));
    }

    #[test]
    fn the_default_ignores_a_refusal_and_counts_a_time_limit() {
        let classify = |result: Result<&(), &Error<u8>>| Failures.classify(result);
        let refused = Error::refused(crate::Refusal::ShutDown);
        assert_eq!(classify(Ok(&())), End::Success);
        assert_eq!(classify(Err(&Error::operation(1))), End::Failure);
        assert_eq!(classify(Err(&Error::timed_out(SECOND))), End::Failure);
        assert_eq!(classify(Err(&refused)), End::Ignored);
        let picky = If(|error: &u8| *error > 1);
        let classify = |result: Result<&(), &Error<u8>>| picky.classify(result);
        assert_eq!(classify(Err(&Error::operation(1))), End::Success);
        assert_eq!(classify(Err(&Error::operation(2))), End::Failure);
        assert_eq!(classify(Err(&refused)), End::Ignored);
    }
}

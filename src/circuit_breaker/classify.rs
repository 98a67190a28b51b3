//! How a call counts: by its result, or by how it ended without one.

use super::window::Outcome;
use crate::classify::Decision;
use crate::policy::End;

/// How a result counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CountAs {
    /// As a success: the callee has answered.
    Success,
    /// As a failure.
    Failure,
    /// As nothing: it does not say how the callee is.
    Nothing,
}

impl Decision for CountAs {
    const ANSWERED: Self = Self::Success;
    const FAILED: Self = Self::Failure;
    const REFUSED: Self = Self::Nothing;
}

impl From<CountAs> for End {
    fn from(count: CountAs) -> Self {
        match count {
            CountAs::Success => Self::Success,
            CountAs::Failure => Self::Failure,
            CountAs::Nothing => Self::Ignored,
        }
    }
}

/// How a call counts that was dropped before it had a result, such as by a time limit
/// around the breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
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
    /// The nanoseconds above which a call is slow; [`NEVER_SLOW`](Self::NEVER_SLOW) where that
    /// is not asked for.
    pub(super) slower_than: u64,
    pub(super) cancelled: Cancelled,
    /// Whether the window is one of time.
    pub(super) timed_window: bool,
}

impl Measure {
    /// Nothing takes longer.
    pub(super) const NEVER_SLOW: u64 = u64::MAX;

    /// Whether a call's start has to be known.
    #[inline]
    pub(super) fn times_calls(&self) -> bool {
        self.slower_than != Self::NEVER_SLOW
    }

    /// Whether the time has to be known to count this end.
    #[inline]
    pub(super) fn needs_time(&self, end: End) -> bool {
        let counts = match end {
            End::Success | End::Failure | End::Panicked => true,
            End::Cancelled => self.cancelled != Cancelled::Ignore,
            End::Ignored => false,
        };
        counts && (self.timed_window || self.times_calls())
    }

    /// What counts of a call that ended like this after having run for so many nanoseconds.
    #[inline]
    pub(super) fn outcome(&self, end: End, ran: u64) -> Option<Outcome> {
        let slow = ran > self.slower_than;
        let failed = match end {
            End::Success => false,
            End::Failure | End::Panicked => true,
            End::Cancelled => match self.cancelled {
                Cancelled::Failure => true,
                Cancelled::Slow if slow => true,
                Cancelled::Slow | Cancelled::Ignore => return None,
            },
            End::Ignored => return None,
        };
        Some(Outcome { failed, slow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn measure(cancelled: Cancelled) -> Measure {
        Measure {
            slower_than: SECOND,
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
            slower_than: Measure::NEVER_SLOW,
            ..measure(Cancelled::Ignore)
        };
        let timed = Measure {
            timed_window: true,
            ..plain
        };
        let all = [End::Success, End::Failure, End::Panicked, End::Cancelled];
        let counting = |rule| Measure {
            cancelled: rule,
            ..plain
        };
        assert!(!plain.times_calls() && !timed.times_calls());
        for end in all {
            assert!(!plain.needs_time(end) && !counting(Cancelled::Failure).needs_time(end));
            let counts = end != End::Cancelled;
            assert_eq!(timed.needs_time(end), counts);
            assert_eq!(measure(Cancelled::Ignore).needs_time(end), counts);
            assert!(measure(Cancelled::Failure).needs_time(end));
            assert!(measure(Cancelled::Slow).needs_time(end));
        }
        assert!(!timed.needs_time(End::Ignored));
        assert!(!measure(Cancelled::Slow).needs_time(End::Ignored));
    }
}

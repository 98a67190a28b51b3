//! The decision whether there is a next attempt, and when: told the time, and nothing else.

use std::time::Duration;

use super::classify::Verdict;
use crate::observe::GaveUp;
use crate::time::Instant;

/// The limits of one policy.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "named as the builder's methods")]
pub(crate) struct Limits {
    pub(crate) max_attempts: u32,
    pub(crate) max_elapsed: Duration,
    pub(crate) max_retry_after: Duration,
}

/// Where a call stands when an attempt has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) attempts: u32,
    /// `None` where nothing limits the time: then no clock was read.
    pub(crate) time: Option<Time>,
}

/// A moment in a call whose time is limited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    pub(crate) started: Instant,
    pub(crate) now: Instant,
    pub(crate) deadline: Instant,
}

impl Limits {
    /// Whether a clock has to be read for a decision.
    #[inline]
    pub(crate) fn limits_time(&self) -> bool {
        self.max_elapsed != Duration::MAX
    }

    /// The wait before the next attempt, or why there is none.
    ///
    /// A wait is only begun when it ends before the deadline and within the policy's own
    /// time; at the very instant of either it is too late. The back-off moves on also where
    /// the server's time replaces its delay: the n-th delay belongs to the n-th attempt.
    #[inline]
    pub(crate) fn plan(
        &self,
        standing: Standing,
        verdict: Verdict,
        next_delay: impl FnOnce() -> Option<Duration>,
    ) -> Result<Duration, GaveUp> {
        if self.max_attempts != u32::MAX && standing.attempts >= self.max_attempts {
            return Err(GaveUp::Attempts);
        }
        let own = next_delay().ok_or(GaveUp::Backoff)?;
        let delay = match verdict {
            Verdict::RetryAfter(wait) if wait > self.max_retry_after => {
                return Err(GaveUp::RetryAfter);
            }
            Verdict::RetryAfter(wait) => wait,
            Verdict::Retry | Verdict::Stop => own,
        };
        standing
            .time
            .map_or(Ok(delay), |time| self.fits(time, delay))
    }

    /// Whether an attempt may start now that its wait has ended.
    pub(crate) fn in_time(&self, standing: Standing) -> Result<(), GaveUp> {
        match standing.time {
            Some(time) if time.now >= time.deadline => Err(GaveUp::Deadline),
            Some(time) if time.now.since(time.started) > self.max_elapsed => Err(GaveUp::Elapsed),
            _ => Ok(()),
        }
    }

    fn fits(&self, time: Time, delay: Duration) -> Result<Duration, GaveUp> {
        if time.deadline != Instant::NEVER && delay >= time.deadline.since(time.now) {
            return Err(GaveUp::Deadline);
        }
        let elapsed = time.now.since(time.started);
        if self.limits_time() && delay >= self.max_elapsed.saturating_sub(elapsed) {
            return Err(GaveUp::Elapsed);
        }
        Ok(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: Limits = Limits {
        max_attempts: 3,
        max_elapsed: Duration::MAX,
        max_retry_after: Duration::from_secs(60),
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(0).saturating_add(Duration::from_secs(seconds))
    }

    fn standing(attempts: u32) -> Standing {
        Standing {
            attempts,
            time: Some(time(Instant::NEVER)),
        }
    }

    fn time(deadline: Instant) -> Time {
        Time {
            started: at(0),
            now: at(10),
            deadline,
        }
    }

    #[test]
    fn max_attempts_counts_the_first() {
        let plan = |n| LIMITS.plan(standing(n), Verdict::Retry, || Some(SECOND));
        assert_eq!(plan(1), Ok(SECOND));
        assert_eq!(plan(2), Ok(SECOND));
        assert_eq!(plan(3), Err(GaveUp::Attempts));
    }

    #[test]
    fn no_wait_is_begun_that_cannot_end_before_the_deadline() {
        let plan = |deadline| {
            let standing = Standing {
                time: Some(time(at(deadline))),
                ..standing(1)
            };
            LIMITS.plan(standing, Verdict::Retry, || Some(SECOND))
        };
        assert_eq!(plan(12), Ok(SECOND));
        assert_eq!(plan(11), Err(GaveUp::Deadline));
        assert_eq!(plan(9), Err(GaveUp::Deadline));
    }

    #[test]
    fn a_zero_delay_needs_time_left_all_the_same() {
        let standing = Standing {
            time: Some(time(at(10))),
            ..standing(1)
        };
        let plan = LIMITS.plan(standing, Verdict::Retry, || Some(Duration::ZERO));
        assert_eq!(plan, Err(GaveUp::Deadline));
    }

    #[test]
    fn the_elapsed_time_counts_the_wait() {
        let limits = Limits {
            max_elapsed: 11 * SECOND,
            ..LIMITS
        };
        let plan = |delay| limits.plan(standing(1), Verdict::Retry, || Some(delay));
        assert_eq!(plan(SECOND / 2), Ok(SECOND / 2));
        assert_eq!(plan(SECOND), Err(GaveUp::Elapsed));
    }

    #[test]
    fn a_wait_that_took_too_long_is_followed_by_no_attempt() {
        let limits = Limits {
            max_elapsed: 10 * SECOND,
            ..LIMITS
        };
        let in_time = |now, deadline| {
            let time = Time {
                started: at(0),
                now: at(now),
                deadline,
            };
            limits.in_time(Standing {
                attempts: 1,
                time: Some(time),
            })
        };
        assert_eq!(in_time(10, at(11)), Ok(()));
        assert_eq!(in_time(10, at(10)), Err(GaveUp::Deadline));
        assert_eq!(in_time(9, at(8)), Err(GaveUp::Deadline));
        assert_eq!(in_time(11, Instant::NEVER), Err(GaveUp::Elapsed));
        let unlimited = Standing {
            attempts: 1,
            time: None,
        };
        assert_eq!(limits.in_time(unlimited), Ok(()));
    }

    #[test]
    fn the_servers_time_replaces_the_delay_up_to_its_limit() {
        let plan = |wait| LIMITS.plan(standing(1), Verdict::RetryAfter(wait), || Some(SECOND));
        assert_eq!(plan(7 * SECOND), Ok(7 * SECOND));
        assert_eq!(plan(61 * SECOND), Err(GaveUp::RetryAfter));
    }

    #[test]
    fn a_back_off_that_ends_ends_the_attempts() {
        for verdict in [Verdict::Retry, Verdict::RetryAfter(SECOND)] {
            let plan = LIMITS.plan(standing(1), verdict, || None);
            assert_eq!(plan, Err(GaveUp::Backoff));
        }
    }

    #[test]
    fn the_longest_wait_breaks_no_limit_that_is_not_there() {
        let limits = Limits {
            max_retry_after: Duration::MAX,
            ..LIMITS
        };
        let now = Instant::from_nanos(0);
        let standing = Standing {
            time: Some(Time {
                now,
                ..time(Instant::NEVER)
            }),
            ..standing(1)
        };
        for wait in [Duration::from_nanos(u64::MAX), Duration::MAX] {
            for verdict in [Verdict::Retry, Verdict::RetryAfter(wait)] {
                assert_eq!(limits.plan(standing, verdict, || Some(wait)), Ok(wait));
            }
        }
    }

    #[test]
    fn the_longest_wait_still_breaks_a_limit_that_is_there() {
        let late = Standing {
            time: Some(time(Instant::from_nanos(u64::MAX - 1))),
            ..standing(1)
        };
        let plan = |limits: Limits, standing| {
            limits.plan(standing, Verdict::Retry, || Some(Duration::MAX))
        };
        assert_eq!(plan(LIMITS, late), Err(GaveUp::Deadline));
        let limits = Limits {
            max_elapsed: Duration::MAX.saturating_sub(SECOND),
            ..LIMITS
        };
        assert_eq!(plan(limits, standing(1)), Err(GaveUp::Elapsed));
    }

    #[test]
    fn the_highest_number_of_attempts_is_no_limit() {
        let limits = Limits {
            max_attempts: u32::MAX,
            ..LIMITS
        };
        let plan = limits.plan(standing(u32::MAX), Verdict::Retry, || Some(SECOND));
        assert_eq!(plan, Ok(SECOND));
    }
}

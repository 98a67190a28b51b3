//! One object of the pool, with what the pool knows of it.

use std::time::Duration;

use crate::time::{Instant, nanos};

/// An object and its times. It lives in one box from its creation to its end, so that
/// lending it out moves a pointer, however large it is.
#[derive(Debug)]
pub(super) struct Entry<O> {
    pub(super) object: O,
    pub(super) born: Instant,
    /// When its life time is over.
    pub(super) expires: Instant,
    /// In nanoseconds.
    pub(super) idle_limit: u64,
    /// Since when it has been idle, if it is.
    pub(super) since: Instant,
    /// How often it was lent out.
    pub(super) uses: u64,
}

impl<O> Entry<O> {
    /// When it has been idle for too long.
    pub(super) fn idle_until(&self) -> Instant {
        self.since.after(self.idle_limit)
    }
}

/// How long objects live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    pub(super) idle_time: Duration,
    pub(super) life_time: Duration,
    /// By which part of them at most both are shorter.
    pub(super) jitter: f64,
}

impl Ages {
    pub(super) fn are_limited(&self) -> bool {
        self.idle_time != Duration::MAX || self.life_time != Duration::MAX
    }

    /// The entry of an object that is born `now`; `random` is in 0..1.
    #[expect(clippy::unnecessary_box_returns, reason = "see `Entry`")]
    pub(super) fn entry<O>(&self, object: O, now: Instant, random: f64) -> Box<Entry<O>> {
        let part = 1.0 - self.jitter * random;
        Box::new(Entry {
            object,
            born: now,
            expires: now.after(shortened(self.life_time, part)),
            idle_limit: shortened(self.idle_time, part),
            since: now,
            uses: 0,
        })
    }
}

/// So many nanoseconds; what has no limit keeps none.
fn shortened(span: Duration, part: f64) -> u64 {
    let whole = nanos(span);
    if whole == u64::MAX {
        return whole;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of a span need not be exact, and a cast of a float saturates"
    )]
    let rest = (whole as f64 * part) as u64;
    rest.clamp(1, whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn entry(life_time: Duration, jitter: f64, random: f64) -> Entry<()> {
        let ages = Ages {
            idle_time: Duration::MAX,
            life_time,
            jitter,
        };
        *ages.entry((), Instant::from_nanos(0), random)
    }

    #[test]
    fn one_limit_is_enough_to_be_limited() {
        let are_limited = |idle_time, life_time| {
            let ages = Ages {
                idle_time,
                life_time,
                jitter: 0.0,
            };
            ages.are_limited()
        };
        assert!(!are_limited(Duration::MAX, Duration::MAX));
        assert!(are_limited(SECOND, Duration::MAX));
        assert!(are_limited(Duration::MAX, SECOND));
        assert!(are_limited(SECOND, SECOND));
    }

    #[test]
    fn jitter_only_shortens_and_never_to_nothing() {
        let expires = |jitter, random| entry(SECOND, jitter, random).expires.as_nanos();
        assert_eq!(expires(0.0, 0.9), 1_000_000_000);
        assert_eq!(expires(0.1, 0.0), 1_000_000_000);
        assert_eq!(expires(0.1, 0.5), 950_000_000);
        assert_eq!(expires(1.0, 1.0), 1);
        assert_eq!(entry(Duration::MAX, 1.0, 0.5).expires, Instant::NEVER);
        assert_eq!(entry(Duration::MAX, 1.0, 0.5).idle_until(), Instant::NEVER);
    }
}

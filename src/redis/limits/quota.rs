//! What permits cost in time, in whole numbers that Lua's doubles hold exactly.

use std::time::Duration;

use crate::config::ConfigError;

/// The most time that a burst may stand for: microseconds since 1970 plus this stay below 2^53.
const MOST: u64 = 1 << 51;

/// Time on the server's scale: whole microseconds, and a fraction in parts of the quota's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    pub(super) micros: u64,
    pub(super) part: u64,
}

/// A rate and a burst: each permit costs `parts / unit` microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    permits: u32,
    per: Duration,
    burst: u32,
    /// In lowest terms.
    parts: u64,
    unit: u64,
}

impl Quota {
    pub(super) fn new(permits: u32, per: Duration, burst: u32) -> Result<Self, ConfigError> {
        if permits == 0 {
            return Err(ConfigError::new(
                "rate",
                permits,
                "at least 1 permit in a period",
            ));
        }
        if burst == 0 {
            return Err(ConfigError::new("burst", burst, "at least 1"));
        }
        let nanos = u64::try_from(per.as_nanos()).unwrap_or(0);
        if nanos == 0 {
            return Err(ConfigError::new(
                "rate",
                per,
                "over a period from 1 ns to 584 years",
            ));
        }
        let unit = u64::from(permits) * 1000;
        let shared = gcd(nanos, unit);
        let quota = Self {
            permits,
            per,
            burst,
            parts: nanos / shared,
            unit: unit / shared,
        };
        let fills = u128::from(burst) * u128::from(quota.parts) / u128::from(quota.unit);
        if fills > u128::from(MOST) {
            return Err(ConfigError::new(
                "burst",
                burst,
                "what comes in 71 years at most",
            ));
        }
        Ok(quota)
    }

    /// The same limit for one of so many who share it: a slower rate, and a part of the burst.
    pub(super) fn share(&self, one_in: u32) -> (u32, Duration, u32) {
        let per = self.per.saturating_mul(one_in);
        (self.permits, per, (self.burst / one_in).max(1))
    }

    pub(super) const fn permits(&self) -> u32 {
        self.permits
    }

    pub(super) const fn per(&self) -> Duration {
        self.per
    }

    pub(super) const fn burst(&self) -> u32 {
        self.burst
    }

    /// How many parts a microsecond has.
    pub(super) const fn unit(&self) -> u64 {
        self.unit
    }

    /// What `permits` cost, exactly: costs can be added up.
    pub(super) fn cost(&self, permits: u32) -> Cost {
        let parts = u128::from(permits) * u128::from(self.parts);
        let unit = u128::from(self.unit);
        // At most the burst is ever asked for, which `new` has checked.
        Cost {
            micros: u64::try_from(parts / unit).unwrap_or(MOST),
            part: u64::try_from(parts % unit).unwrap_or(0),
        }
    }

    /// How long it takes until so many permits have come, rounded up.
    pub(super) fn time_for(&self, permits: u64) -> Duration {
        let parts = u128::from(permits) * u128::from(self.parts);
        let micros = parts.div_ceil(u128::from(self.unit));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_permit_costs_its_part_of_the_period_to_the_fraction() {
        let third = Quota::new(3, SECOND, 3).unwrap();
        assert_eq!(third.unit(), 3);
        assert_eq!(
            third.cost(1),
            Cost {
                micros: 333_333,
                part: 1
            }
        );
        assert_eq!(
            third.cost(3),
            Cost {
                micros: 1_000_000,
                part: 0
            }
        );
        assert_eq!(third.time_for(1), Duration::from_micros(333_334));
        let fast = Quota::new(1000, Duration::from_nanos(7), 5).unwrap();
        let seven = fast.cost(1);
        assert_eq!((seven.micros, seven.part, fast.unit()), (0, 7, 1_000_000));
    }

    #[test]
    fn what_lua_could_not_count_is_no_quota() {
        let day = Duration::from_secs(86_400);
        assert!(Quota::new(u32::MAX, day, u32::MAX).is_ok());
        assert_eq!(Quota::new(1, day, u32::MAX).unwrap_err().field(), "burst");
        assert_eq!(Quota::new(0, day, 1).unwrap_err().field(), "rate");
        assert_eq!(
            Quota::new(1, Duration::ZERO, 1).unwrap_err().field(),
            "rate"
        );
        assert_eq!(Quota::new(1, Duration::MAX, 1).unwrap_err().field(), "rate");
        assert_eq!(Quota::new(1, day, 0).unwrap_err().field(), "burst");
    }

    #[test]
    fn it_says_what_it_was_made_of() {
        let quota = Quota::new(3, 7 * SECOND, 5).unwrap();
        assert_eq!(
            (quota.permits(), quota.per(), quota.burst()),
            (3, 7 * SECOND, 5)
        );
    }

    #[test]
    fn shares_are_together_no_more_than_the_whole() {
        let quota = Quota::new(100, SECOND, 10).unwrap();
        assert_eq!(quota.share(4), (100, 4 * SECOND, 2));
        assert_eq!(quota.share(20), (100, 20 * SECOND, 1));
    }
}

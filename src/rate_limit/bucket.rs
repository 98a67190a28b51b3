//! The token bucket: pure, exact, told the time.
//!
//! A rate is a fraction, permits per period in nanoseconds, in lowest terms. The level is
//! kept in units of one permit divided by the lower number: one nanosecond adds as many units
//! as the upper one says, one permit costs as many as the lower one, and no fraction of a
//! permit is ever lost or invented. (A floating level drifts; a level in whole permits loses
//! what is left over at each look.)
//!
//! Invariants:
//! - `level <= burst * cost`.
//! - `at` never goes back. A reading of the clock that lies before it (two threads read the
//!   clock and then take the lock in the other order) counts as `at`: it adds nothing, so
//!   that no stretch of time is ever counted twice, and it takes nothing.
//! - So of any two takes, what was taken from the first up to the second is at most
//!   `burst + rate * (time between them)`.

use std::time::Duration;

use crate::config::{ConfigError, require};
use crate::time::{self, Instant};

/// Permits per period, both above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    permits: u32,
    period: u64,
    /// The units that a nanosecond adds, and those that a permit costs.
    per_nano: u32,
    cost: u64,
}

impl Rate {
    pub(super) fn new(permits: u32, per: Duration) -> Result<Self, ConfigError> {
        require(permits > 0, "rate", permits, "at least 1 permit")?;
        require(
            per.as_nanos() > 0 && per.as_nanos() <= u128::from(u64::MAX),
            "rate",
            per,
            "a period from 1 ns to 584 years",
        )?;
        Ok(Self::lowest(permits, time::nanos(per)))
    }

    fn lowest(permits: u32, period: u64) -> Self {
        let (mut common, mut rest) = (period, u64::from(permits));
        while rest > 0 {
            (common, rest) = (rest, common % rest);
        }
        Self {
            permits,
            period,
            // What divides the permits is no larger than they are.
            per_nano: permits / u32::try_from(common).unwrap_or(1),
            cost: period / common,
        }
    }

    pub(super) fn permits(self) -> u32 {
        self.permits
    }

    pub(super) fn period(self) -> Duration {
        Duration::from_nanos(self.period)
    }

    /// The units that a nanosecond adds.
    pub(super) fn per_nano(self) -> u32 {
        self.per_nano
    }

    /// The units that a permit costs.
    pub(super) fn cost(self) -> u64 {
        self.cost
    }

    fn units(self, permits: u64) -> u128 {
        u128::from(permits) * u128::from(self.cost)
    }

    fn added_in(self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.per_nano)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    rate: Rate,
    burst: u32,
    level: u128,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: Rate, burst: u32, now: Instant) -> Self {
        Self {
            rate,
            burst,
            level: rate.units(burst.into()),
            at: now,
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    /// The latest time it was told.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// The whole permits in it.
    pub(super) fn available(&self) -> u32 {
        let whole = self.level / u128::from(self.rate.cost);
        u32::try_from(whole).unwrap_or(u32::MAX)
    }

    /// Lets time pass up to `now`.
    pub(super) fn refill(&mut self, now: Instant) {
        if now <= self.at {
            return;
        }
        let elapsed = now.as_nanos() - self.at.as_nanos();
        let level = self.level + self.rate.added_in(elapsed);
        self.level = level.min(self.capacity());
        self.at = now;
    }

    /// Whether there are so many permits.
    pub(super) fn covers(&self, permits: u64) -> bool {
        self.rate.units(permits) <= self.level
    }

    /// Takes permits that are [covered](Self::covers).
    pub(super) fn take(&mut self, permits: u32) {
        debug_assert!(self.covers(permits.into()));
        self.level = self.level.saturating_sub(self.rate.units(permits.into()));
    }

    /// The time from [`at`](Self::at) until so many permits were there, if the bucket had
    /// no rim; rounded up to the nanosecond.
    pub(super) fn wait_for(&self, permits: u64) -> Duration {
        let missing = self.rate.units(permits).saturating_sub(self.level);
        self.time_for(missing)
    }

    /// When it is full, if nothing more is taken.
    pub(super) fn full_at(&self) -> Instant {
        self.at.saturating_add(self.time_for(self.missing()))
    }

    /// Changes the rate from [`at`](Self::at) on. The permits in the bucket stay, down to
    /// the last unit of the new rate: less is lost than one nanosecond adds.
    pub(super) fn set_rate(&mut self, rate: Rate) {
        let (old, new) = (u128::from(self.rate.cost), u128::from(rate.cost));
        let (whole, part) = (self.level / old, self.level % old);
        // Both costs are below 2^64 and a whole is at most the burst: nothing overflows.
        self.level = whole * new + part * new / old;
        self.rate = rate;
    }

    /// Changes the rim. What no longer fits is lost; a higher rim adds nothing.
    pub(super) fn set_burst(&mut self, burst: u32) {
        self.burst = burst;
        self.level = self.level.min(self.capacity());
    }

    /// The units that are missing until it is full.
    pub(super) fn missing(&self) -> u128 {
        self.capacity() - self.level
    }

    /// The units in it when it is full.
    pub(super) fn capacity(&self) -> u128 {
        self.rate.units(self.burst.into())
    }

    /// Goes on from what it became elsewhere: so much is missing at that time.
    pub(super) fn resume(&mut self, missing: u128, at: Instant) {
        self.level = self.capacity().saturating_sub(missing);
        self.at = at;
    }

    fn time_for(&self, units: u128) -> Duration {
        let nanos = units.div_ceil(u128::from(self.rate.per_nano));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(permits: u32, nanos: u64) -> Rate {
        Rate::new(permits, Duration::from_nanos(nanos)).unwrap()
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn try_take(bucket: &mut Bucket, permits: u32, nanos: u64) -> bool {
        bucket.refill(at(nanos));
        let covered = bucket.covers(permits.into());
        if covered {
            bucket.take(permits);
        }
        covered
    }

    #[test]
    fn a_rate_tells_what_it_was_given_and_counts_in_lowest_terms() {
        let rate = rate(100, SECOND);
        assert_eq!(
            (rate.permits(), rate.period()),
            (100, Duration::from_secs(1))
        );
        assert_eq!((rate.per_nano(), rate.cost()), (1, 10_000_000));
    }

    /// Trap 37.
    #[test]
    fn no_fraction_is_lost_between_two_looks() {
        let mut bucket = Bucket::new(rate(10, SECOND), 2, at(0));
        assert!(try_take(&mut bucket, 2, 0));
        let looks = (1..=101).map(|n| n * 99_000_000);
        let grants = looks.filter(|now| try_take(&mut bucket, 1, *now)).count();
        assert_eq!(grants, 99, "in 9.999 s");
        let mut bucket = Bucket::new(rate(3, SECOND), 2, at(0));
        assert!(try_take(&mut bucket, 2, 0));
        let looks = (1..=1_000_000).map(|n| n * 1_000);
        let grants: Vec<_> = looks.filter(|now| try_take(&mut bucket, 1, *now)).collect();
        assert_eq!(grants, [333_334_000, 666_667_000, SECOND]);
    }

    /// Trap 38.
    #[test]
    fn a_clock_that_goes_backwards_gives_nothing_and_takes_nothing() {
        let mut bucket = Bucket::new(rate(1, 10), 5, at(1000));
        (0..5).for_each(|_| assert!(try_take(&mut bucket, 1, 1000)));
        for _ in 0..100 {
            assert!(!try_take(&mut bucket, 1, 0));
            assert!(!try_take(&mut bucket, 1, 1009));
        }
        assert!(try_take(&mut bucket, 1, 1010), "nothing was taken either");
        assert!(!try_take(&mut bucket, 1, 1010));
    }

    /// Trap 39.
    #[test]
    fn no_two_full_windows_back_to_back() {
        let mut bucket = Bucket::new(rate(100, SECOND), 100, at(0));
        let early = (0..200).filter(|_| try_take(&mut bucket, 1, 900_000_000));
        assert_eq!(early.count(), 100);
        let late = (0..200).filter(|_| try_take(&mut bucket, 1, 1_100_000_000));
        assert_eq!(late.count(), 20);
    }

    /// Trap 43.
    #[test]
    fn a_new_rate_keeps_the_permits_and_a_lower_burst_cuts_them() {
        let mut bucket = Bucket::new(rate(1000, SECOND), 1000, at(0));
        for new in [rate(1, u64::MAX), rate(u32::MAX, 1), rate(1, 3600 * SECOND)] {
            bucket.set_rate(new);
            assert_eq!(bucket.available(), 1000);
        }
        bucket.set_burst(3);
        assert_eq!(bucket.available(), 3);
        bucket.set_burst(u32::MAX);
        assert_eq!(bucket.available(), 3);
        assert_eq!(bucket.wait_for(4), Duration::from_secs(3600));
    }

    #[test]
    fn the_parts_of_a_permit_survive_a_change_of_rate() {
        let mut bucket = Bucket::new(rate(1, 100), 1, at(0));
        bucket.take(1);
        bucket.refill(at(50));
        bucket.set_rate(rate(1, 1000));
        assert_eq!(bucket.wait_for(1), Duration::from_nanos(500));
        bucket.set_rate(rate(7, 3));
        assert_eq!(bucket.wait_for(1), Duration::from_nanos(1));
    }

    /// Trap 33.
    #[test]
    fn the_largest_and_the_smallest_settings_do_not_overflow() {
        for permits in [1, u32::MAX] {
            for period in [1, u64::MAX] {
                for burst in [1, u32::MAX] {
                    let mut bucket = Bucket::new(rate(permits, period), burst, at(0));
                    bucket.take(burst);
                    assert_eq!(bucket.available(), 0);
                    let _ = (bucket.wait_for(u64::MAX), bucket.full_at());
                    bucket.set_rate(rate(u32::MAX, u64::MAX));
                    bucket.refill(Instant::NEVER);
                    assert!(bucket.available() <= burst);
                    assert!(bucket.full_at() >= bucket.at());
                }
            }
        }
    }

    #[test]
    fn it_is_full_at_the_time_it_says_and_not_before() {
        let mut bucket = Bucket::new(rate(3, 10), 7, at(5));
        bucket.take(5);
        let full = bucket.full_at();
        assert_eq!(full, at(5 + 17));
        bucket.refill(at(full.as_nanos() - 1));
        assert!(!bucket.covers(7));
        bucket.refill(full);
        assert_eq!(bucket, Bucket::new(rate(3, 10), 7, full));
    }

    /// One step of a history.
    #[derive(Clone, Debug)]
    enum Step {
        Take(u32),
        /// The clock moves, also backwards.
        Move(i64),
        Rate(u32, u64),
        Burst(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..6u32).prop_map(Step::Take),
            4 => (-20..40i64).prop_map(Step::Move),
            1 => (0..400i64).prop_map(Step::Move),
            1 => (1..5u32, prop::sample::select(vec![1, 2, 3, 4, 6, 12])).prop_map(|(n, p)| Step::Rate(n, p)),
            1 => (1..6u32).prop_map(Step::Burst),
        ]
    }

    /// Twelfths of a permit: every period of the histories divides them.
    const TWELFTHS: u64 = 12;

    /// The law, checked over every pair of takes: what was taken from one to the other is
    /// at most the burst at the first plus what the rate added in between.
    fn obeys_the_law(steps: &[Step], changes: bool) -> Result<(), TestCaseError> {
        let (mut permits, mut period, mut burst) = (2, 3, 4);
        let mut bucket = Bucket::new(rate(permits, period), burst, at(0));
        let (mut clock, mut latest, mut added) = (0i64, 0i64, 0u64);
        // Of each take: the sum that the rate had added by then, the burst, the permits.
        let mut taken: Vec<(u64, u64, u64)> = Vec::new();
        for step in steps {
            match *step {
                Step::Take(n) => {
                    if try_take(&mut bucket, n, clock.unsigned_abs()) {
                        taken.push((added, u64::from(burst), u64::from(n)));
                    }
                }
                Step::Move(by) => {
                    clock = (clock + by).max(0);
                    let elapsed = (clock - latest).max(0).unsigned_abs();
                    added += elapsed * u64::from(permits) * TWELFTHS / period;
                    latest = latest.max(clock);
                    bucket.refill(at(clock.unsigned_abs()));
                }
                Step::Rate(n, p) if changes => {
                    (permits, period) = (n, p);
                    bucket.set_rate(rate(n, p));
                }
                Step::Burst(n) if changes => {
                    burst = n;
                    bucket.set_burst(n);
                }
                Step::Rate(..) | Step::Burst(_) => {}
            }
        }
        for (first, &(from, burst, _)) in taken.iter().enumerate() {
            let mut sum = 0;
            for &(to, _, n) in &taken[first..] {
                sum += n;
                prop_assert!(sum * TWELFTHS <= burst * TWELFTHS + (to - from));
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("limiter"), ..ProptestConfig::default() })]

        /// Traps 38, 39.
        #[test]
        fn never_more_than_burst_plus_rate_in_any_window(steps in prop::collection::vec(step(), 0..32)) {
            obeys_the_law(&steps, false)?;
        }

        /// Trap 43.
        #[test]
        fn nor_while_rate_and_burst_change(steps in prop::collection::vec(step(), 0..32)) {
            obeys_the_law(&steps, true)?;
        }

        /// The parts of a permit are as fine as they must be: one for each nanosecond of the
        /// period, as in the rate's own terms, gives the same answers.
        #[test]
        fn lowest_terms_change_no_answer(
            (permits, period, common) in (1..=1u32 << 16, 1..=1u64 << 40, 1..1u32 << 15),
            burst in prop_oneof![1..9u32, 1..=u32::MAX],
            moves in prop::collection::vec((0..1u64 << 41, any::<u32>()), 0..16),
        ) {
            let (permits, period) = (permits * common, period * u64::from(common));
            let mut bucket = Bucket::new(rate(permits, period), burst, at(0));
            let one = u128::from(period);
            let rim = u128::from(burst) * one;
            let (mut level, mut clock) = (rim, 0);
            for (by, n) in moves {
                clock += by;
                level = (level + u128::from(by) * u128::from(permits)).min(rim);
                let n = n % burst.saturating_add(1);
                let cost = u128::from(n) * one;
                prop_assert_eq!(try_take(&mut bucket, n, clock), cost <= level);
                level -= if cost <= level { cost } else { 0 };
                prop_assert_eq!(u128::from(bucket.available()), level / one);
                let wait = cost.saturating_sub(level).div_ceil(permits.into()).min(u64::MAX.into());
                prop_assert_eq!(bucket.wait_for(n.into()).as_nanos(), wait);
            }
        }

        /// Nothing is withheld either: a level in plain fractions agrees with each decision.
        #[test]
        fn gives_all_that_the_law_allows(
            permits in 1..9u32,
            period in 1..9u64,
            burst in 1..5u32,
            moves in prop::collection::vec((0..12u64, 0..6u32), 0..32),
        ) {
            let mut bucket = Bucket::new(rate(permits, period), burst, at(0));
            let rim = u64::from(burst) * period;
            let (mut level, mut clock) = (rim, 0);
            for (by, n) in moves {
                clock += by;
                level = (level + by * u64::from(permits)).min(rim);
                let covered = u64::from(n) * period <= level;
                prop_assert_eq!(try_take(&mut bucket, n, clock), covered);
                if covered {
                    level -= u64::from(n) * period;
                }
                let wait = bucket.wait_for(n.into());
                bucket.refill(at(clock));
                let mut later = Bucket::new(rate(permits, period), u32::MAX, at(clock));
                later.level = bucket.level;
                if !wait.is_zero() {
                    later.refill(at(clock).saturating_add(wait.saturating_sub(Duration::from_nanos(1))));
                    prop_assert!(!later.covers(n.into()));
                }
                later.refill(at(clock).saturating_add(wait));
                prop_assert!(later.covers(n.into()));
            }
        }
    }
}

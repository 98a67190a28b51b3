//! The bucket as one number, for those who need not wait: pure, exact, told the time.
//!
//! While nothing but takes and time change a bucket, all there is to know of it is when it
//! will be full, or was last (as in the virtual scheduling algorithm of ITU-T I.371). On a
//! scale of ticks, as many to a nanosecond as it adds units to the level, that moment is a
//! whole number, and what is missing to a full bucket is the way up to it. A take moves it
//! up; it never goes down.
//!
//! Invariants:
//! - Each decision is the bucket's own, to the unit, for the same time.
//! - A number on the scale is below 2^63.
//! - A new scale begins so that the bucket's number on it is above the one it had on the old
//!   scale; only if that was above 2^61, the new one is at most 2^60. So a number comes
//!   again only after it has gone up by 2^60 ticks: by as much time, more than four minutes
//!   on the finest scale and 36 years where permits are whole nanoseconds apart.

use std::time::Duration;

use super::bucket::Bucket;
use crate::time::Instant;

/// Where a scale ends. The number of a bucket that was full late on it may lie above.
const END: u64 = 1 << 62;

/// Where scales still begin; behind it, they begin anew.
const LAST_START: u64 = 1 << 61;

/// The largest bucket.
const MAX_RIM: u64 = 1 << 60;

/// The finest scale: 2^60 of its ticks are 275 seconds.
const MAX_PER_NANO: u32 = 1 << 22;

/// What to count in; valid from its base for so many nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    /// The first nanosecond, and how many come after it.
    pub(super) base: u64,
    pub(super) span: u64,
    /// The tick at the base.
    pub(super) start: u64,
    /// Ticks in a nanosecond, for a permit, and for a whole bucket.
    pub(super) per_nano: u64,
    pub(super) cost: u64,
    pub(super) rim: u64,
}

/// So many permits, asked for at some time: what is to be known before the number is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    tick: u64,
    cost: u64,
    /// The number of a bucket that is empty now.
    empty: u64,
}

impl Claim {
    /// The number of the bucket when they are taken.
    ///
    /// # Errors
    ///
    /// They are not all there; so many ticks are missing.
    #[inline]
    pub(super) fn take(self, number: u64) -> Result<u64, u64> {
        // Three numbers on a scale may be added: each is far below 2^64.
        let taken = number.max(self.tick) + self.cost;
        if taken <= self.empty || self.cost == 0 {
            return Ok(taken);
        }
        Err(taken - self.empty)
    }
}

impl Scale {
    /// A scale that begins at the bucket's time, on which its number is above `last`.
    ///
    /// `None` for a bucket that is too large to be exact in one number.
    pub(super) fn new(bucket: &Bucket, last: u64) -> Option<Self> {
        let rate = bucket.rate();
        let rim = u64::try_from(bucket.capacity()).ok()?;
        if rim > MAX_RIM || rate.per_nano() > MAX_PER_NANO {
            return None;
        }
        let missing = u64::try_from(bucket.missing()).ok()?;
        let start = match last {
            0..LAST_START => (last + 1).saturating_sub(missing),
            _ => 0,
        };
        let per_nano = u64::from(rate.per_nano());
        Some(Self {
            base: bucket.at().as_nanos(),
            span: (END - start) / per_nano,
            start,
            per_nano,
            cost: rate.cost(),
            rim,
        })
    }

    /// The first time that is on it, and the last.
    pub(super) fn begin(&self) -> Instant {
        Instant::from_nanos(self.base)
    }

    pub(super) fn end(&self) -> Instant {
        self.begin().after(self.span)
    }

    /// When the bucket of a number is full.
    pub(super) fn full_at(&self, number: u64) -> Instant {
        let ticks = number.saturating_sub(self.start);
        self.begin().saturating_add(self.time_for(ticks))
    }

    /// The number of a bucket, if it is measured by this scale.
    pub(super) fn number(&self, bucket: &Bucket) -> Option<u64> {
        let rate = bucket.rate();
        let same = self.per_nano == u64::from(rate.per_nano())
            && self.cost == rate.cost()
            && u128::from(self.rim) == bucket.capacity();
        let tick = self.tick(bucket.at()).filter(|_| same)?;
        // At most the rim.
        Some(tick + u64::try_from(bucket.missing()).ok()?)
    }

    /// Brings a bucket up to what its number says, at the latest time that anyone told.
    pub(super) fn bring_up(&self, bucket: &mut Bucket, number: u64, latest: Instant) {
        // It was not below zero when permits were last taken, so that was not earlier.
        let taken_at = number.saturating_sub(self.rim).saturating_sub(self.start);
        let taken_at = self.base.saturating_add(taken_at.div_ceil(self.per_nano));
        let at = latest.max(bucket.at()).as_nanos().max(taken_at);
        let passed = u128::from(at - self.base) * u128::from(self.per_nano);
        let tick = u128::from(self.start) + passed;
        bucket.resume(
            u128::from(number).saturating_sub(tick),
            Instant::from_nanos(at),
        );
    }

    /// `None` where the number cannot tell: the time is not on the scale, or it is more than
    /// a whole bucket.
    #[inline]
    pub(super) fn claim(&self, permits: u32, now: Instant) -> Option<Claim> {
        let tick = self.tick(now)?;
        let cost = u64::from(permits).checked_mul(self.cost)?;
        let empty = tick + self.rim;
        (cost <= self.rim).then_some(Claim { tick, cost, empty })
    }

    /// The time in which so many ticks pass, rounded up to the nanosecond.
    pub(super) fn time_for(&self, ticks: u64) -> Duration {
        Duration::from_nanos(ticks.div_ceil(self.per_nano))
    }

    #[inline]
    fn tick(&self, at: Instant) -> Option<u64> {
        // What lies before the base comes out beyond the span as well.
        let passed = at.as_nanos().wrapping_sub(self.base);
        (passed <= self.span).then(|| self.start + passed * self.per_nano)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rate_limit::bucket::Rate;

    fn bucket(permits: u32, nanos: u64, burst: u32, at: u64) -> Bucket {
        let rate = Rate::new(permits, Duration::from_nanos(nanos)).unwrap();
        Bucket::new(rate, burst, Instant::from_nanos(at))
    }

    #[test]
    fn what_cannot_be_one_number_has_no_scale() {
        let has =
            |permits, nanos, burst| Scale::new(&bucket(permits, nanos, burst, 5), 0).is_some();
        assert!(has(1, 1, u32::MAX) && has(1_000_000_000, 1_000_000_000, u32::MAX));
        assert!(has(1, 1 << 60, 1) && !has(1, (1 << 60) + 1, 1));
        assert!(has(1 << 22, 1, 1) && !has((1 << 22) + 1, 1, 1));
        assert!(!has(u32::MAX, 1, 1) && !has(1, u64::MAX, 1));
    }

    #[test]
    fn a_new_scale_goes_on_above_the_last_number_and_once_begins_anew() {
        let mut bucket = bucket(1, 10, 100, 7);
        bucket.take(60);
        for (last, number) in [
            (0, 600),
            (599, 600),
            (600, 601),
            (LAST_START - 1, LAST_START),
        ] {
            let scale = Scale::new(&bucket, last).unwrap();
            assert_eq!(scale.number(&bucket), Some(number));
        }
        for last in [LAST_START, u64::MAX >> 1] {
            let scale = Scale::new(&bucket, last).unwrap();
            assert_eq!(scale.number(&bucket), Some(600));
        }
    }

    #[test]
    fn a_time_before_the_scale_or_behind_it_is_not_on_it() {
        let scale = Scale::new(&bucket(1, 10, 3, 100), 0).unwrap();
        let on_it = |nanos| scale.claim(1, Instant::from_nanos(nanos)).is_some();
        assert!(!on_it(0) && !on_it(99) && on_it(100) && on_it(100 + scale.span));
        assert!(!on_it(101 + scale.span) && !on_it(u64::MAX));
        assert!(
            scale.claim(4, Instant::from_nanos(100)).is_none(),
            "more than the burst"
        );
        assert!(scale.claim(u32::MAX, Instant::from_nanos(100)).is_none());
    }

    fn any_rate() -> impl Strategy<Value = (u32, u64, u32)> {
        let small = (1..9u32, 1..9u64, 1..6u32);
        let large = (
            1..=1u32 << 22,
            1..=1u64 << 28,
            prop_oneof![Just(u32::MAX), 1..=u32::MAX],
        );
        prop_oneof![small, large]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("limiter"), ..ProptestConfig::default() })]

        /// There and back, and each decision and wait in between: to the last unit.
        #[test]
        fn a_number_stands_for_its_bucket(
            (permits, nanos, burst) in any_rate(),
            last in prop_oneof![0..1000u64, 0..1u64 << 63],
            steps in prop::collection::vec((0..8u32, any::<u32>(), 0..12u64, 0..40u32), 1..24),
        ) {
            let mut exact = bucket(permits, nanos, burst, 1 << 60);
            let Some(scale) = Scale::new(&exact, last) else { return Ok(()) };
            let mut number = scale.number(&exact).unwrap();
            prop_assert!(number > last || (last >= LAST_START && number <= MAX_RIM));
            let (mut told, mut now) = (exact.at(), exact.at());
            for (small, large, by, shift) in steps {
                let asked = if shift % 2 == 0 { small } else { large % burst.saturating_add(1) };
                // A step of the clock; every fourth one goes back.
                let step = by << (shift / 2);
                let nanos = now.as_nanos();
                now = Instant::from_nanos(if by % 4 == 3 { nanos - step } else { nanos + step });
                told = told.max(now);
                exact.refill(now);
                let Some(claim) = scale.claim(asked, told) else {
                    prop_assert!(asked > burst || told.as_nanos() - scale.base > scale.span);
                    continue;
                };
                prop_assert!(asked <= burst);
                let taken = claim.take(number).map_err(|missing| scale.time_for(missing));
                let covers = exact.covers(asked.into());
                prop_assert_eq!(taken.err(), (!covers).then(|| exact.wait_for(asked.into())));
                if let Ok(taken) = taken {
                    exact.take(asked);
                    number = taken;
                }
                prop_assert!(number >> 63 == 0);
                let mut brought = Bucket::new(exact.rate(), burst, Instant::from_nanos(1 << 60));
                scale.bring_up(&mut brought, number, told);
                prop_assert_eq!(&brought, &exact);
                let same = scale.number(&exact).unwrap();
                prop_assert!(same == number || (exact.missing() == 0 && same >= number));
            }
        }

        /// Of a time that was told too early (see `door`) nothing is lost but the time.
        #[test]
        fn a_bucket_that_comes_back_with_too_early_a_time_is_the_same(
            (permits, nanos, burst) in any_rate(),
            (take, by, early) in (any::<u32>(), 0..1u64 << 40, 0..1u64 << 40),
        ) {
            let mut exact = bucket(permits, nanos, burst, 1 << 60);
            let scale = Scale::new(&exact, 0);
            let Some(scale) = scale else { return Ok(()) };
            let now = exact.at().after(by);
            exact.refill(now);
            exact.take(take % burst.saturating_add(1));
            let Some(number) = scale.number(&exact) else { return Ok(()) };
            let mut back = bucket(permits, nanos, burst, 1 << 60);
            let told = Instant::from_nanos(now.as_nanos() - early.min(by));
            scale.bring_up(&mut back, number, told);
            prop_assert!(back.at() <= now);
            back.refill(now);
            prop_assert_eq!(back, exact);
        }
    }
}

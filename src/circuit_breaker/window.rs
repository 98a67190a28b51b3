//! The outcomes of the latest calls, and their sums: a ring of calls, or buckets of time.
//!
//! Invariants:
//! - The sums are those of what is stored; nothing is ever added up anew.
//! - Recording costs the same however many records there are: the ring replaces as many as
//!   it is given, the buckets drop at most [`BUCKETS`] sums and keep no single record.

use std::mem;
use std::time::Duration;

use super::batch::Batch;
use super::ring::Ring;
use crate::config::{ConfigError, require};
use crate::time::{Instant, nanos};

/// How many steps a window of time slides in.
pub(super) const BUCKETS: usize = 32;
/// Two bits a call: a window must not become a memory leak by a slip of the pen.
const MOST_CALLS: u32 = 1_000_000;

/// Over which calls the rates are computed.
///
/// # Algorithm
///
/// [`Window::calls`] keeps a ring of outcomes (two bits a call): each new one pushes out
/// the oldest. [`Window::time`] keeps 32 buckets, each with the sums of a 32nd of the span;
/// a call is forgotten with its whole bucket, at an age between 31/32 of the span and the
/// span. Either costs the same per call however many calls it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Calls(u32),
    Time(Duration),
}

impl Window {
    /// The latest `calls` calls. From 1 to 1 000 000.
    #[must_use]
    pub const fn calls(calls: u32) -> Self {
        Self(Kind::Calls(calls))
    }

    /// The calls that ended within the latest `span`. At least 1 ms; [`Duration::MAX`]
    /// forgets nothing.
    #[must_use]
    pub const fn time(span: Duration) -> Self {
        Self(Kind::Time(span))
    }

    pub(super) fn check(self) -> Result<(), ConfigError> {
        match self.0 {
            Kind::Calls(calls) => require(
                (1..=MOST_CALLS).contains(&calls),
                "window",
                calls,
                "from 1 to 1000000 calls",
            ),
            Kind::Time(span) => require(
                span >= Duration::from_millis(1),
                "window",
                span,
                "at least 1 ms",
            ),
        }
    }

    /// The most calls that it can hold, where that is limited.
    pub(super) fn capacity(self) -> Option<u32> {
        match self.0 {
            Kind::Calls(calls) => Some(calls),
            Kind::Time(_) => None,
        }
    }

    pub(super) fn records(self) -> Records {
        match self.0 {
            Kind::Calls(calls) => Records::Calls(Ring::new(calls as usize)),
            Kind::Time(span) => Records::Time(Box::new(Buckets::new(span))),
        }
    }
}

/// How one call counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

impl Outcome {
    /// A success that was not slow: nothing opens a breaker on it.
    pub(super) fn is_plain_success(self) -> bool {
        self == Self::default()
    }
}

/// Sums of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

impl Counts {
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.calls += 1;
        self.failures += u64::from(outcome.failed);
        self.slow += u64::from(outcome.slow);
    }

    fn plus(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.slow += other.slow;
    }

    fn subtract(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
    }
}

/// What a window holds.
#[derive(Debug)]
pub(super) enum Records {
    Calls(Ring),
    Time(Box<Buckets>),
}

impl Records {
    /// A ring does not look at the time.
    pub(super) fn record(&mut self, outcome: Outcome, now: Instant) {
        if let Self::Time(buckets) = self {
            buckets.advance(now);
        }
        self.extend(Batch::of(outcome));
    }

    /// Records calls that ended before [`until`](Self::until).
    pub(super) fn extend(&mut self, batch: Batch) {
        match self {
            Self::Calls(ring) => ring.record(batch),
            Self::Time(buckets) => buckets.record(batch.counts()),
        }
    }

    /// The sums of what is not forgotten by `now`.
    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        match self {
            Self::Calls(ring) => ring.counts(),
            Self::Time(buckets) => {
                buckets.advance(now);
                buckets.counts
            }
        }
    }

    /// The sums as they were when it was last told the time.
    pub(super) fn latest_counts(&self) -> Counts {
        match self {
            Self::Calls(ring) => ring.counts(),
            Self::Time(buckets) => buckets.counts,
        }
    }

    /// The most calls that it can hold.
    pub(super) fn capacity(&self) -> u64 {
        match self {
            Self::Calls(ring) => ring.size() as u64,
            Self::Time(_) => u64::MAX,
        }
    }

    /// Until when nothing is forgotten but by new calls: the end of the running step.
    pub(super) fn until(&self) -> Instant {
        match self {
            Self::Calls(_) => Instant::NEVER,
            Self::Time(buckets) => Instant::from_nanos(buckets.end),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Calls(ring) => ring.clear(),
            Self::Time(buckets) => buckets.clear(),
        }
    }

    /// Whether one more plain success would change nothing: it would take the place of an
    /// equal one.
    pub(super) fn is_full_of_plain_successes(&self) -> bool {
        match self {
            Self::Calls(ring) => ring.is_full_of_plain_successes(),
            Self::Time(_) => false,
        }
    }
}

/// The sums of the latest [`BUCKETS`] steps of time, the running one included.
///
/// Step `n` lasts from `n * width` to `(n + 1) * width` on the clock's own scale. A clock
/// that goes backwards leaves the running step where it is.
#[derive(Debug)]
pub(super) struct Buckets {
    sums: [Counts; BUCKETS],
    width: u64,
    /// The running step.
    step: u64,
    /// When it ends.
    end: u64,
    counts: Counts,
}

impl Buckets {
    fn new(span: Duration) -> Self {
        Self {
            sums: [Counts::default(); BUCKETS],
            width: (nanos(span) / BUCKETS as u64).max(1),
            step: 0,
            end: 0,
            counts: Counts::default(),
        }
    }

    /// Into the running step.
    fn record(&mut self, counts: Counts) {
        self.counts.plus(counts);
        self.sums[place(self.step)].plus(counts);
    }

    /// Moves on to the step of `now`; returns how many sums it had to look at.
    fn advance(&mut self, now: Instant) -> u64 {
        if now.as_nanos() < self.end {
            return 0;
        }
        let step = now.as_nanos() / self.width;
        let passed = step.saturating_sub(self.step).min(BUCKETS as u64);
        for ago in 0..passed {
            let forgotten = mem::take(&mut self.sums[place(step - ago)]);
            self.counts.subtract(forgotten);
        }
        self.step = step;
        self.end = (step + 1).saturating_mul(self.width);
        passed
    }

    fn clear(&mut self) {
        self.sums = [Counts::default(); BUCKETS];
        self.counts = Counts::default();
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder of a division by 32"
)]
fn place(step: u64) -> usize {
    (step % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const FAILED: Outcome = Outcome {
        failed: true,
        slow: false,
    };
    const START: Instant = Instant::from_nanos(1 << 60);

    fn ring(size: u32) -> Records {
        Window::calls(size).records()
    }

    fn buckets(span: Duration) -> Buckets {
        Buckets::new(span)
    }

    fn record(buckets: &mut Buckets, outcome: Outcome, now: Instant) {
        buckets.advance(now);
        buckets.record(Batch::of(outcome).counts());
    }

    #[test]
    fn a_step_ends_a_32nd_of_the_span_after_it_began() {
        let mut records = Window::time(Duration::from_nanos(3200)).records();
        assert_eq!(records.counts(Instant::from_nanos(1250)).calls, 0);
        assert_eq!(records.until(), Instant::from_nanos(1300));
    }

    #[test]
    fn a_window_is_from_one_call_to_a_million_or_a_millisecond_and_more() {
        for (window, is_right) in [
            (Window::calls(0), false),
            (Window::calls(1), true),
            (Window::calls(1_000_000), true),
            (Window::calls(1_000_001), false),
            (Window::time(Duration::from_nanos(999_999)), false),
            (Window::time(Duration::from_millis(1)), true),
            (Window::time(Duration::MAX), true),
        ] {
            assert_eq!(window.check().is_ok(), is_right, "{window:?}");
        }
        assert_eq!(Window::calls(7).capacity(), Some(7));
        assert_eq!(Window::time(Duration::MAX).capacity(), None);
    }

    /// Trap 12.
    #[test]
    fn a_ring_forgets_the_oldest_call_with_each_new_one() {
        let mut ring = ring(10);
        (0..1_000).for_each(|_| ring.record(Outcome::default(), START));
        assert!(ring.is_full_of_plain_successes());
        (0..5).for_each(|_| ring.record(FAILED, START));
        let counts = ring.counts(START);
        assert_eq!((counts.calls, counts.failures), (10, 5));
        assert!(!ring.is_full_of_plain_successes());
        (0..10).for_each(|_| ring.record(Outcome::default(), START));
        assert!(ring.is_full_of_plain_successes());
    }

    #[test]
    fn a_call_is_forgotten_between_31_32nds_of_the_span_and_the_span() {
        let span = Duration::from_millis(3_200);
        for offset in [0, 1, 50, 99] {
            let mut buckets = buckets(span);
            // A border of steps, so that the offset is one within a step.
            let border = Instant::from_nanos(100_000_000 * 9_000);
            let at = |ms| border.saturating_add(Duration::from_millis(ms));
            record(&mut buckets, FAILED, at(offset));
            buckets.advance(at(3_199));
            assert_eq!(buckets.counts.failures, 1, "offset {offset}");
            buckets.advance(at(3_200));
            assert_eq!(buckets.counts.failures, 0, "offset {offset}");
        }
    }

    /// Trap 15: the work is the number of sums looked at, the memory is one fixed array.
    #[test]
    fn the_cost_of_a_time_window_does_not_depend_on_the_number_of_records() {
        let work_and_size = |records: u64| {
            let mut buckets = buckets(Duration::from_secs(60));
            let step = Duration::from_nanos(59_000_000_000 / records);
            let mut now = START;
            let mut most = 0;
            for _ in 0..records {
                record(&mut buckets, FAILED, now);
                now = now.saturating_add(step);
                most = most.max(buckets.advance(now));
            }
            assert_eq!(buckets.counts.calls, records);
            (most, mem::size_of_val(&buckets))
        };
        assert_eq!(work_and_size(100), work_and_size(100_000));
        let mut idle = buckets(Duration::from_secs(60));
        assert!(idle.advance(Instant::NEVER) <= BUCKETS as u64);
        assert!(!mem::needs_drop::<Buckets>(), "no hidden heap");
    }

    #[test]
    fn a_clock_that_goes_backwards_loses_and_doubles_nothing() {
        let mut buckets = buckets(Duration::from_secs(32));
        record(
            &mut buckets,
            FAILED,
            START.saturating_add(Duration::from_secs(5)),
        );
        record(&mut buckets, FAILED, START);
        assert_eq!(buckets.counts.failures, 2);
        buckets.advance(START.saturating_add(Duration::from_secs(4)));
        assert_eq!(buckets.counts.failures, 2);
    }

    #[test]
    fn the_longest_span_forgets_nothing_and_overflows_nothing() {
        let mut buckets = buckets(Duration::MAX);
        record(&mut buckets, FAILED, START);
        record(&mut buckets, FAILED, Instant::from_nanos(u64::MAX - 1));
        assert_eq!(buckets.counts.calls, 2);
    }

    fn sums<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Counts {
        let mut counts = Counts::default();
        outcomes.for_each(|outcome| counts.add(*outcome));
        counts
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        (0..4u8).prop_map(|bits| Outcome {
            failed: bits & 1 != 0,
            slow: bits & 2 != 0,
        })
    }

    /// One call, or a row that fits into few batches. From a seed: a strategy of its own for
    /// each outcome takes a hundred times as long as what is tested.
    fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
        (any::<u64>(), 1..300usize, any::<bool>()).prop_map(|(seed, number, rare)| {
            let mut random = fastrand::Rng::with_seed(seed);
            let number = if rare { number } else { number % 20 + 1 };
            let outcome = |_| Outcome {
                failed: random.u8(..if rare { 42 } else { 2 }) == 1,
                slow: random.u8(..if rare { 42 } else { 2 }) == 1,
            };
            (0..number).map(outcome).collect()
        })
    }

    /// In as few batches as they fit into, or singly where there is only one.
    fn record_all(ring: &mut Records, outcomes: &[Outcome]) {
        if let [outcome] = outcomes {
            return ring.record(*outcome, START);
        }
        let mut batch = Batch::default();
        for outcome in outcomes {
            batch = batch.with(*outcome).unwrap_or_else(|| {
                ring.extend(batch);
                Batch::of(*outcome)
            });
        }
        ring.extend(batch);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("breaker"), ..ProptestConfig::default() })]

        #[test]
        fn a_ring_holds_what_a_queue_of_the_latest_calls_holds(
            size in prop_oneof![1..9u32, 1..200u32],
            steps in prop::collection::vec(prop::option::weighted(0.97, outcomes()), 0..60),
        ) {
            let mut ring = ring(size);
            let mut model: VecDeque<Outcome> = VecDeque::new();
            for outcomes in steps {
                if let Some(outcomes) = outcomes {
                    record_all(&mut ring, &outcomes);
                    model.extend(outcomes);
                } else {
                    ring.clear();
                    model.clear();
                }
                while model.len() > size as usize {
                    model.pop_front();
                }
                prop_assert_eq!(ring.counts(START), sums(model.iter()));
                prop_assert_eq!(ring.latest_counts(), sums(model.iter()));
                let full = model.len() == size as usize;
                let plain = model.iter().all(|outcome| outcome.is_plain_success());
                prop_assert_eq!(ring.is_full_of_plain_successes(), full && plain);
            }
        }

        #[test]
        fn buckets_hold_what_a_list_of_all_calls_with_their_times_holds(
            // 1 ms in 32 steps of 31 250 ns; moves of up to 3 ms, now and then backwards.
            calls in prop::collection::vec((outcome(), -60_000..3_000_000i64, 0..6u8), 0..60),
        ) {
            const WIDTH: u64 = 31_250;
            let mut buckets = buckets(Duration::from_millis(1));
            let mut model: Vec<(u64, Outcome)> = Vec::new();
            let (mut now, mut latest) = (START.as_nanos(), 0);
            for (outcome, moved, calm) in calls {
                let moved = if calm == 0 { moved } else { moved / 64 };
                now = now.saturating_add_signed(moved);
                latest = latest.max(now);
                let step = latest / WIDTH;
                record(&mut buckets, outcome, Instant::from_nanos(now));
                model.push((step, outcome));
                let kept = model.iter().filter(|(of, _)| of + BUCKETS as u64 > step);
                prop_assert_eq!(buckets.counts, sums(kept.map(|(_, outcome)| outcome)));
            }
        }
    }
}

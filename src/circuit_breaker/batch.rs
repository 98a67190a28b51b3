//! Outcomes of calls in their order, packed into 36 bits.

use super::window::{Counts, Outcome};

/// For so many of the latest calls a bit each says whether they failed, and whether they were
/// slow. Whatever came before them was a plain success.
pub(super) const DEPTH: u32 = 14;
/// The most calls in a batch.
pub(super) const MOST: u32 = 254;

/// The calls stand in bits 28 to 35; the latest call's bits are 0 (failed) and 14 (slow).
const SLOW: u32 = DEPTH;
const CALLS: u32 = 2 * DEPTH;
const ONE_CALL: u64 = 1 << CALLS;
const HISTORY: u64 = ONE_CALL - 1;
/// What the next call would push out.
const OLDEST: u64 = 1 << (DEPTH - 1) | 1 << (SLOW + DEPTH - 1);
/// How many bits a batch takes.
pub(super) const BITS: u32 = CALLS + 8;

/// What has been counted since someone last looked: any row of outcomes in which no other
/// than a plain success lies more than [`DEPTH`] calls back.
///
/// A row of plain successes only adds to a number. So what is rare decides how often a batch
/// has to be looked at: the failures, while there are some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch(u64);

impl Batch {
    /// The bits that it takes.
    pub(super) const MASK: u64 = (1 << BITS) - 1;

    /// A single call.
    pub(super) fn of(outcome: Outcome) -> Self {
        Self(ONE_CALL | marks(outcome))
    }

    /// Those of `bits`, whatever stands above them.
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::MASK)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// With one more call; `None` if it does not fit.
    #[inline]
    pub(super) fn with(self, outcome: Outcome) -> Option<Self> {
        let full = self.0 >> CALLS >= u64::from(MOST) || self.0 & OLDEST != 0;
        let history = (self.0 & HISTORY) << 1;
        (!full).then(|| Self(((self.0 & !HISTORY) + ONE_CALL) | history | marks(outcome)))
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn calls(self) -> u64 {
        self.0 >> CALLS
    }

    /// Which have failed: the latest in bit 0.
    pub(super) fn failed(self) -> u64 {
        self.0 & ((1 << DEPTH) - 1)
    }

    /// Which were slow: the latest in bit 0.
    pub(super) fn slow(self) -> u64 {
        self.0 >> SLOW & ((1 << DEPTH) - 1)
    }

    pub(super) fn counts(self) -> Counts {
        Counts {
            calls: self.calls(),
            failures: self.failed().count_ones().into(),
            slow: self.slow().count_ones().into(),
        }
    }

    /// How many in a row have failed up to now, if it were `before` when the batch began.
    pub(super) fn failed_in_a_row(self, before: u32) -> u32 {
        let latest = self.failed().trailing_ones();
        if u64::from(latest) == self.calls() {
            before.saturating_add(latest)
        } else {
            latest
        }
    }
}

fn marks(outcome: Outcome) -> u64 {
    u64::from(outcome.failed) | u64::from(outcome.slow) << SLOW
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        let rarely = || prop::bool::weighted(0.1);
        (rarely(), rarely()).prop_map(|(failed, slow)| Outcome { failed, slow })
    }

    #[test]
    fn plain_successes_are_a_number_and_the_rest_is_a_short_history() {
        let mut batch = Batch::default();
        for calls in 0..u64::from(MOST) {
            assert_eq!(batch.counts().calls, calls);
            assert_eq!(batch.is_empty(), calls == 0);
            batch = batch.with(Outcome::default()).unwrap();
        }
        assert_eq!(batch.with(Outcome::default()), None);
        let failed = Outcome {
            failed: true,
            slow: false,
        };
        let mut batch = Batch::of(failed);
        for _ in 1..DEPTH {
            batch = batch.with(Outcome::default()).unwrap();
        }
        assert_eq!(batch.with(Outcome::default()), None);
        assert_eq!((batch.failed(), batch.calls()), (1 << 13, 14));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("breaker"), ..ProptestConfig::default() })]
        #[test]
        fn a_batch_says_what_a_list_says(
            outcomes in prop::collection::vec(outcome(), 0..300),
            before in 0..4u32,
        ) {
            let mut batch = Batch::default();
            let mut list: Vec<Outcome> = Vec::new();
            for outcome in outcomes {
                let marked = |outcome: &Outcome| !outcome.is_plain_success();
                let age = list.iter().rev().position(marked);
                let plain = list.iter().take(list.len().saturating_sub(DEPTH as usize));
                prop_assert!(plain.into_iter().all(|outcome| outcome.is_plain_success()));
                let fits = age.is_none_or(|age| age + 1 < DEPTH as usize)
                    && oldest(&list).is_none_or(|age| age + 1 < DEPTH as usize)
                    && list.len() < MOST as usize;
                prop_assert_eq!(batch.with(outcome).is_some(), fits);
                batch = batch.with(outcome).unwrap_or(Batch::of(outcome));
                if !fits {
                    list.clear();
                }
                list.push(outcome);
                let mut counts = Counts::default();
                let mut row = before;
                for outcome in &list {
                    counts.add(*outcome);
                    row = if outcome.failed { row + 1 } else { 0 };
                }
                prop_assert_eq!(batch.counts(), counts);
                prop_assert_eq!(batch.failed_in_a_row(before), row);
                prop_assert_eq!(Batch::from_bits(batch.bits() | 1 << BITS), batch);
                for (age, outcome) in list.iter().rev().enumerate().take(DEPTH as usize) {
                    prop_assert_eq!(batch.failed() >> age & 1 == 1, outcome.failed);
                    prop_assert_eq!(batch.slow() >> age & 1 == 1, outcome.slow);
                }
            }
        }
    }

    /// How long ago the oldest was that was no plain success.
    fn oldest(list: &[Outcome]) -> Option<usize> {
        let first = list.iter().position(|outcome| !outcome.is_plain_success());
        first.map(|first| list.len() - 1 - first)
    }
}

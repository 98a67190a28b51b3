//! What the model tests have in common: how many cases they run, and how the clock moves in them.

use std::time::Duration;

use proptest::prelude::*;

/// How many cases a model test runs, counted among those of this pattern. A test that fails has
/// counted more than it ran: but then there is no proof to count for.
pub(crate) fn cases(pattern: &str) -> u32 {
    let cases = crate::testing::cases();
    crate::proof::count(&format!("models.cases.{pattern}"), cases.into());
    cases
}

/// One reading of a clock after another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Move {
    On(u64),
    Back(u64),
    /// Almost to the end of the range.
    End(u64),
}

impl Move {
    /// What the clock says next. Never the very end: that is no time, but none.
    pub(crate) fn from(self, now: u64) -> u64 {
        let next = match self {
            Self::On(nanos) => now.saturating_add(nanos),
            Self::Back(nanos) => now.saturating_sub(nanos),
            Self::End(before) => u64::MAX - before,
        };
        next.min(u64::MAX - 1)
    }
}

/// Mostly on by less than `step`, often enough back by less than that; now and then by up to a
/// day in either direction, and rarely to the end.
pub(crate) fn moves(step: Duration) -> impl Strategy<Value = Move> {
    const DAY: u64 = 86_400_000_000_000;
    let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
    // One draw: a union of strategies costs more than what is tested.
    (0..100u8, any::<u64>()).prop_map(move |(kind, number)| match kind {
        0..76 => Move::On(number % step),
        76..92 => Move::Back(number % step),
        92..96 => Move::On(number % DAY),
        96..99 => Move::Back(number % DAY),
        _ => Move::End(number % step),
    })
}

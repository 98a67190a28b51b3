//! How a row becomes a number.
//!
//! Callgrind writes a total each time [`lap`] is entered. A row runs its call so many times
//! between laps: to warm up, a few times, and many times. The difference of the last two totals,
//! by the difference of the iterations, is the cost of one call; set-up, the laps themselves and
//! the runtime's start drop out. The loop around the call (three to five instructions) stays in.

use std::hint::black_box;

/// Iterations of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Iterations {
    /// Until windows are full and buffers have grown.
    pub(crate) warm: u64,
    pub(crate) few: u64,
    pub(crate) many: u64,
    /// How many calls one iteration makes.
    pub(crate) calls: u64,
}

/// For one call, which costs some hundred instructions at most.
pub(crate) const CALL: Iterations = Iterations {
    warm: 300,
    few: 200,
    many: 2200,
    calls: 1,
};

/// For a run of so many items.
pub(crate) const fn run_of(items: u64) -> Iterations {
    Iterations {
        warm: 1,
        few: 1,
        many: 4,
        calls: items,
    }
}

/// Entered before each stretch and after the last. Callgrind knows it by its name.
#[inline(never)]
pub(crate) fn lap() {
    black_box(());
}

/// Stretches between laps that a row takes, and what lies before its first lap.
pub(crate) const LAPS: usize = 4;

/// The cost of one call, from the totals before a row's laps.
pub(crate) fn per_call(totals: &[u64], row: Iterations) -> f64 {
    let &[_before, _warm, few, many] = totals else {
        unreachable!("they come by {LAPS}");
    };
    let calls = (row.many - row.few) * row.calls;
    many.saturating_sub(few) as f64 / calls as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_stretches_share_drops_out() {
        let row = Iterations {
            warm: 1,
            few: 10,
            many: 110,
            calls: 2,
        };
        let fixed = 17;
        let totals = [123_456, 999, fixed + 10 * 2 * 40, fixed + 110 * 2 * 40];
        assert_eq!(per_call(&totals, row), 40.0);
    }
}

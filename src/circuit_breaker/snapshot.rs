//! What a breaker tells of itself.

use std::time::Duration;

use super::events::CircuitState;
use super::state::{Look, rate};

/// What a breaker knows at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CircuitSnapshot {
    /// The state. It is open until a call comes after the open time.
    pub state: CircuitState,
    /// The calls that count and did not fail: in the window, or of the probes that have
    /// ended. An open breaker shows the window that opened it.
    pub successes: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those that were slow, whether they failed or not.
    pub slow: u64,
    /// The share of failures; `None` while nothing is counted.
    pub failure_rate: Option<f64>,
    /// The share of slow calls; `None` while nothing is counted.
    pub slow_rate: Option<f64>,
    /// How many calls in a row have failed.
    pub consecutive_failures: u32,
    /// Time until a call makes it half-open: zero if the next one does, `None` if it is not
    /// open, or held open.
    pub until_half_open: Option<Duration>,
    /// How often it has opened of itself.
    pub openings: u64,
    /// The generation of the calls admitted now. It never goes down.
    pub generation: u64,
}

impl From<Look> for CircuitSnapshot {
    fn from(look: Look) -> Self {
        let counts = look.counts;
        let share = |part| (counts.calls > 0).then(|| rate(part, counts.calls));
        Self {
            state: look.state,
            successes: counts.calls - counts.failures,
            failures: counts.failures,
            slow: counts.slow,
            failure_rate: share(counts.failures),
            slow_rate: share(counts.slow),
            consecutive_failures: look.consecutive_failures,
            until_half_open: look.until_half_open,
            openings: look.openings,
            generation: look.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::Counts;
    use super::*;

    fn snapshot(calls: u64, failures: u64, slow: u64) -> CircuitSnapshot {
        CircuitSnapshot::from(Look {
            state: CircuitState::Closed,
            counts: Counts {
                calls,
                failures,
                slow,
            },
            consecutive_failures: 1,
            until_half_open: None,
            generation: 2,
            openings: 3,
        })
    }

    #[test]
    fn a_snapshot_has_the_shares_of_what_was_counted() {
        let shown = snapshot(8, 2, 4);
        assert_eq!((shown.successes, shown.failures, shown.slow), (6, 2, 4));
        assert_eq!(
            (shown.failure_rate, shown.slow_rate),
            (Some(0.25), Some(0.5))
        );
        let empty = snapshot(0, 0, 0);
        assert_eq!((empty.failure_rate, empty.slow_rate), (None, None));
    }
}

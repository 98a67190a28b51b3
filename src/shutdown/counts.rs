//! What is counted while a shutdown closes something.

use std::fmt;

/// What is under way somewhere, and how much has ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Counts {
    /// Begun or waiting, and not ended.
    pub in_flight: u64,
    /// Ended well.
    pub completed: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Panicked.
    pub panicked: u64,
    /// Never begun, or lost with its runtime.
    pub cancelled: u64,
    /// Begun, and ended from outside without a result.
    pub aborted: u64,
}

impl Counts {
    /// So much is under way, and nothing has ended.
    #[must_use]
    pub const fn new(in_flight: u64) -> Self {
        Self {
            in_flight,
            completed: 0,
            failed: 0,
            panicked: 0,
            cancelled: 0,
            aborted: 0,
        }
    }

    /// Everything that has ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        let results = self.completed.saturating_add(self.failed);
        let results = results.saturating_add(self.panicked);
        let given_up = self.cancelled.saturating_add(self.aborted);
        results.saturating_add(given_up)
    }

    /// What is in flight now, and what has ended since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            in_flight: self.in_flight,
            completed: self.completed.saturating_sub(earlier.completed),
            failed: self.failed.saturating_sub(earlier.failed),
            panicked: self.panicked.saturating_sub(earlier.panicked),
            cancelled: self.cancelled.saturating_sub(earlier.cancelled),
            aborted: self.aborted.saturating_sub(earlier.aborted),
        }
    }
}

/// Such as `3 completed, 1 failed, 2 in flight`: what is zero is left out.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.completed, "completed"),
            (self.failed, "failed"),
            (self.panicked, "panicked"),
            (self.cancelled, "cancelled"),
            (self.aborted, "aborted"),
            (self.in_flight, "in flight"),
        ];
        let mut some = all.iter().filter(|(n, _)| *n > 0);
        let Some((n, what)) = some.next() else {
            return f.write_str("nothing");
        };
        write!(f, "{n} {what}")?;
        some.try_for_each(|(n, what)| write!(f, ", {n} {what}"))
    }
}

//! Points in time: pure, whatever clock they are read from.

use std::time::Duration;

/// A point in time, in nanoseconds on the crate's own monotonic scale.
///
/// [`Instant::NEVER`] lies after every other. Arithmetic saturates: no input panics, and a
/// clock that goes backwards yields a zero span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// After every point in time.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the scale's zero: for tests of states that are
    /// told the time.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the scale's zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Adds a span; too large a sum is [`Instant::NEVER`].
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// As [`saturating_add`](Self::saturating_add), in nanoseconds.
    pub(crate) const fn after(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// The span since `earlier`; zero when that lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The whole nanoseconds of a span; 584 years and more are `u64::MAX`.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_as_many_nanoseconds_as_fit() {
        assert_eq!(nanos(Duration::from_nanos(7)), 7);
        assert_eq!(nanos(Duration::from_nanos(u64::MAX)), u64::MAX);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }
}

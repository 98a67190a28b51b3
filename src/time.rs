//! The one clock, and the only place that sleeps.
//!
//! Production reads the processor's time-stamp counter through `quanta` (about half the
//! cost of `std::time::Instant::now`), scaled to the monotonic clock. Under test, and with
//! the feature `test-util`, it is tokio's clock instead, which can be paused and advanced.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

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

/// Where the scale stands at the first reading: far enough from zero that a reading before
/// it (another runtime's paused clock) is still on the scale.
const BASE: u64 = 1 << 60;

/// Reads the clock.
///
/// It never fails and needs no runtime. With the feature `test-util` it is tokio's clock.
// Two raw readings and their difference in nanoseconds: quanta's own instants and spans would
// divide into seconds and multiply back.
#[cfg(not(any(test, feature = "test-util")))]
#[must_use]
#[inline]
pub fn now() -> Instant {
    let (clock, zero) = FAST_CLOCK.get_or_init(fast_clock);
    Instant(BASE + clock.delta_as_nanos(*zero, clock.raw()))
}

#[cfg(not(any(test, feature = "test-util")))]
static FAST_CLOCK: std::sync::OnceLock<(quanta::Clock, u64)> = std::sync::OnceLock::new();

#[cfg(not(any(test, feature = "test-util")))]
#[cold]
fn fast_clock() -> (quanta::Clock, u64) {
    let clock = quanta::Clock::new();
    let zero = clock.raw();
    (clock, zero)
}

/// Reads the clock.
///
/// It never fails and needs no runtime. With the feature `test-util` it is tokio's clock.
#[cfg(any(test, feature = "test-util"))]
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads it"
)]
pub fn now() -> Instant {
    static ZERO: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let zero = *ZERO.get_or_init(std::time::Instant::now);
    let now = tokio::time::Instant::now().into_std();
    match now.checked_duration_since(zero) {
        Some(after) => Instant(BASE.saturating_add(nanos(after))),
        None => Instant(BASE.saturating_sub(nanos(zero - now))),
    }
}

/// Reads the clock once, so that no call has to wait until it is calibrated (10 to 20 ms,
/// once in a process). Every builder does it.
pub(crate) fn warm_up() {
    let _ = now();
}

/// A timer that costs nothing until it is armed.
///
/// Sleeping needs a tokio runtime with its timer enabled; without one tokio panics.
#[derive(Debug, Default)]
pub struct Timer {
    armed: Option<Armed>,
}

#[derive(Debug)]
struct Armed {
    until: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    /// A timer that is not armed.
    #[must_use]
    pub const fn new() -> Self {
        Self { armed: None }
    }

    /// Waits until `until`, arming or moving the timer as needed.
    ///
    /// It is ready at once for a time that has come, and never for [`Instant::NEVER`].
    pub fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.armed {
            Some(armed) if armed.until == until => armed.poll(cx),
            _ if until == Instant::NEVER => Poll::Pending,
            _ => self.poll_from(now(), until, cx),
        }
    }

    /// As [`poll_until`](Self::poll_until), for one who has just read the clock and has not
    /// armed it for this time yet.
    pub(crate) fn poll_from(
        &mut self,
        now: Instant,
        until: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if until == Instant::NEVER {
            return Poll::Pending;
        }
        let armed = self.arm(now, until);
        armed.map_or(Poll::Ready(()), |armed| armed.poll(cx))
    }

    /// Forgets the time it was armed for.
    pub fn disarm(&mut self) {
        self.armed = None;
    }

    fn arm(&mut self, now: Instant, until: Instant) -> Option<&mut Armed> {
        let left = until.since(now);
        if left.is_zero() {
            return None;
        }
        let armed = match self.armed.take() {
            Some(armed) => armed.moved_to(until, left),
            None => Armed::new(until, left),
        };
        Some(self.armed.insert(armed))
    }
}

impl Armed {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that sleeps"
    )]
    fn new(until: Instant, left: Duration) -> Self {
        let sleep = Box::pin(tokio::time::sleep(left));
        Self { until, sleep }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that sleeps"
    )]
    fn moved_to(mut self, until: Instant, left: Duration) -> Self {
        self.until = until;
        let at = tokio::time::Instant::now().checked_add(left);
        match at {
            Some(at) => self.sleep.as_mut().reset(at),
            None => self.sleep = Box::pin(tokio::time::sleep(left)),
        }
        self
    }

    /// Polled outside of tokio's cooperative budget: a task that has used its budget up in
    /// the operation must still see its time limit.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut tokio::task::coop::unconstrained(self.sleep.as_mut())).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let t = Instant::from_nanos(5);
        assert_eq!(t.saturating_add(Duration::MAX), Instant::NEVER);
        assert_eq!(t.since(Instant::from_nanos(9)), Duration::ZERO);
        assert_eq!(t.since(Instant::from_nanos(2)), Duration::from_nanos(3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_the_paused_one() {
        let before = now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(now().since(before), Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_ends_at_its_time_and_can_be_moved() {
        let start = now();
        let mut timer = Timer::new();
        let first = start.saturating_add(Duration::from_secs(9));
        assert!(futures_poll(&mut timer, first).await.is_pending());
        let second = start.saturating_add(Duration::from_secs(2));
        std::future::poll_fn(|cx| timer.poll_until(second, cx)).await;
        assert_eq!(now().since(start).as_secs(), 2);
        assert!(futures_poll(&mut timer, Instant::NEVER).await.is_pending());
    }

    async fn futures_poll(timer: &mut Timer, until: Instant) -> Poll<()> {
        std::future::poll_fn(|cx| Poll::Ready(timer.poll_until(until, cx))).await
    }
}

//! A beat: for loops that look after something.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use crate::time::{self, Instant, Timer};

/// Ticks at once, and then every `period`.
///
/// The ticks are those of a fixed grid, which late ones do not move. Those that pass while
/// nobody asks are skipped: after a stall of whatever length there is at most one tick at
/// once, which says how many were missed, and the next is that of the grid.
///
/// A period below one millisecond is one: tokio's timer counts in them. The stream never
/// ends; [`Duration::MAX`] ticks once.
///
/// # Cancel safety
///
/// Dropping a `next` loses no tick.
///
/// # Fairness
///
/// When each tick is late already, the task lets others run after 32 of them.
///
/// # Panics
///
/// From tokio, when it has to wait outside of a runtime whose timer is enabled.
///
/// # Examples
///
/// ```
/// use mainstay::stream::every;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut beat = every(Duration::from_millis(1));
/// for _ in 0..3 {
///     let Some(tick) = beat.next().await else { break };
///     println!("look after it; {} missed", tick.missed);
/// }
/// # }
/// ```
pub fn every(period: Duration) -> Every {
    Every {
        period: period.max(Duration::from_millis(1)),
        waits_first: false,
        beat: None,
        timer: Timer::new(),
        streak: 0,
    }
}

/// One tick of an [`Every`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// How many ticks were skipped between the one before and this one.
    pub missed: u64,
}

/// A stream of ticks; see [`every`].
#[must_use = "a stream does nothing unless polled"]
#[derive(Debug)]
pub struct Every {
    period: Duration,
    waits_first: bool,
    /// `None` until it is first asked.
    beat: Option<Beat>,
    timer: Timer,
    /// Ticks without a wait in between.
    streak: u32,
}

impl Every {
    /// Ticks for the first time only after a period.
    pub fn after_a_period(mut self) -> Self {
        self.waits_first = true;
        self
    }

    /// The next tick; it is never `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no tick.
    pub async fn next(&mut self) -> Option<Tick> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Tick> {
        let (period, waits) = (self.period, self.waits_first);
        loop {
            let now = time::now();
            let beat = self
                .beat
                .get_or_insert_with(|| Beat::new(now, period, waits));
            if let Some(missed) = beat.due(now) {
                return Poll::Ready(Tick { missed });
            }
            if self.timer.poll_until(beat.next, cx).is_pending() {
                self.streak = 0;
                return Poll::Pending;
            }
            // Another clock may have set it off a hair too early: it is set anew.
            self.timer.disarm();
        }
    }
}

/// So many ticks may follow each other before the task lets others run.
const STREAK: u32 = 32;

impl Stream for Every {
    type Item = Tick;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Tick>> {
        let this = self.get_mut();
        if this.streak >= STREAK {
            this.streak = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let tick = ready!(this.poll_tick(cx));
        this.streak += 1;
        Poll::Ready(Some(tick))
    }
}

/// The grid: told the time, and nothing else.
///
/// Invariants: `next` lies on the grid; a tick moves it past the time that it was told.
#[derive(Debug)]
struct Beat {
    next: Instant,
    /// In nanoseconds; at least 1.
    period: u64,
}

impl Beat {
    fn new(now: Instant, period: Duration, waits_first: bool) -> Self {
        let period = time::nanos(period);
        let next = if waits_first { now.after(period) } else { now };
        Self { next, period }
    }

    /// How many ticks were missed before the one that is due; `None` when none is.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if now < self.next || self.next == Instant::NEVER {
            return None;
        }
        let late = now.as_nanos() - self.next.as_nanos();
        let missed = late / self.period;
        self.next = self.next.after(self.period.saturating_mul(missed + 1));
        Some(missed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_period_without_end_ticks_once() {
        let mut beat = Beat::new(at(5), Duration::MAX, false);
        assert_eq!(beat.due(at(5)), Some(0));
        assert_eq!(beat.due(Instant::NEVER), None);
        let mut never = Beat::new(at(5), Duration::MAX, true);
        assert_eq!(never.due(Instant::NEVER), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]

        /// Against a list of all points of the grid; the clock may go backwards.
        #[test]
        fn each_point_of_the_grid_ticks_or_is_missed_once(
            period in 1..20u64,
            waits in any::<bool>(),
            steps in prop::collection::vec(-10..60i64, 0..60),
        ) {
            let mut beat = Beat::new(at(100), Duration::from_nanos(period), waits);
            let mut grid = (u64::from(waits)..).map(|n| 100 + n * period).peekable();
            let mut now = 100u64;
            for step in steps {
                now = now.saturating_add_signed(step).max(1);
                let mut passed = 0;
                while grid.next_if(|point| *point <= now).is_some() {
                    passed += 1;
                }
                let expected = (passed > 0).then(|| passed - 1);
                prop_assert_eq!(beat.due(at(now)), expected);
                prop_assert_eq!(beat.due(at(now)), None, "at most one tick at a time");
                prop_assert_eq!(beat.next, at(*grid.peek().unwrap()));
            }
        }
    }
}

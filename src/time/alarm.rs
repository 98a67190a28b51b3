//! What rings when a time has come: one of tokio's timers.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Sleep;

use super::{Instant, is_production, now};

/// A timer of the runtime in which it was made. It belongs to whoever holds it: no lock of
/// ours is held while tokio is called, which may ring the bell in the middle of it.
#[derive(Debug)]
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
    bell: Waker,
}

/// What an alarm has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Its time has not come.
    Nothing,
    /// This time has come.
    Time(Instant),
    /// Its runtime shuts down.
    Gone,
}

impl Alarm {
    /// Panics, with tokio's own words, where there is no runtime or none with a timer.
    pub(super) fn new(at: Instant, bell: Waker) -> Self {
        let (at, left) = reachable(at);
        Self {
            sleep: Box::pin(sleep(left)),
            at,
            bell,
        }
    }

    /// When it rings: perhaps before the time it was set to, if that is far away, and now if
    /// that is over.
    pub(super) const fn at(&self) -> Instant {
        self.at
    }

    pub(super) fn set(&mut self, at: Instant) {
        let (at, left) = reachable(at);
        self.at = at;
        self.sleep.as_mut().reset(clock() + left);
    }

    /// Lets it ring from now on, unless its time has come. Panics, with tokio's own words, if
    /// its runtime shuts down.
    ///
    /// Outside of tokio's cooperative budget: a task that has used its budget up must still
    /// see its time limit.
    pub(super) fn poll(&mut self) -> Poll<()> {
        let mut cx = Context::from_waker(&self.bell);
        let sleep = tokio::task::coop::unconstrained(self.sleep.as_mut());
        std::future::Future::poll(std::pin::pin!(sleep), &mut cx)
    }

    /// Tokio never fires a timer before its time, except all of them when a runtime ends.
    ///
    /// What has come is counted by tokio's clock: ours, which may run ahead of it by a hair,
    /// decides nothing once a timer is armed.
    pub(super) fn news(&self) -> News {
        if !self.sleep.is_elapsed() {
            return News::Nothing;
        }
        match clock().checked_duration_since(self.sleep.deadline()) {
            Some(since) => News::Time(self.at.saturating_add(since)),
            None => News::Gone,
        }
    }
}

/// The time that an alarm is set to, and how long that takes.
///
/// Never one that is over: what comes is counted from there.
fn reachable(at: Instant) -> (Instant, Duration) {
    let now = now();
    let at = at.clamp(now, now.saturating_add(farthest()));
    (at, at.since(now))
}

/// How far away an alarm is set at most; one that rings too soon is set again.
///
/// In production ours and tokio's are two clocks: they drift apart, and a machine that slept or
/// moved may have put one ahead. Each time that an alarm is set they are compared anew, so this
/// is how long a difference can delay a timer. A paused clock is the same one, and tokio's
/// timers reach two years.
fn farthest() -> Duration {
    const SECOND: Duration = Duration::from_secs(1);
    if is_production() {
        10 * SECOND
    } else {
        365 * 24 * 60 * 60 * SECOND
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that sleeps"
)]
fn sleep(span: Duration) -> Sleep {
    tokio::time::sleep(span)
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokio's timers are set by tokio's clock"
)]
fn clock() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

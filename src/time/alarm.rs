//! What rings when a time has come: one of tokio's timers.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Sleep;

use super::{Instant, now};

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

    /// When it rings: perhaps before the time it was set to, if that is very far away.
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

/// The time that an alarm is set to, and how long that takes: tokio's timers reach two years.
fn reachable(at: Instant) -> (Instant, Duration) {
    const FARTHEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let now = now();
    let at = at.min(now.saturating_add(FARTHEST));
    (at, at.since(now))
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

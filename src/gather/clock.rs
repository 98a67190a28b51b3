//! The time limits of a gather, on one timer.

use std::task::{Context, Waker};

use super::ready::{Ready, TIMER};
use crate::time::{self, Instant, Timer};

/// The one timer of a gather, for the whole and for the items.
#[derive(Debug)]
pub(super) struct Clock {
    /// When the time for the whole is up.
    pub(super) until: Instant,
    timer: Timer,
    waker: Option<Waker>,
    armed: Instant,
    /// When the timer fired, until what is due by then has been ended.
    pub(super) fired: Option<Instant>,
}

impl Clock {
    pub(super) const fn new() -> Self {
        Self {
            until: Instant::NEVER,
            timer: Timer::new(),
            waker: None,
            armed: Instant::NEVER,
            fired: None,
        }
    }

    /// Sets the timer for `due`, unless it is set for an earlier time. That one may be of an
    /// item that has ended meanwhile: then it fires for nothing, which is cheaper than to
    /// move it for each item that ends.
    pub(super) fn arm(&mut self, ready: &Ready, due: Instant) {
        let due = due.min(self.until);
        if self.armed <= due || self.fired.is_some() {
            return;
        }
        self.armed = due;
        self.poll(ready);
    }

    /// Everything is being ended: no time matters any more.
    pub(super) fn stop(&mut self) {
        self.until = Instant::NEVER;
        self.armed = Instant::NEVER;
        self.fired = None;
        self.timer.disarm();
    }

    pub(super) fn poll(&mut self, ready: &Ready) {
        let waker = self.waker.get_or_insert_with(|| ready.waker_of_bit(TIMER));
        let mut cx = Context::from_waker(waker);
        if self.armed != Instant::NEVER && self.timer.poll_until(self.armed, &mut cx).is_ready() {
            self.fired = Some(time::now().max(self.armed));
            self.armed = Instant::NEVER;
            self.timer.disarm();
        }
    }
}

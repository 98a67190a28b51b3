//! The time limits of a gather, on one timer.

use std::mem;
use std::task::{Context, Waker};

use super::ready::{Ready, TIMER};
use crate::time::{self, Instant, Timer};

/// The one timer of a gather, for the whole and for the items.
#[derive(Debug)]
pub(super) struct Clock {
    /// Whether there is a time limit at all.
    pub(super) limited: bool,
    /// When the time for the whole is up.
    pub(super) until: Instant,
    timer: Timer,
    waker: Option<Waker>,
    armed: Instant,
    /// A limit had passed at the last look, and the timer had not told of it.
    late: Option<Instant>,
    /// When the timer fired, until what is due by then has been ended.
    pub(super) fired: Option<Instant>,
}

impl Clock {
    pub(super) const fn new(limited: bool) -> Self {
        Self {
            limited,
            until: Instant::NEVER,
            timer: Timer::new(),
            waker: None,
            armed: Instant::NEVER,
            late: None,
            fired: None,
        }
    }

    /// Looks whether `due` or the time for the whole has passed, of which a runtime whose
    /// thread is kept busy tells late; whether to pause, so that it gets to its timers and its
    /// sockets. What they bring has come in time, and counts. Who looks again after that
    /// finds the time up, whatever the runtime has told.
    ///
    /// It reads the clock only if there is a limit.
    #[inline(never)]
    pub(super) fn look(&mut self, due: Instant) -> bool {
        let due = due.min(self.until);
        if due == Instant::NEVER || self.fired.is_some() {
            self.late = None;
            return false;
        }
        let now = time::now();
        let late = (due <= now).then_some(now);
        match mem::replace(&mut self.late, late) {
            Some(before) if due <= before => self.fire(before),
            _ => {}
        }
        self.late.is_some()
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

    /// Whether a pause is due, for the runtime to tell what it has missed.
    pub(super) fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Everything is being ended: no time matters any more.
    pub(super) fn stop(&mut self) {
        self.until = Instant::NEVER;
        self.armed = Instant::NEVER;
        self.late = None;
        self.fired = None;
        self.timer.disarm();
    }

    pub(super) fn poll(&mut self, ready: &Ready) {
        let waker = self.waker.get_or_insert_with(|| ready.waker_of_bit(TIMER));
        let mut cx = Context::from_waker(waker);
        if self.armed != Instant::NEVER && self.timer.poll_until(self.armed, &mut cx).is_ready() {
            self.fire(self.armed);
        }
    }

    fn fire(&mut self, now: Instant) {
        self.late = None;
        self.fired = Some(now);
        self.armed = Instant::NEVER;
        self.timer.disarm();
    }
}

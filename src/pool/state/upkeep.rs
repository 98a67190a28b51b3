//! What is missing is created, and what is too old ends.

use super::line::Waiter;
use super::{Fx, Served, State};
use crate::pool::entry::Entry;
use crate::pool::snapshot::Reason;
use crate::time::Instant;

impl<O, W, F> State<O, W, F> {
    /// A creation has succeeded.
    pub(in crate::pool) fn landed(
        &mut self,
        entry: Box<Entry<O>>,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) {
        self.creating -= 1;
        self.created += 1;
        self.failing = false;
        self.fill.succeeded();
        self.give(entry, true, now, fx);
        self.settle(fx);
    }

    /// A creation has failed. `wreck` is what it made nevertheless; `random` is in 0..1.
    pub(in crate::pool) fn failed(
        &mut self,
        error: F,
        wreck: Option<Box<Entry<O>>>,
        (now, random): (Instant, f64),
        fx: &mut Fx<O, W, F>,
    ) {
        self.creation_over(wreck, fx);
        self.pause_fill(now, random, fx);
        self.failing = self.creating > 0;
        fx.failures.extend(self.waiting.keep_failure(error));
        if !self.can_come() {
            for (ticket, waiter) in self.waiting.take_failed() {
                self.tell(ticket, waiter, fx);
            }
        }
        self.settle(fx);
    }

    /// A creation was dropped together with its runtime. If the one who started it still
    /// waits, it is told; the others start anew, in runtimes of their own.
    pub(in crate::pool) fn lost(
        &mut self,
        starter: Option<u64>,
        error: F,
        wreck: Option<Box<Entry<O>>>,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) {
        self.creation_over(wreck, fx);
        if starter.is_none() {
            self.pause_fill(now, 0.0, fx);
        }
        match starter.and_then(|ticket| Some((ticket, self.waiting.remove(ticket)?))) {
            Some((ticket, mut waiter)) => {
                fx.failures.extend(waiter.failure.replace(error));
                self.tell(ticket, waiter, fx);
            }
            None => fx.failures.push(error),
        }
        self.settle(fx);
    }

    /// Does what is due; when something is due next. `None` when the pool is closed.
    pub(in crate::pool) fn tick(&mut self, now: Instant, fx: &mut Fx<O, W, F>) -> Option<Instant> {
        if self.closed {
            return None;
        }
        self.end_overaged(now, fx);
        self.fill.tick(now);
        let start = self.missing_idle();
        self.creating += start;
        fx.create += start;
        self.settle(fx);
        self.due = self.next_due(now);
        Some(self.due)
    }

    /// One who waits is told of the failure that is kept for it.
    fn tell(&mut self, ticket: u64, waiter: Waiter<W, F>, fx: &mut Fx<O, W, F>) {
        if let Some(failure) = waiter.failure {
            self.served.insert(ticket, Served::Failed(failure));
            fx.wake.extend(waiter.waker);
        }
    }

    fn creation_over(&mut self, wreck: Option<Box<Entry<O>>>, fx: &mut Fx<O, W, F>) {
        self.creating -= 1;
        self.failing &= self.creating > 0;
        self.create_failures += 1;
        if let Some(entry) = wreck {
            self.created += 1;
            self.end(entry, Reason::Broken, fx);
        }
    }

    pub(super) fn pause_fill(&mut self, now: Instant, random: f64, fx: &mut Fx<O, W, F>) {
        let resumes = self.fill.failed(now, random);
        if self.rules.min_idle > 0 {
            self.is_due(resumes, fx);
        }
    }

    /// Whether those who wait can get something that nobody has to start.
    fn can_come(&self) -> bool {
        self.in_use + self.changing_hands + self.creating > 0
    }

    /// Until when those who wait start no creation: after a failure there is a pause, unless
    /// nothing else can come to them.
    pub(super) fn pause(&self) -> Option<Instant> {
        let other = self.in_use + self.changing_hands > 0 || (self.failing && self.creating > 0);
        self.fill.resumes().filter(|_| other)
    }

    /// Room for so many creations.
    fn room(&self) -> usize {
        let room = self.max.saturating_sub(self.size());
        room.min(self.rules.max_creating.saturating_sub(self.creating))
    }

    /// So many creations are to be started by those who wait.
    pub(super) fn missing(&self) -> usize {
        let missing = self.waiting.len().saturating_sub(self.creating);
        missing.min(self.room())
    }

    /// So many creations are to be started for the minimum.
    fn missing_idle(&self) -> usize {
        let fill = self.rules.min_idle.saturating_sub(self.idle.len());
        if fill == 0 || self.fill.is_paused() {
            return 0;
        }
        let wanted = self.waiting.len().saturating_add(fill);
        let missing = wanted.saturating_sub(self.creating).min(fill);
        missing.min(self.room() - self.missing())
    }

    /// Calls those who are to start what is missing. Done after each change.
    #[inline]
    pub(super) fn settle(&mut self, fx: &mut Fx<O, W, F>) {
        if self.closed {
            self.wake_if_drained(fx);
            return;
        }
        if !self.waiting.is_empty() {
            self.call(fx);
        }
        if self.missing_idle() > 0 {
            fx.sooner = true;
        }
    }

    #[cold]
    fn call(&mut self, fx: &mut Fx<O, W, F>) {
        self.waiting.call(self.missing(), &mut fx.wake);
        if self.pause().is_none() {
            self.waiting.hurry(&mut fx.wake);
        }
    }

    fn end_overaged(&mut self, now: Instant, fx: &mut Fx<O, W, F>) {
        // Each once from the front to the back, so that those that are kept stay in order.
        for _ in 0..self.idle.len() {
            let idle = self.idle.len();
            let Some(entry) = self.idle.pop_front() else {
                return;
            };
            match self.overaged(&entry, now, idle) {
                None => self.idle.push_back(entry),
                Some(reason) => self.end(entry, reason, fx),
            }
        }
    }

    /// An object that is kept beyond its idle time, for the minimum, is looked at again when
    /// that time has passed once more.
    fn next_due(&self, now: Instant) -> Instant {
        let due = self.idle.iter().map(|entry| {
            let idle_until = entry.idle_until();
            let idle_until = if idle_until <= now {
                now.after(entry.idle_limit)
            } else {
                idle_until
            };
            idle_until.min(entry.expires)
        });
        let fill = self.fill.resumes().filter(|_| self.rules.min_idle > 0);
        due.chain(fill).min().unwrap_or(Instant::NEVER)
    }
}

//! What is missing is created, and what is too old ends.

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
        self.fill.succeeded();
        self.give(entry, true, now, fx);
        self.replenish(fx);
    }

    /// A creation has failed: that is for the one who has waited longest. `wreck` is what it
    /// made nevertheless; `random` is in 0..1.
    pub(in crate::pool) fn failed(
        &mut self,
        error: F,
        wreck: Option<Box<Entry<O>>>,
        (now, random): (Instant, f64),
        fx: &mut Fx<O, W, F>,
    ) {
        self.creation_over(wreck, fx);
        self.pause_fill(now, random, fx);
        self.fail_first(error, fx);
        self.replenish(fx);
    }

    /// A creation was dropped together with its runtime. The next who waits is woken, to
    /// start one in its own: to start it here would only lose it as well.
    pub(in crate::pool) fn lost(
        &mut self,
        error: F,
        wreck: Option<Box<Entry<O>>>,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) {
        self.creation_over(wreck, fx);
        self.pause_fill(now, 0.0, fx);
        self.fail_first(error, fx);
        if let Some(mut next) = self.waiting.first_entry() {
            fx.wake.extend(next.get_mut().take());
        }
        self.wake_if_drained(fx);
    }

    /// Does what is due; when something is due next. `None` when the pool is closed.
    pub(in crate::pool) fn tick(&mut self, now: Instant, fx: &mut Fx<O, W, F>) -> Option<Instant> {
        if self.closed {
            return None;
        }
        self.end_overaged(now, fx);
        self.fill.tick(now);
        self.replenish(fx);
        self.due = self.next_due(now);
        Some(self.due)
    }

    fn creation_over(&mut self, wreck: Option<Box<Entry<O>>>, fx: &mut Fx<O, W, F>) {
        self.creating -= 1;
        self.create_failures += 1;
        if let Some(entry) = wreck {
            self.created += 1;
            self.end(entry, Reason::Broken, fx);
        }
    }

    fn pause_fill(&mut self, now: Instant, random: f64, fx: &mut Fx<O, W, F>) {
        let resumes = self.fill.failed(now, random);
        if self.rules.min_idle > 0 {
            self.is_due(resumes, fx);
        }
    }

    fn fail_first(&mut self, error: F, fx: &mut Fx<O, W, F>) {
        match self.waiting.pop_first() {
            Some((ticket, waker)) => {
                self.served.insert(ticket, Served::Failed(error));
                fx.wake.extend(waker);
            }
            None => fx.failure = Some(error),
        }
    }

    /// Starts what is missing: a creation for each who waits, and for the minimum.
    #[inline]
    pub(super) fn replenish(&mut self, fx: &mut Fx<O, W, F>) {
        let fill = self.rules.min_idle.saturating_sub(self.idle.len());
        if self.closed {
            self.wake_if_drained(fx);
        } else if !self.waiting.is_empty() || fill > 0 {
            self.start_creations(fill, fx);
        }
    }

    fn start_creations(&mut self, fill: usize, fx: &mut Fx<O, W, F>) {
        let fill = if self.fill.is_paused() { 0 } else { fill };
        let missing = (self.waiting.len() + fill).saturating_sub(self.creating);
        let room = self.max.saturating_sub(self.size());
        let parallel = self.rules.max_creating.saturating_sub(self.creating);
        let start = missing.min(room).min(parallel);
        self.creating += start;
        fx.create += start;
    }

    fn end_overaged(&mut self, now: Instant, fx: &mut Fx<O, W, F>) {
        let mut at = 0;
        while let Some(entry) = self.idle.get(at) {
            match self.overaged(entry, now, self.idle.len()) {
                None => at += 1,
                Some(reason) => {
                    let entry = self.idle.remove(at);
                    if let Some(entry) = entry {
                        self.end(entry, reason, fx);
                    }
                }
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

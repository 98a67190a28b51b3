//! Where objects go: lent out, back, to the next, to their end.

use std::collections::VecDeque;

use super::{Candidate, Fx, Served, State};
use crate::pool::entry::Entry;
use crate::pool::snapshot::Reason;
use crate::time::Instant;

impl<O, W, F> State<O, W, F> {
    /// An object that was changing hands is lent out, unless the pool is closed.
    pub(in crate::pool) fn arrived(&mut self, fx: &mut Fx<O, W, F>) -> bool {
        if self.closed {
            return false;
        }
        self.changing_hands -= 1;
        self.in_use += 1;
        self.fill.proved();
        self.settle(fx);
        true
    }

    /// The way of nearly every object that comes back: it is idle, and nothing else is to be
    /// done. Otherwise it is given back, for [`put`](Self::put).
    #[inline]
    pub(in crate::pool) fn put_plain(
        &mut self,
        mut entry: Box<Entry<O>>,
        now: Instant,
    ) -> Option<Box<Entry<O>>> {
        // It still counts as in use.
        if self.closed || !self.waiting.is_empty() || self.living() > self.max {
            return Some(entry);
        }
        entry.since = now;
        let due = entry.expires.min(entry.idle_until());
        if entry.expires <= now || due < self.due {
            return Some(entry);
        }
        self.in_use -= 1;
        self.idle.push_back(entry);
        None
    }

    /// An object comes back.
    #[inline]
    pub(in crate::pool) fn put(
        &mut self,
        entry: Box<Entry<O>>,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) {
        self.in_use -= 1;
        self.give(entry, false, now, fx);
        self.settle(fx);
    }

    /// An object comes back, and something is to be done first.
    pub(in crate::pool) fn returning(&mut self) {
        self.in_use -= 1;
        self.changing_hands += 1;
    }

    /// That has been done.
    pub(in crate::pool) fn returned(
        &mut self,
        entry: Box<Entry<O>>,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) {
        self.changing_hands -= 1;
        self.give(entry, false, now, fx);
        self.settle(fx);
    }

    /// An object that was changing hands does not get there. `random` is in 0..1.
    pub(in crate::pool) fn fail_candidate(
        &mut self,
        entry: Box<Entry<O>>,
        reason: Reason,
        (now, random): (Instant, f64),
        fx: &mut Fx<O, W, F>,
    ) {
        self.changing_hands -= 1;
        // One that never worked is no better than one that was not created.
        if entry.uses == 0 && reason == Reason::CheckFailed {
            self.fill.disproved();
            self.pause_fill(now, random, fx);
        }
        self.end(entry, reason, fx);
        self.settle(fx);
    }

    /// The check of an object took too long: idle ones that are to be checked too, before
    /// they are lent out, are not waited for one after the other.
    pub(in crate::pool) fn end_doubtful(&mut self, now: Instant, fx: &mut Fx<O, W, F>) {
        let (doubtful, rest) = std::mem::take(&mut self.idle)
            .into_iter()
            .partition(|entry| self.is_to_be_checked(entry, now));
        self.idle = rest;
        let doubtful: VecDeque<_> = doubtful;
        for entry in doubtful {
            self.end(entry, Reason::CheckFailed, fx);
        }
        self.settle(fx);
    }

    /// An object that was lent out does not come back into the pool.
    pub(in crate::pool) fn discard(
        &mut self,
        entry: Box<Entry<O>>,
        reason: Reason,
        fx: &mut Fx<O, W, F>,
    ) {
        self.in_use -= 1;
        self.end(entry, reason, fx);
        self.settle(fx);
    }

    /// An object that was lent out is somebody else's now.
    pub(in crate::pool) fn detach(&mut self, fx: &mut Fx<O, W, F>) {
        self.in_use -= 1;
        self.gone.count(Reason::Detached);
        self.settle(fx);
    }

    /// The end of an object has come.
    pub(in crate::pool) fn ended(&mut self, reason: Reason, fx: &mut Fx<O, W, F>) {
        self.closing -= 1;
        self.gone.count(reason);
        self.settle(fx);
    }

    /// Finds a place for an object that is in none.
    #[inline]
    pub(super) fn give(
        &mut self,
        mut entry: Box<Entry<O>>,
        fresh: bool,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) {
        if self.closed {
            self.end(entry, Reason::PoolClosed, fx);
        } else if self.living() >= self.max {
            self.end(entry, Reason::Resized, fx);
        } else if !fresh && entry.expires <= now {
            self.end(entry, Reason::LifeTime, fx);
        } else if let Some((ticket, waiter)) = self.waiting.pop_first() {
            fx.failures.extend(waiter.failure);
            self.hand_to(ticket, waiter.waker, entry, fresh, fx);
        } else {
            entry.since = now;
            self.is_due(entry.expires.min(entry.idle_until()), fx);
            self.idle.push_back(entry);
        }
    }

    #[cold]
    fn hand_to(
        &mut self,
        ticket: u64,
        waker: Option<W>,
        entry: Box<Entry<O>>,
        fresh: bool,
        fx: &mut Fx<O, W, F>,
    ) {
        self.changing_hands += 1;
        let candidate = Candidate {
            entry,
            // It has not been idle.
            check: !fresh && self.rules.check_after == Some(0),
            fresh,
        };
        self.served.insert(ticket, Served::Candidate(candidate));
        fx.wake.extend(waker);
    }

    #[cold]
    pub(super) fn end(&mut self, entry: Box<Entry<O>>, reason: Reason, fx: &mut Fx<O, W, F>) {
        self.closing += 1;
        fx.close.push((entry, reason));
    }
}

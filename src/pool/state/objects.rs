//! Where objects go: lent out, back, to the next, to their end.

use super::{Candidate, Fx, Served, State};
use crate::pool::entry::Entry;
use crate::pool::snapshot::Reason;
use crate::time::Instant;

impl<O, W, F> State<O, W, F> {
    /// An object that was changing hands is lent out.
    pub(in crate::pool) fn arrived(&mut self) {
        self.changing_hands -= 1;
        self.in_use += 1;
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
    }

    /// An object that was changing hands does not get there.
    pub(in crate::pool) fn fail_candidate(
        &mut self,
        entry: Box<Entry<O>>,
        reason: Reason,
        fx: &mut Fx<O, W, F>,
    ) {
        self.changing_hands -= 1;
        self.end(entry, reason, fx);
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
    }

    /// An object that was lent out is somebody else's now.
    pub(in crate::pool) fn detach(&mut self, fx: &mut Fx<O, W, F>) {
        self.in_use -= 1;
        self.gone.count(Reason::Detached);
        self.replenish(fx);
    }

    /// The end of an object has come.
    pub(in crate::pool) fn ended(&mut self, reason: Reason, fx: &mut Fx<O, W, F>) {
        self.closing -= 1;
        self.gone.count(reason);
        self.replenish(fx);
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
        } else if let Some((ticket, waker)) = self.waiting.pop_first() {
            self.hand_to(ticket, waker, entry, fresh, fx);
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

//! What callers do: take, wait, look, leave.

use super::{Candidate, Fx, Served, State, Take, Turn};
use crate::pool::entry::Entry;
use crate::pool::snapshot::Reason;
use crate::time::Instant;

impl<O, W, F> State<O, W, F> {
    /// The way of nearly every caller: an idle object is lent out, and nothing else is to be
    /// done. `None` says that this is for [`take`](Self::take).
    #[inline]
    pub(in crate::pool) fn take_plain(&mut self, now: Instant) -> Option<Box<Entry<O>>> {
        // Among no more than the minimum there is something to create.
        let fills = self.idle.len() <= self.rules.min_idle;
        if fills || self.closed || self.rules.hook_before || !self.waiting.is_empty() {
            return None;
        }
        let next = if self.rules.newest_first {
            self.idle.back()?
        } else {
            self.idle.front()?
        };
        let over = next.expires.min(next.idle_until()) <= now;
        if over || self.is_to_be_checked(next, now) {
            return None;
        }
        self.in_use += 1;
        if self.rules.newest_first {
            self.idle.pop_back()
        } else {
            self.idle.pop_front()
        }
    }

    /// Takes an idle object, if nobody waits. With `at_once` one that is to be checked first
    /// stays where it is.
    #[inline]
    pub(in crate::pool) fn take(
        &mut self,
        now: Instant,
        at_once: bool,
        fx: &mut Fx<O, W, F>,
    ) -> Take<O> {
        if self.closed {
            return Take::Closed;
        }
        if !self.waiting.is_empty() {
            return Take::Empty;
        }
        let Some(entry) = self.pop_idle(now, fx) else {
            self.replenish(fx);
            return Take::Empty;
        };
        let check = self.is_to_be_checked(&entry, now);
        if !check && !self.rules.hook_before {
            self.in_use += 1;
            self.replenish(fx);
            return Take::Ready(entry);
        }
        if at_once {
            self.put_back(entry);
            return Take::Empty;
        }
        self.changing_hands += 1;
        self.replenish(fx);
        self.tickets += 1;
        let fresh = false;
        let candidate = Candidate {
            entry,
            check,
            fresh,
        };
        Take::Candidate(candidate, self.tickets)
    }

    /// Takes an idle object or a place in the line: the old one, if there was one.
    pub(in crate::pool) fn enter(
        &mut self,
        ticket: Option<u64>,
        waker: &mut Option<W>,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) -> Turn<O, F> {
        if self.closed {
            return Turn::Closed;
        }
        if self.waiting.is_empty() {
            if let Some(entry) = self.pop_idle(now, fx) {
                self.changing_hands += 1;
                self.replenish(fx);
                let check = self.is_to_be_checked(&entry, now);
                let fresh = false;
                return Turn::Candidate(Candidate {
                    entry,
                    check,
                    fresh,
                });
            }
        }
        let ticket = ticket.unwrap_or_else(|| {
            self.tickets += 1;
            self.tickets
        });
        self.waiting.insert(ticket, waker.take());
        self.replenish(fx);
        Turn::Waiting(ticket)
    }

    /// What has become of the one with this ticket. If it waits on, its new waker is kept
    /// and the old one is given back in its place.
    pub(in crate::pool) fn look(
        &mut self,
        ticket: u64,
        waker: &mut Option<W>,
        fx: &mut Fx<O, W, F>,
    ) -> Turn<O, F> {
        if let Some(place) = self.waiting.get_mut(&ticket) {
            std::mem::swap(place, waker);
            // A creation may have been lost with its runtime; this one has another.
            self.replenish(fx);
            return Turn::Waiting(ticket);
        }
        match self.served.remove(&ticket) {
            Some(Served::Candidate(candidate)) => Turn::Candidate(candidate),
            Some(Served::Failed(error)) => Turn::Failed(error),
            None => Turn::Closed,
        }
    }

    /// One who waited goes away. What it was handed goes to the next. The waker is to be
    /// dropped.
    pub(in crate::pool) fn leave(
        &mut self,
        ticket: u64,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) -> Option<W> {
        if let Some(waker) = self.waiting.remove(&ticket) {
            return waker;
        }
        match self.served.remove(&ticket) {
            Some(Served::Candidate(candidate)) => {
                self.changing_hands -= 1;
                self.give(candidate.entry, candidate.fresh, now, fx);
            }
            Some(Served::Failed(error)) => fx.failure = Some(error),
            None => {}
        }
        None
    }

    /// The idle object that is next, unless it is too old.
    #[inline]
    fn pop_idle(&mut self, now: Instant, fx: &mut Fx<O, W, F>) -> Option<Box<Entry<O>>> {
        loop {
            let entry = if self.rules.newest_first {
                self.idle.pop_back()?
            } else {
                self.idle.pop_front()?
            };
            match self.overaged(&entry, now, self.idle.len() + 1) {
                None => return Some(entry),
                Some(reason) => self.end(entry, reason, fx),
            }
        }
    }

    fn put_back(&mut self, entry: Box<Entry<O>>) {
        if self.rules.newest_first {
            self.idle.push_back(entry);
        } else {
            self.idle.push_front(entry);
        }
    }

    /// Whether an idle object is too old, of so many.
    #[inline]
    pub(super) fn overaged(&self, entry: &Entry<O>, now: Instant, idle: usize) -> Option<Reason> {
        if entry.expires <= now {
            return Some(Reason::LifeTime);
        }
        // The minimum is kept: to end it would be to create it anew.
        (idle > self.rules.min_idle && entry.idle_until() <= now).then_some(Reason::IdleTime)
    }

    #[inline]
    fn is_to_be_checked(&self, entry: &Entry<O>, now: Instant) -> bool {
        let idle = now.as_nanos().saturating_sub(entry.since.as_nanos());
        self.rules.check_after.is_some_and(|after| idle >= after)
    }
}

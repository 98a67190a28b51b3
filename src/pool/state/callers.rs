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
            self.settle(fx);
            return Take::Empty;
        };
        let check = self.is_to_be_checked(&entry, now);
        if !check && !self.rules.hook_before {
            self.in_use += 1;
            self.settle(fx);
            return Take::Ready(entry);
        }
        if at_once {
            self.put_back(entry);
            self.settle(fx);
            return Take::Empty;
        }
        self.changing_hands += 1;
        self.settle(fx);
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
                self.settle(fx);
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
        self.begin(ticket, now, fx)
    }

    /// What has become of the one with this ticket. If it waits on, its new waker is kept
    /// and the old one is given back in its place.
    pub(in crate::pool) fn look(
        &mut self,
        ticket: u64,
        waker: &mut Option<W>,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) -> Turn<O, F> {
        if self.waiting.look(ticket, waker) {
            return self.begin(ticket, now, fx);
        }
        match self.served.remove(&ticket) {
            Some(Served::Candidate(candidate)) => Turn::Candidate(candidate),
            Some(Served::Failed(error)) => Turn::Failed(error),
            None => Turn::Closed,
        }
    }

    /// One who waits, and is here, starts a creation if there is one to be started.
    fn begin(&mut self, ticket: u64, now: Instant, fx: &mut Fx<O, W, F>) -> Turn<O, F> {
        self.fill.tick(now);
        let mut again = None;
        if self.missing() > 0 {
            again = self.pause();
            // Whoever looks first does it: one who was called may never look.
            if again.is_none() {
                self.creating += 1;
                fx.create += 1;
                fx.starter = Some(ticket);
            } else if self.missing() > self.waiting.called() {
                self.waiting.delay(ticket);
            } else {
                again = None;
            }
        }
        self.settle(fx);
        Turn::Waiting(ticket, again)
    }

    /// One who waited goes away. What it was handed goes to the next. The waker is to be
    /// dropped, and so is the failure of a creation, if it was nearly told of one.
    pub(in crate::pool) fn leave(
        &mut self,
        ticket: u64,
        now: Instant,
        fx: &mut Fx<O, W, F>,
    ) -> (Option<W>, Option<F>) {
        if let Some(waiter) = self.waiting.remove(ticket) {
            // It may have been called: then the next is.
            self.settle(fx);
            return (waiter.waker, waiter.failure);
        }
        match self.served.remove(&ticket) {
            Some(Served::Candidate(candidate)) => {
                self.changing_hands -= 1;
                self.give(candidate.entry, candidate.fresh, now, fx);
                self.settle(fx);
                (None, None)
            }
            Some(Served::Failed(error)) => (None, Some(error)),
            None => (None, None),
        }
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
    pub(super) fn is_to_be_checked(&self, entry: &Entry<O>, now: Instant) -> bool {
        let idle = now.as_nanos().saturating_sub(entry.since.as_nanos());
        self.rules.check_after.is_some_and(|after| idle >= after)
    }
}

//! Who waits, what is idle, and what is to be done next: first come, first served.
//!
//! Told the time; knows no clock, no task and no lock, and never drops or wakes anything:
//! what is to be done outside goes into [`Effects`].
//!
//! Invariants, whenever the lock is released:
//! - Every object is in one place: idle, lent out, changing hands, or closing. Their number,
//!   with the creations under way, is the size, and it grows only while it is below the
//!   maximum.
//! - Who waits could not be served: nothing is idle, and there is a creation under way for
//!   each of them, unless the maximum (of objects, of creations) is reached.
//! - Objects and failures go to the lowest ticket. A caller whose object fails its check
//!   comes back with its old ticket, which is why the line is a map and no
//!   [`WaitList`](crate::sync::WaitList): its place is by arrival, not at the end.

mod fill;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use super::entry::Entry;
use super::status::{PoolClosed, PoolStatus, Reason};
use crate::sync::{Key, WaitList};
use crate::time::Instant;
use fill::Fill;

/// What does not change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) min_idle: usize,
    pub(super) max_creating: usize,
    /// An object that was idle for so many nanoseconds is checked; `None` is never.
    pub(super) check_after: Option<u64>,
    /// Something is to be done before each hand-over.
    pub(super) hook_before: bool,
    /// The object that came back last is lent out first.
    pub(super) newest_first: bool,
}

/// What is to be done when the lock is released.
#[derive(Debug)]
pub(super) struct Effects<O, W, F> {
    /// So many creations are to be started; they are counted already.
    pub(super) create: usize,
    /// Objects whose end is to be begun; they are counted already.
    pub(super) close: Vec<(Box<Entry<O>>, Reason)>,
    pub(super) wake: Vec<W>,
    /// To be dropped.
    pub(super) failure: Option<F>,
    /// What is due next is due earlier than was said.
    pub(super) sooner: bool,
}

impl<O, W, F> Effects<O, W, F> {
    pub(super) const fn none() -> Self {
        Self {
            create: 0,
            close: Vec::new(),
            wake: Vec::new(),
            failure: None,
            sooner: false,
        }
    }

    #[inline]
    pub(super) fn are_none(&self) -> bool {
        self.create == 0
            && self.close.is_empty()
            && self.wake.is_empty()
            && self.failure.is_none()
            && !self.sooner
    }
}

/// An object on its way to a caller.
#[derive(Debug)]
pub(super) struct Candidate<O> {
    pub(super) entry: Box<Entry<O>>,
    /// It is to be checked.
    pub(super) check: bool,
    /// It has just been created for one who waited.
    pub(super) fresh: bool,
}

/// What a caller finds who does not wait.
#[derive(Debug)]
pub(super) enum Take<O> {
    /// Lent out.
    Ready(Box<Entry<O>>),
    /// Changing hands; and the caller's ticket.
    Candidate(Candidate<O>, u64),
    Empty,
    Closed,
}

/// What a caller finds who waits.
#[derive(Debug)]
pub(super) enum Turn<O, F> {
    /// Changing hands.
    Candidate(Candidate<O>),
    Failed(F),
    Waiting(u64),
    Closed,
}

#[derive(Debug)]
enum Served<O, F> {
    Candidate(Candidate<O>),
    Failed(F),
}

#[derive(Debug)]
pub(super) struct State<O, W, F> {
    rules: Rules,
    max: usize,
    closed: bool,
    /// The one that came back last is at the back.
    idle: VecDeque<Box<Entry<O>>>,
    /// A waker that is gone was woken already.
    waiting: BTreeMap<u64, Option<W>>,
    /// Who has been served and has not looked yet.
    served: BTreeMap<u64, Served<O, F>>,
    tickets: u64,
    in_use: usize,
    creating: usize,
    changing_hands: usize,
    closing: usize,
    created: u64,
    create_failures: u64,
    gone: PoolClosed,
    fill: Fill,
    /// When something is due next, as was said last.
    due: Instant,
    draining: WaitList<W>,
}

type Fx<O, W, F> = Effects<O, W, F>;

impl<O, W, F> State<O, W, F> {
    pub(super) fn new(rules: Rules, max: usize) -> Self {
        Self {
            rules,
            max,
            closed: false,
            idle: VecDeque::new(),
            waiting: BTreeMap::new(),
            served: BTreeMap::new(),
            tickets: 0,
            in_use: 0,
            creating: 0,
            changing_hands: 0,
            closing: 0,
            created: 0,
            create_failures: 0,
            gone: PoolClosed::default(),
            fill: Fill::default(),
            due: Instant::NEVER,
            draining: WaitList::new(),
        }
    }

    /// Takes an idle object, if nobody waits. With `at_once` one that is to be checked first
    /// stays where it is.
    #[inline]
    pub(super) fn take(&mut self, now: Instant, at_once: bool, fx: &mut Fx<O, W, F>) -> Take<O> {
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
    pub(super) fn enter(
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
    pub(super) fn look(
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
    pub(super) fn leave(&mut self, ticket: u64, now: Instant, fx: &mut Fx<O, W, F>) -> Option<W> {
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

    /// An object that was changing hands is lent out.
    pub(super) fn arrived(&mut self) {
        self.changing_hands -= 1;
        self.in_use += 1;
    }

    /// An object comes back.
    #[inline]
    pub(super) fn put(&mut self, entry: Box<Entry<O>>, now: Instant, fx: &mut Fx<O, W, F>) {
        self.in_use -= 1;
        self.give(entry, false, now, fx);
    }

    /// An object comes back, and something is to be done first.
    pub(super) fn returning(&mut self) {
        self.in_use -= 1;
        self.changing_hands += 1;
    }

    /// That has been done.
    pub(super) fn returned(&mut self, entry: Box<Entry<O>>, now: Instant, fx: &mut Fx<O, W, F>) {
        self.changing_hands -= 1;
        self.give(entry, false, now, fx);
    }

    /// An object that was changing hands does not get there.
    pub(super) fn fail_candidate(
        &mut self,
        entry: Box<Entry<O>>,
        reason: Reason,
        fx: &mut Fx<O, W, F>,
    ) {
        self.changing_hands -= 1;
        self.end(entry, reason, fx);
    }

    /// An object that was lent out does not come back into the pool.
    pub(super) fn discard(&mut self, entry: Box<Entry<O>>, reason: Reason, fx: &mut Fx<O, W, F>) {
        self.in_use -= 1;
        self.end(entry, reason, fx);
    }

    /// An object that was lent out is somebody else's now.
    pub(super) fn detach(&mut self, fx: &mut Fx<O, W, F>) {
        self.in_use -= 1;
        self.gone.count(Reason::Detached);
        self.replenish(fx);
    }

    /// The end of an object has come.
    pub(super) fn ended(&mut self, reason: Reason, fx: &mut Fx<O, W, F>) {
        self.closing -= 1;
        self.gone.count(reason);
        self.replenish(fx);
    }

    /// A creation has succeeded.
    pub(super) fn landed(&mut self, entry: Box<Entry<O>>, now: Instant, fx: &mut Fx<O, W, F>) {
        self.creating -= 1;
        self.created += 1;
        self.fill.succeeded();
        self.give(entry, true, now, fx);
        self.replenish(fx);
    }

    /// A creation has failed: that is for the one who has waited longest. `wreck` is what it
    /// made nevertheless; `random` is in 0..1.
    pub(super) fn failed(
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
    pub(super) fn lost(
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

    /// Changes the maximum. What is lent out ends when it comes back.
    pub(super) fn resize(&mut self, max: usize, fx: &mut Fx<O, W, F>) {
        self.max = max;
        while self.living() > max {
            let Some(entry) = self.idle.pop_front() else {
                break;
            };
            self.end(entry, Reason::Resized, fx);
        }
        self.replenish(fx);
    }

    /// Lends out nothing more.
    pub(super) fn close(&mut self, fx: &mut Fx<O, W, F>) {
        self.closed = true;
        let waiting = std::mem::take(&mut self.waiting);
        fx.wake.extend(waiting.into_values().flatten());
        while let Some(entry) = self.idle.pop_front() {
            self.end(entry, Reason::PoolClosed, fx);
        }
        fx.sooner = true;
        self.wake_if_drained(fx);
    }

    /// Waits until the closed pool is empty; `true` when it is.
    pub(super) fn poll_drained(&mut self, key: &mut Option<Key>, waker: &mut Option<W>) -> bool {
        if self.closed && self.size() == 0 {
            return true;
        }
        match (key.and_then(|key| self.draining.get_mut(key)), waker) {
            (Some(place), Some(waker)) => std::mem::swap(place, waker),
            (_, waker) => *key = waker.take().map(|waker| self.draining.push_back(waker)),
        }
        false
    }

    /// Waits no more; the waker, to be dropped.
    pub(super) fn leave_drain(&mut self, key: Key) -> Option<W> {
        self.draining.remove(key)
    }

    /// Does what is due; when something is due next. `None` when the pool is closed.
    pub(super) fn tick(&mut self, now: Instant, fx: &mut Fx<O, W, F>) -> Option<Instant> {
        if self.closed {
            return None;
        }
        self.end_overaged(now, fx);
        self.fill.tick(now);
        self.replenish(fx);
        self.due = self.next_due(now);
        Some(self.due)
    }

    pub(super) fn status(&self) -> PoolStatus {
        PoolStatus {
            max_size: self.max,
            size: self.size(),
            idle: self.idle.len(),
            in_use: self.in_use,
            creating: self.creating,
            changing_hands: self.changing_hands,
            closing: self.closing,
            pending: self.waiting.len(),
            created: self.created,
            create_failures: self.create_failures,
            closed: self.gone,
            is_closed: self.closed,
        }
    }
}

/// The steps that the above are made of.
impl<O, W, F> State<O, W, F> {
    #[inline]
    fn size(&self) -> usize {
        self.living() + self.closing
    }

    #[inline]
    fn living(&self) -> usize {
        self.idle.len() + self.in_use + self.creating + self.changing_hands
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
    fn overaged(&self, entry: &Entry<O>, now: Instant, idle: usize) -> Option<Reason> {
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

    /// Finds a place for an object that is in none.
    #[inline]
    fn give(&mut self, mut entry: Box<Entry<O>>, fresh: bool, now: Instant, fx: &mut Fx<O, W, F>) {
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
    fn end(&mut self, entry: Box<Entry<O>>, reason: Reason, fx: &mut Fx<O, W, F>) {
        self.closing += 1;
        fx.close.push((entry, reason));
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
    fn replenish(&mut self, fx: &mut Fx<O, W, F>) {
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

    fn wake_if_drained(&mut self, fx: &mut Fx<O, W, F>) {
        if !self.closed || self.size() > 0 {
            return;
        }
        while let Some(key) = self.draining.front() {
            fx.wake.extend(self.draining.remove(key));
        }
    }

    #[inline]
    fn is_due(&mut self, at: Instant, fx: &mut Fx<O, W, F>) {
        if at < self.due {
            self.due = at;
            fx.sooner = true;
        }
    }

    fn end_overaged(&mut self, now: Instant, fx: &mut Fx<O, W, F>) {
        let mut at = 0;
        while let Some(entry) = self.idle.get(at) {
            match self.overaged(entry, now, self.idle.len()) {
                None => at += 1,
                Some(reason) => {
                    let entry = self.idle.remove(at);
                    entry
                        .into_iter()
                        .for_each(|entry| self.end(entry, reason, fx));
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

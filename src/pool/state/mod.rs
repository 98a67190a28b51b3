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
//!   each of them, or one of them is called to start it, unless the maximum (of objects, of
//!   creations) is reached. Who is called and leaves is replaced. A creation for those who
//!   wait is started by one of them, where that one runs, and by nobody else.
//! - After a failure, who is called waits for the end of a pause, but only while something
//!   else can come: an object in use, or another creation.
//! - A failure is told when nothing else can come; until then it is kept for the one who has
//!   waited longest.
//! - Objects go to the lowest ticket. A caller whose object fails its check
//!   comes back with its old ticket, which is why the line is a map and no
//!   [`WaitList`](crate::sync::WaitList): its place is by arrival, not at the end.

mod callers;
mod fill;
mod line;
#[cfg(test)]
mod model;
mod objects;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};

use super::entry::Entry;
use super::snapshot::{PoolClosed, PoolSnapshot, Reason};
use crate::sync::{Key, WaitList};
use crate::time::Instant;
use fill::Fill;
use line::Line;

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
    /// The one who waits and starts it, if it is not for the minimum.
    pub(super) starter: Option<u64>,
    /// Objects whose end is to be begun; they are counted already.
    pub(super) close: Vec<(Box<Entry<O>>, Reason)>,
    pub(super) wake: Vec<W>,
    /// To be dropped.
    pub(super) failures: Vec<F>,
    /// What is due next is due earlier than was said.
    pub(super) sooner: bool,
}

impl<O, W, F> Effects<O, W, F> {
    pub(super) const fn none() -> Self {
        Self {
            create: 0,
            starter: None,
            close: Vec::new(),
            wake: Vec::new(),
            failures: Vec::new(),
            sooner: false,
        }
    }

    #[inline]
    pub(super) fn are_none(&self) -> bool {
        self.create == 0
            && self.close.is_empty()
            && self.wake.is_empty()
            && self.failures.is_empty()
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
    /// With this ticket; and it is to look again at that time.
    Waiting(u64, Option<Instant>),
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
    waiting: Line<W, F>,
    /// Who has been served and has not looked yet.
    served: BTreeMap<u64, Served<O, F>>,
    tickets: u64,
    in_use: usize,
    creating: usize,
    /// One of those under way together has failed.
    failing: bool,
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
            waiting: Line::new(),
            served: BTreeMap::new(),
            tickets: 0,
            in_use: 0,
            creating: 0,
            failing: false,
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

    /// Changes the maximum. What is lent out ends when it comes back.
    pub(super) fn resize(&mut self, max: usize, fx: &mut Fx<O, W, F>) {
        self.max = max;
        while self.living() > max {
            let Some(entry) = self.idle.pop_front() else {
                break;
            };
            self.end(entry, Reason::Resized, fx);
        }
        self.settle(fx);
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Lends out nothing more.
    pub(super) fn close(&mut self, fx: &mut Fx<O, W, F>) {
        self.closed = true;
        while let Some((_, waiter)) = self.waiting.pop_first() {
            fx.wake.extend(waiter.waker);
            fx.failures.extend(waiter.failure);
        }
        self.take_back_served(fx);
        while let Some(entry) = self.idle.pop_front() {
            self.end(entry, Reason::PoolClosed, fx);
        }
        fx.sooner = true;
        self.wake_if_drained(fx);
    }

    /// What was handed over, and not looked at yet, ends.
    fn take_back_served(&mut self, fx: &mut Fx<O, W, F>) {
        for served in std::mem::take(&mut self.served).into_values() {
            match served {
                Served::Candidate(candidate) => {
                    self.changing_hands -= 1;
                    self.end(candidate.entry, Reason::PoolClosed, fx);
                }
                Served::Failed(failure) => fx.failures.push(failure),
            }
        }
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

    pub(super) fn snapshot(&self) -> PoolSnapshot {
        PoolSnapshot {
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

    #[inline]
    fn size(&self) -> usize {
        self.living() + self.closing
    }

    #[inline]
    fn living(&self) -> usize {
        self.idle.len() + self.in_use + self.creating + self.changing_hands
    }

    #[inline]
    fn is_due(&mut self, at: Instant, fx: &mut Fx<O, W, F>) {
        if at < self.due {
            self.due = at;
            fx.sooner = true;
        }
    }

    fn wake_if_drained(&mut self, fx: &mut Fx<O, W, F>) {
        if !self.closed || self.size() > 0 {
            return;
        }
        while let Some(key) = self.draining.front() {
            fx.wake.extend(self.draining.remove(key));
        }
    }
}

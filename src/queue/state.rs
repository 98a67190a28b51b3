//! The line: what waits in which order, what runs, who wants to push, how everything ended.
//!
//! Invariants:
//! - Every accepted item waits, runs, or has had one outcome:
//!   accepted = waiting + running + the sum of the outcomes.
//! - Nothing enters, and nothing is promised to a producer, unless what waits, what was
//!   promised and what takes up places otherwise is less than the capacity.
//! - A producer waits only while there is no room: after whatever may make room,
//!   `make_room` promises it to the producers who have waited longest.
//! - Items begin in the order of their rank: higher priority first, then order of arrival.
//! - Once closed nothing enters, nobody waits to push, and nothing is promised.
//! - Who waits for the end of all work is told as soon as nothing waits or runs.

use std::collections::BTreeMap;

use super::snapshot::{Outcome, QueueSnapshot};
use crate::sync::{Key, WaitList};
use crate::time::Instant;

/// Settings of the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) capacity: usize,
    pub(super) workers: usize,
    /// Nanoseconds of waiting that are worth one level of priority.
    pub(super) ageing: Option<u64>,
}

/// Where an item stands in the line: what is smaller begins first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    order: i128,
    id: u64,
}

impl Rank {
    pub(super) fn id(self) -> u64 {
        self.id
    }
}

/// The line; items `I` come with a record `R` that outlives their stay, `W` is a waker.
#[derive(Debug)]
pub(super) struct State<I, R, W> {
    limits: Limits,
    closed: bool,
    next_id: u64,
    line: BTreeMap<Rank, (I, R)>,
    /// Places in the line that were promised to producers who have not come back yet.
    promised: usize,
    /// Places that outcomes take up for which the stream has no room.
    excess: usize,
    producers: WaitList<Option<W>>,
    running: BTreeMap<u64, R>,
    workers: usize,
    /// Who waits until there is nothing to do.
    drains: WaitList<Option<W>>,
    accepted: u64,
    ended: [u64; Outcome::KINDS],
}

/// Where a producer stands who had to wait.
pub(super) type Place = Option<(Key, Rank)>;

/// What became of an attempt to enter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<R> {
    Entered(R),
    Waiting,
    Full,
    Closed,
}

/// Who comes to enter, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) priority: i32,
    pub(super) now: Instant,
    pub(super) may_wait: bool,
}

impl<I, R: Clone, W> State<I, R, W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            closed: false,
            next_id: 0,
            line: BTreeMap::new(),
            promised: 0,
            excess: 0,
            producers: WaitList::new(),
            running: BTreeMap::new(),
            workers: 0,
            drains: WaitList::new(),
            accepted: 0,
            ended: [0; Outcome::KINDS],
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        self.line.is_empty() && self.running.is_empty()
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &R> {
        self.line.values().map(|(_, record)| record)
    }

    pub(super) fn running(&self) -> impl ExactSizeIterator<Item = &R> {
        self.running.values()
    }

    pub(super) fn snapshot(&self) -> QueueSnapshot {
        let ended = |outcome: Outcome| self.ended[outcome as usize];
        QueueSnapshot {
            accepted: self.accepted,
            waiting: self.line.len(),
            running: self.running.len(),
            done: ended(Outcome::Done),
            failed: ended(Outcome::Failed),
            timed_out: ended(Outcome::TimedOut),
            refused: ended(Outcome::Refused),
            panicked: ended(Outcome::Panicked),
            cancelled: ended(Outcome::Cancelled),
            returned: ended(Outcome::Returned),
            workers: self.workers,
            producers: self.producers.len(),
            closed: self.closed,
        }
    }

    /// Enters the line if there is room, or takes the room that was promised; else lets
    /// wait, if that is wanted. `place` tells the caller's own calls apart, `waker` is
    /// exchanged while it waits, and `make` is called only to enter.
    pub(super) fn enter(
        &mut self,
        place: &mut Place,
        arrival: Arrival,
        waker: &mut Option<W>,
        make: impl FnOnce(Rank) -> (I, R),
    ) -> Entry<R> {
        if self.closed {
            *place = None;
            return Entry::Closed;
        }
        let rank = match *place {
            None if self.has_room() => self.rank(arrival),
            None if arrival.may_wait => {
                let rank = self.rank(arrival);
                *place = Some((self.producers.push_back(waker.take()), rank));
                return Entry::Waiting;
            }
            None => return Entry::Full,
            Some((key, rank)) => {
                if let Some(waiting) = self.producers.get_mut(key) {
                    std::mem::swap(waiting, waker);
                    return Entry::Waiting;
                }
                self.promised -= 1;
                rank
            }
        };
        *place = None;
        Entry::Entered(self.insert(rank, make(rank)))
    }

    fn insert(&mut self, rank: Rank, (item, record): (I, R)) -> R {
        self.accepted += 1;
        self.line.insert(rank, (item, record.clone()));
        record
    }

    fn has_room(&self) -> bool {
        self.line.len() + self.promised + self.excess < self.limits.capacity
    }

    /// An item gains a level of priority with each span of ageing. As all of them age
    /// alike, their order never changes, and can be written down when they arrive: one of
    /// priority p stands where one of priority 0 would that came p spans earlier.
    fn rank(&mut self, arrival: Arrival) -> Rank {
        let id = self.next_id;
        self.next_id += 1;
        let priority = i128::from(arrival.priority);
        let order = match self.limits.ageing {
            None => -priority,
            Some(span) => i128::from(arrival.now.as_nanos()) - priority * i128::from(span),
        };
        Rank { order, id }
    }

    /// Ends a wait for room. `Ok` holds the waker that was left there; `Err` says that the
    /// wait had ended before: by a promise, or because the queue was closed.
    pub(super) fn give_up(&mut self, place: Place) -> Result<Option<W>, ()> {
        let (key, _) = place.ok_or(())?;
        self.producers.remove(key).ok_or(())
    }

    /// As [`give_up`](Self::give_up), for one who will not come back: what was promised to
    /// it is not any more. Returns the waker that was left there.
    pub(super) fn break_off(&mut self, place: Place) -> Option<W> {
        if place.is_none() || self.closed {
            return None;
        }
        let left = self.give_up(place);
        self.promised -= usize::from(left.is_err());
        left.ok().flatten()
    }

    /// Promises the places that are free to the producers who have waited longest; so many
    /// places are taken up by outcomes. Adds who is to be woken.
    pub(super) fn make_room(&mut self, excess: usize, wake: &mut Vec<W>) {
        self.excess = excess;
        while let Some(first) = self.producers.front().filter(|_| self.has_room()) {
            self.promised += 1;
            wake.extend(self.producers.remove(first).flatten());
        }
    }

    /// Whether one more worker is needed; it is counted from now on. `open` says whether
    /// items may begin.
    pub(super) fn hire(&mut self, open: bool) -> bool {
        let needed = self.needs_worker(open);
        self.workers += usize::from(needed);
        needed
    }

    /// Each worker that has no item yet is going to take one.
    pub(super) fn needs_worker(&self, open: bool) -> bool {
        let free = self.workers.saturating_sub(self.running.len());
        open && self.workers < self.limits.workers && self.line.len() > free
    }

    /// A worker has gone.
    pub(super) fn retire(&mut self) {
        self.workers -= 1;
    }

    /// Takes the first item out of the line, to run it, if one may begin. Without an item the
    /// worker that asks retires.
    pub(super) fn receive(&mut self, open: bool) -> Option<(I, R)> {
        let first = if open { self.line.pop_first() } else { None };
        let Some((rank, (item, record))) = first else {
            self.retire();
            return None;
        };
        self.running.insert(rank.id, record.clone());
        Some((item, record))
    }

    /// Writes down how an item ended that ran. `false` if it has had its outcome already.
    pub(super) fn settle(&mut self, id: u64, outcome: Outcome) -> bool {
        let first = self.running.remove(&id).is_some();
        self.ended[outcome as usize] += u64::from(first);
        first
    }

    /// Takes an item out that waits, if it is the one of this record.
    pub(super) fn withdraw(
        &mut self,
        rank: Rank,
        outcome: Outcome,
        is_meant: impl FnOnce(&R) -> bool,
    ) -> Option<(I, R)> {
        self.line
            .get(&rank)
            .filter(|(_, record)| is_meant(record))?;
        let (item, record) = self.line.remove(&rank)?;
        self.ended[outcome as usize] += 1;
        Some((item, record))
    }

    /// As [`withdraw`](Self::withdraw), for the first of the line.
    pub(super) fn withdraw_first(&mut self, outcome: Outcome) -> Option<(I, R)> {
        let rank = *self.line.first_key_value()?.0;
        self.withdraw(rank, outcome, |_| true)
    }

    /// Lets nothing in any more. Returns the producers who waited.
    pub(super) fn close(&mut self) -> Vec<W> {
        self.closed = true;
        self.promised = 0;
        take_all(&mut self.producers)
    }

    /// Waits until nothing waits or runs: `None` says that it has come to that. `waker` is
    /// exchanged for the one given before.
    pub(super) fn await_idle(&mut self, key: Option<Key>, waker: &mut Option<W>) -> Option<Key> {
        match key {
            None if self.is_idle() => None,
            None => Some(self.drains.push_back(waker.take())),
            Some(key) => {
                std::mem::swap(self.drains.get_mut(key)?, waker);
                Some(key)
            }
        }
    }

    /// Ends a wait of [`await_idle`](Self::await_idle); its waker.
    pub(super) fn leave_idle(&mut self, key: Key) -> Option<W> {
        self.drains.remove(key)?
    }

    /// Takes the wakers of all who wait: they will give them again.
    pub(super) fn sleepers(&mut self) -> Vec<W> {
        let drains = self.drains.values_mut();
        let all = drains.chain(self.producers.values_mut());
        all.filter_map(Option::take).collect()
    }

    #[cfg(test)]
    pub(super) fn promised(&self) -> usize {
        self.promised
    }

    #[cfg(test)]
    pub(super) fn nobody_awaits_idle(&self) -> bool {
        self.drains.is_empty()
    }

    /// Those who waited until there is nothing to do, if that is so now.
    pub(super) fn take_drained(&mut self) -> Vec<W> {
        if self.is_idle() {
            take_all(&mut self.drains)
        } else {
            Vec::new()
        }
    }
}

/// Empties the list, first come first.
fn take_all<W>(list: &mut WaitList<Option<W>>) -> Vec<W> {
    let mut all = Vec::new();
    while let Some(key) = list.front() {
        all.extend(list.remove(key).flatten());
    }
    all
}

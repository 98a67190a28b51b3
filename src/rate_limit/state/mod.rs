//! Who takes permits, who waits, who is refused: a pure state, first come first served.
//!
//! A waiter takes its permits itself, when it is polled and the bucket covers it *and
//! everyone ahead of it*. Nothing is set aside for one who is away, so a waiter that goes
//! away has nothing to give back, and what the bucket bounds are the takes themselves, not
//! promises of takes that may all be made good at one moment.
//!
//! Each waiter is told when its permits are there, and sleeps until then. While nobody
//! leaves and the rate stays, that is exact, and one wake is all it needs. When someone
//! leaves, all behind have become due earlier; only the head of the queue is woken to be
//! told its new time, and each next head when it gets there: at most one wake more for each
//! permit granted, whatever happens.
//!
//! Invariants:
//! - `queued` is the sum of the permits of those in the queue.
//! - A waiter's `end` minus the head's start is at least the sum of the permits up to and
//!   with it: those that left in between are still counted until the next
//!   [`reconsider`](State::reconsider). So nobody takes the permits of one ahead, and nobody
//!   is refused before it was counted anew.
//! - The head has been told a time not later than its permits are there, or its waker is on
//!   its way.
//! - A key that is not in the queue any more was refused.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::bucket::{Bucket, Rate};
use crate::error::Refusal;
use crate::sync::{Key, WaitList};
use crate::time::Instant;

/// A waiter that has not been polled for so long after its time was up does not hold up
/// those behind it any longer.
const ABANDONED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct State<W> {
    bucket: Bucket,
    queue: WaitList<Waiter<W>>,
    queued: u64,
    /// The permits of everyone who ever waited, and where the next waiter starts. It may
    /// wrap: only differences count.
    total: u64,
    /// To be woken once the lock is free.
    wake: Vec<W>,
}

#[derive(Debug)]
struct Waiter<W> {
    permits: u32,
    /// Where its permits end in the sum of all that were ever queued.
    end: u64,
    /// Its time is up after this.
    until: Instant,
    /// It sleeps at most until then.
    told: Instant,
    /// Taken by whoever wakes it.
    waker: Option<W>,
}

/// What someone asks for: so many permits, at the latest so late.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) permits: u32,
    pub(super) until: Instant,
}

impl Ask {
    /// Whether the time to come back is not too late.
    pub(super) fn fits(self, refusal: Refusal, now: Instant) -> bool {
        let in_time = |wait| now.saturating_add(wait) <= self.until;
        refusal.retry_after().is_some_and(in_time)
    }
}

/// Where someone stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Taken,
    /// To look again at that time.
    Waits(Key, Instant),
    Refused(Refusal),
}

impl<W> State<W> {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            queue: WaitList::new(),
            queued: 0,
            total: 0,
            wake: Vec::new(),
        }
    }

    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(super) fn bucket_mut(&mut self) -> &mut Bucket {
        &mut self.bucket
    }

    pub(super) fn refill(&mut self, now: Instant) {
        self.bucket.refill(now);
    }

    pub(super) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many wait, and for how many permits.
    pub(super) fn queued(&self) -> (usize, u64) {
        (self.queue.len(), self.queued)
    }

    /// Those to be woken now that the lock is free.
    pub(super) fn take_wakers(&mut self) -> Vec<W> {
        std::mem::take(&mut self.wake)
    }

    /// Takes at once or not at all. It passes nobody: what those who wait need stays.
    pub(super) fn try_take(&mut self, permits: u32, now: Instant) -> Result<(), Refusal> {
        self.bucket.refill(now);
        if self.takes(permits) || (self.pass_by_the_abandoned(None) && self.takes(permits)) {
            return Ok(());
        }
        Err(self.refusal(permits))
    }

    /// Takes at once, or lets wait if the permits are there in time; only then `waker` is
    /// taken.
    pub(super) fn enter(&mut self, ask: Ask, now: Instant, waker: &mut Option<W>) -> Place {
        match self.try_take(ask.permits, now) {
            Ok(()) => Place::Taken,
            Err(refusal) => match self.due(refusal) {
                Some(due) if due <= ask.until => {
                    Place::Waits(self.queue_up(ask, due, waker.take()), due)
                }
                _ => Place::Refused(refusal),
            },
        }
    }

    /// Where someone stands who waits. While it waits on, `waker` is exchanged for the one
    /// it gave before; otherwise that one comes back as well, to be dropped.
    pub(super) fn check(
        &mut self,
        key: Key,
        permits: u32,
        now: Instant,
        waker: &mut Option<W>,
    ) -> (Place, Option<W>) {
        self.bucket.refill(now);
        let is_head = self.queue.front() == Some(key);
        let mut needed = self.needed_up_to(key);
        if !is_head && !self.bucket.covers(needed) {
            self.pass_by_the_abandoned(Some(key));
            needed = self.needed_up_to(key);
        }
        if !is_head && !self.bucket.covers(needed) && self.is_time_up(key) {
            // Counted too much, perhaps, because of some that left: now it must be exact.
            // It stays only if its permits are there.
            self.reconsider();
            needed = self.needed_up_to(key);
        }
        let Some(waiter) = self.queue.get_mut(key) else {
            return (Place::Refused(self.refusal(permits)), None);
        };
        if self.bucket.covers(needed) {
            self.bucket.take(permits);
            return (Place::Taken, self.remove(key));
        }
        let wait = self.bucket.wait_for(needed);
        let due = self.bucket.at().saturating_add(wait);
        let until = waiter.until;
        // Of a head the due time is exact; others may come up earlier than it says.
        if is_head && due > until {
            let old = self.remove(key);
            let retry_after = wait;
            return (Place::Refused(Refusal::RateLimited { retry_after }), old);
        }
        waiter.told = due.min(until);
        std::mem::swap(&mut waiter.waker, waker);
        (Place::Waits(key, due.min(until)), None)
    }

    /// Gives up a place in the queue; those behind it move up. Returns its waker, to be
    /// dropped.
    pub(super) fn leave(&mut self, key: Key, now: Instant) -> Option<W> {
        self.bucket.refill(now);
        self.remove(key)
    }

    /// Changes the rate from now on. Permits in the bucket stay.
    pub(super) fn set_rate(&mut self, rate: Rate, now: Instant) {
        self.bucket.refill(now);
        self.bucket.set_rate(rate);
        self.reconsider();
    }

    /// Changes the burst from now on. Permits above it are lost.
    pub(super) fn set_burst(&mut self, burst: u32, now: Instant) {
        self.bucket.refill(now);
        self.bucket.set_burst(burst);
        self.reconsider();
    }

    /// Refuses everyone who waits in vain under new settings; the others keep their order.
    fn reconsider(&mut self) {
        let mut ahead = 0;
        let mut next = self.queue.front();
        self.queued = 0;
        while let Some(key) = next {
            next = self.queue.behind(key);
            let Some(waiter) = self.queue.get_mut(key) else {
                break;
            };
            let needed = ahead + u64::from(waiter.permits);
            let due = self
                .bucket
                .at()
                .saturating_add(self.bucket.wait_for(needed));
            // Whose permits are there does not wait in vain, however late it is.
            let in_vain = due > waiter.until && !self.bucket.covers(needed);
            if waiter.permits > self.bucket.burst() || in_vain {
                let waiter = self.queue.remove(key);
                self.wake.extend(waiter.and_then(|waiter| waiter.waker));
            } else {
                waiter.end = needed;
                ahead = needed;
            }
        }
        (self.queued, self.total) = (ahead, ahead);
        self.wake_head_if_due_earlier();
    }

    fn queue_up(&mut self, ask: Ask, told: Instant, waker: Option<W>) -> Key {
        self.queued += u64::from(ask.permits);
        self.total = self.total.wrapping_add(ask.permits.into());
        self.queue.push_back(Waiter {
            permits: ask.permits,
            end: self.total,
            until: ask.until,
            told,
            waker,
        })
    }

    fn remove(&mut self, key: Key) -> Option<W> {
        let was_head = self.queue.front() == Some(key);
        let waiter = self.queue.remove(key)?;
        self.queued -= u64::from(waiter.permits);
        if was_head {
            self.wake_head_if_due_earlier();
        }
        waiter.waker
    }

    fn wake_head_if_due_earlier(&mut self) {
        let Some(head) = self.queue.front().and_then(|key| self.queue.get_mut(key)) else {
            return;
        };
        let wait = self.bucket.wait_for(head.permits.into());
        if self.bucket.at().saturating_add(wait) < head.told {
            self.wake.extend(head.waker.take());
        }
    }

    /// A head of the queue that nobody polls (it sits in a `select!` that looks elsewhere)
    /// would stop everyone behind it for good. Its time being up, it is refused.
    ///
    /// Says whether there was one.
    fn pass_by_the_abandoned(&mut self, present: Option<Key>) -> bool {
        let before = self.queue.len();
        while let Some(key) = self.queue.front() {
            let until = self.queue.get_mut(key).map_or(Instant::NEVER, |w| w.until);
            if present == Some(key) || until.saturating_add(ABANDONED) >= self.bucket.at() {
                break;
            }
            let waker = self.remove(key);
            self.wake.extend(waker);
        }
        self.queue.len() < before
    }

    fn takes(&mut self, permits: u32) -> bool {
        let takes = permits <= self.bucket.burst() && self.bucket.covers(self.needed(permits));
        if takes {
            self.bucket.take(permits);
        }
        takes
    }

    fn needed(&self, permits: u32) -> u64 {
        self.queued.saturating_add(permits.into())
    }

    fn is_time_up(&mut self, key: Key) -> bool {
        let waiter = self.queue.get_mut(key);
        waiter.is_some_and(|waiter| waiter.until <= self.bucket.at())
    }

    /// The permits of all up to this waiter, and its own.
    fn needed_up_to(&mut self, key: Key) -> u64 {
        let start = self.queue.front().and_then(|key| self.queue.get_mut(key));
        let start = start.map_or(0, |head| head.end.wrapping_sub(head.permits.into()));
        self.queue
            .get_mut(key)
            .map_or(0, |own| own.end.wrapping_sub(start))
    }

    pub(super) fn refusal(&self, permits: u32) -> Refusal {
        let limit = self.bucket.burst();
        if permits > limit {
            return Refusal::TooLarge {
                asked: permits,
                limit,
            };
        }
        let retry_after = self.bucket.wait_for(self.needed(permits));
        Refusal::RateLimited { retry_after }
    }

    fn due(&self, refusal: Refusal) -> Option<Instant> {
        match refusal {
            Refusal::RateLimited { retry_after } => {
                Some(self.bucket.at().saturating_add(retry_after))
            }
            _ => None,
        }
    }
}

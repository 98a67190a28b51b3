//! What the keys of a part have in common, and what a key's word means.
//!
//! Invariants, of a word in the table:
//! - Without a mark it is the key's number on the common scale. The key has the usual settings,
//!   and nobody waits for it or holds its limiter.
//! - With the mark it says where the key's own limiter is, which then knows all.
//! - It is marked, and the scale is changed, only by one who keeps all others out.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

use crate::error::Refusal;
use crate::rate_limit::RateLimiter;
use crate::rate_limit::bucket::Bucket;
use crate::rate_limit::builder::Limits;
use crate::rate_limit::scale::Scale;
use crate::rate_limit::shared::Shared;
use crate::rate_limit::state::State;
use crate::rate_limit::word::{Latest, Word};
use crate::time::Instant;

/// A number on a scale is below.
const OWN: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Common {
    limits: Limits,
    /// None where no number can tell a bucket: then each key has a limiter of its own.
    scale: Option<Scale>,
    /// Told by any of the keys.
    latest: Latest,
    own: Slab<Arc<Shared>>,
}

/// What comes of a try to take.
#[derive(Debug)]
pub(super) enum Answer {
    Taken,
    Refused(Refusal),
    /// It is for the key's own limiter to say, which may wake others.
    Ask(Arc<Shared>),
}

pub(super) fn limited(retry_after: Duration) -> Refusal {
    Refusal::RateLimited { retry_after }
}

impl Common {
    /// In force from `now` on.
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            scale: scale(limits, now),
            latest: Latest::new(now),
            own: Slab::new(),
        }
    }

    /// Takes permits of a key. `None`: not without changing more than its word.
    #[inline(always)]
    pub(super) fn try_take(&self, word: &Word, permits: u32, now: Instant) -> Option<Answer> {
        let Some(scale) = &self.scale else {
            return self.try_take_of_own(word, permits, now);
        };
        match word.try_take(permits, (now, &self.latest), scale, |word| word & OWN == 0) {
            Some(Ok(())) => Some(Answer::Taken),
            Some(Err(missing)) => Some(Answer::Refused(limited(scale.time_for(missing)))),
            None => self.try_take_of_own(word, permits, now),
        }
    }

    #[cold]
    fn try_take_of_own(&self, word: &Word, permits: u32, now: Instant) -> Option<Answer> {
        let limit = self.limits.burst;
        let Some(own) = self.own(word) else {
            let too_large = Answer::Refused(Refusal::too_large(permits, limit));
            return (permits > limit).then_some(too_large);
        };
        Some(match own.door.try_take(permits, now) {
            Some(Ok(())) => Answer::Taken,
            Some(Err(retry_after)) => Answer::Refused(limited(retry_after)),
            None => Answer::Ask(Arc::clone(own)),
        })
    }

    /// The latest time there is, which is told now. Begins a new scale for all where the old
    /// one ends.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        words: impl FnOnce(&mut dyn FnMut(&Word)),
    ) -> Instant {
        self.latest.tell_exactly(now);
        if self.scale.is_some_and(|scale| scale.end() < now) {
            self.set_limits(self.limits, words);
        }
        self.latest.get()
    }

    /// The word of a key whose bucket is full.
    pub(super) fn fresh(&mut self) -> Word {
        let word = Word::new(0);
        self.put(&word, self.full());
        word
    }

    /// The key's own limiter, from now on.
    pub(super) fn make_own(&mut self, word: &Word) -> Arc<Shared> {
        if let Some(own) = self.own(word) {
            return Arc::clone(own);
        }
        self.put_own(word, self.bucket(word))
    }

    /// The handle of a key's own limiter, if it has one.
    pub(super) fn known_limiter(&self, word: &Word) -> Option<RateLimiter> {
        self.own(word).map(|own| self.limiter(Arc::clone(own)))
    }

    pub(super) fn limiter(&self, own: Arc<Shared>) -> RateLimiter {
        self.limits.handle(own)
    }

    /// Since when the key equals a fresh one, or from when on; `None` while someone holds its
    /// limiter or it has limits of its own.
    pub(super) fn idle_at(&self, word: &Word) -> Option<Instant> {
        let Some(own) = self.own(word) else {
            return self.scale.map(|scale| scale.full_at(word.number()));
        };
        // The count can only fall meanwhile: the one handle left is the part's, and who
        // wants another one waits for the part's lock. What other holders did to the state
        // is seen through its own lock.
        if Arc::strong_count(own) > 1 {
            return None;
        }
        let idle_at = |state: &mut State<Waker>| {
            let (bucket, limits) = (state.bucket(), &self.limits);
            let is_usual = bucket.rate() == limits.rate && bucket.burst() == limits.burst;
            is_usual.then(|| bucket.full_at())
        };
        // Nobody waits where nobody holds it, so there is nobody to wake.
        own.ask_quietly(idle_at).0
    }

    /// The key was forgotten. With nobody waiting, its limiter has nothing of its users'.
    pub(super) fn forget(&mut self, word: &Word) {
        if word.number() & OWN != 0 {
            self.own.remove(index(word));
        }
    }

    /// Goes over to other limits, with every key that has no limiter of its own.
    pub(super) fn set_limits(&mut self, limits: Limits, words: impl FnOnce(&mut dyn FnMut(&Word))) {
        let now = self.latest.get();
        let mut old = Self::new(limits, now);
        std::mem::swap(self, &mut old);
        self.own = std::mem::take(&mut old.own);
        words(&mut |word| {
            if word.number() & OWN == 0 {
                let mut bucket = old.bucket(word);
                bucket.refill(now);
                bucket.set_rate(limits.rate);
                bucket.set_burst(limits.burst);
                self.put(word, bucket);
            }
        });
    }

    /// Changes the limiters that keys have of their own. Returns those who are to be woken.
    pub(super) fn change_own(&self, change: impl Fn(&mut State<Waker>, &Limits)) -> Vec<Waker> {
        let change = |state: &mut State<Waker>| change(state, &self.limits);
        let owners = self.own.iter();
        let woken = owners.flat_map(|(_, own)| own.ask_quietly(change).1);
        woken.collect()
    }

    #[inline]
    fn own(&self, word: &Word) -> Option<&Arc<Shared>> {
        let is_marked = word.number() & OWN != 0;
        is_marked.then(|| &self.own[index(word)])
    }

    fn put(&mut self, word: &Word, bucket: Bucket) {
        match self.scale.and_then(|scale| scale.number(&bucket)) {
            Some(number) => word.set(number),
            None => drop(self.put_own(word, bucket)),
        }
    }

    fn put_own(&mut self, word: &Word, bucket: Bucket) -> Arc<Shared> {
        let own = Arc::new(Shared::new(bucket));
        let index = self.own.insert(Arc::clone(&own));
        word.set(OWN | index as u64);
        own
    }

    fn full(&self) -> Bucket {
        Bucket::new(self.limits.rate, self.limits.burst, self.latest.get())
    }

    fn bucket(&self, word: &Word) -> Bucket {
        let mut bucket = self.full();
        if let Some(scale) = &self.scale {
            scale.bring_up(&mut bucket, word.number(), self.latest.get());
        }
        bucket
    }
}

fn scale(limits: Limits, now: Instant) -> Option<Scale> {
    Scale::new(&Bucket::new(limits.rate, limits.burst, now), 0)
}

fn index(word: &Word) -> usize {
    // It was a usize when it was put there.
    usize::try_from(word.number() & !OWN).unwrap_or(usize::MAX)
}

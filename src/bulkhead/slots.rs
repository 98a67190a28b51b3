//! The slots in one word, for those who need not wait: one atomic operation in, one out.
//!
//! While someone waits, the word carries a mark. Then nobody takes a slot past the queue, and
//! whoever gives slots back goes on to hand them out. All of it stands in one word, so that
//! the order of its changes decides: a release that does not see the mark comes before it,
//! and whoever set it then sees the slots that were released.
//!
//! The limit stands beside the word, and a change of it changes the word as well: whoever
//! judged by the old limit then cannot exchange the word any more, and judges anew.

#[cfg(all(test, mainstay_loom))]
mod loom;

use super::state::Place;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Set while the queue is not empty. The slots in use are the 32 bits below.
const QUEUED: u64 = 1 << 32;

/// Added at each change of the limit: the 31 bits on top count them. They may wrap, as
/// nobody sleeps between a look at the word and its exchange for two thousand million
/// changes.
const EPOCH: u64 = 1 << 33;

#[derive(Debug)]
pub(super) struct Slots {
    word: AtomicU64,
    limit: AtomicU32,
}

impl Slots {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            word: AtomicU64::new(0),
            limit: AtomicU32::new(limit),
        }
    }

    pub(super) fn limit(&self) -> u32 {
        // Relaxed: where it decides, it is read after the word; see `take`.
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: u32) {
        // Relaxed: made visible by the change of the word below.
        self.limit.store(limit, Ordering::Relaxed);
        // Release: pairs with the Acquire of `take`. Who sees this epoch sees this limit, or
        // a later one.
        self.word.fetch_add(EPOCH, Ordering::Release);
    }

    pub(super) fn in_use(&self) -> u32 {
        in_use(self.word.load(Ordering::Relaxed))
    }

    /// Takes slots if they are free and nobody waits.
    #[inline]
    pub(super) fn try_take(&self, weight: u32) -> Place {
        if self.take(weight, |word| word & QUEUED == 0) {
            return Place::Admitted;
        }
        let limit = self.limit();
        if weight > limit {
            Place::TooLarge { limit }
        } else {
            Place::Full
        }
    }

    /// Takes slots for the head of the queue; only under its lock.
    pub(super) fn take_for_head(&self, weight: u32) -> bool {
        self.take(weight, |_| true)
    }

    #[inline]
    fn take(&self, weight: u32, open: impl Fn(u64) -> bool) -> bool {
        // The limit is read after the word, and each time that the word is: the limit of the
        // word's epoch, or a later one. If it is older than the word that is exchanged, the
        // exchange fails.
        let fits = |word| {
            let sum = in_use(word).checked_add(weight);
            let there = weight == 0 || sum.is_some_and(|sum| sum <= self.limit());
            open(word) && there
        };
        // Acquire, on success: pairs with the Release of `give_back`, so that whoever takes a
        // slot sees what its last holder did. Acquire, for each reading of the word: pairs
        // with the Release of `set_limit`. Between the two there are only changes in place,
        // which carry on what was released before them.
        self.word
            .fetch_update(Ordering::Acquire, Ordering::Acquire, |word| {
                fits(word).then(|| word + u64::from(weight))
            })
            .is_ok()
    }

    /// Gives slots back; `true` when someone waits for them.
    #[inline]
    pub(super) fn give_back(&self, weight: u32) -> bool {
        // Release: pairs with the Acquire of `take`.
        let before = self.word.fetch_sub(u64::from(weight), Ordering::Release);
        before & QUEUED != 0
    }

    /// Says that someone waits; only under the queue's lock.
    pub(super) fn mark_queued(&self) {
        self.word.fetch_or(QUEUED, Ordering::Relaxed);
    }

    /// Says that nobody waits any more; only under the queue's lock.
    pub(super) fn mark_empty(&self) {
        self.word.fetch_and(!QUEUED, Ordering::Relaxed);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is meant"
)]
fn in_use(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_a_slot_past_those_who_wait() {
        let slots = Slots::new(2);
        assert_eq!(slots.try_take(1), Place::Admitted);
        slots.mark_queued();
        assert_eq!((slots.in_use(), slots.try_take(1)), (1, Place::Full));
        assert!(slots.take_for_head(1));
        assert!(slots.give_back(1), "someone waits");
        slots.mark_empty();
        assert!(!slots.give_back(1));
        assert_eq!((slots.in_use(), slots.try_take(2)), (0, Place::Admitted));
    }

    #[test]
    fn a_change_of_the_limit_changes_the_word_and_nothing_in_it() {
        let slots = Slots::new(2);
        assert_eq!(slots.try_take(1), Place::Admitted);
        let word = || slots.word.load(Ordering::Relaxed);
        let before = word();
        slots.set_limit(2);
        assert_ne!(word(), before, "who judged by the old limit judges anew");
        assert_eq!((slots.in_use(), slots.try_take(1)), (1, Place::Admitted));
    }

    #[test]
    fn a_limit_holds_from_its_change_on() {
        let slots = Slots::new(2);
        assert_eq!(slots.try_take(3), Place::TooLarge { limit: 2 });
        slots.set_limit(3);
        assert_eq!((slots.limit(), slots.in_use()), (3, 0));
        assert_eq!(slots.try_take(3), Place::Admitted);
        slots.set_limit(1);
        assert_eq!((slots.in_use(), slots.try_take(0)), (3, Place::Admitted));
        assert_eq!(slots.try_take(1), Place::Full);
    }
}

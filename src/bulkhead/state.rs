//! Who is inside, who waits: first come, first served.
//!
//! Invariants:
//! - The slots in use are the sum of the weights admitted and not yet given back.
//! - Nobody is admitted past someone who waits.
//! - Whoever waits could not be admitted when the lock was last released: everything that
//!   makes room also hands it out.
//! - A key that is not in the queue any more was admitted.

#[cfg(all(test, mainstay_loom))]
mod loom;

use super::slots::Slots;
use crate::sync::{CacheLine, Key, Lock, WaitList};

#[derive(Debug)]
pub(super) struct State<W> {
    /// Apart from the settings, which all calls read and none writes.
    slots: CacheLine<Slots>,
    max_queue: usize,
    queue: Lock<WaitList<Waiter<W>>>,
}

#[derive(Debug)]
struct Waiter<W> {
    weight: u32,
    /// Taken by whoever wakes it.
    waker: Option<W>,
}

/// Where someone stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Admitted,
    Queued(Key),
    /// Neither free slots nor room in the queue.
    Full,
    /// It can never be admitted, as things are.
    TooLarge {
        limit: u32,
    },
}

/// Those to be woken; the lock is free by then.
pub(super) type Wakers<W> = Vec<W>;

impl<W> State<W> {
    pub(super) fn new(limit: u32, max_queue: usize) -> Self {
        Self {
            slots: CacheLine::new(Slots::new(limit)),
            max_queue,
            queue: Lock::new(WaitList::new()),
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.slots.limit()
    }

    pub(super) fn in_use(&self) -> u32 {
        self.slots.in_use()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.lock().len()
    }

    pub(super) fn has_room_to_wait(&self) -> bool {
        self.queued() < self.max_queue
    }

    /// Admits at once or not at all.
    #[inline]
    pub(super) fn try_enter(&self, weight: u32) -> Place {
        match self.slots.try_take(weight) {
            Place::Full => self.try_enter_marked(weight),
            place => place,
        }
    }

    /// The mark may have been that of one who did not come to wait in the end.
    #[cold]
    fn try_enter_marked(&self, weight: u32) -> Place {
        let queue = self.queue.lock();
        if queue.is_empty() && self.slots.take_for_head(weight) {
            Place::Admitted
        } else {
            Place::Full
        }
    }

    /// Admits at once, or lets wait where there is room; only then `waker` is taken.
    pub(super) fn enter(&self, weight: u32, waker: &mut Option<W>) -> Place {
        let mut queue = self.queue.lock();
        self.slots.mark_queued();
        let place = self.enter_marked(&mut queue, weight, waker);
        self.unmark(&queue);
        place
    }

    /// The mark keeps newcomers out, and sends everyone who gives slots back to the lock: so
    /// what does not fit now is looked at again when there is room.
    fn enter_marked(
        &self,
        queue: &mut WaitList<Waiter<W>>,
        weight: u32,
        waker: &mut Option<W>,
    ) -> Place {
        let limit = self.limit();
        if weight > limit {
            Place::TooLarge { limit }
        } else if queue.is_empty() && self.slots.take_for_head(weight) {
            Place::Admitted
        } else if queue.len() < self.max_queue {
            let waker = waker.take();
            Place::Queued(queue.push_back(Waiter { weight, waker }))
        } else {
            Place::Full
        }
    }

    /// Where someone stands who waits. While it waits on, `waker` is exchanged for the one
    /// it gave before.
    pub(super) fn check(&self, key: Key, waker: &mut Option<W>) -> Place {
        let mut queue = self.queue.lock();
        let limit = self.limit();
        match queue.get_mut(key) {
            None => Place::Admitted,
            Some(waiter) if waiter.weight > limit => Place::TooLarge { limit },
            Some(waiter) => {
                std::mem::swap(&mut waiter.waker, waker);
                Place::Queued(key)
            }
        }
    }

    /// Gives up a place in the queue. `None` says that it had been admitted already.
    pub(super) fn leave(&self, key: Key) -> Option<Wakers<W>> {
        let mut queue = self.queue.lock();
        let left = queue.remove(key)?;
        let admitted = self.admit(&mut queue);
        drop(queue);
        drop(left); // its waker is foreign code
        Some(admitted)
    }

    #[inline]
    pub(super) fn release(&self, weight: u32) -> Wakers<W> {
        if self.slots.give_back(weight) {
            self.hand_out()
        } else {
            Wakers::new()
        }
    }

    /// Out of the way of those who meet nobody waiting.
    #[cold]
    fn hand_out(&self) -> Wakers<W> {
        self.admit(&mut self.queue.lock())
    }

    /// Changes the limit. What is inside stays inside, even if it is more than the new one.
    ///
    /// Returns those to be woken: the admitted, and everyone who has become too large to be
    /// admitted ever (they are to look at their place).
    pub(super) fn resize(&self, limit: u32) -> Wakers<W> {
        let mut queue = self.queue.lock();
        self.slots.set_limit(limit);
        let too_large = queue.values_mut().filter(|w| w.weight > limit);
        let mut wake: Vec<W> = too_large.filter_map(|w| w.waker.take()).collect();
        wake.extend(self.admit(&mut queue));
        wake
    }

    /// Admits from the head of the queue while there is room.
    fn admit(&self, queue: &mut WaitList<Waiter<W>>) -> Wakers<W> {
        let mut admitted = Wakers::new();
        while let Some(key) = queue.front() {
            let weight = queue.get_mut(key).map_or(0, |waiter| waiter.weight);
            if !self.slots.take_for_head(weight) {
                break;
            }
            admitted.extend(queue.remove(key).and_then(|waiter| waiter.waker));
        }
        self.unmark(queue);
        admitted
    }

    fn unmark(&self, queue: &WaitList<Waiter<W>>) {
        if queue.is_empty() {
            self.slots.mark_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn enter(state: &State<&'static str>, weight: u32, name: &'static str) -> Place {
        state.enter(weight, &mut Some(name))
    }

    fn queued(place: &Place) -> Key {
        match place {
            Place::Queued(key) => *key,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn admits_up_to_the_limit_then_queues_then_refuses() {
        let state = State::new(2, 1);
        assert_eq!(enter(&state, 1, "a"), Place::Admitted);
        assert_eq!(enter(&state, 1, "b"), Place::Admitted);
        queued(&enter(&state, 1, "c"));
        assert_eq!(enter(&state, 1, "d"), Place::Full);
        assert_eq!(state.release(1), ["c"]);
        assert_eq!((state.in_use(), state.queued()), (2, 0));
    }

    #[test]
    fn a_newcomer_never_passes_one_who_waits() {
        let state = State::new(3, 9);
        enter(&state, 2, "a");
        queued(&enter(&state, 2, "big"));
        queued(&enter(&state, 1, "small"));
        assert_eq!(state.try_enter(1), Place::Full);
        assert_eq!(state.release(2), ["big", "small"]);
    }

    /// Trap 28.
    #[test]
    fn a_small_waiter_runs_at_once_when_the_big_one_ahead_gives_up() {
        let state = State::new(2, 9);
        enter(&state, 1, "a");
        let big = queued(&enter(&state, 2, "big"));
        queued(&enter(&state, 1, "small"));
        let admitted = state.leave(big).unwrap();
        assert_eq!(admitted, ["small"]);
    }

    /// One who comes to wait marks the queue before it looks whether it has to: another one
    /// who meets the mark then is not refused beside free slots.
    #[test]
    fn the_mark_alone_refuses_nobody() {
        let state = State::<&str>::new(2, 9);
        state.slots.mark_queued();
        assert_eq!(state.try_enter(1), Place::Admitted);
        assert_eq!(state.try_enter(1), Place::Admitted);
        assert_eq!(state.try_enter(1), Place::Full);
    }

    #[test]
    fn when_the_last_who_waits_is_in_or_has_gone_newcomers_take_the_short_way() {
        let state = State::new(2, 9);
        assert_eq!(state.slots.try_take(1), Place::Admitted);
        for leaves in [false, true] {
            let last = queued(&enter(&state, 2, "last"));
            assert_eq!(state.slots.try_take(1), Place::Full);
            if leaves {
                assert!(state.leave(last).is_some());
            } else {
                assert_eq!(state.release(1), ["last"]);
                assert!(state.release(1).is_empty());
            }
            assert_eq!(state.slots.try_take(1), Place::Admitted);
            assert!(state.release(1).is_empty());
        }
    }

    #[test]
    fn leaving_after_admission_is_told_apart() {
        let state = State::new(1, 9);
        enter(&state, 1, "a");
        let b = queued(&enter(&state, 1, "b"));
        assert_eq!(state.check(b, &mut None), Place::Queued(b));
        state.release(1);
        assert_eq!(state.check(b, &mut None), Place::Admitted);
        assert!(state.leave(b).is_none());
        assert_eq!(state.in_use(), 1);
    }

    #[test]
    fn a_lower_limit_lets_the_inside_finish_and_refuses_what_never_fits() {
        let state = State::new(4, 9);
        enter(&state, 4, "a");
        let big = queued(&enter(&state, 3, "big"));
        assert_eq!(state.resize(2), ["big"]);
        assert_eq!(state.check(big, &mut None), Place::TooLarge { limit: 2 });
        assert_eq!(state.in_use(), 4);
        state.leave(big);
        assert_eq!(state.try_enter(1), Place::Full);
        state.release(4);
        assert_eq!(state.try_enter(1), Place::Admitted);
    }

    #[test]
    fn a_higher_limit_admits_those_who_wait() {
        let state = State::new(1, 9);
        enter(&state, 1, "a");
        queued(&enter(&state, 1, "b"));
        queued(&enter(&state, 1, "c"));
        assert_eq!(state.resize(u32::MAX), ["b", "c"]);
    }

    /// A slow, obvious reference: a queue of names and a sum.
    #[derive(Default)]
    struct Model {
        limit: u32,
        inside: Vec<(usize, u32)>,
        waiting: VecDeque<(usize, u32)>,
    }

    impl Model {
        fn in_use(&self) -> u64 {
            self.inside.iter().map(|inside| u64::from(inside.1)).sum()
        }

        fn fits(&self, weight: u32) -> bool {
            weight == 0 || self.in_use() + u64::from(weight) <= self.limit.into()
        }

        /// What becomes of one who comes; `None` where it waits, if there is room to.
        fn come(&mut self, name: usize, weight: u32) -> Option<Place> {
            let limit = self.limit;
            if weight > limit {
                Some(Place::TooLarge { limit })
            } else if self.waiting.is_empty() && self.fits(weight) {
                self.inside.push((name, weight));
                Some(Place::Admitted)
            } else {
                None
            }
        }

        /// Those who get in.
        fn settle(&mut self) -> Vec<usize> {
            let mut admitted = Vec::new();
            while let Some((name, weight)) = self.waiting.pop_front() {
                if !self.fits(weight) {
                    self.waiting.push_front((name, weight));
                    break;
                }
                self.inside.push((name, weight));
                admitted.push(name);
            }
            admitted
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Enter(u32),
        Try(u32),
        Release(usize),
        Leave(usize),
        Resize(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        let weight = prop_oneof![16 => 0..5u32, 1 => (u32::MAX - 2)..=u32::MAX];
        (0..16u8, weight, any::<usize>()).prop_map(|(kind, weight, at)| match kind {
            0..6 => Op::Enter(weight),
            6..8 => Op::Try(weight),
            8..13 => Op::Release(at),
            13..15 => Op::Leave(at),
            _ => Op::Resize(weight),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("bulkhead"), ..ProptestConfig::default() })]
        #[test]
        fn behaves_like_the_slow_model(
            max_queue in 0..5usize,
            ops in prop::collection::vec(op(), 0..60),
        ) {
            let state = State::new(4, max_queue);
            let mut model = Model { limit: 4, ..Model::default() };
            let mut keys = std::collections::HashMap::<usize, Key>::new();
            for (name, op) in ops.into_iter().enumerate() {
                let mut woken = Vec::new();
                match op {
                    Op::Enter(weight) => {
                        let entry = state.enter(weight, &mut Some(name));
                        let expected = model.come(name, weight);
                        if expected.is_none() && model.waiting.len() < max_queue {
                            model.waiting.push_back((name, weight));
                            keys.insert(name, queued(&entry));
                        } else {
                            prop_assert_eq!(entry, expected.unwrap_or(Place::Full));
                        }
                    }
                    Op::Try(weight) => {
                        let expected = model.come(name, weight).unwrap_or(Place::Full);
                        prop_assert_eq!(state.try_enter(weight), expected);
                    }
                    Op::Release(at) if !model.inside.is_empty() => {
                        let (_, weight) = model.inside.swap_remove(at % model.inside.len());
                        woken.extend(state.release(weight));
                    }
                    Op::Leave(at) if !model.waiting.is_empty() => {
                        let (name, _) = model.waiting.remove(at % model.waiting.len()).unwrap();
                        woken.extend(state.leave(keys[&name]).unwrap());
                    }
                    Op::Resize(limit) => {
                        woken.extend(state.resize(limit));
                        model.limit = limit;
                        // Who has become too large is told so, looks, and leaves.
                        let too_large = |waiter: &&(usize, u32)| waiter.1 > limit;
                        for (name, _) in model.waiting.iter().filter(too_large) {
                            prop_assert!(woken.contains(name));
                            woken.retain(|other| other != name);
                            let place = state.check(keys[name], &mut None);
                            prop_assert_eq!(place, Place::TooLarge { limit });
                            woken.extend(state.leave(keys[name]).unwrap());
                        }
                        model.waiting.retain(|waiter| waiter.1 <= limit);
                    }
                    Op::Release(_) | Op::Leave(_) => {}
                }
                let admitted = model.settle();
                prop_assert_eq!(woken, admitted, "those who get in are woken, in order");
                prop_assert_eq!(u64::from(state.in_use()), model.in_use());
                prop_assert_eq!(state.queued(), model.waiting.len());
                prop_assert_eq!(state.has_room_to_wait(), model.waiting.len() < max_queue);
                for (name, key) in &keys {
                    let waits = model.waiting.iter().any(|waiter| waiter.0 == *name);
                    let waker = &mut Some(*name);
                    prop_assert_eq!(state.check(*key, waker) == Place::Queued(*key), waits);
                    prop_assert_eq!(*waker, Some(*name), "the waker that it gave before");
                }
            }
        }
    }
}
//
//

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
        inside: Vec<(usize, u32)>,
        waiting: VecDeque<(usize, u32)>,
    }

    impl Model {
        fn settle(&mut self, limit: u32) {
            while let Some(&(name, weight)) = self.waiting.front() {
                let in_use: u32 = self.inside.iter().map(|inside| inside.1).sum();
                if in_use + weight > limit {
                    break;
                }
                self.waiting.pop_front();
                self.inside.push((name, weight));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]
        #[test]
        fn behaves_like_the_slow_model(
            ops in prop::collection::vec((0..5u8, 1..5u32, any::<prop::sample::Index>()), 0..120),
        ) {
            let (mut limit, max_queue) = (4, 6);
            let state = State::new(limit, max_queue);
            let mut model = Model::default();
            let mut keys = std::collections::HashMap::new();
            for (name, (op, weight, at)) in ops.into_iter().enumerate() {
                match op {
                    0 | 1 => {
                        let entry = state.enter(weight, &mut Some(name));
                        if weight > limit {
                            prop_assert_eq!(entry, Place::TooLarge { limit });
                        } else if model.waiting.len() >= max_queue {
                            prop_assert_eq!(entry, Place::Full);
                        } else {
                            model.waiting.push_back((name, weight));
                            model.settle(limit);
                            match entry {
                                Place::Queued(key) => { keys.insert(name, key); }
                                entry => prop_assert_eq!(entry, Place::Admitted),
                            }
                        }
                    }
                    2 if !model.inside.is_empty() => {
                        let (_, weight) = model.inside.swap_remove(at.index(model.inside.len()));
                        state.release(weight);
                        model.settle(limit);
                    }
                    3 if !model.waiting.is_empty() => {
                        let (name, _) = model.waiting.remove(at.index(model.waiting.len())).unwrap();
                        prop_assert!(state.leave(keys[&name]).is_some());
                        model.settle(limit);
                    }
                    4 => {
                        limit = weight + 1;
                        state.resize(limit);
                        model.waiting.retain(|waiter| {
                            let keep = waiter.1 <= limit;
                            if !keep { state.leave(keys[&waiter.0]); }
                            keep
                        });
                        model.settle(limit);
                    }
                    _ => {}
                }
                let in_use: u32 = model.inside.iter().map(|inside| inside.1).sum();
                prop_assert_eq!(state.in_use(), in_use);
                prop_assert_eq!(state.queued(), model.waiting.len());
                for (name, key) in &keys {
                    let waits = model.waiting.iter().any(|waiter| waiter.0 == *name);
                    prop_assert_eq!(state.check(*key, &mut None) == Place::Queued(*key), waits);
                }
            }
        }
    }
}
//
//

//! A first-in first-out list from whose middle an entry can be taken at no extra cost.
//!
//! Every wait of the crate that must be fair stands in one of these: a waiter that goes
//! away (cancelled, timed out) leaves at once, in O(1), and those behind it move up.

use slab::Slab;

/// Names an entry until it is removed; a key of a removed entry names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    slot: usize,
    /// Tells apart the entries that use the same slot one after another.
    serial: u64,
}

#[derive(Debug)]
struct Node<T> {
    serial: u64,
    before: Option<usize>,
    behind: Option<usize>,
    value: T,
}

/// The list; see the module's text.
#[derive(Debug)]
pub(crate) struct WaitList<T> {
    nodes: Slab<Node<T>>,
    head: Option<usize>,
    tail: Option<usize>,
    serial: u64,
}

impl<T> Default for WaitList<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> WaitList<T> {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Slab::new(),
            head: None,
            tail: None,
            serial: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(crate) fn push_back(&mut self, value: T) -> Key {
        self.serial += 1;
        let serial = self.serial;
        let slot = self.nodes.insert(Node {
            serial,
            before: self.tail,
            behind: None,
            value,
        });
        match self.tail.replace(slot) {
            Some(tail) => self.nodes[tail].behind = Some(slot),
            None => self.head = Some(slot),
        }
        Key { slot, serial }
    }

    /// The key of the entry that came first.
    pub(crate) fn front(&self) -> Option<Key> {
        let slot = self.head?;
        let serial = self.nodes[slot].serial;
        Some(Key { slot, serial })
    }

    /// The key of the entry that came next after this one.
    pub(crate) fn behind(&self, key: Key) -> Option<Key> {
        let node = self.nodes.get(key.slot)?;
        let slot = node.behind.filter(|_| node.serial == key.serial)?;
        let serial = self.nodes[slot].serial;
        Some(Key { slot, serial })
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let node = self.nodes.get_mut(key.slot)?;
        (node.serial == key.serial).then_some(&mut node.value)
    }

    /// Takes the entry out, wherever it stands.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        if self.nodes.get(key.slot)?.serial != key.serial {
            return None;
        }
        let node = self.nodes.remove(key.slot);
        match node.before {
            Some(before) => self.nodes[before].behind = node.behind,
            None => self.head = node.behind,
        }
        match node.behind {
            Some(behind) => self.nodes[behind].before = node.before,
            None => self.tail = node.before,
        }
        if self.nodes.is_empty() {
            self.release_memory();
        }
        Some(node.value)
    }

    /// The entries, in no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.nodes.iter_mut().map(|(_, node)| &mut node.value)
    }

    /// The entries, first come first.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let mut next = self.head;
        std::iter::from_fn(move || {
            let node = &self.nodes[next?];
            next = node.behind;
            Some(&node.value)
        })
    }

    /// A crowd that has gone must not hold its memory for ever.
    fn release_memory(&mut self) {
        const KEPT: usize = 64;
        if self.nodes.capacity() > KEPT {
            self.nodes = Slab::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stale_key_names_nothing_although_its_slot_is_used_again() {
        let mut list = WaitList::new();
        let old = list.push_back('a');
        assert_eq!(list.remove(old), Some('a'));
        let new = list.push_back('b');
        assert_eq!(old.slot, new.slot);
        assert_eq!(list.remove(old), None);
        assert_eq!(list.get_mut(new), Some(&mut 'b'));
    }

    #[test]
    fn a_crowd_that_has_gone_leaves_no_memory() {
        let mut list = WaitList::new();
        let keys: Vec<_> = (0..1_000).map(|n| list.push_back(n)).collect();
        for key in keys {
            list.remove(key);
        }
        assert_eq!(list.nodes.capacity(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("wait_list"), ..ProptestConfig::default() })]

        #[test]
        fn behaves_like_a_queue_with_holes(ops in prop::collection::vec((0..3u8, any::<prop::sample::Index>()), 0..200)) {
            let mut list = WaitList::new();
            let mut model: VecDeque<(Key, usize)> = VecDeque::new();
            for (n, (op, at)) in ops.into_iter().enumerate() {
                if op < 2 || model.is_empty() {
                    model.push_back((list.push_back(n), n));
                } else {
                    let (key, value) = model.remove(at.index(model.len())).unwrap();
                    prop_assert_eq!(list.remove(key), Some(value));
                    prop_assert_eq!(list.remove(key), None);
                }
                prop_assert_eq!(list.front(), model.front().map(|entry| entry.0));
                prop_assert_eq!(list.len(), model.len());
                prop_assert!(list.iter().eq(model.iter().map(|entry| &entry.1)));
                let keys = std::iter::successors(list.front(), |key| list.behind(*key));
                prop_assert!(keys.eq(model.iter().map(|entry| entry.0)));
            }
        }
    }
}

//! Outcomes that came out of order, until their turn. Pure.

use std::collections::VecDeque;

/// Gives back in the order of their numbers what was put in in any order.
///
/// Invariant: `waiting[k]` belongs to the number `next + k`, and what is there was put in
/// and not taken.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    next: usize,
    waiting: VecDeque<Option<T>>,
}

impl<T> Reorder<T> {
    pub(super) const fn new() -> Self {
        Self {
            next: 0,
            waiting: VecDeque::new(),
        }
    }

    /// The number whose turn it is.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    pub(super) fn put(&mut self, number: usize, value: T) {
        let Some(at) = number.checked_sub(self.next) else {
            return; // each number comes once, so this is none that was taken
        };
        if at >= self.waiting.len() {
            self.waiting.resize_with(at + 1, || None);
        }
        self.waiting[at] = Some(value);
    }

    /// Whether the one whose turn it is has come.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.waiting.front(), Some(Some(_)))
    }

    pub(super) fn take(&mut self) -> Option<T> {
        let value = self.waiting.front_mut()?.take()?;
        self.waiting.pop_front();
        self.next += 1;
        Some(value)
    }
}

//! Outcomes that came out of order, until their turn. Pure.

use std::collections::VecDeque;
use std::mem;

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

    /// Whether it is the turn of this number, and of no other after it: then it need not be
    /// put in, and counts as taken.
    #[inline(always)]
    pub(super) fn pass(&mut self, number: usize) -> bool {
        let passes = number == self.next && self.waiting.is_empty();
        self.next += usize::from(passes);
        passes
    }

    /// Puts a value in, and takes out to the end of `done` all whose turn it is.
    #[inline(always)]
    pub(super) fn put_through(&mut self, number: usize, value: T, done: &mut Vec<T>) {
        if self.pass(number) {
            done.push(value);
        } else {
            self.put(number, value);
            self.take_all(done);
        }
    }

    fn take_all(&mut self, done: &mut Vec<T>) {
        done.extend(std::iter::from_fn(|| self.take()));
    }

    /// Takes out all that are left, whether it is their turn or not.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = T> {
        mem::take(&mut self.waiting).into_iter().flatten()
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

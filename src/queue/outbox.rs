//! Outcomes for which nobody holds a ticket, until the stream takes them.
//!
//! Invariant: an item begins only while there is room for its outcome; so the outbox holds
//! at most its bound, the items that ended without having begun, and what tickets have
//! passed on.

use std::collections::VecDeque;
use std::task::Waker;

use super::cell::Settled;

/// What is kept for the stream: items' numbers and outcomes.
pub(super) type Unread<T, E> = VecDeque<(u64, Settled<T, E>)>;

pub(super) struct Outbox<T, E> {
    /// `None`: no stream was asked for, or it has gone.
    bound: Option<usize>,
    taken: bool,
    buffer: Unread<T, E>,
    pub(super) reader: Option<Waker>,
}

impl<T, E> Outbox<T, E> {
    pub(super) const fn new(bound: Option<usize>) -> Self {
        Self {
            bound,
            taken: false,
            buffer: VecDeque::new(),
            reader: None,
        }
    }

    /// Whether the stream can be had; once.
    pub(super) fn open(&mut self) -> bool {
        self.bound.is_some() && !std::mem::replace(&mut self.taken, true)
    }

    /// How many more items may begin beside those that run.
    pub(super) fn room(&self, running: usize) -> usize {
        self.bound.map_or(usize::MAX, |bound| {
            bound.saturating_sub(self.buffer.len().saturating_add(running))
        })
    }

    /// Keeps the outcome, and says who is to be woken; or gives it back, to be dropped.
    pub(super) fn put(
        &mut self,
        id: u64,
        outcome: Settled<T, E>,
    ) -> Result<Option<Waker>, Settled<T, E>> {
        if self.bound.is_none() {
            return Err(outcome);
        }
        self.buffer.push_back((id, outcome));
        Ok(self.reader.take())
    }

    pub(super) fn take(&mut self) -> Option<(u64, Settled<T, E>)> {
        const KEPT: usize = 64;
        let first = self.buffer.pop_front();
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer = VecDeque::new();
        }
        first
    }

    /// Keeps nothing any more. Returns what it held, to be dropped.
    pub(super) fn close(&mut self) -> (Unread<T, E>, Option<Waker>) {
        self.bound = None;
        (std::mem::take(&mut self.buffer), self.reader.take())
    }
}

//! Outcomes for which nobody holds a ticket, until the stream takes them.
//!
//! Invariant: an item begins only while fewer outcomes than the bound are kept. What comes on
//! top (of those that run by then, of those that end unbegun, of tickets that are dropped
//! late) takes up places in the line, so that the kept do not become more and more.

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

    /// Whether items may begin.
    pub(super) fn has_room(&self) -> bool {
        self.bound.is_none_or(|bound| self.buffer.len() < bound)
    }

    /// How many outcomes are kept beyond the bound.
    pub(super) fn excess(&self) -> usize {
        let bound = self.bound.unwrap_or(usize::MAX);
        self.buffer.len().saturating_sub(bound)
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

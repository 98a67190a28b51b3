//! What a queue tells about itself.

use crate::error::Error;

/// What a queue holds at one moment, and how everything ended that it has ever taken in.
///
/// The counts always add up:
/// `accepted == waiting + running + done + failed + timed_out + refused + panicked +
/// cancelled + returned`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSnapshot {
    /// How many items it has taken in.
    pub accepted: u64,
    /// How many wait for a worker.
    pub waiting: usize,
    /// How many are being worked on.
    pub running: usize,
    /// How many ended well.
    pub done: u64,
    /// How many ended with the handler's own error.
    pub failed: u64,
    /// How many were given up by a time limit of the pipeline.
    pub timed_out: u64,
    /// How many were given up because a policy of the pipeline refused.
    pub refused: u64,
    /// How many ended by a panic.
    pub panicked: u64,
    /// How many were cancelled, before they began or while they ran.
    pub cancelled: u64,
    /// How many came back to their owner, unbegun.
    pub returned: u64,
    /// How many worker tasks there are now; none while there is nothing to do.
    pub workers: usize,
    /// How many producers wait for room.
    pub producers: usize,
    /// Whether it takes nothing in any more.
    pub closed: bool,
}

impl QueueSnapshot {
    /// How many items have had their outcome.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.done + self.given_up() + self.failed + self.panicked + self.cancelled + self.returned
    }

    /// How many items a policy of the pipeline gave up: by a time limit, or by a refusal.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.timed_out + self.refused
    }
}

/// What [`shutdown`](super::Queue::shutdown) left behind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueueReport<J> {
    /// The counts at the end.
    pub counts: QueueSnapshot,
    /// The items that had not begun at the deadline, in the order in which they would have.
    pub returned: Vec<J>,
    /// How many items were in the middle of a poll on another thread at the deadline: they
    /// count as cancelled, and are dropped as soon as that poll returns. A handler that
    /// blocks its thread cannot be stopped before.
    pub still_running: usize,
}

/// How an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Failed,
    TimedOut,
    Refused,
    Panicked,
    Cancelled,
    Returned,
}

impl Outcome {
    pub(super) const KINDS: usize = 7;

    pub(super) fn of<T, E>(result: &Result<T, Error<E>>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(Error::Operation { .. }) => Self::Failed,
            Err(Error::TimedOut { .. }) => Self::TimedOut,
            Err(Error::Refused { .. }) => Self::Refused,
            Err(Error::Panicked { .. }) => Self::Panicked,
            Err(Error::Cancelled { .. }) => Self::Cancelled,
        }
    }
}

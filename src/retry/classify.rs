//! What a retry decides about a result, and what it tells of it.

use std::time::Duration;

use crate::classify::Decision;
use crate::error::Error;

/// What to do about a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Hand it to the caller, whether it is good or bad.
    Stop,
    /// Try again after the back-off's next delay.
    Retry,
    /// Try again after exactly this time: the server has named it.
    RetryAfter(Duration),
}

/// A refusal is handed over: an open circuit or a full bulkhead is not hammered.
impl Decision for Verdict {
    const ANSWERED: Self = Self::Stop;
    const FAILED: Self = Self::Retry;
    const REFUSED: Self = Self::Stop;
    /// Whoever refuses is not hammered, whatever came before.
    const REFUSED_LATER: Self = Self::Stop;
}

/// What is about to happen, for a hook before each wait.
#[derive(Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a, T, E> {
    /// The attempt that has ended; 1 is the first.
    pub attempt: u32,
    /// The wait before the next.
    pub delay: Duration,
    /// What the attempt yielded.
    pub result: Result<&'a T, &'a Error<E>>,
}

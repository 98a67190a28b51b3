//! What can be set of a gather.

use std::time::Duration;

use super::slot::Cause;
use crate::error::{Error, Progress};
use crate::time::{self, Instant};

/// How many are in flight at once, unless it is said.
const LIMIT: usize = 64;

/// What is set; the table in the text of [`Gather`](super::Gather) says what is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) limit: usize,
    pub(super) timeout: Duration,
    pub(super) deadline: Duration,
    pub(super) propagate: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: LIMIT,
            timeout: Duration::MAX,
            deadline: Duration::MAX,
            propagate: false,
        }
    }
}

impl Settings {
    /// When the time of an item is up that starts now.
    #[inline]
    pub(super) fn due(&self) -> Instant {
        if self.timeout == Duration::MAX {
            return Instant::NEVER;
        }
        time::now().saturating_add(self.timeout)
    }

    /// The outcome of an item that was ended.
    pub(super) fn cut_by<E>(&self, cause: Cause, progress: Progress<E>) -> Error<E> {
        let error = match cause {
            Cause::Timeout => Error::timed_out(self.timeout),
            Cause::Deadline => Error::timed_out(self.deadline),
            Cause::Stopped => Error::cancelled(),
        };
        error.after(progress)
    }
}

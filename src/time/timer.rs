//! A timer that costs nothing until it is armed, and little then.

use std::task::{Context, Poll};

use super::entry::Entry;
use super::line::Wait;
use super::{Instant, now};

/// A timer that costs nothing until it is armed.
///
/// Sleeping needs a tokio runtime with its timer enabled; without one tokio panics. The timer
/// is served by the runtime in which it was armed, never early, and with tokio's precision of
/// a millisecond; ten seconds late at most where the machine has slept, which the fast clock
/// counts and tokio's does not. When that runtime ends, the task is woken, and the timer armed
/// anew where it is polled then.
///
/// # Threads
///
/// Armed timers wait in one of 64 lists of the process, each behind a lock of its own; a thread
/// always arms at the same one, so threads rarely share any, and a task that has moved takes
/// its timer out where it was put in. For each runtime at a list there is one of tokio's timers,
/// set to the earliest time; it may ring in vain when that one has been disarmed. To arm and to
/// disarm is O(1), allocates nothing in the long run, and takes 32 bytes while it waits; a
/// crowd's memory is given back when the last of it is gone.
#[derive(Debug)]
pub struct Timer {
    /// What it was armed for, or never.
    until: Instant,
    /// None as well when that time has come.
    entry: Option<Entry>,
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer {
    /// A timer that is not armed.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            until: Instant::NEVER,
            entry: None,
        }
    }

    /// Waits until `until`, arming or moving the timer as needed.
    ///
    /// It is ready at once for a time that has come, and never for [`Instant::NEVER`].
    pub fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.until == until && until != Instant::NEVER {
            match self
                .entry
                .as_ref()
                .map_or(Wait::Come, |entry| entry.poll(cx))
            {
                Wait::Pending => return Poll::Pending,
                Wait::Come => {
                    self.entry = None;
                    return Poll::Ready(());
                }
                Wait::Closed => {}
            }
        }
        self.poll_from(now(), until, cx)
    }

    /// As [`poll_until`](Self::poll_until), for one who has just read the clock and has not
    /// armed it for this time yet.
    #[inline]
    pub(crate) fn poll_from(
        &mut self,
        now: Instant,
        until: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if until == Instant::NEVER {
            return Poll::Pending;
        }
        self.disarm();
        if until <= now {
            return Poll::Ready(());
        }
        let (entry, first) = Entry::new(now, until, cx);
        self.until = until;
        let entry = self.entry.insert(entry);
        if first {
            entry.rouse();
        }
        Poll::Pending
    }

    /// What it was armed for last; never, if it is not.
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }

    /// Forgets the time it was armed for.
    #[inline]
    pub fn disarm(&mut self) {
        self.until = Instant::NEVER;
        self.entry = None;
    }
}

//! A limit on how long something may take.
//!
//! The timer is armed when the operation is pending for the first time: an operation that
//! is ready at once reads no clock and touches no timer.

#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::config::ConfigError;
use crate::error::{Error, Progress};
use crate::observe::EventKind;
use crate::operation::{Operation, Outcome, Repeatable, hand_up};
use crate::policy::{CallContext, IntoPolicy, Policy};
use crate::time::{self, Instant, Timer};

/// Cuts an operation short that takes longer than a limit.
///
/// Outside of a retry it limits the whole call, inside of it one attempt. The earliest limit
/// above is the deadline of everything below: no wait that could not end in time is begun.
///
/// [`Duration::MAX`] means never; a zero limit leaves one chance to be ready at once. When
/// the operation is ready in the very poll in which the limit passes, the result wins. The
/// limit counts from the first poll that left the operation pending, and tokio's timer
/// rounds it up to the next millisecond.
///
/// # Threads
///
/// A limit is a number: calls share nothing through it. While one waits, its timer stands in a
/// list of its thread's; see [`Timer`].
///
/// # Errors
///
/// [`Error::TimedOut`] with the limit, the attempts made and the last error below.
///
/// # Cancel safety
///
/// The operation is dropped as soon as the limit passes, and with the call. An operation
/// that never yields (it computes, or blocks its thread) cannot be cut short by any timer:
/// give it to an [`Offload`](crate::offload::Offload). Then the limit holds, and the thread
/// that goes on is counted.
///
/// # Examples
///
/// ```
/// use mainstay::{Error, prelude::*};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let limit = Duration::from_millis(5);
/// let never = std::future::pending::<std::io::Result<()>>();
/// let error = never.timeout(limit).await.unwrap_err();
/// assert!(matches!(error, Error::TimedOut { after, .. } if after == limit));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    limit: Duration,
}

impl Timeout {
    /// Limits the time to `limit`. Every value is allowed.
    #[inline]
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { limit }
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}

impl<O: Operation> Policy<'_, O> for Timeout {
    type Operation = Timed<O>;

    #[inline]
    fn wrap(&self, inner: O) -> Timed<O> {
        Timed::new(self.limit, inner)
    }
}

impl IntoPolicy for Timeout {
    type Policy = Self;

    fn into_policy(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

impl IntoPolicy for Duration {
    type Policy = Timeout;

    fn into_policy(self) -> Result<Timeout, ConfigError> {
        Ok(Timeout::new(self))
    }
}

pin_project! {
    /// An operation with a time limit.
    #[must_use = "an operation does nothing unless polled"]
    pub struct Timed<O> {
        #[pin]
        inner: O,
        // In nanoseconds: half the size of a span. More than it holds is never reached.
        limit: u64,
        // Armed for the deadline once the operation was pending.
        timer: Timer,
    }
}

impl<O> Timed<O> {
    #[inline]
    pub(crate) fn new(limit: Duration, inner: O) -> Self {
        Self {
            inner,
            limit: time::nanos(limit),
            timer: Timer::new(),
        }
    }
}

impl<O: Operation> Operation for Timed<O> {
    type Output = O::Output;
    type Error = O::Error;

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let mut this = self.project();
        let deadline = this.timer.until();
        let is_first = deadline == Instant::NEVER;
        let limited = if is_first {
            call.within_nanos(*this.limit)
        } else {
            call.until(deadline)
        };
        let polled = this.inner.as_mut().poll(&limited, cx);
        if polled.is_ready() {
            return hand_up(polled, |_| {
                if !is_first {
                    this.timer.disarm();
                }
            });
        }
        ready!(if is_first {
            let now = time::now();
            this.timer.poll_from(now, now.after(*this.limit), cx)
        } else {
            this.timer.poll_until(deadline, cx)
        });
        let progress = this.inner.as_mut().cancel();
        this.timer.disarm();
        let limit = Duration::from_nanos(*this.limit);
        call.emit(EventKind::TimedOut { after: limit });
        Poll::Ready(Err(Error::timed_out(limit).after(progress)))
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<O::Error> {
        let this = self.project();
        this.timer.disarm();
        this.inner.cancel()
    }
}

impl<O: Repeatable> Repeatable for Timed<O> {
    fn can_repeat(&self) -> bool {
        self.inner.can_repeat()
    }
}

impl<O> fmt::Debug for Timed<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed")
            .field("limit", &Duration::from_nanos(self.limit))
            .field("timer", &self.timer)
            .finish_non_exhaustive()
    }
}

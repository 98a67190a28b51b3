//! The one error of every stack, flat however high the stack is.

mod boxed;
mod flatten;
mod refusal;
#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

pub use boxed::{BoxError, BoxedError};
pub use refusal::Refusal;

use crate::span::Rounded;

/// Why a call through a policy gave no result.
///
/// It is the same type however many policies are stacked: either the operation's own
/// error, or the reason why the call was cut short or not made. Whatever ended the call,
/// [`attempts`](Self::attempts) says how often the operation was started and
/// [`last`](Self::last) what it answered last.
///
/// `Error<E>` implements [`std::error::Error`] when `E` does, and so converts into any
/// boxed error with `?`. For an `E` that is itself a boxed error, which does not implement
/// that trait, use [`into_boxed`](Self::into_boxed).
///
/// As text it is a line for a log. Spans are rounded there, and exact in the data:
///
/// ```text
/// timed out after 1s (4 attempts; last error: connection refused)
/// timed out after 2s, before it was started
/// circuit breaker is open: try again in 4.9s
/// panicked: index out of bounds
/// cancelled, before it was started
/// ```
///
/// A refusal without a number of attempts has refused the first: nothing was started.
///
/// # Examples
///
/// ```
/// use mainstay::{Error, Refusal};
/// use std::time::Duration;
///
/// fn status(error: &Error<std::io::Error>) -> u16 {
///     match error {
///         Error::Operation { .. } => 502,
///         Error::TimedOut { .. } => 504,
///         Error::Refused { reason: Refusal::RateLimited { .. }, .. } => 429,
///         _ => 503,
///     }
/// }
/// # assert_eq!(status(&Error::timed_out(Duration::from_secs(1))), 504);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<E> {
    /// The operation itself failed, and no policy made it good.
    #[non_exhaustive]
    Operation {
        /// What the operation returned last.
        error: E,
        /// How often it was started.
        attempts: u32,
    },
    /// A time limit passed before there was a result.
    #[non_exhaustive]
    TimedOut {
        /// The limit that passed.
        after: Duration,
        /// How often the operation was started.
        attempts: u32,
        /// The operation's error of an earlier attempt, if there was one.
        last: Option<E>,
    },
    /// A policy did not let the call (or its last attempt) happen.
    #[non_exhaustive]
    Refused {
        /// Who refused, and when to come back.
        reason: Refusal,
        /// How often the operation was started before the refusal.
        attempts: u32,
        /// The operation's error of an earlier attempt, if there was one.
        last: Option<E>,
    },
    /// It panicked, where a panic is kept as an outcome: as one of many, in a task.
    ///
    /// A panic passes through a pipeline; it is never made into this there.
    #[non_exhaustive]
    Panicked {
        /// The text of the panic; empty when it had none.
        message: Box<str>,
        /// How often the operation was started.
        attempts: u32,
        /// The operation's error of an earlier attempt, if there was one.
        last: Option<E>,
    },
    /// It was given up before its end, by whoever owned it: dropped, aborted, never begun.
    #[non_exhaustive]
    Cancelled {
        /// How often the operation was started.
        attempts: u32,
        /// The operation's error of an earlier attempt, if there was one.
        last: Option<E>,
    },
}

/// How far a call came that was cut short: the data that survive a cancellation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<E> {
    /// How often the operation was started.
    pub attempts: u32,
    /// The operation's latest error, if it had one.
    pub last: Option<E>,
}

impl<E> Progress<E> {
    /// So many attempts were started, and this was the operation's latest error.
    #[must_use]
    pub const fn new(attempts: u32, last: Option<E>) -> Self {
        Self { attempts, last }
    }

    /// Nothing was started.
    #[must_use]
    pub fn none() -> Self {
        Self::started(0)
    }

    /// So many attempts were started; none has failed so far.
    #[must_use]
    pub fn started(attempts: u32) -> Self {
        Self::new(attempts, None)
    }
}

impl<E> Error<E> {
    /// The operation's own error, after one attempt.
    #[inline]
    #[must_use]
    pub fn operation(error: E) -> Self {
        Self::Operation { error, attempts: 1 }
    }

    /// A time limit of `after` has passed.
    #[inline]
    #[must_use]
    pub fn timed_out(after: Duration) -> Self {
        Self::TimedOut {
            after,
            attempts: 0,
            last: None,
        }
    }

    /// A policy refused the call.
    #[inline]
    #[must_use]
    pub fn refused(reason: Refusal) -> Self {
        Self::Refused {
            reason,
            attempts: 0,
            last: None,
        }
    }

    /// The operation panicked with this text.
    #[must_use]
    pub fn panicked(message: impl Into<Box<str>>) -> Self {
        Self::Panicked {
            message: message.into(),
            attempts: 1,
            last: None,
        }
    }

    /// The operation was given up before it was started.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::Cancelled {
            attempts: 0,
            last: None,
        }
    }

    /// Adds what came before this error: attempts are summed, and an error of an earlier
    /// attempt is kept unless this one carries its own.
    #[inline]
    #[must_use]
    pub fn after(mut self, earlier: Progress<E>) -> Self {
        match &mut self {
            Self::Operation { attempts, .. } => {
                *attempts = attempts.saturating_add(earlier.attempts);
            }
            Self::TimedOut { attempts, last, .. }
            | Self::Refused { attempts, last, .. }
            | Self::Panicked { attempts, last, .. }
            | Self::Cancelled { attempts, last } => {
                *attempts = attempts.saturating_add(earlier.attempts);
                *last = last.take().or(earlier.last);
            }
        }
        self
    }

    /// How often the operation was started. An `Ok` that a retry did not accept counts as
    /// one, whatever a retry further in has done for it.
    #[inline]
    #[must_use]
    pub fn attempts(&self) -> u32 {
        match self {
            Self::Operation { attempts, .. }
            | Self::TimedOut { attempts, .. }
            | Self::Refused { attempts, .. }
            | Self::Panicked { attempts, .. }
            | Self::Cancelled { attempts, .. } => *attempts,
        }
    }

    /// The operation's latest error, whatever ended the call.
    #[must_use]
    pub fn last(&self) -> Option<&E> {
        match self {
            Self::Operation { error, .. } => Some(error),
            Self::TimedOut { last, .. }
            | Self::Refused { last, .. }
            | Self::Panicked { last, .. }
            | Self::Cancelled { last, .. } => last.as_ref(),
        }
    }

    /// The operation's latest error, by value.
    #[inline]
    #[must_use]
    pub fn into_last(self) -> Option<E> {
        match self {
            Self::Operation { error, .. } => Some(error),
            Self::TimedOut { last, .. }
            | Self::Refused { last, .. }
            | Self::Panicked { last, .. }
            | Self::Cancelled { last, .. } => last,
        }
    }

    /// When to try again, where the policy that refused can tell.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after()
    }

    /// Whether a time limit ended the call.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// Who refused the call, if someone did.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            Self::Operation { .. }
            | Self::TimedOut { .. }
            | Self::Panicked { .. }
            | Self::Cancelled { .. } => None,
        }
    }

    /// Whether a panic ended the call.
    #[must_use]
    pub fn is_panicked(&self) -> bool {
        matches!(self, Self::Panicked { .. })
    }

    /// Whether whoever owned the call gave it up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// Converts the operation's error, wherever it stands.
    #[must_use]
    pub fn map<F>(self, convert: impl FnOnce(E) -> F) -> Error<F> {
        match self {
            Self::Operation { error, attempts } => Error::Operation {
                error: convert(error),
                attempts,
            },
            Self::TimedOut {
                after,
                attempts,
                last,
            } => Error::TimedOut {
                after,
                attempts,
                last: last.map(convert),
            },
            Self::Refused {
                reason,
                attempts,
                last,
            } => Error::Refused {
                reason,
                attempts,
                last: last.map(convert),
            },
            Self::Panicked {
                message,
                attempts,
                last,
            } => Error::Panicked {
                message,
                attempts,
                last: last.map(convert),
            },
            Self::Cancelled { attempts, last } => Error::Cancelled {
                attempts,
                last: last.map(convert),
            },
        }
    }

    /// Boxes the error, also where `E` is already a box.
    ///
    /// The result downcasts to `Error<BoxedError>`, with the operation's error in it.
    #[must_use]
    pub fn into_boxed(self) -> BoxError
    where
        E: Into<BoxError>,
    {
        Box::new(self.map(|error| BoxedError(error.into())))
    }
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Self::operation(error)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation { error, .. } => error.fmt(f)?,
            Self::TimedOut { after, .. } => write!(f, "timed out after {}", Rounded(*after))?,
            Self::Refused { reason, .. } => reason.fmt(f)?,
            Self::Panicked { message, .. } if message.is_empty() => f.write_str("panicked")?,
            Self::Panicked { message, .. } => write!(f, "panicked: {message}")?,
            Self::Cancelled { .. } => f.write_str("cancelled")?,
        }
        match (self, self.attempts(), self.last()) {
            // Each says enough by itself.
            (Self::Operation { .. }, 0 | 1, _)
            | (Self::TimedOut { .. } | Self::Cancelled { .. }, 1, None)
            | (Self::Panicked { .. }, 0 | 1, None)
            | (Self::Refused { .. }, 0, None) => Ok(()),
            (Self::TimedOut { .. } | Self::Cancelled { .. }, 0, None) => {
                f.write_str(", before it was started")
            }
            (Self::Operation { .. }, n, _) | (_, n, None) => write!(f, " ({})", Attempts(n)),
            (_, n, Some(last)) => write!(f, " ({}; last error: {last})", Attempts(n)),
        }
    }
}

/// Their number in words.
struct Attempts(u32);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 attempt"),
            n => write!(f, "{n} attempts"),
        }
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let last: &(dyn StdError + 'static) = self.last()?;
        // The box is no cause of its own: what is in it is, and can be downcast.
        let boxed = last.downcast_ref::<BoxedError>();
        Some(boxed.map_or(last, |boxed| &*boxed.0))
    }
}

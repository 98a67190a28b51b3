//! Why a policy did not let a call happen.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::span::Rounded;

/// Who refused a call, and when to come back.
///
/// Each kind has a function that makes one, for tests of your own and for gates of your own;
/// [`other`](Self::other) is for a gate to which none of the kinds applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The circuit breaker is open.
    #[non_exhaustive]
    CircuitOpen {
        /// Time until it lets a probe through; `None` while an operator holds it open.
        retry_after: Option<Duration>,
    },
    /// The rate limit has no permit in time.
    #[non_exhaustive]
    RateLimited {
        /// Time until the permits asked for would be there.
        retry_after: Duration,
    },
    /// The bulkhead is full: no slot came free within the time it was allowed to wait.
    #[non_exhaustive]
    BulkheadFull {
        /// How long the call waited; zero when it was refused at once.
        waited: Duration,
    },
    /// More permits were asked for than the policy ever hands out at once.
    #[non_exhaustive]
    TooLarge {
        /// The permits asked for.
        asked: u32,
        /// The most that can be had at once.
        limit: u32,
    },
    /// The queue has no room: none came free within the time it was allowed to wait.
    #[non_exhaustive]
    QueueFull {
        /// How long the item waited; zero when it was refused at once.
        waited: Duration,
    },
    /// Every object of the pool is in use: none came back within the time to wait.
    #[non_exhaustive]
    PoolExhausted {
        /// How long the caller waited; zero when it was refused at once.
        waited: Duration,
    },
    /// A blocking call was made where it would block an async runtime.
    InsideRuntime,
    /// There is no async runtime to work in: none was entered here, or it has shut down.
    NoRuntime,
    /// What was to do the work is shutting down.
    ShutDown,
    /// A gate that is not of this crate has refused.
    #[non_exhaustive]
    Other {
        /// Why: it completes the line "refused: ...".
        reason: &'static str,
    },
}

impl Refusal {
    /// An open circuit; `None` is one that is held open.
    #[must_use]
    pub const fn circuit_open(retry_after: Option<Duration>) -> Self {
        Self::CircuitOpen { retry_after }
    }

    /// A rate limit that was reached.
    #[must_use]
    pub const fn rate_limited(retry_after: Duration) -> Self {
        Self::RateLimited { retry_after }
    }

    /// A bulkhead that is full, after the call has `waited` so long.
    #[must_use]
    pub const fn bulkhead_full(waited: Duration) -> Self {
        Self::BulkheadFull { waited }
    }

    /// A queue that is full, after the item has `waited` so long.
    #[must_use]
    pub const fn queue_full(waited: Duration) -> Self {
        Self::QueueFull { waited }
    }

    /// A pool without a free object, after the caller has `waited` so long.
    #[must_use]
    pub const fn pool_exhausted(waited: Duration) -> Self {
        Self::PoolExhausted { waited }
    }

    /// More than there ever is.
    #[must_use]
    pub const fn too_large(asked: u32, limit: u32) -> Self {
        Self::TooLarge { asked, limit }
    }

    /// Any other reason, which completes the line "refused: ...", such as "in maintenance".
    #[must_use]
    pub const fn other(reason: &'static str) -> Self {
        Self::Other { reason }
    }

    /// When to try again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after } => *retry_after,
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::BulkheadFull { .. }
            | Self::TooLarge { .. }
            | Self::QueueFull { .. }
            | Self::PoolExhausted { .. }
            | Self::InsideRuntime
            | Self::NoRuntime
            | Self::ShutDown
            | Self::Other { .. } => None,
        }
    }
}

fn after_a_wait(f: &mut fmt::Formatter<'_>, what: &str, waited: Duration) -> fmt::Result {
    f.write_str(what)?;
    if waited.is_zero() {
        return Ok(());
    }
    write!(f, ": waited {}", Rounded(waited))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CircuitOpen { retry_after: None } => f.write_str("circuit breaker is held open"),
            Self::CircuitOpen {
                retry_after: Some(wait),
            } => write!(
                f,
                "circuit breaker is open: try again in {}",
                Rounded(*wait)
            ),
            Self::RateLimited { retry_after } => {
                write!(
                    f,
                    "rate limit reached: try again in {}",
                    Rounded(*retry_after)
                )
            }
            Self::BulkheadFull { waited } => after_a_wait(f, "bulkhead is full", *waited),
            Self::QueueFull { waited } => after_a_wait(f, "queue is full", *waited),
            Self::PoolExhausted { waited } => after_a_wait(f, "pool is exhausted", *waited),
            Self::TooLarge { asked, limit } => {
                write!(
                    f,
                    "{asked} permits asked for, but at most {limit} can be had"
                )
            }
            Self::InsideRuntime => {
                f.write_str("a blocking call inside of an async runtime: await the async one")
            }
            Self::NoRuntime => f.write_str("no async runtime: call it within a tokio runtime"),
            Self::ShutDown => f.write_str("shutting down"),
            Self::Other { reason } => write!(f, "refused: {reason}"),
        }
    }
}

impl StdError for Refusal {}

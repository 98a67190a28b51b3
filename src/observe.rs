//! The one seam through which a stack tells what it does.
//!
//! A pipeline carries at most one [`Observer`]; when it has none, an event costs one
//! branch. With the feature `tracing` each event is a `tracing` event as well.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use crate::error::Refusal;

/// Told of everything that a pipeline's policies do to a call.
///
/// It is called inside the call's own `poll`, never under a lock, and only when something
/// out of the ordinary happens: a call that succeeds at once makes no event. A panic in it
/// is a panic of the call; no policy's state is harmed.
///
/// Any `Fn(&Event<'_>) + Send + Sync` is an observer.
///
/// # Examples
///
/// ```
/// use mainstay::Pipeline;
/// use mainstay::observe::Event;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let pipeline = Pipeline::builder("search")
///     .observe(|event: &Event<'_>| eprintln!("{event}"))
///     .timeout(Duration::from_secs(1))
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub trait Observer: Send + Sync {
    /// Something happened to a call.
    fn observe(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync> Observer for F {
    fn observe(&self, event: &Event<'_>) {
        self(event);
    }
}

/// What happened, in which pipeline, at which attempt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Event<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The attempt of the nearest retry above; 1 is the first.
    pub attempt: u32,
    /// What happened.
    pub kind: EventKind,
}

/// What a policy did to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A gate did not let the call through.
    Refused(Refusal),
    /// A time limit ended the call or attempt.
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// A retry starts another attempt.
    Retrying {
        /// How long it waits first.
        delay: Duration,
    },
    /// A retry gave up although its classifier would have gone on.
    GaveUp(GaveUp),
    /// A fallback took the place of a failed call.
    FellBack,
}

/// Which limit ended a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GaveUp {
    /// All attempts were made.
    Attempts,
    /// The retry's own time is used up.
    Elapsed,
    /// The next wait could not end before the call's deadline.
    Deadline,
    /// The wait that the server asked for is longer than allowed.
    RetryAfter,
    /// The retry budget is empty.
    Budget,
    /// The back-off has no further delay.
    Backoff,
    /// The operation cannot be started again.
    NotRepeatable,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: attempt {}: ", self.pipeline, self.attempt)?;
        match self.kind {
            EventKind::Refused(reason) => write!(f, "refused: {reason}"),
            EventKind::TimedOut { after } => write!(f, "timed out after {after:?}"),
            EventKind::Retrying { delay } => write!(f, "trying again in {delay:?}"),
            EventKind::GaveUp(limit) => write!(f, "gave up: {limit}"),
            EventKind::FellBack => f.write_str("fell back"),
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempts => "all attempts were made",
            Self::Elapsed => "the time for retries is used up",
            Self::Deadline => "the next attempt would come after the deadline",
            Self::RetryAfter => "the server asks for too long a wait",
            Self::Budget => "the retry budget is empty",
            Self::Backoff => "the back-off has no further delay",
            Self::NotRepeatable => "the operation cannot be repeated",
        })
    }
}

/// A pipeline's name and its listener: what an event needs besides itself.
pub(crate) struct Source {
    pub(crate) name: Box<str>,
    pub(crate) observer: Option<Box<dyn Observer>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("observed", &self.observer.is_some())
            .finish()
    }
}

/// Tells the listener, if there is one.
pub(crate) fn emit(source: Option<&Source>, attempt: u32, kind: EventKind) {
    trace(source, attempt, kind);
    if let Some((source, observer)) = source.and_then(|s| Some((s, s.observer.as_ref()?))) {
        observer.observe(&Event {
            pipeline: &source.name,
            attempt,
            kind,
        });
    }
}

#[cfg(feature = "tracing")]
fn trace(source: Option<&Source>, attempt: u32, kind: EventKind) {
    let pipeline = source.map_or("", |source| &*source.name);
    match kind {
        EventKind::Refused(reason) => {
            tracing::warn!(target: "mainstay", pipeline, attempt, %reason, "refused");
        }
        EventKind::TimedOut { after } => {
            tracing::warn!(target: "mainstay", pipeline, attempt, ?after, "timed out");
        }
        EventKind::Retrying { delay } => {
            tracing::info!(target: "mainstay", pipeline, attempt, ?delay, "retrying");
        }
        EventKind::GaveUp(limit) => {
            tracing::warn!(target: "mainstay", pipeline, attempt, %limit, "gave up");
        }
        EventKind::FellBack => {
            tracing::warn!(target: "mainstay", pipeline, attempt, "fell back");
        }
    }
}

#[cfg(not(feature = "tracing"))]
fn trace(_: Option<&Source>, _: u32, _: EventKind) {}

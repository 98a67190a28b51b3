//! The one seam through which a stack tells what it does.
//!
//! A pipeline carries at most one [`Observer`]; when it has none, an event costs one
//! branch.
//!
//! An event carries no error: the observer is of one type for all of a pipeline's calls, and
//! an error is of a type of its own for each operation. What failed is seen by
//! [`RetryBuilder::on_retry`](crate::retry::RetryBuilder::on_retry), by a fallback's closure
//! ([`Fallback::with`](crate::Fallback::with)) and by the caller.
//!
//! # `tracing`
//!
//! With the feature `tracing` each event is a `tracing` event as well, with the target
//! `mainstay`. What happens to single calls is at `DEBUG`: in an outage there is much of it.
//! What to wake somebody for is that a circuit breaker opens.
//!
//! | message | level | fields |
//! |---|---|---|
//! | `refused` | `DEBUG` | `pipeline`, `attempt`, `reason` |
//! | `timed out` | `DEBUG` | `pipeline`, `attempt`, `after` |
//! | `retrying` | `DEBUG` | `pipeline`, `attempt`, `delay` |
//! | `recovered` | `DEBUG` | `pipeline`, `attempt`, `attempts` |
//! | `gave up` | `DEBUG` | `pipeline`, `attempt`, `limit` |
//! | `fell back` | `DEBUG` | `pipeline`, `attempt` |
//! | `circuit breaker opened` | `WARN` | `circuit_breaker`, `from`, `to`, `cause`, `open_for` |
//! | `circuit breaker changed` | `INFO` | `circuit_breaker`, `from`, `to`, `cause` |
//!
//! `pipeline` and `circuit_breaker` are the names given to the builders, empty where none
//! was given; `after`, `delay` and `open_for` are exact. A breaker also opens when it is
//! forced to; then there is no `open_for`.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tracing")]
use crate::circuit_breaker::CircuitState;
use crate::circuit_breaker::StateChange;
use crate::error::Refusal;
use crate::span::Rounded;

/// Told of everything that a pipeline's policies do to a call.
///
/// It is called inside the call's own `poll`, never under a lock, and only when something
/// out of the ordinary happens: a call that succeeds at once makes no event. A panic in it
/// is a panic of the call; no policy's state is harmed.
///
/// Any `Fn(&Event<'_>) + Send + Sync` is an observer. One in an [`Arc`] serves any number of
/// pipelines.
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
///
/// One observer for two pipelines:
///
/// ```
/// use mainstay::Pipeline;
/// use mainstay::observe::{Event, EventKind, Observer};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Default)]
/// struct Refusals(AtomicU64);
///
/// impl Observer for Refusals {
///     fn observe(&self, event: &Event<'_>) {
///         if let EventKind::Refused(_) = event.kind {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let refusals = Arc::new(Refusals::default());
/// let search = Pipeline::builder("search").observe(Arc::clone(&refusals)).bulkhead(8).build()?;
/// let orders = Pipeline::builder("orders").observe(Arc::clone(&refusals)).bulkhead(8).build()?;
/// # let _ = (search, orders); Ok(())
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

/// An [`Observer`], or one in an [`Arc`]: what a pipeline's builder takes.
///
/// `M` tells the two apart and is always inferred. `Arc<T>` cannot be an [`Observer`] itself:
/// every closure is one, and the standard library could make `Arc<T>` a closure.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no observer",
    note = "an observer is an `Observer`, an `Arc` of one, or a closure whose argument is written out: `|event: &Event<'_>| ...`"
)]
pub trait IntoObserver<M> {
    /// The observer, to be shared.
    fn into_observer(self) -> Arc<dyn Observer>;
}

/// Marks an [`Observer`] given by value.
#[derive(Debug)]
pub enum OfObserver {}

/// Marks an [`Observer`] in an [`Arc`].
#[derive(Debug)]
pub enum OfArc {}

impl<T: Observer + 'static> IntoObserver<OfObserver> for T {
    fn into_observer(self) -> Arc<dyn Observer> {
        Arc::new(self)
    }
}

impl<T: Observer + 'static> IntoObserver<OfArc> for Arc<T> {
    fn into_observer(self) -> Arc<dyn Observer> {
        self
    }
}

impl IntoObserver<OfArc> for Arc<dyn Observer> {
    fn into_observer(self) -> Self {
        self
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
    #[non_exhaustive]
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// A retry starts another attempt.
    #[non_exhaustive]
    Retrying {
        /// How long it waits first.
        delay: Duration,
    },
    /// A retry's later attempt succeeded: an `Ok` that is good enough.
    #[non_exhaustive]
    Recovered {
        /// How many attempts of this retry it took, at least 2.
        attempts: u32,
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
            // It says of itself that it is one.
            EventKind::Refused(reason @ Refusal::Other { .. }) => reason.fmt(f),
            EventKind::Refused(reason) => write!(f, "refused: {reason}"),
            EventKind::TimedOut { after } => write!(f, "timed out after {}", Rounded(after)),
            EventKind::Retrying { delay } if delay.is_zero() => f.write_str("trying again at once"),
            EventKind::Retrying { delay } => write!(f, "trying again in {}", Rounded(delay)),
            EventKind::Recovered { attempts } => write!(f, "succeeded after {attempts} attempts"),
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
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("observed", &self.observer.is_some())
            .finish()
    }
}

/// Tells the listener, if there is one: a branch where there is none.
#[inline]
pub(crate) fn emit(source: Option<&Source>, attempt: u32, kind: EventKind) {
    trace(source, attempt, kind);
    if let Some((source, observer)) = source.and_then(|s| Some((s, s.observer.as_ref()?))) {
        tell(&source.name, &**observer, attempt, kind);
    }
}

/// Whether anybody is told of what happens.
#[inline]
pub(crate) fn is_heard(source: Option<&Source>) -> bool {
    TRACES || source.is_some_and(|source| source.observer.is_some())
}

#[cold]
fn tell(pipeline: &str, observer: &dyn Observer, attempt: u32, kind: EventKind) {
    observer.observe(&Event {
        pipeline,
        attempt,
        kind,
    });
}

/// Whether what happens is told to anyone but observers and hooks.
pub(crate) const TRACES: bool = cfg!(feature = "tracing");

#[cfg(feature = "tracing")]
fn trace(source: Option<&Source>, attempt: u32, kind: EventKind) {
    let pipeline = source.map_or("", |source| &*source.name);
    match kind {
        EventKind::Refused(reason) => {
            tracing::debug!(target: "mainstay", pipeline, attempt, %reason, "refused");
        }
        EventKind::TimedOut { after } => {
            tracing::debug!(target: "mainstay", pipeline, attempt, ?after, "timed out");
        }
        EventKind::Retrying { delay } => {
            tracing::debug!(target: "mainstay", pipeline, attempt, ?delay, "retrying");
        }
        EventKind::Recovered { attempts } => {
            tracing::debug!(target: "mainstay", pipeline, attempt, attempts, "recovered");
        }
        EventKind::GaveUp(limit) => {
            tracing::debug!(target: "mainstay", pipeline, attempt, %limit, "gave up");
        }
        EventKind::FellBack => {
            tracing::debug!(target: "mainstay", pipeline, attempt, "fell back");
        }
    }
}

/// A circuit breaker has changed its state. It may stand in several pipelines, and outside
/// of any: no pipeline's listener is told, but the breaker's own hook.
#[cfg(feature = "tracing")]
pub(crate) fn circuit_changed(circuit_breaker: &str, change: &StateChange) {
    let StateChange {
        from,
        to,
        cause,
        open_for,
        ..
    } = *change;
    match to {
        CircuitState::Open | CircuitState::ForcedOpen => tracing::warn!(
            target: "mainstay",
            circuit_breaker,
            %from,
            %to,
            %cause,
            open_for = open_for.map(tracing::field::debug),
            "circuit breaker opened"
        ),
        CircuitState::Closed
        | CircuitState::HalfOpen
        | CircuitState::Disabled
        | CircuitState::MetricsOnly => tracing::info!(
            target: "mainstay",
            circuit_breaker,
            %from,
            %to,
            %cause,
            "circuit breaker changed"
        ),
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn circuit_changed(_: &str, _: &StateChange) {}

#[cfg(not(feature = "tracing"))]
#[inline]
fn trace(_: Option<&Source>, _: u32, _: EventKind) {}

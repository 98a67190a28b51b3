//! Stops calling what fails, for a while, and then looks carefully whether it works again.
//!
//! The decisions are made in `state`, which is told the time, over the counts of `window`.
//! This module drives it: a closed breaker admits by one atomic load (`published`), an open
//! one refuses by two and a look at the clock. A result that decides nothing is counted by
//! one atomic exchange (`inbox`), or not even that. Everything else takes a lock that no
//! user's code ever runs under.

mod batch;
mod builder;
mod classify;
#[cfg(test)]
mod driven;
mod events;
mod inbox;
#[cfg(test)]
mod model;
mod open_times;
mod published;
mod ring;
mod shared;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::sync::Arc;

pub use crate::classify::{By, ByOk, Classify, Failures, If};
pub use crate::policy::End;
pub use builder::CircuitBreakerBuilder;
pub use classify::{Cancelled, CountAs};
pub use events::{Cause, CircuitState, StateChange};
pub use shared::CircuitTicket;
pub use snapshot::CircuitSnapshot;
pub use window::Window;

use crate::error::{Error, Refusal};
use crate::policy::{Admission, CallContext, Gate, Judge, Permit};
use shared::Shared;
use state::State;

/// Refuses calls to what keeps failing, so that it can recover and nobody waits in vain.
///
/// Closed, it counts. When too many calls fail (or are slow) it opens and refuses every
/// call. When the open time is over, the next call makes it half-open: a few probes pass,
/// and by them it closes or opens again.
///
/// A clone is the same breaker. Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `window` | the latest 100 calls | needs no clock, and fits any load |
/// | `failure_rate` | 0.5 | a callee that fails half its calls is better left alone |
/// | `minimum_calls` | 20, or the whole window if that is smaller | with one call in ten failing as usual, half of 20 do by a chance of 7 in a million; half of 10, of 1 in 600 |
/// | `slow_calls` | off | only you know what is slow |
/// | `consecutive_failures` | off | depends on the load: a busy caller sees long rows by chance |
/// | `open_for` | 10 s, constant | a restart takes seconds; a recovery is not missed for long |
/// | `half_open_probes` | 3 | one may be a lucky one; many are a load |
/// | `half_open_limit` | 60 s | longer than a call should take; no lost probe blocks for longer |
/// | `cancelled` | ignored | who hangs up says nothing about the callee |
/// | classifier | own errors and time limits fail; a refusal from below is ignored unless an attempt came before it | what was not called did not fail; a time limit fails also where a queue below took the time, since a callee that never gets ready looks the same |
///
/// A rate counts as reached when it is equal to the setting. A slow call takes *longer*
/// than its limit. Nothing opens on a success that was not slow, also not when it is the
/// one that makes up the minimum.
///
/// # Half-open
///
/// `half_open_probes` calls are let through at once; others are refused meanwhile. The same
/// rates hold over all of the probes (`minimum_calls` does not), and it opens as soon as
/// the probes still out cannot change that; it closes when all have ended otherwise. As
/// many failures in a row as `consecutive_failures`, or all probes if they are fewer, open
/// it too. A probe that is ignored, or cancelled by a rule that ignores it, gives its place
/// back and decides nothing.
///
/// # Operators
///
/// [`force_open`](Self::force_open), [`disable`](Self::disable) and
/// [`metrics_only`](Self::metrics_only) hold until told otherwise;
/// [`reset`](Self::reset) ends each of them.
///
/// # Errors
///
/// [`Refusal::CircuitOpen`], with the time until it becomes half-open; without one where
/// it is held open. While all probes are out it names the time after which another look is
/// worth it: the last open time, or what is left of `half_open_limit` if that is less.
///
/// # Cancel safety
///
/// A call that is dropped counts by the rule `cancelled`. A call that panics has failed. A
/// result counts only if the state has not changed since its call was admitted: what was
/// admitted before the breaker opened says nothing about the time after.
///
/// A time limit around a breaker drops the calls that it ends: `Cancelled::Failure` or
/// `Cancelled::Slow` lets it see them. One further in than the breaker is a failure anyway.
///
/// # Fairness
///
/// A half-open breaker's probes are the first calls that come; nobody waits.
///
/// # Threads
///
/// All clones share one state; nothing is sharded, and every count is exact: the breaker
/// decides by all results that ended before, in one order. A closed breaker takes no lock for
/// a call that decides nothing. Its result is one atomic exchange in a word that stands on
/// cache lines of its own; while a window of calls is full of plain successes, not even that.
/// The lock is taken for failures near a limit; to put what was counted into the window, once
/// in up to 254 calls (14 after a failure) and at each of the 32 steps of a window of time;
/// for probes, orders and snapshots.
///
/// # Algorithm
///
/// The states and the sliding windows are those of M. Nygard, "Release It!" (2007), as
/// resilience4j has worked them out. See [`Window`].
///
/// # Examples
///
/// ```
/// use mainstay::circuit_breaker::{CircuitState, Window};
/// use mainstay::{CircuitBreaker, Refusal, prelude::*};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::builder()
///     .window(Window::calls(10))
///     .failure_rate(0.5)
///     .open_for(Duration::from_secs(5))
///     .build()?;
/// for _ in 0..10 {
///     let down = async { Err::<(), _>("down") };
///     assert!(down.circuit_breaker(&breaker).await.is_err());
/// }
/// assert_eq!(breaker.state(), CircuitState::Open);
/// let refused = async { Ok::<_, &str>("up") }.circuit_breaker(&breaker).await.unwrap_err();
/// assert!(matches!(refused.refusal(), Some(Refusal::CircuitOpen { .. })));
/// # Ok(())
/// # }
/// ```
///
/// In a pipeline, with a view of the same state outside of it:
///
/// ```
/// use mainstay::prelude::*;
/// use std::io::{Error, ErrorKind};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::builder()
///     .on_state_change(|change| eprintln!("{change}"))
///     .build()?;
/// let pipeline = Pipeline::builder("files")
///     .circuit_breaker(breaker.failure_if(|error: &Error| error.kind() != ErrorKind::NotFound))
///     .build()?;
/// let missing = pipeline.call(async || Err::<(), _>(Error::from(ErrorKind::NotFound))).await;
/// assert!(missing.is_err());
/// assert_eq!(breaker.snapshot().successes, 1); // the callee has answered
/// # Ok(())
/// # }
/// ```
pub struct CircuitBreaker<C = Failures> {
    shared: Arc<Shared>,
    classifier: C,
}

impl CircuitBreaker {
    /// A breaker with every default, to be changed.
    pub fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new()
    }
}

impl<C> CircuitBreaker<C> {
    /// The same breaker, for calls whose results count as this closure says.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::circuit_breaker::CountAs;
    /// use mainstay::{CircuitBreaker, Error};
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let breaker = CircuitBreaker::builder().build()?;
    /// let http = breaker.classify(|status: Result<&u16, &Error<std::io::Error>>| match status {
    ///     Ok(500..) => CountAs::Failure,
    ///     Ok(429) => CountAs::Nothing,
    ///     Ok(_) => CountAs::Success,
    ///     Err(_) => CountAs::Failure,
    /// });
    /// # let _ = http; Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn classify<T, E, F>(&self, decide: F) -> CircuitBreaker<By<F>>
    where
        F: Fn(Result<&T, &Error<E>>) -> CountAs,
    {
        self.classifier(By(decide))
    }

    /// The same breaker, for calls whose `Ok` counts as this closure says; errors count as
    /// by default.
    #[must_use]
    pub fn classify_ok<T, F>(&self, decide: F) -> CircuitBreaker<ByOk<F>>
    where
        F: Fn(&T) -> CountAs,
    {
        self.classifier(ByOk(decide))
    }

    /// The same breaker, for calls whose own errors are failures only where this is `true`;
    /// with another error the callee has answered, which is a success.
    #[must_use]
    pub fn failure_if<E, F: Fn(&E) -> bool>(&self, accept: F) -> CircuitBreaker<If<F>> {
        self.classifier(If(accept))
    }

    /// The same breaker, for calls that count by any rule: an implementation of
    /// [`Classify`] for [`CountAs`].
    #[must_use]
    pub fn classifier<D>(&self, classifier: D) -> CircuitBreaker<D> {
        CircuitBreaker {
            shared: Arc::clone(&self.shared),
            classifier,
        }
    }

    /// The name given to the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// The state, by one atomic load. It is open until a call comes after the open time.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.shared.state()
    }

    /// State, counts, rates, and the time until it is half-open.
    #[must_use]
    pub fn snapshot(&self) -> CircuitSnapshot {
        self.shared.snapshot()
    }

    /// Opens it until told otherwise. Calls under way go on and do not count any more.
    pub fn force_open(&self) {
        self.shared.change(State::force_open);
    }

    /// Lets every call pass and counts none until told otherwise.
    pub fn disable(&self) {
        self.shared.change(State::disable);
    }

    /// Lets every call pass and counts it, from an empty window, but never opens until told
    /// otherwise.
    pub fn metrics_only(&self) {
        self.shared.change(State::metrics_only);
    }

    /// Closes it, with an empty window: the end of every other state.
    pub fn reset(&self) {
        self.shared.change(State::reset);
    }

    /// Admits one call outside of any pipeline; settle the permit with how it ended. The
    /// permit borrows the breaker.
    ///
    /// # Errors
    ///
    /// [`Refusal::CircuitOpen`].
    ///
    /// # Cancel safety
    ///
    /// A permit that is dropped is a cancelled call.
    pub fn try_acquire(&self) -> Result<Permit<&Self>, Refusal> {
        let ticket = self.shared.admit()?;
        Ok(Permit::new(self, ticket))
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that can be moved into a task or
    /// a struct: it holds a handle of its own, without the classifier.
    ///
    /// # Errors
    ///
    /// [`Refusal::CircuitOpen`].
    ///
    /// # Cancel safety
    ///
    /// A permit that is dropped is a cancelled call.
    pub fn try_acquire_owned(&self) -> Result<Permit<CircuitBreaker>, Refusal> {
        let ticket = self.shared.admit()?;
        Ok(Permit::new(self.classifier(Failures), ticket))
    }
}

impl<C> Gate for CircuitBreaker<C> {
    type Wait = ();
    type Ticket = CircuitTicket;

    #[inline]
    fn admit(&self, _: &CallContext<'_>) -> Admission<CircuitTicket> {
        match self.shared.admit() {
            Ok(ticket) => Admission::Admitted(ticket),
            Err(reason) => Admission::Refused(reason),
        }
    }

    #[inline]
    fn settle(&self, ticket: CircuitTicket, end: End) {
        self.shared.settle(&ticket, end);
    }
}

impl<C: Classify<T, E, CountAs>, T, E> Judge<T, E> for CircuitBreaker<C> {
    fn judge(&self, result: Result<&T, &Error<E>>) -> End {
        self.classifier.classify(result).into()
    }
}

impl<C: Clone> Clone for CircuitBreaker<C> {
    fn clone(&self) -> Self {
        self.classifier(self.classifier.clone())
    }
}

impl<C> fmt::Debug for CircuitBreaker<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name())
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

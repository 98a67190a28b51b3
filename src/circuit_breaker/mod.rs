//! Stops calling what fails, for a while, and then looks carefully whether it works again.
//!
//! The decisions are made in `state`, which is told the time, over the counts of `window`.
//! This module drives it: a closed breaker admits by one atomic load, an open one refuses
//! by two and a look at the clock; everything else takes a lock that no user's code ever
//! runs under.

mod builder;
mod classify;
mod events;
#[cfg(test)]
mod model;
mod published;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub use builder::CircuitBreakerBuilder;
pub use classify::{By, Cancelled, Classify, Failures, If};
pub use events::{Cause, CircuitState, StateChange};
pub use window::Window;

use crate::config::ConfigError;
use crate::error::{Error, Refusal};
use crate::policy::{Admission, CallContext, End, Gate, IntoPolicy, Judge, Permit, gate_is_policy};
use crate::sync::Lock;
use crate::time::{self, Instant};
use classify::Measure;
use events::Outbox;
use published::Published;
use state::{Look, State, rate, wait};

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
/// | classifier | own errors and time limits fail, refusals from below are ignored | what was not called did not fail |
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

type Hook = Arc<dyn Fn(&StateChange) + Send + Sync>;

struct Shared {
    published: Published,
    measure: Measure,
    core: Lock<Core>,
    hook: Option<Hook>,
}

#[derive(Debug)]
struct Core {
    state: State,
    outbox: Outbox,
}

/// What a breaker knows at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CircuitSnapshot {
    /// The state. It is open until a call comes after the open time.
    pub state: CircuitState,
    /// The calls that count and did not fail: in the window, or of the probes that have
    /// ended. An open breaker shows the window that opened it.
    pub successes: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those that were slow, whether they failed or not.
    pub slow: u64,
    /// The share of failures; `None` while nothing is counted.
    pub failure_rate: Option<f64>,
    /// The share of slow calls; `None` while nothing is counted.
    pub slow_rate: Option<f64>,
    /// How many calls in a row have failed.
    pub consecutive_failures: u32,
    /// Time until a call makes it half-open: zero if the next one does, `None` if it is not
    /// open, or held open.
    pub until_half_open: Option<Duration>,
    /// How often it has opened of itself.
    pub openings: u64,
    /// The generation of the calls admitted now. It never goes down.
    pub generation: u64,
}

/// An admission: the generation it belongs to, and when, where that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitTicket {
    generation: u64,
    /// [`Instant::NEVER`] where calls are not timed.
    started: Instant,
}

/// Stands for a time that nobody is going to look at.
const UNREAD: Instant = Instant::NEVER;

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
    /// use mainstay::policy::End;
    /// use mainstay::{CircuitBreaker, Error};
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let breaker = CircuitBreaker::builder().build()?;
    /// let http = breaker.classify(|status: Result<&u16, &Error<std::io::Error>>| match status {
    ///     Ok(500..) => End::Failure,
    ///     Ok(429) => End::Ignored,
    ///     Ok(_) => End::Success,
    ///     Err(_) => End::Failure,
    /// });
    /// # let _ = http; Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn classify<T, E, F>(&self, decide: F) -> CircuitBreaker<By<F>>
    where
        F: Fn(Result<&T, &Error<E>>) -> End,
    {
        self.with(By(decide))
    }

    /// The same breaker, for calls whose own errors are failures only where this is `true`;
    /// with another error the callee has answered, which is a success.
    #[must_use]
    pub fn failure_if<E, F: Fn(&E) -> bool>(&self, accept: F) -> CircuitBreaker<If<F>> {
        self.with(If(accept))
    }

    /// The same breaker, with any [`Classify`].
    #[must_use]
    pub fn with<D>(&self, classifier: D) -> CircuitBreaker<D> {
        CircuitBreaker {
            shared: Arc::clone(&self.shared),
            classifier,
        }
    }

    /// The state, by one atomic load. It is open until a call comes after the open time.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.shared.published.word().state()
    }

    /// State, counts, rates, and the time until it is half-open.
    #[must_use]
    pub fn snapshot(&self) -> CircuitSnapshot {
        let now = time::now();
        self.shared.core.lock().state.look(now).into()
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

    /// Admits one call outside of any pipeline; settle the permit with how it ended.
    ///
    /// # Errors
    ///
    /// [`Refusal::CircuitOpen`].
    ///
    /// # Cancel safety
    ///
    /// A permit that is dropped is a cancelled call.
    pub fn try_acquire(&self) -> Result<Permit<'_, Self>, Refusal> {
        let ticket = self.shared.admit()?;
        Ok(Permit::new(self, ticket))
    }
}

impl Shared {
    fn new(state: State, measure: Measure, hook: Option<Hook>) -> Self {
        Self {
            published: Published::new(&state),
            measure,
            core: Lock::new(Core {
                state,
                outbox: Outbox::default(),
            }),
            hook,
        }
    }

    #[inline]
    fn admit(&self) -> Result<CircuitTicket, Refusal> {
        let word = self.published.word();
        match word.state() {
            CircuitState::Closed | CircuitState::MetricsOnly => {
                let times_calls = self.measure.times_calls();
                let started = if times_calls { time::now() } else { UNREAD };
                Ok(CircuitTicket {
                    generation: word.generation(),
                    started,
                })
            }
            CircuitState::Disabled => Ok(CircuitTicket {
                generation: word.generation(),
                started: UNREAD,
            }),
            CircuitState::Open | CircuitState::ForcedOpen => self.admit_when_over(),
            CircuitState::HalfOpen => self.ask(time::now()),
        }
    }

    fn admit_when_over(&self) -> Result<CircuitTicket, Refusal> {
        let until = self.published.open_until();
        if until == Instant::NEVER {
            return Err(refusal(None));
        }
        let now = time::now();
        if now < until {
            return Err(refusal(wait(until, now)));
        }
        self.ask(now)
    }

    fn ask(&self, now: Instant) -> Result<CircuitTicket, Refusal> {
        let admitted = self.change(|state| state.admit(now));
        let generation = admitted.map_err(refusal)?;
        Ok(CircuitTicket {
            generation,
            started: now,
        })
    }

    #[inline]
    fn settle(&self, ticket: CircuitTicket, end: End) {
        let word = self.published.word();
        // Generations only grow: a late result stays late.
        let late = word.generation() != ticket.generation;
        if late || word.state() == CircuitState::Disabled {
            return;
        }
        let needs_time = self.measure.needs_time(end);
        let now = if needs_time { time::now() } else { UNREAD };
        let ran = match ticket.started {
            UNREAD => Duration::ZERO,
            started => now.since(started),
        };
        let outcome = self.measure.outcome(end, ran);
        let changes_nothing = match (word.state(), outcome) {
            (CircuitState::HalfOpen, _) => false,
            (_, None) => true,
            // Exact, not a short cut: when the word was read the window was full of plain
            // successes, and one more would have taken the place of its like.
            (_, Some(outcome)) => word.is_quiet() && outcome.is_plain_success(),
        };
        if !changes_nothing {
            self.change(|state| state.settle(ticket.generation, outcome, now));
        }
    }

    /// Works on the state under its lock, publishes the result, then tells the hook.
    fn change<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, delivers) = {
            let mut core = self.core.lock();
            let result = work(&mut core.state);
            // Every change of state begins a generation, and so changes the word.
            let delivers = self.published.update(&core.state) && self.queue(&mut core);
            (result, delivers)
        };
        if delivers {
            self.deliver();
        }
        result
    }

    /// Queues the change for the hook; `true` if it is now the caller's to deliver.
    fn queue(&self, core: &mut Core) -> bool {
        let change = core.state.take_change().filter(|_| self.hook.is_some());
        change.is_some_and(|change| core.outbox.push(change))
    }

    fn deliver(&self) {
        loop {
            let next = self.core.lock().outbox.next();
            let (Some(change), Some(hook)) = (next, &self.hook) else {
                return;
            };
            // A change may be made in a drop while something else unwinds, where a second
            // panic would abort the process.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(&change))) {
                // Its drop is foreign code as well, and could panic again.
                std::mem::forget(payload);
            }
        }
    }
}

fn refusal(retry_after: Option<Duration>) -> Refusal {
    Refusal::CircuitOpen { retry_after }
}

impl From<Look> for CircuitSnapshot {
    fn from(look: Look) -> Self {
        let counts = look.counts;
        let share = |part| (counts.calls > 0).then(|| rate(part, counts.calls));
        Self {
            state: look.state,
            successes: counts.calls - counts.failures,
            failures: counts.failures,
            slow: counts.slow,
            failure_rate: share(counts.failures),
            slow_rate: share(counts.slow),
            consecutive_failures: look.consecutive_failures,
            until_half_open: look.until_half_open,
            openings: look.openings,
            generation: look.generation,
        }
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

    fn poll_admit(
        &self,
        (): &mut (),
        _: &CallContext<'_>,
        _: &mut Context<'_>,
    ) -> Poll<Result<CircuitTicket, Refusal>> {
        Poll::Ready(self.shared.admit())
    }

    fn leave(&self, (): &mut ()) {}

    #[inline]
    fn settle(&self, ticket: CircuitTicket, end: End) {
        self.shared.settle(ticket, end);
    }
}

impl<C: Classify<T, E>, T, E> Judge<T, E> for CircuitBreaker<C> {
    fn judge(&self, result: Result<&T, &Error<E>>) -> End {
        self.classifier.classify(result)
    }
}

gate_is_policy!(CircuitBreaker<C>, C);

impl<C> IntoPolicy for CircuitBreaker<C> {
    type Policy = Self;

    fn into_policy(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

impl<C: Clone> Clone for CircuitBreaker<C> {
    fn clone(&self) -> Self {
        self.with(self.classifier.clone())
    }
}

impl<C> fmt::Debug for CircuitBreaker<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

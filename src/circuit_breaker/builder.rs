//! Settings of a circuit breaker, and their checks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::CircuitBreaker;
use super::classify::{Cancelled, CountAs, Measure};
use super::events::StateChange;
use super::open_times::OpenTimes;
use super::shared::{Hook, Shared};
use super::state::{Rules, State};
use super::window::Window;
use crate::classify::{By, ByOk, Failures, If};
use crate::config::{ConfigError, Value, require};
use crate::error::Error;
use crate::policy::IntoPolicy;
use crate::retry::{Backoff, Delays, Jitter};
use crate::time;

/// What `minimum_calls` is when nobody says otherwise and the window holds as many.
const MINIMUM_CALLS: u32 = 20;

/// Builds a [`CircuitBreaker`]; its text has the table of defaults.
#[derive(Clone)]
#[must_use = "a builder does nothing before `build`"]
pub struct CircuitBreakerBuilder<C = Failures> {
    name: Arc<str>,
    classifier: C,
    window: Window,
    failure_rate: Option<f64>,
    slow_calls: Option<(f64, Duration)>,
    consecutive_failures: Option<u32>,
    minimum_calls: Option<u32>,
    open_times: Backoff,
    seed: Option<u64>,
    half_open_probes: u32,
    half_open_limit: Duration,
    cancelled: Cancelled,
    hook: Option<Hook>,
}

impl CircuitBreakerBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: Arc::default(),
            classifier: Failures,
            window: Window::calls(100),
            failure_rate: Some(0.5),
            slow_calls: None,
            consecutive_failures: None,
            minimum_calls: None,
            open_times: constant(Duration::from_secs(10)),
            seed: None,
            half_open_probes: 3,
            half_open_limit: Duration::from_secs(60),
            cancelled: Cancelled::Ignore,
            hook: None,
        }
    }
}

impl<C> CircuitBreakerBuilder<C> {
    /// Says which breaker it is, in the `tracing` events of its changes of state, in its
    /// `Debug` text and to whoever asks [`CircuitBreaker::name`]. Default: empty, so that two
    /// breakers without a name look the same in a log. A pipeline's name is not taken over:
    /// a breaker may stand in several.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::CircuitBreaker;
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let breaker = CircuitBreaker::builder().name("payments").build()?;
    /// assert_eq!(breaker.name(), "payments");
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Over which calls the rates are computed.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Opens when this share of the calls in the window has failed, or more. Above 0, at
    /// most 1.
    pub fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Opens at no failure rate: only by the other rules, of which one must be set.
    pub fn no_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// Opens when this share of the calls in the window took longer than `slower_than`,
    /// however they ended. The rate is above 0 and at most 1, the limit more than zero.
    ///
    /// It costs a reading of the clock before and after each call.
    pub fn slow_calls(mut self, rate: f64, slower_than: Duration) -> Self {
        self.slow_calls = Some((rate, slower_than));
        self
    }

    /// Opens when so many calls in a row have failed, whatever the window holds. At least 1.
    pub fn consecutive_failures(mut self, calls: u32) -> Self {
        self.consecutive_failures = Some(calls);
        self
    }

    /// No rate opens before so many calls are in the window. At least 1, and no more than a
    /// window of calls holds.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = Some(calls);
        self
    }

    /// Stays open for `span` each time. Zero lets a probe through at once;
    /// [`Duration::MAX`] is until [`CircuitBreaker::reset`].
    pub fn open_for(mut self, span: Duration) -> Self {
        self.open_times = constant(span);
        self
    }

    /// Stays open for the next of these delays each time; it begins anew when the breaker
    /// has closed. [`Jitter::Full`] may draw a delay of nearly zero: [`Jitter::Equal`]
    /// suits better.
    pub fn open_backoff(mut self, backoff: Backoff) -> Self {
        self.open_times = backoff;
        self
    }

    /// Makes the jitter of [`open_backoff`](Self::open_backoff) the same in each run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How many calls a half-open breaker lets through, and judges by. At least 1.
    pub fn half_open_probes(mut self, calls: u32) -> Self {
        self.half_open_probes = calls;
        self
    }

    /// When all probes are taken, and for this long there has always been one that had not
    /// ended, those that are out are lost: as many new ones are let through, and the late
    /// results are ignored. More than zero; [`Duration::MAX`] waits for ever.
    ///
    /// Longer than a call may take, or slow probes never count.
    pub fn half_open_limit(mut self, span: Duration) -> Self {
        self.half_open_limit = span;
        self
    }

    /// How a call counts that was dropped before it had a result.
    pub fn cancelled(mut self, rule: Cancelled) -> Self {
        self.cancelled = rule;
        self
    }

    /// Decides how every result counts; see [`CircuitBreaker::classify`].
    pub fn classify<T, E, F>(self, decide: F) -> CircuitBreakerBuilder<By<F>>
    where
        F: Fn(Result<&T, &Error<E>>) -> CountAs,
    {
        self.classifier(By(decide))
    }

    /// Decides how an answer counts that is `Ok`; errors count as by default. For callees
    /// that report their failures in an answer, such as HTTP servers.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::CircuitBreaker;
    /// use mainstay::circuit_breaker::CountAs;
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let breaker = CircuitBreaker::builder()
    ///     .classify_ok(|status: &u16| match status {
    ///         500.. => CountAs::Failure,
    ///         _ => CountAs::Success,
    ///     })
    ///     .build()?;
    /// # let _ = breaker; Ok(())
    /// # }
    /// ```
    pub fn classify_ok<T, F>(self, decide: F) -> CircuitBreakerBuilder<ByOk<F>>
    where
        F: Fn(&T) -> CountAs,
    {
        self.classifier(ByOk(decide))
    }

    /// Counts the operation's own errors as failures only where this is `true`; see
    /// [`CircuitBreaker::failure_if`].
    pub fn failure_if<E, F: Fn(&E) -> bool>(self, accept: F) -> CircuitBreakerBuilder<If<F>> {
        self.classifier(If(accept))
    }

    /// Decides by any rule: an implementation of [`Classify`](crate::classify::Classify) for
    /// [`CountAs`].
    pub fn classifier<D>(self, classifier: D) -> CircuitBreakerBuilder<D> {
        CircuitBreakerBuilder {
            name: self.name,
            classifier,
            window: self.window,
            failure_rate: self.failure_rate,
            slow_calls: self.slow_calls,
            consecutive_failures: self.consecutive_failures,
            minimum_calls: self.minimum_calls,
            open_times: self.open_times,
            seed: self.seed,
            half_open_probes: self.half_open_probes,
            half_open_limit: self.half_open_limit,
            cancelled: self.cancelled,
            hook: self.hook,
        }
    }

    /// Told of each change of state: in order, each once, under no lock. The last hook given
    /// counts.
    ///
    /// It runs in the call, or in the drop, that made the change or met it under way: keep
    /// it short. It may call every method of the breaker; what that changes is told after
    /// the hook has returned. A panic in it is caught, since a change may be made while
    /// something else unwinds. A hook that owns a handle of its own breaker keeps both alive
    /// for ever.
    pub fn on_state_change(mut self, hook: impl Fn(&StateChange) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a rate that is not above 0 and at most 1, a count or a span of
    /// 0 where the method forbids it, a window out of range, `minimum_calls` that the window
    /// cannot hold, a back-off out of range, no rule that could ever open the breaker, and
    /// [`Cancelled::Slow`] without `slow_calls`.
    pub fn build(self) -> Result<CircuitBreaker<C>, ConfigError> {
        let minimum_calls = self.checked_minimum()?;
        self.check_rules()?;
        self.check_half_open()?;
        self.open_times.check()?;
        time::warm_up();
        let rules = Rules {
            failure_rate: self.failure_rate,
            slow_rate: self.slow_calls.map(|(rate, _)| rate),
            consecutive_failures: self.consecutive_failures,
            minimum_calls,
            probes: self.half_open_probes,
            half_open_limit: self.half_open_limit,
        };
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let open_times = OpenTimes::new(self.open_times, seed);
        let limit = self.slow_calls.map(|(_, limit)| time::nanos(limit));
        let measure = Measure {
            slower_than: limit.unwrap_or(Measure::NEVER_SLOW),
            cancelled: self.cancelled,
            timed_window: self.window.capacity().is_none(),
        };
        let state = State::new(rules, self.window.records(), open_times);
        Ok(CircuitBreaker {
            shared: Arc::new(Shared::new(self.name, state, measure, self.hook)),
            classifier: self.classifier,
        })
    }

    fn checked_minimum(&self) -> Result<u32, ConfigError> {
        self.window.check()?;
        let most = self.window.capacity().unwrap_or(u32::MAX);
        let calls = self.minimum_calls.unwrap_or(MINIMUM_CALLS.min(most));
        require(calls > 0, "minimum_calls", calls, "at least 1")?;
        require(
            calls <= most,
            "minimum_calls",
            calls,
            "at most the window's number of calls",
        )?;
        Ok(calls)
    }

    fn check_rules(&self) -> Result<(), ConfigError> {
        if let Some(rate) = self.failure_rate {
            require_share("failure_rate", rate)?;
        }
        if let Some((rate, slower_than)) = self.slow_calls {
            require_share("slow_calls", rate)?;
            require_time("slow_calls", slower_than)?;
        }
        if let Some(calls) = self.consecutive_failures {
            require(calls > 0, "consecutive_failures", calls, "at least 1")?;
        }
        let rates = self.failure_rate.is_some() || self.slow_calls.is_some();
        require(
            rates || self.consecutive_failures.is_some(),
            "consecutive_failures",
            Value::Missing,
            "set where there is neither a failure rate nor a slow-call rate",
        )?;
        require(
            self.cancelled != Cancelled::Slow || self.slow_calls.is_some(),
            "slow_calls",
            Value::Missing,
            "set where cancelled calls count when they are slow",
        )
    }

    fn check_half_open(&self) -> Result<(), ConfigError> {
        let probes = self.half_open_probes;
        require(probes > 0, "half_open_probes", probes, "at least 1")?;
        require_time("half_open_limit", self.half_open_limit)
    }
}

fn constant(span: Duration) -> Backoff {
    Backoff::constant(span).max_delay(span).jitter(Jitter::None)
}

fn require_share(field: &'static str, rate: f64) -> Result<(), ConfigError> {
    require(
        rate > 0.0 && rate <= 1.0,
        field,
        rate,
        "above 0 and at most 1",
    )
}

fn require_time(field: &'static str, span: Duration) -> Result<(), ConfigError> {
    require(!span.is_zero(), field, span, "more than zero")
}

impl<C> IntoPolicy for CircuitBreakerBuilder<C> {
    type Policy = CircuitBreaker<C>;

    fn into_policy(self) -> Result<CircuitBreaker<C>, ConfigError> {
        self.build()
    }
}

impl<C> fmt::Debug for CircuitBreakerBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerBuilder")
            .field("name", &self.name)
            .field("window", &self.window)
            .field("failure_rate", &self.failure_rate)
            .field("slow_calls", &self.slow_calls)
            .field("consecutive_failures", &self.consecutive_failures)
            .field("minimum_calls", &self.minimum_calls)
            .field("open_times", &self.open_times)
            .field("half_open_probes", &self.half_open_probes)
            .field("half_open_limit", &self.half_open_limit)
            .field("cancelled", &self.cancelled)
            .field("hook", &self.hook.is_some())
            .finish_non_exhaustive()
    }
}

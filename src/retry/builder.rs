//! Settings of a retry, and their checks.

use std::fmt;
use std::time::Duration;

use super::{
    Backoff, By, ByAttempt, ByOk, Delays, Failures, FromIter, If, Limits, Retry, RetryBudget,
    RetryEvent, Seeds, Verdict,
};
use crate::config::{ConfigError, require};
use crate::error::Error;
use crate::policy::IntoPolicy;
use crate::sync::atomic::AtomicU64;
use crate::time;

/// Builds a [`Retry`]; its text has the table of defaults.
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct RetryBuilder<B = Backoff, C = Failures, H = NoHook> {
    backoff: B,
    classifier: C,
    hook: H,
    limits: Limits,
    budget: Budget,
    seed: Option<u64>,
}

#[derive(Debug)]
enum Budget {
    Default,
    None,
    Shared(RetryBudget),
}

impl RetryBuilder {
    pub(super) fn new() -> Self {
        Self {
            backoff: Backoff::default(),
            classifier: Failures,
            hook: NoHook,
            limits: Limits {
                max_attempts: 3,
                max_elapsed: Duration::MAX,
                max_retry_after: Duration::from_secs(60),
            },
            budget: Budget::Default,
            seed: None,
        }
    }
}

impl<B, C, H> RetryBuilder<B, C, H> {
    /// How often the operation is started at most, the first time included. At least 1;
    /// `u32::MAX` is no limit.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.limits.max_attempts = attempts;
        self
    }

    /// No attempt starts later than this after the first. More than zero;
    /// [`Duration::MAX`], the default, is no limit.
    pub fn max_elapsed(mut self, span: Duration) -> Self {
        self.limits.max_elapsed = span;
        self
    }

    /// The longest wait that a server may ask for with [`Verdict::RetryAfter`]; a longer one
    /// ends the attempts.
    pub fn max_retry_after(mut self, span: Duration) -> Self {
        self.limits.max_retry_after = span;
        self
    }

    /// Takes the retries from `budget`, shared with everyone who holds a clone of it.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Budget::Shared(budget);
        self
    }

    /// Takes the retries from no budget: under an outage the load is multiplied by
    /// [`max_attempts`](Self::max_attempts).
    pub fn no_budget(mut self) -> Self {
        self.budget = Budget::None;
        self
    }

    /// Makes the jitter the same in each run: the n-th call that fails gets the n-th seed
    /// of a sequence that begins with this one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The delays between attempts: a [`Backoff`], or any other [`Delays`].
    pub fn backoff<D: Delays>(self, backoff: D) -> RetryBuilder<D, C, H> {
        RetryBuilder {
            backoff,
            classifier: self.classifier,
            hook: self.hook,
            limits: self.limits,
            budget: self.budget,
            seed: self.seed,
        }
    }

    /// The delays between attempts, from an iterator made anew for each call; when it ends,
    /// so do the attempts. They are used as they are: no cap, no jitter. A delay that
    /// [`Verdict::RetryAfter`] replaces is taken all the same.
    pub fn delays<F, I>(self, delays: F) -> RetryBuilder<FromIter<F>, C, H>
    where
        F: Fn() -> I,
        I: IntoIterator<Item = Duration>,
    {
        self.backoff(FromIter(delays))
    }

    /// The delay after the attempt of this number; the first is 1. It is used as it is: no
    /// cap, no jitter.
    pub fn delay_by<F>(self, delay: F) -> RetryBuilder<ByAttempt<F>, C, H>
    where
        F: Fn(u32) -> Duration + Clone,
    {
        self.backoff(ByAttempt(delay))
    }

    /// Tries again only after those of the operation's errors for which this is `true`, and
    /// after the time limit of an attempt.
    pub fn retry_if<E, F: Fn(&E) -> bool>(self, accept: F) -> RetryBuilder<B, If<F>, H> {
        self.classifier(If(accept))
    }

    /// Decides about every result, good or bad.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::retry::{Retry, Verdict};
    /// use mainstay::Error;
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let patient = Retry::builder()
    ///     .classify(|status: Result<&u16, &Error<std::io::Error>>| match status {
    ///         Ok(503) => Verdict::Retry,
    ///         Ok(_) => Verdict::Stop,
    ///         Err(_) => Verdict::Retry,
    ///     })
    ///     .build()?;
    /// # let _ = patient; Ok(())
    /// # }
    /// ```
    pub fn classify<T, E, F>(self, decide: F) -> RetryBuilder<B, By<F>, H>
    where
        F: Fn(Result<&T, &Error<E>>) -> Verdict,
    {
        self.classifier(By(decide))
    }

    /// Decides about an answer that is `Ok`; errors are decided about as by default. For
    /// callees that report their failures in an answer, such as HTTP servers.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::retry::{Retry, Verdict};
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let patient = Retry::builder()
    ///     .classify_ok(|status: &u16| if *status == 503 { Verdict::Retry } else { Verdict::Stop })
    ///     .build()?;
    /// # let _ = patient; Ok(())
    /// # }
    /// ```
    pub fn classify_ok<T, F>(self, decide: F) -> RetryBuilder<B, ByOk<F>, H>
    where
        F: Fn(&T) -> Verdict,
    {
        self.classifier(ByOk(decide))
    }

    /// Decides by any rule: an implementation of [`Classify`](crate::classify::Classify) for
    /// [`Verdict`].
    pub fn classifier<D>(self, classifier: D) -> RetryBuilder<B, D, H> {
        RetryBuilder {
            backoff: self.backoff,
            classifier,
            hook: self.hook,
            limits: self.limits,
            budget: self.budget,
            seed: self.seed,
        }
    }

    /// Told before each wait (also one of zero), after the decision to try again, with the
    /// result that led to it.
    pub fn on_retry<T, E, F>(self, hook: F) -> RetryBuilder<B, C, OnRetry<F>>
    where
        F: Fn(&RetryEvent<'_, T, E>),
    {
        self.hook(OnRetry(hook))
    }

    /// As [`on_retry`](Self::on_retry), for a hook with a type of its own: one
    /// implementation of [`RetryHook`] may serve operations of any type.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::retry::{Retry, RetryEvent, RetryHook};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// #[derive(Clone, Default)]
    /// struct Count(Arc<AtomicU64>);
    ///
    /// impl<T, E> RetryHook<T, E> for Count {
    ///     fn before_wait(&self, _: &RetryEvent<'_, T, E>) {
    ///         self.0.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let count = Count::default();
    /// let retry = Retry::builder().hook(count.clone()).build()?;
    /// # let _ = retry; Ok(())
    /// # }
    /// ```
    pub fn hook<D>(self, hook: D) -> RetryBuilder<B, C, D> {
        RetryBuilder {
            backoff: self.backoff,
            classifier: self.classifier,
            hook,
            limits: self.limits,
            budget: self.budget,
            seed: self.seed,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `max_attempts` 0, `max_elapsed` 0, and for what
    /// [`Delays::check`] refuses: of a [`Backoff`] a `factor` outside of 1 to 1 000 000 and a
    /// `max_delay` below the base delay.
    pub fn build(self) -> Result<Retry<B, C, H>, ConfigError>
    where
        B: Delays,
    {
        self.backoff.check()?;
        let Limits {
            max_attempts,
            max_elapsed,
            ..
        } = self.limits;
        require(max_attempts > 0, "max_attempts", max_attempts, "at least 1")?;
        require(
            !max_elapsed.is_zero(),
            "max_elapsed",
            max_elapsed,
            "more than zero",
        )?;
        Ok(self.unchecked())
    }

    pub(super) fn unchecked(self) -> Retry<B, C, H> {
        time::warm_up();
        Retry {
            backoff: self.backoff,
            classifier: self.classifier,
            hook: self.hook,
            limits: self.limits,
            budget: match self.budget {
                Budget::Default => Some(RetryBudget::default()),
                Budget::None => None,
                Budget::Shared(budget) => Some(budget),
            },
            gets_budget: false,
            seeds: match self.seed {
                Some(seed) => Seeds::Fixed(AtomicU64::new(seed)),
                None => Seeds::Random,
            },
        }
    }
}

impl<B: Delays, C, H> IntoPolicy for RetryBuilder<B, C, H> {
    type Policy = Retry<B, C, H>;

    fn into_policy(self) -> Result<Self::Policy, ConfigError> {
        self.build()
    }
}

impl IntoPolicy for Backoff {
    type Policy = Retry;

    fn into_policy(self) -> Result<Retry, ConfigError> {
        Retry::builder().backoff(self).build()
    }
}

/// Told before each wait.
pub trait RetryHook<T, E> {
    /// The attempt has ended, the next will follow.
    fn before_wait(&self, event: &RetryEvent<'_, T, E>);
}

/// No hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoHook;

impl<T, E> RetryHook<T, E> for NoHook {
    #[inline]
    fn before_wait(&self, _: &RetryEvent<'_, T, E>) {}
}

/// A closure as a hook.
#[derive(Clone, Copy)]
pub struct OnRetry<F>(F);

impl<T, E, F: Fn(&RetryEvent<'_, T, E>)> RetryHook<T, E> for OnRetry<F> {
    fn before_wait(&self, event: &RetryEvent<'_, T, E>) {
        (self.0)(event);
    }
}

impl<F> fmt::Debug for OnRetry<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnRetry")
    }
}

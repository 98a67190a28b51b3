//! How long to wait before the next attempt: a back-off is an iterator of delays.
//!
//! All arithmetic is on whole nanoseconds and saturates, so that no attempt number and no
//! setting overflows; the cap is applied after the jitter. The jitters are those of
//! "Exponential Backoff And Jitter" (M. Brooker, AWS Architecture Blog, 2015).

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::config::{ConfigError, require};
use crate::time::nanos;

/// Makes the delays of one call: what a [`Retry`](super::Retry) waits between attempts.
pub trait Delays {
    /// The delays, in order. When it ends, so do the attempts.
    type Iter: Iterator<Item = Duration>;

    /// The delays of a new call. `seed` is the only source of randomness, for those that
    /// need one.
    fn delays(&self, seed: impl FnOnce() -> u64) -> Self::Iter;

    /// Whether there is no end to the delays and each of them is zero. Then none is asked for.
    #[inline]
    fn are_none(&self) -> bool {
        false
    }

    /// Checks the settings, if there are any; asked once, by
    /// [`RetryBuilder::build`](super::RetryBuilder::build).
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] names the first setting that is out of range.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// Delays that stay, or grow with each attempt, up to a cap, with jitter.
///
/// Defaults: cap 30 s, [`Jitter::Full`].
///
/// # Examples
///
/// ```
/// use mainstay::retry::{Backoff, Delays, Jitter};
/// use std::time::Duration;
///
/// let backoff = Backoff::exponential(Duration::from_millis(100))
///     .max_delay(Duration::from_millis(500))
///     .jitter(Jitter::None);
/// let delays: Vec<u128> = backoff.delays(|| 0).take(4).map(|d| d.as_millis()).collect();
/// assert_eq!(delays, [100, 200, 400, 500]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    growth: Growth,
    base: Duration,
    max_delay: Duration,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    Constant,
    Linear,
    Exponential { factor: f64 },
    Fibonacci,
}

/// How a delay is spread, so that callers which failed together do not return together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// Not at all: the delay as it is.
    None,
    /// Anything from zero to the delay.
    #[default]
    Full,
    /// Anything from half the delay to the delay.
    Equal,
    /// Anything from the base to three times the previous delay; the growth is its own.
    Decorrelated,
}

impl Backoff {
    const fn new(growth: Growth, base: Duration) -> Self {
        Self {
            growth,
            base,
            max_delay: Duration::from_secs(30),
            jitter: Jitter::Full,
        }
    }

    /// No delay at all: the next attempt follows at once, without touching the timer.
    #[must_use]
    pub const fn none() -> Self {
        Self::constant(Duration::ZERO).jitter(Jitter::None)
    }

    /// `delay` each time.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self::new(Growth::Constant, delay)
    }

    /// `step`, then twice, three times, four times `step`.
    #[must_use]
    pub const fn linear(step: Duration) -> Self {
        Self::new(Growth::Linear, step)
    }

    /// `base`, then doubled each time; [`factor`](Self::factor) changes the doubling.
    #[must_use]
    pub const fn exponential(base: Duration) -> Self {
        Self::new(Growth::Exponential { factor: 2.0 }, base)
    }

    /// `base` times 1, 1, 2, 3, 5, 8 and so on.
    #[must_use]
    pub const fn fibonacci(base: Duration) -> Self {
        Self::new(Growth::Fibonacci, base)
    }

    /// Makes the growth exponential, by `factor` each time. Allowed: 1 to 1 000 000.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.growth = Growth::Exponential { factor };
        self
    }

    /// The longest delay, jitter included. At least the base.
    #[must_use]
    pub const fn max_delay(mut self, cap: Duration) -> Self {
        self.max_delay = cap;
        self
    }

    /// How delays are spread.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }
}

impl Default for Backoff {
    /// Exponential from 100 ms, doubled each time, at most 30 s, full jitter.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100))
    }
}

impl Delays for Backoff {
    type Iter = BackoffDelays;

    fn delays(&self, seed: impl FnOnce() -> u64) -> BackoffDelays {
        let seed = match self.jitter {
            Jitter::None => 0,
            Jitter::Full | Jitter::Equal | Jitter::Decorrelated => seed(),
        };
        let base = nanos(self.base);
        BackoffDelays {
            growth: self.growth,
            jitter: self.jitter,
            base,
            cap: nanos(self.max_delay),
            current: base,
            previous: 0,
            power: 1.0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    #[inline]
    fn are_none(&self) -> bool {
        self.base.is_zero() // however it grows, and is spread
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let Growth::Exponential { factor } = self.growth {
            require(
                (1.0..=1e6).contains(&factor),
                "factor",
                factor,
                "from 1 to 1000000",
            )?;
        }
        require(
            self.max_delay >= self.base,
            "max_delay",
            self.max_delay,
            "at least the base delay",
        )
    }
}

/// The delays of a [`Backoff`]. It never ends.
#[derive(Clone, Debug)]
pub struct BackoffDelays {
    growth: Growth,
    jitter: Jitter,
    base: u64,
    cap: u64,
    /// The next delay before jitter and cap.
    current: u64,
    /// The one before it (Fibonacci), or the last delay handed out (decorrelated).
    previous: u64,
    /// The factor to the power of the attempts so far: rounding must not add up.
    power: f64,
    random: fastrand::Rng,
}

impl BackoffDelays {
    /// Hands out the delay that was due and moves on to the next.
    fn grow(&mut self) -> u64 {
        let due = self.current;
        self.current = match self.growth {
            Growth::Constant => due,
            Growth::Linear => due.saturating_add(self.base),
            Growth::Exponential { factor } => {
                self.power *= factor;
                scale(self.base, self.power).max(due)
            }
            Growth::Fibonacci => due.saturating_add(std::mem::replace(&mut self.previous, due)),
        };
        due
    }

    fn decorrelate(&mut self) -> u64 {
        let highest = self.previous.max(self.base).saturating_mul(3);
        self.previous = self.random.u64(self.base..=highest).min(self.cap);
        self.previous
    }
}

/// `f64` to integer saturates, and what is not a number becomes zero.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "53 bits of a delay are exact to a microsecond in a century"
)]
fn scale(base: u64, power: f64) -> u64 {
    (base as f64 * power) as u64
}

impl Iterator for BackoffDelays {
    type Item = Duration;

    #[inline]
    fn next(&mut self) -> Option<Duration> {
        let delay = match self.jitter {
            Jitter::None => self.grow(),
            Jitter::Full => {
                let due = self.grow().min(self.cap);
                self.random.u64(0..=due)
            }
            Jitter::Equal => {
                let due = self.grow().min(self.cap);
                self.random.u64(due / 2..=due)
            }
            Jitter::Decorrelated => self.decorrelate(),
        };
        Some(Duration::from_nanos(delay.min(self.cap)))
    }
}

/// Delays from an iterator of the user's own, made anew for each call.
#[derive(Clone, Copy, Debug)]
pub struct FromIter<F>(pub(crate) F);

impl<F, I> Delays for FromIter<F>
where
    F: Fn() -> I,
    I: IntoIterator<Item = Duration>,
{
    type Iter = I::IntoIter;

    fn delays(&self, _: impl FnOnce() -> u64) -> I::IntoIter {
        (self.0)().into_iter()
    }
}

/// Delays computed from the number of the attempt that failed.
#[derive(Clone, Copy, Debug)]
pub struct ByAttempt<F>(pub(crate) F);

impl<F: Fn(u32) -> Duration + Clone> Delays for ByAttempt<F> {
    type Iter = ByAttemptDelays<F>;

    fn delays(&self, _: impl FnOnce() -> u64) -> ByAttemptDelays<F> {
        ByAttemptDelays {
            delay: self.0.clone(),
            attempt: 0,
        }
    }
}

/// The delays of a [`ByAttempt`]. It never ends.
#[derive(Clone, Debug)]
pub struct ByAttemptDelays<F> {
    delay: F,
    attempt: u32,
}

impl<F: Fn(u32) -> Duration> Iterator for ByAttemptDelays<F> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.attempt = self.attempt.saturating_add(1);
        Some((self.delay)(self.attempt))
    }
}

//! What a result means: the rules that a retry and a circuit breaker share.
//!
//! A [`Classify`] looks at a result and gives a decision: a retry asks for a
//! [`Verdict`](crate::retry::Verdict), a breaker for a
//! [`CountAs`](crate::circuit_breaker::CountAs). The rules here give any of them, since a
//! [`Decision`] says what it makes of the three things that can have happened.

#[cfg(test)]
mod tests;

use std::fmt;

use crate::error::Error;

/// Decides about a result; `V` is the kind of decision.
///
/// The builders make one of a closure (`classify`, `classify_ok`, `retry_if`,
/// `failure_if`). A rule with a name, a state or settings implements this trait and is
/// given to `classifier`, which every policy with a rule has.
///
/// # Examples
///
/// One rule for a retry and a breaker:
///
/// ```
/// use mainstay::classify::{Classify, Decision};
/// use mainstay::{CircuitBreaker, Error, Pipeline, Retry};
///
/// /// An answer of 500 and above is a failure, of whatever asks.
/// #[derive(Clone, Copy)]
/// struct Http;
///
/// impl<E, V: Decision> Classify<u16, E, V> for Http {
///     fn classify(&self, result: Result<&u16, &Error<E>>) -> V {
///         match result {
///             Ok(500..) => V::FAILED,
///             other => V::by_default(other),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::builder().classifier(Http).build()?;
/// let pipeline = Pipeline::builder("http")
///     .retry(Retry::builder().classifier(Http))
///     .circuit_breaker(breaker.clone())
///     .build()?;
/// let mut answers = [503, 200].into_iter();
/// let answer = pipeline.call(|| {
///     let next = answers.next().unwrap();
///     async move { Ok::<u16, std::io::Error>(next) }
/// });
/// assert_eq!(answer.await?, 200);
/// let seen = breaker.snapshot();
/// assert_eq!((seen.failures, seen.successes), (1, 1));
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "this rule does not decide about a `Result<{T}, {E}>` as a `{V}`",
    note = "a predicate takes the operation's error, a closure for `classify_ok` its answer"
)]
pub trait Classify<T, E, V> {
    /// Looks at the result of one call or attempt.
    fn classify(&self, result: Result<&T, &Error<E>>) -> V;
}

/// What a rule can decide: a retry's [`Verdict`](crate::retry::Verdict), a breaker's
/// [`CountAs`](crate::circuit_breaker::CountAs).
///
/// It says what it makes of each thing that can have happened; the rules are written once,
/// in these words.
pub trait Decision: Sized {
    /// There was an answer: an `Ok`, or an error that a predicate does not take for a failure.
    const ANSWERED: Self;
    /// There was none, or one that means a failure.
    const FAILED: Self;
    /// A policy further down refused, and nothing was called.
    const REFUSED: Self;

    /// What is made of a refusal that came after an attempt was made.
    const REFUSED_LATER: Self = Self::FAILED;

    /// Decides as [`Failures`] does.
    #[inline]
    #[must_use]
    fn by_default<T, E>(result: Result<&T, &Error<E>>) -> Self {
        match result {
            Ok(_) => Self::ANSWERED,
            Err(Error::Operation { .. } | Error::TimedOut { .. } | Error::Panicked { .. }) => {
                Self::FAILED
            }
            Err(Error::Refused { attempts: 0, .. } | Error::Cancelled { .. }) => Self::REFUSED,
            Err(Error::Refused { .. }) => Self::REFUSED_LATER,
        }
    }
}

/// The default: the operation's own error and a time limit are failures, an `Ok` is none,
/// and neither is a refusal from further down (an open circuit, a full bulkhead), since
/// nothing was called. A refusal that ended the attempts of a retry further in came after a
/// call: a breaker counts that call's failure, and a retry does not hammer.
///
/// A call of another pipeline that the operation's closure makes is an operation like any
/// other, and its refusal an own error. [`Call::through`](crate::Call::through) puts one
/// pipeline around the other instead, and the refusal is seen as what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures;

impl<T, E, V: Decision> Classify<T, E, V> for Failures {
    #[inline]
    fn classify(&self, result: Result<&T, &Error<E>>) -> V {
        V::by_default(result)
    }
}

/// As [`Failures`], but those of the operation's errors that a predicate rejects are none:
/// the callee has answered.
#[derive(Clone, Copy)]
pub struct If<F>(pub(crate) F);

impl<T, E, V: Decision, F: Fn(&E) -> bool> Classify<T, E, V> for If<F> {
    #[inline]
    fn classify(&self, result: Result<&T, &Error<E>>) -> V {
        match result {
            Err(Error::Operation { error, .. }) if !(self.0)(error) => V::ANSWERED,
            other => V::by_default(other),
        }
    }
}

/// A closure that decides about every result.
#[derive(Clone, Copy)]
pub struct By<F>(pub(crate) F);

impl<T, E, V, F: Fn(Result<&T, &Error<E>>) -> V> Classify<T, E, V> for By<F> {
    #[inline]
    fn classify(&self, result: Result<&T, &Error<E>>) -> V {
        (self.0)(result)
    }
}

/// As [`Failures`], but a closure decides about each `Ok`.
#[derive(Clone, Copy)]
pub struct ByOk<F>(pub(crate) F);

impl<T, E, V: Decision, F: Fn(&T) -> V> Classify<T, E, V> for ByOk<F> {
    #[inline]
    fn classify(&self, result: Result<&T, &Error<E>>) -> V {
        match result {
            Ok(answer) => (self.0)(answer),
            error => V::by_default(error),
        }
    }
}

impl<F> fmt::Debug for If<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("If")
    }
}

impl<F> fmt::Debug for By<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("By")
    }
}

impl<F> fmt::Debug for ByOk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByOk")
    }
}

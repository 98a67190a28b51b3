//! Which results call for another attempt.

use std::time::Duration;

use crate::error::Error;

/// What to do about a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Hand it to the caller, whether it is good or bad.
    Stop,
    /// Try again after the back-off's next delay.
    Retry,
    /// Try again after exactly this time: the server has named it.
    RetryAfter(Duration),
}

/// Decides about a result.
pub trait Classify<T, E> {
    /// Looks at the result of one attempt.
    fn classify(&self, result: Result<&T, &Error<E>>) -> Verdict;
}

/// The default: tries again after the operation's own error and after the time limit of an
/// attempt; hands over every `Ok`, and every refusal from further down (an open circuit or
/// a full bulkhead is not hammered).
///
/// A call of another pipeline that the operation's closure makes is an operation like any
/// other, and its refusal an own error. [`Call::through`](crate::Call::through) puts one
/// pipeline around the other instead, and the refusal is seen as what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures;

impl<T, E> Classify<T, E> for Failures {
    fn classify(&self, result: Result<&T, &Error<E>>) -> Verdict {
        match result {
            Err(Error::Operation { .. } | Error::TimedOut { .. }) => Verdict::Retry,
            Ok(_) | Err(Error::Refused { .. }) => Verdict::Stop,
        }
    }
}

/// As [`Failures`], for those of the operation's errors that a predicate accepts.
#[derive(Clone, Copy, Debug)]
pub struct If<F>(pub(crate) F);

impl<T, E, F: Fn(&E) -> bool> Classify<T, E> for If<F> {
    fn classify(&self, result: Result<&T, &Error<E>>) -> Verdict {
        match result {
            Err(Error::Operation { error, .. }) if !(self.0)(error) => Verdict::Stop,
            other => Failures.classify(other),
        }
    }
}

/// A closure that decides about every result.
#[derive(Clone, Copy, Debug)]
pub struct By<F>(pub(crate) F);

impl<T, E, F: Fn(Result<&T, &Error<E>>) -> Verdict> Classify<T, E> for By<F> {
    fn classify(&self, result: Result<&T, &Error<E>>) -> Verdict {
        (self.0)(result)
    }
}

/// As [`Failures`], but a closure decides about each `Ok`.
#[derive(Clone, Copy, Debug)]
pub struct ByOk<F>(pub(crate) F);

impl<T, E, F: Fn(&T) -> Verdict> Classify<T, E> for ByOk<F> {
    fn classify(&self, result: Result<&T, &Error<E>>) -> Verdict {
        match result {
            Ok(answer) => (self.0)(answer),
            Err(error) => Classify::<T, E>::classify(&Failures, Err(error)),
        }
    }
}

/// What is about to happen, for a hook before each wait.
#[derive(Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a, T, E> {
    /// The attempt that has ended; 1 is the first.
    pub attempt: u32,
    /// The wait before the next.
    pub delay: Duration,
    /// What the attempt yielded.
    pub result: Result<&'a T, &'a Error<E>>,
}

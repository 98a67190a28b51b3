//! What a result means to the retry and to the breaker.

use super::RedisError;
use crate::Error;
use crate::circuit_breaker::CountAs;
use crate::classify::{Classify, Decision};
use crate::retry::Verdict;

/// Each attempt says of itself whether it may be repeated, since that depends on the command.
#[derive(Clone, Copy, Debug)]
pub(super) struct WhatMayBeRepeated;

impl<T> Classify<T, RedisError, Verdict> for WhatMayBeRepeated {
    fn classify(&self, result: Result<&T, &Error<RedisError>>) -> Verdict {
        match result {
            Err(Error::Operation { error, .. }) if error.is_to_be_retried() => error
                .retry_after()
                .map_or(Verdict::Retry, Verdict::RetryAfter),
            _ => Verdict::Stop,
        }
    }
}

/// A server that answers is well, whatever it answers; one that is away, hangs or loads is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outages;

impl<T> Classify<T, RedisError, CountAs> for Outages {
    fn classify(&self, result: Result<&T, &Error<RedisError>>) -> CountAs {
        match result {
            Err(Error::Operation { error, .. }) if !error.kind().is_outage() => CountAs::Success,
            other => CountAs::by_default(other),
        }
    }
}

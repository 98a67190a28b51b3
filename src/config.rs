//! What a builder says when a setting is out of range.

use std::fmt;
use std::time::Duration;

/// A setting that is out of range: which field, what it was, what is allowed.
///
/// Every builder of the crate returns it from `build`; none panics on its input.
///
/// # Examples
///
/// ```
/// use mainstay::Bulkhead;
///
/// let error = Bulkhead::builder().max_concurrent(0).build().unwrap_err();
/// assert_eq!(error.field(), "max_concurrent");
/// assert_eq!(error.to_string(), "max_concurrent is 0, but must be at least 1");
///
/// let error = Bulkhead::builder().build().unwrap_err();
/// assert_eq!(error.to_string(), "max_concurrent is not set, but must be at least 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigError {
    field: &'static str,
    value: Value,
    allowed: &'static str,
}

/// The refused value, as it was given.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// None was given, and there is no default.
    Missing,
    /// One that cannot be shown: a text that may hold a secret, or a value without a number.
    Unusable,
    /// A whole number.
    Integer(u64),
    /// A fraction, which may be infinite or not a number.
    Float(f64),
    /// A span of time.
    Duration(Duration),
}

impl ConfigError {
    /// Reports `value` of `field`; `allowed` completes the sentence "... but must be".
    #[must_use]
    pub fn new(field: &'static str, value: impl Into<Value>, allowed: &'static str) -> Self {
        Self {
            field,
            value: value.into(),
            allowed,
        }
    }

    /// The builder's method whose value was refused.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was refused.
    #[must_use]
    pub fn value(&self) -> Value {
        self.value
    }

    /// What would have been allowed, such as "at least 1".
    #[must_use]
    pub fn allowed(&self) -> &'static str {
        self.allowed
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {}, but must be {}",
            self.field, self.value, self.allowed
        )
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not set"),
            Self::Unusable => f.write_str("not usable"),
            Self::Integer(n) => n.fmt(f),
            Self::Float(x) => x.fmt(f),
            Self::Duration(d) => write!(f, "{d:?}"),
        }
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Integer(n)
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Integer(n.into())
    }
}

impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::Integer(n as u64)
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

impl From<Duration> for Value {
    fn from(d: Duration) -> Self {
        Self::Duration(d)
    }
}

/// Refuses `value` unless `ok`.
pub(crate) fn require(
    ok: bool,
    field: &'static str,
    value: impl Into<Value>,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if ok {
        Ok(())
    } else {
        Err(ConfigError::new(field, value, allowed))
    }
}

#[cfg(test)]
mod tests {
    use crate::circuit_breaker::Cancelled;
    use crate::rate_limit::RateLimiterBuilder;
    use crate::{Bulkhead, CircuitBreaker, RateLimiter};

    #[test]
    fn what_was_never_set_is_not_called_zero() {
        let rate: RateLimiterBuilder = RateLimiter::builder();
        let errors = [
            Bulkhead::builder().build().unwrap_err(),
            rate.build().unwrap_err(),
            rate.keyed().build::<u8>().unwrap_err(),
            CircuitBreaker::builder()
                .no_failure_rate()
                .build()
                .unwrap_err(),
            CircuitBreaker::builder()
                .cancelled(Cancelled::Slow)
                .build()
                .unwrap_err(),
        ];
        assert_eq!(
            errors.map(|error| error.to_string()),
            [
                "max_concurrent is not set, but must be at least 1",
                "rate is not set, but must be at least 1 permit in a period",
                "rate is not set, but must be at least 1 permit in a period",
                "consecutive_failures is not set, but must be set where there is neither a \
                 failure rate nor a slow-call rate",
                "slow_calls is not set, but must be set where cancelled calls count when they \
                 are slow",
            ]
        );
        let url = super::ConfigError::new("url", super::Value::Unusable, "one of a server");
        assert_eq!(
            url.to_string(),
            "url is not usable, but must be one of a server"
        );
        let zero = Bulkhead::builder().max_concurrent(0).build().unwrap_err();
        assert_eq!(
            zero.to_string(),
            "max_concurrent is 0, but must be at least 1"
        );
    }
}

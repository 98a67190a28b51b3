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
    /// A text that is not what it should be; it may be a secret, and is not shown.
    Malformed,
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
            Self::Malformed => f.write_str("malformed"),
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
    #[test]
    fn a_text_that_is_malformed_is_not_shown() {
        let error = super::ConfigError::new("url", super::Value::Malformed, "an address");
        assert_eq!(
            error.to_string(),
            "url is malformed, but must be an address"
        );
    }
}

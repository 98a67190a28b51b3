//! Settings of a keyed limiter, and their checks.

use std::hash::Hash;

use super::KeyedRateLimiter;
use crate::config::{ConfigError, require};
use crate::rate_limit::RateLimiterBuilder;
use crate::time;

/// Builds a [`KeyedRateLimiter`]; its text has the table of defaults.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct KeyedRateLimiterBuilder {
    limits: RateLimiterBuilder,
    max_keys: usize,
}

impl KeyedRateLimiterBuilder {
    pub(in crate::rate_limit) fn new(limits: RateLimiterBuilder) -> Self {
        Self {
            limits,
            max_keys: 65_536,
        }
    }

    /// How many keys are remembered at most. At least 1; default 65 536.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `max_keys` 0, and whatever
    /// [`RateLimiterBuilder::build`] refuses.
    pub fn build<K: Hash + Eq>(self) -> Result<KeyedRateLimiter<K>, ConfigError> {
        let limits = self.limits.check()?;
        require(self.max_keys > 0, "max_keys", self.max_keys, "at least 1")?;
        time::warm_up();
        Ok(KeyedRateLimiter::new(limits, self.max_keys))
    }
}

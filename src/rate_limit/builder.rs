//! Settings of a limiter, and their checks.

use std::sync::Arc;
use std::time::Duration;

use super::RateLimiter;
use super::bucket::{Bucket, Rate};
use super::keyed::KeyedRateLimiterBuilder;
use super::shared::Shared;
use crate::config::{ConfigError, Value, require};
use crate::policy::IntoPolicy;
use crate::time::{self, Instant};

/// Builds a [`RateLimiter`]; its text has the table of defaults.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct RateLimiterBuilder {
    rate: Option<(u32, Duration)>,
    burst: Option<u32>,
    max_wait: Duration,
    permits: u32,
}

/// Settings that were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) rate: Rate,
    pub(super) burst: u32,
    pub(super) max_wait: Duration,
    pub(super) permits: u32,
}

impl RateLimiterBuilder {
    pub(super) fn new() -> Self {
        Self {
            rate: None,
            burst: None,
            max_wait: Duration::from_secs(1),
            permits: 1,
        }
    }

    /// So many permits in each `per`, evenly: one each `per / permits`. It must be set; at
    /// least 1 permit, a period from 1 ns to 584 years.
    pub fn rate(mut self, permits: u32, per: Duration) -> Self {
        self.rate = Some((permits, per));
        self
    }

    /// How many permits an idle limiter saves up. At least 1. Default: as many as come in
    /// one period of the [`rate`](Self::rate).
    pub fn burst(mut self, permits: u32) -> Self {
        self.burst = Some(permits);
        self
    }

    /// How long a call may wait. Default 1 s; [`Duration::ZERO`] refuses at once,
    /// [`Duration::MAX`] is no limit.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = span;
        self
    }

    /// How many permits each call takes. Default 1; at most the burst.
    pub fn permits(mut self, permits: u32) -> Self {
        self.permits = permits;
        self
    }

    /// A limiter of this kind for each key; see
    /// [`KeyedRateLimiter`](super::KeyedRateLimiter).
    pub fn keyed(self) -> KeyedRateLimiterBuilder {
        KeyedRateLimiterBuilder::new(self)
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a `rate` that is not set or out of range, for a `burst` of 0,
    /// and for `permits` above the burst.
    pub fn build(self) -> Result<RateLimiter, ConfigError> {
        let limits = self.check()?;
        time::warm_up();
        Ok(limits.limiter(time::now()))
    }

    pub(super) fn check(self) -> Result<Limits, ConfigError> {
        let missing = ConfigError::new("rate", Value::Missing, "at least 1 permit in a period");
        let (permits, per) = self.rate.ok_or(missing)?;
        let rate = Rate::new(permits, per)?;
        let burst = self.burst.unwrap_or(permits);
        check_burst(burst)?;
        let permits = self.permits;
        require(permits <= burst, "permits", permits, "at most burst")?;
        Ok(Limits {
            rate,
            burst,
            max_wait: self.max_wait,
            permits,
        })
    }
}

impl Limits {
    /// A limiter whose bucket is full.
    pub(super) fn limiter(self, now: Instant) -> RateLimiter {
        let bucket = Bucket::new(self.rate, self.burst, now);
        self.handle(Arc::new(Shared::new(bucket)))
    }

    pub(super) fn handle(self, shared: Arc<Shared>) -> RateLimiter {
        RateLimiter {
            shared,
            permits: self.permits,
            max_wait: self.max_wait,
        }
    }
}

pub(super) fn check_burst(burst: u32) -> Result<(), ConfigError> {
    require(burst > 0, "burst", burst, "at least 1")
}

impl IntoPolicy for RateLimiterBuilder {
    type Policy = RateLimiter;

    fn into_policy(self) -> Result<RateLimiter, ConfigError> {
        self.build()
    }
}

//! Settings of a shared limiter, and their checks.

use std::time::Duration;

use super::super::away::{Presence, WhenAway, Without};
use super::super::driver::Driver;
use super::super::quota::Quota;
use super::super::source::Source;
use super::super::{process_name, scripts};
use super::state::State;
use super::{Limits, SharedRateLimiter};
use crate::config::{ConfigError, Value};
use crate::policy::IntoPolicy;
use crate::rate_limit::RateLimiter;

/// Builds a [`SharedRateLimiter`]; its text has the table of defaults.
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct SharedRateLimiterBuilder {
    source: Box<dyn Source>,
    key: String,
    rate: Option<(u32, Duration)>,
    burst: Option<u32>,
    max_wait: Duration,
    max_queue: usize,
    permits: u32,
    when_away: WhenAway,
    ask_within: Duration,
    probe_every: Duration,
}

impl SharedRateLimiterBuilder {
    pub(super) fn new(key: String, source: impl FnOnce(Vec<String>) -> Box<dyn Source>) -> Self {
        Self {
            source: source(vec![key.clone()]),
            key,
            rate: None,
            burst: None,
            max_wait: Duration::from_secs(1),
            max_queue: 1024,
            permits: 1,
            when_away: WhenAway::default(),
            ask_within: scripts::ASK_WITHIN,
            probe_every: scripts::PROBE_EVERY,
        }
    }

    /// So many permits in each `per`, evenly: one each `per / permits`, for all processes
    /// together. It must be set; at least 1 permit, a period from 1 ns to 584 years.
    pub fn rate(mut self, permits: u32, per: Duration) -> Self {
        self.rate = Some((permits, per));
        self
    }

    /// How many permits an idle limiter saves up, for all processes together. At least 1, at
    /// most what comes in 71 years. Default: as many as come in one period of the
    /// [`rate`](Self::rate).
    pub fn burst(mut self, permits: u32) -> Self {
        self.burst = Some(permits);
        self
    }

    /// How long a call may wait for its permits. Default 1 s; [`Duration::ZERO`] asks once.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = span;
        self
    }

    /// How many calls of this process may wait. At least 1; default 1024. More are refused at
    /// once.
    pub fn max_queue(mut self, calls: usize) -> Self {
        self.max_queue = calls;
        self
    }

    /// How many permits each call takes. Default 1; at most the burst.
    pub fn permits(mut self, permits: u32) -> Self {
        self.permits = permits;
        self
    }

    /// What to do while Redis is away. Default: [`WhenAway::Refuse`].
    pub fn when_away(mut self, choice: WhenAway) -> Self {
        self.when_away = choice;
        self
    }

    /// How long Redis may take to answer; after that it is away. More than zero; default
    /// 500 ms.
    pub fn ask_within(mut self, span: Duration) -> Self {
        self.ask_within = span;
        self
    }

    /// How often it is looked whether Redis is back, at most. Default 1 s.
    pub fn probe_every(mut self, span: Duration) -> Self {
        self.probe_every = span;
        self
    }

    /// Checks every setting. Asks nothing yet.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a `rate` that is not set, and for what is out of range.
    pub fn build(self) -> Result<SharedRateLimiter, ConfigError> {
        let missing = ConfigError::new("rate", Value::Missing, "at least 1 permit in a period");
        let (permits, per) = self.rate.ok_or(missing)?;
        let quota = Quota::new(permits, per, self.burst.unwrap_or(permits))?;
        if self.permits > quota.burst() {
            return Err(ConfigError::new("permits", self.permits, "at most burst"));
        }
        if self.max_queue == 0 {
            return Err(ConfigError::new("max_queue", 0_u32, "at least 1"));
        }
        scripts::check(&self.key, self.ask_within)?;
        self.when_away.check()?;
        let presence = Presence::new(self.probe_every);
        let state = State::new(process_name(), quota, self.max_queue, presence);
        Ok(SharedRateLimiter {
            driver: Driver::new(state, self.source, self.ask_within),
            local: local(&quota, self.when_away)?,
            without: Without::default().into(),
            limits: Limits {
                when_away: self.when_away,
                permits: self.permits,
                max_wait: self.max_wait,
            },
        })
    }
}

/// Its waits are limited by those who wait.
fn local(quota: &Quota, when_away: WhenAway) -> Result<Option<RateLimiter>, ConfigError> {
    let WhenAway::Local { one_in } = when_away else {
        return Ok(None);
    };
    let (permits, per, burst) = quota.share(one_in);
    let builder = RateLimiter::builder().rate(permits, per).burst(burst);
    builder.max_wait(Duration::MAX).build().map(Some)
}

impl IntoPolicy for SharedRateLimiterBuilder {
    type Policy = SharedRateLimiter;

    fn into_policy(self) -> Result<SharedRateLimiter, ConfigError> {
        self.build()
    }
}

//! Settings of a shared bulkhead, and their checks.

use std::time::Duration;

use super::super::away::{Presence, WhenAway, Without};
use super::super::driver::Driver;
use super::super::source::Source;
use super::super::{process_name, scripts};
use super::state::{Settings, State};
use super::{Limits, SharedBulkhead};
use crate::bulkhead::Bulkhead;
use crate::config::{ConfigError, Value};
use crate::policy::IntoPolicy;

/// Builds a [`SharedBulkhead`]; its text has the table of defaults.
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct SharedBulkheadBuilder {
    source: Box<dyn Source>,
    key: String,
    max_concurrent: Option<u32>,
    max_queue: Option<usize>,
    max_wait: Duration,
    weight: u32,
    lease: Duration,
    poll_every: Duration,
    when_away: WhenAway,
    ask_within: Option<Duration>,
    probe_every: Duration,
}

impl SharedBulkheadBuilder {
    pub(super) fn new(key: String, source: impl FnOnce(Vec<String>) -> Box<dyn Source>) -> Self {
        // In braces, so that both keys are in the same slot of a cluster.
        let keys = vec![format!("{{{key}}}:leases"), format!("{{{key}}}:book")];
        Self {
            source: source(keys),
            key,
            max_concurrent: None,
            max_queue: None,
            max_wait: Duration::MAX,
            weight: 1,
            lease: Duration::from_secs(10),
            poll_every: Duration::from_millis(25),
            when_away: WhenAway::default(),
            ask_within: None,
            probe_every: scripts::PROBE_EVERY,
        }
    }

    /// How many slots there are, for all processes together. At least 1; it must be set.
    pub fn max_concurrent(mut self, slots: u32) -> Self {
        self.max_concurrent = Some(slots);
        self
    }

    /// How many calls of this process may wait. Default: as many as there are slots; 0 refuses
    /// as soon as there is no room.
    pub fn max_queue(mut self, calls: usize) -> Self {
        self.max_queue = Some(calls);
        self
    }

    /// How long a call may wait. Default: [`Duration::MAX`], no limit of its own;
    /// [`Duration::ZERO`] asks once.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = span;
        self
    }

    /// How many slots each call takes. Default 1; at most `max_concurrent`.
    pub fn weight(mut self, slots: u32) -> Self {
        self.weight = slots;
        self
    }

    /// How long a slot stays taken when its holder has died. From 300 ms to a day; default
    /// 10 s.
    pub fn lease(mut self, span: Duration) -> Self {
        self.lease = span;
        self
    }

    /// How often one who waits looks for a slot that another process has given back. From 1 ms
    /// to 1 min; default 25 ms.
    pub fn poll_every(mut self, span: Duration) -> Self {
        self.poll_every = span;
        self
    }

    /// What to do while Redis is away. Default: [`WhenAway::Refuse`].
    pub fn when_away(mut self, choice: WhenAway) -> Self {
        self.when_away = choice;
        self
    }

    /// How long Redis may take to answer; after that it is away. More than zero, and at most a
    /// third of the lease; default 500 ms, or a third of the lease where that is less.
    pub fn ask_within(mut self, span: Duration) -> Self {
        self.ask_within = Some(span);
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
    /// A [`ConfigError`] for `max_concurrent` that is not set, and for what is out of range.
    pub fn build(self) -> Result<SharedBulkhead, ConfigError> {
        let slots = self.check()?;
        let max_queue = self.max_queue.unwrap_or(slots as usize);
        let ask_within = self.answers_within();
        let settings = Settings {
            me: process_name(),
            slots,
            max_queue,
            lease: self.lease,
            poll_every: self.poll_every,
        };
        let state = State::new(settings, Presence::new(self.probe_every));
        Ok(SharedBulkhead {
            driver: Driver::new(state, self.source, ask_within),
            local: local(slots, max_queue, self.when_away)?,
            without: Without::default().into(),
            limits: Limits {
                when_away: self.when_away,
                weight: self.weight,
                max_wait: self.max_wait,
                lets_wait: max_queue > 0,
            },
        })
    }

    fn answers_within(&self) -> Duration {
        let most = scripts::ASK_WITHIN.min(self.lease / 3);
        self.ask_within.unwrap_or(most)
    }

    fn check(&self) -> Result<u32, ConfigError> {
        let missing = ConfigError::new("max_concurrent", Value::Missing, "at least 1");
        let slots = self.max_concurrent.ok_or(missing)?;
        let wrong = |field, value: Value, allowed| Err(ConfigError::new(field, value, allowed));
        if slots == 0 {
            return wrong("max_concurrent", slots.into(), "at least 1");
        }
        if self.weight > slots {
            return wrong("weight", self.weight.into(), "at most max_concurrent");
        }
        if !(Duration::from_millis(300)..=Duration::from_secs(86_400)).contains(&self.lease) {
            return wrong("lease", self.lease.into(), "from 300 ms to a day");
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&self.poll_every) {
            return wrong(
                "poll_every",
                self.poll_every.into(),
                "from 1 ms to a minute",
            );
        }
        if self.answers_within() > self.lease / 3 {
            let allowed = "at most a third of the lease";
            return wrong("ask_within", self.answers_within().into(), allowed);
        }
        scripts::check(&self.key, self.answers_within())?;
        self.when_away.check()?;
        Ok(slots)
    }
}

/// Its waits are limited by those who wait.
fn local(
    slots: u32,
    max_queue: usize,
    when_away: WhenAway,
) -> Result<Option<Bulkhead>, ConfigError> {
    let WhenAway::Local { one_in } = when_away else {
        return Ok(None);
    };
    let slots = (slots / one_in).max(1);
    let builder = Bulkhead::builder().max_concurrent(slots);
    builder.max_queue(max_queue).build().map(Some)
}

impl IntoPolicy for SharedBulkheadBuilder {
    type Policy = SharedBulkhead;

    fn into_policy(self) -> Result<SharedBulkhead, ConfigError> {
        self.build()
    }
}

//! Settings of a bulkhead, and their checks.

use std::sync::Arc;
use std::time::Duration;

use super::state::State;
use super::{Bulkhead, Shared};
use crate::config::{ConfigError, Value, require};
use crate::policy::IntoPolicy;
use crate::time;

/// Builds a [`Bulkhead`]; its text has the table of defaults.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct BulkheadBuilder {
    max_concurrent: Option<u32>,
    max_queue: Option<usize>,
    max_wait: Duration,
    weight: u32,
}

impl BulkheadBuilder {
    pub(super) fn new() -> Self {
        Self {
            max_concurrent: None,
            max_queue: None,
            max_wait: Duration::MAX,
            weight: 1,
        }
    }

    /// How many slots there are. At least 1; it must be set.
    pub fn max_concurrent(mut self, slots: u32) -> Self {
        self.max_concurrent = Some(slots);
        self
    }

    /// How many calls may wait. Default: as many as there are slots; 0 refuses at once.
    pub fn max_queue(mut self, calls: usize) -> Self {
        self.max_queue = Some(calls);
        self
    }

    /// How long a call may wait. Default: [`Duration::MAX`], no limit of its own.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = span;
        self
    }

    /// How many slots each call takes. Default 1; at most `max_concurrent`.
    pub fn weight(mut self, slots: u32) -> Self {
        self.weight = slots;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `max_concurrent` that is 0 or not set, and for a `weight` above
    /// it.
    pub fn build(self) -> Result<Bulkhead, ConfigError> {
        let weight = self.weight;
        let max_concurrent = self.slots()?;
        require(
            weight <= max_concurrent,
            "weight",
            weight,
            "at most max_concurrent",
        )?;
        time::warm_up();
        let max_queue = self.max_queue.unwrap_or(max_concurrent as usize);
        Ok(Bulkhead {
            shared: Arc::new(Shared {
                state: State::new(max_concurrent, max_queue),
                max_wait: self.max_wait,
            }),
            weight,
        })
    }

    fn slots(&self) -> Result<u32, ConfigError> {
        match self.max_concurrent {
            Some(slots) if slots > 0 => Ok(slots),
            wrong => Err(ConfigError::new(
                "max_concurrent",
                wrong.map_or(Value::Missing, Value::from),
                "at least 1",
            )),
        }
    }
}

impl IntoPolicy for BulkheadBuilder {
    type Policy = Bulkhead;

    fn into_policy(self) -> Result<Bulkhead, ConfigError> {
        self.build()
    }
}

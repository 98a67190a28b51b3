//! Settings of an offload, and their checks.

use std::sync::Arc;
use std::time::Duration;

use super::Offload;
use super::stage::Threads;
use crate::bulkhead::Bulkhead;
use crate::config::{ConfigError, Value};
use crate::sync::Lock;

/// Builds an [`Offload`]; its text has the table of defaults.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct OffloadBuilder {
    threads: Option<u32>,
    queue: Option<usize>,
    max_wait: Duration,
}

impl OffloadBuilder {
    pub(super) fn new() -> Self {
        Self {
            threads: None,
            queue: None,
            max_wait: Duration::MAX,
        }
    }

    /// How much work may run at once. At least 1; it must be set.
    pub fn threads(mut self, threads: u32) -> Self {
        self.threads = Some(threads);
        self
    }

    /// How many calls may wait for a slot. Default: as many as there are threads; 0 refuses
    /// at once.
    pub fn queue(mut self, calls: usize) -> Self {
        self.queue = Some(calls);
        self
    }

    /// How long a call may wait, for a slot and then for the runtime to start its work.
    /// Default: [`Duration::MAX`], no limit of its own. The runtime has 10 ms at least, since a
    /// thread is not there at once: zero waits for no slot.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = span;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `threads` that is 0 or not set.
    pub fn build(self) -> Result<Offload, ConfigError> {
        let threads = match self.threads {
            Some(threads) if threads > 0 => threads,
            wrong => {
                let value = wrong.map_or(Value::Missing, Value::from);
                return Err(ConfigError::new("threads", value, "at least 1"));
            }
        };
        let slots = Bulkhead::builder()
            .max_concurrent(threads)
            .max_queue(self.queue.unwrap_or(threads as usize))
            .max_wait(self.max_wait)
            .build()?;
        Ok(Offload {
            slots,
            threads: Arc::new(Lock::new(Threads::default())),
            max_wait: self.max_wait,
        })
    }
}

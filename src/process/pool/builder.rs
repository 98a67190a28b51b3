//! Settings of a pool of children, and their checks.

use std::time::Duration;

use super::ProcessPool;
use crate::bulkhead::BulkheadBuilder;
use crate::{Bulkhead, ConfigError};

/// Builds a [`ProcessPool`]; its text has the table of defaults.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ProcessPoolBuilder {
    max_processes: u32,
    places: BulkheadBuilder,
    drain: Duration,
    grace: Duration,
}

impl ProcessPoolBuilder {
    pub(super) fn new(max_processes: u32) -> Self {
        Self {
            max_processes,
            places: Bulkhead::builder().max_concurrent(max_processes),
            drain: Duration::ZERO,
            grace: Duration::from_secs(5),
        }
    }

    /// How many calls may wait for a place. Default: as many as there are places; 0 refuses
    /// at once.
    pub fn max_queue(mut self, calls: usize) -> Self {
        self.places = self.places.max_queue(calls);
        self
    }

    /// How long a call may wait for a place. Default: no limit of its own.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.places = self.places.max_wait(span);
        self
    }

    /// How long children may go on when the pool closes before they are asked to end.
    /// Default 0.
    pub fn drain(mut self, span: Duration) -> Self {
        self.drain = span;
        self
    }

    /// How long all of them together have between SIGTERM and SIGKILL. Default 5 s. A child
    /// that was asked to end before keeps its own, if that ends earlier.
    pub fn grace(mut self, span: Duration) -> Self {
        self.grace = span;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `max_processes` of 0.
    pub fn build(self) -> Result<ProcessPool, ConfigError> {
        if self.max_processes == 0 {
            return Err(ConfigError::new("max_processes", 0_u32, "at least 1"));
        }
        let places = self.places.build()?;
        Ok(ProcessPool::new(places, self.drain, self.grace))
    }
}

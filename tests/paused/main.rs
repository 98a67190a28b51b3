//! Policies together, on tokio's paused clock.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod cancellation;
mod composition;
mod deadlines;
mod erased;
mod gather;
mod lazy;
mod offload;
mod panics;
mod pool;
mod queue;
mod scope;
mod shutdown;
mod stream;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tower")]
mod tower_time;
mod whole;

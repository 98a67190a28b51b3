//! Policies together, on tokio's paused clock.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod cancellation;
mod composition;
mod deadlines;
mod erased;
mod panics;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tower")]
mod tower_time;
mod whole;

//! The process adapter with real children, on the real clock.
//!
//! What a test knows of the system it reads from `/proc`.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod control;
mod drops;
mod errors;
mod groups;
mod load;
mod output;
mod pool;
mod run;
mod support;

//! Sessions on this machine, and at a local AgentBay server.

mod client;
mod client_blocking;
mod client_end;
#[cfg(feature = "test-util")]
mod client_paused;
mod client_pool;
#[path = "../support/sessions.rs"]
mod scripted;

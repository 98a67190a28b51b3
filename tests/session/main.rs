//! Sessions on this machine, and at a local AgentBay server.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod agentbay;
mod agentbay_cancel;
mod agentbay_client;
mod agentbay_connections;
mod agentbay_failures;
mod agentbay_files;
mod agentbay_links;
mod agentbay_local;
mod agentbay_peer;
mod agentbay_secrets;
#[path = "../../examples/agentbay_server/mod.rs"]
mod agentbay_server;
mod client;
mod client_blocking;
mod client_embedded;
mod client_end;
#[cfg(feature = "test-util")]
mod client_paused;
mod client_pool;
mod client_settings;
mod embedded;
mod embedded_end;
mod embedded_files;
mod example;
#[path = "../support/sessions.rs"]
mod scripted;
mod secrets;
mod server;

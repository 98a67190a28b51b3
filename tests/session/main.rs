//! Sessions on this machine, and at a local AgentBay server.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

#[path = "../../examples/agentbay_server/mod.rs"]
mod agentbay_server;
mod server;

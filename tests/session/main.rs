//! Sessions on this machine, and at a local AgentBay server.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod embedded;
mod embedded_end;
mod embedded_files;

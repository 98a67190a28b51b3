//! The WebSocket adapter with real peers.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod calls;
mod cancel;
#[path = "../../examples/websocket_server/execution.rs"]
mod execution;
mod input;
mod link;
mod peer;
mod secrets;
mod served;
/// The example's, as it is.
#[path = "../../examples/websocket_server/server.rs"]
mod server;

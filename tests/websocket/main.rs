//! The WebSocket adapter with real peers.

mod calls;
mod cancel;
#[path = "../../examples/websocket_server/execution.rs"]
mod execution;
mod input;
mod link;
mod peer;
mod served;
/// The example's, as it is.
#[path = "../../examples/websocket_server/server.rs"]
mod server;

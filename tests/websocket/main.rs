//! The WebSocket adapter with real peers.

mod calls;
mod cancel;
mod input;
mod link;
mod peer;

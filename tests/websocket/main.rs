//! The WebSocket adapter with real peers.

//! A WebSocket server.
fn main() {}

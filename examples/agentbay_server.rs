//! A local AgentBay server.
fn main() {}

//! Runs a command.
fn main() {}

//! Sessions.
fn main() {}

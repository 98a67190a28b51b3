//! Redis.
fn main() {}

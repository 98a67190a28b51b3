//! The adapters, compiled against what `mainstay` shows to everyone.
//!
//! `crate::Pipeline` in an adapter means the crate's own one at home, and the public one here.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "only whether it compiles matters here"
)]

pub use mainstay::*;

#[cfg(unix)]
#[path = "../../../src/process/mod.rs"]
pub mod process;
#[path = "../../../src/redis/mod.rs"]
pub mod redis;
#[path = "../../../src/session/mod.rs"]
pub mod session;
#[path = "../../../src/websocket/mod.rs"]
pub mod websocket;

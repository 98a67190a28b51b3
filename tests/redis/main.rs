//! The Redis adapter with a real server.

#[path = "../support/redis_server.rs"]
mod redis_server;

mod commands;

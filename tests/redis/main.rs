//! The Redis adapter with a real server.

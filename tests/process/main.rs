//! The process adapter with real children.

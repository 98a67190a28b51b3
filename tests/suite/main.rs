//! The public API as its users see it, on the production clock.

mod auto_traits;
mod size;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tower")]
mod tower_contract;

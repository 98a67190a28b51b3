//! The public API as its users see it, on the production clock.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod auto_traits;
mod clock;
mod debug;
mod many_traits;
mod must_not_hold;
#[cfg(feature = "tower")]
mod neighbours;
mod own_types;
mod settings;
mod size;
mod small;
#[path = "../support/mod.rs"]
mod support;
mod timers;
#[cfg(feature = "tower")]
mod tower_contract;

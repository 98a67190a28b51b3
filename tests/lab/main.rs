//! The cancellation laboratory over every public future of the crate, in every state of its
//! policy. (The adapters have theirs: `tests/lab_adapters`.)
//!
//! After each point everything adds up, and the next call succeeds.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod calls;
mod complete;
mod gates;
mod gathers;
mod lazies;
mod nested;
mod offloads;
mod planted;
mod pools;
#[path = "../support/proof.rs"]
mod proof;
mod queues;
mod scopes;
mod shutdowns;
#[path = "../support/sources.rs"]
mod sources;
mod stacks;
mod streams;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tower")]
mod towers;
mod trial;
mod world;

use trial::Trial;

/// Makes a test of each pattern, and one list of all of them.
macro_rules! patterns {
    ($($(#[$cfg:meta])* $name:ident)*) => {
        /// Every trial there is.
        fn all() -> Vec<Trial> {
            let mut all = Vec::new();
            $($(#[$cfg])* all.extend($name::trials());)*
            all
        }

        mod every_point_of {
            $($(#[$cfg])* #[test]
            fn $name() {
                crate::trial::run_all(crate::$name::trials());
            })*
        }
    };
}

patterns! {
    calls
    gates
    gathers
    lazies
    nested
    offloads
    pools
    queues
    scopes
    shutdowns
    stacks
    streams
    #[cfg(feature = "tower")]
    towers
}

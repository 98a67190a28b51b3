//! The pure states of `mainstay` and their tests, by themselves.
//!
//! A mutant of the whole crate takes most of a minute to build; one of this takes seconds. The
//! modules have the names and the places that they have at home, so that neither they nor their
//! tests know that they are here. What drives them is not: a mutant must be seen by the tests of
//! the state itself.
//!
//! Not here:
//! - The scope's `Tracker`: its word is one with the futures that wait for it, whose tests need a
//!   runtime. Its models for loom try every order of its changes.
//! - The time-out and the fallback: they have no state, only a timer and a second call.
//! - The shards of the keyed limiter: they make handles of limiters, and do not come apart from
//!   them. Their table is here, and so are the bucket and the word that judge each key.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    missing_docs,
    private_interfaces,
    reason = "what the rest of the crate uses is not here"
)]

#[path = "../../../src"]
mod whole {
    #[cfg(feature = "circuit_breaker")]
    pub mod classify;
    pub mod config;
    pub mod error;
    pub(crate) mod panics;
    pub(crate) mod span;
    pub(crate) mod sync;
}
#[cfg(feature = "circuit_breaker")]
pub use whole::classify;
pub use whole::{config, error};
pub(crate) use whole::{panics, span, sync};

pub use error::{Error, Progress, Refusal};

#[cfg(test)]
#[path = "../../support/models.rs"]
mod models;
#[cfg(test)]
#[path = "../../support/proof.rs"]
mod proof;

#[path = "../../../src/time"]
mod time {
    mod instant;
    mod wheel;

    pub use instant::Instant;
    pub(crate) use instant::nanos;

    /// The tests of states tell them the time.
    pub(crate) fn now() -> Instant {
        Instant::from_nanos(1 << 60)
    }
}

#[path = "../../../src/retry"]
mod retry {
    mod backoff;
    mod budget;
    mod classify;
    mod plan;

    pub use backoff::{
        Backoff, BackoffDelays, ByAttempt, ByAttemptDelays, Delays, FromIter, Jitter,
    };
    pub use budget::RetryBudget;
    pub use classify::Verdict;
}

#[cfg(feature = "circuit_breaker")]
#[path = "../../../src/circuit_breaker"]
mod circuit_breaker {
    mod batch;
    mod classify;
    #[cfg(test)]
    mod driven;
    mod events;
    mod inbox;
    #[cfg(test)]
    mod model;
    mod open_times;
    mod published;
    mod ring;
    mod shared;
    mod snapshot;
    mod state;
    mod window;

    pub use classify::{Cancelled, CountAs};
    pub use events::{CircuitState, StateChange};
    pub use shared::CircuitTicket;
    pub use window::Window;
}

#[cfg(feature = "rate_limit")]
#[path = "../../../src/rate_limit"]
mod rate_limit {
    mod bucket;
    mod door;
    mod keyed {
        mod table;
    }
    mod scale;
    mod shared;
    mod state;
    mod word;
}

#[cfg(feature = "bulkhead")]
#[path = "../../../src/bulkhead"]
mod bulkhead {
    mod slots;
    mod state;
}

#[cfg(feature = "pool")]
#[path = "../../../src/pool"]
mod pool {
    mod entry;
    mod snapshot;
    mod state;
}

#[cfg(feature = "queue")]
#[path = "../../../src/queue"]
mod queue {
    mod snapshot;
    mod state;
    #[cfg(test)]
    mod tests {
        mod model;
    }
}

#[cfg(feature = "lazy")]
#[path = "../../../src/lazy"]
mod lazy {
    mod state;
}

#[cfg(feature = "gather")]
#[path = "../../../src/gather"]
mod gather {
    mod progress;
    mod ready;
    mod reorder;
    mod seats;
    #[cfg(test)]
    mod tests {
        mod parts;
    }
}

#[cfg(feature = "scope")]
#[path = "../../../src/scope"]
mod scope {
    mod effects;
    mod report;
    mod state;
    #[cfg(test)]
    mod tests {
        mod model;
    }
}

#[cfg(feature = "shutdown")]
#[path = "../../../src/shutdown"]
mod shutdown {
    mod counts;
    mod plan;
    mod report;

    pub use counts::Counts;

    #[cfg(test)]
    mod tests {
        mod plan;
        mod report;
    }
}

#[cfg(feature = "offload")]
#[path = "../../../src/offload"]
mod offload {
    mod stage;
}

#[cfg(feature = "process")]
#[path = "../../../src/process"]
mod process {
    mod capture;
    mod plan;
    mod split;

    use super::stand_ins::process::{command, handle, output};
}

#[cfg(feature = "session")]
#[path = "../../../src/session"]
mod session {
    mod error;
    mod agentbay {
        mod poll;
    }
    mod client {
        mod book;
        mod creation;
        mod report;
        mod rules;
    }
    mod embedded {
        mod table;
    }

    use super::stand_ins::session::types;
}

#[cfg(feature = "websocket")]
#[path = "../../../src/websocket"]
mod websocket {
    mod life;
    mod table;

    use super::stand_ins::websocket::snapshot;
}

#[cfg(feature = "redis")]
#[path = "../../../src/redis"]
mod redis {
    mod limits {
        mod away;
        mod line;
        mod quota;
        mod rate {
            mod state;
            #[cfg(test)]
            mod tests;
        }
        mod slots {
            mod leases;
            mod question;
            mod state;
            #[cfg(test)]
            mod tests;
        }

        use crate::stand_ins::redis::driver;
    }
}

mod stand_ins;
#[cfg(not(feature = "circuit_breaker"))]
use stand_ins::classify;
use stand_ins::{observe, policy};

#[cfg(test)]
#[path = "../../../src/testing/amount.rs"]
mod testing;

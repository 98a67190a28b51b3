//! Redis with limits, retries and a breaker around it, and limits that many machines share.
//!
//! [`RedisClient`] sends commands, [batches](RedisClient::batch), [scripts](RedisClient::script)
//! and [scans](RedisClient::scan) over connections of the `redis` crate, whose values and
//! commands it takes. `bound` keeps replies within their limit, `wire` knows when a connection
//! is not to be used any more, `table` what may be repeated, `redial` when to connect again,
//! `health` when an open breaker may close.
//!
//! It is for one server: there is no cluster, no sentinel, no TLS (put a tunnel in front), and
//! no publish and subscribe.

mod bound;
mod builder;
mod call;
mod client;
mod commands;
mod database;
mod error;
mod exclusive;
mod health;
mod job;
mod limits;
mod redial;
mod request;
mod rules;
mod scan;
mod stats;
mod table;
mod wire;

pub use builder::RedisClientBuilder;
pub use client::RedisClient;
pub use commands::{Lookup, Source};
pub use error::{Effect, RedisError, RedisErrorKind, may_have_acted};
pub use exclusive::Exclusive;
pub use limits::{
    SharedBulkhead, SharedBulkheadAcquire, SharedBulkheadBuilder, SharedBulkheadSnapshot,
    SharedBulkheadWait, SharedPermit, SharedRateLimiter, SharedRateLimiterAcquire,
    SharedRateLimiterBuilder, SharedRateLimiterSnapshot, SharedRateLimiterTicket,
    SharedRateLimiterWait, WhenAway,
};
pub use request::Request;
pub use scan::Scan;
pub use stats::{Latency, RedisStats};
pub use table::CommandKind;

/// How commands share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connections {
    /// So many connections in each database, each shared by any number of commands at once,
    /// which are sent one after the other without waiting for replies. Default, with 1.
    Multiplexed(usize),
    /// So many connections at most in each database, each for one command at a time.
    Pooled(usize),
}

impl Default for Connections {
    fn default() -> Self {
        Self::Multiplexed(1)
    }
}

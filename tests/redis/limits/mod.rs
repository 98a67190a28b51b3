//! Limits that many machines share.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod bulkhead;
mod lease_model;
mod overhead;
mod processes;
mod rate;
mod take_model;

use std::time::{Duration, Instant};

use mainstay::redis::{RedisClient, SharedBulkhead, SharedRateLimiter};

use crate::redis_server::RedisServer;

pub(crate) const MILLI: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn client(url: &str) -> RedisClient {
    RedisClient::builder(url).build().unwrap()
}

/// A limiter of its own, as another process would have it.
pub(crate) fn limiter(
    server: &RedisServer,
    permits: u32,
    per: Duration,
    burst: u32,
) -> SharedRateLimiter {
    SharedRateLimiter::builder(&client(&server.url()), "rate")
        .rate(permits, per)
        .burst(burst)
        .build()
        .unwrap()
}

/// A bulkhead of its own, as another process would have it.
pub(crate) fn bulkhead(server: &RedisServer, slots: u32, lease: Duration) -> SharedBulkhead {
    SharedBulkhead::builder(&client(&server.url()), "slots")
        .max_concurrent(slots)
        .lease(lease)
        .build()
        .unwrap()
}

/// Waits until it is so, for a while that is long enough for a busy machine.
#[track_caller]
pub(crate) fn eventually(what: &str, is: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let begun = Instant::now();
        while !is() {
            assert!(begun.elapsed() < 20 * SECOND, "{what}: not so ({caller})");
            tokio::time::sleep(5 * MILLI).await;
        }
    }
}

/// How many leases the server knows of.
pub(crate) fn leases(server: &RedisServer) -> String {
    server.ask("ZCARD {slots}:leases")
}

pub(crate) const NONE: &str = ":0";

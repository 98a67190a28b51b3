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
/// Longer than anything takes here, on a machine that is busy.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// It waits for as long as a busy machine may take: whoever tests a time limit sets one.
pub(crate) fn client(url: &str) -> RedisClient {
    let builder = RedisClient::builder(url).limits(BOUND);
    builder.connect_limit(BOUND).build().unwrap()
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
        .ask_within(BOUND)
        .build()
        .unwrap()
}

/// A bulkhead of its own, as another process would have it.
pub(crate) fn bulkhead(server: &RedisServer, slots: u32, lease: Duration) -> SharedBulkhead {
    SharedBulkhead::builder(&client(&server.url()), "slots")
        .max_concurrent(slots)
        .lease(lease)
        .ask_within(lease / 3)
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
            assert!(begun.elapsed() < BOUND, "{what}: not so ({caller})");
            tokio::time::sleep(5 * MILLI).await;
        }
    }
}

/// How many leases the server knows of.
pub(crate) fn leases(server: &RedisServer) -> String {
    server.ask("ZCARD {slots}:leases")
}

pub(crate) const NONE: &str = ":0";

//! A rate limit that never refuses.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::MonotonicClock;
use governor::{Quota, RateLimiter as Governor};
use mainstay::prelude::*;
use tower::Layer;
use tower_resilience::ratelimiter::RateLimiterLayer;

use crate::calls::{HOUR, Prompt, ask, ok};
use crate::floor::limiter::{Rate, StdRate};
use crate::goals::Goal;
use crate::row::{Row, each};

/// So fast that it admits every call.
pub(super) fn ours() -> RateLimiter {
    RateLimiter::builder()
        .rate(1_000_000_000, Duration::from_secs(1))
        .burst(1_000_000_000)
        .build()
        .expect("a rate limit")
}

pub(super) fn quota() -> Quota {
    Quota::per_second(NonZeroU32::new(1_000_000_000).expect("not zero"))
}

pub(super) fn admit(row: &mut Row) {
    row.shared().goal(9.0).note(
        "Who must wait at ours and at leaky-bucket waits in a queue, first in, first out. \
         governor's waiters sleep and try again, so a late one may pass an early one. Ours and \
         governor read the processor's counter (the library's clock is shown aside).",
    );
    let floor = Arc::new(Rate::default());
    row.floor(
        "one word, the processor's counter",
        each!(floor => floor.admit()),
    )
    .anchor(9.0);
    let floor = Arc::new(StdRate::default());
    row.aside(
        "floor",
        "one word, the clock of std",
        each!(floor => floor.admit()),
    )
    .anchor(26.8);

    let governor = Arc::new(Governor::direct(quota()));
    row.peer(
        "governor",
        "check()",
        each!(governor => governor.check().is_ok()),
    )
    .anchor(8.9);
    row.peer(
        "governor",
        "until_ready()",
        each!(governor => governor.until_ready().await),
    )
    .anchor(9.0);
    let slower = Arc::new(Governor::direct_with_clock(quota(), MonotonicClock));
    row.aside(
        "governor",
        "check(), the clock of std",
        each!(slower => slower.check().is_ok()),
    )
    .anchor(27.7);
    leaky_bucket(row);
    let ours = ours();
    row.ours("try_acquire()", each!(ours => ours.try_acquire(1)));
}

/// The same with a call behind it.
pub(super) fn call(row: &mut Row) {
    row.shared()
        .require(Goal::BestPeer)
        .note("The row above, and what is admitted.");
    let floor = Arc::new(Rate::default());
    row.floor(
        "one word, the processor's counter",
        each!(floor => {
            floor.admit();
            ok().await
        }),
    );
    let governor = Arc::new(Governor::direct(quota()));
    row.peer(
        "governor",
        "until_ready()",
        each!(governor => {
            governor.until_ready().await;
            ok().await
        }),
    );
    towers(row);
    let ours = ours();
    row.ours("rate_limit()", each!(ours => ok().rate_limit(&ours).await));
}

fn leaky_bucket(row: &mut Row) {
    let bucket = |fair| {
        let bucket = leaky_bucket::RateLimiter::builder()
            .max(2_000_000_000)
            .initial(2_000_000_000)
            .interval(Duration::from_millis(1))
            .refill(1_000_000)
            .fair(fair)
            .build();
        Arc::new(bucket)
    };
    let fair = bucket(true);
    row.peer(
        "leaky-bucket",
        "acquire_one()",
        each!(fair => fair.acquire_one().await),
    )
    .anchor(41.4);
    let unfair = bucket(false);
    row.aside(
        "leaky-bucket",
        "acquire_one(), not fair",
        each!(unfair => {
            unfair.acquire_one().await;
        }),
    )
    .note(
        "no queue, and no look at the clock before its permits are used up: after an idle time it \
         admits its burst twice",
    );
}

fn towers(row: &mut Row) {
    let rate = tower::limit::rate::Rate::new(u64::MAX, HOUR);
    row.peer("tower", "RateLimit", move || {
        let mut service = tower::limit::RateLimit::new(Prompt, rate);
        async move || ask(&mut service).await
    })
    .alone()
    .note("a limit for each instance: it cannot be shared")
    .anchor(22.4);
    let layer = RateLimiterLayer::builder()
        .limit_for_period(1 << 40)
        .refresh_period(HOUR)
        .build()
        .expect("a rate limit");
    let service = layer.layer(Prompt);
    row.peer(
        "tower-resilience",
        "ratelimiter",
        each!(service => ask(&mut service).await),
    )
    .note("a fixed window: twice the rate at its edge")
    .anchor(121.8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the note at its entrant says.
    #[test]
    fn an_unfair_leaky_bucket_admits_its_burst_twice() {
        let span = Duration::from_millis(10);
        let bucket = leaky_bucket::RateLimiter::builder()
            .max(100)
            .initial(100)
            .interval(span)
            .refill(100)
            .fair(false)
            .build();
        std::thread::sleep(span * 2);
        let admitted = (0..1000).take_while(|_| bucket.try_acquire(1)).count();
        assert!(admitted >= 200, "{admitted}");
    }
}

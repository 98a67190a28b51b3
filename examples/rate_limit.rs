//! Ten calls a second, three at once; then one limiter for each tenant.
//!
//! `cargo run --example rate_limit`

use std::time::{Duration, Instant};

use mainstay::prelude::*;
use mainstay::rate_limit::KeyedRateLimiter;

async fn send(_n: u32) -> std::io::Result<()> {
    tokio::task::yield_now().await; // here the request would be made
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limiter = RateLimiter::per_second(10)
        .burst(3)
        .max_wait(Duration::from_millis(500))
        .build()?;

    // Three go at once, each other 100 ms after the one before.
    let start = Instant::now();
    for n in 1..=8 {
        send(n).rate_limit(&limiter).await?;
        println!("{:>4} ms: call {n}", start.elapsed().as_millis());
    }

    // Nobody sleeps for a wait that is too long: the refusal says when to come back.
    limiter.set_rate(1, Duration::from_secs(1))?;
    if let Err(refused) = send(9).rate_limit(&limiter).await {
        println!("{:>4} ms: {refused}", start.elapsed().as_millis());
    }

    let tenants: KeyedRateLimiter<String> = RateLimiter::per_minute(2).keyed().build()?;
    for tenant in ["blue", "blue", "blue", "red"] {
        match tenants.try_acquire(tenant, 1) {
            Ok(()) => println!("{tenant}: served"),
            Err(refusal) => println!("{tenant}: {refusal}"),
        }
    }
    Ok(())
}

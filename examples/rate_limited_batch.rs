//! Two hundred calls at a rate, a few at once: the rate holds.
//!
//! Rebuilds "Rate Limiting" of the `AgentBay` async guide and "Pattern 2: Rate-Limited
//! Concurrent Processing" of the Agentflow guide. The limiter of the first lets everyone pass
//! who waits at the same time (its 200 calls at 5 a second take 0.2 s); the second has a
//! semaphore and no rate at all.

use std::time::{Duration, Instant};

use mainstay::RateLimiter;
use mainstay::gather::gather;
use mainstay::prelude::*;

const CALLS: u32 = 200;
/// So that the example ends soon.
const A_SECOND: u32 = 80;

async fn invoke(item: u32) -> Result<u32, std::io::Error> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(item)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), mainstay::ConfigError> {
    let limiter = RateLimiter::builder()
        .rate(A_SECOND, Duration::from_secs(1))
        .burst(2); // the second makes up for a timer that is late
    let graph = Pipeline::builder("graph").rate_limit(limiter).build()?;

    let begin = Instant::now();
    let mut next_line = Duration::ZERO;
    let gathered = gather((0..CALLS).map(|item| move || invoke(item)))
        .limit(5)
        .through(&graph)
        .on_progress(|progress| {
            if begin.elapsed() >= next_line {
                println!("  {:>4.1} s: {progress}", begin.elapsed().as_secs_f64());
                next_line += Duration::from_millis(500);
            }
        })
        .await;
    let took = begin.elapsed().as_secs_f64();
    let least = f64::from(CALLS - 2) / f64::from(A_SECOND);
    println!(
        "{} calls at {A_SECOND} a second took {took:.2} s; the rate alone takes {least:.2} s",
        gathered.successes().count()
    );
    Ok(())
}

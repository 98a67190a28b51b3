//! A server goes down and comes back; the breaker notices both.
//!
//!     cargo run --example circuit_breaker

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay::circuit_breaker::Window;
use mainstay::prelude::*;
use mainstay::retry::Jitter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let down = AtomicBool::new(false);
    let ask = || async {
        if down.load(Ordering::Relaxed) {
            Err("connection refused")
        } else {
            Ok("pong")
        }
    };
    let breaker = CircuitBreaker::builder()
        .window(Window::calls(10))
        .failure_rate(0.5)
        .minimum_calls(4)
        .open_backoff(Backoff::exponential(Duration::from_millis(40)).jitter(Jitter::Equal))
        .half_open_probes(2)
        .on_state_change(|change| println!("   *** {change}"))
        .build()?;
    let server = Pipeline::builder("server")
        .circuit_breaker(breaker.clone())
        .timeout(Duration::from_secs(1))
        .build()?;

    for call in 1..=24 {
        down.store((4..=14).contains(&call), Ordering::Relaxed);
        match server.call(ask).await {
            Ok(answer) => println!("{call:2} {answer}"),
            Err(error) => println!("{call:2} {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    breaker.force_open();
    if let Err(error) = server.call(ask).await {
        println!("   {error}");
    }
    breaker.reset();
    println!("   {:?}", breaker.snapshot());
    Ok(())
}

//! One pipeline around calls to a payment provider that has a bad minute.
//!
//! ```text
//! cargo run --example pipeline
//! ```

use std::cell::Cell;
use std::io::{Error as IoError, ErrorKind};
use std::time::Duration;

use mainstay::observe::Event;
use mainstay::prelude::*;
use mainstay::{Error, Refusal};
use tokio::time::sleep;

/// A provider that fails so many times before it answers.
struct Provider {
    failures_left: Cell<u32>,
}

impl Provider {
    async fn charge(&self, order: &str) -> Result<String, IoError> {
        sleep(Duration::from_millis(5)).await;
        match self.failures_left.get().checked_sub(1) {
            Some(left) => {
                self.failures_left.set(left);
                Err(ErrorKind::ConnectionReset.into())
            }
            None => Ok(format!("{order} is paid")),
        }
    }
}

/// What a shop tells its customer.
fn told(result: Result<String, Error<IoError>>) -> String {
    match result {
        Ok(receipt) => receipt,
        Err(Error::Refused {
            reason: Refusal::CircuitOpen { .. },
            ..
        }) => String::from("payments are down, your order is kept"),
        Err(Error::TimedOut { .. }) => String::from("payments are slow, please try later"),
        Err(error) => format!("not paid: {error}"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let open_for = Duration::from_millis(300);
    let breaker = CircuitBreaker::builder()
        .consecutive_failures(4)
        .open_for(open_for)
        .half_open_probes(1)
        .on_state_change(|change| println!("    circuit breaker: {change}"));
    let payments = Pipeline::builder("payments")
        .observe(|event: &Event<'_>| println!("    {event}"))
        .timeout(Duration::from_millis(500)) // for the whole call
        .retry(Backoff::exponential(Duration::from_millis(20)))
        .circuit_breaker(breaker)
        .rate_limit(RateLimiter::per_second(100).burst(20))
        .bulkhead(8)
        .timeout(Duration::from_millis(100)) // for one attempt
        .build()?;
    let provider = Provider {
        failures_left: Cell::new(2),
    };
    let pay = async |order: &str| told(payments.call(|| provider.charge(order)).await);

    println!("Two failures, then an answer:");
    println!("  {}", pay("the rope").await);

    println!("Down: what is left of the attempts is not made.");
    provider.failures_left.set(1_000);
    println!("  {}", pay("the mast").await);
    println!("  {}", pay("the sail").await);

    println!("Back again, when the breaker lets a probe through:");
    provider.failures_left.set(0);
    sleep(open_for).await;
    println!("  {}", pay("the mast").await);

    println!("Hanging:");
    let hanging = payments.call(std::future::pending);
    println!("  {}", told(hanging.await));
    Ok(())
}

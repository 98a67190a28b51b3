//! A limit for the whole call and one for each attempt; the deadline goes down the stack.

use std::time::{Duration, Instant};

use mainstay::prelude::*;
use mainstay::{Attempt, Error};

const MS: Duration = Duration::from_millis(1);

/// A server that is slow twice.
async fn ask(attempt: Attempt) -> std::io::Result<&'static str> {
    let left = attempt.remaining().unwrap_or_default();
    println!("  attempt {} has {left:.0?}", attempt.number());
    if attempt.number() < 3 {
        tokio::time::sleep(300 * MS).await;
    }
    Ok("an answer")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("any future:");
    let slow = async {
        tokio::time::sleep(100 * MS).await;
        Ok::<_, std::io::Error>("too late")
    };
    match slow.timeout(20 * MS).await {
        Err(Error::TimedOut { after, .. }) => println!("  timed out after {after:?}"),
        other => println!("  {other:?}"),
    }

    for whole in [500, 150] {
        println!("at most {whole} ms for all, 100 ms for each attempt:");
        let pipeline = Pipeline::builder("search")
            .timeout(whole * MS)
            .retry(Backoff::constant(20 * MS))
            .timeout(100 * MS)
            .build()?;
        let start = Instant::now();
        match pipeline.call_with(ask).await {
            Ok(answer) => println!("  {answer} after {:.0?}", start.elapsed()),
            Err(error) => println!("  {error}"),
        }
    }
    Ok(())
}

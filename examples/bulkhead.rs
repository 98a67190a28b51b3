//! Two calls at once, two in the queue, the rest refused; resized while in use.

use std::time::Duration;

use mainstay::{Bulkhead, prelude::*};

async fn work() -> std::io::Result<()> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// Starts six calls at once and says how each ended.
async fn rush(bulkhead: &Bulkhead) {
    let calls: Vec<_> = (1..=6)
        .map(|n| {
            let bulkhead = bulkhead.clone();
            tokio::spawn(async move {
                match work.bulkhead(&bulkhead).await {
                    Ok(()) => println!("  call {n}: done"),
                    Err(error) => println!("  call {n}: {error}"),
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    println!("  {:?}", bulkhead.snapshot());
    for call in calls {
        let _ = call.await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), mainstay::ConfigError> {
    let bulkhead = Bulkhead::builder().max_concurrent(2).max_queue(2).build()?;
    println!("two slots, two places in the queue:");
    rush(&bulkhead).await;

    println!("four slots:");
    bulkhead.resize(4);
    rush(&bulkhead).await;

    println!("four slots, three for each call:");
    rush(&bulkhead.weighing(3)).await;
    Ok(())
}

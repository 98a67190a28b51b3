//! A connection that is made when it is first needed: the chapter "Pattern 3: Lazy Async
//! Initialization" of the `AutoBot` guide.
//!
//! There a flag says whether it was made, and is asked before an await: two callers at the
//! same time connect twice, and one that is cancelled in between leaves half of it. Here one
//! execution serves all, goes on without those who leave, and is tried again when it failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay::lazy::Lazy;
use mainstay::{ConfigError, prelude::*};

#[derive(Debug)]
struct Redis {
    connection: u32,
}

static DIALLED: AtomicU32 = AtomicU32::new(0);

/// Down for its first three connections.
async fn connect() -> Result<Redis, String> {
    let connection = DIALLED.fetch_add(1, Ordering::Relaxed) + 1;
    println!("  connecting, attempt {connection}");
    tokio::time::sleep(Duration::from_millis(80)).await;
    if connection <= 3 {
        return Err(String::from("connection refused"));
    }
    Ok(Redis { connection })
}

struct KnowledgeBase {
    redis: Lazy<Redis, String>,
}

impl KnowledgeBase {
    /// Does nothing that takes time.
    fn new() -> Result<Self, ConfigError> {
        let connecting = Pipeline::builder("connect redis")
            .retry(
                Retry::builder()
                    .max_attempts(2)
                    .backoff(Backoff::constant(Duration::ZERO)),
            )
            .build()?;
        let redis = Lazy::new(connect).through(&connecting);
        Ok(Self { redis })
    }

    async fn store(&self, fact: &str) -> Result<String, mainstay::Error<String>> {
        let redis = self.redis.get().await?;
        Ok(format!(
            "\"{fact}\" stored by connection {}",
            redis.connection
        ))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ConfigError> {
    let base = Arc::new(KnowledgeBase::new()?);

    println!("three at once, while it is down: one call of the pipeline for all");
    let facts = ["one", "two", "three"].map(|fact| base.store(fact));
    for told in futures_util::future::join_all(facts).await {
        match told {
            Ok(line) => println!("  {line}"),
            Err(error) => println!("  {error}"),
        }
    }

    println!("one that asks again, and leaves after 120 ms, in the middle of an attempt");
    let hasty = tokio::time::timeout(Duration::from_millis(120), base.store("hasty")).await;
    println!("  left: {}", hasty.is_err());

    println!("the next goes on with that attempt");
    match base.store("patient").await {
        Ok(line) => println!("  {line}"),
        Err(error) => println!("  {error}"),
    }
    println!("connected {} times in all", DIALLED.load(Ordering::Relaxed));
    Ok(())
}

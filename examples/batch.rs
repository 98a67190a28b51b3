//! A batch through a pipeline: every task is tried again, protected, and has its own outcome.
//!
//! Rebuilds "Use Semaphores to Limit Concurrency" and the batch processing of the `AgentBay`
//! guide on sync and async, and "Concurrent Operations" and "Batch Operations" of its async
//! guide. Theirs fail as a whole when one task does, and start every batch only when the
//! slowest of the one before has ended.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mainstay::gather::gather;
use mainstay::prelude::*;

static CALLS: AtomicU32 = AtomicU32::new(0);

/// Every fourth call fails, wherever it comes from; file 13 is broken for good.
async fn process(file: u32) -> Result<String, String> {
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(u64::from(10 + file * 11 % 30))).await;
    match (file, call % 4) {
        (13, _) => Err(format!("file {file} is broken")),
        (_, 3) => Err("connection reset".into()),
        _ => Ok(format!("file {file}")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), mainstay::ConfigError> {
    let files = Pipeline::builder("files")
        .timeout(Duration::from_secs(2))
        .retry(
            Retry::builder()
                .backoff(Backoff::exponential(Duration::from_millis(10)))
                .max_attempts(4),
        )
        .bulkhead(8)
        .build()?;

    let begin = Instant::now();
    let done = gather((0..20).map(|file| move || process(file)))
        .limit(5)
        .through(&files)
        .await;
    println!(
        "{} of 20 files in {:.0?}, with {} calls",
        done.successes().count(),
        begin.elapsed(),
        CALLS.load(Ordering::Relaxed)
    );
    for (index, error) in done.failures() {
        println!("  task {index}: {error}");
    }

    println!("in batches of 8, to save each before the next starts:");
    let items = (20..40).map(|file| move || process(file));
    let mut batches = gather(items).limit(5).through(&files).batches(8);
    while let Some(batch) = batches.next().await {
        let good = batch.iter().filter(|outcome| outcome.is_ok()).count();
        println!("  {good} of {} saved", batch.len());
    }
    Ok(())
}

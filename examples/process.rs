//! Children that cannot hang, leak or outlive their owner: a time limit that keeps the output,
//! lines while they come, the cancel of a paused child, and a pool that ends them together.

use std::error::Error;
use std::time::{Duration, Instant};

use mainstay::process::{Command, ProcessPool};
use mainstay::shutdown::Component;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    limited().await?;
    lines().await?;
    paused().await?;
    pool().await
}

/// A time limit is an outcome, not an error: what was written until then is kept.
async fn limited() -> Result<(), Box<dyn Error>> {
    let build = Command::shell("echo compiling; sleep 60").time_limit(Duration::from_millis(200));
    let output = build.run().await?;
    println!(
        "{:?} after {:.0?}: {:?}",
        output.end,
        output.elapsed,
        output.stdout.text()
    );
    // For a pipeline that counts failures it becomes an error, which holds the output.
    if let Err(error) = output.into_result() {
        println!("as an error: {error}");
    }
    Ok(())
}

/// Lines come as they are written, of both streams, however long they are.
async fn lines() -> Result<(), Box<dyn Error>> {
    let script = "echo one; echo 'not UTF-8: \\377' >&2; head -c 100000 /dev/zero; echo; exit 3";
    let mut process = Command::shell(script).spawn()?;
    let mut lines = process.lines();
    while let Some(line) = lines.line().await {
        let text = line.text();
        let start: String = text.chars().take(20).collect();
        let more = if line.partial { " and goes on" } else { "" };
        println!(
            "{:?}: {} bytes{more}: {start:?}",
            line.source,
            line.bytes.len()
        );
    }
    println!("then: {:?}", process.wait().await?.end);
    Ok(())
}

/// A stopped child hears nothing; a cancel lets it go on, so that it can end in good order.
async fn paused() -> Result<(), Box<dyn Error>> {
    let script = "trap 'echo saved; exit' TERM; echo working; while :; do sleep 0.01; done";
    let mut process = Command::shell(script).spawn()?;
    process.chunk().await;
    let control = process.handle();
    control.pause();
    println!("child {} is {:?}", control.id(), control.state());
    control.cancel();
    let output = process.wait().await?;
    println!(
        "{:?}: {:?} (killed: {})",
        output.end,
        output.stdout.text(),
        output.forced
    );
    Ok(())
}

/// Three at once of five; and then three that do not listen, which are ended within one grace.
async fn pool() -> Result<(), Box<dyn Error>> {
    let pool = ProcessPool::builder(3)
        .max_queue(10)
        .grace(Duration::from_millis(300))
        .build()?;
    let (job, begun) = (Command::shell("sleep 0.2"), Instant::now());
    let jobs = (0..5).map(|_| pool.run(&job));
    let done = mainstay::gather(jobs).await;
    println!("{} jobs, 3 at once: {:.1?}", done.len(), begun.elapsed());
    let stubborn = Command::shell("trap '' TERM; while :; do sleep 0.01; done");
    let mut children = Vec::new();
    for _ in 0..3 {
        children.push(pool.spawn(&stubborn).await?);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!("closing: {}", pool.close().await);
    println!("in all: {}", pool.counts());
    Ok(())
}

//! Commands through a task queue: the `AgentBay` async guide (chapter "Task Queue Pattern") and
//! its guide on sync and async ("Pattern 2: Async Task Queue").
//!
//! There a worker whose session cannot be created dies and the queue hangs, a producer who
//! pauses for a second strands what it pushes afterwards, and an item whose worker was
//! cancelled is lost. Here every command has exactly one outcome.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay::prelude::*;
use mainstay::queue::{Priority, Queue, QueueSnapshot};

const MS: Duration = Duration::from_millis(1);

/// A session in the cloud, as the guides have it: every fourth cannot be created.
struct Session(u32);

static CREATED: AtomicU32 = AtomicU32::new(0);

impl Session {
    async fn create() -> Result<Self, String> {
        tokio::time::sleep(20 * MS).await;
        match CREATED.fetch_add(1, Ordering::Relaxed) {
            n if n % 4 == 1 => Err(format!("session {n} could not be created")),
            n => Ok(Self(n)),
        }
    }

    async fn execute(&self, command: &str) -> Result<String, String> {
        match command {
            "hang" => std::future::pending().await,
            "crash" => panic!("the command broke its worker"),
            _ => tokio::time::sleep(60 * MS).await,
        }
        Ok(format!("'{command}' in session {}", self.0))
    }
}

/// What a worker does with one command. The session is made in here: if that fails, this
/// command has failed (or is tried again), and the worker takes the next one.
async fn run(command: String) -> Result<String, String> {
    let session = Session::create().await?;
    session.execute(&command).await
}

fn show(counts: QueueSnapshot) {
    println!(
        "    [{}/{}] done {}, failed {}, given up {}, panicked {}, cancelled {}",
        counts.settled(),
        counts.accepted,
        counts.done,
        counts.failed,
        counts.given_up(),
        counts.panicked,
        counts.cancelled,
    );
}

async fn every_command_has_an_outcome() -> Result<(), Box<dyn std::error::Error>> {
    println!("five commands, one that hangs and one that panics; sessions fail now and then:");
    let protected = Pipeline::builder("commands")
        .retry(Retry::builder().max_attempts(3))
        .timeout(300 * MS)
        .build()?;
    let queue = Queue::builder()
        .workers(3)
        .capacity(4)
        .through(protected)
        .on_progress(show)
        .build(run)?;
    let mut tickets = Vec::new();
    for command in [
        "Task 1", "Task 2", "hang", "crash", "Task 3", "Task 4", "Task 5",
    ] {
        if command == "Task 4" {
            println!("    (the producer pauses for 1.2 s; no worker gives up)");
            tokio::time::sleep(1_200 * MS).await;
        }
        tickets.push((command, queue.push(command.to_string()).await?));
    }
    queue.close();
    for (command, ticket) in tickets {
        match ticket.await {
            Ok(output) => println!("  {command}: {output}"),
            Err(error) => println!("  {command}: {error}"),
        }
    }
    if let Err(late) = queue.try_push("Task 6".to_string()) {
        println!("  after the close: {late}; '{}' is still ours", late.item);
    }
    Ok(())
}

async fn results_as_they_come() -> Result<(), Box<dyn std::error::Error>> {
    println!("results as a stream, the urgent one first, the producer in a task of its own:");
    let queue =
        Queue::builder()
            .workers(1)
            .outcomes(8)
            .build(|command: &'static str| async move {
                tokio::time::sleep(20 * MS).await;
                Ok::<_, String>(command)
            })?;
    let mut outcomes = queue.outcomes().ok_or("it was asked for")?;
    tokio::spawn(async move {
        for (command, priority) in [
            ("a", Priority::NORMAL),
            ("b", Priority::LOW),
            ("urgent", Priority::HIGH),
        ] {
            if let Ok(ticket) = queue.push(command).priority(priority).await {
                ticket.detach();
            }
        }
        // With its last handle gone the queue is closed, and the stream ends after the rest.
    });
    while let Some((id, outcome)) = outcomes.next().await {
        println!("  item {id}: {outcome:?}");
    }
    Ok(())
}

async fn a_hard_end() -> Result<(), Box<dyn std::error::Error>> {
    println!("a shutdown within 150 ms, with more to do than that:");
    let queue = Queue::builder().workers(2).build(|n: u32| async move {
        tokio::time::sleep(100 * MS).await;
        Ok::<_, String>(n)
    })?;
    for n in 1..=7 {
        queue.push(n).await?.detach();
    }
    let start = std::time::Instant::now();
    let report = queue.shutdown(150 * MS).await;
    println!("  it took {} ms", start.elapsed().as_millis());
    show(report.counts);
    println!("  never begun, and returned: {:?}", report.returned);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    every_command_has_an_outcome().await?;
    results_as_they_come().await?;
    a_hard_end().await
}

//! A million items through a queue of 4 workers and 64 places: the memory must stay flat.
//!
//! Prints the peak resident size after 10 000 and after 1 000 000 items, and the pace next to
//! a plain tokio channel with 4 tasks. Exits with 1 when the memory grows.
//!
//! ```text
//! cargo run --release -p mainstay-benches --bin flat_queue
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::queue::Queue;
use tokio::sync::{Mutex, mpsc};

const FEW: u64 = 10_000;
const MANY: u64 = 1_000_000;
const ALLOWED_KIB: u64 = 4 * 1024;

type Work = Queue<u64, u64, std::io::Error>;

/// A line of `/proc/self/status`, in KiB; 0 where there is no such file.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Every 16th item has to wait once.
async fn work(n: u64) -> std::io::Result<u64> {
    if n.trailing_zeros() >= 4 {
        tokio::task::yield_now().await;
    }
    Ok(n)
}

fn queue(outcomes: Option<usize>) -> Work {
    let builder = Queue::builder().workers(4).capacity(64);
    let builder = match outcomes {
        Some(bound) => builder.outcomes(bound),
        None => builder,
    };
    builder.build(work).expect("the settings are in range")
}

/// Nobody asks how the items ended.
async fn detached(items: u64) {
    let queue = queue(None);
    for n in 0..items {
        queue.push(n).await.expect("it is open").detach();
    }
    queue.drained().await;
    assert_eq!(queue.snapshot().done, items);
}

/// Each producer awaits its ticket.
async fn ticketed(items: u64) {
    let queue = queue(None);
    let producers = (0..8).map(|_| {
        let queue = queue.clone();
        tokio::spawn(async move {
            for n in 0..items / 8 {
                let ticket = queue.push(n).await.expect("it is open");
                assert_eq!(ticket.await.expect("it is done"), n);
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.expect("nothing panics");
    }
}

/// All outcomes are read from the stream.
async fn streamed(items: u64) {
    let queue = queue(Some(64));
    let mut outcomes = queue.outcomes().expect("it was asked for");
    tokio::spawn(async move {
        for n in 0..items {
            queue.push(n).await.expect("it is open").detach();
        }
    });
    let mut read = 0;
    while outcomes.next().await.is_some() {
        read += 1;
    }
    assert_eq!(read, items);
}

/// What one would write without a queue: no outcomes, no order of importance, no account.
async fn channel(items: u64) {
    let (push, pop) = mpsc::channel::<u64>(64);
    let pop = Arc::new(Mutex::new(pop));
    let workers = (0..4).map(|_| {
        let pop = Arc::clone(&pop);
        tokio::spawn(async move {
            loop {
                let item = pop.lock().await.recv().await;
                let Some(n) = item else { break };
                work(n).await.expect("it never fails");
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    for n in 0..items {
        push.send(n).await.expect("it is open");
    }
    drop(push);
    for worker in workers {
        worker.await.expect("nothing panics");
    }
}

async fn timed(run: impl Future<Output = ()>) -> Duration {
    let start = Instant::now();
    run.await;
    start.elapsed()
}

fn pace(items: u64, span: Duration) -> f64 {
    items as f64 / span.as_secs_f64() / 1e6
}

macro_rules! measure {
    ($name:literal, $run:ident) => {{
        $run(FEW).await;
        let (peak, now) = (status("VmHWM"), status("VmRSS"));
        let span = timed($run(MANY)).await;
        let (later, after) = (status("VmHWM"), status("VmRSS"));
        println!(
            "{:10} {:6.2} M items/s; resident KiB: {now} after {FEW}, {after} after {MANY}; peak {peak}, then {later}",
            $name,
            pace(MANY, span),
        );
        later - peak
    }};
}

async fn all() -> ExitCode {
    let grown = [
        measure!("detached", detached),
        measure!("ticketed", ticketed),
        measure!("streamed", streamed),
        measure!("channel", channel),
    ];
    let most = grown.into_iter().max().unwrap_or(0);
    println!("the peak grew by {most} KiB at most; {ALLOWED_KIB} are allowed");
    ExitCode::from(u8::from(most > ALLOWED_KIB))
}

fn main() -> ExitCode {
    let threads = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(2);
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 0 {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_time().build().expect("a runtime");
    runtime.block_on(all())
}

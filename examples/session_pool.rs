//! Rebuilds "Session Pool Pattern" of the `AgentBay` async guide and "Pattern 1: Session Pool"
//! of its guide on sync and async: sessions of a cloud service that are dear to create, some of
//! which fail.
//!
//! The guides' pool creates twice its size when two callers come first, and hangs for ever when
//! every creation fails. This one shows: a storm of callers that never makes more sessions than
//! allowed, failures that are reported, a caller who gives up, a command that is cut short, and
//! an orderly end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use mainstay::pool::{Manage, Pool};
use mainstay::prelude::*;

/// A stand-in for the service: it knows how many sessions there are, and were at most.
#[derive(Debug, Default)]
struct Cloud {
    asked: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    down: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
struct Session {
    id: usize,
}

impl Session {
    async fn run(&mut self, command: &str) -> Result<String, &'static str> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(format!("session {} ran {command}", self.id))
    }
}

struct Sessions(Arc<Cloud>);

impl Manage for Sessions {
    type Object = Session;
    type Error = &'static str;

    async fn create(&self) -> Result<Session, &'static str> {
        let id = self.0.asked.fetch_add(1, SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if id % 3 == 2 || self.0.down.load(SeqCst) {
            return Err("no capacity");
        }
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.most.fetch_max(open, SeqCst);
        Ok(Session { id })
    }

    async fn close(&self, session: Session) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.0.open.fetch_sub(1, SeqCst);
        println!("  (session {} deleted)", session.id);
    }
}

async fn storm(pool: &Pool<Sessions>) -> (usize, usize) {
    let tasks: Vec<_> = (0..30)
        .map(|n| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let command = format!("print({n})");
                pool.use_with(async |session| session.run(&command).await)
                    .await
            })
        })
        .collect();
    let mut ended = (0, 0);
    for task in tasks {
        match task.await {
            Ok(Ok(_)) => ended.0 += 1,
            _ => ended.1 += 1,
        }
    }
    ended
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cloud = Arc::new(Cloud::default());
    let create = Pipeline::builder("create session")
        .retry(Retry::builder().max_attempts(3))
        .build()?;
    let pool = Pool::builder(Sessions(Arc::clone(&cloud)))
        .max_size(3)
        .create_policy(&create)
        .build()?;

    println!("30 callers at once, at most 3 sessions, one creation in three fails:");
    let (done, failed) = storm(&pool).await;
    let most = cloud.most.load(SeqCst);
    println!("  {done} done, {failed} failed; never more than {most} sessions were open");

    println!("a caller who gives up in the middle of a command:");
    let command = pool.use_with(async |session| session.run("sleep").await);
    let cut = tokio::time::timeout(Duration::from_millis(5), command).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let closed = pool.snapshot().closed.cancelled_use;
    println!(
        "  cut short: {}; sessions closed for it: {closed}",
        cut.is_err()
    );

    println!("a caller who waits 30 ms for a creation of 50 ms:");
    let held: Vec<_> = std::iter::from_fn(|| pool.try_get().ok()).collect();
    match pool.get().max_wait(Duration::from_millis(30)).await {
        Ok(session) => println!("  got session {}", session.id),
        Err(error) => println!("  {error}"),
    }
    let idle = || pool.snapshot().idle;
    while idle() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("  the creation went on: {} idle now", idle());
    drop(held);

    println!("close:");
    let report = pool.close_within(Duration::from_secs(1)).await;
    println!(
        "  drained: {}, in {:?}; {} sessions left open",
        report.is_drained,
        report.took,
        cloud.open.load(SeqCst)
    );

    println!("a service that is down (the guide's pool hangs here):");
    cloud.down.store(true, SeqCst);
    let pool = Pool::builder(Sessions(cloud)).max_size(3).build()?;
    let (first, second) = tokio::join!(pool.get(), pool.get());
    for result in [first, second] {
        match result {
            Ok(session) => println!("  got session {}", session.id),
            Err(error) => println!("  {error}"),
        }
    }
    Ok(())
}

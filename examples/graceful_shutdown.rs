//! A worker that ends in order: on a signal (feature `signal`), or by itself after a second.
//!
//! Rebuilds "Graceful Shutdown" of the `AgentBay` async guide, and "Pattern 5: Graceful Shutdown
//! with Signal Handling" of the Agentflow guide with the statistics of its `aclose`. There the
//! work is not waited for, a close takes up to twice its time-out, and a second signal is
//! lost. Here work drains, one deadline bounds it all, and a second ctrl-c ends at once.

use std::convert::Infallible;
use std::time::Duration;

use mainstay::scope::{Scope, ScopeHandle};
use mainstay::shutdown::Shutdown;
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

/// Takes in requests until it is told to stop.
async fn serve(shutdown: Shutdown, requests: ScopeHandle) -> Result<(), Infallible> {
    let stop = shutdown.token();
    for n in 0.. {
        let request = async move {
            sleep((n % 5) * 100 * MS).await;
            Ok::<_, Infallible>(())
        };
        if requests.spawn(format!("request {n}"), request).is_err() || stop.is_cancelled() {
            break;
        }
        sleep(50 * MS).await;
    }
    Ok(())
}

async fn initialize() {
    sleep(100 * MS).await;
    println!("initialized");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (server, requests) = (Scope::new(), Scope::new());
    // Something that only ends when it is asked to.
    let reports = Scope::new();
    let asked = reports.token();
    reports.spawn("report", async move {
        asked.cancelled().await;
        println!("report: cancelled, its place is written down");
        Ok::<_, Infallible>(())
    })?;

    let shutdown = Shutdown::builder()
        .deadline(Duration::from_secs(2))
        .component("server", server.handle())
        .stage(|stage| {
            stage
                .component("requests", requests.handle())
                .component("reports", reports.handle())
        })
        .closing("session", || async {
            sleep(20 * MS).await;
            println!("session deleted");
            Ok::<_, Infallible>(())
        })
        .exit_at_deadline()
        .build()?;
    #[cfg(feature = "signal")]
    shutdown.on_signals()?;

    // A shutdown that is requested in here waits for its end.
    let section = shutdown.protect()?;
    initialize().await;
    drop(section);

    server.spawn("serve", serve(shutdown.clone(), requests.handle()))?;
    println!("working; ctrl-c ends it (process {})", std::process::id());
    let by_itself = shutdown.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        by_itself.request();
    });

    let report = shutdown.run().await;
    println!("{report}");
    std::process::exit(report.exit_code());
}

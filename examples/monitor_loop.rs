//! Three sessions watched by named tasks, until they are told to stop.
//!
//! Rebuilds "Real-Time Systems: `monitor_session`" of the `AgentBay` comparison guide. Its loop
//! sleeps between two looks, so that each look's own time shifts all later ones, and nothing
//! ever stops it. Here looks keep to their points in time, a stall is made up for by one look
//! and not by a burst, and one token stops all.

use std::convert::Infallible;
use std::time::Duration;

use mainstay::scope::Scope;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_millis(100);

/// A stand-in for a look at a session: the third one takes long once.
async fn is_active(session: u32, look: u32) -> bool {
    let slow = session == 3 && look == 2;
    sleep(Duration::from_millis(if slow { 350 } else { 10 })).await;
    !(session == 2 && look == 5)
}

async fn monitor(session: u32, start: Instant, stop: CancellationToken) -> Result<u32, Infallible> {
    let mut ticks = interval(PERIOD);
    // What was missed is left out, and the next look is at a whole period again.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut looks = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(looks),
            _ = ticks.tick() => {
                looks += 1;
                let at = start.elapsed().as_millis();
                if !is_active(session, looks).await {
                    println!("{at:4} ms: session {session} has terminated");
                    return Ok(looks);
                }
                println!("{at:4} ms: session {session} is active");
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scope = Scope::builder().grace(Duration::from_secs(1)).build()?;
    let start = Instant::now();
    let mut monitors = Vec::new();
    for session in 1..=3 {
        let task = monitor(session, start, scope.token());
        monitors.push(scope.spawn(format!("monitor of session {session}"), task)?);
    }
    sleep(Duration::from_millis(750)).await;
    println!("still there:");
    for task in scope.tasks() {
        println!("  {task}");
    }
    scope.cancel();
    for (session, monitor) in (1..).zip(monitors) {
        println!("session {session}: {} looks", monitor.await?);
    }
    println!("{}", scope.join().await);
    Ok(())
}

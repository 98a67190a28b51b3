//! A blocking library under a time limit: the chapters "Nested Timeout Pattern (Async Thread
//! Execution)" and "Pattern 2: Blocking Library" of the `AutoBot` guide.
//!
//! There a thread that outlives its limit goes on where nobody sees it, and each new query adds
//! another. Here it keeps its slot: its number is visible, and the next ones are refused in
//! time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use mainstay::offload::Offload;

/// A query of a library that knows nothing of async: 600 ms when its index is cold.
fn query(text: &str, cold: bool) -> Result<String, String> {
    sleep(Duration::from_millis(if cold { 600 } else { 20 }));
    if text.is_empty() {
        return Err(String::from("an empty query"));
    }
    Ok(format!("3 documents about {text}"))
}

async fn ask(offload: &Offload, text: &'static str, cold: bool) {
    let begun = Instant::now();
    let told = offload
        .run(move || query(text, cold))
        .timeout(Duration::from_millis(200))
        .await;
    let after = begun.elapsed().as_millis();
    match told {
        Ok(found) => println!("  {after:>3} ms: {found}"),
        Err(error) => println!("  {after:>3} ms: {text}: {error}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), mainstay::ConfigError> {
    let offload = Offload::builder().threads(2).queue(2).build()?;

    println!("two quick ones, side by side");
    tokio::join!(ask(&offload, "ropes", false), ask(&offload, "masts", false));

    println!("the index is cold: six at once, two threads, two places in the queue");
    let all = ["sails", "knots", "tides", "winds", "stars", "charts"];
    futures_util::future::join_all(all.map(|text| ask(&offload, text, true))).await;
    println!("  {offload:?}");

    println!("while they run on, a new one waits for its 200 ms and is never begun");
    ask(&offload, "anchors", false).await;

    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("the abandoned threads have come back");
    ask(&offload, "anchors", false).await;
    println!("  {offload:?}");
    Ok(())
}

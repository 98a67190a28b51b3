//! Tasks that end before their owner: a limit, the first error, who is there, and the drop.
//!
//! The task tracking that the CC Executor guide asks for ("track all created tasks for proper
//! cleanup"), and the gather of the `AgentBay` guides, where a failure leaves siblings running.

use std::time::Duration;

use mainstay::scope::{OnError, Scope};
use tokio::time::sleep;

async fn work(name: &'static str, span: u64) -> Result<u64, String> {
    sleep(Duration::from_millis(span)).await;
    match span {
        150 => Err(format!("{name} has lost its connection")),
        _ => Ok(span),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("two at once:");
    let scope = Scope::builder()
        .limit(2)
        .on_error(OnError::Collect)
        .build()?;
    let mut tasks = Vec::new();
    for (name, span) in [("a", 100), ("b", 150), ("c", 200), ("d", 50)] {
        tasks.push(scope.spawn(name, work(name, span))?);
    }
    sleep(Duration::from_millis(20)).await;
    for task in scope.tasks() {
        println!("  {task}");
    }
    for task in tasks {
        match task.await {
            Ok(span) => println!("  took {span} ms"),
            Err(error) => println!("  error: {error}"),
        }
    }
    println!("  {}", scope.join().await);

    println!("the first error cancels the others:");
    let (result, report) = Scope::new()
        .run(|scope| async move {
            let slow = scope
                .spawn("slow", work("slow", 60_000))
                .map_err(|_| "closed")?;
            let token = scope.token();
            let polite = async move {
                token.cancelled().await;
                println!("  polite: asked to end, writes its last line");
                Ok::<_, String>(())
            };
            scope.spawn("polite", polite).map_err(|_| "closed")?;
            scope.spawn("b", work("b", 150)).map_err(|_| "closed")?;
            slow.await.map_err(|_| "slow was cancelled")
        })
        .await;
    if let Err(error) = result {
        println!("  {error}\n  {report}");
    }

    println!("dropped:");
    let scope = Scope::builder()
        .on_drop(|report| println!("  dropped with {}", report.counts))
        .build()?;
    scope.spawn("forgotten", work("forgotten", 60_000))?;
    let handle = scope.handle();
    sleep(Duration::from_millis(1)).await;
    drop(scope);
    handle.drained().await;
    println!("  {}", handle.counts());
    Ok(())
}

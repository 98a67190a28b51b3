//! One time limit for a group, and what was done by then is kept.
//!
//! Rebuilds "Multiple Operations with Timeout" of the `AgentBay` async guide. There `wait_for`
//! around `gather` throws away the results of the tasks that were in time; here each has its
//! outcome.

use std::time::Duration;

use mainstay::gather::gather;

async fn create_and_execute(task: u64) -> Result<String, std::io::Error> {
    // Cleaned up also where the task is cut short.
    let _session = Session(task);
    tokio::time::sleep(Duration::from_millis(60 * task)).await;
    Ok(format!("task {task}"))
}

struct Session(u64);

impl Drop for Session {
    fn drop(&mut self) {
        println!("  session {} is closed", self.0);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("five tasks, of which three can be done in 200 ms:");
    let gathered = gather((1..=5).map(create_and_execute))
        .deadline(Duration::from_millis(200))
        .await;
    println!("complete: {}", gathered.is_complete());
    for (task, outcome) in (1..).zip(&gathered) {
        match outcome {
            Ok(output) => println!("  {output}: done"),
            Err(error) => println!("  task {task}: {error}"),
        }
    }
}

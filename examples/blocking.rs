//! A script without async: the chapter "Sync Application (Simple Scripts)" of the agentflow
//! guide, and "When to Use Sync API" of the `AgentBay` guide.
//!
//! The same patterns as in an async program, from `fn main()`; and where a blocking call would
//! hold up a runtime, it says so instead of hanging.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use mainstay::lazy::Lazy;
use mainstay::{blocking, prelude::*};

/// A file of a session far away; every third request fails.
async fn read(path: &str, request: u32) -> io::Result<String> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    if request % 3 == 2 {
        return Err(ErrorKind::ConnectionReset.into());
    }
    Ok(format!("contents of {path}"))
}

async fn connect() -> io::Result<&'static str> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    println!("session made");
    Ok("code_latest")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = Pipeline::builder("files")
        .timeout(Duration::from_secs(2))
        .retry(Retry::builder().backoff(Backoff::constant(Duration::from_millis(10))))
        .build()?;
    // Its error is told to everyone who waits: it is shared, since it cannot be cloned.
    let session = Lazy::new(async || connect().await.map_err(Arc::new));

    let requests = Cell::new(0);
    for path in ["a.txt", "b.txt", "c.txt", "d.txt"] {
        let image = blocking::run_call(session.get())?;
        let text = blocking::call(&files, || {
            requests.set(requests.get() + 1);
            read(path, requests.get())
        });
        println!("{image}: {}", text?.to_uppercase());
    }
    println!("{} requests for 4 files", requests.get());

    let slow = std::future::pending::<Result<(), String>>();
    let late = blocking::run_call(slow.timeout(Duration::from_millis(50)));
    if let Err(error) = late {
        println!("too slow: {error}");
    }

    // A library with a blocking API, called by a program that has a runtime.
    let program = tokio::runtime::Builder::new_current_thread().build()?;
    let inside = program.block_on(async { blocking::call(&files, || read("e.txt", 1)) });
    if let Err(error) = inside {
        println!("inside of a runtime: {error}");
    }
    Ok(())
}

//! Runs commands for whoever asks over a WebSocket, in JSON-RPC 2.0, and streams their output.
//!
//! Rebuilds the executor of the CC Executor guide on this crate's process adapter. There one
//! line of 1 MiB or one byte that is not UTF-8 ends the reading of a child, a paused child
//! cannot be cancelled, replies are stolen from other callers, and children are killed one
//! after the other. `websocket_server/server.rs` says what can be asked for.
//!
//! ```text
//! websocket_server [--port 8765] [--grace SECONDS]
//! ```
//!
//! It listens on the loopback interface, prints its address, and ends in order on SIGTERM or
//! ctrl-c. It runs whatever it is told to: there is no authentication here.

#[path = "websocket_server/execution.rs"]
mod execution;
#[path = "websocket_server/server.rs"]
mod server;

use std::time::Duration;

use server::{Limits, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut limits = Limits::default();
    let mut port: u16 = 8765;
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or("a value is missing")?;
        match &*name {
            "--port" => port = value.parse()?,
            "--grace" => limits.grace = Duration::try_from_secs_f64(value.parse()?)?,
            _ => return Err(format!("no such option: {name}").into()),
        }
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on ws://{}/", listener.local_addr()?);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let report = serve(listener, limits, stop).await?;
    println!("closed: {report:?}");
    Ok(())
}

//! A local AgentBay server: what the service says on the wire, on sessions of this machine.
//!
//! ```text
//! cargo run --features session --example agentbay_server -- --port 8080
//! AGENTBAY_ENDPOINT=http://127.0.0.1:8080 AGENTBAY_API_KEY=akm-local ...
//! ```
//!
//! It can be told to go wrong in each way in which a service goes wrong: at the start
//! (`--fault throttle:on=CreateMcpSession:next=2`), and while it runs (`POST /faults`). `GET
//! /stats` tells what was called, over how many connections, and how many sessions there are.
//! On SIGINT and SIGTERM it ends with all sessions gone.

#[path = "agentbay_server/mod.rs"]
mod agentbay_server;

use std::io::{self, Write as _};
use std::process::ExitCode;

use agentbay_server::{Config, from_args, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

const USAGE: &str = "agentbay_server [--port N] [--key KEY]... [--region NAME] [--links] \
[--data-as-text] [--transition-ms N] [--body-limit BYTES] [--max-connections N] [--max-sessions N] [--seed N] \
[--fault KIND[:on=NAME][:skip=N][:next=N][:probability=P][:delay_ms=N][:status=N][:retry_after_ms=N]]...

KIND: throttle, unavailable, refuse, lost_request, lost_reply, slow_reply, truncated_reply,
cut_reply, slow_delete. NAME: an action or a tool.";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--help") {
        say(USAGE);
        return ExitCode::SUCCESS;
    }
    let (config, port) = match from_args(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(config, port).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(left) => {
            eprintln!("{left} sessions are left");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config, port: u16) -> io::Result<usize> {
    let (interrupt, terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let handle = serve(listener, config)?;
    say(&format!("listening on {}", handle.url()));
    told_to_end(interrupt, terminate).await;
    let stopped = handle.stop().await;
    say(&format!("ended, {} sessions deleted", stopped.deleted));
    Ok(stopped.left)
}

/// Whoever started the server may have left: that nobody reads it is no failure.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

async fn told_to_end(mut interrupt: Signal, mut terminate: Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

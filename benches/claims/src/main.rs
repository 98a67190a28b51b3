//! What guides to async code claim, measured: ten tasks one after the other and side by side; a
//! thousand and ten thousand operations at once, and what each takes in memory; the connections
//! that a client opens. `scripts/claims` runs it, with a local AgentBay server and the public
//! Python client next to this crate's.
//!
//! Linux only: it reads `/proc/self/status`.

mod connections;
mod crowd;
mod page;
mod peer;
mod resident;
mod server;
mod slow;
mod tasks;

use std::process::ExitCode;

use page::Page;
use peer::Python;
use server::Server;

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: claims AGENTBAY_SERVER PYTHON SCRIPT [PAGE]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // A child of this program, so that each case has a process of its own.
        ["crowd", form, operations] => crowd::child(form, operations),
        [server, python, script] => all(server, &Python::new(python, script), None),
        [server, python, script, page] => all(server, &Python::new(python, script), Some(page)),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn all(server: &str, python: &Python, file: Option<&str>) -> Result<(), Failure> {
    let mut page = Page::new();
    tasks::measure(&mut page, server, python)?;
    crowd::measure(&mut page)?;
    connections::measure(&mut page, server, python)?;
    print!("{}", page.text());
    if let Some(file) = file {
        std::fs::write(file, page.text())?;
    }
    Ok(())
}

/// A runtime as most users have it.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

/// A server, to which one end of a measurement talks. Each gets one of its own.
fn started(binary: &str, flags: &[&str]) -> Result<Server, Failure> {
    Server::start(binary, flags)
}

//! How many connections a client opens for its calls.

use mainstay::session::{AgentBay, CreateSession, SessionClient};

use crate::page::Page;
use crate::peer::Python;
use crate::server::{KEY, Server};
use crate::{Failure, runtime, started};

/// Creation, commands, deletion: as many calls as in the note of the wire.
const COMMANDS: usize = 14;

pub(crate) fn measure(page: &mut Page, server: &str, python: &Python) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (name, at_once) in [("one after the other", 1), ("all at once", COMMANDS)] {
        let ours = counted(server, |server| {
            runtime()?.block_on(calls(server.provider()?, at_once))
        })?;
        rows.push(row("this crate", name, ours));
    }
    for (name, part) in [
        ("one after the other", "calls"),
        ("all at once", "calls_at_once"),
    ] {
        let theirs = counted(server, |server| {
            python.run(&server.url(), KEY, part).map(drop)
        })?;
        rows.push(row("`wuying-agentbay-sdk`", name, theirs));
    }
    page.section(
        "Connections",
        "A session is created, runs 14 commands, and is listed, over AgentBay's wire.",
    );
    page.table(["client", "commands", "calls", "connections"], &rows);
    Ok(())
}

fn row(client: &str, name: &str, (calls, connections): (u64, u64)) -> [String; 4] {
    [
        client.into(),
        name.into(),
        calls.to_string(),
        connections.to_string(),
    ]
}

fn counted(
    server: &str,
    run: impl FnOnce(&Server) -> Result<(), Failure>,
) -> Result<(u64, u64), Failure> {
    let server = started(server, &[])?;
    let before = server.counted()?;
    run(&server)?;
    let after = server.counted()?;
    Ok((after.0 - before.0, after.1 - before.1))
}

async fn calls(provider: AgentBay, at_once: usize) -> Result<(), Failure> {
    let client = SessionClient::builder(provider).build()?;
    let session = client.create(CreateSession::new()).await?;
    let lines = (0..COMMANDS).map(|n| format!("echo {n}"));
    session.run_many(lines).limit(at_once).try_all().await?;
    client
        .list(mainstay::session::ListSessions::all())
        .collect(10)
        .await?;
    // The server deletes what is left: a deletion would be polled, and the calls could not be
    // compared.
    let _ = session.detach();
    Ok(())
}

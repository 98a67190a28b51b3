//! Ten tasks of one second each.

use std::time::{Duration, Instant};

use mainstay::gather;
use mainstay::session::{
    CreateSession, EmbeddedProvider, SessionClient, SessionProvider, SessionResult,
};

use crate::page::Page;
use crate::peer::Python;
use crate::server::KEY;
use crate::{Failure, runtime, started};

const TASKS: usize = 10;
const LINE: &str = "sleep 1";

pub(crate) fn measure(page: &mut Page, server: &str, python: &Python) -> Result<(), Failure> {
    let runtime = runtime()?;
    let here = EmbeddedProvider::builder().build()?;
    let here = runtime.block_on(ours(here))?;
    let over_the_wire = started(server, &[])?;
    let there = runtime.block_on(ours(over_the_wire.provider()?))?;
    let peer = python.run(&over_the_wire.url(), KEY, "tasks")?;
    let peer =
        [&peer["sequential"], &peer["concurrent"]].map(|span| span.as_f64().unwrap_or(f64::NAN));
    page.section(
        "Ten tasks of 1 s",
        "Each creates a session, runs `sleep 1` there, and deletes it: one after the other, and all\n\
         at once. A deletion is waited for: AgentBay's takes up to a second to be seen.",
    );
    page.table(
        ["client", "one after the other, s", "side by side, s"],
        &[
            row("this crate, sessions on this machine", here),
            row("this crate, AgentBay's wire", there),
            row("`wuying-agentbay-sdk`, AgentBay's wire", peer),
        ],
    );
    Ok(())
}

fn row(name: &str, spans: [f64; 2]) -> [String; 3] {
    let [one, all] = spans.map(|span| format!("{span:.2}"));
    [name.to_owned(), one, all]
}

async fn ours<P: SessionProvider>(provider: P) -> Result<[f64; 2], Failure> {
    let client = SessionClient::builder(provider).no_create_rate().build()?;
    let begun = Instant::now();
    for _ in 0..TASKS {
        task(&client).await?;
    }
    let one_by_one = begun.elapsed();
    let begun = Instant::now();
    gather((0..TASKS).map(|_| task(&client)))
        .try_all()
        .await
        .map_err(|at| at.to_string())?;
    let side_by_side = begun.elapsed();
    if !client
        .close_within(Duration::from_secs(10))
        .await
        .is_drained
    {
        return Err("sessions are left".into());
    }
    Ok([one_by_one, side_by_side].map(|span| span.as_secs_f64()))
}

async fn task<P: SessionProvider>(client: &SessionClient<P>) -> SessionResult<()> {
    let session = client.create(CreateSession::new()).await?;
    let slept = session.run(LINE).await?;
    assert!(slept.success, "{slept:?}");
    session.close().await?;
    Ok(())
}

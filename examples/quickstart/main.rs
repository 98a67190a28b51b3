//! The same load, the same failing server, twice: by a plain client, and by that client in a
//! pipeline.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! It takes about 50 s, uses loopback only, and ends with 1 if the pipeline did not do
//! better.
#![expect(
    clippy::disallowed_methods,
    reason = "the server and the load are not the crate: they have a clock of their own"
)]

mod client;
mod report;
mod server;

use std::error::Error;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;
use tower::Layer;

use client::Shopper;
use report::Figures;
use server::Server;

/// Calls that wait hold a socket here and one in the server, which is the same process.
const OPEN_FILES: u64 = 1_024;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    if rlimit::increase_nofile_limit(OPEN_FILES)? < OPEN_FILES {
        return Err(format!("the limit of open files must be {OPEN_FILES} (ulimit -n)").into());
    }
    let plain = run("plain client", client::plain()?).await?;
    let pipeline = client::pipeline()?;
    let piped = run(
        "the same client in a pipeline",
        pipeline.layer(client::client()?),
    )
    .await?;
    report::print(&plain, &piped);
    let shortcomings = report::shortcomings(&plain, &piped);
    for criterion in &shortcomings {
        eprintln!("The pipeline did not do better: {criterion}.");
    }
    Ok(ExitCode::from(u8::from(!shortcomings.is_empty())))
}

async fn run(title: &str, client: impl Shopper) -> Result<Figures, Box<dyn Error>> {
    println!("{title}");
    let bar = ProgressBar::new(client::calls().into()).with_style(ProgressStyle::with_template(
        "{bar:40} {percent:>3} %  {msg}",
    )?);
    let start = Instant::now();
    let server = Server::start(start).await?;
    let url = format!("http://{}/", server.address).parse()?;
    let records = client::load(client, &url, start, &bar).await;
    bar.finish_and_clear();
    Ok(Figures::of(records, server.requests()))
}

//! The same load, the same failing server, twice: by a plain client, and by that client in a
//! pipeline.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! It takes 45 s, uses loopback only, and ends with exit code 1 if the pipeline did not do
//! better.

mod client;
mod load;
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
    let (calls, seconds) = (load::calls(), server::PLAN_END.as_secs());
    println!("{calls} calls in {seconds} s to a server that fails for a while, twice:\n");
    let plain = run("plain client", client::plain()?).await?;
    let layer = client::pipeline()?;
    let piped = run("in a pipeline", layer.layer(client::client()?)).await?;
    report::print(&plain, &piped);
    let shortcomings = report::shortcomings(&plain, &piped);
    if shortcomings.is_empty() {
        println!("\n{}", report::story(&plain, &piped));
        return Ok(ExitCode::SUCCESS);
    }
    for criterion in shortcomings {
        eprintln!("\nThe pipeline did not do well enough: {criterion}.");
    }
    Ok(ExitCode::FAILURE)
}

async fn run(title: &'static str, client: impl Shopper) -> Result<Figures, Box<dyn Error>> {
    let bar = progress_bar(title)?;
    let start = Instant::now();
    let server = Server::start(start).await?;
    let url = format!("http://{}/", server.address).parse()?;
    let records = load::run(client, &url, start, &bar).await;
    let figures = Figures::of(title, records, server.requests());
    // Where there is no terminal there is no bar.
    if bar.is_hidden() {
        println!("{title:<15}{}", figures.summary());
    } else {
        bar.finish_with_message(figures.summary());
        eprintln!();
    }
    Ok(figures)
}

fn progress_bar(title: &'static str) -> Result<ProgressBar, Box<dyn Error>> {
    let style = ProgressStyle::with_template("{prefix:14} {bar:24} {percent:>3} %  {msg}")?;
    Ok(ProgressBar::new(load::calls().into())
        .with_style(style)
        .with_prefix(title))
}

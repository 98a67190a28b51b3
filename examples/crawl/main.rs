//! A crawl over real sockets: ten thousand pages, found by following links, 64 at a time,
//! through a pipeline (retry, breaker, time limit) and a pool of 32 connections.
//!
//! ```text
//! cargo run --release --example crawl
//! ```
//!
//! The site is another process on loopback; it refuses, hangs, and hangs up. At the end there
//! are the figures, with the peak of this process's memory. The exit code is 1 if a page is
//! missing.

mod connection;
mod crawl;
mod site;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use site::{PAGES, Site};

fn progress_bar() -> Result<ProgressBar, Box<dyn Error>> {
    let style = "{bar:40} {pos}/{len} pages, {per_sec}, {msg}";
    let bar = ProgressBar::new(PAGES.into());
    bar.set_style(ProgressStyle::with_template(style)?);
    Ok(bar)
}

/// The most that was resident at once, in MiB, where the system says so.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        site::serve().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let site = Site::start()?;
    let bar = progress_bar()?;
    let before = peak_memory();
    let start = Instant::now();
    let found = crawl::crawl(site.address, &bar).await?;
    let took = start.elapsed().as_secs_f64();
    bar.finish();

    println!("{found}");
    println!(
        "{took:.1} s, {:.0} pages a second",
        f64::from(found.pages) / took
    );
    if let (Some(before), Some(peak)) = (before, peak_memory()) {
        println!("peak memory {peak:.1} MiB, of which {before:.1} MiB before the first request");
    }
    Ok(if found.pages == PAGES && found.lost == 0 {
        ExitCode::SUCCESS
    } else {
        println!("{} pages are missing", PAGES - found.pages);
        ExitCode::FAILURE
    })
}

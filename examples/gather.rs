//! Many operations at once: in order, the first error, partial results, and a progress bar.
//!
//! The pattern behind every `asyncio.gather` and `Semaphore` of the guides.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mainstay::gather::gather;

const MS: Duration = Duration::from_millis(1);

/// Page 7 is missing; page 30 is slow.
async fn fetch(page: u32) -> Result<String, String> {
    tokio::time::sleep((10 + page * 7 % 40) * MS).await;
    match page {
        7 => Err("no such page".into()),
        30 => std::future::pending().await,
        page => Ok(format!("page {page}")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("ten pages, three at a time, in their order:");
    let mut pages = gather((10..20).map(fetch)).limit(3).in_order();
    while let Some(page) = pages.next().await {
        println!("  {}", page.unwrap_or_else(|error| error.to_string()));
    }

    println!("all or nothing: the first error drops the rest");
    match gather((0..40).map(fetch)).limit(4).try_all().await {
        Ok(pages) => println!("  {} pages", pages.len()),
        Err(error) => println!("  {error}"),
    }

    println!("all outcomes, each within 200 ms, with a bar:");
    let style = ProgressStyle::with_template("  {bar:30} {pos}/{len} {msg}");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let gathered = gather((0..40).map(fetch))
        .limit(4)
        .timeout(200 * MS)
        .on_progress(|progress| {
            bar.set_length(progress.total.unwrap_or(progress.started));
            bar.set_position(progress.finished);
            bar.set_message(format!(
                "{} failed, {} running",
                progress.failed, progress.running
            ));
        })
        .await;
    bar.finish();
    println!("  {} pages", gathered.successes().count());
    for (index, error) in gathered.failures() {
        println!("  item {index}: {error}");
    }

    println!("what there is after 50 ms:");
    let gathered = gather((0..40).map(fetch)).limit(4).deadline(50 * MS).await;
    println!(
        "  {} pages; complete: {}",
        gathered.successes().count(),
        gathered.is_complete()
    );
}

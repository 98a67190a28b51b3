//! The site that is crawled: a process of its own, so that its memory is not counted as ours.
//!
//! Ten thousand pages that link to each other, behind a server with its moods: some answers
//! are `503`, some come after the client has given up, and connections are closed now and then.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

/// How many pages there are.
pub(crate) const PAGES: u32 = 10_000;

/// One answer takes so long, as a rule.
const SERVICE: Duration = Duration::from_millis(2);
/// One of so many requests is refused, hangs, is the last of its connection.
const BUSY: u64 = 50;
const HANGS: u64 = 500;
const CLOSES: u64 = 101;
const HANG: Duration = Duration::from_secs(5);

/// What a page weighs, beside its links.
const TEXT: usize = 4096;

/// Where page `n` leads: each page has one way in from nearer the start, and one back.
fn links(page: u32) -> impl Iterator<Item = u32> {
    let children = page.saturating_mul(3) + 1..=page.saturating_mul(3) + 3;
    children.filter(|child| *child < PAGES).chain([page / 2])
}

fn body(page: u32) -> String {
    let mut body = String::with_capacity(TEXT + 64);
    for link in links(page) {
        let _ = writeln!(body, "<a href=\"/{link}\">");
    }
    body.extend(std::iter::repeat_n('.', TEXT));
    body
}

async fn answer(State(served): State<Arc<AtomicU64>>, Path(page): Path<u32>) -> Response {
    let number = served.fetch_add(1, Ordering::Relaxed);
    if page >= PAGES {
        return StatusCode::NOT_FOUND.into_response();
    }
    if number % BUSY == BUSY - 1 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let hangs = number % HANGS == HANGS / 2;
    tokio::time::sleep(if hangs { HANG } else { SERVICE }).await;
    let keep = if number % CLOSES == CLOSES - 1 {
        "close"
    } else {
        "keep-alive"
    };
    ([(header::CONNECTION, keep)], body(page)).into_response()
}

/// Serves until the process is killed; says on the standard output where.
pub(crate) async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let app = Router::new()
        .route("/{page}", get(answer))
        .with_state(Arc::default());
    axum::serve(listener, app).await
}

/// A site that is served by another process, which ends with this value.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    process: std::process::Child,
}

impl Site {
    /// Starts this program again, as the server.
    pub(crate) fn start() -> Result<Self, Box<dyn std::error::Error>> {
        use std::io::BufRead;
        let mut process = std::process::Command::new(std::env::current_exe()?)
            .arg("serve")
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line)?;
        Ok(Self {
            address: line.trim().parse()?,
            process,
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

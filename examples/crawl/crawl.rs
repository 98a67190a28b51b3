//! The crawler: a gather whose source is what it finds.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use indicatif::ProgressBar;
use mainstay::gather::gather;
use mainstay::pool::{Pool, PoolSnapshot};
use mainstay::prelude::*;
use tokio::sync::mpsc;

use crate::connection::{Connections, FetchError, links};
use crate::site::PAGES;

/// Requests at a time, and the connections that they share.
const REQUESTS: usize = 64;
const CONNECTIONS: usize = 32;

/// How long one attempt may take, with its wait for a connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a crawl found.
pub(crate) struct Found {
    pub(crate) pages: u32,
    pub(crate) lost: u32,
    bytes: u64,
    requests: u64,
    connections: PoolSnapshot,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes / (1024 * 1024);
        let closed = &self.connections.closed;
        writeln!(f, "{} pages ({mib} MiB), {} lost", self.pages, self.lost)?;
        writeln!(
            f,
            "{} requests, {} of them again",
            self.requests,
            self.requests - u64::from(self.pages)
        )?;
        write!(
            f,
            "{} connections opened for at most {CONNECTIONS} at a time; {} closed by the server, \
             {} with a request cut short",
            self.connections.created, closed.broken, closed.cancelled_use
        )
    }
}

/// The pages that are known, and how many of them are still to come.
struct Frontier {
    known: Vec<bool>,
    pending: u32,
    /// Until the last page has come.
    queue: Option<mpsc::UnboundedSender<u32>>,
}

impl Frontier {
    fn new() -> (Self, mpsc::UnboundedReceiver<u32>) {
        let (queue, pages) = mpsc::unbounded_channel();
        let frontier = Self {
            known: vec![false; PAGES as usize],
            pending: 0,
            queue: Some(queue),
        };
        (frontier, pages)
    }

    /// A page that nobody has named before is to be fetched.
    fn add(&mut self, page: u32) {
        let Some(known) = self.known.get_mut(page as usize) else {
            return;
        };
        if std::mem::replace(known, true) {
            return;
        }
        self.pending += 1;
        if let Some(queue) = &self.queue {
            let _ = queue.send(page);
        }
    }

    /// One page has come, or is lost; the last of all ends the crawl.
    fn done(&mut self) {
        self.pending -= 1;
        if self.pending == 0 {
            self.queue = None;
        }
    }
}

/// A page, as far as a crawler cares.
struct Page {
    links: Vec<u32>,
    bytes: u64,
}

/// One attempt to get a page.
async fn fetch(pool: &Pool<Connections>, page: u32) -> Result<Page, mainstay::Error<FetchError>> {
    let body = pool.use_with(async |connection| connection.get(page).await);
    let body = body.await?;
    Ok(Page {
        links: links(&body),
        bytes: body.len() as u64,
    })
}

/// Follows every link from the first page on.
pub(crate) async fn crawl(site: SocketAddr, bar: &ProgressBar) -> Result<Found, Box<dyn Error>> {
    let pool = Pool::builder(Connections(site))
        .max_size(CONNECTIONS)
        .build()?;
    let backoff = Backoff::exponential(Duration::from_millis(10));
    let web = Pipeline::builder("web")
        .retry(Retry::builder().max_attempts(5).backoff(backoff))
        .circuit_breaker(CircuitBreaker::builder())
        .timeout(PATIENCE)
        .build()?;

    let (mut frontier, mut pages) = Frontier::new();
    frontier.add(0);
    let pages = stream::poll_fn(move |cx| pages.poll_recv(cx));
    let (pool, asked) = (&pool, &Cell::new(0));
    // A closure, not a future: it can be tried again.
    let requests = pages.map(|page| {
        move || {
            asked.set(asked.get() + 1);
            fetch(pool, page)
        }
    });
    let mut replies = gather(requests).limit(REQUESTS).through(&web).as_finished();

    let (mut found, mut lost, mut bytes) = (0, 0, 0);
    while let Some((_, reply)) = replies.next().await {
        match reply.map_err(mainstay::Error::flatten) {
            Ok(page) => {
                found += 1;
                bytes += page.bytes;
                page.links.into_iter().for_each(|link| frontier.add(link));
            }
            Err(error) => {
                lost += 1;
                bar.println(format!("lost a page: {error}"));
            }
        }
        bar.inc(1);
        bar.set_message(format!("{} known and to come", frontier.pending));
        frontier.done();
    }
    Ok(Found {
        pages: found,
        lost,
        bytes,
        requests: asked.get(),
        connections: pool.snapshot(),
    })
}

//! A small shop on loopback, with its bad half-minute.
//!
//! Sixteen workers take requests first come, first served. What a worker has begun, and what
//! waits in the queue, is done to the end even when the client has given up meanwhile: so do
//! most servers, and so does any that must not stop half-way through an order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// 16 workers at 100 ms a request: 160 requests a second.
const WORKERS: usize = 16;
const SERVICE: Duration = Duration::from_millis(100);
/// Caches are empty after the outage: 40 requests a second at first.
const COLD_SERVICE: Duration = Duration::from_millis(400);
const SLOW: Duration = Duration::from_secs(2);

/// What is wrong with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Healthy,
    /// Every tenth answer comes 2 s late.
    Slow,
    /// Three of ten answers are `503`, `Retry-After: 1`.
    Busy,
    /// Requests are accepted and not worked on.
    Outage,
    /// Every answer takes longer, less so from moment to moment.
    Cold,
}

impl Fault {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow answers",
            Self::Busy => "503, Retry-After",
            Self::Outage => "outage",
            Self::Cold => "slow recovery",
        }
    }

    /// For a column of a few characters.
    pub(crate) const fn short(self) -> &'static str {
        match self {
            Self::Healthy => "ok",
            Self::Slow => "slow",
            Self::Busy => "503",
            Self::Outage => "outage",
            Self::Cold => "cold",
        }
    }
}

/// The fault plan: until which second what is wrong.
pub(crate) const PLAN: [(u64, Fault); 6] = [
    (2, Fault::Healthy),
    (5, Fault::Slow),
    (8, Fault::Busy),
    (12, Fault::Outage),
    (15, Fault::Cold),
    (22, Fault::Healthy),
];
pub(crate) const OUTAGE_END: Duration = Duration::from_secs(PLAN[3].0);
const COLD_END: Duration = Duration::from_secs(PLAN[4].0);
pub(crate) const PLAN_END: Duration = Duration::from_secs(PLAN[5].0);

/// What is wrong so long after the start.
pub(crate) fn fault(at: Duration) -> Fault {
    PLAN.iter()
        .find(|(until, _)| at < Duration::from_secs(*until))
        .map_or(Fault::Healthy, |(_, fault)| *fault)
}

/// How long a worker needs for a request that it begins so long after the start.
fn service_time(at: Duration) -> Duration {
    if fault(at) != Fault::Cold {
        return SERVICE;
    }
    let span = COLD_END.saturating_sub(OUTAGE_END).as_secs_f64();
    let left = COLD_END.saturating_sub(at).as_secs_f64() / span;
    SERVICE + COLD_SERVICE.saturating_sub(SERVICE).mul_f64(left)
}

/// A running server; it stops when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shop: Arc<Shop>,
    serving: JoinHandle<()>,
}

struct Shop {
    start: Instant,
    workers: Semaphore,
    requests: AtomicU64,
}

impl Server {
    /// Listens on a free port of loopback. The plan begins at `start`.
    pub(crate) async fn start(start: Instant) -> std::io::Result<Self> {
        let shop = Arc::new(Shop {
            start,
            workers: Semaphore::new(WORKERS),
            requests: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = Router::new()
            .route("/", get(answer))
            .with_state(Arc::clone(&shop));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("the server stopped: {error}");
            }
        });
        Ok(Self {
            address,
            shop,
            serving,
        })
    }

    /// How many requests have reached it.
    pub(crate) fn requests(&self) -> u64 {
        self.shop.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(shop): State<Arc<Shop>>) -> Response {
    let number = shop.requests.fetch_add(1, Ordering::Relaxed);
    let fault = fault(shop.start.elapsed());
    if fault == Fault::Busy && [0, 3, 6].contains(&(number % 10)) {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "1")],
        )
            .into_response();
    }
    // A task of its own, for it goes on when the client closes the connection.
    let work = tokio::spawn(work(shop));
    if work.await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if fault == Fault::Slow && number % 10 == 0 {
        sleep(SLOW).await;
    }
    "sold".into_response()
}

async fn work(shop: Arc<Shop>) {
    let _worker = shop.workers.acquire().await;
    if fault(shop.start.elapsed()) == Fault::Outage {
        sleep_until(shop.start + OUTAGE_END).await;
    }
    sleep(service_time(shop.start.elapsed())).await;
}

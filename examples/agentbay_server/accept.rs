//! Accepts connections, and ends with all sessions gone.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mainstay::scope::{OnError, Scope};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Provider;
use super::config::Config;
use super::faults::Rule;
use super::routes::{self, Connection};
use super::server::Server;
use super::wire::Lost;

/// A server that runs. Dropped, it ends by itself.
#[derive(Debug)]
pub(crate) struct Handle {
    address: SocketAddr,
    server: Arc<Server>,
    stop: CancellationToken,
    ended: JoinHandle<Stopped>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Sessions that were there at the end, and were deleted.
    pub(crate) deleted: usize,
    /// Sessions that could not be deleted.
    pub(crate) left: usize,
}

/// Serves on a listener until the handle is stopped or dropped.
pub(crate) fn serve(listener: TcpListener, config: Config) -> io::Result<Handle> {
    let address = listener.local_addr()?;
    let provider = Provider::builder().max_sessions(config.max_sessions);
    let provider = provider.build().map_err(io::Error::other)?;
    let scope = scope()?;
    let base = format!("http://{address}");
    let server = Server::new(config, provider, base, scope.handle());
    let server = Arc::new(server);
    let stop = CancellationToken::new();
    let ended = tokio::spawn(run(listener, Arc::clone(&server), scope, stop.clone()));
    Ok(Handle {
        address,
        server,
        stop,
        ended,
    })
}

impl Handle {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the faults.
    pub(crate) fn set_faults(&self, rules: Vec<Rule>) -> Result<(), String> {
        self.server.faults().set(rules, None)
    }

    /// The counters, as of `GET /stats` without the sessions.
    pub(crate) fn stats(&self) -> serde_json::Value {
        self.server.stats.report()
    }

    /// What the sessions are made of. They are the server's all the same.
    pub(crate) fn provider(&self) -> Provider {
        self.server.provider.clone()
    }

    /// Closes all connections, drops what goes on and deletes all sessions.
    pub(crate) async fn stop(mut self) -> Stopped {
        self.stop.cancel();
        (&mut self.ended).await.unwrap_or_default()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn scope() -> io::Result<Scope> {
    let scope = Scope::builder().on_error(OnError::Collect).build();
    scope.map_err(io::Error::other)
}

/// Connections and what they asked for are two scopes: the work outlives its caller.
async fn run(
    listener: TcpListener,
    server: Arc<Server>,
    work: Scope,
    stop: CancellationToken,
) -> Stopped {
    let Ok(connections) = scope() else {
        return Stopped::default();
    };
    let app = routes::router(Arc::clone(&server));
    let places = Arc::new(Semaphore::new(server.config.max_connections.max(1)));
    let accepting = accept(&listener, &server, &app, &connections, &places);
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    for scope in [connections, work] {
        scope.abort();
        scope.join().await;
    }
    delete_all(&server).await
}

async fn accept(
    listener: &TcpListener,
    server: &Arc<Server>,
    app: &Router,
    scope: &Scope,
    places: &Arc<Semaphore>,
) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: some will be closed.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let open = Open::new(Arc::clone(server), place);
        let connection = connection(stream, open, app.clone());
        if scope.spawn("connection", connection).is_err() {
            return;
        }
    }
}

/// Counts a connection as open for as long as it is there.
struct Open {
    server: Arc<Server>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(server: Arc<Server>, place: OwnedSemaphorePermit) -> Self {
        server.stats.accepted();
        Self {
            server,
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.server.stats.closed();
    }
}

/// One connection to its end. That it broke is the business of the other side.
fn connection(
    stream: TcpStream,
    open: Open,
    app: Router,
) -> impl Future<Output = Result<(), Infallible>> + Send {
    let known = Connection::default();
    async move {
        let _open = open;
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(known.clone());
            answer(app.clone(), request)
        });
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(30))
            .serve_connection(TokioIo::new(stream), service)
            .await;
        Ok(())
    }
}

/// An error makes the connection close without a reply.
async fn answer(app: Router, request: Request<Body>) -> Result<Response<Body>, &'static str> {
    let response = match app.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    match response.extensions().get::<Lost>() {
        Some(Lost) => Err("the reply is lost"),
        None => Ok(response),
    }
}

/// Nothing else is going on any more.
async fn delete_all(server: &Server) -> Stopped {
    let there = server.provider.len();
    // What could not be removed is what is left.
    let _ = server.provider.close().await;
    let left = server.provider.len();
    Stopped {
        deleted: there.saturating_sub(left),
        left,
    }
}

//! Connections that are kept: what the pool manages.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use mainstay::pool::Manage;
use tokio::net::TcpStream;

/// Why a page could not be had.
#[derive(Debug)]
pub(crate) enum FetchError {
    Connect(std::io::Error),
    Http(hyper::Error),
    Status(StatusCode),
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Http(error) => write!(f, "connection broke: {error}"),
            Self::Status(status) => write!(f, "the server answers {status}"),
        }
    }
}

impl std::error::Error for FetchError {}

impl From<hyper::Error> for FetchError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

/// One HTTP/1.1 connection.
pub(crate) struct Connection {
    requests: SendRequest<Empty<Bytes>>,
}

impl Connection {
    /// Gets one page whole. Given up before its end it leaves a reply on the wire: the pool
    /// closes such a connection, or the next one to use it would read a stranger's page.
    pub(crate) async fn get(&mut self, page: u32) -> Result<Bytes, FetchError> {
        let request = Request::get(format!("/{page}"))
            .header(header::HOST, "localhost")
            .body(Empty::new())
            .expect("a path and a host make a request");
        self.requests.ready().await?;
        let reply = self.requests.send_request(request).await?;
        let status = reply.status();
        // Also of a refusal: the connection can be used again only when all is read.
        let body = reply.into_body().collect().await?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(FetchError::Status(status))
        }
    }
}

/// Connects to one server.
pub(crate) struct Connections(pub(crate) SocketAddr);

impl Manage for Connections {
    type Object = Connection;
    type Error = FetchError;

    async fn create(&self) -> Result<Connection, FetchError> {
        let stream = TcpStream::connect(self.0)
            .await
            .map_err(FetchError::Connect)?;
        stream.set_nodelay(true).map_err(FetchError::Connect)?;
        let (requests, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Connection { requests })
    }

    /// The server hangs up now and then.
    fn reusable(&self, connection: &mut Connection) -> bool {
        !connection.requests.is_closed()
    }
}

/// The links in a page.
pub(crate) fn links(body: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(body);
    text.split("href=\"/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next()?.parse().ok())
        .collect()
}

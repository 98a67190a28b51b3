//! The one task that owns the socket: connects, serves, waits, and ends with the client.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http::header::{RETRY_AFTER, SEC_WEBSOCKET_KEY};
use tokio_tungstenite::tungstenite::{Error as WireError, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::error::{RpcError, RpcErrorKind};
use super::life::Step;
use super::serve::{Ended, serve};
use super::shared::{Owned, Shared};
use crate::time::{Instant, Timer};
use crate::{Error, Resilient};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What is read and written at once: small, since a program may hold many clients.
const BUFFER: usize = 16 * 1024;

/// A ping, a pong and a close frame fit in besides a message.
const SLACK: usize = 4 * 1024;

pub(super) async fn own(owned: Owned) {
    let shared = &*owned.0;
    loop {
        match shared.step() {
            Step::End => return,
            Step::WaitUntil(until) => wait(shared, until).await,
            Step::Connect => {
                if let Some(socket) = connect(shared).await {
                    use_up(shared, socket).await;
                }
            }
        }
    }
}

/// Until then, or until the client is closed.
async fn wait(shared: &Shared, until: Instant) {
    let mut timer = Timer::new();
    unless_closed(shared, poll_fn(|cx| timer.poll_until(until, cx))).await;
}

async fn connect(shared: &Shared) -> Option<Socket> {
    let settings = &shared.settings;
    let mut request = settings.request.clone();
    // RFC 6455, 4.1: a nonce for each connection.
    if let Ok(key) = generate_key().parse() {
        request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
    }
    let dial = connect_async_with_config(request, Some(config(settings.max_message_size)), true);
    match unless_closed(shared, dial.timeout(settings.connect_timeout)).await? {
        Ok((socket, _)) => shared.connected().then_some(socket),
        Err(error) => {
            let hint = come_back(&error);
            shared.failed(refused(error), hint);
            None
        }
    }
}

async fn use_up(shared: &Shared, mut socket: Socket) {
    match serve(shared, &mut socket).await {
        Ended::Lost(why) => shared.lost(&why),
        Ended::Closing => {
            let good_bye = part(&mut socket).timeout(shared.settings.close_timeout);
            let is_graceful = good_bye.await.is_ok();
            shared.parted(is_graceful);
        }
    }
}

/// The closing handshake.
async fn part(socket: &mut Socket) -> Result<(), WireError> {
    socket.close(None).await?;
    while let Some(frame) = socket.next().await {
        frame?;
    }
    Ok(())
}

async fn unless_closed<F: Future>(shared: &Shared, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        shared.owner.register(cx.waker());
        if shared.is_closing() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

fn config(max_message_size: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(max_message_size.saturating_add(BUFFER + SLACK))
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size))
}

/// What the server has asked for by `Retry-After`, in seconds. A date is not read: the back-off
/// does without.
fn come_back(error: &Error<WireError>) -> Duration {
    let Some(WireError::Http(response)) = error.last() else {
        return Duration::ZERO;
    };
    let hint = response.headers().get(RETRY_AFTER);
    let hint = hint.and_then(|hint| hint.to_str().ok()?.trim().parse().ok());
    hint.map_or(Duration::ZERO, Duration::from_secs)
}

/// Why there is no connection.
fn refused(error: Error<WireError>) -> RpcError {
    let what = match error {
        Error::Operation {
            error: WireError::Http(response),
            ..
        } => no_upgrade(&response),
        Error::Operation { error, .. } => what_broke(&error),
        other => other.to_string(),
    };
    RpcError::new(RpcErrorKind::NotConnected, &what)
}

/// Such as a page of a proxy. Its text is no help in a log, its kind is.
fn no_upgrade<B>(response: &tokio_tungstenite::tungstenite::http::Response<B>) -> String {
    let kind = response.headers().get("content-type");
    let kind = kind.and_then(|kind| kind.to_str().ok());
    let kind = kind.map_or(String::new(), |kind| format!(" ({kind})"));
    format!("HTTP {}{kind} in place of an upgrade", response.status())
}

/// What was wrong with the connection, in words.
pub(super) fn what_broke(error: &WireError) -> String {
    match error {
        WireError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            "reset by the peer".to_owned()
        }
        WireError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

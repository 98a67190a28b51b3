//! A peer that does what the method asks for, in good and in bad faith.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use mainstay::websocket::{Client, ClientBuilder};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Ends with all its connections when it is dropped: as abruptly as a killed process.
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    task: AbortHandle,
}

/// What it has seen, over all its lives.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicU64,
    /// Calls of "effect".
    pub(crate) effects: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) pings: AtomicU64,
    pub(crate) closed: AtomicU64,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        Self::again("127.0.0.1:0".parse().unwrap(), Arc::default()).await
    }

    /// At the same address, with the same counts.
    pub(crate) async fn again(addr: SocketAddr, seen: Arc<Seen>) -> Self {
        let listener = listen(addr).await;
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(accept(listener, Arc::clone(&seen))).abort_handle();
        Self { addr, seen, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.addr)
    }

    pub(crate) fn client(&self) -> ClientBuilder {
        quick(&self.url())
    }

    /// Kills it; the port is free when this returns.
    pub(crate) async fn kill(self) -> (SocketAddr, Arc<Seen>) {
        let (addr, seen) = (self.addr, Arc::clone(&self.seen));
        drop(self);
        until("the port is closed", || async {
            TcpStream::connect(addr).await.is_err()
        })
        .await;
        (addr, seen)
    }

    pub(crate) fn effects(&self) -> u64 {
        self.seen.effects.load(SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Short waits, and spans that no busy machine exceeds.
pub(crate) fn quick(url: &str) -> ClientBuilder {
    let backoff = mainstay::retry::Backoff::exponential(Duration::from_millis(10));
    let backoff = backoff.max_delay(Duration::from_millis(200));
    Client::builder(url)
        .backoff(backoff)
        .call_timeout(Duration::from_secs(20))
        .close_timeout(Duration::from_secs(10))
}

pub(crate) async fn listen(addr: SocketAddr) -> TcpListener {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(addr).await {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a condition, with a bound.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut is_so: F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        seen.connections.fetch_add(1, SeqCst);
        connections.spawn(converse(socket, Arc::clone(&seen)));
    }
}

async fn converse(socket: TcpStream, seen: Arc<Seen>) -> Option<()> {
    let (mut sink, mut stream) = accept_async(socket).await.ok()?.split();
    let (out, mut outgoing) = mpsc::unbounded_channel();
    let mut held = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        let frame = tokio::select! {
            frame = stream.next() => frame?.ok()?,
            Some(message) = outgoing.recv() => {
                sink.send(message).await.ok()?;
                continue;
            }
        };
        match frame {
            Message::Text(text) => {
                seen.messages.fetch_add(1, SeqCst);
                let request: Value = serde_json::from_str(&text).unwrap();
                answer(&request, &out, &mut held, &mut tasks, &seen);
            }
            Message::Ping(_) => {
                seen.pings.fetch_add(1, SeqCst);
            }
            Message::Close(_) => {
                seen.closed.fetch_add(1, SeqCst);
            }
            _ => {}
        }
    }
}

type Out = mpsc::UnboundedSender<Message>;

pub(crate) fn reply(id: &Value, result: &Value) -> Message {
    Message::text(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}

fn answer(
    request: &Value,
    out: &Out,
    held: &mut Vec<(Value, Value)>,
    tasks: &mut JoinSet<()>,
    seen: &Seen,
) {
    let (id, params) = (&request["id"], &request["params"]);
    let send = |message| drop(out.send(message));
    match request["method"].as_str().unwrap() {
        "echo" => send(reply(id, params)),
        "never" => {}
        "effect" => {
            seen.effects.fetch_add(1, SeqCst);
            send(reply(id, params));
        }
        // Has its effect, and answers never.
        "effect_without_reply" => drop(seen.effects.fetch_add(1, SeqCst)),
        // Answered all at once, in reverse, when so many are there.
        "hold" => {
            held.push((id.clone(), params.clone()));
            if held.len() as u64 == params[0].as_u64().unwrap() {
                held.drain(..)
                    .rev()
                    .for_each(|(id, params)| send(reply(&id, &params)));
            }
        }
        "after" => {
            let (reply, out) = (reply(id, params), out.clone());
            let wait = Duration::from_millis(params[0].as_u64().unwrap());
            tasks.spawn(async move {
                tokio::time::sleep(wait).await;
                drop(out.send(reply));
            });
        }
        "twice" => {
            send(reply(id, params));
            send(reply(id, params));
        }
        "with_id" => {
            send(reply(&params[0], &json!("stolen")));
            send(reply(id, params));
        }
        "error" => {
            let error = json!({"code": params[0], "message": params[1], "data": params[2]});
            let message = json!({"jsonrpc": "2.0", "id": id, "error": error});
            send(Message::text(message.to_string()));
        }
        // The text as it is, with `$id` replaced; then an ordinary reply, if any is wanted.
        "say" => {
            for text in params.as_array().unwrap() {
                let text = text.as_str().unwrap().replace("$id", &id.to_string());
                send(Message::text(text));
            }
        }
        "bytes" => {
            send(Message::binary(vec![0xff, 0]));
            send(reply(id, params));
        }
        "tell" => {
            for n in 0..params[0].as_u64().unwrap() {
                let notice = json!({"jsonrpc": "2.0", "method": "tick", "params": [n]});
                send(Message::text(notice.to_string()));
            }
            send(reply(id, params));
        }
        "big" => {
            let size = params[0].as_u64().unwrap().try_into().unwrap();
            send(reply(id, &json!("x".repeat(size))));
        }
        "close" => send(Message::Close(None)),
        other => panic!("{other}"),
    }
}

/// A server that does this with each connection.
pub(crate) async fn raw<F, Fut>(handle: F) -> (String, JoinSet<()>)
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = listen("127.0.0.1:0".parse().unwrap()).await;
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(handle(socket));
        }
    });
    (url, server)
}

/// The request that asks for the upgrade, in small letters.
pub(crate) async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// A peer that is stopped: its system takes what fits, and nobody reads or answers.
pub(crate) async fn black_hole() -> (String, JoinSet<()>) {
    raw(|socket| async {
        let _held: WebSocketStream<TcpStream> = accept_async(socket).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await
}

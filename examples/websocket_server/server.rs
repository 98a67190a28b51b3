//! The server: connections, and the executions of each.
//!
//! What a client can ask for, as JSON-RPC 2.0:
//!
//! | method | parameters | answer |
//! |---|---|---|
//! | `execute` | `command`: a text for the shell, or a list; `id`: a name of the caller's own; `timeout`: seconds | when it has ended: `id`, `status`, `exit_code`, `signal`, what each stream held, `elapsed_ms` |
//! | `control` | `id`; `type`: `PAUSE`, `RESUME` or `CANCEL` | whether it had an effect: `id`, `done` |
//! | `list` | none | the executions of this connection: `id`, `pid`, `state` |
//!
//! While an execution runs, the notifications `process.started` (`id`, `pid`) and
//! `process.output` (`id`, `source`, `text`, `partial`; `hex` with the bytes when they are not
//! UTF-8) come, in order, and before the answer.
//!
//! Everything is bounded. A client that does not read its output holds up its own children, as
//! in a shell's pipeline, and is gone after `write_timeout`.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use mainstay::process::{CloseReport, ProcessHandle, ProcessPool};
use mainstay::scope::Tracker;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error as WireError, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tokio_util::sync::CancellationToken;

use super::execution::{Execution, Refused};

/// What bounds the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Children of all connections.
    pub(crate) processes: u32,
    /// Executions of one connection.
    pub(crate) per_connection: usize,
    pub(crate) connections: usize,
    /// How long children have after SIGTERM: all of them together.
    pub(crate) grace: Duration,
    pub(crate) message_size: usize,
    /// A peer is pinged after half of it, and gone after the whole.
    pub(crate) idle: Duration,
    pub(crate) write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 64,
            per_connection: 16,
            connections: 256,
            grace: Duration::from_secs(5),
            message_size: 4 << 20,
            idle: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// What a connection has of the server.
struct Shared {
    limits: Limits,
    pool: ProcessPool,
    connections: Arc<Tracker>,
    /// Cancelled when all children have ended.
    closing: CancellationToken,
}

/// Answers on the wire, in the order in which they were made.
pub(super) type Out = mpsc::Sender<Message>;

/// Messages that wait for a client which reads slowly.
const WAITING: usize = 64;

/// Serves until `stop`; then all children end within one grace, their answers go out, and the
/// connections are closed.
///
/// # Errors
///
/// When a setting is out of range.
pub(crate) async fn serve(
    listener: TcpListener,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Result<CloseReport, mainstay::ConfigError> {
    let pool = ProcessPool::builder(limits.processes).max_queue(0);
    let pool = pool.grace(limits.grace).build()?;
    let connections = Arc::new(Tracker::new());
    let shared = Arc::new(Shared {
        limits,
        pool,
        connections,
        closing: CancellationToken::new(),
    });
    tokio::select! {
        () = accept(&listener, &shared) => {}
        () = stop => {}
    }
    drop(listener);
    let report = shared.pool.close().await;
    shared.connections.close();
    shared.closing.cancel();
    let _ = timeout(Duration::from_secs(5), shared.connections.drained()).await;
    Ok(report)
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // No descriptor is left; some connection will end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if shared.connections.in_flight() >= shared.limits.connections {
            continue;
        }
        if let Ok(entered) = shared.connections.enter_owned() {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                let _entered = entered;
                let _ = converse(socket, shared).await;
            });
        }
    }
}

type Sink = SplitSink<WebSocketStream<TcpStream>, Message>;
type Source = SplitStream<WebSocketStream<TcpStream>>;

async fn converse(socket: TcpStream, shared: Arc<Shared>) -> Result<(), WireError> {
    socket.set_nodelay(true)?;
    let limits = shared.limits;
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message_size))
        .max_frame_size(Some(limits.message_size));
    let upgrade = accept_async_with_config(socket, Some(config));
    let Ok(socket) = timeout(Duration::from_secs(10), upgrade).await else {
        return Ok(());
    };
    let (sink, source) = socket?.split();
    let (out, outgoing) = mpsc::channel(WAITING);
    let writer = tokio::spawn(write(sink, outgoing, limits.write_timeout));
    let mut connection = Connection {
        shared,
        running: Arc::default(),
        tasks: JoinSet::new(),
        named: 0,
        out,
    };
    let ended = connection.read(source).await;
    connection.end().await;
    let _ = writer.await;
    ended
}

/// Ends when everything is said, or when the peer reads nothing for too long. Whatever waits to
/// be said is then lost, and whoever wants to say more finds out.
async fn write(mut sink: Sink, mut outgoing: mpsc::Receiver<Message>, limit: Duration) {
    while let Some(message) = outgoing.recv().await {
        if !matches!(timeout(limit, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = timeout(Duration::from_secs(1), sink.close()).await;
}

/// One client.
struct Connection {
    shared: Arc<Shared>,
    running: Arc<Running>,
    tasks: JoinSet<()>,
    /// For executions whose caller gives them no name.
    named: u64,
    out: Out,
}

/// The executions of one connection, by name.
#[derive(Default)]
pub(super) struct Running(Mutex<BTreeMap<String, ProcessHandle>>);

impl Running {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ProcessHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request has no result: the protocol's code, and words.
pub(super) struct Problem(pub(super) i64, pub(super) String);

impl Problem {
    pub(super) fn new(code: i64, what: &str) -> Self {
        Self(code, what.to_owned())
    }
}

impl Connection {
    /// Until the peer goes, or the server is closed.
    async fn read(&mut self, mut source: Source) -> Result<(), WireError> {
        let mut is_pinged = false;
        let half = self.shared.limits.idle / 2;
        let closing = self.shared.closing.clone();
        loop {
            let frame = tokio::select! {
                frame = timeout(half, source.next()) => frame,
                () = self.out.closed() => return Ok(()),
                () = closing.cancelled() => return Ok(()),
            };
            match frame {
                Ok(Some(frame)) => {
                    is_pinged = false;
                    self.hear(frame?).await;
                }
                Ok(None) => return Ok(()),
                Err(_) if is_pinged => return Ok(()),
                Err(_) => {
                    is_pinged = true;
                    self.say(Message::Ping(Bytes::new())).await;
                }
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }

    async fn hear(&mut self, frame: Message) {
        let said = match frame {
            Message::Text(text) => self.handle(&text),
            Message::Binary(_) => {
                let problem = Problem::new(-32600, "requests are text");
                Some(answer(&Value::Null, Err(problem)))
            }
            _ => None,
        };
        if let Some(message) = said {
            self.say(message).await;
        }
    }

    async fn say(&self, message: Message) {
        let _ = self.out.send(message).await;
    }

    /// The answer, unless it comes later, or never, as to a notification.
    fn handle(&mut self, text: &str) -> Option<Message> {
        let request: Value = match serde_json::from_str(text) {
            Ok(request) => request,
            Err(error) => {
                let problem = Problem(-32700, error.to_string());
                return Some(answer(&Value::Null, Err(problem)));
            }
        };
        let id = request.get("id").cloned();
        let Some(method) = request.get("method").and_then(Value::as_str) else {
            let problem = Problem::new(-32600, "an object with a method is wanted");
            return Some(answer(&id.unwrap_or_default(), Err(problem)));
        };
        let params = request.get("params").unwrap_or(&Value::Null);
        let result = match method {
            "execute" => self.execute(id.clone(), params).map(|()| None),
            "control" => self.control(params).map(Some),
            "list" => Ok(Some(self.list())),
            other => Err(Problem(-32601, format!("no such method: {other}"))),
        };
        let said = result.transpose()?;
        id.map(|id| answer(&id, said))
    }

    /// Its answer comes at its end.
    fn execute(&mut self, id: Option<Value>, params: &Value) -> Result<(), Problem> {
        let name = self.name(params)?;
        if self.running.lock().len() >= self.shared.limits.per_connection {
            return Err(Problem::new(-32000, "too many executions"));
        }
        let command = Execution::command(params, self.shared.limits.grace)?;
        let process = self.shared.pool.try_spawn(&command);
        let process = process.map_err(|error| Refused(&error).problem())?;
        self.running.lock().insert(name.clone(), process.handle());
        let execution = Execution {
            name,
            process,
            running: Arc::clone(&self.running),
            out: self.out.clone(),
        };
        self.tasks.spawn(async move {
            let (out, result) = execution.run().await;
            if let Some(id) = id {
                let _ = out.send(answer(&id, result)).await;
            }
        });
        Ok(())
    }

    /// The caller's own, which must be free, or a new one.
    fn name(&mut self, params: &Value) -> Result<String, Problem> {
        match params.get("id") {
            None | Some(Value::Null) => Ok(loop {
                self.named += 1;
                let name = format!("#{}", self.named);
                if !self.running.lock().contains_key(&name) {
                    break name;
                }
            }),
            Some(Value::String(name)) if name.len() > 128 => {
                Err(Problem::new(-32602, "`id` is longer than 128 bytes"))
            }
            Some(Value::String(name)) if self.running.lock().contains_key(name) => {
                Err(Problem(-32602, format!("{name} is running already")))
            }
            Some(Value::String(name)) => Ok(name.clone()),
            Some(_) => Err(Problem::new(-32602, "`id` is a text")),
        }
    }

    fn control(&self, params: &Value) -> Result<Value, Problem> {
        let name = params.get("id").and_then(Value::as_str);
        let name = name.ok_or_else(|| Problem::new(-32602, "`id` names an execution"))?;
        let handle = self.running.lock().get(name).cloned();
        let handle = handle.ok_or_else(|| Problem(-32001, format!("{name} is not running")))?;
        let done = match params.get("type").and_then(Value::as_str) {
            Some("PAUSE") => handle.pause(),
            Some("RESUME") => handle.resume(),
            Some("CANCEL") => handle.cancel(),
            _ => return Err(Problem::new(-32602, "`type` is PAUSE, RESUME or CANCEL")),
        };
        Ok(json!({"id": name, "done": done}))
    }

    fn list(&self) -> Value {
        let running = self.running.lock();
        let all = running.iter().map(|(name, handle)| {
            let state = format!("{:?}", handle.state()).to_lowercase();
            json!({"id": name, "pid": handle.pid(), "state": state})
        });
        all.collect()
    }

    /// Nobody wants the output any more: all children are asked to end at once, and have one
    /// grace. A closed server's have ended, and say so.
    async fn end(mut self) {
        let limit = self.shared.limits.grace + Duration::from_secs(1);
        let handles: Vec<_> = self.running.lock().values().cloned().collect();
        for handle in &handles {
            handle.cancel();
        }
        drop(self.out);
        let _ = timeout(limit, async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
        // Whatever is left is killed by its drop.
        self.tasks.shutdown().await;
    }
}

fn answer(id: &Value, result: Result<Value, Problem>) -> Message {
    let message = match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(Problem(code, message)) => {
            let error = json!({"code": code, "message": message});
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        }
    };
    Message::text(message.to_string())
}

pub(super) fn notification(method: &str, params: &Value) -> Message {
    let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
    Message::text(message.to_string())
}

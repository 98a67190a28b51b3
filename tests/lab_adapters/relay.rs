//! The way to one redis-server that all worlds share: it dies, and is there again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use mainstay::CircuitBreaker;
use mainstay::redis::{RedisClient, RedisClientBuilder};
use mainstay::retry::Backoff;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::redis_server::{RedisServer, held_port};
use crate::trial::{LONG, MS};

/// It is there before anything is counted, and ends with the process.
pub(crate) fn server() -> &'static RedisServer {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    SERVER.get_or_init(RedisServer::start)
}

/// A key that no other world has.
pub(crate) fn fresh_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("key {}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Connections pass through it in this runtime, so that they end with it.
pub(crate) struct Relay {
    /// It never listens. As long as it has the port, the system gives it to nobody else: the
    /// relay of another process would lead to another server.
    port: TcpSocket,
    task: Mutex<JoinSet<()>>,
}

impl Relay {
    pub(crate) async fn start() -> Self {
        let relay = Self {
            port: held_port(),
            task: Mutex::default(),
        };
        relay.begin().await;
        relay
    }

    fn address(&self) -> SocketAddr {
        self.port.local_addr().unwrap()
    }

    pub(crate) fn client(&self) -> RedisClientBuilder {
        let gentle = CircuitBreaker::builder().consecutive_failures(1_000_000);
        RedisClient::builder(format!("redis://{}", self.address()))
            .reconnect_backoff(Backoff::constant(2 * MS))
            .backoff(Backoff::constant(MS))
            .circuit_breaker(gentle.no_failure_rate().build().unwrap())
            .limits(8 * MS)
    }

    /// All connections end, and there are no new ones.
    pub(crate) fn die(&self) {
        let tasks = std::mem::take(&mut *self.task.lock().unwrap());
        drop(tasks);
    }

    /// It is there again, if it was not.
    pub(crate) async fn revive(&self) {
        if self.task.lock().unwrap().is_empty() {
            self.begin().await;
        }
    }

    async fn begin(&self) {
        let listener = loop {
            // What was there before may take a moment to go.
            match TcpListener::bind(self.address()).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(MS).await,
            }
        };
        let target = SocketAddr::from(([127, 0, 0, 1], server().port()));
        self.task.lock().unwrap().spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(pass(near, target));
            }
        });
    }
}

async fn pass(mut near: TcpStream, target: SocketAddr) {
    let Ok(mut far) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    tokio::io::copy_bidirectional(&mut near, &mut far)
        .await
        .ok();
}

/// The server answers nobody for so many seconds. It ends with what this yields.
pub(crate) async fn doze(seconds: &str) -> TcpStream {
    let target = ("127.0.0.1", server().port());
    let mut stream = TcpStream::connect(target).await.unwrap();
    let line = format!("DEBUG SLEEP {seconds}\r\n");
    stream.write_all(line.as_bytes()).await.unwrap();
    stream
}

/// Calls until it is answered, with a bound.
pub(crate) async fn healed(client: &RedisClient) {
    let answered = async {
        while client.exists("healed").await.is_err() {
            tokio::time::sleep(MS).await;
        }
    };
    tokio::time::timeout(LONG, answered).await.unwrap();
}

#[tokio::test]
async fn nobody_else_gets_the_port_of_one_that_is_dead() {
    let relay = Relay::start().await;
    relay.die();
    let address = relay.address();
    let is_dead = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(MS).await;
        }
    };
    tokio::time::timeout(LONG, is_dead).await.unwrap();
    let other = TcpSocket::new_v4().unwrap();
    let taken = other.bind(address).map_err(|error| error.kind());
    assert_eq!(taken, Err(std::io::ErrorKind::AddrInUse));
    relay.revive().await;
    TcpStream::connect(address).await.unwrap();
}

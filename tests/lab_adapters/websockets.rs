//! The WebSocket client: at a peer that answers, is slow, silent, dead, dies, comes again;
//! while others call, while the client is closed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use futures_util::StreamExt as _;
use mainstay::retry::Backoff;
use mainstay::shutdown::Component;
use mainstay::websocket::{Client, LinkState, Notifications};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::peer::{Peer, black_hole, quick, raw};
use crate::trial::{Clock, MS, Trial, trial, until};

type Acting = Pin<Box<dyn Future<Output = ()>>>;
type Calling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who is at the other end.
enum Server {
    Peer(#[expect(dead_code, reason = "it ends with it")] Peer),
    /// It says nothing.
    Silent(#[expect(dead_code, reason = "it ends with it")] JoinSet<()>),
    Nobody,
}

/// A client, its peer, and who else uses it.
struct Line {
    client: Client,
    address: SocketAddr,
    server: std::sync::Mutex<Server>,
    reader: Mutex<Notifications>,
    others: Mutex<JoinSet<()>>,
    is_closed: AtomicBool,
}

impl Line {
    async fn new(state: State) -> Self {
        let (url, server) = match state {
            State::Hole => silent(black_hole().await),
            State::Mute => silent(raw(|_socket| std::future::pending()).await),
            State::Dead => (
                format!("ws://{}/", Peer::start().await.kill().await.0),
                Server::Nobody,
            ),
            _ => {
                let peer = Peer::start().await;
                (peer.url(), Server::Peer(peer))
            }
        };
        let client = quick(&url)
            .backoff(Backoff::constant(2 * MS))
            .close_timeout(12 * MS)
            .max_in_flight(if state == State::Full { 1 } else { 8 })
            .build()
            .unwrap();
        let address = url.trim_start_matches("ws://").trim_end_matches('/');
        let line = Self {
            reader: Mutex::new(client.notifications()),
            address: address.parse().unwrap(),
            client,
            server: std::sync::Mutex::new(server),
            others: Mutex::default(),
            is_closed: AtomicBool::new(false),
        };
        if matches!(state, State::Up | State::Full | State::Hole) {
            line.client.connect().await.unwrap();
        }
        if state == State::Full {
            let other = line.client.call::<Value>("after", [4]).into_future();
            line.others.lock().await.spawn(async move {
                other.await.map(drop).ok();
            });
            let client = &line.client;
            until("the other call", || client.snapshot().pending == 1).await;
        }
        line
    }

    fn server_ends(&self) {
        let server = std::mem::replace(&mut *self.server.lock().unwrap(), Server::Nobody);
        drop(server);
    }

    /// What was cut is in no table; the peer is back, and the next call succeeds.
    async fn is_whole(&self) {
        while self.others.lock().await.join_next().await.is_some() {}
        let now = self.client.snapshot();
        assert_eq!((now.pending, now.queued), (0, 0), "{now:?}");
        if !self.is_closed.load(SeqCst) {
            let lives = matches!(*self.server.lock().unwrap(), Server::Peer(_));
            if !lives {
                self.server_ends();
                let peer = Peer::again(self.address, Arc::default()).await;
                *self.server.lock().unwrap() = Server::Peer(peer);
            }
            let next = self.client.call::<Value>("echo", ["next"]).repeatable();
            // One that was sent to the silent one is answered by the next connection's.
            assert_eq!(next.await.unwrap(), json!(["next"]));
        }
        let now = self.client.snapshot();
        assert_eq!((now.pending, now.queued), (0, 0), "{now:?}");
        assert_eq!(
            (now.unknown, now.duplicate, now.malformed),
            (0, 0, 0),
            "{now:?}"
        );
        self.client.close().await;
        assert_eq!(self.client.snapshot().state, LinkState::Closed);
        assert!(self.client.call::<Value>("echo", ()).await.is_err());
        // A reader is told the end, after what it has not read yet.
        let mut reader = self.reader.lock().await;
        while reader.recv().await.is_some() {}
    }
}

fn silent((url, server): (String, JoinSet<()>)) -> (String, Server) {
    (url, Server::Silent(server))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Up,
    /// One call at a time, and it is another's.
    Full,
    /// Its system takes what fits, and nobody answers.
    Hole,
    /// It takes the connection, and does not answer the upgrade.
    Mute,
    Dead,
}

const STATES: [State; 6] = [
    State::Idle,
    State::Up,
    State::Full,
    State::Hole,
    State::Mute,
    State::Dead,
];

type Neighbour = fn(Arc<Line>) -> Acting;

/// What somebody else does meanwhile.
const NEIGHBOURS: [(&str, Neighbour); 3] = [
    ("others call", |line| {
        Box::pin(async move {
            let other = line.client.call::<Value>("echo", [7]).timeout(8 * MS);
            other.await.map(drop).ok();
            line.client.notify("never", ()).timeout(4 * MS).await.ok();
        })
    }),
    ("the peer dies, and comes again", |line| {
        Box::pin(async move {
            yield_now().await;
            line.server_ends();
            sleep(3 * MS).await;
            let peer = Peer::again(line.address, Arc::default()).await;
            *line.server.lock().unwrap() = Server::Peer(peer);
        })
    }),
    ("the client is closed", |line| {
        Box::pin(async move {
            line.is_closed.store(true, SeqCst);
            yield_now().await;
            line.client.close().await;
        })
    }),
];

type Call = fn(Arc<Line>) -> Calling;

/// What is on trial. Each ends in a few milliseconds, whoever answers.
const CALLS: [(&str, &[&str; 1], Call); 8] = [
    ("call", &["websocket::Request"], |line| {
        let call = line.client.call::<Value>("echo", [1]).timeout(8 * MS);
        Box::pin(async move { drop(call.await) })
    }),
    ("call, answered late", &["websocket::Request"], |line| {
        let call = line.client.call::<Value>("after", [2]).timeout(8 * MS);
        Box::pin(async move { drop(call.await) })
    }),
    ("call, never answered", &["websocket::Request"], |line| {
        let call = line.client.call::<Value>("never", ()).timeout(4 * MS);
        Box::pin(async move { drop(call.await) })
    }),
    ("call, repeatable", &["websocket::Request"], |line| {
        let call = line.client.call::<Value>("after", [1]).timeout(8 * MS);
        Box::pin(async move { drop(call.repeatable().await) })
    }),
    ("notify", &["websocket::Notify"], |line| {
        let notify = line.client.notify("never", [1]).timeout(8 * MS);
        Box::pin(async move { notify.await.unwrap_or(()) })
    }),
    ("connect", &["websocket::Client::connect"], |line| {
        Box::pin(async move {
            let limit = tokio::time::timeout(8 * MS, line.client.connect());
            limit.await.map(drop).ok();
        })
    }),
    ("close", &["websocket::Client::close"], |line| {
        line.is_closed.store(true, SeqCst);
        Box::pin(async move {
            line.client.close().await;
        })
    }),
    ("drained", &["websocket::Client::drained"], |line| {
        line.is_closed.store(true, SeqCst);
        Box::pin(async move {
            Component::stop(&line.client);
            Component::drained(&line.client).await;
        })
    }),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for state in STATES {
        for (call, covers, start) in CALLS {
            for (what, act) in NEIGHBOURS {
                all.push(trial(
                    format!("{call}: {state:?}, {what}"),
                    covers,
                    (Clock::Real, 1),
                    move |lab| {
                        lab.beside(
                            async move || Line::new(state).await,
                            start,
                            act,
                            async |line: &Line, _| line.is_whole().await,
                        )
                    },
                ));
            }
        }
    }
    of_readers(&mut all);
    all
}

/// What the peer tells is read in order, wherever a reader was cut.
fn of_readers(all: &mut Vec<Trial>) {
    struct Told {
        line: Line,
        seen: std::sync::Mutex<Vec<Value>>,
    }
    impl Told {
        fn note(&self, read: mainstay::websocket::Notification) {
            self.seen.lock().unwrap().push(read.params);
        }

        async fn is_whole(&self) {
            let mut reader = self.line.reader.lock().await;
            while self.seen.lock().unwrap().len() < 3 {
                self.note(reader.recv().await.unwrap().unwrap());
            }
            drop(reader);
            assert_eq!(
                *self.seen.lock().unwrap(),
                [json!([0]), json!([1]), json!([2])]
            );
            self.line.is_whole().await;
        }
    }
    let world = async || Told {
        line: Line::new(State::Up).await,
        seen: std::sync::Mutex::default(),
    };
    let tells = |told: Arc<Told>| async move {
        yield_now().await;
        told.line.client.call::<Value>("tell", [3]).await.unwrap();
    };
    let check = async |told: &Told, _: &_| told.is_whole().await;
    all.push(trial(
        "notifications.recv",
        &["websocket::Notifications::recv"],
        (Clock::Real, 2),
        move |lab| {
            lab.beside(
                world,
                |told: Arc<Told>| async move {
                    let mut reader = told.line.reader.lock().await;
                    for _ in 0..3 {
                        told.note(reader.recv().await.unwrap().unwrap());
                    }
                },
                tells,
                check,
            )
        },
    ));
    all.push(trial(
        "notifications as a stream",
        &["websocket::Notifications"],
        (Clock::Real, 2),
        move |lab| {
            lab.beside(
                world,
                |told: Arc<Told>| async move {
                    let mut reader = told.line.reader.lock().await;
                    for _ in 0..3 {
                        told.note(reader.next().await.unwrap().unwrap());
                    }
                },
                tells,
                check,
            )
        },
    ));
}

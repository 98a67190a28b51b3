//! How many connections calls need.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mainstay::session::{AgentBay, Command, CreateSession, SessionId, SessionProvider};
use serde_json::json;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::agentbay_peer::{Act, Peer, good, reply, said, soon};

async fn call(provider: &AgentBay, n: usize) {
    let line = format!("echo {n}");
    let command = Command::new(line.clone());
    let result = soon(provider.run(&SessionId::new("s-1"), &command))
        .await
        .unwrap();
    assert_eq!(result.stdout_text(), line, "somebody else's reply");
}

async fn echo() -> Peer {
    Peer::start(|asked| said(asked.args()["command"].as_str().unwrap(), false)).await
}

/// The fewest connections more than allowed, of three tries: a machine that does not come to a
/// task within 100 ms opens one more.
macro_rules! best_of_three {
    ($more:expr) => {
        let mut tries = Vec::new();
        while tries.len() < 3 && !tries.contains(&0) {
            tries.push($more.await);
        }
        assert!(tries.contains(&0), "{tries:?}");
    };
}

async fn sixteen_in_a_row() -> usize {
    let peer = echo().await;
    let provider = peer.provider();
    for n in 0..16 {
        call(&provider, n).await;
    }
    assert_eq!(peer.asked().len(), 16);
    peer.accepted() - 1
}

#[tokio::test]
async fn sixteen_calls_in_a_row_need_one_connection() {
    best_of_three!(sixteen_in_a_row());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_calls_in_a_row_need_one_connection_on_many_threads() {
    for _ in 0..10 {
        best_of_three!(sixteen_in_a_row());
    }
}

async fn many_at_once(at_once: usize, rounds: usize) -> usize {
    let peer = echo().await;
    let provider = peer.provider();
    let mut tasks = JoinSet::new();
    for worker in 0..at_once {
        let provider = provider.clone();
        tasks.spawn(async move {
            for round in 0..rounds {
                call(&provider, worker * 1000 + round).await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(peer.asked().len(), at_once * rounds);
    peer.accepted().saturating_sub(at_once)
}

#[tokio::test]
async fn so_many_calls_at_once_need_so_many_connections_at_most() {
    best_of_three!(many_at_once(8, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_many_calls_at_once_need_so_many_connections_at_most_on_many_threads() {
    best_of_three!(many_at_once(8, 50));
    best_of_three!(many_at_once(64, 10));
}

#[tokio::test]
async fn failures_that_were_read_to_their_end_keep_their_connection() {
    let peer = Peer::start(|asked| match asked.action().as_str() {
        "GetSession" => reply(502, &[], "<html>"),
        _ => good(json!({"Labels": ""})),
    })
    .await;
    let provider = peer.provider();
    for _ in 0..5 {
        let id = SessionId::new("s");
        assert!(soon(provider.get(&id)).await.is_err());
        soon(provider.labels(&id)).await.unwrap();
    }
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_used_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let n = count.clone();
    let peer = Peer::start(move |_| {
        n.fetch_add(1, Ordering::SeqCst);
        let Act::Say(bytes) = said("echo 1", false) else {
            unreachable!()
        };
        Act::SayAndClose(bytes)
    })
    .await;
    let provider = peer.provider();
    for n in 1..=5 {
        call(&provider, 1).await;
        assert_eq!(count.load(Ordering::SeqCst), n);
        // Until the client has seen it closed.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(peer.accepted(), 5);
}

/// How long so many calls at once take right after one that has ended.
async fn burst_after_a_reply(at_once: usize) -> Duration {
    // One connection alone would need 16 times as long.
    let peer = Peer::start(|asked| {
        let reply = said(asked.args()["command"].as_str().unwrap(), false);
        Act::After(Duration::from_millis(30), Box::new(reply))
    })
    .await;
    let provider = peer.provider();
    call(&provider, 0).await;
    let begun = Instant::now();
    let calls = (0..at_once).map(|n| {
        let provider = provider.clone();
        async move { call(&provider, n).await }
    });
    calls.collect::<JoinSet<_>>().join_all().await;
    begun.elapsed()
}

/// What waits for a connection that comes back is one call for each that does.
#[tokio::test]
async fn many_calls_at_once_do_not_wait_for_the_one_connection_that_comes_back() {
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        fastest = fastest.min(burst_after_a_reply(16).await);
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
}

/// What comes back of one server is nothing to another.
#[tokio::test]
async fn the_first_call_by_a_link_does_not_wait_for_the_service_s_connection() {
    let data = json!({"result": {"content": [{"text": "hi"}]}});
    let link = Peer::always(reply(200, &[], &json!({ "data": data }).to_string())).await;
    let url = link.url();
    let service = Peer::start(move |_| {
        good(json!({
            "SessionId": "s-1", "LinkUrl": url, "Token": "t",
            "ToolList": [{"name": "shell", "server": "s"}],
        }))
    })
    .await;
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let provider = service.provider();
        let info = soon(provider.create(&CreateSession::new())).await.unwrap();
        let begun = Instant::now();
        soon(provider.run(&info.id, &"ls".into())).await.unwrap();
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest < Duration::from_millis(80), "{fastest:?}");
    assert_eq!(link.asked().len(), 5);
}

/// A server that says that it closes keeps nobody waiting for what does not come back.
#[tokio::test]
async fn a_connection_whose_end_was_announced_is_not_waited_for() {
    let peer = Peer::start(|_| {
        let body = json!({"Success": true, "Data": {"Labels": ""}}).to_string();
        let Act::Say(bytes) = reply(200, &[("connection", "Close")], &body) else {
            unreachable!()
        };
        Act::SayAndClose(bytes)
    })
    .await;
    let provider = peer.provider();
    let id = SessionId::new("s");
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        soon(provider.labels(&id)).await.unwrap();
        soon(provider.labels(&id)).await.unwrap();
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest < Duration::from_millis(80), "{fastest:?}");
}

/// Calls at a server that says this after each reply.
async fn beyond(extra: &'static [u8], gap: Duration) {
    let peer = Peer::start(move |asked| {
        let line = asked.args()["command"].as_str().unwrap().to_owned();
        let Act::Say(mut bytes) = said(line, false) else {
            unreachable!()
        };
        bytes.extend_from_slice(extra);
        Act::Say(bytes)
    })
    .await;
    let provider = peer.provider();
    for n in 0..5 {
        call(&provider, n).await;
        tokio::time::sleep(gap).await;
    }
    assert_eq!(peer.accepted(), 5, "a connection was used again");
}

const THEIRS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n\
    {\"Success\":true,\"Data\":{\"content\":[{\"text\":\"somebody else's\"}]}}";

/// Trap 21.
#[tokio::test]
async fn a_connection_that_said_more_than_its_reply_is_not_used_again() {
    for extra in [THEIRS, b"x", b"\r\n"] {
        beyond(extra, Duration::ZERO).await;
        beyond(extra, Duration::from_millis(5)).await;
    }
}

/// Trap 21.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_said_more_than_its_reply_is_not_used_again_on_many_threads() {
    for _ in 0..5 {
        beyond(THEIRS, Duration::ZERO).await;
    }
}

/// Trap 24.
#[test]
fn a_provider_outlives_the_runtime_of_its_first_call() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let home = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let peer = home.block_on(echo());
    let provider = peer.provider();
    for n in 0..3 {
        runtime().block_on(call(&provider, n));
    }
}

//! How many connections calls need.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mainstay::session::{AgentBay, Command, SessionId, SessionProvider};
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

//! The connection: lost, dead, flapping, back again.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use mainstay::Error;
use mainstay::retry::{Backoff, Jitter};
use mainstay::websocket::{Client, LinkState, RpcErrorKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::accept_async;

use crate::peer::{Peer, black_hole, head, quick, raw, until};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Trap 96.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_mid_flight_fails_each_call_once_and_the_client_heals() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let mut expected = 0;
    let mut seen = Arc::clone(&peer.seen);
    let mut peer = Some(peer);
    for round in 1..=5 {
        let calls: Vec<_> = (0..20)
            .map(|_| {
                tokio::spawn(
                    client
                        .call::<Value>("effect_without_reply", ())
                        .into_future(),
                )
            })
            .collect();
        expected += 20;
        until("they have their effects", async || {
            seen.effects.load(SeqCst) == expected
        })
        .await;
        let (addr, same) = peer.take().unwrap().kill().await;
        seen = same;
        for call in join_all(calls).await {
            let error = call.unwrap().unwrap_err();
            assert_eq!(error.attempts(), 1);
            let error = error.last().unwrap();
            assert_eq!((error.kind(), error.was_sent()), (RpcErrorKind::Lost, true));
        }
        assert_eq!(client.snapshot().pending, 0);

        // Not sent: waits for the next connection.
        let waits = tokio::spawn(client.call::<Value>("effect", [round]).into_future());
        peer = Some(Peer::again(addr, seen.clone()).await);
        assert_eq!(waits.await.unwrap().unwrap(), json!([round]));
        expected += 1;
        let now = client.snapshot();
        assert!(now.state.is_up() && now.problem.is_none());
        assert_eq!((now.reconnects, now.lost), (round, round));
    }
    // Nothing was replayed.
    assert_eq!(seen.effects.load(SeqCst), expected);
}

#[tokio::test]
async fn only_what_is_repeatable_is_sent_again_and_so_often_at_most() {
    let peer = Peer::start().await;
    let client = peer.client().max_attempts(3).build().unwrap();
    let call = client
        .call::<Value>("effect_without_reply", ())
        .repeatable();
    let call = tokio::spawn(call.into_future());
    let mut peer = Some(peer);
    for attempt in 1..=3 {
        let seen = Arc::clone(&peer.as_ref().unwrap().seen);
        until("it is sent", async || seen.effects.load(SeqCst) == attempt).await;
        let (addr, seen) = peer.take().unwrap().kill().await;
        peer = Some(Peer::again(addr, seen).await);
    }
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.attempts(), 3);
    assert_eq!(error.last().unwrap().kind(), RpcErrorKind::Lost);
    let echo: Value = client.call("echo", [1]).repeatable().await.unwrap();
    assert_eq!(echo, json!([1]));
    assert_eq!((peer.unwrap().effects(), client.snapshot().pending), (3, 0));
}

/// A process that is stopped answers nothing, and its system keeps the connection.
#[tokio::test]
async fn a_dead_peer_fails_calls_within_the_bound() {
    let (url, _server) = black_hole().await;
    let client = quick(&url)
        .ping_interval(100 * MILLI)
        .pong_timeout(150 * MILLI);
    let client = client.call_timeout(60 * SECOND).build().unwrap();
    let begun = Instant::now();
    let calls = (0..10).map(|_| client.call::<Value>("echo", ()).into_future());
    for ended in join_all(calls).await {
        let error = ended.unwrap_err();
        let error = error.last().unwrap();
        assert_eq!((error.kind(), error.was_sent()), (RpcErrorKind::Lost, true));
        assert_eq!(error.message(), "the peer answers no ping");
    }
    let took = begun.elapsed();
    assert!(took > 240 * MILLI && took < 5 * SECOND, "{took:?}");
    assert_eq!(client.snapshot().pending, 0);
}

#[tokio::test]
async fn a_quiet_peer_that_answers_pings_is_alive() {
    let peer = Peer::start().await;
    let client = peer
        .client()
        .ping_interval(20 * MILLI)
        .pong_timeout(5 * SECOND);
    let client = client.build().unwrap();
    client.connect().await.unwrap();
    until("it was pinged", async || peer.seen.pings.load(SeqCst) >= 10).await;
    assert_eq!(client.snapshot().lost, 0);
    client.call::<Value>("echo", ()).await.unwrap();
}

/// What a peer does not read is bounded here, and holds no call beyond its limit.
#[tokio::test]
async fn a_peer_that_reads_nothing_holds_no_call_and_no_memory() {
    let (url, _server) = black_hole().await;
    let client = quick(&url)
        .ping_interval(60 * SECOND)
        .max_in_flight(16)
        .build()
        .unwrap();
    client.connect().await.unwrap();
    let quarter = "x".repeat(1 << 18);
    let begun = Instant::now();
    for _ in 0..3 {
        let calls = (0..16).map(|_| {
            let call = client.call::<Value>("echo", [&quarter]);
            call.timeout(100 * MILLI).into_future()
        });
        for ended in join_all(calls).await {
            assert!(matches!(ended, Err(Error::TimedOut { .. })));
        }
        let now = client.snapshot();
        assert_eq!((now.pending, now.queued), (0, 0));
    }
    assert!(begun.elapsed() < 10 * SECOND);
    assert!(client.snapshot().state.is_up());
}

/// It talks, so it is not silent; but what we say is not read.
#[tokio::test]
async fn a_peer_that_only_talks_is_given_up() {
    let (url, _server) = raw(|socket| async {
        let (mut sink, _unread) = accept_async(socket).await.unwrap().split();
        let tick = r#"{"jsonrpc":"2.0","method":"tick"}"#;
        while futures_util::SinkExt::send(&mut sink, tick.into())
            .await
            .is_ok()
        {
            tokio::time::sleep(10 * MILLI).await;
        }
    })
    .await;
    let client = quick(&url)
        .ping_interval(100 * MILLI)
        .pong_timeout(100 * MILLI);
    let client = client
        .write_timeout(300 * MILLI)
        .max_message_size(64 << 20)
        .build()
        .unwrap();
    let huge = "x".repeat(16 << 20);
    let error = client.call::<Value>("echo", [huge]).await.unwrap_err();
    assert_eq!(error.last().unwrap().message(), "the peer reads nothing");
    assert_eq!(client.snapshot().pending, 0);
}

/// What it does not read yet is no sign of death, as long as it goes on: for longer than the
/// limit, there is always more to write than it takes.
#[tokio::test]
async fn a_peer_that_reads_slowly_keeps_its_connection() {
    let (url, _server) = raw(|socket| async {
        let mut link = accept_async(socket).await.unwrap();
        let mut some = vec![0; 1 << 18];
        while link.get_mut().read_exact(&mut some).await.is_ok() {
            tokio::time::sleep(50 * MILLI).await;
        }
    })
    .await;
    let limit = 2 * SECOND;
    let client = quick(&url).write_timeout(limit).max_in_flight(160);
    let client = client.call_timeout(120 * SECOND).build().unwrap();
    client.connect().await.unwrap();
    let quarter = "x".repeat(1 << 18);
    let calls = (0..160).map(|_| client.call::<Value>("echo", [&quarter]).into_future());
    let later = async {
        tokio::time::sleep(limit + limit / 4).await;
        client.snapshot()
    };
    let now = tokio::select! {
        ended = join_all(calls) => panic!("{:?}", ended[0]),
        now = later => now,
    };
    assert!(now.state.is_up() && now.lost == 0, "{now:?}");
    assert!(now.queued > 0, "it was not slow");
}

/// Trap 53.
#[tokio::test]
async fn a_flapping_connection_is_not_hammered() {
    let arrivals = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrivals);
    let (url, _server) = raw(move |socket| {
        count.fetch_add(1, SeqCst);
        async {
            let link = accept_async(socket).await;
            tokio::time::sleep(5 * MILLI).await;
            drop(link);
        }
    })
    .await;
    let backoff = Backoff::exponential(20 * MILLI).jitter(Jitter::None);
    let client = Client::builder(&url).backoff(backoff).stable_after(SECOND);
    let client = client.build().unwrap();
    client.connect().await.unwrap();
    tokio::time::sleep(700 * MILLI).await;
    // After 0, 20, 60, 140, 300, 620 ms, and the lives between: 6 at most, where a back-off
    // that begins anew makes about 25.
    let arrived = arrivals.load(SeqCst);
    assert!((3..=6).contains(&arrived), "{arrived}");
}

/// Trap 95, with real sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_restarted_server_come_back_spread_out() {
    let peer = Peer::start().await;
    let backoff = Backoff::exponential(SECOND);
    let clients: Vec<Client> = (0..100)
        .map(|seed| peer.client().backoff(backoff).seed(seed).build().unwrap())
        .collect();
    for client in &clients {
        client.connect().await.unwrap();
    }
    let (addr, seen) = (peer.addr, Arc::clone(&peer.seen));
    drop(peer);
    let back = Peer::again(addr, seen).await;
    let begun = Instant::now();
    let before = back.seen.connections.load(SeqCst);
    let mut most = 0;
    let mut last = before;
    // Until all are back, each for the second time: without a jitter that is at one moment.
    while last < 200 && begun.elapsed() < 10 * SECOND {
        tokio::time::sleep(100 * MILLI).await;
        let now = back.seen.connections.load(SeqCst);
        most = most.max(now - last);
        last = now;
    }
    assert!(most < 50, "{most} of 100 in a tenth of the jitter");
    for client in &clients {
        client.call::<Value>("echo", ()).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_server_calls_end_with_the_reason() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    peer.kill().await;
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.last().unwrap().kind(), RpcErrorKind::NotConnected);
    let error = client
        .call::<Value>("echo", ())
        .timeout(50 * MILLI)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }));
    let why = error.last().unwrap();
    assert_eq!(
        (why.kind(), why.was_sent()),
        (RpcErrorKind::NotConnected, false)
    );
    assert!(why.message().contains("refused"), "{why}");
    assert!(matches!(
        client.snapshot().state,
        LinkState::Down { .. } | LinkState::Connecting
    ));
}

#[tokio::test]
async fn a_client_that_refuses_while_down_does_so_at_once() {
    let peer = Peer::start().await;
    let client = peer.client().refuse_while_down().build().unwrap();
    let error = client.call::<Value>("echo", ()).await.unwrap_err();
    assert_eq!(error.last().unwrap().kind(), RpcErrorKind::NotConnected);
    client.connect().await.unwrap();
    client.call::<Value>("echo", ()).await.unwrap();
}

#[tokio::test]
async fn a_good_bye_of_the_servers_is_a_lost_connection() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let under_way = client.call::<Value>("never", ()).into_future();
    let (lost, _) = tokio::join!(under_way, client.notify("close", ()));
    let error = lost.unwrap_err();
    let error = error.last().unwrap();
    assert_eq!(
        (error.kind(), error.message()),
        (RpcErrorKind::Lost, "closed by the peer")
    );
    client.call::<Value>("echo", ()).await.unwrap();
    assert_eq!(client.snapshot().reconnects, 1);
}

/// The other end neither answers the good-bye nor reads it.
#[tokio::test]
async fn closing_is_bounded_whatever_the_peer_does() {
    let (url, _server) = black_hole().await;
    let client = quick(&url)
        .close_timeout(100 * MILLI)
        .max_message_size(64 << 20);
    let client = client.build().unwrap();
    let huge = "x".repeat(16 << 20);
    let call = tokio::spawn(client.call::<Value>("echo", [huge]).into_future());
    until("it is being sent", async || {
        let now = client.snapshot();
        (now.pending, now.queued) == (1, 0)
    })
    .await;
    let begun = Instant::now();
    let closed = client.close().await;
    assert_eq!((closed.graceful, closed.failed), (false, 1));
    assert!(begun.elapsed() < 2 * SECOND);
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn closing_while_it_connects_or_waits_is_quick() {
    let (url, _server) = raw(|socket| async move {
        let _held = socket;
        std::future::pending::<()>().await;
    })
    .await;
    let connecting = quick(&url).build().unwrap();
    let call = tokio::spawn(connecting.call::<Value>("echo", ()).into_future());
    until("it connects", async || {
        connecting.snapshot().state == LinkState::Connecting
    })
    .await;
    let waiting = Client::builder("ws://127.0.0.1:1/");
    let waiting = waiting.backoff(Backoff::constant(60 * SECOND).max_delay(60 * SECOND));
    let waiting = waiting.build().unwrap();
    assert!(waiting.connect().await.is_err());
    let begun = Instant::now();
    assert!(connecting.close().await.graceful);
    assert!(waiting.close().await.graceful);
    assert!(begun.elapsed() < 2 * SECOND);
    assert_eq!(
        call.await.unwrap().unwrap_err().last().unwrap().kind(),
        RpcErrorKind::Closed
    );
}

#[tokio::test]
async fn an_upgrade_that_is_never_answered_is_given_up() {
    let (url, _server) = raw(|socket| async move {
        let _held = socket;
        std::future::pending::<()>().await;
    })
    .await;
    let client = quick(&url).connect_timeout(50 * MILLI).build().unwrap();
    let error = client.connect().await.unwrap_err();
    let error = error.last().unwrap();
    assert_eq!(error.kind(), RpcErrorKind::NotConnected);
    assert!(error.message().contains("timed out"), "{error}");
}

/// The nonce of the handshake is there to tell a real answer from a stored one.
#[tokio::test]
async fn each_connection_has_a_key_of_its_own() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    let (url, _server) = raw(move |mut socket| {
        let seen = Arc::clone(&seen);
        async move {
            let head = head(&mut socket).await;
            let key = head
                .lines()
                .find(|line| line.starts_with("sec-websocket-key"));
            seen.lock().unwrap().push(key.unwrap().to_owned());
        }
    })
    .await;
    let client = quick(&url).build().unwrap();
    for _ in 0..3 {
        assert!(client.connect().await.is_err());
    }
    let keys = keys.lock().unwrap();
    assert!(keys.len() >= 3 && keys[0] != keys[1] && keys[1] != keys[2]);
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_left_alone_until_then() {
    for (hint, at_least, at_most) in [("30", 20, 40), ("99999999999", 200, 400), ("soon", 0, 1)] {
        let arrivals = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&arrivals);
        let (url, _server) = raw(move |mut socket| {
            count.fetch_add(1, SeqCst);
            async move {
                let _ = head(&mut socket).await;
                let answer = format!("HTTP/1.1 503 Busy\r\nRetry-After: {hint}\r\n\r\n");
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let client = quick(&url).build().unwrap();
        assert!(client.connect().await.is_err());
        let LinkState::Down { retry_after, .. } = client.snapshot().state else {
            assert_eq!(at_least, 0);
            continue;
        };
        let expected = Duration::from_secs(at_least)..=Duration::from_secs(at_most);
        assert!(expected.contains(&retry_after), "{hint}: {retry_after:?}");
        if at_least > 0 {
            assert_eq!(arrivals.load(SeqCst), 1);
        }
        assert!(client.close().await.graceful);
    }
}

/// It is not only for calls that begin while it is down.
#[tokio::test]
async fn a_client_that_refuses_while_down_keeps_no_call_over_a_lost_connection() {
    let (url, mut server) = black_hole().await;
    let client = quick(&url).refuse_while_down().max_message_size(64 << 20);
    let client = client.build().unwrap();
    client.connect().await.unwrap();
    let huge = "x".repeat(16 << 20);
    let sent = tokio::spawn(client.call::<Value>("echo", [huge]).into_future());
    until("it is being sent", async || {
        let now = client.snapshot();
        (now.pending, now.queued) == (1, 0)
    })
    .await;
    let queued = tokio::spawn(client.call::<Value>("echo", ()).into_future());
    until("it is queued", async || client.snapshot().queued == 1).await;
    server.abort_all();
    let begun = Instant::now();
    for (call, kind, was_sent) in [
        (sent, RpcErrorKind::Lost, true),
        (queued, RpcErrorKind::NotConnected, false),
    ] {
        let error = call.await.unwrap().unwrap_err();
        assert!(!matches!(error, Error::TimedOut { .. }), "{error}");
        let error = error.last().unwrap();
        assert_eq!((error.kind(), error.was_sent()), (kind, was_sent));
    }
    assert!(begun.elapsed() < 10 * SECOND);
}

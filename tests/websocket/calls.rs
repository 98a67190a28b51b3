//! Many callers, one socket: each gets its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use futures_util::{FutureExt, StreamExt};
use mainstay::prelude::*;
use mainstay::websocket::{LinkState, RpcErrorKind};
use mainstay::{Error, Refusal};
use serde_json::{Value, json};

use crate::peer::{Peer, quick, raw, until};

const MILLI: Duration = Duration::from_millis(1);

/// Trap 94.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_in_any_order_reach_their_own_callers() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let calls = (0..200_u64).map(|n| client.call::<(u64, u64)>("hold", (200, n)).into_future());
    let replies = try_join_all(calls).await.unwrap();
    assert!(replies.into_iter().map(|reply| reply.1).eq(0..200));
    let now = client.snapshot();
    assert_eq!(
        (now.pending, now.late, now.unknown, now.duplicate),
        (0, 0, 0, 0)
    );
}

/// Trap 94: what the guide's `send_and_wait` does wrong.
#[tokio::test]
async fn nobody_takes_anothers_reply() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let callers = (0..20_u64).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..50_u64 {
                let wait = scattered(caller * 50 + n) % 5;
                let sent = (wait, caller, n);
                let got: (u64, u64, u64) = client.call("after", sent).await.unwrap();
                assert_eq!(got, sent);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(client.snapshot().pending, 0);
}

fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
}

/// Trap 94.
#[tokio::test]
async fn late_second_and_unknown_replies_are_counted_and_go_to_nobody() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    client.connect().await.unwrap();

    let late = client.call::<Value>("after", [30]).timeout(5 * MILLI).await;
    assert!(matches!(late, Err(Error::TimedOut { .. })));
    assert_eq!(client.snapshot().pending, 0);
    until("the late one is counted", async || {
        client.snapshot().late == 1
    })
    .await;

    client.call::<Value>("twice", [1]).await.unwrap();
    until("the second is counted", async || {
        client.snapshot().duplicate == 1
    })
    .await;

    // A reply to the next id, which nobody has asked for yet; and to ids that are none of ours.
    for (n, stray) in [json!(5), json!("4"), json!(null), json!(0)]
        .iter()
        .enumerate()
    {
        let own: Value = client.call("with_id", [stray]).await.unwrap();
        assert_eq!(own, json!([stray]));
        assert_eq!(client.snapshot().unknown, n as u64 + 1);
    }
    let own: Value = client.call("echo", ["mine"]).await.unwrap();
    assert_eq!(own, json!(["mine"]));
    let now = client.snapshot();
    assert_eq!((now.late, now.duplicate, now.lost), (1, 1, 0));
}

/// Trap 93.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_requests_ended_in_each_way_leave_nothing() {
    const EACH: u64 = 100_000;
    let peer = Peer::start().await;
    let client = peer.client().max_in_flight(3 * 64).build().unwrap();
    client.connect().await.unwrap();
    let replied = gather((0..EACH).map(|n| {
        let client = client.clone();
        async move {
            client
                .call::<[u64; 1]>("echo", [n])
                .await
                .map(|got| assert_eq!(got, [n]))
        }
    }));
    let timed_out = gather((0..EACH).map(|_| {
        let client = client.clone();
        async move {
            let never = client.call::<Value>("never", ()).timeout(MILLI).await;
            assert!(matches!(never, Err(Error::TimedOut { .. })));
            Ok::<_, std::io::Error>(())
        }
    }));
    let dropped = gather((0..EACH).map(|n| {
        let client = client.clone();
        async move {
            let mut call = client.call::<Value>("echo", [n]).into_future();
            for _ in 0..n % 3 {
                assert!((&mut call).now_or_never().is_none_or(|r| r.is_ok()));
                tokio::task::yield_now().await;
                if n % 2 == 0 {
                    break;
                }
            }
            Ok::<_, std::io::Error>(())
        }
    }));
    let ended = tokio::join!(replied.limit(64), timed_out.limit(64), dropped.limit(64));
    assert_eq!(ended.0.into_iter().flatten().count() as u64, EACH);
    let now = client.snapshot();
    assert_eq!((now.pending, now.queued, now.lost), (0, 0, 0));
    let last: Value = client.call("echo", [1]).await.unwrap();
    assert_eq!(last, json!([1]));
}

#[tokio::test]
async fn a_servers_error_is_the_callers() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let params = json!([-32601, "no such method", {"hint": 1}]);
    let error = client.call::<Value>("error", params).await.unwrap_err();
    let Error::Operation {
        error, attempts: 1, ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(error.kind(), RpcErrorKind::Server { code: -32601 });
    assert_eq!(
        (error.message(), error.data()),
        ("no such method", Some(&json!({"hint": 1})))
    );
}

#[tokio::test]
async fn more_than_may_wait_are_refused() {
    let peer = Peer::start().await;
    let client = peer
        .client()
        .max_in_flight(2)
        .max_waiting(1)
        .build()
        .unwrap();
    client.connect().await.unwrap();
    let calls = (0..5).map(|_| client.call::<Value>("after", [50]).into_future());
    let ended = join_all(calls).await;
    let full = |r: &&Result<Value, Error<_>>| {
        let refusal = r.as_ref().err().and_then(Error::refusal);
        matches!(refusal, Some(Refusal::BulkheadFull { .. }))
    };
    assert_eq!(ended.iter().filter(full).count(), 2);
    assert_eq!(ended.iter().filter(|r| r.is_ok()).count(), 3);
}

#[tokio::test]
async fn notifications_reach_every_reader_and_say_what_was_missed() {
    let peer = Peer::start().await;
    let client = peer.client().notification_buffer(64).build().unwrap();
    let (mut fast, mut slow) = (client.notifications(), client.notifications());
    let reader = tokio::spawn(async move {
        let mut got = 0;
        while let Some(next) = fast.next().await {
            got += next.map_or_else(|lag| lag.missed(), |_| 1);
            if got == 1000 {
                return;
            }
        }
    });
    client.call::<Value>("tell", [1000]).await.unwrap();
    reader.await.unwrap();
    assert_eq!(slow.recv().await.unwrap().unwrap_err().missed(), 1000 - 64);
    let next = slow.recv().await.unwrap().unwrap();
    assert_eq!((&*next.method, &next.params), ("tick", &json!([936])));
    assert_eq!(client.snapshot().notifications, 1000);
    client.close().await;
    assert_eq!(slow.count().await, 63);
    assert!(client.notifications().recv().await.is_none());
}

#[tokio::test]
async fn a_notification_of_ours_is_sent_and_answered_by_nobody() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    client
        .notify("effect_without_reply", json!({}))
        .await
        .unwrap();
    until("it has arrived", async || peer.effects() == 1).await;
    assert_eq!(client.snapshot().pending, 0);
}

#[tokio::test]
async fn closing_ends_calls_and_the_owner_within_its_bound() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let call = tokio::spawn(client.call::<Value>("never", ()).into_future());
    until("it is sent", async || peer.seen.messages.load(SeqCst) == 1).await;
    let closed = client.close().await;
    assert_eq!((closed.graceful, closed.failed), (true, 1));
    let error = call.await.unwrap().unwrap_err();
    let error = error.last().unwrap();
    assert_eq!(
        (error.kind(), error.was_sent()),
        (RpcErrorKind::Closed, true)
    );
    let after = client.call::<Value>("echo", ()).await.unwrap_err();
    assert_eq!(after.last().unwrap().kind(), RpcErrorKind::Closed);
    assert!(client.connect().await.is_err());
    let now = client.snapshot();
    assert_eq!((now.state, now.pending), (LinkState::Closed, 0));
    assert!(client.close().await.graceful);
}

#[tokio::test]
async fn two_that_close_at_once_both_see_the_good_bye() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let other = client.clone();
    let call = tokio::spawn(client.call::<Value>("never", ()).into_future());
    until("it is sent", async || peer.seen.messages.load(SeqCst) == 1).await;
    let (one, two) = tokio::join!(client.close(), other.close());
    assert!(one.graceful && two.graceful);
    assert_eq!(one.failed + two.failed, 1);
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn the_last_handle_takes_the_owner_along() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let other = client.clone();
    client.call::<Value>("echo", ()).await.unwrap();
    drop(client);
    other.call::<Value>("echo", ()).await.unwrap();
    drop(other);
    let seen = &peer.seen;
    until("it said good-bye", async || seen.closed.load(SeqCst) == 1).await;
    let alive = tokio::runtime::Handle::current().metrics();
    // The peer's two tasks: the listener and, until it has noticed, the connection.
    until("the owner has ended", async || alive.num_alive_tasks() <= 2).await;
}

#[test]
fn without_a_runtime_nothing_panics() {
    let client = mainstay::websocket::Client::builder("ws://127.0.0.1:1/")
        .build()
        .unwrap();
    let refused = futures_util::future::FutureExt::now_or_never(
        client.call::<Value>("echo", ()).into_future(),
    );
    let refused = refused.unwrap().unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::NoRuntime));
    assert!(client.connect().now_or_never().unwrap().is_err());
    assert!(client.close().now_or_never().is_some());
    drop(client);
}

#[test]
fn it_outlives_the_runtime_that_it_was_in() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (server, first, second) = (runtime(), runtime(), runtime());
    let peer = server.block_on(Peer::start());
    let client = peer.client().build().unwrap();
    first.block_on(async { client.call::<Value>("echo", ()).await.unwrap() });
    let under_way = second.spawn(client.call::<Value>("never", ()).into_future());
    let begun = Instant::now();
    while client.snapshot().pending == 0 || client.snapshot().queued > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    drop(first);
    let error = second.block_on(under_way).unwrap().unwrap_err();
    assert_eq!(error.last().unwrap().kind(), RpcErrorKind::Lost);
    second.block_on(async { client.call::<Value>("echo", ()).await.unwrap() });
    drop(second);
    assert_eq!(
        (client.snapshot().pending, client.snapshot().state),
        (0, LinkState::Idle)
    );
    drop(client);
}

/// Whoever waits for a connection sees to it that someone makes it.
#[test]
fn a_wait_for_the_connection_outlives_the_runtime_that_makes_it() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (server, first, second) = (runtime(), runtime(), runtime());
    let arrivals = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrivals);
    let (url, _server) = server.block_on(raw(move |socket| {
        let is_first = count.fetch_add(1, SeqCst) == 0;
        async move {
            if is_first {
                std::future::pending::<()>().await;
            }
            let _link = tokio_tungstenite::accept_async(socket).await.unwrap();
            std::future::pending::<()>().await;
        }
    }));
    let client = quick(&url).build().unwrap();
    let other = client.clone();
    first.spawn(async move { other.connect().await });
    let begun = Instant::now();
    while arrivals.load(SeqCst) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    let waits = client.clone();
    let waits = second.spawn(async move { waits.connect().await });
    std::thread::sleep(50 * MILLI);
    drop(first);
    second.block_on(waits).unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_calls_end_and_takes_no_more() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let call = tokio::spawn(client.call::<Value>("after", [50]).into_future());
    until("it is under way", async || client.snapshot().pending == 1).await;
    let shutdown = Shutdown::builder()
        .component("rpc", client.clone())
        .build()
        .unwrap();
    shutdown.request();
    let report = shutdown.run().await;
    assert!(call.await.unwrap().is_ok(), "{report:?}");
    let refused = client.call::<Value>("echo", ()).await.unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
    assert_eq!(client.snapshot().state, LinkState::Closed);
}

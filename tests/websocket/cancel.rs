//! Calls dropped at every point leave nothing.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::poll_fn;
use serde_json::{Value, json};

use crate::peer::{Peer, quick, until};

/// Polls it so many times, and drops it then.
async fn poll_times<F: Future>(future: F, times: u32) {
    let mut future = pin!(future);
    for _ in 0..times {
        let ended = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if ended {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_dropped_at_any_poll_leaves_no_entry() {
    let peer = Peer::start().await;
    let client = peer.client().max_in_flight(2).build().unwrap();
    for is_connected in [false, true] {
        if is_connected {
            client.connect().await.unwrap();
        }
        for polls in 0..12 {
            poll_times(client.call::<Value>("echo", [1]).into_future(), polls).await;
            poll_times(
                client.call::<Value>("echo", [1]).repeatable().into_future(),
                polls,
            )
            .await;
            poll_times(client.notify("echo", [1]).into_future(), polls).await;
            poll_times(client.connect(), polls).await;
            assert_eq!(
                (client.snapshot().pending, client.snapshot().queued),
                (0, 0)
            );
        }
    }
    // Every place in the bulkhead is free again.
    let both = tokio::join!(
        client.call::<Value>("hold", [2]).into_future(),
        client.call::<Value>("hold", [2]).into_future()
    );
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(client.snapshot().lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_aborted_at_random_times_leave_no_entry() {
    let peer = Peer::start().await;
    let client = peer
        .client()
        .max_in_flight(8)
        .max_waiting(1000)
        .build()
        .unwrap();
    let calls: Vec<_> = (0..1000_u64)
        .map(|n| tokio::spawn(client.call::<Value>("after", [n % 4]).into_future()))
        .collect();
    for (n, call) in calls.iter().enumerate() {
        if n % 3 == 0 {
            tokio::task::yield_now().await;
        }
        if n % 2 == 0 {
            call.abort();
        }
    }
    let mut replies = 0;
    for call in calls {
        replies += u32::from(call.await.is_ok_and(|reply| reply.is_ok()));
    }
    assert!(replies >= 500);
    let now = client.snapshot();
    assert_eq!((now.pending, now.queued, now.unknown), (0, 0, 0));
    client.call::<Value>("echo", ()).await.unwrap();
}

/// Dropped before it was sent, it has no effect.
#[tokio::test]
async fn what_was_dropped_in_the_queue_has_no_effect() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    for _ in 0..20 {
        let mut call = pin!(client.call::<Value>("effect", ()).into_future());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
    client.call::<Value>("effect", ()).await.unwrap();
    assert_eq!((peer.effects(), client.snapshot().pending), (1, 0));
}

#[tokio::test]
async fn a_close_that_is_dropped_closes_nevertheless() {
    let peer = Peer::start().await;
    for polls in 1..4 {
        let client = peer.client().build().unwrap();
        client.connect().await.unwrap();
        poll_times(client.close(), polls).await;
        assert!(client.call::<Value>("echo", ()).await.is_err());
        assert!(client.close().await.graceful);
    }
    let seen = &peer.seen.closed;
    until("each was told", async || {
        seen.load(std::sync::atomic::Ordering::SeqCst) == 3
    })
    .await;
}

#[tokio::test]
async fn dropped_readers_and_dropped_waits_for_a_notification_lose_nothing() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let mut reader = client.notifications();
    drop(client.notifications());
    for n in 0..20 {
        poll_times(reader.recv(), n % 3).await;
        client.call::<Value>("tell", [1]).await.unwrap();
        assert_eq!(reader.recv().await.unwrap().unwrap().params, json!([0]));
    }
}

/// A thousand time-outs without a server hold no request.
#[tokio::test]
async fn calls_that_time_out_while_there_is_no_connection_leave_nothing() {
    let client = quick("ws://127.0.0.1:1/")
        .max_in_flight(1000)
        .build()
        .unwrap();
    let big = "x".repeat(10_000);
    let calls = (0..1000).map(|_| {
        let call = client.call::<Value>("echo", [&big]);
        call.timeout(Duration::from_millis(20)).into_future()
    });
    let ended = futures_util::future::join_all(calls).await;
    assert!(ended.iter().all(Result::is_err));
    assert_eq!(
        (client.snapshot().pending, client.snapshot().queued),
        (0, 0)
    );
}

//! Calls that are dropped on their way.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use mainstay::session::{Command, SessionId, SessionProvider};

use crate::agentbay_peer::{Act, Peer, said, soon};

/// Polls a future so often and drops it; whether it was done before.
async fn polled<F: Future>(times: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A server that says what was asked of it, in several pieces.
async fn slow_echo() -> Peer {
    Peer::start(|asked| {
        let Act::Say(bytes) = said(asked.args()["command"].as_str().unwrap(), false) else {
            unreachable!()
        };
        // The reply's parts come one by one, so that a call can be dropped between them.
        Act::After(Duration::from_millis(1), Box::new(Act::Say(bytes)))
    })
    .await
}

/// Trap 21.
#[tokio::test]
async fn a_call_that_was_dropped_at_any_poll_leaves_no_reply_to_the_next() {
    let peer = slow_echo().await;
    let provider = peer.provider();
    let id = SessionId::new("s");
    for times in 0..12 {
        let dropped = Command::new("the wrong one");
        let _ = soon(polled(times, provider.run(&id, &dropped))).await;
        for n in 0..2 {
            let line = format!("{times} {n}");
            let result = soon(provider.run(&id, &Command::new(line.clone())))
                .await
                .unwrap();
            assert_eq!(result.stdout_text(), line);
        }
    }
}

/// Trap 21.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_are_dropped_at_any_time_leave_no_reply_to_others() {
    let peer = slow_echo().await;
    let provider = peer.provider();
    let tasks = (0..16_u64).map(|worker| {
        let provider = provider.clone();
        tokio::spawn(async move {
            let id = SessionId::new("s");
            for n in 0..40 {
                let line = format!("{worker} {n}");
                let command = Command::new(line.clone());
                let call = provider.run(&id, &command);
                let limit = Duration::from_micros(worker * 150 + n * 40);
                if let Ok(result) = tokio::time::timeout(limit, call).await {
                    assert_eq!(result.unwrap().stdout_text(), line);
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        soon(task).await.unwrap();
    }
    let result = soon(provider.run(&SessionId::new("s"), &"last".into()))
        .await
        .unwrap();
    assert_eq!(result.stdout_text(), "last");
}

/// Trap 21.
#[tokio::test]
async fn a_reply_of_which_a_half_was_read_is_not_read_on() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n{\"Success\":true,".to_vec();
    let peer = Peer::start(
        move |asked| match asked.args()["command"].as_str().unwrap() {
            "half" => Act::Drip(half.clone(), b" ".to_vec(), Duration::from_millis(5)),
            line => said(line, false),
        },
    )
    .await;
    let provider = peer
        .builder()
        .request_limit(Duration::from_millis(1500))
        .build()
        .unwrap();
    let id = SessionId::new("s");
    for _ in 0..2 {
        assert!(soon(provider.run(&id, &"half".into())).await.is_err());
        let result = soon(provider.run(&id, &"whole".into())).await.unwrap();
        assert_eq!(result.stdout_text(), "whole");
    }
}

#[tokio::test]
async fn a_deletion_that_is_dropped_stops_asking() {
    let peer = Peer::start(|asked| match asked.action().as_str() {
        "GetSessionDetail" => crate::agentbay_peer::good(serde_json::json!({"Status": "DELETING"})),
        _ => crate::agentbay_peer::good(serde_json::json!(null)),
    })
    .await;
    let provider = peer.provider();
    let id = SessionId::new("s");
    let limit = Duration::from_millis(600);
    assert!(
        tokio::time::timeout(limit, provider.delete(&id))
            .await
            .is_err()
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked = peer.asked().len();
    assert!(asked > 2);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(peer.asked().len(), asked);
}

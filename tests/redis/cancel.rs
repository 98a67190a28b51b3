//! A command that is dropped never lets the next caller read its reply.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay::redis::{Connections, RedisClient};

use crate::redis_server::{Faults, Proxy, RedisServer};
use crate::{client, line};

const WAYS: [Connections; 3] = [
    Connections::Multiplexed(1),
    Connections::Multiplexed(3),
    Connections::Pooled(3),
];

fn connected(url: &str, connections: Connections) -> RedisClient {
    let builder = RedisClient::builder(url).connections(connections);
    builder.limits(Duration::from_secs(20)).build().unwrap()
}

async fn echo(client: &RedisClient, text: &str) -> String {
    let command = ::redis::cmd("ECHO").arg(text).take();
    client.command(command).fetch().await.unwrap()
}

/// Polls so often, as the future wants to be polled, and drops it after a pause, in which what
/// it has begun goes on. Whether it ended.
async fn polled<F: Future>(future: F, times: usize, pause: Duration) -> bool {
    let mut future = pin!(future);
    let mut left = times;
    let has_ended = std::future::poll_fn(|cx: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(cx).map(|_| true)
    });
    let has_ended = has_ended.await;
    tokio::time::sleep(pause).await;
    has_ended
}

/// Trap 21: before it was sent, while the server has it, and after.
#[tokio::test]
async fn dropped_at_every_poll_a_command_leaves_no_reply_to_the_next() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    proxy.set(Faults {
        delay: Duration::from_millis(4),
        ..Faults::default()
    });
    for connections in WAYS {
        for is_warm in [false, true] {
            for pause in [0, 2, 6] {
                let pause = Duration::from_millis(pause);
                dropped_at_every_poll(&proxy.url(), connections, is_warm, pause).await;
            }
        }
    }
}

async fn dropped_at_every_poll(
    url: &str,
    connections: Connections,
    is_warm: bool,
    pause: Duration,
) {
    for times in 0..100 {
        let client = connected(url, connections);
        if is_warm {
            echo(&client, "warm").await;
        }
        let mine = ::redis::cmd("ECHO").arg("mine").take();
        let has_ended = polled(client.command(mine).fetch::<String>(), times, pause).await;
        for next in 0..3 {
            let next = format!("next {next}");
            assert_eq!(echo(&client, &next).await, next, "{connections:?} {times}");
        }
        if has_ended {
            assert!(times > 1, "it was never in the middle");
            return;
        }
    }
    panic!("it never ends");
}

/// Trap 21, under load: every reply is its caller's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_at_random_times_under_load_every_reply_is_its_callers() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    proxy.set(Faults {
        delay: Duration::from_millis(1),
        ..Faults::default()
    });
    for connections in WAYS {
        let client = connected(&proxy.url(), connections);
        let (answered, dropped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let callers = (0..32).map(|caller| {
            let (client, answered, dropped) =
                (client.clone(), Arc::clone(&answered), Arc::clone(&dropped));
            tokio::spawn(async move {
                for call in 0..40 {
                    let text = format!("{caller}-{call}");
                    let patience = Duration::from_micros(fastrand::u64(0..30_000));
                    match tokio::time::timeout(patience, echo(&client, &text)).await {
                        Ok(reply) => {
                            assert_eq!(reply, text);
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {
                            dropped.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        let (answered, dropped) = (
            answered.load(Ordering::Relaxed),
            dropped.load(Ordering::Relaxed),
        );
        assert!(
            answered > 10 && dropped > 10,
            "{connections:?}: {answered} {dropped}"
        );
        assert_eq!(echo(&client, "after all").await, "after all");
        let stats = client.stats();
        assert_eq!(stats.cancelled, dropped);
        assert_eq!(stats.succeeded, answered + 1);
    }
}

/// Trap 21, on a connection of its own: one in the middle of a reply is closed.
#[tokio::test]
async fn a_blocking_command_that_is_dropped_ends_its_connection_and_no_other() {
    let server = RedisServer::start();
    let builder = RedisClient::builder(server.url()).exclusive_connections(1);
    let client = builder.build().unwrap();
    for _ in 0..3 {
        let wait = client
            .command(line("BLPOP list 10"))
            .fetch::<Option<(String, String)>>();
        let cut = tokio::time::timeout(Duration::from_millis(100), wait).await;
        assert!(cut.is_err());
        // The only connection of its own is there again, and quiet.
        let echo = client
            .exclusive()
            .await
            .unwrap()
            .command::<String>(line("ECHO mine"))
            .await;
        assert_eq!(echo.unwrap(), "mine".to_owned());
    }
    // Nobody waits at the server any more: what is pushed now is for nobody who has gone.
    crate::until("the server knows that they are gone", || {
        !server.ask("INFO clients").contains("blocked_clients:1")
    })
    .await;
    server.ask("RPUSH list kept");
    assert_eq!(server.ask("LLEN list"), ":1");
    let popped: (String, String) = client.command(line("BLPOP list 1")).fetch().await.unwrap();
    assert_eq!(popped.1, "kept");
}

#[tokio::test]
async fn a_command_that_is_dropped_early_costs_no_connection_to_those_that_share_it() {
    let server = RedisServer::start();
    let client = client(&server.url());
    echo(&client, "warm").await;
    for times in 0..50 {
        let mine = client.command(line("ECHO mine"));
        polled(mine.fetch::<String>(), 1 + times % 2, Duration::ZERO).await;
        echo(&client, "next").await;
    }
    assert_eq!(client.stats().connected, 1);
}

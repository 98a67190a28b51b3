//! The probe in the background.

use std::time::Duration;

use mainstay::redis::{Connections, RedisClient};

use crate::redis_server::{Faults, Proxy, RedisServer};
use crate::until;

fn probing(server: &RedisServer) -> RedisClient {
    let builder = RedisClient::builder(server.url()).probe_every(Duration::from_millis(20));
    builder.build().unwrap()
}

fn clients(server: &RedisServer) -> usize {
    // One of them is the one who asks.
    let list = server.ask("CLIENT LIST");
    list.lines().filter(|line| line.contains("addr=")).count() - 1
}

#[tokio::test]
async fn the_probe_ends_with_the_last_handle_and_so_do_the_connections() {
    let server = RedisServer::start();
    let client = probing(&server);
    client.set("k", "v").await.unwrap();
    drop(client.exclusive().await.unwrap());
    let other = client.clone();
    until("it probes", || other.stats().probes_answered > 2).await;
    assert_eq!(clients(&server), 2);
    drop(client);
    let before = other.stats().probes_answered;
    until("it probes on", || other.stats().probes_answered > before).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    drop(other);
    until("the connections are closed", || clients(&server) == 0).await;
    until("the tasks have ended", || metrics.num_alive_tasks() == 0).await;
}

#[tokio::test]
async fn the_probe_can_be_stopped() {
    let server = RedisServer::start();
    let client = probing(&server);
    client.set("k", "v").await.unwrap();
    until("it probes", || client.stats().probes_answered > 0).await;
    client.stop_probe();
    // One that was under way is let go at its next await.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = client.stats();
    client.set("k", "v").await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(client.stats().probes_answered, before.probes_answered);
}

#[tokio::test]
async fn the_probe_leaves_a_breaker_alone_that_is_held_open() {
    let server = RedisServer::start();
    let client = probing(&server);
    client.set("k", "v").await.unwrap();
    client.breaker().force_open();
    let before = client.stats().probes_failed;
    until("it has looked", || {
        client.stats().probes_failed > before + 2
    })
    .await;
    assert!(client.is_away());
    client.breaker().reset();
    client.set("k", "v").await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_is_noticed_without_any_call() {
    let mut server = RedisServer::start();
    let client = probing(&server);
    client.set("k", "v").await.unwrap();
    server.kill();
    until("the probe opens it", || client.is_away()).await;
    server.restart();
    until("the probe closes it", || !client.is_away()).await;
    assert!(client.stats().probes_failed >= 5);
}

#[test]
fn a_probe_whose_runtime_has_ended_begins_again_in_the_next() {
    let server = RedisServer::start();
    let client = probing(&server);
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let before = client.stats().probes_answered;
            client.set("k", "v").await.unwrap();
            until("it probes", || client.stats().probes_answered > before).await;
        });
    }
}

/// It waits behind the reply on a shared connection, and for a connection where each is for one.
#[tokio::test]
async fn a_reply_that_takes_long_to_come_is_no_failed_probe() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    for connections in [Connections::Multiplexed(1), Connections::Pooled(1)] {
        proxy.set(Faults::default());
        let client = RedisClient::builder(proxy.url())
            .connections(connections)
            .connect_limit(Duration::from_millis(250))
            .probe_every(Duration::from_millis(20))
            .limits(crate::BOUND)
            .build()
            .unwrap();
        let large = vec![b'x'; 2 << 20];
        client.set("large", &large).await.unwrap();
        let before = client.stats().probes_failed;
        proxy.set(Faults {
            delay: Duration::from_millis(10),
            ..Faults::default()
        });
        // 16 KiB at a time: more than a second.
        let value: Option<Vec<u8>> = client.get("large").await.unwrap();
        assert_eq!(value.map(|value| value.len()), Some(large.len()));
        let stats = client.stats();
        assert_eq!(stats.probes_failed, before, "{connections:?}");
        assert_eq!(client.breaker().snapshot().failures, 0, "{connections:?}");
    }
}

/// Every limit may be as long as can be said.
#[tokio::test]
async fn the_longest_limits_there_are_work() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .limits(Duration::MAX)
        .connect_limit(Duration::MAX)
        .patience(Duration::MAX)
        .probe_every(Duration::MAX)
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    drop(client.exclusive().await.unwrap());
    client.ping().await.unwrap();
    let popped: Option<(String, String)> = client
        .command(crate::line("BLPOP l 0.05"))
        .fetch()
        .await
        .unwrap();
    assert_eq!(popped, None);
}

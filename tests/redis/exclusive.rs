//! Transactions on a connection of the caller's own.

use std::time::Duration;

use mainstay::redis::{RedisClient, RedisErrorKind, may_have_acted};

use crate::redis_server::RedisServer;
use crate::{client, line};

#[tokio::test]
async fn a_watched_key_that_changed_makes_the_transaction_do_nothing() {
    let server = RedisServer::start();
    let client = client(&server.url());
    client.set("k", 1).await.unwrap();
    for is_changed in [false, true] {
        let mut own = client.exclusive().await.unwrap();
        own.command::<()>(line("WATCH k")).await.unwrap();
        if is_changed {
            client.set("k", 5).await.unwrap();
        }
        let mut change = ::redis::pipe();
        change.atomic().incr("k", 1);
        let done: Option<(i64,)> = own.batch(change).await.unwrap();
        assert_eq!(done.is_none(), is_changed);
    }
    assert_eq!(client.get("k").await.unwrap(), Some(5));
}

#[tokio::test]
async fn what_is_watched_or_begun_does_not_go_on_to_the_next_user() {
    let server = RedisServer::start();
    let builder = RedisClient::builder(server.url()).exclusive_connections(1);
    let client = builder.build().unwrap();
    // What is queued inside of a transaction has not been done yet.
    for begun in ["MULTI", "WATCH k", "MULTI,UNWATCH"] {
        let mut own = client.exclusive().await.unwrap();
        for words in begun.split(',') {
            own.command::<()>(line(words)).await.unwrap();
        }
        drop(own);
        let mut next = client.exclusive().await.unwrap();
        let value: i64 = next.command(line("INCR n")).await.unwrap();
        assert!(value > 0, "it was not queued");
    }
    let connected = client.stats().connected;
    let mut own = client.exclusive().await.unwrap();
    own.command::<()>(line("MULTI")).await.unwrap();
    own.command::<()>(line("DISCARD")).await.unwrap();
    drop(own);
    drop(client.exclusive().await.unwrap());
    assert_eq!(
        client.stats().connected,
        connected,
        "it goes back when nothing is open"
    );
}

#[tokio::test]
async fn an_empty_transaction_sends_nothing_and_so_ends_no_watch() {
    let server = RedisServer::start();
    let builder = RedisClient::builder(server.url()).exclusive_connections(1);
    let client = builder.build().unwrap();
    let mut own = client.exclusive().await.unwrap();
    own.command::<()>(line("WATCH k")).await.unwrap();
    let mut nothing = ::redis::pipe();
    nothing.atomic();
    own.batch::<Vec<()>>(nothing).await.unwrap();
    drop(own);
    client.set("k", "changed").await.unwrap();
    let mut next = client.exclusive().await.unwrap();
    let mut change = ::redis::pipe();
    change.atomic().incr("n", 1);
    let done: Option<(i64,)> = next.batch(change).await.unwrap();
    assert_eq!(done, Some((1,)), "the next one has watched nothing");
}

/// It waits for the writes of its own connection: on any other it would say yes at once.
#[tokio::test]
async fn a_wait_for_replicas_is_sent_where_the_write_was_sent() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let wait = client.command(line("WAIT 0 10")).fetch::<i64>().await;
    let error = wait.unwrap_err().into_last().unwrap();
    assert_eq!(error.kind(), RedisErrorKind::Usage);
    assert!(error.message().contains("batch"), "{error}");
    let mut both = ::redis::pipe();
    both.cmd("SET").arg("k").arg("v").ignore();
    both.cmd("WAIT").arg(0).arg(10);
    let (replicas,): (i64,) = client.batch(both).fetch().await.unwrap();
    assert_eq!(replicas, 0);
    let mut own = client.exclusive().await.unwrap();
    own.command::<()>(line("SET k v")).await.unwrap();
    assert_eq!(own.command::<i64>(line("WAIT 0 10")).await.unwrap(), 0);
}

#[tokio::test]
async fn a_command_that_is_cut_off_ends_the_connection_for_those_after_it() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let mut own = client.exclusive().await.unwrap();
    own.command::<()>(line("SET k v")).await.unwrap();
    let wait = own.command::<Option<(String, String)>>(line("BLPOP list 10"));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), wait)
            .await
            .is_err()
    );
    let error = own.command::<String>(line("ECHO next")).await.unwrap_err();
    assert!(!may_have_acted(&error));
    assert_eq!(error.last().unwrap().kind(), RedisErrorKind::Connection);
}

#[tokio::test]
async fn what_makes_replies_uncountable_is_refused_here_too() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let mut own = client.exclusive().await.unwrap();
    for words in [
        "SUBSCRIBE c",
        "MONITOR",
        "CLIENT REPLY OFF",
        "SELECT 1",
        "RESET",
        "HELLO 3",
    ] {
        let error = own.command::<()>(line(words)).await.unwrap_err();
        assert_eq!(
            error.last().unwrap().kind(),
            RedisErrorKind::Usage,
            "{words}"
        );
    }
    let echo: String = own.command(line("ECHO still-here")).await.unwrap();
    assert_eq!(echo, "still-here");
}

#[tokio::test]
async fn a_blocking_command_has_the_time_it_asks_for_and_is_not_slow() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .no_probe()
        .limits(Duration::from_millis(600))
        .patience(Duration::from_millis(100))
        .build()
        .unwrap();
    let nothing: Option<(String, String)> = client
        .command(line("BLPOP list 0.8"))
        .fetch()
        .await
        .unwrap();
    assert_eq!(nothing, None);
    assert_eq!(client.breaker().snapshot().slow, 0);
    let error = client
        .command(line("BLPOP list 0"))
        .fetch::<()>()
        .await
        .unwrap_err();
    assert!(error.is_timed_out() && may_have_acted(&error), "{error}");
}

#[tokio::test]
async fn one_who_waits_for_a_connection_of_his_own_has_a_time_limit() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .exclusive_connections(1)
        .limits(Duration::from_millis(300))
        .build()
        .unwrap();
    let held = client.exclusive().await.unwrap();
    let error = client.exclusive().await.unwrap_err();
    assert!(error.is_timed_out() && !may_have_acted(&error));
    let error = client
        .command(line("BLPOP list 0"))
        .fetch::<()>()
        .await
        .unwrap_err();
    assert!(error.is_timed_out() && !may_have_acted(&error), "{error}");
    assert_eq!(
        client.breaker().snapshot().failures,
        0,
        "it is not the server's fault"
    );
    drop(held);
    client.exclusive().await.unwrap();
}

#[tokio::test]
async fn a_command_that_the_server_refuses_does_not_cost_the_connection() {
    let server = RedisServer::start();
    let client = client(&server.url());
    for _ in 0..3 {
        let mut own = client.exclusive().await.unwrap();
        own.command::<()>(line("NOSUCHCOMMAND")).await.unwrap_err();
        assert_eq!(own.command::<i64>(line("DEL k")).await.unwrap(), 0);
    }
    assert_eq!(client.stats().connected, 1);
}

//! Commands, scripts and batches, and what the server says against them.

use std::time::Duration;

use mainstay::redis::{CommandKind, Effect, RedisClient, RedisErrorKind, Source, may_have_acted};

use crate::redis_server::RedisServer;
use crate::{client, line};

#[tokio::test]
async fn a_script_is_run_also_where_the_server_does_not_know_it_yet() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let script = ::redis::Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for n in 1..=3 {
        if n == 3 {
            server.ask("SCRIPT FLUSH");
        }
        let value = client.script(&script, &["n"], &[5]).await.unwrap();
        assert_eq!(value, ::redis::Value::Int(5 * n));
    }
    assert!(!client.is_away());
    assert_eq!(client.stats().succeeded, 3);
}

#[tokio::test]
async fn values_are_set_read_expired_and_deleted() {
    let server = RedisServer::start();
    let client = client(&server.url());
    assert_eq!(client.get::<String>("k").await.unwrap(), None);
    client.set("k", "v").await.unwrap();
    assert_eq!(client.get("k").await.unwrap(), Some("v".to_owned()));
    assert!(client.exists("k").await.unwrap());
    assert!(client.expire("k", Duration::from_secs(100)).await.unwrap());
    let left: i64 = client.command(line("TTL k")).fetch().await.unwrap();
    assert!((99..=100).contains(&left));
    assert!(client.delete("k").await.unwrap());
    assert!(!client.delete("k").await.unwrap());
    client
        .set_for("s", b"\xff\0", Duration::from_millis(20))
        .await
        .unwrap();
    assert_eq!(client.get("s").await.unwrap(), Some(b"\xff\0".to_vec()));
    tokio::time::sleep(Duration::from_millis(40)).await;
    let many = client.get_many::<String>(&["k", "s"]).await.unwrap();
    assert_eq!(many, [None, None]);
    assert_eq!(client.increment("n", -7).await.unwrap(), -7);
    client.ping().await.unwrap();
}

#[tokio::test]
async fn named_databases_are_apart_and_share_their_protections() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .database("sessions", 3)
        .database("cache", 4)
        .build()
        .unwrap();
    let sessions = client.database("sessions").unwrap();
    let cache = sessions.database("cache").unwrap();
    assert_eq!(
        (client.database_name(), cache.database_name()),
        ("", "cache")
    );
    sessions.set("k", 3).await.unwrap();
    cache.set("k", 4).await.unwrap();
    assert_eq!(client.get::<i64>("k").await.unwrap(), None);
    assert_eq!(sessions.get("k").await.unwrap(), Some(3));
    assert_eq!(cache.get("k").await.unwrap(), Some(4));
    assert_eq!(client.stats().calls, 5);
    cache.breaker().force_open();
    assert!(client.is_away() && sessions.get::<i64>("k").await.is_err());
    assert_eq!(client.database("none").unwrap_err().field(), "database");
}

#[tokio::test]
async fn a_fallback_says_that_it_is_one() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let missing = client.get_or("k", 7).await;
    assert_eq!((missing.value, &missing.source), (7, &Source::Missing));
    client.set("k", 8).await.unwrap();
    let real = client.get_or("k", 7).await;
    assert_eq!((real.value, &real.source), (8, &Source::Real));
    assert!(real.is_known());
    client.breaker().force_open();
    let fallback = client.get_or("k", 7).await;
    assert_eq!(fallback.value, 7);
    assert!(matches!(&fallback.source, Source::Fallback(error) if error.refusal().is_some()));
    assert!(!fallback.is_known());
}

#[tokio::test]
async fn a_batch_is_one_call_and_an_atomic_one_a_transaction() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let mut batch = ::redis::pipe();
    batch.set("a", 1).ignore().incr("a", 4).get("a").get("none");
    let reply: (i64, String, Option<String>) = client.batch(batch).fetch().await.unwrap();
    assert_eq!(reply, (5, "5".to_owned(), None));
    let mut atomic = ::redis::pipe();
    atomic.atomic().incr("a", 1).incr("a", 1);
    let reply: (i64, i64) = client.batch(atomic).fetch().await.unwrap();
    assert_eq!(reply, (6, 7));
    let empty: Vec<i64> = client.batch(::redis::pipe()).fetch().await.unwrap();
    assert!(empty.is_empty());
    assert_eq!(client.stats().calls, 3);
}

#[tokio::test]
async fn an_error_in_a_batch_is_honest_about_the_rest_of_it() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let mut batch = ::redis::pipe();
    batch
        .set("a", "text")
        .ignore()
        .incr("a", 1)
        .set("b", 2)
        .ignore();
    let error = client.batch(batch).fetch::<()>().await.unwrap_err();
    assert!(may_have_acted(&error), "{error}");
    assert_eq!(client.get("b").await.unwrap(), Some(2));
}

#[tokio::test]
async fn what_the_server_says_against_a_command_has_its_kind() {
    let server = RedisServer::start();
    let client = client(&server.url());
    client
        .command(line("LPUSH l x"))
        .fetch::<i64>()
        .await
        .unwrap();
    let kind = async |command: &str| {
        let error = client
            .command(line(command))
            .fetch::<::redis::Value>()
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.attempts(), 1, "{error}");
        let error = error.into_last().unwrap();
        assert!(!error.advice().is_empty() && error.took() > Duration::ZERO);
        (
            error.kind(),
            error.effect(),
            error.code().map(str::to_owned),
        )
    };
    let wrong = kind("GET l").await;
    let code = Some("WRONGTYPE".to_owned());
    assert_eq!(wrong, (RedisErrorKind::WrongType, Effect::Refused, code));
    let unknown = kind("NOSUCHCOMMAND x").await;
    let code = Some("ERR".to_owned());
    assert_eq!(unknown, (RedisErrorKind::Server, Effect::Refused, code));
    // A script that fails has perhaps done something first.
    let script = "return(redis.call('INCR',KEYS[1])+nil)";
    let failed = kind(&format!("EVAL {script} 1 n")).await;
    assert_eq!(
        (failed.0, failed.1),
        (RedisErrorKind::Script, Effect::Unknown)
    );
    assert_eq!(client.get("n").await.unwrap(), Some(1));
    let unknown = kind("EVALSHA 0000000000000000000000000000000000000000 0").await;
    assert_eq!(
        (unknown.0, unknown.1),
        (RedisErrorKind::Script, Effect::Refused)
    );
    // The server has answered each time: it is well.
    assert_eq!(client.breaker().snapshot().failures, 0);
}

#[tokio::test]
async fn a_reply_of_another_type_is_a_conversion_error_and_was_done() {
    let server = RedisServer::start();
    let client = client(&server.url());
    client.set("k", "text").await.unwrap();
    let error = client
        .get::<i64>("k")
        .await
        .unwrap_err()
        .into_last()
        .unwrap();
    assert_eq!(error.kind(), RedisErrorKind::Conversion);
    assert_eq!(error.effect(), Effect::Done);
    let mut own = client.exclusive().await.unwrap();
    own.command::<i64>(line("GET k")).await.unwrap_err();
    let stats = client.stats();
    assert_eq!((stats.calls, stats.succeeded, stats.failed), (3, 1, 2));
    assert_eq!(stats.errors(RedisErrorKind::Conversion), 2);
}

#[tokio::test]
async fn a_replica_takes_no_writes_and_is_well() {
    let server = RedisServer::start();
    server.ask("REPLICAOF 127.0.0.1 1");
    let client = client(&server.url());
    let error = client.set("k", "v").await.unwrap_err().into_last().unwrap();
    assert_eq!(error.kind(), RedisErrorKind::ReadOnly);
    assert_eq!(client.get::<String>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_wrong_password_is_an_auth_error_that_does_not_tell_it() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let port = server.port();
    for url in [
        format!("redis://127.0.0.1:{port}"),
        format!("redis://:hunter2@127.0.0.1:{port}"),
        format!("redis://somebody:hunter2@127.0.0.1:{port}"),
    ] {
        let client = client(&url);
        let error = client.get::<String>("k").await.unwrap_err();
        let text = format!(
            "{error} {error:?} {client:?} {:?}",
            RedisClient::builder(&url)
        );
        assert!(!text.contains("hunter2"), "{text}");
        let error = error.into_last().unwrap();
        assert_eq!(error.kind(), RedisErrorKind::Auth, "{error}");
        assert_eq!(
            error.effect(),
            if url.contains('@') {
                Effect::NotSent
            } else {
                Effect::Refused
            }
        );
    }
    let right = client(&format!("redis://:s3cret@127.0.0.1:{port}"));
    right.set("k", "v").await.unwrap();
}

#[tokio::test]
async fn a_database_that_the_server_does_not_have_is_its_own_fault_only() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .database("far", 9999)
        .build()
        .unwrap();
    let far = client.database("far").unwrap();
    let error = far
        .get::<String>("k")
        .await
        .unwrap_err()
        .into_last()
        .unwrap();
    assert_eq!(error.effect(), Effect::NotSent, "{error:?}");
    assert_eq!(client.get::<String>("k").await.unwrap(), None);
}

#[tokio::test]
async fn what_would_change_a_shared_connection_is_refused() {
    let server = RedisServer::start();
    let client = client(&server.url());
    for words in [
        "SELECT 1",
        "MULTI",
        "watch k",
        "SUBSCRIBE c",
        "CLIENT REPLY OFF",
        "AUTH x",
    ] {
        let error = client
            .command(line(words))
            .fetch::<::redis::Value>()
            .await
            .unwrap_err();
        let error = error.into_last().unwrap();
        assert_eq!(error.kind(), RedisErrorKind::Usage, "{words}");
        assert_eq!(error.effect(), Effect::NotSent);
    }
    let empty = client.command(::redis::Cmd::new()).fetch::<()>().await;
    assert_eq!(
        empty.unwrap_err().last().unwrap().kind(),
        RedisErrorKind::Usage
    );
}

#[tokio::test]
async fn each_kind_has_its_own_time_limit() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .limits(Duration::from_secs(20))
        .limit(CommandKind::Script, Duration::from_millis(300))
        .build()
        .unwrap();
    client.ping().await.unwrap();
    let script = ::redis::Script::new("while true do end");
    let error = client.script(&script, &["k"], &[0]).await.unwrap_err();
    assert!(error.is_timed_out() && may_have_acted(&error), "{error}");
    until_script_killed(&server).await;
    client.set("k", "v").await.unwrap();
}

async fn until_script_killed(server: &RedisServer) {
    // It must run for some seconds before it may be killed: that is a setting.
    crate::until("the script is killed", || {
        server.ask("SCRIPT KILL").starts_with("+OK")
    })
    .await;
}

#[test]
fn settings_out_of_range_are_refused_and_never_show_the_url() {
    let field = |builder: mainstay::redis::RedisClientBuilder| {
        let error = builder.build().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        error.field()
    };
    let builder = || RedisClient::builder("redis://:hunter2@localhost");
    let zero = Duration::ZERO;
    for url in [
        "",
        "http://localhost",
        "rediss://:hunter2@localhost",
        "redis://",
        "redis://:hunter2@h:x",
    ] {
        assert_eq!(field(RedisClient::builder(url)), "url", "{url}");
    }
    assert_eq!(field(builder().limits(zero)), "limit");
    assert_eq!(field(builder().limit(CommandKind::Scan, zero)), "limit");
    assert_eq!(field(builder().connect_limit(zero)), "connect_limit");
    assert_eq!(field(builder().patience(zero)), "patience");
    assert_eq!(field(builder().probe_every(zero)), "probe_every");
    assert_eq!(field(builder().max_reply(1023)), "max_reply");
    assert_eq!(field(builder().max_attempts(0)), "max_attempts");
    assert_eq!(field(builder().max_in_flight(0)), "max_concurrent");
    assert_eq!(
        field(builder().exclusive_connections(0)),
        "exclusive_connections"
    );
    let none = mainstay::redis::Connections::Pooled(0);
    assert_eq!(field(builder().connections(none)), "connections");
    assert_eq!(
        field(builder().database("a", 1).database("a", 2)),
        "database"
    );
    builder().build().unwrap();
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let path = path.to_str().unwrap();
    let server = RedisServer::start_with(&["--unixsocket", path]);
    let client = client(&format!("redis+unix://{path}"));
    client.set("k", 1).await.unwrap();
    assert_eq!(server.ask("GET k"), "$1\r\n1");
}

//! What is no Redis server, and replies that are too large.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use mainstay::redis::{Connections, Effect, RedisClient, RedisErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client;
use crate::redis_server::RedisServer;

/// Answers each connection with these bytes once it was asked, and then keeps it or closes it.
async fn stranger(greeting: usize, answer: &'static [u8], closes: bool) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                // The set-up of a connection is two commands.
                for _ in 0..greeting {
                    let _asked = stream.read(&mut asked).await?;
                    stream.write_all(b"+OK\r\n+OK\r\n").await?;
                }
                let _asked = stream.read(&mut asked).await?;
                stream.write_all(answer).await?;
                if !closes {
                    while stream.read(&mut asked).await? > 0 {}
                }
                Ok::<(), std::io::Error>(())
            });
        }
    });
    format!("redis://127.0.0.1:{port}")
}

const ANSWERS: [(&str, &[u8]); 14] = [
    (
        "html",
        b"HTTP/1.1 400 Bad Request\r\n\r\n<html><body>no</body></html>",
    ),
    ("zeroes", b"\0\0\0\0\0\0\0\0"),
    ("not utf-8", b"\xff\xfe\r\n"),
    ("a huge bulk", b"$9223372036854775807\r\nabc"),
    ("a large bulk", b"$600000000\r\nabc"),
    ("a huge array", b"*9223372036854775807\r\n:1\r\n"),
    ("a huge map", b"%9223372036854775807\r\n:1\r\n"),
    ("a huge attribute", b"|9223372036854775807\r\n:1\r\n"),
    ("no length", b"$abc\r\n"),
    ("a negative length", b"*-5\r\n"),
    ("an integer that is none", b":abc\r\n:abc\r\n"),
    ("text that is not utf-8", b"+\xff\xfe\r\n+\xff\r\n"),
    ("a double that is none", b",x\r\n,x\r\n"),
    (
        "a verbatim text without a format",
        b"=3\r\nabc\r\n=3\r\nabc\r\n",
    ),
];

#[tokio::test]
async fn whatever_answers_there_is_a_typed_error_in_time() {
    for (what, answer) in ANSWERS {
        for greeting in [0, 1] {
            for closes in [false, true] {
                let url = stranger(greeting, answer, closes).await;
                let builder = RedisClient::builder(&url).no_probe().max_attempts(1);
                let client = builder.limits(Duration::from_secs(5)).build().unwrap();
                let begun = Instant::now();
                let error = client.get::<String>("k").await.unwrap_err();
                assert!(begun.elapsed() < Duration::from_secs(4), "{what}: it hung");
                let error = error.into_last().unwrap();
                let is_large = what.contains("huge") || what.contains("large");
                let kind = if is_large {
                    RedisErrorKind::ReplyTooLarge
                } else {
                    RedisErrorKind::Protocol
                };
                assert_eq!(error.kind(), kind, "{what} {greeting} {closes}: {error:?}");
                let is_sent = greeting == 1;
                assert_eq!(
                    error.effect() != Effect::NotSent,
                    is_sent,
                    "{what}: {error:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_at_once_is_a_connection_error() {
    let url = stranger(0, b"", true).await;
    let client = client(&url);
    let error = client
        .get::<String>("k")
        .await
        .unwrap_err()
        .into_last()
        .unwrap();
    assert_eq!(
        (error.kind(), error.effect()),
        (RedisErrorKind::Connection, Effect::NotSent)
    );
}

#[tokio::test]
async fn one_who_takes_connections_and_says_nothing_is_a_connection_error_in_time() {
    let url = stranger(0, b"", false).await;
    let builder = RedisClient::builder(&url).connect_limit(Duration::from_millis(50));
    let client = builder.max_attempts(1).build().unwrap();
    let error = client
        .get::<String>("k")
        .await
        .unwrap_err()
        .into_last()
        .unwrap();
    assert_eq!(
        (error.kind(), error.effect()),
        (RedisErrorKind::Connection, Effect::NotSent)
    );
}

#[tokio::test]
async fn nobody_there_is_a_connection_error_that_was_not_sent() {
    let port = crate::redis_server::free_port();
    let client = client(&format!("redis://127.0.0.1:{port}"));
    let error = client.increment("n", 1).await.unwrap_err();
    assert!(
        error.attempts() > 1,
        "what was not sent is tried again: {error}"
    );
    let error = error.into_last().unwrap();
    assert_eq!(
        (error.kind(), error.effect()),
        (RedisErrorKind::Connection, Effect::NotSent)
    );
}

#[tokio::test]
async fn a_reply_above_the_limit_is_refused_and_the_client_goes_on() {
    let server = RedisServer::start();
    for connections in [Connections::Multiplexed(1), Connections::Pooled(2)] {
        let builder = RedisClient::builder(server.url()).max_reply(100_000);
        let client = builder.connections(connections).build().unwrap();
        client.set("small", vec![b'x'; 90_000]).await.unwrap();
        client.set("large", vec![b'x'; 100_001]).await.unwrap();
        for _ in 0..3 {
            let small: Option<Vec<u8>> = client.get("small").await.unwrap();
            assert_eq!(small.unwrap().len(), 90_000);
            let error = client.get::<Vec<u8>>("large").await.unwrap_err();
            let error = error.into_last().unwrap();
            assert_eq!(error.kind(), RedisErrorKind::ReplyTooLarge);
            assert_eq!(error.effect(), Effect::Done);
        }
        // The commands of a batch may have been done up to any of them.
        let mut batch = ::redis::pipe();
        batch.cmd("GET").arg("large").cmd("INCR").arg("n");
        let lost = client.batch(batch).fetch::<(Vec<u8>, i64)>().await;
        let error = lost.unwrap_err().into_last().unwrap();
        assert_eq!(error.kind(), RedisErrorKind::ReplyTooLarge);
        assert_eq!(error.effect(), Effect::Unknown);
        // A large value is no outage.
        assert_eq!(client.breaker().snapshot().failures, 0);
    }
}

#[tokio::test]
async fn those_who_share_the_connection_of_a_reply_above_the_limit_are_served_again() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .max_reply(100_000)
        .build()
        .unwrap();
    client.set("large", vec![b'x'; 200_000]).await.unwrap();
    client.set("k", 7).await.unwrap();
    let large = client.get::<Vec<u8>>("large");
    let before = client.get::<i64>("k");
    let after = client.get::<i64>("k");
    let (before, large, after) = tokio::join!(before, large, after);
    let kind = large.unwrap_err().into_last().unwrap().kind();
    assert_eq!(kind, RedisErrorKind::ReplyTooLarge);
    assert_eq!((before.unwrap(), after.unwrap()), (Some(7), Some(7)));
}

/// The parser calls itself for each level.
#[tokio::test]
async fn replies_within_replies_end_the_connection_and_not_the_stack() {
    for level in ["*1\r\n", "%1\r\n:1\r\n", "~1\r\n", ">1\r\n", "|1\r\n:1\r\n"] {
        for greeting in [0, 1] {
            let answer = level.repeat(200_000).into_bytes().leak();
            let url = stranger(greeting, answer, false).await;
            let builder = RedisClient::builder(&url).no_probe().max_attempts(1);
            let client = builder.limits(Duration::from_secs(5)).build().unwrap();
            let error = client.get::<String>("k").await.unwrap_err();
            let error = error.into_last().unwrap();
            assert_eq!(
                error.kind(),
                RedisErrorKind::Protocol,
                "{level:?}: {error:?}"
            );
        }
    }
}

/// Each is small; their places in memory are not.
#[tokio::test]
async fn a_crowd_of_small_values_is_a_reply_too_large() {
    let mut answer = b"*1000000\r\n".to_vec();
    answer.extend(b"_\r\n".repeat(1_000_000));
    let url = stranger(1, answer.leak(), false).await;
    let builder = RedisClient::builder(&url).no_probe().max_attempts(1);
    let client = builder.max_reply(8 << 20).build().unwrap();
    let error = client.get::<String>("k").await.unwrap_err();
    let error = error.into_last().unwrap();
    assert_eq!(error.kind(), RedisErrorKind::ReplyTooLarge, "{error:?}");
}

//! Whatever a peer sends: a typed error, and a rule.

use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use mainstay::Error;
use mainstay::websocket::{Client, RpcError, RpcErrorKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::accept_async;

use crate::peer::{Peer, head, quick, raw, until};

fn kind(error: &Error<RpcError>) -> RpcErrorKind {
    error.last().unwrap().kind()
}

#[tokio::test]
async fn what_is_no_message_is_counted_and_the_link_stays() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let bad = json!([
        "<html>502 Bad Gateway</html>",
        "{\"id\":",
        "",
        "null",
        "7",
        "[]",
        "{}",
        "{\"method\":7}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":5}",
        r#"{"jsonrpc":"2.0","id":$id,"result":"good"}"#
    ]);
    let reply: String = client.call("say", bad).await.unwrap();
    assert_eq!(reply, "good");
    client.call::<Value>("bytes", [1]).await.unwrap();
    let request = json!([
        r#"{"jsonrpc":"2.0","id":1,"method":"ask"}"#,
        r#"[{"jsonrpc":"2.0","id":$id,"result":1},{"method":"x"},3]"#
    ]);
    assert_eq!(client.call::<u8>("say", request).await.unwrap(), 1);
    let now = client.snapshot();
    assert_eq!((now.malformed, now.requests, now.notifications), (11, 1, 1));
    assert_eq!((now.lost, now.pending, now.unknown), (0, 0, 0));
}

#[tokio::test]
async fn a_reply_that_is_none_fails_its_own_call_only() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    for bad in [
        r#"{"id":$id}"#,
        r#"{"id":$id,"result":1,"error":{"code":1,"message":"m"}}"#,
        r#"{"id":$id,"error":"no"}"#,
        r#"{"id":$id,"error":{"code":"x","message":3}}"#,
    ] {
        let error = client.call::<Value>("say", [bad]).await.unwrap_err();
        assert_eq!(kind(&error), RpcErrorKind::BadReply, "{bad}");
    }
    let error = client.call::<u64>("echo", ["text"]).await.unwrap_err();
    assert_eq!(kind(&error), RpcErrorKind::BadReply);
    client.call::<Value>("echo", ["text"]).await.unwrap();
    assert_eq!((client.snapshot().lost, client.snapshot().pending), (0, 0));
}

/// What the server has said is no help if it is thrown away.
#[tokio::test]
async fn an_error_of_an_odd_shape_keeps_what_it_says() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    for odd in [
        json!("no"),
        json!({"code": "E7", "message": "no"}),
        json!(7),
    ] {
        let reply = format!(r#"{{"id":$id,"error":{odd}}}"#);
        let error = client.call::<Value>("say", [reply]).await.unwrap_err();
        let error = error.last().unwrap();
        assert_eq!(
            (error.kind(), error.data()),
            (RpcErrorKind::BadReply, Some(&odd))
        );
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_one_is_refused_here() {
    let peer = Peer::start().await;
    let client = peer.client().max_message_size(1 << 20).build().unwrap();
    let error = client.call::<Value>("echo", "text").await.unwrap_err();
    assert_eq!(kind(&error), RpcErrorKind::BadRequest);
    let error = client.notify("echo", 5).await.unwrap_err();
    assert_eq!(kind(&error), RpcErrorKind::BadRequest);
    let huge = "x".repeat(1 << 20);
    let error = client.call::<Value>("echo", [&huge]).await.unwrap_err();
    assert_eq!(kind(&error), RpcErrorKind::TooLarge);
    assert!(!error.last().unwrap().was_sent());
    let most = "x".repeat((1 << 20) - 90);
    client.call::<Value>("echo", [&most]).await.unwrap();
    assert_eq!(client.snapshot().lost, 0);
}

#[tokio::test]
async fn a_line_of_a_mebibyte_fits() {
    let peer = Peer::start().await;
    let client = peer.client().build().unwrap();
    let reply: String = client.call("big", [1 << 20]).await.unwrap();
    assert_eq!(reply.len(), 1 << 20);
}

#[tokio::test]
async fn a_message_too_large_ends_the_connection_and_not_the_client() {
    let peer = Peer::start().await;
    let client = peer.client().max_message_size(1 << 16).build().unwrap();
    let error = client.call::<Value>("big", [1 << 17]).await.unwrap_err();
    assert_eq!(kind(&error), RpcErrorKind::Lost);
    client.call::<Value>("big", [1 << 10]).await.unwrap();
    assert_eq!(client.snapshot().lost, 1);
}

/// Frames against the protocol, each on a connection of its own.
#[tokio::test]
async fn broken_frames_end_the_connection_by_a_typed_error() {
    let frames: [&'static [u8]; 7] = [
        &[0x81, 0x02, 0xff, 0xfe],       // text that is not UTF-8
        &[0x83, 0x00],                   // a reserved kind of frame
        &[0xf1, 0x00],                   // reserved bits
        &[0x81, 0x82, 1, 2, 3, 4, 5, 6], // masked, by a server
        &[0x80, 0x01, b'x'],             // goes on with nothing
        &[0x09, 0x00],                   // a ping in pieces
        &[0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // endless
    ];
    for frame in frames {
        let (url, _server) = raw(move |socket| async move {
            let mut link = accept_async(socket).await.unwrap();
            let _ = link.next().await;
            link.get_mut().write_all(frame).await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let client = quick(&url).build().unwrap();
        let ended = client
            .call::<Value>("echo", ())
            .timeout(Duration::from_secs(5))
            .await;
        let error = ended.unwrap_err();
        assert!(!matches!(error, Error::TimedOut { .. }), "{frame:?}");
        assert_eq!(kind(&error), RpcErrorKind::Lost, "{frame:?}");
        assert_eq!(client.snapshot().pending, 0);
    }
}

#[tokio::test]
async fn a_page_of_html_in_place_of_the_upgrade_is_named() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        "<html>no HTTP at all</html>\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "",
    ] {
        let (url, _server) = raw(move |mut socket| async move {
            let _ = socket.read(&mut [0; 4096]).await;
            socket.write_all(answer.as_bytes()).await.unwrap();
            let _ = socket.shutdown().await;
        })
        .await;
        let client = quick(&url).build().unwrap();
        let error = client.connect().await.unwrap_err();
        assert_eq!(kind(&error), RpcErrorKind::NotConnected, "{answer}");
        let message = error.last().unwrap().message().to_owned();
        let expected = match answer {
            a if a.contains("200 OK") => "HTTP 200 OK (text/html) in place of an upgrade",
            a if a.contains("503") => "HTTP 503 Service Unavailable in place of an upgrade",
            _ => "",
        };
        assert!(
            message.contains(expected) && !message.is_empty(),
            "{message}"
        );
        // It is not up, and calls say why.
        let call = client
            .call::<Value>("echo", ())
            .timeout(Duration::from_millis(20));
        assert_eq!(kind(&call.await.unwrap_err()), RpcErrorKind::NotConnected);
    }
}

#[tokio::test]
async fn an_endless_answer_to_the_upgrade_is_cut() {
    let (url, _server) = raw(|mut socket| async move {
        let line = format!("x-header: {}\r\n", "x".repeat(1000));
        let _ = socket
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\n")
            .await;
        while socket.write_all(line.as_bytes()).await.is_ok() {}
    })
    .await;
    let client = quick(&url).build().unwrap();
    let error = client.connect().await.unwrap_err();
    assert_eq!(kind(&error), RpcErrorKind::NotConnected);
}

#[tokio::test]
async fn a_flood_does_not_keep_calls_from_their_limits_or_their_sending() {
    // As much as the system keeps between the two is ahead of each reply: large messages, so
    // that it is not an hour's work.
    let text = "x".repeat(4 << 10);
    let tick = json!({"jsonrpc": "2.0", "method": "tick", "params": [text]}).to_string();
    let (url, _server) = raw(move |socket| {
        let tick = tick.clone();
        async move {
            let (mut sink, mut stream) = accept_async(socket).await.unwrap().split();
            loop {
                tokio::select! {
                    biased;
                    Some(Ok(frame)) = stream.next() => {
                        let request: Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
                        let reply = crate::peer::reply(&request["id"], &json!("got it"));
                        sink.feed(reply).await.unwrap();
                    }
                    fed = sink.feed((&*tick).into()) => if fed.is_err() { return },
                }
            }
        }
    })
    .await;
    let client = quick(&url).build().unwrap();
    for _ in 0..5 {
        let reply: String = client.call("echo", ()).await.unwrap();
        assert_eq!(reply, "got it");
    }
    assert!(client.snapshot().notifications > 100);
}

/// What the runtime itself would stop it at is thirty times as much.
#[test]
fn a_flood_leaves_its_neighbours_their_turns() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (url, _server) = server.block_on(raw(|socket| async {
        let mut link = accept_async(socket).await.unwrap();
        let tick = r#"{"jsonrpc":"2.0","method":"tick"}"#;
        while link.feed(tick.into()).await.is_ok() {}
    }));
    let one_thread = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = quick(&url).build().unwrap();
    let neighbour = async move {
        client.connect().await.unwrap();
        let (mut most, mut last) = (0, 0);
        while last < 20_000 {
            turn().await;
            let now = client.snapshot().notifications;
            most = most.max(now - last);
            last = now;
        }
        assert!(most <= 128, "{most} messages in one turn");
    };
    one_thread.block_on(async { tokio::spawn(neighbour).await.unwrap() });
}

/// Goes to the end of the runtime's queue, where `yield_now` waits for a pause in it.
async fn turn() {
    let mut is_over = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test]
async fn headers_go_out_and_stand_in_no_text() {
    let (url, mut server) = raw(|mut socket| async move {
        let mut head = vec![0; 4096];
        let read = socket.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
        let is_there = head.contains("authorization: bearer s3cret");
        let answer = if is_there {
            "HTTP/1.1 418 x\r\n\r\n"
        } else {
            "HTTP/1.1 401 x\r\n\r\n"
        };
        socket.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let builder = quick(&url).header("Authorization", "Bearer s3cret");
    assert!(!format!("{builder:?}").contains("s3cret"));
    let client = builder.build().unwrap();
    let error = client.connect().await.unwrap_err();
    assert!(error.last().unwrap().message().contains("418"), "{error}");
    let texts = format!("{client:?} {error:?} {error} {:?}", client.snapshot());
    assert!(!texts.contains("s3cret"));
    server.abort_all();
}

/// For a server of many names.
#[tokio::test]
async fn a_host_of_the_users_own_goes_out_in_place_of_the_address() {
    let (url, _server) = raw(|mut socket| async move {
        let head = head(&mut socket).await;
        let hosts = head.lines().filter(|line| line.starts_with("host:"));
        let is_own = hosts.eq(["host: inner.example"]);
        let status = if is_own { "418 x" } else { "400 x" };
        let answer = format!("HTTP/1.1 {status}\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let client = quick(&url).header("Host", "inner.example");
    let error = client.build().unwrap().connect().await.unwrap_err();
    assert!(error.last().unwrap().message().contains("418"), "{error}");
}

#[test]
fn settings_out_of_range_are_named() {
    let url = "ws://localhost/";
    let zero = Duration::ZERO;
    let wrong = [
        (Client::builder("http://localhost/"), "url"),
        (Client::builder("no address"), "url"),
        (Client::builder("ws://"), "url"),
        (Client::builder("ws://:80/"), "url"),
        (Client::builder("ws://user@:80/"), "url"),
        (Client::builder("ws://localhost:99999/"), "url"),
        (Client::builder("ws://localhost:http/"), "url"),
        (Client::builder(url).header("a b", "c"), "header"),
        (Client::builder(url).header("a", "c\n"), "header"),
        (Client::builder(url).header("Upgrade", "h2c"), "header"),
        (Client::builder(url).header("connection", "close"), "header"),
        (
            Client::builder(url).header("Sec-WebSocket-Key", "x"),
            "header",
        ),
        (
            Client::builder(url).header("Sec-WebSocket-Extensions", "permessage-deflate"),
            "header",
        ),
        (Client::builder(url).max_in_flight(0), "max_in_flight"),
        (Client::builder(url).max_attempts(0), "max_attempts"),
        (
            Client::builder(url).max_message_size(10),
            "max_message_size",
        ),
        (
            Client::builder(url).notification_buffer(0),
            "notification_buffer",
        ),
        (Client::builder(url).ping_interval(zero), "ping_interval"),
        (Client::builder(url).pong_timeout(zero), "pong_timeout"),
        (Client::builder(url).write_timeout(zero), "write_timeout"),
        (
            Client::builder(url).connect_timeout(zero),
            "connect_timeout",
        ),
    ];
    for (builder, field) in wrong {
        assert_eq!(builder.build().unwrap_err().field(), field);
    }
    for right in [
        "ws://h",
        "ws://h:",
        "ws://h:1?q",
        "ws://u:p@[::1]:65535/x:y@z",
    ] {
        assert!(Client::builder(right).build().is_ok(), "{right}");
    }
    let secret = Client::builder("s3cret").build().unwrap_err().to_string();
    assert_eq!(
        secret,
        "url is malformed, but must be a ws:// or wss:// URL with a host"
    );
}

#[tokio::test]
async fn without_a_tls_feature_wss_says_so() {
    let client = quick("wss://127.0.0.1:9/").build().unwrap();
    let error = client.connect().await.unwrap_err();
    assert_eq!(kind(&error), RpcErrorKind::NotConnected);
    until("it is down", async || client.snapshot().failed_connects > 0).await;
}

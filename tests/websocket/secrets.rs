//! What a URL and a header hold besides an address shows nowhere.

use std::error::Error as _;
use std::fmt::{Debug, Display};
use std::time::Duration;

use mainstay::Error;
use mainstay::websocket::RpcError;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::peer::{black_hole, head, quick, raw, until};

const SECRETS: [&str; 4] = ["hunter2", "t0ken", "Bearer", "aHVudGVyMg"];

fn shows_none(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{text}");
    }
}

fn all_of(error: &Error<RpcError>) {
    fn one(error: &(impl Debug + Display + ?Sized)) {
        shows_none(&format!("{error} {error:?} {error:#?}"));
    }
    one(error);
    let mut source = error.source();
    while let Some(error) = source {
        one(error);
        source = error.source();
    }
}

/// The address of a URL, with secrets around it.
fn with_secrets(url: &str) -> String {
    format!("{}?token=t0ken", url.replace("ws://", "ws://me:hunter2@"))
}

/// Servers that let nobody in, each with an answer of its own.
const ANSWERS: [&str; 5] = [
    "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 302 Found\r\nlocation: http://h/?token=t0ken\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    "no http at all\r\n\r\n",
    "",
];

#[tokio::test]
async fn neither_shows_in_any_error_or_debug_form() {
    for answer in ANSWERS {
        let (url, _server) = raw(move |mut socket| async move {
            let asked = head(&mut socket).await;
            // Else nothing would be proved.
            assert!(asked.contains("t0ken") && asked.contains("bearer hunter2"));
            let _ = socket.write_all(answer.as_bytes()).await;
        })
        .await;
        let builder = quick(&with_secrets(&url)).header("Authorization", "Bearer hunter2");
        shows_none(&format!("{builder:?} {builder:#?}"));
        let client = builder.build().unwrap();
        all_of(&client.connect().await.unwrap_err());
        let call = client.call::<Value>("echo", ["hunter2"]);
        shows_none(&format!("{call:?}"));
        all_of(&call.timeout(Duration::from_millis(20)).await.unwrap_err());
        until("it was refused", async || {
            client.snapshot().failed_connects > 0
        })
        .await;
        shows_none(&format!("{client:?} {:#?}", client.snapshot()));
    }
}

#[tokio::test]
async fn neither_shows_where_nobody_is_or_answers() {
    let (url, _server) = black_hole().await;
    for url in [&*url, "ws://127.0.0.1:9/", "wss://127.0.0.1:9/"] {
        let builder = quick(&with_secrets(url)).header("Authorization", "Bearer hunter2");
        let client = builder.build().unwrap();
        let call = client.call::<Value>("never", ["hunter2"]);
        all_of(&call.timeout(Duration::from_millis(50)).await.unwrap_err());
        shows_none(&format!("{client:?} {:#?}", client.snapshot()));
    }
}

#[test]
fn neither_shows_in_a_refused_setting() {
    for url in [
        "http://me:hunter2@h/",
        "ws://:hunter2@",
        "ws://h:hunter2/",
        "hunter2",
    ] {
        let error = quick(url).build().unwrap_err();
        shows_none(&format!("{error} {error:?}"));
    }
    for (name, value) in [
        ("a b", "hunter2"),
        ("a", "hunter2\r\nb: c"),
        ("a", "hunter2\u{7f}"),
    ] {
        let error = quick("ws://h/").header(name, value).build().unwrap_err();
        shows_none(&format!("{error} {error:?}"));
    }
}

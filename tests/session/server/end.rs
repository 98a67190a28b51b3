//! Callers who leave, what is counted, and the end.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Local, MS, common, post, query_of, raw, until};
use crate::agentbay_server::{Config, Kind, Rule};

/// Commands of one connection, without a wait in between. A client with a pool would open as
/// many connections as it likes.
fn sixteen_commands(id: &str) -> Vec<u8> {
    let fields = [
        ("Authorization", "Bearer akm-local"),
        ("SessionId", id),
        ("Name", "shell"),
        ("Args", r#"{"command":"true"}"#),
    ];
    let form = reqwest::Url::parse_with_params("http://local/", fields).unwrap();
    let last = post(&query_of("CallMcpTool"), form.query().unwrap());
    let last = String::from_utf8(last).unwrap();
    let others = last.replace("Connection: close\r\n", "");
    (others.repeat(15) + &last).into_bytes()
}

#[tokio::test]
async fn connections_and_calls_are_counted_and_the_admins_are_not() {
    let local = Local::start(Config::default()).await;
    local.stats().await;
    assert_eq!(local.stats().await["connections"], 0);
    let (id, _) = local.create("{}").await;
    let answers = raw(&local, &sixteen_commands(&id)).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 16, "{answers}");
    let stats = local.stats().await;
    assert_eq!(
        (&stats["requests"], &stats["connections"]),
        (&json!(17), &json!(2)),
        "{stats}"
    );
    assert_eq!(
        stats["calls"],
        json!({ "CreateMcpSession": 1, "CallMcpTool": 16 })
    );
    assert_eq!(stats["tools"], json!({ "shell": 16 }));
    let form = "Authorization=Bearer%20akm-local";
    for _ in 0..4 {
        raw(&local, &post(&query_of("ListSession"), form))
            .await
            .unwrap();
    }
    raw(&local, &post(&query_of("NoSuchAction"), form))
        .await
        .unwrap();
    let stats = local.stats().await;
    assert_eq!(
        (&stats["requests"], &stats["connections"]),
        (&json!(22), &json!(7)),
        "{stats}"
    );
    assert_eq!(stats["calls"]["unknown"], 1);
    local.end().await;
}

#[tokio::test]
async fn what_was_begun_is_done_although_the_caller_has_left() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    let args = json!({ "command": "sleep 0.3; echo there > mark" }).to_string();
    let form = [
        ("Authorization", "Bearer akm-local"),
        ("SessionId", &id),
        ("Name", "shell"),
        ("Args", &args),
    ];
    let request = local
        .http
        .post(&local.url)
        .query(&common("CallMcpTool"))
        .form(&form);
    let left = tokio::time::timeout(150 * MS, request.send()).await;
    assert!(left.is_err(), "it was answered too early");
    until(|| async {
        let (text, _) = local
            .tool(&id, "read_file", json!({ "path": "mark" }))
            .await;
        text == "there\n"
    })
    .await;
    local.end().await;
}

#[tokio::test]
async fn at_its_end_all_sessions_are_gone_whatever_is_going_on() {
    let local = Local::start(Config::default()).await;
    let mut places = Vec::new();
    for _ in 0..5 {
        let (id, _) = local.create("{}").await;
        let id = mainstay::session::SessionId::new(id);
        places.push(local.handle.provider().directory(&id).unwrap());
    }
    let listed = local.call("ListSession", &[]).await.data();
    let first = listed[0]["SessionId"].as_str().unwrap().to_owned();
    // A command that runs, a reply that is late, a deletion that is slow, half a request.
    let long = tokio::spawn({
        let (http, url) = (local.http.clone(), local.url.clone());
        let args = json!({ "command": "echo $$ > begun; exec sleep 45" }).to_string();
        let form = [
            ("Authorization", "Bearer akm-local".to_owned()),
            ("SessionId", first.clone()),
            ("Name", "shell".to_owned()),
            ("Args", args),
        ];
        async move {
            http.post(url)
                .query(&common("CallMcpTool"))
                .form(&form)
                .send()
                .await
        }
    });
    let begun = || async {
        local
            .tool(&first, "read_file", json!({ "path": "begun" }))
            .await
            .0
    };
    until(|| async { begun().await.trim().parse::<u32>().is_ok() }).await;
    let process = format!("/proc/{}", begun().await.trim());
    assert!(std::fs::exists(&process).unwrap());
    local.faults([
        Rule::new(Kind::SlowReply).delay_ms(60_000).on("GetSession"),
        Rule::new(Kind::SlowDelete).delay_ms(60_000),
    ]);
    let last = listed[4]["SessionId"].as_str().unwrap();
    local
        .call("DeleteSessionAsync", &[("SessionId", last)])
        .await
        .data();
    let late = tokio::spawn({
        let (http, url, first) = (local.http.clone(), local.url.clone(), first.clone());
        let form = [
            ("Authorization", "Bearer akm-local".to_owned()),
            ("SessionId", first),
        ];
        async move {
            http.post(url)
                .query(&common("GetSession"))
                .form(&form)
                .send()
                .await
        }
    });
    let address = local.url.strip_prefix("http://").unwrap().to_owned();
    let mut half = TcpStream::connect(&address).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nHost:").await.unwrap();
    until(|| async { local.stats().await["calls"]["GetSession"] == 1 }).await;

    let how = local.stop().await;
    assert_eq!((how.deleted, how.left), (5, 0));
    assert!(places.iter().all(|place| !place.exists()), "{places:?}");
    assert!(!std::fs::exists(&process).unwrap(), "the command goes on");
    assert!(long.await.unwrap().is_err() && late.await.unwrap().is_err());
    let mut rest = Vec::new();
    let closed = half.read_to_end(&mut rest).await;
    assert!(closed.is_err() || rest.is_empty());
    assert!(
        TcpStream::connect(&address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_server_that_is_dropped_ends_too() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    let id = mainstay::session::SessionId::new(id);
    let place = local.handle.provider().directory(&id).unwrap();
    let address = local.url.strip_prefix("http://").unwrap().to_owned();
    assert!(place.exists());
    drop(local);
    until(|| async { !place.exists() }).await;
    until(|| async { TcpStream::connect(&address).await.is_err() }).await;
}

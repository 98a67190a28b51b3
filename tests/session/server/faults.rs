//! How it goes wrong when it is told to.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Local, MS, post, query_of, raw};
use crate::agentbay_server::{Config, Kind, Rule};

#[tokio::test]
async fn a_throttled_call_has_not_happened_and_is_told_when_to_come_back() {
    let local = Local::start(Config::default()).await;
    local.faults([Rule::new(Kind::Throttle).next(1).retry_after_ms(1_500)]);
    let answer = local.call("CreateMcpSession", &[]).await;
    answer.fails(429, "Throttling.User");
    assert_eq!(answer.retry_after.as_deref(), Some("1500"));
    local.faults([Rule::new(Kind::Throttle).next(1).status(400)]);
    let answer = local.call("CreateMcpSession", &[]).await;
    answer.fails(400, "Throttling.User");
    assert_eq!(local.stats().await["sessions"], 0);
    local.create("{}").await;
    local.end().await;
}

#[tokio::test]
async fn a_page_of_html_and_a_refusal_have_not_happened() {
    let local = Local::start(Config::default()).await;
    local.faults([
        Rule::new(Kind::Unavailable).next(1),
        Rule::new(Kind::Refuse).next(2),
    ]);
    let answer = local.call("CreateMcpSession", &[]).await;
    assert_eq!(
        (answer.status, answer.kind.as_str()),
        (503, "text/html; charset=utf-8")
    );
    assert!(answer.text.starts_with("<html>"));
    local.call("ListSession", &[]).await.says_no("SystemBusy");
    let data = local.call("CreateMcpSession", &[]).await.data();
    assert_eq!(data["Success"], false);
    assert!(data["ErrMsg"].as_str().unwrap().contains("busy"));
    assert_eq!(local.stats().await["sessions"], 0);
    local.end().await;
}

#[tokio::test]
async fn a_lost_request_has_not_happened_and_a_lost_reply_has() {
    let local = Local::start(Config::default()).await;
    let lost = |kind| Rule::new(kind).on("CreateMcpSession").next(1);
    local.faults([lost(Kind::LostRequest), lost(Kind::LostReply)]);
    assert!(local.try_call("CreateMcpSession", &[]).await.is_err());
    assert_eq!(local.stats().await["sessions"], 0);
    assert!(
        local
            .try_call("CreateMcpSession", &[("Labels", r#"{"mine":"1"}"#)])
            .await
            .is_err()
    );
    assert_eq!(local.stats().await["sessions"], 1);
    let found = local
        .call("ListSession", &[("Labels", r#"{"mine":"1"}"#)])
        .await
        .data();
    let id = found[0]["SessionId"].as_str().unwrap();

    local.faults([Rule::new(Kind::LostReply).on("write_file").skip(1).next(1)]);
    for lost in [false, true, false] {
        let args = json!({ "path": "a", "content": "x", "mode": "append" });
        assert_eq!(local.try_tool(id, "write_file", args).await.is_err(), lost);
    }
    assert_eq!(
        local.good(id, "read_file", json!({ "path": "a" })).await,
        "xxx"
    );
    assert_eq!(
        local.stats().await["faults"],
        json!({ "lost_request": 1, "lost_reply": 2 })
    );
    local.end().await;
}

#[tokio::test]
async fn a_reply_is_half_or_breaks_or_is_late() {
    let local = Local::start(Config::default()).await;
    local.faults([Rule::new(Kind::TruncatedReply).next(1)]);
    let answer = local.call("ListSession", &[]).await;
    assert_eq!(answer.status, 200);
    assert!(
        serde_json::from_str::<Value>(&answer.text).is_err(),
        "{}",
        answer.text
    );

    local.faults([Rule::new(Kind::CutReply).next(2)]);
    assert!(local.try_call("ListSession", &[]).await.is_err());
    let form = "Authorization=Bearer%20akm-local";
    let cut = raw(&local, &post(&query_of("ListSession"), form))
        .await
        .unwrap();
    let (head, body) = cut.split_once("\r\n\r\n").unwrap();
    let promised = head.to_lowercase();
    let promised = promised.split("content-length: ").nth(1).unwrap();
    let promised: usize = promised.lines().next().unwrap().parse().unwrap();
    assert!(
        !body.is_empty() && body.len() <= promised / 2 + 1,
        "{} of {promised}",
        body.len()
    );

    local.faults([Rule::new(Kind::SlowReply).delay_ms(200).next(1)]);
    let began = Instant::now();
    local.call("ListSession", &[]).await.data();
    assert!(began.elapsed() >= 200 * MS);
    local.end().await;
}

#[tokio::test]
async fn the_same_seed_loses_the_same_replies() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let config = Config {
            seed: 7,
            rules: vec!["lost_reply:on=ListSession:probability=0.3".parse().unwrap()],
            ..Config::default()
        };
        let local = Local::start(config).await;
        let mut lost = Vec::new();
        for _ in 0..60 {
            lost.push(local.try_call("ListSession", &[]).await.is_err());
        }
        runs.push(lost);
        local.end().await;
    }
    assert_eq!(runs[0], runs[1]);
    let lost = runs[0].iter().filter(|lost| **lost).count();
    assert!((8..30).contains(&lost), "{lost}");
}

#[tokio::test]
async fn faults_are_switched_while_it_runs() {
    let local = Local::start(Config::default()).await;
    let url = format!("{}/faults", local.url);
    let set = |body: &str| {
        let request = local
            .http
            .post(&url)
            .header("Content-Type", "application/json");
        local.admin(request.body(body.to_owned()))
    };
    let good = r#"{"seed": 1, "rules": [{"kind": "throttle", "on": ["ListSession"], "next": 1}]}"#;
    assert_eq!(set(good).await.status, 200);
    for wrong in [
        "",
        "{",
        "[]",
        r#"{"rules": 1}"#,
        r#"{"rules": [{"kind": "nothing"}]}"#,
        r#"{"rules": [{"kind": "throttle", "nxt": 1}]}"#,
        r#"{"rules": [{"kind": "throttle", "probability": 2}]}"#,
        r#"{"rules": [{"kind": "throttle", "delay_ms": 999999999}]}"#,
    ] {
        let answer = set(wrong).await;
        assert!(
            (400..500).contains(&answer.status),
            "{wrong}: {}",
            answer.status
        );
        assert!(answer.json()["error"].is_string(), "{wrong}");
    }
    let rules = local.admin(local.http.get(&url)).await.json();
    assert_eq!(
        rules["rules"][0]["kind"], "throttle",
        "what is wrong changes nothing"
    );
    local
        .call("ListSession", &[])
        .await
        .fails(429, "Throttling.User");
    local.call("ListSession", &[]).await.data();
    assert_eq!(
        set(r#"{"rules": [{"kind": "unavailable"}]}"#).await.status,
        200
    );
    assert_eq!(local.call("ListSession", &[]).await.status, 503);
    local.admin(local.http.delete(&url)).await;
    local.call("ListSession", &[]).await.data();
    local.end().await;
}

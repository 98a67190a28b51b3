//! What goes wrong on the way, and what it is called.

use std::time::{Duration, Instant};

use mainstay::session::{
    AgentBay, CreateSession, Effect, SessionError, SessionErrorKind as Kind, SessionId,
    SessionProvider,
};
use serde_json::json;

use crate::agentbay_peer::{Act, KEY, Peer, good, nobody, refused, reply, said, soon};

fn id() -> SessionId {
    SessionId::new("s-1")
}

/// What a command's call fails with at a server that does this.
async fn fails(act: Act) -> SessionError {
    let peer = Peer::always(act).await;
    let provider = peer
        .builder()
        .request_limit(Duration::from_secs(5))
        .build()
        .unwrap();
    soon(provider.run(&id(), &"ls".into())).await.unwrap_err()
}

fn raw(text: &str) -> Act {
    Act::SayAndClose(text.as_bytes().to_vec())
}

/// What the service says in each of its three layers.
fn refusals() -> Vec<(Act, Kind, Effect)> {
    let json_type = [("content-type", "application/json")];
    let polite =
        json!({"RequestId": "R", "Success": false, "Code": "InvalidParameter", "Message": "m"});
    vec![
        // The first layer, in the service's words.
        (
            refused(400, "InvalidParameter", "m"),
            Kind::Invalid,
            Effect::None,
        ),
        (
            refused(400, "InvalidMcpSession.NotFound", "m"),
            Kind::NotFound,
            Effect::None,
        ),
        (
            refused(429, "Throttling", "m"),
            Kind::Throttled,
            Effect::None,
        ),
        (
            refused(503, "Throttling.Api", "m"),
            Kind::Throttled,
            Effect::None,
        ),
        (
            refused(401, "InvalidApiKey", "m"),
            Kind::Denied,
            Effect::None,
        ),
        (
            refused(500, "InternalError", "m"),
            Kind::Unavailable,
            Effect::Unknown,
        ),
        (
            refused(503, "QuotaExceeded", "m"),
            Kind::Unavailable,
            Effect::None,
        ),
        // The second.
        (
            reply(200, &json_type, &polite.to_string()),
            Kind::Invalid,
            Effect::None,
        ),
        // The third.
        (said("out of paper", true), Kind::Tool, Effect::Unknown),
    ]
}

/// What is none of the service's answers.
fn pages() -> Vec<(Act, Kind, Effect)> {
    let html = "<!DOCTYPE html><html>Bad Gateway</html>";
    let json_type = [("content-type", "application/json")];
    let html_type = [("content-type", "text/html")];
    vec![
        (
            reply(502, &html_type, html),
            Kind::Unavailable,
            Effect::Unknown,
        ),
        (
            reply(503, &json_type, html),
            Kind::Unavailable,
            Effect::Unknown,
        ),
        (
            reply(200, &html_type, html),
            Kind::Protocol,
            Effect::Unknown,
        ),
        (
            reply(200, &json_type, html),
            Kind::Protocol,
            Effect::Unknown,
        ),
        (
            reply(404, &html_type, html),
            Kind::Protocol,
            Effect::Unknown,
        ),
        (reply(500, &[], ""), Kind::Unavailable, Effect::Unknown),
        (reply(200, &[], ""), Kind::Protocol, Effect::Unknown),
        (reply(204, &[], ""), Kind::Protocol, Effect::Unknown),
        (
            reply(200, &[], "{\"Success\": tru"),
            Kind::Protocol,
            Effect::Unknown,
        ),
        (reply(200, &[], "[1, 2]"), Kind::Protocol, Effect::Unknown),
        (
            reply(200, &[], &"[".repeat(100_000)),
            Kind::Protocol,
            Effect::Unknown,
        ),
        (good(json!("not JSON")), Kind::Protocol, Effect::Unknown),
        (good(json!({"content": 5})), Kind::Protocol, Effect::Unknown),
        (reply(600, &[], ""), Kind::Unavailable, Effect::Unknown),
    ]
}

/// Connections that close before, inside of and after an answer, and odd ones.
fn breaks() -> Vec<(Act, Kind, Effect)> {
    vec![
        (raw(""), Kind::Connection, Effect::Unknown),
        (raw("HTTP/1.1 200 O"), Kind::Connection, Effect::Unknown),
        (
            raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
            Kind::Connection,
            Effect::Unknown,
        ),
        (
            raw("HTTP/1.1 502 B\r\ncontent-length: 99\r\n\r\n<h"),
            Kind::Unavailable,
            Effect::Unknown,
        ),
        // Who is there does not speak HTTP.
        (
            raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            Kind::Protocol,
            Effect::Unknown,
        ),
        (
            raw("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"),
            Kind::Protocol,
            Effect::Unknown,
        ),
        (
            raw("220 smtp.example.org ready\r\n"),
            Kind::Protocol,
            Effect::Unknown,
        ),
    ]
}

#[tokio::test]
async fn each_failure_has_a_kind_and_an_effect() {
    let rows = [refusals(), pages(), breaks()].concat();
    for (act, kind, effect) in rows {
        let error = fails(act.clone()).await;
        assert_eq!(
            (error.kind(), error.effect()),
            (kind, effect),
            "{act:?}: {error}"
        );
        let text = error.to_string();
        assert!(!text.contains("line 1") && !text.contains("EOF"), "{text}");
        assert!(
            !text.contains('\n') && !text.contains("127.0.0.1"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn wrong_content_types_do_not_matter() {
    let body = json!({"Success": true, "Data": {"content": [{"text": "hi"}]}}).to_string();
    for content_type in ["text/html", "image/png", "application/json; charset=odd"] {
        let peer = Peer::always(reply(200, &[("content-type", content_type)], &body)).await;
        let result = peer.provider().run(&id(), &"ls".into()).await.unwrap();
        assert_eq!(result.stdout_text(), "hi");
    }
}

#[tokio::test]
async fn an_error_keeps_all_that_the_service_told() {
    for (header, value, span) in [
        ("x-acs-retry-after", "1500", 1500),
        ("retry-after", "3", 3000),
    ] {
        let body = json!({"RequestId": "R", "Code": "Throttling.User", "Message": "slow down"});
        let error = fails(reply(429, &[(header, value)], &body.to_string())).await;
        assert_eq!(error.kind(), Kind::Throttled);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(span)));
        assert_eq!(error.code(), Some("Throttling.User"));
        assert_eq!(error.status(), Some(429));
        assert_eq!(error.request_id(), Some("R"));
        assert_eq!(error.message(), "slow down");
    }
    let error = fails(reply(503, &[("retry-after", "2")], "<html>")).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    assert_eq!(error.status(), Some(503));
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let provider = AgentBay::builder()
        .api_key(KEY)
        .endpoint(nobody().await)
        .build()
        .unwrap();
    let error = soon(provider.create(&CreateSession::new()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Connection, Effect::None)
    );
    assert!(error.message().contains("refused"), "{error}");
}

#[tokio::test]
async fn who_accepts_and_says_nothing_is_not_waited_for_for_ever() {
    let limit = Duration::from_millis(200);
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    let slow = Duration::from_millis(10);
    for act in [
        Act::Hang,
        // One byte after the other: of the body, and of the head.
        Act::Drip(head, b" ".to_vec(), slow),
        Act::Drip(b"HTTP/1.1 200 OK\r\nx: ".to_vec(), b"x".to_vec(), slow),
        Act::Drip(
            b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
            b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
            slow,
        ),
    ] {
        let peer = Peer::always(act).await;
        let provider = peer.builder().request_limit(limit).build().unwrap();
        let begun = Instant::now();
        let error = soon(provider.run(&id(), &"ls".into())).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (Kind::Connection, Effect::Unknown),
            "{error}"
        );
        assert!(
            begun.elapsed() >= limit && begun.elapsed() < 100 * limit,
            "{:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn a_command_that_was_allowed_long_has_a_reply_that_may_take_long() {
    let act = Act::After(Duration::from_millis(400), Box::new(said("late", false)));
    let peer = Peer::always(act).await;
    let limit = Duration::from_millis(100);
    let provider = peer.builder().request_limit(limit).build().unwrap();
    let command = mainstay::session::Command::new("x").time_limit(Duration::from_millis(500));
    let result = soon(provider.run(&id(), &command)).await.unwrap();
    assert_eq!(result.stdout_text(), "late");
}

#[tokio::test]
async fn a_reply_that_is_too_long_is_not_read() {
    let told = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000)).into_bytes();
    let no_end = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for (head, rest) in [
        (told, Vec::new()),
        (endless, chunk.clone()),
        (no_end, chunk),
    ] {
        let peer = Peer::always(Act::Drip(head, rest, Duration::ZERO)).await;
        let provider = peer.builder().max_reply(1 << 20).build().unwrap();
        let error = soon(provider.run(&id(), &"ls".into())).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (Kind::Protocol, Effect::Unknown)
        );
        assert!(error.message().contains("1048576"), "{error}");
        assert_eq!(error.status(), Some(200));
    }
}

#[tokio::test]
async fn an_endless_head_is_an_error() {
    let act = Act::Drip(
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        b"x-pad: yyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(1000),
        Duration::ZERO,
    );
    let error = fails(act).await;
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Protocol, Effect::Unknown),
        "{error}"
    );
}

#[tokio::test]
async fn the_key_does_not_follow_a_redirect() {
    let other = Peer::always(said("stolen", false)).await;
    for status in [301, 302, 303, 307, 308] {
        let act = reply(status, &[("location", &other.url())], "");
        let error = fails(act).await;
        assert_eq!(
            (error.kind(), error.effect()),
            (Kind::Protocol, Effect::Unknown)
        );
        assert_eq!(error.status(), Some(status));
    }
    assert_eq!(other.accepted(), 0);
}

/// Run by the test below, in a process of its own with proxies in its environment.
#[tokio::test]
#[ignore = "run by another test"]
async fn the_child_that_has_proxies() {
    let endpoint = std::env::var("TEST_ENDPOINT").unwrap();
    let provider = AgentBay::builder().endpoint(endpoint).build().unwrap();
    provider.run(&id(), &"ls".into()).await.unwrap();
}

#[tokio::test]
async fn the_key_does_not_go_to_a_proxy_of_the_environment() {
    let peer = Peer::always(said("hi", false)).await;
    let proxy = Peer::always(said("stolen", false)).await;
    let status = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "agentbay_failures::the_child_that_has_proxies",
        ])
        .env("TEST_ENDPOINT", peer.url())
        .env("AGENTBAY_API_KEY", KEY)
        .envs(
            [
                "http_proxy",
                "HTTP_PROXY",
                "https_proxy",
                "HTTPS_PROXY",
                "all_proxy",
                "ALL_PROXY",
            ]
            .map(|name| (name, proxy.url())),
        )
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .stdout(std::process::Stdio::null())
        .status();
    assert!(soon(status).await.unwrap().success());
    assert_eq!((peer.asked().len(), proxy.accepted()), (1, 0));
    assert_eq!(
        peer.asked()[0].field("Authorization"),
        format!("Bearer {KEY}")
    );
}

#[tokio::test]
async fn a_head_that_is_too_long_is_not_read() {
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let many = format!("x-header: {}\r\n", "x".repeat(1000)).into_bytes();
    let one = vec![b'x'; 4096];
    let status = b"HTTP/1.1 200 ".to_vec();
    for (head, rest) in [(head.clone(), many), (head, one.clone()), (status, one)] {
        let peer = Peer::always(Act::Drip(head, rest, Duration::ZERO)).await;
        let begun = std::time::Instant::now();
        let error = soon(peer.provider().run(&id(), &"ls".into())).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{error}");
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{error}");
    }
}

/// It is a day at most, and what cannot wait so long ends at once.
#[tokio::test]
async fn a_hint_of_a_million_years_is_no_wait_of_one() {
    use mainstay::{Pipeline, Retry};

    for hint in ["31557600000000", "99999999999999999999999", "1e300"] {
        let peer = Peer::always(reply(429, &[("retry-after", hint)], "{}")).await;
        let provider = peer.provider();
        let pipeline = Pipeline::builder("hinted")
            .timeout(Duration::from_secs(60))
            .retry(Retry::builder().max_attempts(3))
            .build()
            .unwrap();
        let (id, begun) = (id(), std::time::Instant::now());
        let error = pipeline.call(|| provider.labels(&id)).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(30), "{error}");
        let hinted = error.into_last().unwrap().retry_after().unwrap();
        assert!(hinted <= Duration::from_secs(86_400), "{hinted:?}");
    }
}

//! Requests that make no sense, and who may send none.

use super::{Fields, Local, MS, common, post, query_of, raw};
use crate::agentbay_server::{Config, DEFAULT_KEY};

#[tokio::test]
async fn who_has_no_key_is_refused_and_the_key_is_not_told() {
    let local = Local::start(Config::default()).await;
    let send = async |form: &[(&str, &str)]| {
        let request = local
            .http
            .post(&local.url)
            .query(&common("CreateMcpSession"));
        local.admin(request.form(form)).await
    };
    for wrong in ["Bearer akm-other", "Bearer ", "", DEFAULT_KEY] {
        let answer = send(&[("Authorization", wrong)]).await;
        answer.fails(401, "InvalidApiKey");
        assert!(!answer.text.contains("akm-other") && !answer.text.contains(DEFAULT_KEY));
    }
    send(&[("ImageId", "code_latest")])
        .await
        .fails(400, "MissingParameter");
    assert_eq!(local.stats().await["sessions"], 0);
    assert!(!format!("{:?}", Config::default()).contains(DEFAULT_KEY));
    local.end().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_answered_as_the_wire_answers() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    let id = ("SessionId", id.as_str());
    for action in ["NoSuchAction", "createmcpsession"] {
        local
            .call(action, &[])
            .await
            .fails(404, "InvalidAction.NotFound");
    }
    let outside = [("SessionId", "../..")];
    let answer = local.call("GetSession", &outside).await;
    answer.fails(400, "InvalidMcpSession.NotFound");

    let missing: &[(&str, Fields<'_>)] = &[
        ("", &[]),
        ("GetSession", &[]),
        ("GetSession", &[("SessionId", "")]),
        ("SetLabel", &[id]),
        ("CallMcpTool", &[id]),
        ("CallMcpTool", &[("Name", "shell")]),
    ];
    for (action, fields) in missing {
        let answer = local.call(action, fields).await;
        answer.fails(400, "MissingParameter");
    }

    let shell = ("Name", "shell");
    let wrong: &[(&str, Fields<'_>)] = &[
        ("CreateMcpSession", &[("Labels", "{")]),
        ("CreateMcpSession", &[("Labels", "[1]")]),
        ("CreateMcpSession", &[("Labels", r#"{"a":1}"#)]),
        ("CreateMcpSession", &[("VpcResource", "maybe")]),
        ("SetLabel", &[id, ("Labels", "null")]),
        ("ListSession", &[("MaxResults", "many")]),
        ("ListSession", &[("MaxResults", "-1")]),
        ("ListSession", &[("MaxResults", "0")]),
        ("ListSession", &[("MaxResults", "101")]),
        ("ListSession", &[("MaxResults", "99999999999")]),
        ("ListSession", &[("NextToken", "../nowhere")]),
        ("GetLink", &[id, ("Port", "80")]),
        ("GetLink", &[id, ("Port", "x")]),
        ("CallMcpTool", &[id, shell, ("Args", "{")]),
        ("CallMcpTool", &[id, shell, ("Args", "[]")]),
        ("CallMcpTool", &[id, shell, ("AutoGenSession", "2")]),
    ];
    for (action, fields) in wrong {
        let answer = local.call(action, fields).await;
        println!("{action} {fields:?}: {}", answer.text);
        answer.fails(400, "InvalidParameter");
    }
    // Booleans come in either case.
    for truth in ["True", "true", "FALSE"] {
        let fields = [
            id,
            ("Name", "shell"),
            ("Args", r#"{"command":"true"}"#),
            ("AutoGenSession", truth),
        ];
        local.call("CallMcpTool", &fields).await.said();
    }
    local.end().await;
}

#[tokio::test]
async fn malformed_requests_get_the_wires_answer_or_a_closed_connection() {
    let config = Config {
        body_limit: 10_000,
        body_time: 200 * MS,
        ..Config::default()
    };
    let local = Local::start(config).await;
    let form = |text: &str| {
        let request = local.http.post(&local.url).query(&common("ListSession"));
        request
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(text.to_owned())
    };
    local.admin(form("")).await.fails(400, "MissingParameter");
    local
        .admin(form("%zz&=&&a=%ff%fe"))
        .await
        .fails(400, "MissingParameter");
    let long = format!("Labels={}", "x".repeat(20_000));
    local
        .admin(form(&long))
        .await
        .fails(413, "RequestEntityTooLarge");
    let other = local
        .http
        .post(&local.url)
        .query(&common("ListSession"))
        .body("{}");
    local.admin(other).await.fails(415, "UnsupportedMediaType");
    local
        .admin(local.http.get(&local.url))
        .await
        .fails(405, "UnsupportedHTTPMethod");
    let nowhere = local.http.post(format!("{}/nowhere", local.url));
    local
        .admin(nowhere)
        .await
        .fails(404, "InvalidAction.NotFound");
    for missing in ["Version", "Timestamp", "SignatureNonce"] {
        let query = common("ListSession")
            .map(|(name, value)| (name, if name == missing { "" } else { value }));
        let key = [("Authorization", "Bearer akm-local")];
        let answer = local
            .admin(local.http.post(&local.url).query(&query).form(&key))
            .await;
        assert_eq!(answer.status, 400, "{missing}: {}", answer.text);
    }

    let junk = raw(&local, b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n").await;
    assert!(junk.is_err() || junk.unwrap().starts_with("HTTP/1.1 400"));
    let mut slow = post(&query_of("ListSession"), &"x".repeat(100));
    slow.truncate(slow.len() - 50);
    let late = raw(&local, &slow).await.unwrap();
    assert!(
        late.starts_with("HTTP/1.1 408") && late.contains("RequestTimeout"),
        "{late}"
    );

    // And it works as before.
    local.create("{}").await;
    local.end().await;
}

//! What becomes of sessions.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Local, MS, until};
use crate::agentbay_server::{Config, Kind, Rule};

#[tokio::test]
async fn a_session_lives_and_is_gone() {
    let local = Local::start(Config::default()).await;
    let (id, data) = local.create(r#"{"stage":"one"}"#).await;
    assert_eq!(data["ErrMsg"], "");
    assert!(data.get("LinkUrl").is_none() && data.get("Token").is_none());
    let tools: Value = serde_json::from_str(data["ToolList"].as_str().unwrap()).unwrap();
    assert_eq!(
        tools[0],
        json!({ "name": "shell", "server": "wuying_shell" })
    );

    let one = [("SessionId", id.as_str())];
    let got = local.call("GetSession", &one).await.data();
    assert_eq!(
        (&got["SessionId"], &got["Status"]),
        (&json!(id), &json!("RUNNING"))
    );
    assert_eq!(got["ResourceUrl"], data["ResourceUrl"]);
    let detail = local.call("GetSessionDetail", &one).await.data();
    assert_eq!(
        (&detail["Status"], &detail["ImageId"]),
        (&json!("RUNNING"), &json!("code_latest"))
    );
    let resource = local.call("GetMcpResource", &one).await.data();
    assert_eq!(resource["SessionId"], json!(id));
    local.call("RefreshSessionIdleTime", &one).await.data();
    let listed = local
        .call("ListMcpTools", &[("ImageId", "code_latest")])
        .await
        .data();
    assert_eq!(listed, data["ToolList"]);

    let labels = local.call("GetLabel", &one).await.data();
    assert_eq!(labels["Labels"], r#"{"stage":"one"}"#);
    let new = [one[0], ("Labels", r#"{"stage":"zwei ü"}"#)];
    local.call("SetLabel", &new).await.data();
    let labels = local.call("GetLabel", &one).await.data();
    assert_eq!(labels["Labels"], r#"{"stage":"zwei ü"}"#);

    let port = [one[0], ("Port", "30150"), ("ProtocolType", "https")];
    let link = local.call("GetLink", &port).await.data();
    assert!(
        link["Url"]
            .as_str()
            .unwrap()
            .starts_with("https://127.0.0.1:")
    );

    local.call("DeleteSessionAsync", &one).await.data();
    until(|| local.gone(&id)).await;
    for action in [
        "GetSession",
        "DeleteSessionAsync",
        "ReleaseMcpSession",
        "GetLabel",
        "GetLink",
    ] {
        local
            .call(action, &one)
            .await
            .fails(400, "InvalidMcpSession.NotFound");
    }
    assert_eq!(local.stats().await["sessions"], 0);
    local.end().await;
}

#[tokio::test]
async fn a_deletion_is_seen_to_be_under_way() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    local.faults([Rule::new(Kind::SlowDelete).delay_ms(300)]);
    let one = [("SessionId", id.as_str())];
    let began = Instant::now();
    local.call("DeleteSessionAsync", &one).await.data();
    assert!(!local.gone(&id).await, "the reply does not wait");
    let got = local.call("GetSession", &one).await.data();
    assert_eq!(got["Status"], "DELETING");
    let shell = local
        .try_tool(&id, "shell", json!({ "command": "true" }))
        .await;
    shell.unwrap().says_no("InvalidMcpSession.Status");
    // Who asks again is told the same.
    local.call("DeleteSessionAsync", &one).await.data();
    until(|| local.gone(&id)).await;
    assert!(began.elapsed() >= 300 * MS);

    let (id, _) = local.create("{}").await;
    let began = Instant::now();
    local
        .call("ReleaseMcpSession", &[("SessionId", &id)])
        .await
        .data();
    assert!(began.elapsed() >= 300 * MS, "the older way waits");
    assert!(local.gone(&id).await);
    local.end().await;
}

#[tokio::test]
async fn a_session_is_paused_and_goes_on() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    let one = [("SessionId", id.as_str())];
    let status = || async { local.call("GetSession", &one).await.data()["Status"].clone() };
    local
        .call("ResumeSessionAsync", &one)
        .await
        .says_no("InvalidMcpSession.Status");
    local.call("PauseSessionAsync", &one).await.data();
    until(|| async { status().await == "PAUSED" }).await;
    let shell = local
        .try_tool(&id, "shell", json!({ "command": "true" }))
        .await;
    shell.unwrap().says_no("InvalidMcpSession.Status");
    local
        .call("PauseSessionAsync", &one)
        .await
        .says_no("InvalidMcpSession.Status");
    local.call("ResumeSessionAsync", &one).await.data();
    until(|| async { status().await == "RUNNING" }).await;
    local.good(&id, "shell", json!({ "command": "true" })).await;
    let unknown = [("SessionId", "s-unknown")];
    local
        .call("PauseSessionAsync", &unknown)
        .await
        .fails(400, "InvalidMcpSession.NotFound");
    local.end().await;
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let local = Local::start(Config::default()).await;
    let mut wanted = Vec::new();
    for n in 0..7 {
        let (id, _) = local.create(&format!(r#"{{"batch":"b","n":"{n}"}}"#)).await;
        wanted.push(id);
        local.create(r#"{"batch":"another"}"#).await;
    }
    wanted.sort();
    let (mut found, mut sizes, mut next) = (Vec::new(), Vec::new(), String::new());
    loop {
        let fields = [
            ("Labels", r#"{"batch":"b"}"#),
            ("MaxResults", "3"),
            ("NextToken", &next),
        ];
        let answer = local.call("ListSession", &fields).await;
        let page = answer.data();
        let body = answer.json();
        assert_eq!(
            (&body["TotalCount"], &body["MaxResults"]),
            (&json!(7), &json!(3))
        );
        let page = page.as_array().unwrap().clone();
        sizes.push(page.len());
        for session in page {
            assert_eq!(session["SessionStatus"], "RUNNING");
            found.push(session["SessionId"].as_str().unwrap().to_owned());
        }
        body["NextToken"].as_str().unwrap().clone_into(&mut next);
        if next.is_empty() {
            break;
        }
    }
    found.sort();
    assert_eq!((found, sizes), (wanted.clone(), vec![3, 3, 1]));

    // Ten, unless the caller says so; and by state.
    assert_eq!(
        local
            .call("ListSession", &[])
            .await
            .data()
            .as_array()
            .unwrap()
            .len(),
        10
    );
    local
        .call("PauseSessionAsync", &[("SessionId", &wanted[4])])
        .await
        .data();
    until(|| async {
        let answer = local.call("ListSession", &[("Status", "PAUSED")]).await;
        let page = answer.data();
        page.as_array().is_some_and(|page| page.len() == 1) && answer.json()["TotalCount"] == 1
    })
    .await;
    let none = local
        .call("ListSession", &[("ImageId", "windows_latest")])
        .await;
    assert_eq!(none.data(), json!([]));
    local.end().await;
}

#[tokio::test]
async fn there_are_only_so_many_sessions() {
    let config = Config {
        max_sessions: 2,
        ..Config::default()
    };
    let local = Local::start(config).await;
    local.create("{}").await;
    let (id, _) = local.create("{}").await;
    let data = local.call("CreateMcpSession", &[]).await.data();
    assert_eq!(data["Success"], false, "{data}");
    assert!(!data["ErrMsg"].as_str().unwrap().is_empty());
    local
        .call("ReleaseMcpSession", &[("SessionId", &id)])
        .await
        .data();
    local.create("{}").await;
    local.end().await;
}

#[tokio::test]
async fn many_at_once_are_made_and_deleted() {
    let local = Local::start(Config::default()).await;
    let local = &local;
    let one = |n: usize| async move {
        let (id, _) = local.create(&format!(r#"{{"n":"{n}"}}"#)).await;
        let (said, _) = local
            .shell(&id, json!({ "command": format!("echo {n}") }))
            .await;
        assert_eq!(said["stdout"], format!("{n}\n"));
        local
            .call("DeleteSessionAsync", &[("SessionId", &id)])
            .await
            .data();
        until(|| local.gone(&id)).await;
    };
    futures_util::future::join_all((0..40).map(one)).await;
    assert_eq!(local.stats().await["sessions"], 0);
}

//! What the provider asks, and what it makes of good answers.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use mainstay::session::{
    AgentBay, Code, Command, CreateSession, Effect, Entry, EntryKind, ListSessions,
    SessionErrorKind as Kind, SessionId, SessionProvider, SessionStatus,
};
use serde_json::json;

use crate::agentbay_peer::{Act, KEY, Peer, gone, good, refused, reply, said, soon};

fn id() -> SessionId {
    SessionId::new("s-1")
}

#[tokio::test]
async fn a_request_is_the_service_s_to_the_letter() {
    let peer = Peer::always(good(
        json!({"SessionId": "s-1", "ResourceUrl": "https://look"}),
    ))
    .await;
    let provider = peer.builder().region("cn-shanghai").build().unwrap();
    let request = CreateSession::new()
        .image("code_latest")
        .label("a", "\u{e9} b");
    let info = provider.create(&request).await.unwrap();
    assert_eq!(info.id, id());
    assert_eq!(info.status, SessionStatus::Running);
    assert_eq!(info.resource_url.as_deref(), Some("https://look"));
    assert_eq!(info.request_id, "R-1");

    let asked = &peer.asked()[0];
    let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        asked.form(),
        [
            text("Authorization", &format!("Bearer {KEY}")),
            text("ImageId", "code_latest"),
            text("Labels", "{\"a\":\"\u{e9} b\"}"),
            text("LoginRegionId", "cn-shanghai"),
        ]
    );
    let query = asked.query();
    let names: Vec<&str> = query.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["Action", "Format", "SignatureNonce", "Timestamp", "Version"]
    );
    assert_eq!(asked.action(), "CreateMcpSession");
    assert_eq!(asked.field("Format"), "json");
    assert_eq!(asked.field("Version"), "2025-05-06");
    let nonce = asked.field("SignatureNonce");
    assert!(nonce.len() == 32 && nonce.bytes().all(|b| b.is_ascii_hexdigit()));
    let stamp = asked.field("Timestamp");
    assert!(
        stamp.len() == 20 && stamp.ends_with('Z') && &stamp[10..11] == "T",
        "{stamp}"
    );
    assert_eq!(asked.headers["x-acs-action"], "CreateMcpSession");
    assert_eq!(asked.headers["x-acs-version"], "2025-05-06");
    assert_eq!(
        asked.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
}

#[tokio::test]
async fn no_labels_and_no_image_are_left_out() {
    let peer = Peer::always(good(json!({"SessionId": "s-1"}))).await;
    peer.provider().create(&CreateSession::new()).await.unwrap();
    let form = peer.asked()[0].form();
    assert_eq!(form.len(), 1, "{form:?}");
}

#[tokio::test]
async fn a_session_that_was_not_made_is_an_error_although_the_reply_is_good() {
    let data = json!({"Success": false, "ErrMsg": "no machine is free"});
    let peer = Peer::always(good(data)).await;
    let error = peer
        .provider()
        .create(&CreateSession::new())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Unavailable, Effect::None)
    );
    assert_eq!(error.message(), "no machine is free");
    assert_eq!(error.request_id(), Some("R-1"));
    let peer = Peer::always(good(json!({"Success": true}))).await;
    let error = peer
        .provider()
        .create(&CreateSession::new())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Protocol, Effect::Unknown)
    );
}

#[tokio::test]
async fn the_detail_of_a_session_is_asked_in_the_query() {
    let peer = Peer::in_turn([
        good(json!({"Status": "PAUSED"})),
        good(json!({"Status": "FINISH"})),
        good(json!({"Status": "RUNNING", "IsDeleted": true})),
        good(json!({"Status": "ODD"})),
        good(json!({})),
        gone(),
    ])
    .await;
    let provider = peer.provider();
    assert_eq!(provider.status(&id()).await.unwrap(), SessionStatus::Paused);
    assert_eq!(
        provider.status(&id()).await.unwrap(),
        SessionStatus::Finished
    );
    assert_eq!(
        provider.status(&id()).await.unwrap(),
        SessionStatus::Deleted
    );
    assert_eq!(
        provider.status(&id()).await.unwrap(),
        SessionStatus::Other("ODD".into())
    );
    assert_eq!(
        provider.status(&id()).await.unwrap_err().kind(),
        Kind::Protocol
    );
    assert_eq!(
        provider.status(&id()).await.unwrap_err().kind(),
        Kind::NotFound
    );
    let asked = &peer.asked()[0];
    assert_eq!(asked.form().len(), 1);
    assert!(
        asked
            .query()
            .contains(&("SessionId".to_owned(), "s-1".to_owned()))
    );
}

#[tokio::test]
async fn a_session_is_found() {
    let data = json!({"SessionId": "s-1", "Status": "PAUSED", "ResourceUrl": "https://look"});
    let peer = Peer::in_turn([good(data), gone(), good(json!(null))]).await;
    let provider = peer.provider();
    let info = provider.get(&id()).await.unwrap();
    assert_eq!((info.id, info.status), (id(), SessionStatus::Paused));
    let error = provider.get(&id()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.code(), Some("InvalidMcpSession.NotFound"));
    assert_eq!(
        provider.get(&id()).await.unwrap_err().kind(),
        Kind::Protocol
    );
}

#[tokio::test]
async fn pages_follow_each_other_to_the_last() {
    let peer = Peer::start(|asked| {
        let from: usize = asked.field("NextToken").parse().unwrap_or(0);
        let size: usize = asked.field("MaxResults").parse().unwrap();
        let sessions: Vec<_> = (from..25.min(from + size))
            .map(|n| json!({"SessionId": format!("s-{n}"), "SessionStatus": "RUNNING"}))
            .collect();
        let next = if from + size < 25 {
            (from + size).to_string()
        } else {
            String::new()
        };
        let body = json!({
            "RequestId": "R", "Success": true, "Data": sessions,
            "NextToken": next, "MaxResults": size, "TotalCount": 25,
        });
        reply(200, &[], &body.to_string())
    })
    .await;
    let provider = peer.provider();
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let mut request = ListSessions::with_labels(labels);
    let mut found = Vec::new();
    loop {
        let page = provider.list(&request).await.unwrap();
        assert_eq!(page.total, Some(25));
        found.extend(page.sessions);
        match page.next {
            Some(next) => request = request.after(next),
            None => break,
        }
    }
    assert_eq!(found.len(), 25);
    assert_eq!(found[24].id.as_str(), "s-24");
    let asked = peer.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].field("MaxResults"), "10");
    assert_eq!(asked[0].field("Labels"), r#"{"a":"b"}"#);
    assert!(!asked[0].form().iter().any(|(name, _)| name == "NextToken"));
    assert_eq!(
        provider
            .list(&ListSessions::all().page_size(7))
            .await
            .unwrap()
            .sessions
            .len(),
        7
    );
}

#[tokio::test]
async fn a_page_that_leads_to_itself_does_not_go_on_for_ever() {
    let body = json!({"Success": true, "Data": [], "NextToken": "n"}).to_string();
    let peer = Peer::always(reply(200, &[], &body)).await;
    let provider = peer.provider();
    let page = provider.list(&ListSessions::all()).await.unwrap();
    let next = ListSessions::all().after(page.next.unwrap());
    assert_eq!(
        provider.list(&next).await.unwrap_err().kind(),
        Kind::Protocol
    );
}

/// A server at which a deletion ends after so many questions, by this answer.
async fn slow_to_delete(questions: usize, end: Act, meanwhile: Act) -> Peer {
    let left = Mutex::new(questions);
    Peer::start(move |asked| {
        if asked.action() == "DeleteSessionAsync" {
            return good(json!(null));
        }
        let mut left = left.lock().unwrap();
        if *left == 0 {
            return end.clone();
        }
        *left -= 1;
        meanwhile.clone()
    })
    .await
}

#[tokio::test]
async fn a_deletion_is_waited_for_until_the_session_is_gone() {
    let ends = [
        gone(),
        good(json!({"Status": "FINISH"})),
        good(json!({"Status": "RUNNING", "IsDeleted": "true"})),
    ];
    for end in ends {
        let peer = slow_to_delete(3, end, good(json!({"Status": "DELETING"}))).await;
        let deleted = soon(peer.provider().delete(&id())).await.unwrap();
        assert!(!deleted.already_gone);
        assert_eq!(deleted.request_id, "R-1");
        assert_eq!(peer.actions().len(), 5);
        assert_eq!(peer.asked()[0].field("SessionId"), "s-1");
    }
}

#[tokio::test]
async fn a_question_that_fails_is_asked_again() {
    let meanwhile = [
        reply(502, &[], "<html>Bad Gateway</html>"),
        reply(429, &[], "slow down"),
        Act::SayAndClose(Vec::new()),
        reply(404, &[], "<html>not the service</html>"),
    ];
    for meanwhile in meanwhile {
        let peer = slow_to_delete(2, gone(), meanwhile).await;
        soon(peer.provider().delete(&id())).await.unwrap();
        assert_eq!(peer.actions().len(), 4);
    }
}

#[tokio::test]
async fn a_hint_of_a_failed_question_is_obeyed() {
    let busy = reply(429, &[("x-acs-retry-after", "300")], "slow down");
    let peer = slow_to_delete(1, gone(), busy).await;
    let begun = std::time::Instant::now();
    soon(peer.provider().delete(&id())).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_question_that_is_not_allowed_ends_the_wait_and_leaves_open_what_happened() {
    let peer = slow_to_delete(1, gone(), refused(403, "Forbidden", "no")).await;
    let error = soon(peer.provider().delete(&id())).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Denied, Effect::Unknown)
    );
}

/// The last question has time for its answer.
#[tokio::test]
async fn a_deletion_that_is_done_at_the_end_of_its_time_is_seen() {
    let ms = Duration::from_millis;
    let meanwhile = good(json!({"Status": "DELETING"}));
    let peer = slow_to_delete(1, gone(), meanwhile).await;
    let builder = peer.builder().delete_poll(ms(300), ms(5000));
    soon(builder.build().unwrap().delete(&id())).await.unwrap();
    assert_eq!(peer.actions().len(), 3);
}

#[tokio::test]
async fn a_deletion_is_not_waited_for_for_ever() {
    let ms = Duration::from_millis;
    for meanwhile in [good(json!({"Status": "DELETING"})), Act::Hang] {
        let peer = slow_to_delete(usize::MAX, gone(), meanwhile).await;
        let provider = peer.builder().delete_poll(ms(200), ms(20)).build().unwrap();
        let begun = std::time::Instant::now();
        let error = soon(provider.delete(&id())).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (Kind::Unavailable, Effect::Unknown)
        );
        assert!(begun.elapsed() >= ms(200) && begun.elapsed() < ms(20_000));
    }
}

#[tokio::test]
async fn a_session_that_was_gone_before_is_deleted_with_success() {
    let peer = Peer::always(gone()).await;
    let deleted = peer.provider().delete(&id()).await.unwrap();
    assert!(deleted.already_gone);
    assert_eq!(deleted.request_id, "R-2");
    assert_eq!(peer.actions(), ["DeleteSessionAsync"]);
    // A wrong address is not a session that is gone.
    let peer = Peer::always(refused(404, "InvalidAction.NotFound", "no such action")).await;
    assert_eq!(
        peer.provider().delete(&id()).await.unwrap_err().kind(),
        Kind::Invalid
    );
}

#[tokio::test]
async fn a_command_is_told_all_and_answers_with_all() {
    let left = json!({"stdout": "hi\n", "stderr": "hm", "exit_code": 7, "traceId": "T"});
    let peer = Peer::always(said(left, false)).await;
    let command = Command::new("echo hi")
        .time_limit(Duration::from_micros(1_500_500))
        .directory("/tmp")
        .env("A", "b");
    let result = peer.provider().run(&id(), &command).await.unwrap();
    assert!(!result.success);
    assert_eq!(result.exit_code, Some(7));
    assert_eq!(result.stdout_text(), "hi\n");
    assert_eq!(result.stderr_text(), "hm");
    assert_eq!(result.error_message, "hm");
    assert_eq!(result.trace_id.as_deref(), Some("T"));
    assert_eq!(result.request_id, "R-1");
    let asked = &peer.asked()[0];
    assert_eq!(asked.action(), "CallMcpTool");
    assert_eq!(asked.field("Name"), "shell");
    assert_eq!(asked.field("Server"), "");
    assert_eq!(asked.field("AutoGenSession"), "False");
    assert_eq!(asked.field("SessionId"), "s-1");
    let args = json!({"command": "echo hi", "timeout_ms": 1501, "cwd": "/tmp", "envs": {"A": "b"}});
    assert_eq!(asked.args(), args);
}

#[tokio::test]
async fn the_old_form_of_an_answer_is_the_text() {
    let peer = Peer::always(said("plain\n", false)).await;
    let result = peer.provider().run(&id(), &"ls".into()).await.unwrap();
    assert!(result.success);
    assert_eq!(result.stdout_text(), "plain\n");
    assert_eq!(
        peer.asked()[0].args(),
        json!({"command": "ls", "timeout_ms": 50_000})
    );
}

#[tokio::test]
async fn what_the_service_would_not_take_is_not_sent() {
    let peer = Peer::always(said("", false)).await;
    let provider = peer.provider();
    let command = Command::new("sleep 99").time_limit(Duration::from_secs(51));
    let error = provider.run(&id(), &command).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Invalid, Effect::None)
    );
    let code = Code::python("1").time_limit(Duration::from_secs(61));
    let error = provider.run_code(&id(), &code).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Invalid, Effect::None)
    );
    let error = provider
        .run_code(&id(), &Code::new("cobol", ""))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Unsupported, Effect::None)
    );
    assert_eq!(peer.accepted(), 0);
}

#[tokio::test]
async fn code_runs_in_its_language() {
    let left =
        json!({"executionError": null, "result": ["{\"text/plain\": \"42\"}"], "stdout": ["a"]});
    let peer = Peer::always(said(left, false)).await;
    let code = Code::new("py", "6*7").time_limit(Duration::from_millis(1001));
    let result = peer.provider().run_code(&id(), &code).await.unwrap();
    assert!(result.success);
    assert_eq!(result.results, ["42"]);
    assert_eq!(result.stdout_text(), "a");
    let asked = &peer.asked()[0];
    assert_eq!(asked.field("Name"), "run_code");
    assert_eq!(
        asked.args(),
        json!({"code": "6*7", "language": "python", "timeout_s": 2})
    );
}

#[tokio::test]
async fn a_directory_is_listed_by_name() {
    let peer = Peer::in_turn([
        said("[FILE] b.txt\n[DIR] sub\n[FILE] a b\n", false),
        said("Error: no such file or directory", true),
    ])
    .await;
    let provider = peer.provider();
    assert_eq!(
        provider.list_directory(&id(), "/d").await.unwrap(),
        [
            Entry::new("a b", EntryKind::File),
            Entry::new("b.txt", EntryKind::File),
            Entry::new("sub", EntryKind::Directory),
        ]
    );
    assert_eq!(peer.asked()[0].args(), json!({"path": "/d"}));
    let error = provider.list_directory(&id(), "/d").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::NotFound, Effect::None)
    );
}

#[tokio::test]
async fn labels_go_and_come() {
    let peer = Peer::in_turn([good(json!(null)), good(json!({"Labels": "{\"a\":\"b\"}"}))]).await;
    let provider = peer.provider();
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    provider.set_labels(&id(), &labels).await.unwrap();
    assert_eq!(provider.labels(&id()).await.unwrap(), labels);
    assert_eq!(peer.actions(), ["SetLabel", "GetLabel"]);
    assert_eq!(peer.asked()[0].field("Labels"), r#"{"a":"b"}"#);
}

/// A server at which a session goes through these states, one a question.
async fn states(states: &[&str]) -> Peer {
    let states: Vec<_> = states.iter().map(|state| (*state).to_owned()).collect();
    let states = Mutex::new(states.into_iter());
    Peer::start(move |asked| {
        if asked.action() != "GetSession" {
            return good(json!(null));
        }
        match states.lock().unwrap().next() {
            Some(state) => good(json!({"SessionId": "s-1", "Status": state})),
            None => good(json!({"SessionId": "s-1", "Status": "PAUSING"})),
        }
    })
    .await
}

#[tokio::test]
async fn a_pause_and_a_resumption_are_waited_for() {
    let peer = states(&["RUNNING", "PAUSING", "PAUSED", "RESUMING", "RUNNING"]).await;
    let provider = peer.provider();
    let info = soon(provider.pause(&id())).await.unwrap();
    assert_eq!(info.status, SessionStatus::Paused);
    let info = soon(provider.resume(&id())).await.unwrap();
    assert_eq!(info.status, SessionStatus::Running);
    let actions = peer.actions();
    assert_eq!(actions[0], "PauseSessionAsync");
    assert_eq!(actions[4], "ResumeSessionAsync");
}

#[tokio::test]
async fn a_pause_that_fails_or_takes_too_long_is_an_error() {
    let peer = states(&["PAUSING", "RUNNING"]).await;
    let error = soon(peer.provider().pause(&id())).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Unavailable, Effect::Unknown)
    );
    let peer = states(&[]).await;
    let ms = Duration::from_millis;
    let provider = peer.builder().pause_poll(ms(100), ms(10)).build().unwrap();
    let error = soon(provider.pause(&id())).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Unavailable, Effect::Unknown)
    );
}

#[tokio::test]
async fn a_link_is_asked_for_and_its_port_checked() {
    let peer = Peer::always(good(json!({"Url": "https://l"}))).await;
    let provider = peer.provider();
    let link = provider
        .get_link(&id(), Some("https"), Some(30_100))
        .await
        .unwrap();
    assert_eq!(link.url, "https://l");
    assert_eq!(peer.asked()[0].field("Port"), "30100");
    assert_eq!(peer.asked()[0].field("ProtocolType"), "https");
    let error = provider.get_link(&id(), None, Some(80)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Invalid, Effect::None)
    );
    assert_eq!(peer.asked().len(), 1);
}

#[tokio::test]
async fn the_tools_of_a_session_are_asked_for_once() {
    let tools = json!([{"name": "shell", "server": "wuying_shell"}]).to_string();
    let peer = Peer::always(good(json!({"SessionId": "s-1", "ToolList": tools}))).await;
    let provider = peer.provider();
    for _ in 0..2 {
        let tools = provider.tools(&id()).await.unwrap();
        assert_eq!(
            (tools[0].name.as_str(), tools[0].server.as_str()),
            ("shell", "wuying_shell")
        );
    }
    assert_eq!(peer.actions(), ["GetSession"]);
}

#[tokio::test]
async fn a_context_is_synchronized_with_the_key_in_the_query() {
    let peer = Peer::always(good(json!(null))).await;
    peer.provider()
        .sync_context(&id(), Some("upload"))
        .await
        .unwrap();
    let asked = &peer.asked()[0];
    assert!(
        asked
            .query()
            .contains(&("Authorization".to_owned(), format!("Bearer {KEY}")))
    );
    assert_eq!(asked.form().len(), 2);
}

#[test]
fn futures_can_be_sent_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    let provider = AgentBay::builder()
        .api_key("k")
        .endpoint("http://127.0.0.1:1")
        .build()
        .unwrap();
    let (id, command) = (id(), "ls".into());
    is_send(&provider.run(&id, &command));
    is_send(&provider.delete(&id));
    is_send(&provider.pause(&id));
    assert_eq!(provider.name(), "agentbay");
}

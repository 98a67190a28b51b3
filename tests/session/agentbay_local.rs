//! The provider at the local AgentBay server, whose sessions are real.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay::session::{
    AgentBay, AgentBayBuilder, Code, Command, CreateSession, Effect, Entry, EntryKind, FileRange,
    ListSessions, SessionErrorKind, SessionId, SessionProvider, SessionStatus, WriteMode,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::agentbay_peer::soon;
use crate::agentbay_server::{Config, DEFAULT_KEY, Handle, Kind, Rule, serve};

const MS: Duration = Duration::from_millis(1);

async fn local(config: Config) -> Handle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve(listener, config).unwrap()
}

fn builder(handle: &Handle) -> AgentBayBuilder {
    AgentBay::builder()
        .api_key(DEFAULT_KEY)
        .endpoint(handle.url())
        .request_limit(Duration::from_secs(20))
        .delete_poll(Duration::from_secs(10), 10 * MS)
        .pause_poll(Duration::from_secs(10), 10 * MS)
}

async fn made(provider: &AgentBay) -> SessionId {
    soon(provider.create(&CreateSession::new()))
        .await
        .unwrap()
        .id
}

/// All that a session can do, in each form in which the service answers.
#[tokio::test]
async fn a_session_lives_and_ends() {
    for (links, data_as_text) in [(false, false), (false, true), (true, false), (true, true)] {
        let config = Config {
            links,
            data_as_text,
            ..Config::default()
        };
        let handle = local(config).await;
        soon(a_life(&handle, links)).await;
        let stopped = soon(handle.stop()).await;
        assert_eq!((stopped.deleted, stopped.left), (0, 0));
    }
}

async fn a_life(handle: &Handle, links: bool) {
    let provider = builder(handle).build().unwrap();
    let request = CreateSession::new()
        .image("code_latest")
        .label("a", "b \u{e9}");
    let info = provider.create(&request).await.unwrap();
    let id = info.id;
    assert_eq!(info.status, SessionStatus::Running);
    assert!(!info.request_id.is_empty());

    let result = provider
        .run(&id, &"echo out; echo err >&2; exit 3".into())
        .await
        .unwrap();
    assert!(!result.success);
    assert_eq!(result.exit_code, Some(3));
    assert_eq!(
        (result.stdout_text(), result.stderr_text()),
        ("out\n".into(), "err\n".into())
    );
    assert_eq!(result.request_id.starts_with("link-"), links);
    let command = Command::new("echo $A")
        .env("A", "\u{1f600}\"")
        .time_limit(5000 * MS);
    let result = provider.run(&id, &command).await.unwrap();
    assert!(result.success && result.error_message.is_empty());
    assert_eq!(result.stdout_text(), "\u{1f600}\"\n");
    let result = provider
        .run_code(&id, &Code::python("print(6*7)"))
        .await
        .unwrap();
    assert!(result.success, "{result:?}");
    assert_eq!(result.stdout_text(), "42\n");
    let result = provider.run_code(&id, &Code::python("1/0")).await.unwrap();
    assert!(
        !result.success && result.error_message.contains("ZeroDivision"),
        "{result:?}"
    );

    files(&provider, &id).await;
    labels(&provider, &id).await;

    let info = provider.get(&id).await.unwrap();
    assert_eq!((&info.id, info.status), (&id, SessionStatus::Running));
    assert_eq!(
        provider.pause(&id).await.unwrap().status,
        SessionStatus::Paused
    );
    assert_eq!(provider.status(&id).await.unwrap(), SessionStatus::Paused);
    assert_eq!(
        provider.resume(&id).await.unwrap().status,
        SessionStatus::Running
    );
    assert!(
        provider
            .tools(&id)
            .await
            .unwrap()
            .iter()
            .any(|tool| tool.name == "shell")
    );
    assert!(
        !provider
            .get_link(&id, None, None)
            .await
            .unwrap()
            .url
            .is_empty()
    );

    assert!(!provider.delete(&id).await.unwrap().already_gone);
    assert!(provider.delete(&id).await.unwrap().already_gone);
    let error = provider.get(&id).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (SessionErrorKind::NotFound, Effect::None)
    );
    let error = provider.run(&id, &"ls".into()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (SessionErrorKind::NotFound, Effect::None)
    );
}

async fn files(provider: &AgentBay, id: &SessionId) {
    let text = "a\u{e9}\u{20ac}\u{1f600}\"\n".repeat(12_000);
    let written = provider.write_file(id, "f.txt", text.as_bytes(), WriteMode::Overwrite);
    assert_eq!(written.await.unwrap().bytes, text.len() as u64);
    let more = provider.write_file(id, "f.txt", b"end", WriteMode::Append);
    assert_eq!(more.await.unwrap().bytes, 3);
    let read = provider
        .read_file(id, "f.txt", FileRange::whole())
        .await
        .unwrap();
    assert!(read == [text.as_bytes(), b"end"].concat());
    let read = provider
        .read_file(id, "f.txt", FileRange::new(2, 3))
        .await
        .unwrap();
    assert_eq!(read, text.as_bytes()[2..5]);
    // Bytes that are no text come back as they are.
    let made = provider
        .run(id, &r"printf '\377\000x' > raw; mkdir d".into())
        .await
        .unwrap();
    assert!(made.success, "{made:?}");
    let read = provider
        .read_file(id, "raw", FileRange::whole())
        .await
        .unwrap();
    assert_eq!(read, b"\xff\0x");
    let entries = provider.list_directory(id, ".").await.unwrap();
    assert!(
        entries.contains(&Entry::new("d", EntryKind::Directory)),
        "{entries:?}"
    );
    assert!(
        entries.contains(&Entry::new("f.txt", EntryKind::File)),
        "{entries:?}"
    );
    let error = provider
        .read_file(id, "none", FileRange::whole())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::NotFound, "{error}");
    let error = provider
        .read_file(id, "d", FileRange::whole())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Invalid, "{error}");
}

async fn labels(provider: &AgentBay, id: &SessionId) {
    let label = |value: &str| BTreeMap::from([("a".to_owned(), value.to_owned())]);
    assert_eq!(provider.labels(id).await.unwrap(), label("b \u{e9}"));
    provider.set_labels(id, &label("c")).await.unwrap();
    assert_eq!(provider.labels(id).await.unwrap(), label("c"));
    let found = provider
        .list(&ListSessions::with_labels(label("c")))
        .await
        .unwrap();
    assert_eq!(found.sessions.len(), 1);
    let found = provider
        .list(&ListSessions::with_labels(label("b")))
        .await
        .unwrap();
    assert!(found.sessions.is_empty());
}

#[tokio::test]
async fn pages_of_real_sessions_follow_each_other() {
    let handle = local(Config::default()).await;
    let provider = builder(&handle).build().unwrap();
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(made(&provider).await);
    }
    let mut request = ListSessions::all().page_size(5);
    let mut found = Vec::new();
    loop {
        let page = soon(provider.list(&request)).await.unwrap();
        assert_eq!(page.total, Some(12));
        found.extend(page.sessions.into_iter().map(|info| info.id));
        match page.next {
            Some(next) => request = request.after(next),
            None => break,
        }
    }
    ids.sort();
    found.sort();
    assert_eq!(found, ids);
    assert_eq!(soon(handle.stop()).await.left, 0);
}

/// What an error says of a creation is what the server knows of it.
#[tokio::test]
async fn the_effect_of_a_failed_creation_is_the_truth() {
    let rows = [
        (Kind::Throttle, SessionErrorKind::Throttled, Effect::None, 0),
        (
            Kind::Unavailable,
            SessionErrorKind::Unavailable,
            Effect::Unknown,
            0,
        ),
        (
            Kind::LostRequest,
            SessionErrorKind::Connection,
            Effect::Unknown,
            0,
        ),
        (
            Kind::LostReply,
            SessionErrorKind::Connection,
            Effect::Unknown,
            1,
        ),
        (
            Kind::SlowReply,
            SessionErrorKind::Connection,
            Effect::Unknown,
            1,
        ),
        (
            Kind::TruncatedReply,
            SessionErrorKind::Protocol,
            Effect::Unknown,
            1,
        ),
        (
            Kind::CutReply,
            SessionErrorKind::Connection,
            Effect::Unknown,
            1,
        ),
    ];
    for (fault, kind, effect, sessions) in rows {
        let handle = local(Config::default()).await;
        let rule = Rule::new(fault).next(1).delay_ms(9000).retry_after_ms(250);
        handle.set_faults(vec![rule]).unwrap();
        let provider = builder(&handle).request_limit(6000 * MS).build().unwrap();
        let error = soon(provider.create(&CreateSession::new()))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (kind, effect),
            "{fault:?}: {error}"
        );
        if fault == Kind::Throttle {
            assert_eq!(error.retry_after(), Some(250 * MS));
        }
        assert_eq!(handle.provider().len(), sessions, "{fault:?}");
        // The next call is none the worse for it.
        made(&provider).await;
        assert_eq!(soon(handle.stop()).await.left, 0);
    }
}

#[tokio::test]
async fn a_polite_refusal_is_an_error_after_which_nothing_is_there() {
    let handle = local(Config::default()).await;
    handle.set_faults(vec![Rule::new(Kind::Refuse)]).unwrap();
    let provider = builder(&handle).build().unwrap();
    let error = soon(provider.create(&CreateSession::new()))
        .await
        .unwrap_err();
    assert!(!error.message().is_empty());
    assert_eq!(handle.provider().len(), 0);
    let error = soon(provider.get(&SessionId::new("s"))).await.unwrap_err();
    assert!(!error.message().is_empty());
}

#[tokio::test]
async fn a_slow_deletion_is_waited_for() {
    let handle = local(Config::default()).await;
    handle
        .set_faults(vec![Rule::new(Kind::SlowDelete).delay_ms(300)])
        .unwrap();
    let provider = builder(&handle).build().unwrap();
    let id = made(&provider).await;
    let begun = std::time::Instant::now();
    soon(provider.delete(&id)).await.unwrap();
    assert!(begun.elapsed() >= 300 * MS);
    assert_eq!(handle.provider().len(), 0);
}

#[tokio::test]
async fn a_file_of_which_a_piece_is_lost_is_partly_there() {
    let handle = local(Config::default()).await;
    let provider = builder(&handle).build().unwrap();
    let id = made(&provider).await;
    let rule = Rule::new(Kind::LostRequest)
        .on("write_file")
        .skip(2)
        .next(1);
    handle.set_faults(vec![rule]).unwrap();
    let content = "x".repeat(200 * 1024);
    let write = provider.write_file(&id, "f", content.as_bytes(), WriteMode::Overwrite);
    assert_eq!(soon(write).await.unwrap_err().effect(), Effect::Partial);
    let read = soon(provider.read_file(&id, "f", FileRange::whole()))
        .await
        .unwrap();
    assert_eq!(read.len(), 2 * 51 * 1024);
    assert_eq!(soon(handle.stop()).await.left, 0);
}

#[tokio::test]
async fn a_wrong_key_is_denied_and_not_shown() {
    let handle = local(Config::default()).await;
    let provider = builder(&handle)
        .api_key("akm-wrong-SECRET")
        .build()
        .unwrap();
    let error = soon(provider.create(&CreateSession::new()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (SessionErrorKind::Denied, Effect::None)
    );
    assert!(!format!("{error} {error:?}").contains("SECRET"));
}

/// How many connections too many sixteen calls in a row need, and then four at once.
async fn too_many_connections() -> u64 {
    let handle = local(Config::default()).await;
    let provider = builder(&handle).build().unwrap();
    let id = made(&provider).await;
    for _ in 0..15 {
        soon(provider.run(&id, &"true".into())).await.unwrap();
    }
    let in_a_row = handle.stats()["accepted"].as_u64().unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (provider, id) = (provider.clone(), id.clone());
        tasks.spawn(async move {
            for _ in 0..4 {
                soon(provider.run(&id, &"true".into())).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let in_all = handle.stats()["accepted"].as_u64().unwrap();
    assert_eq!(soon(handle.stop()).await.left, 0);
    (in_a_row - 1).max(in_all.saturating_sub(4))
}

/// A machine that does not come to a task within 100 ms opens one more: the best of three.
#[tokio::test]
async fn sixteen_calls_need_one_connection_and_four_at_once_four() {
    let mut tries = Vec::new();
    while tries.len() < 3 && !tries.contains(&0) {
        tries.push(too_many_connections().await);
    }
    assert!(tries.contains(&0), "{tries:?}");
}

//! The client around the provider, at a local server that fails one time of five.

use std::time::Duration;

use mainstay::circuit_breaker::CircuitBreaker;
use mainstay::retry::{Backoff, RetryBudget};
use mainstay::session::{
    AgentBay, Command, CreateSession, FileRange, Session, SessionClient, WriteMode,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::agentbay_peer::soon;
use crate::agentbay_server::{Config, DEFAULT_KEY, Handle, Kind, Rule, serve};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

async fn local(config: Config) -> Handle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve(listener, config).unwrap()
}

/// A client that tries often, and whose pauses are short.
fn client(handle: &Handle) -> SessionClient<AgentBay> {
    let provider = AgentBay::builder()
        .api_key(DEFAULT_KEY)
        .endpoint(handle.url())
        .request_limit(20 * SECOND)
        .delete_poll(20 * SECOND, 10 * MS)
        .build()
        .unwrap();
    SessionClient::builder(provider)
        .no_create_rate()
        .max_attempts(20)
        .retry_budget(RetryBudget::new(1.0, 10_000).unwrap())
        .backoff(Backoff::constant(2 * MS))
        .reaper_backoff(Backoff::constant(5 * MS))
        .reaper_attempts(1000)
        .circuit_breaker(
            CircuitBreaker::builder()
                .consecutive_failures(1_000_000)
                .no_failure_rate(),
        )
        .build()
        .unwrap()
}

/// Each call goes wrong one time of five: before it has happened, after it, or half.
fn one_of_five() -> Vec<Rule> {
    let rare = |kind| {
        Rule::new(kind)
            .probability(0.05)
            .retry_after_ms(5)
            .delay_ms(30)
    };
    vec![
        Rule::new(Kind::SlowDelete).delay_ms(30).probability(0.5),
        rare(Kind::Throttle),
        rare(Kind::Unavailable),
        rare(Kind::LostReply),
        rare(Kind::CutReply),
    ]
}

/// All that a session does. What may be repeated succeeds; of the rest the outcome is known.
async fn a_life(session: &Session<AgentBay>, n: usize) {
    let line = format!("echo {n}");
    for _ in 0..3 {
        let command = Command::new(line.clone()).repeatable();
        let result = session.run(command).await.unwrap();
        assert_eq!(result.stdout_text(), format!("{n}\n"));
    }
    let content = format!("{n} \u{1f600}").repeat(20);
    while session
        .write_file("f", content.as_bytes(), WriteMode::Overwrite)
        .await
        .is_err()
    {}
    let read = session.read_file("f", FileRange::whole()).await.unwrap();
    assert_eq!(read, content.as_bytes());
    let labels = [("n".to_owned(), n.to_string())].into();
    session.set_labels(&labels).await.unwrap();
    assert_eq!(session.labels().await.unwrap()["n"], n.to_string());
    session.status().await.unwrap();
}

async fn lives(handle: &Handle) {
    let client = client(handle);
    let mut tasks = JoinSet::new();
    for n in 0..12 {
        let client = client.clone();
        tasks.spawn(async move {
            let session = client.create(CreateSession::new()).await.unwrap();
            a_life(&session, n).await;
            match n % 3 {
                0 => drop(session.close().await),
                // The reaper's.
                1 => drop(session),
                // A creation that nobody waits for, as well.
                _ => {
                    let wait = Duration::from_millis(n as u64);
                    let creation = client.create(CreateSession::new());
                    let _ = tokio::time::timeout(wait, creation).await;
                }
            }
        });
    }
    tasks.join_all().await;
    let report = client.close_within(25 * SECOND).await;
    assert!(report.is_drained, "{report:?}");
}

#[tokio::test]
async fn a_whole_life_with_faults_leaves_no_session() {
    let handle = local(Config::default()).await;
    handle.set_faults(one_of_five()).unwrap();
    soon(lives(&handle)).await;
    let stats = reqwest::get(format!("{}/stats", handle.url()));
    let stats = stats.await.unwrap().text().await.unwrap();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    let struck = stats["faults"].as_object().unwrap();
    assert!(struck.len() >= 4, "{stats}");
    assert_eq!(handle.provider().len(), 0);
    let stopped = soon(handle.stop()).await;
    assert_eq!((stopped.deleted, stopped.left), (0, 0));
}

/// Trap 51.
#[tokio::test]
async fn a_creation_whose_reply_is_lost_makes_one_session() {
    let handle = local(Config::default()).await;
    let lost = Rule::new(Kind::LostReply).on("CreateMcpSession").next(1);
    let page = Rule::new(Kind::Unavailable).on("ListSession").next(1);
    handle.set_faults(vec![lost, page]).unwrap();
    let client = client(&handle);
    let session = soon(client.create(CreateSession::new())).await.unwrap();
    assert_eq!(handle.provider().len(), 1);
    assert_eq!(handle.stats()["calls"]["CreateMcpSession"], 1);
    soon(session.close()).await.unwrap();
    assert_eq!(handle.provider().len(), 0);
    assert_eq!(soon(handle.stop()).await.left, 0);
}

/// Trap 51.
#[tokio::test]
async fn a_command_whose_reply_is_lost_is_not_run_again() {
    let handle = local(Config::default()).await;
    let client = client(&handle);
    let session = soon(client.create(CreateSession::new())).await.unwrap();
    let lost = Rule::new(Kind::LostReply).on("shell").next(1);
    handle.set_faults(vec![lost]).unwrap();
    let once = session.run("echo x >> mark").await;
    assert!(once.is_err());
    let mark = session.read_file("mark", FileRange::whole()).await.unwrap();
    assert_eq!(mark, b"x\n");
    soon(session.close()).await.unwrap();
    assert_eq!(soon(handle.stop()).await.left, 0);
}

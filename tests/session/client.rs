//! The client around a scripted provider: creations, and what is repeated.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use mainstay::circuit_breaker::{CircuitState, Window};
use mainstay::retry::Backoff;
use mainstay::session::{
    Code, Command, CreateSession, FileRange, ListSessions, OperationKind, Session, SessionClient,
    SessionClientBuilder, SessionErrorKind as Kind, SessionId, SessionStatus, WriteMode,
};
use mainstay::{CircuitBreaker, Error, Refusal};

use crate::scripted::{Fault, Lists, Scripted, error, not_done};

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A client whose pauses are short.
pub(crate) fn quick(provider: &Scripted) -> SessionClientBuilder<Scripted> {
    let millisecond = Duration::from_millis(1);
    SessionClient::builder(provider.clone())
        .no_create_rate()
        .backoff(Backoff::constant(millisecond))
        .reaper_backoff(Backoff::constant(millisecond))
        .reaper_attempts(1000)
        .circuit_breaker(
            CircuitBreaker::builder()
                .consecutive_failures(1_000_000)
                .no_failure_rate(),
        )
}

pub(crate) fn client(provider: &Scripted) -> SessionClient<Scripted> {
    quick(provider).build().unwrap()
}

pub(crate) async fn created(client: &SessionClient<Scripted>) -> Session<Scripted> {
    client.create(CreateSession::new()).await.unwrap()
}

/// Nothing is left anywhere.
pub(crate) async fn ends(client: &SessionClient<Scripted>) {
    let report = client.close_within(SOON).await;
    assert!(
        report.is_drained,
        "{report:?} {:#?}",
        client.provider().world()
    );
    client.provider().until_empty().await;
    assert_eq!(client.snapshot().in_flight(), 0);
    assert_eq!(client.creating(), 0);
}

#[tokio::test]
async fn a_session_does_all_that_its_provider_can() {
    let provider = Scripted::new();
    let client = client(&provider);
    let request = CreateSession::new().label("for", "test");
    let session = client.create(request).await.unwrap();
    assert_eq!(session.info().id, *session.id());
    assert_eq!(session.status().await.unwrap(), SessionStatus::Running);
    assert_eq!(session.run("echo").await.unwrap().stdout_text(), "echo");
    let code = session.run_code(Code::python("1")).await.unwrap();
    assert_eq!(code.results, ["1"]);
    session
        .write_file("a", b"bc", WriteMode::Overwrite)
        .await
        .unwrap();
    session
        .write_file("a", b"d", WriteMode::Append)
        .await
        .unwrap();
    assert_eq!(
        session.read_file("a", FileRange::whole()).await.unwrap(),
        b"bcd"
    );
    assert_eq!(session.list_directory(".").await.unwrap()[0].name, "a");
    let labels = session.labels().await.unwrap();
    assert_eq!(labels["for"], "test");
    session
        .set_labels(&[("x".into(), "y".into())].into())
        .await
        .unwrap();
    assert_eq!(session.labels().await.unwrap().len(), 1);
    assert_eq!(client.get(session.id()).await.unwrap().id, *session.id());
    assert!(session.is_intact());
    assert_eq!(client.snapshot().held, 1);
    assert!(!session.close().await.unwrap().already_gone);
    assert_eq!(provider.alive(), 0);
    ends(&client).await;
}

/// Polls once, if it has not ended.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_ready())).await
}

/// Trap 17.
#[tokio::test]
async fn a_creation_that_is_dropped_at_any_poll_leaves_no_session() {
    let faults = [
        vec![],
        vec![Fault::LoseReply(error(Kind::Connection))],
        vec![Fault::Fail(not_done(Kind::Unavailable))],
        vec![Fault::Fail(error(Kind::Connection))],
    ];
    for script in faults {
        let mut ended = 0;
        for turns in 0..60 {
            let provider = Scripted::new();
            provider.script("create", script.clone());
            let client = client(&provider);
            let mut creation = Box::pin(client.create(CreateSession::new()));
            let mut done = false;
            for _ in 0..turns {
                done = poll_once(&mut creation).await;
                if done {
                    break;
                }
                tokio::task::yield_now().await;
            }
            ended += usize::from(done);
            drop(creation);
            ends(&client).await;
            let made = provider.world().created;
            assert!(made <= 1, "{made}");
            assert_eq!(provider.world().deleted, made);
        }
        assert!(ended < 60, "some were cut off");
    }
}

/// Trap 17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_that_are_dropped_at_random_times_leave_no_session() {
    let provider = Scripted::new();
    provider.unreliable(200, Duration::from_millis(4));
    let client = client(&provider);
    let creations = (0..300).map(|_| {
        let client = client.clone();
        async move {
            let patience = Duration::from_micros(fastrand::u64(..15_000));
            let creation = client.create(CreateSession::new());
            if let Ok(Ok(session)) = tokio::time::timeout(patience, creation).await {
                let _maybe = tokio::time::timeout(patience, session.run("true")).await;
            }
            Ok::<_, std::convert::Infallible>(())
        }
    });
    assert!(
        mainstay::gather(creations)
            .limit(50)
            .spawned()
            .await
            .is_complete()
    );
    ends(&client).await;
    assert!(provider.world().created > 50);
}

/// Trap 51.
#[tokio::test]
async fn a_session_whose_reply_was_lost_is_adopted() {
    for kind in [
        Kind::Connection,
        Kind::Protocol,
        Kind::Unavailable,
        Kind::Local,
    ] {
        let provider = Scripted::new();
        provider.script("create", [Fault::LoseReply(error(kind))]);
        let client = client(&provider);
        let session = created(&client).await;
        assert_eq!(provider.calls("create"), 1, "{kind}");
        assert_eq!(session.run("a").await.unwrap().stdout, b"a");
        ends_with(&client, session).await;
        assert_eq!(provider.world().created, 1);
    }
}

async fn ends_with(client: &SessionClient<Scripted>, session: Session<Scripted>) {
    drop(session);
    ends(client).await;
}

#[tokio::test]
async fn without_a_look_nothing_is_created_again() {
    let provider = Scripted::new();
    provider.script("create", [Fault::LoseReply(error(Kind::Connection))]);
    provider.script("list", vec![Fault::Fail(error(Kind::Unavailable)); 7]);
    let client = client(&provider);
    let failed = client.create(CreateSession::new()).await.unwrap_err();
    assert_eq!(failed.last().unwrap().kind(), Kind::Connection);
    assert_eq!((provider.calls("create"), provider.alive()), (1, 1));
    // The reaper goes on looking, and ends it.
    provider.until_empty().await;
    ends(&client).await;
    assert_eq!(client.snapshot().found, 1);
}

#[tokio::test]
async fn a_second_session_that_shows_up_late_is_ended() {
    let provider = Scripted::new();
    provider.list_lag(1);
    provider.script("create", [Fault::LoseReply(error(Kind::Connection))]);
    let client = client(&provider);
    let session = created(&client).await;
    assert_eq!(
        provider.world().created,
        2,
        "the list did not show the first one"
    );
    provider.until(|world| world.alive.len() == 1).await;
    assert_eq!(session.status().await.unwrap(), SessionStatus::Running);
    assert_eq!(client.snapshot().found, 1);
    ends_with(&client, session).await;
}

#[tokio::test]
async fn a_list_that_ignores_labels_costs_nobody_a_session() {
    let provider = Scripted::new();
    let (theirs, ours) = (client(&provider), client(&provider));
    let session = created(&theirs).await;
    provider.lists(Lists::All);
    provider.script("create", [Fault::LoseReply(error(Kind::Connection))]);
    let adopted = created(&ours).await;
    assert_ne!(adopted.id(), session.id(), "it is someone else's");
    // One that has not come to be is searched for, by the client and by the reaper.
    provider.script("create", vec![Fault::Fail(error(Kind::Connection)); 3]);
    assert!(ours.create(CreateSession::new()).await.is_err());
    drop(adopted);
    assert!(ours.close_within(SOON).await.is_drained);
    assert_eq!(session.status().await.unwrap(), SessionStatus::Running);
    ends_with(&theirs, session).await;
}

#[tokio::test]
async fn a_session_on_a_later_page_is_found() {
    let provider = Scripted::new();
    let client = client(&provider);
    let mut others = Vec::new();
    for _ in 0..60 {
        others.push(created(&client).await);
    }
    provider.lists(Lists::PageByPage);
    provider.script("create", [Fault::LoseReply(error(Kind::Connection))]);
    others.push(created(&client).await);
    assert_eq!(provider.world().created, 61);
    drop(others);
    ends(&client).await;
}

/// Trap 18.
#[tokio::test]
async fn what_a_late_creation_brings_is_ended_and_its_successor_stays() {
    let provider = Scripted::new();
    provider.script("create", [Fault::Slow(Duration::from_millis(100))]);
    let client = quick(&provider)
        .time_limit(OperationKind::Create, Duration::from_millis(20))
        .build()
        .unwrap();
    let session = created(&client).await;
    provider
        .until(|world| world.created == 2 && world.alive.len() == 1)
        .await;
    assert!(provider.world().alive.contains_key(session.id()));
    ends_with(&client, session).await;
}

#[tokio::test]
async fn a_creation_without_an_answer_holds_up_nothing() {
    let provider = Scripted::new();
    provider.always("create", Fault::Hang);
    let client = quick(&provider)
        .time_limit(OperationKind::Create, Duration::from_millis(5))
        .late_limit(Duration::from_millis(20))
        .build()
        .unwrap();
    let late = client.create(CreateSession::new()).await.unwrap_err();
    assert!(late.is_timed_out(), "{late}");
    assert_eq!(late.attempts(), 3);
    ends(&client).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_not_repeated() {
    for kind in [Kind::Denied, Kind::Invalid, Kind::Unsupported] {
        let provider = Scripted::new();
        provider.always("create", Fault::Fail(error(kind)));
        let client = client(&provider);
        let failed = client.create(CreateSession::new()).await.unwrap_err();
        assert_eq!(failed.attempts(), 1);
        assert_eq!(provider.calls("create"), 1);
        ends(&client).await;
    }
}

#[tokio::test]
async fn each_attempt_is_counted() {
    let provider = Scripted::new();
    provider.always("create", Fault::Fail(not_done(Kind::Unavailable)));
    let client = client(&provider);
    let failed = client.create(CreateSession::new()).await.unwrap_err();
    assert_eq!((failed.attempts(), provider.calls("create")), (3, 3));
    assert_eq!(provider.calls("list"), 0, "nothing was in doubt");
    ends(&client).await;
}

#[tokio::test]
async fn a_panic_in_a_creation_is_an_outcome() {
    let provider = Scripted::new();
    provider.script("create", [Fault::Panic]);
    let client = client(&provider);
    let failed = client.create(CreateSession::new()).await.unwrap_err();
    assert!(failed.is_panicked(), "{failed:?}");
    assert_eq!(failed.to_string(), "panicked: scripted panic in create");
    let session = created(&client).await;
    ends_with(&client, session).await;
}

#[tokio::test]
async fn when_the_provider_is_down_creations_are_refused_with_the_time_to_come_back() {
    let provider = Scripted::new();
    provider.always("create", Fault::Fail(not_done(Kind::Unavailable)));
    let breaker = CircuitBreaker::builder()
        .window(Window::calls(10))
        .open_for(Duration::from_secs(7));
    let client = quick(&provider).circuit_breaker(breaker).build().unwrap();
    for _ in 0..4 {
        assert!(client.create(CreateSession::new()).await.is_err());
    }
    assert_eq!(client.breaker().state(), CircuitState::Open);
    let calls = provider.calls("create");
    let refused = client.create(CreateSession::new()).await.unwrap_err();
    let Some(Refusal::CircuitOpen {
        retry_after: Some(span),
        ..
    }) = refused.refusal()
    else {
        panic!("{refused:?}")
    };
    assert!(span > Duration::from_secs(1) && span <= Duration::from_secs(7));
    assert_eq!(provider.calls("create"), calls);
    // The breaker is that of all kinds.
    let get = client.get(&SessionId::new("x")).await.unwrap_err();
    assert!(matches!(get.refusal(), Some(Refusal::CircuitOpen { .. })));
    ends(&client).await;
}

#[tokio::test]
async fn neither_a_missing_session_nor_a_throttled_call_opens_the_breaker() {
    let provider = Scripted::new();
    provider.always("status", Fault::Fail(error(Kind::Throttled)));
    let breaker = CircuitBreaker::builder().window(Window::calls(5));
    let client = quick(&provider).circuit_breaker(breaker).build().unwrap();
    for _ in 0..20 {
        let missing = client.get(&SessionId::new("x")).await.unwrap_err();
        assert_eq!(missing.last().unwrap().kind(), Kind::NotFound);
        let throttled = client.status(&SessionId::new("x")).await.unwrap_err();
        assert_eq!(throttled.last().unwrap().kind(), Kind::Throttled);
    }
    assert_eq!(client.breaker().state(), CircuitState::Closed);
    ends(&client).await;
}

#[tokio::test]
async fn creations_are_limited() {
    let provider = Scripted::new();
    let limiter = mainstay::RateLimiter::per_second(1)
        .burst(2)
        .max_wait(Duration::ZERO);
    let client = quick(&provider).create_rate(limiter).build().unwrap();
    let (one, two) = (created(&client).await, created(&client).await);
    let refused = client.create(CreateSession::new()).await.unwrap_err();
    assert!(matches!(
        refused.refusal(),
        Some(Refusal::RateLimited { .. })
    ));
    assert_eq!(
        two.status().await.unwrap(),
        SessionStatus::Running,
        "others are not"
    );
    drop(one);
    ends_with(&client, two).await;
}

/// Trap 51.
#[tokio::test]
async fn a_command_is_repeated_only_where_that_does_no_harm() {
    let provider = Scripted::new();
    let client = client(&provider);
    let session = created(&client).await;
    let ran = |provider: &Scripted| std::mem::take(&mut provider.world().lines).len();

    provider.script("run", [Fault::Fail(not_done(Kind::Throttled))]);
    session.run("a").await.unwrap();
    assert_eq!(ran(&provider), 1, "it had not happened");
    assert!(session.is_intact());

    provider.script("run", [Fault::LoseReply(error(Kind::Connection))]);
    let failed = session.run("b").await.unwrap_err();
    assert_eq!((failed.attempts(), ran(&provider)), (1, 1));
    assert!(!session.is_intact(), "nobody knows whether it runs still");

    provider.script("run", [Fault::LoseReply(error(Kind::Connection))]);
    session.run(Command::new("c").repeatable()).await.unwrap();
    assert_eq!(ran(&provider), 2, "it was said that it may");

    provider.script("write", [Fault::LoseReply(error(Kind::Connection))]);
    let half = session
        .write_file("f", b"x", WriteMode::Append)
        .await
        .unwrap_err();
    assert_eq!(half.attempts(), 1);
    provider.script("write", [Fault::Fail(not_done(Kind::Unavailable))]);
    session
        .write_file("f", b"y", WriteMode::Append)
        .await
        .unwrap();
    assert_eq!(
        session.read_file("f", FileRange::whole()).await.unwrap(),
        b"xy"
    );

    provider.script("read", [Fault::LoseReply(error(Kind::Connection))]);
    session.read_file("f", FileRange::whole()).await.unwrap();
    provider.script("status", [Fault::Fail(error(Kind::Protocol))]);
    session.status().await.unwrap();
    ends_with(&client, session).await;
}

#[tokio::test]
async fn a_list_goes_on_after_an_error_where_it_was() {
    let provider = Scripted::new();
    let client = quick(&provider).max_attempts(1).build().unwrap();
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(created(&client).await);
    }
    let mut list = client.list(ListSessions::all().page_size(2));
    assert_eq!(list.next().await.unwrap().unwrap().sessions.len(), 2);
    let again = list.position().unwrap().clone();
    provider.script("list", [Fault::Fail(error(Kind::Unavailable))]);
    assert!(list.next().await.unwrap().is_err());
    assert_eq!(list.position(), Some(&again));
    {
        let mut cut = pin!(list.next());
        assert!(!poll_once(&mut cut).await);
    }
    assert_eq!(list.next().await.unwrap().unwrap().sessions.len(), 2);
    assert_eq!(list.next().await.unwrap().unwrap().sessions.len(), 1);
    assert!(list.next().await.is_none() && list.position().is_none());
    assert_eq!(
        client.list(again).collect(usize::MAX).await.unwrap().len(),
        3
    );
    drop(sessions);
    ends(&client).await;
}

#[tokio::test]
async fn a_session_is_taken_over_once_and_given_away() {
    let provider = Scripted::new();
    let client = client(&provider);
    let id = created(&client).await.detach();
    assert_eq!(client.snapshot().in_flight(), 0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(provider.alive(), 1, "it lives on");
    let session = client.attach(&id).await.unwrap();
    let twice = client.attach(&id).await.unwrap_err();
    assert_eq!(twice.last().unwrap().kind(), Kind::Invalid);
    ends_with(&client, session).await;
    assert!(matches!(
        client.attach(&id).await.unwrap_err(),
        Error::Refused {
            reason: Refusal::ShutDown,
            ..
        }
    ));
}

#[test]
fn settings_are_checked() {
    let build = |set: fn(SessionClientBuilder<Scripted>) -> SessionClientBuilder<Scripted>| {
        set(SessionClient::builder(Scripted::new()))
            .build()
            .unwrap_err()
            .field()
    };
    assert_eq!(build(|b| b.max_attempts(0)), "max_attempts");
    assert_eq!(build(|b| b.max_elapsed(Duration::ZERO)), "max_elapsed");
    assert_eq!(build(|b| b.reaper_concurrency(0)), "reaper_concurrency");
    assert_eq!(build(|b| b.reaper_attempts(0)), "reaper_attempts");
    assert_eq!(build(|b| b.search_looks(0)), "search_looks");
    assert_eq!(
        build(|b| b.time_limit(OperationKind::Get, Duration::ZERO)),
        "time_limit"
    );
    let breaker = |b: SessionClientBuilder<Scripted>| {
        b.circuit_breaker(CircuitBreaker::builder().half_open_probes(0))
    };
    assert_eq!(build(breaker), "half_open_probes");
}

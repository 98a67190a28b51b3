//! Each setting by its effect, and how the client's things look in a log.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use mainstay::retry::Backoff;
use mainstay::session::{
    Code, CreateSession, ListSessions, SessionClient, SessionErrorKind as Kind, SessionPool,
};
use mainstay::{Bulkhead, Refusal};

use crate::client::{SOON, client, created, ends, quick};
use crate::scripted::{Fault, Lists, Scripted, error, not_done};

#[track_caller]
fn shows(thing: &impl Debug, name: &str, parts: &[&str]) {
    let text = format!("{thing:?}");
    assert!(text.starts_with(name), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
async fn everything_has_a_form_that_says_where_it_stands() {
    let provider = Scripted::new();
    let builder = quick(&provider).max_attempts(7);
    shows(
        &builder,
        "SessionClientBuilder",
        &["scripted", "max_attempts: 7"],
    );
    let client = builder.build().unwrap();
    let session = created(&client).await;
    shows(&client, "SessionClient", &["scripted", "sessions:"]);
    let id = format!("{:?}", session.id());
    shows(&session, "Session", &[&id, "is_intact: true"]);
    let monitor = session.monitor(Duration::from_millis(1));
    shows(&monitor, "Monitor", &[&id, "latest: None"]);
    shows(
        &client.list(ListSessions::all()),
        "SessionList",
        &["position: Some"],
    );
    drop(monitor);

    let request = CreateSession::new().label("for", "forms");
    let builder = SessionPool::builder(&client).request(request);
    shows(&builder, "SessionPoolBuilder", &["forms"]);
    let pool = builder.max_size(1).build().unwrap();
    shows(&pool, "SessionPool", &["in_use: 0"]);
    let many = pool.run_many(["a"]).as_finished();
    shows(&many, "AsFinished", &["pulled: 0"]);
    drop((many, session));
    assert!(pool.close_within(SOON).await.is_drained);
    ends(&client).await;
}

/// A provider that wants more patience than was allowed is not asked again.
#[tokio::test]
async fn a_longer_pause_than_is_allowed_ends_the_attempts() {
    for (allowed, calls) in [(Duration::from_millis(1), 1), (SOON, 2)] {
        let provider = Scripted::new();
        let builder = quick(&provider).max_attempts(3).max_retry_after(allowed);
        let client = builder.build().unwrap();
        let session = created(&client).await;
        let pause = Duration::from_millis(5);
        let throttled = not_done(Kind::Throttled).with_retry_after(pause);
        provider.script("status", [Fault::Fail(throttled)]);
        let answer = session.status().await;
        assert_eq!(provider.calls("status"), calls);
        assert_eq!(answer.is_ok(), calls == 2, "{answer:?}");
        drop(session);
        ends(&client).await;
    }
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_its_bulkhead_lets_in() {
    let provider = Scripted::new();
    let one = Bulkhead::builder().max_concurrent(1).max_queue(0);
    let client = quick(&provider)
        .max_attempts(1)
        .bulkhead(one)
        .build()
        .unwrap();
    let session = created(&client).await;
    provider.script("status", [Fault::Slow(Duration::from_millis(50))]);
    let (first, second) = tokio::join!(session.status(), session.status());
    let (first, second) = (first.is_ok(), second.map_err(|error| error.refusal()));
    assert!(first);
    assert!(
        matches!(second, Err(Some(Refusal::BulkheadFull { .. }))),
        "{second:?}"
    );
    drop(session);
    ends(&client).await;
}

/// What is left behind where there is no runtime is ended in the one that was given.
#[test]
fn sessions_are_ended_in_the_runtime_that_was_given() {
    let provider = Scripted::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let builder = quick(&provider).runtime(runtime.handle().clone());
    let client = builder.build().unwrap();
    let here = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let session = here.block_on(created(&client));
    drop(here);
    drop(session);
    runtime.block_on(ends(&client));
    assert_eq!(provider.alive(), 0);
}

#[tokio::test]
async fn a_pool_keeps_as_many_as_it_was_told_and_creates_them_as_it_was_told() {
    let provider = Scripted::new();
    let client = client(&provider);
    let request = CreateSession::new().label("for", "tests");
    let pool = SessionPool::builder(&client)
        .request(request)
        .max_size(3)
        .min_idle(2)
        .build()
        .unwrap();
    let lent = pool.get().await.unwrap();
    provider.until(|world| world.alive.len() == 3).await;
    drop(lent);
    let labels = |labels: &mainstay::session::Labels| labels["for"] == "tests";
    assert!(
        provider
            .world()
            .alive
            .values()
            .all(|one| labels(&one.labels))
    );
    assert_eq!(pool.pool().snapshot().in_use, 0);
    assert_eq!(pool.client().snapshot().in_flight(), 3);
    pool.close();
    pool.drained().await;
    assert_eq!(provider.alive(), 0);
    ends(&client).await;
}

#[tokio::test]
async fn code_that_may_run_twice_is_repeated_and_other_code_is_not() {
    for (code, calls) in [(Code::python("1"), 1), (Code::python("1").repeatable(), 2)] {
        let provider = Scripted::new();
        let client = client(&provider);
        let session = created(&client).await;
        provider.script("code", [Fault::LoseReply(error(Kind::Connection))]);
        let answer = session.run_code(code).await;
        assert_eq!(provider.calls("code"), calls);
        assert_eq!(answer.is_ok(), calls == 2);
        drop(session);
        ends(&client).await;
    }
}

#[tokio::test]
async fn a_creation_that_was_refused_later_says_when_to_come_back() {
    let provider = Scripted::new();
    let client = SessionClient::builder(provider.clone())
        .no_create_rate()
        .max_attempts(1)
        .backoff(Backoff::none())
        .build()
        .unwrap();
    let pause = Duration::from_secs(7);
    let busy = not_done(Kind::Throttled).with_retry_after(pause);
    provider.script("create", [Fault::Fail(busy)]);
    let begun = Instant::now();
    let error = client.create(CreateSession::new()).await.unwrap_err();
    let last = error.last().unwrap();
    assert_eq!(last.retry_after(), Some(pause));
    assert_eq!(last.to_string(), "throttled: as scripted (try again in 7s)");
    assert!(begun.elapsed() < pause, "it was not waited for");
    ends(&client).await;
}

/// What is cut off says how far it came: a command that was under way may have run.
#[tokio::test]
async fn a_command_of_many_that_takes_too_long_is_cut_off() {
    let provider = Scripted::new();
    let client = client(&provider);
    let session = created(&client).await;
    provider.script("run", [Fault::Hang]);
    let limit = Duration::from_millis(20);
    let outcomes = session.run_many(["a"]).timeout(limit).await;
    let error = outcomes.into_result().unwrap_err().into_error();
    assert!(error.is_timed_out(), "{error}");
    assert_eq!(error.attempts(), 1);
    drop(session);
    ends(&client).await;
}

/// Who was given a list of strangers has not looked: it may not begin anew.
#[tokio::test]
async fn after_a_list_of_too_many_strangers_nothing_is_created_again() {
    let provider = Scripted::new();
    let (theirs, ours) = (client(&provider), client(&provider));
    let mut strangers = Vec::new();
    for _ in 0..60 {
        strangers.push(created(&theirs).await);
    }
    provider.lists(Lists::All);
    provider.script("create", [Fault::Fail(error(Kind::Connection))]);
    let failed = ours.create(CreateSession::new()).await.unwrap_err();
    assert_eq!(failed.last().unwrap().kind(), Kind::Connection);
    assert_eq!((provider.calls("create"), provider.alive()), (61, 60));
    provider.lists(Lists::ByLabel);
    assert!(ours.close_within(SOON).await.is_drained);
    drop(strangers);
    ends(&theirs).await;
}

//! The client on a clock that is paused: hints, limits and beats to the millisecond.

use std::time::Duration;

use mainstay::retry::{Backoff, Jitter};
use mainstay::session::{
    Command, CreateSession, OperationKind, SessionClient, SessionErrorKind as Kind, SessionStatus,
};
use tokio::time::Instant;

use crate::scripted::{Fault, Scripted, not_done};

const SECOND: Duration = Duration::from_secs(1);

fn client(provider: &Scripted) -> SessionClient<Scripted> {
    SessionClient::builder(provider.clone())
        .backoff(Backoff::constant(SECOND).jitter(Jitter::None))
        .reaper_backoff(Backoff::exponential(SECOND).jitter(Jitter::None))
        .build()
        .unwrap()
}

fn throttled(seconds: u64) -> Fault {
    let error = not_done(Kind::Throttled).with_retry_after(Duration::from_secs(seconds));
    Fault::Fail(error)
}

/// The time it took, in whole milliseconds.
async fn took<T>(work: impl Future<Output = T>) -> (T, u128) {
    let since = Instant::now();
    let output = work.await;
    (output, since.elapsed().as_millis())
}

fn about(millis: u128, seconds: u64) -> bool {
    let exact = u128::from(seconds) * 1000;
    (exact..exact + 20).contains(&millis)
}

#[tokio::test(start_paused = true)]
async fn hints_of_a_throttling_provider_are_obeyed() {
    let provider = Scripted::new();
    let client = client(&provider);
    provider.script("create", [throttled(17), throttled(4)]);
    let (session, millis) = took(client.create(CreateSession::new())).await;
    let session = session.unwrap();
    assert!(about(millis, 21), "{millis}");

    provider.script("run", [throttled(5)]);
    let (ran, millis) = took(session.run("x")).await;
    assert!(ran.is_ok() && about(millis, 5), "{millis}");

    provider.script("status", [throttled(61)]);
    let (failed, millis) = took(session.status()).await;
    assert!(
        failed.is_err() && about(millis, 0),
        "too long a hint is handed over"
    );
    provider.script("create", [throttled(61)]);
    let (failed, millis) = took(client.create(CreateSession::new())).await;
    assert!(failed.is_err() && about(millis, 0));

    provider.script("delete", [throttled(30)]);
    drop(session);
    let ((), millis) = took(provider.until_empty()).await;
    assert!(about(millis, 30), "{millis}");
}

#[tokio::test(start_paused = true)]
async fn a_command_has_its_own_limit_and_the_margin() {
    let provider = Scripted::new();
    let client = client(&provider);
    let session = client.create(CreateSession::new()).await.unwrap();
    provider.always("run", Fault::Hang);
    let (late, millis) = took(session.run(Command::new("x").time_limit(7 * SECOND))).await;
    assert!(
        late.unwrap_err().is_timed_out() && about(millis, 17),
        "{millis}"
    );
    let (late, millis) = took(session.run("x")).await;
    assert!(
        late.unwrap_err().is_timed_out() && about(millis, 300),
        "{millis}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_kind_has_its_limit() {
    let provider = Scripted::new();
    let client = SessionClient::builder(provider.clone())
        .max_attempts(1)
        .time_limit(OperationKind::Get, 3 * SECOND)
        .build()
        .unwrap();
    let session = client.create(CreateSession::new()).await.unwrap();
    for operation in ["get", "status", "labels", "read", "write"] {
        provider.always(operation, Fault::Hang);
    }
    let (late, millis) = took(client.get(session.id())).await;
    assert!(late.unwrap_err().is_timed_out() && about(millis, 3));
    let (late, millis) = took(session.status()).await;
    assert!(late.unwrap_err().is_timed_out() && about(millis, 10));
    let (late, millis) = took(session.labels()).await;
    assert!(late.unwrap_err().is_timed_out() && about(millis, 10));
    let whole = mainstay::session::FileRange::whole();
    let (late, millis) = took(session.read_file("f", whole)).await;
    assert!(late.unwrap_err().is_timed_out() && about(millis, 30));
    let mode = mainstay::session::WriteMode::Append;
    let (late, millis) = took(session.write_file("f", b"", mode)).await;
    assert!(late.unwrap_err().is_timed_out() && about(millis, 30));
}

#[tokio::test(start_paused = true)]
async fn the_reaper_backs_off_and_a_close_makes_it_try_at_once() {
    let provider = Scripted::new();
    let client = client(&provider);
    provider.script("delete", vec![Fault::Fail(not_done(Kind::Unavailable)); 3]);
    drop(client.create(CreateSession::new()).await.unwrap());
    let ((), millis) = took(provider.until_empty()).await;
    assert!(about(millis, 1 + 2 + 4), "{millis}");

    provider.script("delete", vec![Fault::Fail(not_done(Kind::Unavailable)); 3]);
    drop(client.create(CreateSession::new()).await.unwrap());
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(provider.alive(), 1, "it waits for the last try");
    let (report, millis) = took(client.close_within(60 * SECOND)).await;
    assert!(report.is_drained && about(millis, 0), "{millis} {report:?}");
}

/// Trap 62.
#[tokio::test(start_paused = true)]
async fn a_monitor_does_not_burst_after_a_stall() {
    let provider = Scripted::new();
    let client = client(&provider);
    let session = client.create(CreateSession::new()).await.unwrap();
    let mut monitor = session.monitor(SECOND);
    assert_eq!(
        monitor.next().await.unwrap().unwrap(),
        SessionStatus::Running
    );
    tokio::time::sleep(3600 * SECOND).await;
    assert_eq!(provider.calls("status"), 1, "nobody asked");
    let cut = tokio::time::timeout(SECOND / 2, monitor.next()).await;
    assert!(cut.is_err(), "nothing has changed");
    assert_eq!(provider.calls("status"), 2);
    provider.set_status(session.id(), SessionStatus::Paused);
    let (news, millis) = took(monitor.next()).await;
    assert_eq!(news.unwrap().unwrap(), SessionStatus::Paused);
    assert!(millis <= 520, "the next point of the grid: {millis}");
}

#[tokio::test(start_paused = true)]
async fn many_commands_inherit_the_deadline_of_their_gather() {
    let provider = Scripted::new();
    let client = client(&provider);
    let session = client.create(CreateSession::new()).await.unwrap();
    let pool = mainstay::session::SessionPool::builder(&client);
    let pool = pool.max_size(1).build().unwrap();
    assert!(pool.run("x").await.is_ok());
    provider.always("run", throttled(30));
    let here = session.run_many(["a", "b"]).deadline(10 * SECOND);
    let (here, millis) = took(here.into_future()).await;
    assert!(about(millis, 0), "no wait that ends too late: {millis}");
    let there = pool.run_many(["a", "b"]).deadline(10 * SECOND);
    let (there, millis) = took(there.into_future()).await;
    assert!(about(millis, 0), "{millis}");
    for (_, error) in here.failures().chain(there.failures()) {
        assert_eq!(error.last().unwrap().kind(), Kind::Throttled, "{error}");
    }
    assert_eq!(here.failures().count() + there.failures().count(), 4);
    assert!(session.is_intact());
}

/// Trap 52.
#[tokio::test(start_paused = true)]
async fn a_creation_whose_caller_has_gone_tries_no_more() {
    let provider = Scripted::new();
    let client = client(&provider);
    provider.always("create", throttled(10));
    let creation = client.create(CreateSession::new());
    assert!(tokio::time::timeout(SECOND, creation).await.is_err());
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(provider.calls("create"), 1);
    assert_eq!(client.creating(), 0);
}

/// Trap 52.
#[tokio::test(start_paused = true)]
async fn a_creation_whose_caller_has_gone_leaves_the_queue() {
    let provider = Scripted::new();
    let limiter = mainstay::RateLimiter::per_second(1).max_wait(60 * SECOND);
    let client = SessionClient::builder(provider.clone())
        .create_rate(limiter)
        .build()
        .unwrap();
    let first = client.create(CreateSession::new()).await.unwrap();
    for _ in 0..5 {
        let waits = client.create(CreateSession::new());
        assert!(tokio::time::timeout(SECOND / 10, waits).await.is_err());
    }
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(provider.calls("create"), 1, "nobody wants the others");
    assert_eq!(client.creating(), 0);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_the_queue_of_creations() {
    let provider = Scripted::new();
    let limiter = mainstay::RateLimiter::per_second(1).max_wait(60 * SECOND);
    let client = SessionClient::builder(provider.clone())
        .create_rate(limiter)
        .build()
        .unwrap();
    drop(client.create(CreateSession::new()).await.unwrap());
    let waits = (0..5).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.create(CreateSession::new()).await.map(drop) })
    });
    let waits: Vec<_> = waits.collect();
    tokio::time::sleep(SECOND / 10).await;
    let (report, millis) = took(client.close_within(60 * SECOND)).await;
    assert!(report.is_drained && about(millis, 0), "{millis} {report:?}");
    for wait in waits {
        let refused = wait.await.unwrap().unwrap_err();
        assert_eq!(refused.refusal(), Some(mainstay::Refusal::ShutDown));
    }
    assert_eq!(provider.calls("create"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_the_pauses_of_creations() {
    let provider = Scripted::new();
    let client = client(&provider);
    provider.always("create", throttled(50));
    let creation = tokio::spawn({
        let client = client.clone();
        async move { client.create(CreateSession::new()).await.map(drop) }
    });
    tokio::time::sleep(SECOND).await;
    let (report, millis) = took(client.close_within(60 * SECOND)).await;
    assert!(report.is_drained && about(millis, 0), "{millis}");
    let refused = creation.await.unwrap().unwrap_err();
    assert_eq!(refused.refusal(), Some(mainstay::Refusal::ShutDown));
    assert_eq!(refused.last().unwrap().kind(), Kind::Throttled);
}

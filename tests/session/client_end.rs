//! The reaper: what is let go of is ended, whatever fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::circuit_breaker::CircuitState;
use mainstay::retry::Backoff;
use mainstay::session::{CreateSession, ReaperEvent, SessionErrorKind as Kind, SessionId};
use mainstay::{Refusal, Shutdown};

use crate::client::{SOON, client, created, ends, quick};
use crate::scripted::{Fault, Scripted, error, not_done};

fn hourly() -> Backoff {
    let hour = Duration::from_secs(3600);
    Backoff::constant(hour).max_delay(hour)
}

#[tokio::test]
async fn a_guard_that_is_dropped_ends_its_session() {
    let provider = Scripted::new();
    let client = client(&provider);
    drop(created(&client).await);
    provider.until_empty().await;
    ends(&client).await;
    assert_eq!(client.snapshot().deleted, 1);
}

#[tokio::test]
async fn a_deletion_that_fails_three_times_succeeds_in_the_end() {
    let provider = Scripted::new();
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let client = quick(&provider)
        .on_reaper_event(move |event| heard.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    provider.script("delete", vec![Fault::Fail(error(Kind::Unavailable)); 3]);
    drop(created(&client).await);
    provider.until_empty().await;
    ends(&client).await;
    let events = events.lock().unwrap();
    let failures = |event: &ReaperEvent| match event {
        ReaperEvent::Failed { failures, .. } => Some(*failures),
        _ => None,
    };
    assert_eq!(
        events.iter().filter_map(failures).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert!(matches!(events.last(), Some(ReaperEvent::Deleted { .. })));
    assert_eq!(client.snapshot().failures, 3);
}

#[tokio::test]
async fn a_deletion_whose_reply_was_lost_finds_it_gone() {
    let provider = Scripted::new();
    let client = client(&provider);
    let session = created(&client).await;
    provider.script("delete", [Fault::LoseReply(error(Kind::Connection))]);
    assert!(session.close().await.unwrap().already_gone);
    let session = created(&client).await;
    provider.script("delete", [Fault::Fail(error(Kind::NotFound))]);
    assert!(session.close().await.unwrap().already_gone);
    let left = provider.world().alive.keys().next().cloned().unwrap();
    assert!(!client.delete(&left).await.unwrap().already_gone);
    ends(&client).await;
}

#[tokio::test]
async fn a_close_that_fails_is_gone_on_with() {
    let provider = Scripted::new();
    let client = client(&provider);
    let session = created(&client).await;
    provider.script("delete", vec![Fault::Fail(error(Kind::Unavailable)); 5]);
    let failed = session.close().await.unwrap_err();
    assert_eq!(failed.attempts(), 3);
    provider.until_empty().await;
    ends(&client).await;
}

#[tokio::test]
async fn a_close_that_is_dropped_goes_on() {
    for turns in 0..8 {
        let provider = Scripted::new();
        let client = client(&provider);
        let session = created(&client).await;
        let mut close = Box::pin(session.close());
        for _ in 0..turns {
            let cut = tokio::time::timeout(Duration::ZERO, &mut close).await;
            if cut.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(close);
        provider.until_empty().await;
        ends(&client).await;
    }
}

#[tokio::test]
async fn so_many_end_at_once_and_slow_ones_end_too() {
    let provider = Scripted::new();
    let client = quick(&provider).reaper_concurrency(3).build().unwrap();
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(created(&client).await);
    }
    provider.always("delete", Fault::Slow(Duration::from_millis(20)));
    drop(sessions);
    ends(&client).await;
    assert_eq!(provider.world().most_deleting, 3);
}

#[tokio::test]
async fn a_deletion_that_hangs_is_cut_short_and_tried_again() {
    let provider = Scripted::new();
    let limit = Duration::from_millis(10);
    let client = quick(&provider)
        .time_limit(mainstay::session::OperationKind::Delete, limit)
        .build()
        .unwrap();
    provider.script("delete", vec![Fault::Hang; 3]);
    drop(created(&client).await);
    ends(&client).await;
    assert_eq!(provider.calls("delete"), 4);
}

#[tokio::test]
async fn a_panic_in_a_deletion_is_tried_again() {
    let provider = Scripted::new();
    let client = client(&provider);
    provider.script("delete", [Fault::Panic, Fault::Panic]);
    drop(created(&client).await);
    provider.until_empty().await;
    let session = created(&client).await;
    provider.script("delete", [Fault::Panic]);
    assert!(session.close().await.unwrap_err().is_panicked());
    ends(&client).await;
}

#[tokio::test]
async fn what_cannot_be_ended_is_given_up_and_told() {
    let provider = Scripted::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let client = quick(&provider)
        .reaper_attempts(4)
        .on_reaper_event(move |event| {
            if let ReaperEvent::GaveUp { what, failures, .. } = event {
                heard.lock().unwrap().push((what.to_string(), *failures));
                panic!("a listener's own affair");
            }
        })
        .build()
        .unwrap();
    provider.always("delete", Fault::Fail(error(Kind::Denied)));
    drop(created(&client).await);
    let report = client.close_within(SOON).await;
    assert!(!report.is_drained);
    assert_eq!(
        (report.sessions.given_up, report.sessions.in_flight()),
        (1, 0)
    );
    assert_eq!(*told.lock().unwrap(), [("session s00001".to_owned(), 4)]);
}

/// Trap 22.
#[test]
fn a_guard_is_dropped_on_any_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let provider = Scripted::new();
    let client = client(&provider);
    let session = runtime.block_on(created(&client));
    std::thread::spawn(move || drop(session)).join().unwrap();
    runtime.block_on(provider.until_empty());
    runtime.block_on(ends(&client));
}

/// Trap 24.
#[test]
fn what_is_let_go_of_without_a_runtime_ends_with_the_next_call_in_another_one() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let provider = Scripted::new();
    let client = client(&provider);
    let first = runtime();
    let session = first.block_on(created(&client));
    let other = first.block_on(created(&client));
    drop(first);
    drop(session);
    assert_eq!(client.snapshot().stranded, 1);
    assert_eq!((client.snapshot().waiting, provider.alive()), (1, 2));
    let second = runtime();
    second.block_on(async {
        assert!(client.get(other.id()).await.is_ok());
        provider.until(|world| world.alive.len() == 1).await;
        drop(other);
        ends(&client).await;
    });
}

#[test]
fn a_runtime_that_ends_in_the_middle_strands_and_loses_nothing() {
    let provider = Scripted::new();
    let client = client(&provider);
    for turn in 0..20_u64 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        provider.unreliable(300, Duration::from_millis(2));
        runtime.spawn({
            let client = client.clone();
            async move {
                let creations = (0..20).map(|_| client.create(CreateSession::new()));
                let _sessions = mainstay::gather(creations).await;
            }
        });
        std::thread::sleep(Duration::from_millis(turn % 7));
        let since = std::time::Instant::now();
        runtime.shutdown_timeout(SOON);
        assert!(
            since.elapsed() < SOON / 2,
            "nothing keeps the runtime alive"
        );
        // What the other end had begun was lost with the runtime: that is the test's own.
        provider.world().working = 0;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    provider.unreliable(0, Duration::ZERO);
    runtime.block_on(ends(&client));
}

#[test]
fn the_reaper_does_not_keep_a_runtime_from_ending() {
    let provider = Scripted::new();
    let client = client(&provider);
    for turn in 0..60_u64 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let creations = (0..60).map(|_| client.create(CreateSession::new()));
            let sessions = mainstay::gather(creations).await;
            assert_eq!(sessions.successes().count(), 60);
        });
        std::thread::sleep(Duration::from_micros(turn * 20));
        let since = std::time::Instant::now();
        runtime.shutdown_timeout(SOON);
        assert!(since.elapsed() < SOON / 2, "in turn {turn}");
        provider.world().working = 0;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(ends(&client));
}

#[test]
fn without_a_runtime_there_is_an_error() {
    let client = client(&Scripted::new());
    let mut creation = Box::pin(client.create(CreateSession::new()));
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    let std::task::Poll::Ready(Err(error)) = creation.as_mut().poll(&mut cx) else {
        panic!("it waits for nothing")
    };
    assert_eq!(error.refusal(), Some(Refusal::NoRuntime));
}

#[tokio::test]
async fn a_closed_client_creates_nothing_and_waits_for_what_is_held() {
    let provider = Scripted::new();
    let client = client(&provider);
    let session = created(&client).await;
    client.close();
    let refused = client.create(CreateSession::new()).await.unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
    assert!(session.run("still").await.is_ok());
    let report = client.close_within(Duration::from_millis(5)).await;
    assert!(!report.is_drained);
    assert_eq!(report.sessions.held, 1);
    client.end_all();
    let report = client.close_within(SOON).await;
    assert!(report.is_drained);
    let gone = session.run("gone").await.unwrap_err();
    assert_eq!(gone.last().unwrap().kind(), Kind::NotFound);
    assert!(!session.is_intact());
    assert!(session.close().await.unwrap().already_gone);
}

#[tokio::test]
async fn a_shutdown_in_the_middle_of_creations_leaves_nothing() {
    let provider = Scripted::new();
    provider.unreliable(300, Duration::from_millis(10));
    let client = client(&provider);
    let shutdown = Shutdown::builder()
        .deadline(SOON)
        .shares(0.02, 0.9, 0.08)
        .component("sessions", client.clone())
        .build()
        .unwrap();
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let session = client.create(CreateSession::new()).await?;
            std::future::pending::<()>().await;
            session.close().await
        }));
    }
    provider.until(|world| world.created > 10).await;
    shutdown.request();
    let report = shutdown.run().await;
    provider.until_empty().await;
    assert_eq!(client.snapshot().given_up, 0, "{report}");
    for task in tasks {
        task.abort();
        let _ended = task.await;
    }
    ends(&client).await;
}

#[tokio::test]
async fn an_abort_gives_up_what_is_left_and_says_so() {
    let provider = Scripted::new();
    let client = quick(&provider).reaper_backoff(hourly()).build().unwrap();
    provider.always("delete", Fault::Hang);
    let (dropped, held) = (created(&client).await, created(&client).await);
    drop(dropped);
    let shutdown = Shutdown::builder()
        .deadline(Duration::from_millis(100))
        .component("sessions", client.clone())
        .build()
        .unwrap();
    shutdown.request();
    let report = shutdown.run().await.to_string();
    assert_eq!(client.snapshot().given_up, 2, "{report}");
    assert!(report.contains("2 sessions may be there still"), "{report}");
    drop(held);
    assert_eq!(client.snapshot().in_flight(), 0);
}

#[tokio::test]
async fn the_reaper_goes_on_when_the_last_handle_is_dropped() {
    let provider = Scripted::new();
    let client = client(&provider);
    provider.script("delete", vec![Fault::Fail(error(Kind::Unavailable)); 3]);
    let session = created(&client).await;
    drop(client);
    assert!(session.run("works").await.is_ok());
    drop(session);
    provider.until_empty().await;
}

#[tokio::test]
async fn a_named_deletion_takes_it_from_the_reaper() {
    let provider = Scripted::new();
    let client = quick(&provider).reaper_backoff(hourly()).build().unwrap();
    provider.script("delete", [Fault::Fail(error(Kind::Unavailable))]);
    let session = created(&client).await;
    let id = session.id().clone();
    drop(session);
    provider
        .until(|world| world.calls.get("delete") == Some(&1))
        .await;
    assert!(!client.delete(&id).await.unwrap().already_gone);
    assert!(
        client
            .delete(&SessionId::new("never"))
            .await
            .unwrap()
            .already_gone
    );
    ends(&client).await;
    assert_eq!(provider.calls("delete"), 3);
}

/// It was under way when everything else was ended.
#[tokio::test]
async fn a_session_that_comes_after_the_end_of_all_ends_too() {
    let provider = Scripted::new();
    let client = client(&provider);
    provider.script("create", [Fault::LoseReply(error(Kind::Connection))]);
    provider.script("list", [Fault::Slow(Duration::from_millis(50))]);
    let creation = tokio::spawn({
        let client = client.clone();
        async move { client.create(CreateSession::new()).await }
    });
    provider
        .until(|world| world.calls.get("list") == Some(&1))
        .await;
    client.end_all();
    let late = creation.await.unwrap();
    let report = client.close_within(SOON / 10).await;
    assert!(report.is_drained, "{report:?} {late:?}");
    assert_eq!(provider.alive(), 0);
}

/// To give the creation up would not end it at the other side, where no look can see it yet.
#[tokio::test]
async fn a_creation_under_way_at_the_end_of_all_is_waited_for_and_ended() {
    let provider = Scripted::new();
    let client = client(&provider);
    provider.always("create", Fault::Slow(Duration::from_millis(50)));
    let creation = tokio::spawn({
        let client = client.clone();
        async move { client.create(CreateSession::new()).await }
    });
    provider.until(|world| world.working == 1).await;
    client.end_all();
    let report = client.close_within(SOON).await;
    assert!(report.is_drained, "{report:?}");
    drop(creation.await.unwrap());
    provider.until_empty().await;
    assert_eq!(provider.world().deleted, 1);
}

#[tokio::test]
async fn what_ends_is_not_kept_waiting_by_the_breaker() {
    let provider = Scripted::new();
    let breaker = mainstay::CircuitBreaker::builder()
        .consecutive_failures(2)
        .no_failure_rate()
        .open_for(Duration::from_secs(3600));
    let client = quick(&provider).circuit_breaker(breaker).build().unwrap();
    let (one, two) = (created(&client).await, created(&client).await);
    // No room for more: to end one is what makes some.
    provider.always("create", Fault::Fail(not_done(Kind::Unavailable)));
    while client.breaker().state() != CircuitState::Open {
        assert!(client.create(CreateSession::new()).await.is_err());
    }
    assert!(!one.close().await.unwrap().already_gone);
    drop(two);
    provider.until_empty().await;
    ends(&client).await;
}

//! Many commands, in one session and over a pool of them.

use std::time::Duration;

use mainstay::session::{Command, SessionErrorKind as Kind, SessionPool, SessionStatus};
use mainstay::{Error, Refusal, Shutdown};

use crate::client::{SOON, client, created, ends, quick};
use crate::scripted::{Fault, Scripted, error, not_done};

#[tokio::test]
async fn many_commands_in_one_session_answer_in_order() {
    let provider = Scripted::new();
    provider.unreliable(0, Duration::from_millis(3));
    let client = client(&provider);
    let session = created(&client).await;
    let lines = (0..50).map(|n| format!("line {n}"));
    let outcomes = session.run_many(lines.clone()).limit(7).await;
    let texts: Vec<_> = outcomes
        .successes()
        .map(|result| result.stdout_text().into_owned())
        .collect();
    assert_eq!(texts, lines.collect::<Vec<_>>());

    provider.script("run", [Fault::Fine, Fault::Fail(error(Kind::Tool))]);
    let first_error = session.run_many(["a", "b", "c"]).limit(1).try_all().await;
    let first_error = first_error.unwrap_err();
    assert_eq!(
        first_error.to_string(),
        "item 1: the tool failed: as scripted"
    );
    assert!(
        matches!(first_error.into_error(), Error::Operation { .. }),
        "it is flat"
    );

    let mut stream = session.run_many(["a", "b"]).as_finished();
    let mut seen = 0;
    while let Some((_, outcome)) = stream.next().await {
        seen += usize::from(outcome.is_ok());
    }
    assert_eq!(seen, 2);
    drop(stream);
    drop(session);
    ends(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_commands_over_five_unreliable_sessions_each_have_one_outcome() {
    let provider = Scripted::new();
    provider.unreliable(200, Duration::from_millis(3));
    let client = client(&provider);
    let pool = SessionPool::builder(&client).max_size(5).build().unwrap();
    let outcomes = pool
        .run_many((0..200).map(|n| n.to_string()))
        .limit(20)
        .await;
    assert_eq!(outcomes.len(), 200);
    assert!(outcomes.is_complete());
    for (index, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(result) => assert_eq!(result.stdout_text(), index.to_string()),
            Err(error) => assert!(error.last().is_some(), "{error}"),
        }
    }
    assert!(outcomes.successes().count() > 100);
    assert_eq!(provider.world().overlaps, 0, "one user at a time");
    assert!(pool.close_within(SOON).await.is_drained);
    ends(&client).await;
}

/// Trap 21.
#[tokio::test]
async fn a_session_whose_command_was_cut_off_is_not_lent_out_again() {
    let provider = Scripted::new();
    let client = client(&provider);
    let pool = SessionPool::builder(&client).max_size(1).build().unwrap();
    let first = pool.get().await.unwrap().id().clone();
    {
        let session = pool.get().await.unwrap();
        assert_eq!(*session.id(), first, "an intact one is");
        provider.script("run", [Fault::Hang]);
        let cut = tokio::time::timeout(Duration::from_millis(5), session.run("sleep")).await;
        assert!(cut.is_err());
    }
    let session = pool.get().await.unwrap();
    assert_ne!(*session.id(), first);
    drop(session);
    assert_eq!(pool.snapshot().closed.broken, 1);

    provider.script("run", [Fault::Hang]);
    let cut = tokio::time::timeout(Duration::from_millis(5), pool.run("sleep")).await;
    assert!(cut.is_err());
    assert_eq!(pool.run("works").await.unwrap().stdout, b"works");
    assert_eq!(provider.world().overlaps, 0);

    provider.script("run", vec![Fault::Hang; 3]);
    let many = pool.run_many(["a", "b", "c"]).limit(3);
    let many = tokio::time::timeout(Duration::from_millis(5), many.into_future()).await;
    assert!(many.is_err());
    assert_eq!(provider.world().overlaps, 0);
    drop(pool);
    ends(&client).await;
}

#[tokio::test]
async fn a_time_limit_is_a_cut_too() {
    let provider = Scripted::new();
    let client = quick(&provider).run_margin(Duration::ZERO).build().unwrap();
    let pool = SessionPool::builder(&client).max_size(1).build().unwrap();
    provider.script("run", [Fault::Hang]);
    let slow = Command::new("sleep").time_limit(Duration::from_millis(5));
    assert!(pool.run(slow).await.unwrap_err().is_timed_out());
    let report = pool.close_within(SOON).await;
    assert_eq!(report.snapshot.closed.broken, 1);
    ends(&client).await;
}

/// Trap 16.
#[tokio::test]
async fn a_wait_for_a_session_that_is_dropped_loses_none() {
    let provider = Scripted::new();
    let client = client(&provider);
    let pool = SessionPool::builder(&client).max_size(2).build().unwrap();
    for _ in 0..40 {
        let patience = Duration::from_micros(fastrand::u64(..3000));
        let _cut = tokio::time::timeout(patience, pool.get()).await;
    }
    let (one, two) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert!(
        provider.world().created <= 2,
        "creations go on, and serve the next"
    );
    drop((one, two));
    assert!(pool.close_within(SOON).await.is_drained);
    ends(&client).await;
}

#[tokio::test]
async fn a_session_that_has_ended_is_replaced_by_the_check() {
    let provider = Scripted::new();
    let client = client(&provider);
    let pool = SessionPool::builder(&client)
        .max_size(1)
        .settings(|pool| pool.check(mainstay::pool::Check::Always))
        .build()
        .unwrap();
    let first = pool.get().await.unwrap().id().clone();
    provider.set_status(&first, SessionStatus::Finished);
    assert_ne!(*pool.get().await.unwrap().id(), first);
    assert_eq!(pool.snapshot().closed.check_failed, 1);
    drop(pool);
    ends(&client).await;
}

#[tokio::test]
async fn the_errors_of_a_pool_are_flat() {
    let provider = Scripted::new();
    provider.always("create", Fault::Fail(not_done(Kind::Denied)));
    let client = client(&provider);
    let pool = SessionPool::builder(&client).max_size(1).build().unwrap();
    let denied = pool.get().await.unwrap_err();
    assert_eq!(denied.last().unwrap().kind(), Kind::Denied);
    let denied = pool.run("x").await.unwrap_err();
    assert!(
        matches!(denied, Error::Operation { attempts: 1, .. }),
        "{denied:?}"
    );
    pool.close();
    assert_eq!(
        pool.run("x").await.unwrap_err().refusal(),
        Some(Refusal::ShutDown)
    );
    let unset = SessionPool::builder(&client).build().unwrap_err();
    assert_eq!(unset.field(), "max_size");
    ends(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_in_the_middle_of_many_commands_leaves_no_session() {
    let provider = Scripted::new();
    provider.unreliable(200, Duration::from_millis(5));
    let client = client(&provider);
    let pool = SessionPool::builder(&client).max_size(5).build().unwrap();
    let shutdown = Shutdown::builder()
        .deadline(SOON)
        .component("sessions", client.clone())
        .component("pool", pool.clone())
        .build()
        .unwrap();
    let commands = tokio::spawn({
        let pool = pool.clone();
        async move {
            pool.run_many((0..1000).map(|n| n.to_string()))
                .limit(10)
                .await
        }
    });
    provider.until(|world| world.lines.len() > 50).await;
    shutdown.request();
    let report = shutdown.run().await;
    let outcomes = commands.await.unwrap();
    assert_eq!(outcomes.len(), 1000, "each has an outcome");
    provider.until_empty().await;
    assert_eq!(client.snapshot().given_up, 0, "{report}");
    drop(pool);
    ends(&client).await;
}

#[tokio::test]
async fn a_monitor_tells_changes_and_errors_and_ends_with_the_session() {
    let provider = Scripted::new();
    let client = quick(&provider).max_attempts(1).build().unwrap();
    let session = created(&client).await;
    let id = session.id().clone();
    let mut monitor = session.monitor(Duration::from_millis(1));
    assert_eq!(
        monitor.next().await.unwrap().unwrap(),
        SessionStatus::Running
    );
    provider.set_status(&id, SessionStatus::Paused);
    assert_eq!(
        monitor.next().await.unwrap().unwrap(),
        SessionStatus::Paused
    );
    provider.script("status", [Fault::Fail(error(Kind::Unavailable))]);
    assert!(monitor.next().await.unwrap().is_err());
    provider.set_status(&id, SessionStatus::Running);
    assert_eq!(
        monitor.next().await.unwrap().unwrap(),
        SessionStatus::Running
    );
    assert_eq!(monitor.latest(), Some(&SessionStatus::Running));
    drop(session);
    assert_eq!(
        monitor.next().await.unwrap().unwrap(),
        SessionStatus::Deleted
    );
    assert!(monitor.next().await.is_none());
    assert!(monitor.next().await.is_none());

    let session = created(&client).await;
    let mut monitor = client.monitor(session.id(), Duration::from_millis(1));
    provider.set_status(session.id(), SessionStatus::Finished);
    assert_eq!(
        monitor.next().await.unwrap().unwrap(),
        SessionStatus::Finished
    );
    assert!(monitor.next().await.is_none());
    drop(session);
    ends(&client).await;
}

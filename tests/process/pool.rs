//! A pool of children.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use mainstay::process::{ProcessId, ProcessPoolBuilder};
use mainstay::shutdown::Component;
use mainstay::{Refusal, Shutdown};

use crate::support::*;

fn pool(processes: u32) -> ProcessPoolBuilder {
    ProcessPool::builder(processes)
}

fn sleep() -> Command {
    Command::new("sleep").arg("300")
}

/// A child of the pool that does not listen, once it does not.
async fn deaf(pool: &ProcessPool) -> Process {
    let mut process = pool.spawn(&stubborn()).await.unwrap();
    process.chunk().await.unwrap();
    process
}

#[test]
fn no_more_run_than_it_allows() {
    test(async {
        let pool = pool(3).max_queue(100).build().unwrap();
        let most = Arc::new(AtomicUsize::new(0));
        let runs = (0..12).map(|_| async {
            let mut process = pool.spawn(&Command::shell("sleep 0.05")).await.unwrap();
            most.fetch_max(pool.len(), Ordering::SeqCst);
            process.wait().await.unwrap()
        });
        futures_util::future::join_all(runs).await;
        assert_eq!(most.load(Ordering::SeqCst), 3);
        assert!(pool.is_empty());
    });
}

#[test]
fn a_full_pool_refuses_or_waits_so_long() {
    test(async {
        let refuses = pool(1).max_queue(0).build().unwrap();
        let held = refuses.spawn(&sleep()).await.unwrap();
        let full = |error: mainstay::Error<_>| {
            matches!(error.refusal(), Some(Refusal::BulkheadFull { .. }))
        };
        assert!(full(refuses.spawn(&sleep()).await.unwrap_err()));
        assert!(full(refuses.try_spawn(&sleep()).unwrap_err()));
        drop(held);
        until_async(|| refuses.is_empty(), "the place to be free").await;
        assert!(refuses.try_spawn(&Command::new("true")).is_ok());

        let waits = pool(1).max_wait(50 * MS).build().unwrap();
        let _held = waits.spawn(&sleep()).await.unwrap();
        let begun = Instant::now();
        assert!(full(waits.run(&Command::new("true")).await.unwrap_err()));
        assert!(begun.elapsed() >= 50 * MS);
    });
}

#[test]
fn a_place_is_free_when_the_call_returns() {
    test(async {
        let pool = pool(1).max_queue(0).build().unwrap();
        for _ in 0..100 {
            pool.run(&Command::new("true")).await.unwrap();
        }
    });
}

/// Tries the pool at the very moment at which it is told of an end.
struct Tries {
    pool: ProcessPool,
    refusals: Mutex<Vec<Option<Refusal>>>,
}

impl std::task::Wake for Tries {
    fn wake(self: Arc<Self>) {
        let missing = Command::new("/no/such/program");
        let error = self.pool.try_spawn(&missing);
        let refusal = error.unwrap_err().refusal();
        self.refusals.lock().unwrap().push(refusal);
    }
}

#[test]
fn a_place_is_free_before_anyone_hears_of_the_end() {
    test(async {
        let pool = pool(1).max_queue(0).build().unwrap();
        let mut process = pool.spawn(&sleep()).await.unwrap();
        let handle = process.handle();
        let tries = Arc::new(Tries {
            pool,
            refusals: Mutex::default(),
        });
        let waker = Waker::from(Arc::clone(&tries));
        let mut ended = pin!(handle.ended());
        let polled = ended.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        process.kill();
        process.wait().await.unwrap();
        let has_tried = || !tries.refusals.lock().unwrap().is_empty();
        until_async(has_tried, "the waker to be called").await;
        assert_eq!(*tries.refusals.lock().unwrap(), [None]);
    });
}

#[test]
fn one_that_cannot_start_leaves_its_place() {
    test(async {
        let pool = pool(1).max_queue(0).build().unwrap();
        for _ in 0..3 {
            let error = pool
                .run(&Command::new("/no/such/program"))
                .await
                .unwrap_err();
            assert_eq!(error.last().unwrap().kind(), ProcessErrorKind::NotFound);
        }
        assert!(pool.is_empty());
    });
}

#[test]
fn a_dropped_wait_leaves_the_queue() {
    test(async {
        let pool = pool(1).max_queue(1).build().unwrap();
        let held = pool.spawn(&sleep()).await.unwrap();
        for _ in 0..5 {
            let command = sleep();
            assert!(
                tokio::time::timeout(5 * MS, pool.spawn(&command))
                    .await
                    .is_err()
            );
        }
        drop(held);
        assert!(pool.run(&Command::new("true")).await.unwrap().success());
        assert_eq!(pool.counts().in_flight, 0);
    });
}

/// Ids are the pool's to give: none can overwrite another's.
#[test]
fn ids_are_unique_and_find_their_child() {
    test(async {
        let pool = pool(50).build().unwrap();
        let mut children = Vec::new();
        for _ in 0..50 {
            children.push(pool.spawn(&sleep()).await.unwrap());
        }
        let ids: HashSet<_> = children.iter().map(Process::id).collect();
        assert_eq!((ids.len(), pool.len()), (50, 50));
        for child in &children {
            let id = ProcessId::from(child.id().as_u64());
            assert_eq!(pool.get(id).unwrap().pid(), child.pid());
        }
        let listed: Vec<_> = pool.list().iter().map(ProcessHandle::id).collect();
        assert!(listed.is_sorted() && listed.len() == 50);
        assert!(pool.get(ProcessId::from(u64::MAX)).is_none());
        let gone = children.pop().unwrap();
        let (id, handle) = (gone.id(), gone.handle());
        drop(gone);
        handle.ended().await;
        assert!(pool.get(id).is_none());
        let new = pool.spawn(&sleep()).await.unwrap();
        assert!(!ids.contains(&new.id()));
    });
}

/// Trap 92.
#[test]
fn all_have_one_grace() {
    test(async {
        const CHILDREN: u32 = 10;
        let pool = pool(CHILDREN).grace(500 * MS).build().unwrap();
        let mut children = Vec::new();
        for _ in 0..CHILDREN {
            children.push(deaf(&pool).await);
        }
        let report = pool.close().await;
        assert!(report.elapsed >= 500 * MS);
        assert!(report.elapsed < CHILDREN / 2 * 500 * MS, "{report}");
        until_async(|| pool.is_empty(), "all to be reaped").await;
        assert_eq!(
            (
                report.by_themselves,
                report.by_term,
                // A busy machine takes its time with those that are killed.
                report.by_kill + report.left
            ),
            (0, 0, CHILDREN.into())
        );
        for mut child in children {
            assert_eq!(child.wait().await.unwrap().end, End::Cancelled);
            group_is_gone(child.pid()).await;
        }
    });
}

#[test]
fn a_close_says_how_each_has_ended() {
    test(async {
        let pool = pool(9).drain(1000 * MS).grace(500 * MS).build().unwrap();
        let mut children = vec![deaf(&pool).await];
        pool.run(&Command::new("true")).await.unwrap();
        for _ in 0..2 {
            children.push(pool.spawn(&sleep()).await.unwrap());
        }
        for _ in 0..3 {
            children.push(
                pool.spawn(&Command::shell("sleep 0.05; exit 1"))
                    .await
                    .unwrap(),
            );
        }
        let report = pool.close().await;
        assert_eq!(
            (
                report.by_themselves,
                report.by_term,
                report.by_kill,
                report.left
            ),
            (3, 2, 1, 0)
        );
        let text = report.to_string();
        assert!(
            text.starts_with("3 ended by themselves, 2 by SIGTERM, 1 by SIGKILL, 0 left"),
            "{text}"
        );
        let counts = pool.counts();
        assert_eq!(
            (
                counts.completed,
                counts.failed,
                counts.aborted,
                counts.in_flight
            ),
            (1, 3, 3, 0)
        );
        let again = pool.close().await;
        assert_eq!(
            (
                again.by_themselves,
                again.by_term,
                again.by_kill,
                again.left
            ),
            (0, 0, 0, 0)
        );
    });
}

#[test]
fn a_closed_pool_refuses_also_those_who_wait() {
    test(async {
        let pool = pool(1).grace(100 * MS).build().unwrap();
        let _held = pool.spawn(&sleep()).await.unwrap();
        let waits = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.run(&Command::new("true")).await })
        };
        until_async(|| pool.counts().in_flight == 2, "someone to wait").await;
        let report = pool.close().await;
        assert_eq!((report.by_term, report.left), (1, 0));
        let refused = |error: mainstay::Error<_>| error.refusal() == Some(Refusal::ShutDown);
        assert!(refused(waits.await.unwrap().unwrap_err()));
        assert!(refused(pool.spawn(&sleep()).await.unwrap_err()));
        assert!(refused(pool.try_spawn(&sleep()).unwrap_err()));
        assert!(pool.is_closed());
    });
}

#[test]
fn a_close_that_is_dropped_goes_on() {
    test(async {
        let pool = pool(2).grace(200 * MS).build().unwrap();
        let mut child = deaf(&pool).await;
        let close = tokio::time::timeout(20 * MS, pool.close());
        assert!(close.await.is_err());
        assert!(pool.is_closed());
        let output = child.wait().await.unwrap();
        assert!(output.forced && output.elapsed < LONG);
        assert_eq!(pool.close().await.left, 0);
    });
}

/// Whoever is about to start one when the pool closes starts none, or it is ended.
#[test]
fn nobody_slips_through_a_close() {
    alone(|| {
        for round in 0..30 {
            runtime().block_on(async {
                let pool = pool(4).grace(50 * MS).build().unwrap();
                let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(starts(pool.clone()))).collect();
                tokio::time::sleep(10 * MS + MS * round / 8).await;
                let report = pool.close().await;
                assert_eq!((report.left, pool.len()), (0, 0), "{report}");
                for task in tasks {
                    assert!(task.await.unwrap(), "one has slipped through");
                }
            });
        }
    });
}

/// Starts one after the other until the pool is closed; whether those that it has then end.
async fn starts(pool: ProcessPool) -> bool {
    while let Ok(mut process) = pool.spawn(&sleep()).await {
        if pool.is_closed() {
            let ends = tokio::time::timeout(LONG, process.wait()).await;
            return ends.is_ok();
        }
    }
    true
}

#[test]
fn a_shutdown_closes_it() {
    test(async {
        let pool = pool(4).build().unwrap();
        let _deaf = deaf(&pool).await;
        let _asleep = pool.spawn(&sleep()).await.unwrap();
        let shutdown = Shutdown::builder()
            .deadline(Duration::from_secs(2))
            .component("children", pool.clone())
            .build()
            .unwrap();
        shutdown.request();
        let report = shutdown.run().await;
        // A busy machine takes its time with those that are killed.
        until_async(|| pool.is_empty(), &format!("all to be killed: {report}")).await;
        assert_eq!(pool.counts().aborted, 2);
    });
}

/// Its waker is called where the child's end is told: by whoever sees it first, the supervisor
/// or the one that waits.
#[test]
fn a_waker_that_panics_does_not_keep_the_end_from_others() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    test(async {
        let pool = pool(1).build().unwrap();
        for _ in 0..40 {
            let mut held = pool.spawn(&sleep()).await.unwrap();
            let command = sleep();
            let mut queued = pin!(pool.spawn(&command));
            let waker = Waker::from(Arc::new(Panics));
            let polled = queued.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            held.kill();
            assert_eq!(held.wait().await.unwrap().end, End::Cancelled);
        }
    });
}

#[test]
fn a_pool_of_none_is_refused() {
    let error = pool(0).build().unwrap_err();
    assert_eq!(
        (error.field(), error.allowed()),
        ("max_processes", "at least 1")
    );
}

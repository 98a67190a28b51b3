//! Scopes and trackers: the count adds up, nobody enters after the close, a drain waits for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mainstay::scope::{OnError, Scope, ScopeHandle, Tracker};
use mainstay::{Error, Refusal};

use crate::stage::{
    Crowd, Failed, MS, Stage, abort_one, below, check, cut, once_in, runtime_turns, turns,
};

#[derive(Default)]
struct Book {
    alive: Arc<Crowd>,
    spawned: AtomicU64,
    results: AtomicU64,
}

const LIMIT: usize = 2;

async fn spawner(scope: ScopeHandle, book: Arc<Book>) {
    for _ in 0..2 {
        let alive = Arc::clone(&book.alive);
        let ends = below(4);
        let token = scope.token();
        let work = async move {
            let _alive = alive.enter();
            runtime_turns().await;
            match ends {
                0 => Err(Failed),
                // It waits to be asked, and may be aborted before.
                1 => {
                    token.cancelled().await;
                    runtime_turns().await;
                    Ok(())
                }
                _ => Ok(()),
            }
        };
        match scope.spawn("work", work) {
            Err(refused) => assert_eq!(refused.reason(), Refusal::ShutDown),
            Ok(mut task) => {
                book.spawned.fetch_add(1, Ordering::SeqCst);
                turns().await;
                if once_in(4) {
                    task.abort();
                }
                if let Some(result) = cut(&mut task).await {
                    match result {
                        Ok(()) | Err(Error::Operation { .. } | Error::Cancelled { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    book.results.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }
}

async fn scoped(stage: Stage) {
    let book = Arc::new(Book::default());
    let on_error = if once_in(2) {
        OnError::CancelOthers
    } else {
        OnError::Collect
    };
    let scope = Scope::builder()
        .limit(LIMIT)
        .grace(3 * MS)
        .on_error(on_error)
        .build()
        .expect("a scope");
    let handle = scope.handle();
    let spawners: Vec<_> = (0..3)
        .map(|_| stage.actor(spawner(handle.clone(), Arc::clone(&book))))
        .collect();
    let aborts = abort_one(&spawners);
    turns().await;
    match below(4) {
        0 => scope.close(),
        1 => scope.cancel(),
        2 => scope.abort(),
        _ => {}
    }
    let ends = below(3);
    let counts = match ends {
        0 => {
            // None of the spawners' tasks ends by itself where it waits to be asked.
            turns().await;
            scope.cancel();
            let report = scope.join().await;
            assert_eq!(report.counts.in_flight, 0);
            report.counts
        }
        1 => {
            scope.abort();
            scope.drained().await;
            scope.counts()
        }
        _ => {
            drop(scope);
            handle.drained().await;
            handle.counts()
        }
    };
    assert_eq!(book.alive.here(), 0, "a task outlives the drain");
    let late = handle.spawn("late", async { Ok::<_, Failed>(()) });
    assert!(late.is_err_and(|r| r.reason() == Refusal::ShutDown));
    for one in spawners {
        let _ = one.await;
    }
    aborts.await.expect("not aborted");
    assert_eq!(handle.counts(), counts, "it went on after its end");
    // Who was aborted had counted each that it had spawned.
    let spawned = book.spawned.load(Ordering::SeqCst);
    assert_eq!(counts.ended(), spawned, "{counts:?}");
    assert!(book.alive.most() <= LIMIT, "{} at once", book.alive.most());
    assert!(book.alive.ever() as u64 <= spawned);
    assert!(book.results.load(Ordering::SeqCst) <= spawned);
}

/// Spawned from three sides, with errors, aborts, a cancel, and every way to end. Fails where one
/// place too many is given, and where the last to end wakes nobody.
#[test]
fn the_count_of_a_scope_adds_up() {
    check(scoped);
}

async fn visitor(tracker: Arc<Tracker>, crowd: Arc<Crowd>) {
    for _ in 0..2 {
        let inner = Arc::clone(&crowd);
        match tracker.track_owned(async move {
            let _here = inner.enter();
            turns().await;
        }) {
            Ok(work) => {
                let _ = cut(work).await;
            }
            Err(refused) => {
                assert!(tracker.is_closed());
                assert_eq!(refused.reason(), Refusal::ShutDown);
            }
        }
        turns().await;
    }
}

async fn tracked(stage: Stage) {
    let (tracker, crowd) = (Arc::new(Tracker::new()), Arc::new(Crowd::default()));
    let visitors: Vec<_> = (0..3)
        .map(|_| stage.actor(visitor(Arc::clone(&tracker), Arc::clone(&crowd))))
        .collect();
    let aborts = abort_one(&visitors);
    let waits = Arc::clone(&tracker);
    let waiter = stage.actor(async move {
        // Whoever gives up takes nobody's place, and nobody's wake-up.
        if cut(waits.drained()).await.is_none() && once_in(2) {
            waits.drained().await;
        }
    });
    turns().await;
    tracker.close();
    assert!(tracker.enter().is_err());
    tracker.drained().await;
    assert_eq!((tracker.in_flight(), crowd.here()), (0, 0));
    let ever = crowd.ever();
    for one in visitors {
        let _ = one.await;
    }
    aborts.await.expect("not aborted");
    waiter.await.expect("not aborted");
    assert_eq!(crowd.ever(), ever, "someone entered after the end");
}

/// Entered, left and waited for while it is closed. Fails where one who gives up waiting takes the
/// mark of all who wait along.
#[test]
fn a_tracker_that_was_drained_stays_so() {
    check(tracked);
}

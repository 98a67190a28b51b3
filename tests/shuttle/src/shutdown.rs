//! The shutdown: it refuses after the request, waits for all, and never takes longer than its
//! deadline.

use std::sync::Arc;
use std::time::Duration;

use mainstay::Refusal;
use mainstay::scope::{Scope, Tracker};
use mainstay::shutdown::{Shutdown, Status};

use crate::stage::{Crowd, Failed, MS, Stage, check, cut, once_in, runtime_turns, turn, turns};

const DEADLINE: Duration = Duration::from_millis(20);
/// For last words: one turn of the clock for each component that must be given up.
const WORDS: Duration = Duration::from_millis(6);

async fn visitor(shutdown: Shutdown, sections: Arc<Crowd>, stubborn: bool) {
    for _ in 0..3 {
        match shutdown.protect() {
            Ok(section) => {
                let _here = sections.enter();
                turns().await;
                if stubborn && once_in(3) {
                    // Longer than the whole deadline.
                    tokio::time::sleep(2 * DEADLINE).await;
                }
                drop(section);
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::ShutDown);
                assert!(shutdown.is_requested());
            }
        }
        turn().await;
    }
}

async fn ends(stage: Stage, stubborn: bool) {
    let jobs = Scope::builder().grace(MS).build().expect("a scope");
    let (requests, alive) = (Arc::new(Tracker::new()), Arc::new(Crowd::default()));
    let sections = Arc::new(Crowd::default());
    let closed = Arc::new(Crowd::default());
    let closes = Arc::clone(&closed);
    let shutdown = Shutdown::builder()
        .deadline(DEADLINE)
        .component("jobs", jobs.handle())
        .component("requests", Arc::clone(&requests))
        .closing("client", move || async move {
            closes.enter();
            runtime_turns().await;
            Ok::<_, Failed>(())
        })
        .build()
        .expect("a shutdown");
    for _ in 0..2 {
        let (alive, hangs) = (Arc::clone(&alive), stubborn && once_in(2));
        let work = async move {
            let _alive = alive.enter();
            runtime_turns().await;
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok::<_, Failed>(())
        };
        jobs.spawn("job", work)
            .map_err(|_| "refused")
            .expect("open");
    }
    let visitors: Vec<_> = (0..2)
        .map(|_| {
            let part = visitor(shutdown.clone(), Arc::clone(&sections), stubborn);
            stage.actor(part)
        })
        .collect();
    let request = requests.enter_owned().expect("open");
    let served = stage.actor(async move {
        turns().await;
        drop(request);
    });

    // On the runtime: a thread of the shutdown's own could end it as well, and a waker of
    // shuttle's must not be called there.
    let runs = Arc::new(shutdown.clone());
    let run = stage.runtime.spawn(async move {
        // Given up before, it goes on by itself.
        runs.run().await
    });
    turns().await;
    let listens = shutdown.clone();
    let listener = stage.actor(async move {
        if cut(listens.requested()).await.is_some() {
            assert!(listens.protect().is_err());
        }
    });
    turns().await;
    shutdown.request();
    assert!(shutdown.protect().is_err(), "a section after the request");
    let report = run.await.expect("no panic");

    assert!(report.duration <= DEADLINE + WORDS, "{report}");
    assert!(jobs.spawn("late", async { Ok::<_, Failed>(()) }).is_err());
    assert!(requests.enter().is_err());
    if stubborn {
        // Where a section held it up there was no time for anything else but the aborts.
        stage.until(|| alive.here() == 0).await;
    } else {
        assert_eq!(closed.ever(), 1);
        assert!(report.is_orderly(), "{report}");
        assert_eq!(report.sections_held, 0);
        assert_eq!((alive.here(), requests.in_flight()), (0, 0), "{report}");
        assert!(
            report
                .components
                .iter()
                .all(|c| c.status == Status::Completed)
        );
    }
    let again = stage.runtime.spawn(async move { shutdown.run().await });
    assert_eq!(again.await.expect("no panic"), report);
    served.await.expect("not aborted");
    listener.await.expect("not aborted");
    for one in visitors {
        one.await.expect("not aborted");
    }
}

async fn orderly(stage: Stage) {
    ends(stage, false).await;
}

/// Sections, tasks and requests that end by themselves are waited for, every one. Fails where
/// sections are not waited for.
#[test]
fn a_shutdown_waits_for_all() {
    check(orderly);
}

async fn bounded(stage: Stage) {
    ends(stage, true).await;
}

/// Tasks that never end and sections that are held too long: the deadline stands. Fails where a
/// component that waits does not notice that a sterner order has come.
#[test]
fn a_shutdown_keeps_its_deadline() {
    check(bounded);
}

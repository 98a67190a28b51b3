//! `Shutdown`: the wait for the request, and the way through its phases.

use std::convert::Infallible;
use std::sync::Arc;

use mainstay::Refusal;
use mainstay::prelude::*;
use mainstay::scope::{Scope, ScopeHandle, Tracker};
use mainstay::testing::{Laboratory, Point, Report};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::MILLI;

/// A shutdown, and what takes part in it.
struct Firm {
    shutdown: Shutdown,
    tracker: Arc<Tracker>,
    tasks: Option<ScopeHandle>,
}

/// What takes part, and how it behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Parts {
    None,
    EndByThemselves,
    HaveToBeCancelled,
    HaveToBeAborted,
    CannotBeClosed,
}

const PARTS: [Parts; 5] = [
    Parts::None,
    Parts::EndByThemselves,
    Parts::HaveToBeCancelled,
    Parts::HaveToBeAborted,
    Parts::CannotBeClosed,
];

fn firm(parts: Parts) -> Firm {
    let tracker = Arc::new(Tracker::new());
    let builder = Shutdown::builder().deadline(20 * MILLI);
    if parts == Parts::None {
        let shutdown = builder.build().unwrap();
        return Firm {
            shutdown,
            tracker,
            tasks: None,
        };
    }
    let scope = Scope::builder().grace(5 * MILLI).build().unwrap();
    let token = scope.token();
    let task = async move {
        yield_now().await;
        match parts {
            Parts::HaveToBeCancelled => token.cancelled().await,
            Parts::HaveToBeAborted => std::future::pending().await,
            _ => sleep(3 * MILLI).await,
        }
        Ok::<_, Infallible>(())
    };
    let in_flight = tracker.track_owned(task).unwrap();
    scope.spawn("task", in_flight).unwrap();
    let tasks = Some(scope.handle());
    let builder = builder
        .component("tasks", scope)
        .component("requests", Arc::clone(&tracker));
    let builder = builder.closing("log", move || async move {
        sleep(MILLI).await;
        if parts == Parts::CannotBeClosed {
            return Err(Oops(1));
        }
        Ok(())
    });
    Firm {
        shutdown: builder.build().unwrap(),
        tracker,
        tasks,
    }
}

impl Firm {
    /// The shutdown can be gone through to its end, whoever has begun it.
    async fn is_whole(&self) {
        if !self.shutdown.is_requested() {
            drop(self.shutdown.protect().unwrap());
        }
        self.shutdown.request();
        assert_eq!(self.shutdown.protect().err(), Some(Refusal::ShutDown));
        self.shutdown.requested().await;
        let report = self.shutdown.run().await;
        assert!(report.duration <= report.deadline + MILLI, "{report}");
        assert_eq!(report.sections_held, 0);
        let again = self.shutdown.run().await;
        assert_eq!(again.to_string(), report.to_string());
        // Nobody is in flight any more, whether it was asked or aborted.
        self.tracker.drained().await;
        if let Some(tasks) = &self.tasks {
            tasks.drained().await;
            assert_eq!((tasks.counts().ended(), tasks.counts().in_flight), (1, 0));
        }
    }
}

/// Beside it somebody holds a section, requests the shutdown, and runs it as well.
async fn beside<Fut: Future<Output = ()> + Send + 'static>(
    lab: Laboratory,
    parts: Parts,
    work: impl FnMut(Arc<Firm>) -> Fut,
) -> Report {
    let actor = |firm: Arc<Firm>| async move {
        let section = firm.shutdown.protect();
        yield_now().await;
        firm.shutdown.request();
        yield_now().await;
        drop(section);
        let limit = tokio::time::timeout(2 * MILLI, firm.shutdown.run()).await;
        drop(limit);
    };
    let check = async |firm: &Firm, _: &Point| firm.is_whole().await;
    lab.run_beside(async || firm(parts), work, actor, check)
        .await
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    all.push(trial(
        "shutdown: requested",
        &["shutdown::Shutdown::requested"],
        1,
        |lab| {
            beside(lab, Parts::None, |firm| async move {
                firm.shutdown.requested().await;
            })
        },
    ));
    for parts in PARTS {
        let covers = &["shutdown::Shutdown::run"];
        all.push(trial(
            format!("shutdown: run, {parts:?}"),
            covers,
            1,
            move |lab| {
                beside(lab, parts, |firm| async move {
                    firm.shutdown.run().await;
                })
            },
        ));
        all.push(trial(
            format!("shutdown: run in a section, {parts:?}"),
            covers,
            2,
            move |lab| {
                beside(lab, parts, |firm| async move {
                    let section = firm.shutdown.protect();
                    firm.shutdown.request();
                    yield_now().await;
                    drop(section);
                    let report = firm.shutdown.run().await;
                    assert!(report.duration <= report.deadline + MILLI);
                })
            },
        ));
    }
    all
}

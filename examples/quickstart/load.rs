//! The load: the same calls at the same times, whoever makes them.

use std::time::Duration;

use indicatif::ProgressBar;
use mainstay::Error;
use reqwest::{Method, Request, Response, Url};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use tower::ServiceExt;

use crate::client::{CallError, Shopper};
use crate::server::{PLAN_END, fault};

/// Calls start at fixed times, whether or not earlier ones have ended: as customers do.
const BETWEEN_CALLS: Duration = Duration::from_millis(10);
/// So soon, a caller can still turn to something else.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    /// A policy said no at once, and nothing was sent.
    RefusedAtOnce,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it was due, from the start of the run.
    pub(crate) at: Duration,
    /// How long after that its caller knew the outcome.
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

/// How many calls a run makes.
pub(crate) fn calls() -> u32 {
    u32::try_from(PLAN_END.as_millis() / BETWEEN_CALLS.as_millis()).unwrap_or(u32::MAX)
}

/// Makes every call of a run, and waits for all of them.
pub(crate) async fn run(
    client: impl Shopper,
    url: &Url,
    start: Instant,
    bar: &ProgressBar,
) -> Vec<Record> {
    // A late tick does not move the later ones: what is due is due.
    let mut ticks = interval_at(start, BETWEEN_CALLS);
    let mut running = JoinSet::new();
    for _ in 0..calls() {
        let due = ticks.tick().await;
        let at = due.duration_since(start);
        let call = client
            .clone()
            .oneshot(Request::new(Method::GET, url.clone()));
        running.spawn(async move {
            let outcome = outcome(call.await, due).await;
            let took = due.elapsed();
            Record { at, took, outcome }
        });
        bar.set_message(fault(at).name());
        bar.inc(1);
    }
    bar.set_message("last answers");
    running.join_all().await
}

/// Reads the answer too: that is part of the call.
async fn outcome(result: Result<Response, CallError>, due: Instant) -> Outcome {
    match result {
        Ok(answer) => read(answer)
            .await
            .map_or(Outcome::Failed, |()| Outcome::Succeeded),
        Err(Error::Refused { attempts: 0, .. }) if due.elapsed() < AT_ONCE => {
            Outcome::RefusedAtOnce
        }
        Err(_) => Outcome::Failed,
    }
}

async fn read(answer: Response) -> reqwest::Result<()> {
    answer.error_for_status()?.bytes().await.map(drop)
}

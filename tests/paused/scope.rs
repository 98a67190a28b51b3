//! Scopes together with pipelines, over the public API.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use mainstay::prelude::*;
use mainstay::scope::{OnError, Scope, Tracker};
use mainstay::{Error, Pipeline, Refusal};
use tokio::time::{Instant, sleep};

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

/// The permits of what a cancelled scope drops come back.
#[tokio::test(start_paused = true)]
async fn a_scope_that_ends_early_leaves_no_permit_behind() {
    let bulkhead = Bulkhead::builder().max_concurrent(3).build().unwrap();
    let calls = Pipeline::builder("calls")
        .policy(bulkhead.clone())
        .build()
        .unwrap();
    let calls = Arc::new(calls);
    let scope = Scope::builder().grace(Duration::ZERO).build().unwrap();
    for n in 0..5 {
        let calls = Arc::clone(&calls);
        let task = async move {
            let call = || async move {
                sleep(SECOND * (n + 1)).await;
                if n == 1 { Err(Oops(n)) } else { Ok(n) }
            };
            calls.call(call).await
        };
        scope.spawn(format!("call {n}"), task).unwrap();
    }
    let report = scope.join().await;
    assert_eq!(
        report.first_error.as_ref().unwrap().to_string(),
        "call 1 failed: oops 1"
    );
    assert_eq!(
        (
            report.counts.completed,
            report.counts.failed,
            report.counts.aborted
        ),
        (1, 1, 3)
    );
    assert_eq!(
        (bulkhead.snapshot().in_use, bulkhead.snapshot().queued),
        (0, 0)
    );
}

/// A task's error is one of a pipeline as well: it flattens.
#[tokio::test(start_paused = true)]
async fn a_task_is_an_operation_of_a_pipeline() {
    let scope = Scope::builder().on_error(OnError::Collect).build().unwrap();
    let task = scope.spawn("slow", async {
        sleep(9 * SECOND).await;
        Ok::<_, Oops>(1)
    });
    let error = task.unwrap().timeout(SECOND).await.unwrap_err();
    assert!(error.is_timed_out());
    let failed = scope
        .spawn("fails", async { Err::<(), _>(Oops(1)) })
        .unwrap();
    let error = failed.timeout(SECOND).await.unwrap_err().flatten();
    assert_eq!(error, Error::operation(Oops(1)));
    assert_eq!(
        scope.counts().in_flight,
        1,
        "who gave up the handle gave up nothing else"
    );
}

/// A time limit around the structured form ends the tasks as well.
#[tokio::test(start_paused = true)]
async fn a_time_limit_around_a_run_ends_its_tasks() {
    let tracker = Arc::new(Tracker::new());
    let counted = Arc::clone(&tracker);
    let run = async {
        let run = Scope::new().run(|scope| async move {
            for _ in 0..3 {
                let task = counted.track_owned(pending::<Result<(), Infallible>>());
                scope.spawn("waits", task?).map_err(Refusal::from)?;
            }
            pending::<Result<(), Refusal>>().await
        });
        run.await.0
    };
    let start = Instant::now();
    assert!(run.timeout(SECOND).await.unwrap_err().is_timed_out());
    tracker.drained().await;
    assert_eq!(start.elapsed(), SECOND);
}

/// A scope inside of a task of another: the inner tasks end with the outer one.
#[tokio::test(start_paused = true)]
async fn scopes_nest() {
    let tracker = Arc::new(Tracker::new());
    let outer = Scope::builder().grace(Duration::ZERO).build().unwrap();
    let counted = Arc::clone(&tracker);
    let token = outer.token();
    let task = async move {
        let inner = Scope::builder().parent(&token).build().unwrap();
        for _ in 0..3 {
            let task = counted
                .track_owned(pending::<Result<(), Infallible>>())
                .unwrap();
            inner.spawn("inner", task).unwrap();
        }
        inner.drained().await;
        Ok::<_, Infallible>(())
    };
    outer.spawn("outer", task).unwrap();
    sleep(SECOND).await;
    assert_eq!(tracker.in_flight(), 3);
    outer.cancel();
    assert_eq!(outer.join().await.counts.aborted, 1);
    tracker.drained().await;
}

/// `?` takes a refusal into a boxed error, whatever future it holds.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_like_any_other() {
    fn spawn(scope: &Scope) -> Result<(), mainstay::BoxError> {
        let not_sync = std::cell::Cell::new(1);
        scope.spawn("late", async move {
            sleep(SECOND).await;
            not_sync.set(2);
            Ok::<_, Infallible>(())
        })?;
        Ok(())
    }
    let scope = Scope::new();
    spawn(&scope).unwrap();
    scope.close();
    assert_eq!(spawn(&scope).unwrap_err().to_string(), "shutting down");
}

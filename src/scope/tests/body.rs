//! The body of `run` is one of the tasks.

use super::*;
use crate::shutdown::{Component, Shutdown};

const HOUR: Duration = Duration::from_secs(3600);

async fn body(_: ScopeHandle) -> Answer {
    never().await
}

#[tokio::test(start_paused = true)]
async fn an_abort_after_a_cancel_ends_the_body() {
    let ways: [fn(&ScopeHandle); 3] = [
        ScopeHandle::abort,
        |scope| {
            scope.cancel();
            scope.abort();
        },
        |scope| {
            scope.token().cancel();
            scope.abort();
        },
    ];
    for end in ways {
        let scope = Scope::builder().grace(HOUR).build().unwrap();
        let handle = scope.handle();
        let start = now();
        let ender = async {
            sleep(SECOND).await;
            end(&handle);
        };
        let ((result, report), ()) = tokio::join!(scope.run(body), ender);
        assert_eq!(result, Err(cancelled(1)));
        assert_counts(report.counts, [0, 0, 0, 0, 0, 1]);
        assert_eq!(now().since(start), SECOND);
    }
}

/// What a shutdown asks has the shutdown's times; the user's own cancel has the scope's.
#[tokio::test(start_paused = true)]
async fn the_shorter_of_two_graces_counts() {
    let builder = || Scope::builder().grace(SECOND).build().unwrap();
    let (scope, tasks) = (builder(), builder());
    let handle = scope.handle();
    tasks.spawn("never", never()).unwrap();
    let start = now();
    let ender = async {
        tokio::task::yield_now().await;
        for scope in [&handle, &tasks.handle()] {
            Component::cancel(scope);
        }
        sleep(HOUR).await;
        handle.cancel();
        tasks.cancel();
        tasks.join().await;
    };
    let ((result, _), ()) = tokio::join!(scope.run(body), ender);
    assert_eq!(result, Err(cancelled(1)));
    assert_eq!(now().since(start), HOUR + SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_body_is_in_flight_and_has_no_place() {
    let scope = Scope::builder().limit(1).build().unwrap();
    let handle = scope.handle();
    let outside = scope.handle();
    let look = async {
        tokio::task::yield_now().await;
        assert_eq!(outside.counts().in_flight, 2);
        assert_eq!(outside.tasks()[0].to_string(), "#1 body: running for 0s");
        outside.drained().await;
    };
    let start = now();
    let run = scope.run(|_| async move {
        handle.spawn("beside", ok(SECOND)).unwrap();
        sleep(2 * SECOND).await;
        Answer::Ok(1)
    });
    let ((_, report), ()) = tokio::join!(run, look);
    assert_eq!(now().since(start), 2 * SECOND, "waited for the body too");
    assert_counts(report.counts, [0, 2, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_body() {
    let scope = Scope::builder().grace(HOUR).build().unwrap();
    let shutdown = Shutdown::builder()
        .deadline(10 * SECOND)
        .component("jobs", scope.handle())
        .build()
        .unwrap();
    let running = tokio::spawn(scope.run(body));
    tokio::task::yield_now().await;
    shutdown.request();
    let report = shutdown.run().await;
    assert_eq!(report.components[0].counts.aborted, 1, "{report}");
    assert_eq!(running.await.unwrap().0, Err(cancelled(1)));
}

/// As for tasks: without a timer there is no grace.
#[test]
fn without_a_timer_a_body_has_no_grace() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (result, report) = runtime.block_on(Scope::new().run(async |scope: ScopeHandle| {
        scope.spawn("fails", ready(Answer::Err("no"))).unwrap();
        never().await
    }));
    assert_eq!(result, Err(cancelled(1)));
    assert_counts(report.counts, [0, 0, 1, 0, 0, 1]);
}

/// Trap 76: errors or not, the panic comes through, and is told in the report of others.
#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_counted_and_collects() {
    for on_error in [OnError::Collect, OnError::CancelOthers] {
        let scope = Scope::builder().on_error(on_error).build().unwrap();
        let handle = scope.handle();
        let run = scope.run(async |scope: ScopeHandle| {
            scope.spawn("goes on", ok(SECOND)).unwrap();
            oh()
        });
        let panic = catch_panic(run).await.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"oh"));
        let report = handle.report();
        let went_on = u64::from(on_error == OnError::Collect);
        assert_counts(report.counts, [0, went_on, 0, 1, 0, 1 - went_on]);
        assert_eq!(report.first_error.unwrap().to_string(), "body panicked: oh");
    }
}

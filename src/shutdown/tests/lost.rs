//! What went wrong while a shutdown waited is told, and costs no time.

use super::*;
use crate::scope::OnError;

/// A future that panics when it is polled, or dropped only.
struct Bomb {
    polled: bool,
}

impl Future for Bomb {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> std::task::Poll<()> {
        assert!(!self.polled, "poll");
        std::task::Poll::Ready(())
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("destructor");
    }
}

struct Drains<F>(F);

impl<F, D> Component for Drains<F>
where
    F: Fn() -> D + Send + Sync + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    fn stop(&self) {}

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin((self.0)())
    }

    fn cancel(&self) {}

    fn abort(&self) {}

    fn counts(&self) -> Counts {
        Counts::default()
    }
}

/// Trap 76: wherever it panics, it has failed at once, and the next stage has its time.
#[tokio::test(start_paused = true)]
async fn a_wait_whose_destructor_panics_has_failed_and_holds_nobody_up() {
    for polled in [false, true] {
        let log = Log::default();
        let ends = [Some(SECOND), None, None];
        let shutdown = ten()
            .component("bomb", Drains(move || Bomb { polled }))
            .component("next", ending("next", &log, ends))
            .build()
            .unwrap();
        let report = run(&shutdown).await;
        assert_eq!(statuses(&report), [Status::Failed, Status::Completed]);
        assert_eq!(report.duration, SECOND, "{report}");
        assert!(report.components[0].failure.is_some());
    }
}

/// Work that failed or panicked while it was waited for was lost: that is not in order.
#[tokio::test(start_paused = true)]
async fn tasks_that_fail_during_the_shutdown_are_told_and_not_in_order() {
    for early in [true, false] {
        let scope = Scope::builder().on_error(OnError::Collect).build().unwrap();
        for (name, after) in [("before", SECOND), ("after", 3 * SECOND)] {
            let task = async move {
                sleep(after).await;
                if early && name == "after" {
                    Ok(())
                } else {
                    Err(name)
                }
            };
            scope.spawn(name, task).unwrap();
        }
        let shutdown = ten().component("jobs", scope.handle()).build().unwrap();
        sleep(2 * SECOND).await;
        let report = run(&shutdown).await;
        let failure = report.components[0].failure.as_deref();
        if early {
            assert_eq!((failure, report.is_orderly()), (None, true), "{report}");
        } else {
            assert_eq!(failure, Some("after failed: after"));
            assert_eq!(statuses(&report), [Status::Failed]);
            assert_eq!((report.is_orderly(), report.exit_code()), (false, 1));
        }
    }
}

/// Without a time of its own to abort, what was aborted is looked at once more.
#[tokio::test(start_paused = true)]
async fn what_is_aborted_at_the_deadline_itself_has_not_timed_out() {
    let scope = Scope::new();
    let never = pending::<Result<(), Infallible>>();
    scope.spawn("never", never).unwrap();
    let shutdown = ten()
        .shares(0.8, 0.2, 0.0)
        .component("jobs", scope.handle())
        .build()
        .unwrap();
    let report = run(&shutdown).await;
    assert_eq!(statuses(&report), [Status::Aborted], "{report}");
    assert_eq!(report.components[0].counts.aborted, 1);
}

//! A panic of the operation, at each attempt, harms nobody else.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Poll;

use tokio::time::sleep;

use crate::support::{Oops, Stepped};
use crate::whole::{Outcome, SECOND, Whole};

/// Where in an attempt the operation panics.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the closure, before there is a future.
    Start,
    /// In the first poll of the future.
    FirstPoll,
    /// After the future was pending.
    LaterPoll,
}

fn panicking(whole: &Whole, at: u32, place: Place) -> Stepped<'_, Outcome> {
    let attempts = Cell::new(0);
    Stepped::new(whole.pipeline.call(move || {
        attempts.set(attempts.get() + 1);
        let attempt = attempts.get();
        let due = move |here| attempt == at && here as u8 == place as u8;
        unwind_if(due(Place::Start));
        async move {
            unwind_if(due(Place::FirstPoll));
            sleep(SECOND).await;
            unwind_if(due(Place::LaterPoll));
            Err(Oops(attempt))
        }
    }))
}

/// Unwinds without a word on standard error.
fn unwind_if(due: bool) {
    if due {
        resume_unwind(Box::new("by request"));
    }
}

/// Drives the call until it panics.
async fn until_it_panics(call: &mut Stepped<'_, Outcome>, case: &str) {
    for _ in 0..64 {
        match catch_unwind(AssertUnwindSafe(|| call.poll())) {
            Err(panic) => {
                assert_eq!(panic.downcast_ref(), Some(&"by request"), "{case}");
                return;
            }
            Ok(Poll::Ready(result)) => panic!("{case}: ended with {result:?}"),
            Ok(Poll::Pending) => sleep(SECOND / 4).await,
        }
    }
    panic!("{case}: did not panic");
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_any_attempt_gives_back_what_the_call_held() {
    for place in [Place::Start, Place::FirstPoll, Place::LaterPoll] {
        for attempt in 1..=3 {
            let case = format!("{place:?} of attempt {attempt}");
            let whole = Whole::new();
            let mut call = panicking(&whole, attempt, place);
            until_it_panics(&mut call, &case).await;
            // At once, although the call is still there.
            whole.holds_nothing(&case);
            whole.breaker_counted(attempt, &case);
            whole.is_whole(&case).await;
            drop(call);
            whole.is_whole(&case).await;
        }
    }
}

/// Who waits for the one that panics is served, and is not told.
#[tokio::test(start_paused = true)]
async fn a_panic_lets_the_next_in_the_queue_in() {
    for place in [Place::FirstPoll, Place::LaterPoll] {
        let whole = Whole::new();
        let case = format!("{place:?}");
        let mut holder = panicking(&whole, 1, Place::LaterPoll);
        assert!(holder.poll().is_pending());
        let mut waiting = whole.call(0);
        assert!(waiting.poll().is_pending());
        assert_eq!(whole.bulkhead.snapshot().queued, 1, "{case}");
        until_it_panics(&mut holder, &case).await;
        assert!(waiting.wakes() > 0, "{case}");
        assert!(waiting.poll().is_pending());
        assert_eq!(whole.started.get(), 1, "{case}: it was let in");
        drop((holder, waiting));
        whole.is_whole(&case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_task_is_seen_as_such_and_the_pipeline_lives_on() {
    let whole = Whole::new();
    let pipeline = whole.pipeline.clone();
    let task = tokio::spawn(async move {
        pipeline
            .call(|| async {
                tokio::task::yield_now().await;
                unwind_if(true);
                Ok::<u32, Oops>(1)
            })
            .await
    });
    assert!(task.await.unwrap_err().is_panic());
    whole.is_whole("after a task's panic").await;
}

//! Blocking work under time limits, whole pipelines around it.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::offload::Offload;
use mainstay::prelude::*;
use mainstay::{Error, Refusal};

use crate::support::{Oops, Stepped};

const SECOND: Duration = Duration::from_secs(1);

/// Work that lasts until its sender goes, and says when it begins.
fn held() -> (Sender<()>, impl Fn() -> Result<u32, Oops> + Send + Sync) {
    let (hold, until) = channel::<()>();
    let until = Mutex::new(until);
    (hold, move || {
        let _gone = until.lock().unwrap().recv();
        Ok(7)
    })
}

async fn begins(offload: &Offload, running: u32) {
    while offload.snapshot().running != running {
        tokio::task::yield_now().await;
    }
}

/// Trap 57: what never yields is cut short by the clock all the same, since it is elsewhere.
/// Trap 81: the wait is bounded, the outcome told, the number visible.
#[tokio::test(start_paused = true)]
async fn a_computation_that_never_yields_is_cut_short_by_a_pipeline() {
    let offload = Offload::builder().threads(1).build().unwrap();
    let pipeline = Pipeline::builder("query")
        .timeout(10 * SECOND)
        .build()
        .unwrap();
    let (hold, work) = held();
    let mut call = Stepped::new(offload.run(work).through(&pipeline));
    assert!(call.poll().is_pending());
    begins(&offload, 1).await;
    tokio::time::advance(10 * SECOND).await;
    let std::task::Poll::Ready(told) = call.poll() else {
        panic!("still pending");
    };
    let error: Error<Oops> = told.unwrap_err();
    assert_eq!((error.is_timed_out(), error.attempts()), (true, 1));
    let seen = offload.snapshot();
    assert_eq!((seen.running, seen.abandoned), (1, 1));
    drop(hold);
    begins(&offload, 0).await;
    assert_eq!(offload.snapshot().abandoned, 0);
}

/// A time limit of each attempt abandons one thread after another; then it is full, and no
/// more are heaped up.
#[tokio::test(start_paused = true)]
async fn attempts_that_are_abandoned_use_their_threads_up() {
    let offload = Offload::builder().threads(2).queue(0).build().unwrap();
    let retry = Retry::builder()
        .max_attempts(5)
        .backoff(Backoff::constant(Duration::ZERO));
    let pipeline = Pipeline::builder("query").retry(retry).timeout(SECOND);
    let pipeline = pipeline.build().unwrap();
    let (hold, work) = held();
    let mut call = Stepped::new(offload.run_repeatable(work).through(&pipeline));
    for running in [1, 2] {
        assert!(call.poll().is_pending());
        begins(&offload, running).await;
        tokio::time::advance(SECOND).await;
    }
    let std::task::Poll::Ready(told) = call.poll() else {
        panic!("still pending");
    };
    let full = Error::refused(Refusal::bulkhead_full(Duration::ZERO));
    let error = told.unwrap_err();
    assert_eq!((error.refusal(), error.attempts()), (full.refusal(), 2));
    let _: Error<Oops> = full;
    assert_eq!(offload.snapshot().abandoned, 2);
    drop(hold);
    begins(&offload, 0).await;
}

/// No wait is begun that could not end in time.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_come_starts_no_thread() {
    let offload = Offload::builder().threads(1).build().unwrap();
    let (hold, work) = held();
    let mut busy = Stepped::new(offload.run(work));
    assert!(busy.poll().is_pending());
    begins(&offload, 1).await;
    let touched = Arc::new(());
    let mine = Arc::clone(&touched);
    let work = move || {
        drop(mine);
        Ok::<_, Oops>(())
    };
    let late = offload.run(work).timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(late.attempts(), 0);
    assert_eq!(Arc::strong_count(&touched), 1, "dropped unrun");
    assert_eq!(offload.snapshot().queued, 0);
    drop((hold, busy));
    begins(&offload, 0).await;
}

//! A pipeline whose types are forgotten is a pipeline all the same.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay::prelude::*;
use mainstay::{Error, Refusal};
use tokio::time::Instant;

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

fn erased() -> DynPipeline<u32, Oops> {
    let retry = Retry::builder().max_attempts(3).delay_by(|_| SECOND);
    Pipeline::builder("erased")
        .retry(retry)
        .build()
        .unwrap()
        .erase()
}

#[tokio::test(start_paused = true)]
async fn policies_around_an_erased_call_nest_no_errors() {
    let failed: Result<u32, Error<Oops>> = erased()
        .call(|| async { Err(Oops(1)) })
        .timeout(SECOND * 9)
        .await;
    let error = failed.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (3, Some(&Oops(1))));
    let pipeline = erased();
    let answered = pipeline
        .call(|| async { Err(Oops(1)) })
        .fallback(Fallback::value(7));
    assert_eq!(answered.await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn an_erased_call_inherits_the_deadline_of_the_call_that_it_is_part_of() {
    let outer = Pipeline::builder("outer")
        .timeout(SECOND / 2)
        .build()
        .unwrap();
    let inner = erased();
    let start = Instant::now();
    let error = outer
        .call_with(|attempt| inner.call(|| async { Err(Oops(2)) }).during(attempt))
        .await
        .unwrap_err();
    assert_eq!(start.elapsed(), Duration::ZERO, "no back-off was begun");
    let own = error.into_last().unwrap();
    assert_eq!((own.attempts(), own.last()), (1, Some(&Oops(2))));
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_done_twice_is_not_by_an_erased_pipeline_either() {
    let counted = AtomicU32::new(0);
    let pipeline = erased();
    let start = || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err(Oops(3)) }
    };
    drop(pipeline.call_once(start));
    let once = pipeline.call_once(start);
    assert_eq!(once.await.unwrap_err().attempts(), 1);
    assert_eq!(counted.into_inner(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_erased_call_gives_its_permits_back_when_it_is_cut_short() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("cut")
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let pipeline: DynPipeline<u32, Oops> = pipeline.erase();
    let hung = pipeline.call(pending).timeout(SECOND);
    assert!(hung.await.unwrap_err().is_timed_out());
    assert_eq!(bulkhead.snapshot().in_use, 0);
    let held = bulkhead.try_acquire(1).unwrap();
    let refused = pipeline
        .call(|| async { Ok(1) })
        .await
        .unwrap_err()
        .refusal();
    assert!(matches!(refused, Some(Refusal::BulkheadFull { .. })));
    drop(held);
}

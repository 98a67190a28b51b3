//! Gathers over the public API, with pipelines and in tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use mainstay::gather::gather;
use mainstay::prelude::*;
use mainstay::{Call, Error, Refusal, infallible};
use tokio::time::{Instant, sleep};

use crate::support::{Oops, Stepped, now};

const SECOND: Duration = Duration::from_secs(1);

async fn after(seconds: u32) -> Result<u32, Oops> {
    sleep(SECOND * seconds).await;
    Ok(seconds)
}

async fn named(name: &str) -> Result<usize, Oops> {
    sleep(SECOND).await;
    Ok(name.len())
}

/// Every form that borrows can be part of a task, and every form of what is owned.
#[tokio::test(start_paused = true)]
async fn a_task_can_hold_every_form() {
    let pipeline = Pipeline::builder("spawned")
        .timeout(9 * SECOND)
        .retry(Retry::builder())
        .circuit_breaker(CircuitBreaker::builder())
        .bulkhead(4)
        .build()
        .unwrap();
    let task = tokio::spawn(async move {
        let names = [String::from("a"), String::from("bc")];
        let mut sum = 0;
        sum += gather(names.iter().map(|name| named(name)))
            .await
            .into_successes()
            .sum::<usize>();
        let items = || names.iter().map(|name| move || named(name));
        let weighted = names.iter().map(|name| (2, named(name)));
        sum += gather(weighted).try_all().await.unwrap().len();
        let every = gather(items()).limit(2).through(&pipeline).await;
        sum += every.len();
        let mut stream = gather(items()).through(&pipeline).as_finished();
        while let Some((_, outcome)) = stream.next().await {
            sum += outcome.unwrap();
        }
        let mut stream = gather(items()).through(&pipeline).in_order();
        while let Some(outcome) = stream.next().await {
            sum += outcome.unwrap();
        }
        let mut stream = gather(items()).through(&pipeline).batches(1);
        while let Some(batch) = stream.next().await {
            sum += batch.len();
        }
        let calls = names.iter().map(|name| pipeline.call(|| named(name)));
        sum += gather(calls).await.flatten().len();
        let owned = || (0..2).map(|n| move || after(n));
        sum += gather(owned()).through(&pipeline).spawned().await.len();
        sum += gather(owned()).spawned().through(&pipeline).await.len();
        sum += gather(owned()).spawned().try_all().await.unwrap().len();
        let mut outcomes = gather(owned()).through(&pipeline).in_background(1);
        while let Some((_, outcome)) = outcomes.next().await {
            sum += outcome.map_or(0, |_| 1);
        }
        let mut outcomes = gather(owned())
            .spawned()
            .through(&pipeline)
            .in_background(1);
        while let Some((_, outcome)) = outcomes.next().await {
            sum += outcome.map_or(0, |_| 1);
        }
        let mut outcomes = gather(owned()).in_background(1);
        while let Some((_, outcome)) = outcomes.next().await {
            sum += outcome.map_or(0, |_| 1);
        }
        sum
    });
    assert_eq!(task.await.unwrap(), 3 + 2 + 2 + 3 + 3 + 2 + 2 + 6 + 6);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_a_source() {
    let pages = futures_util::stream::iter(0..5).map(after);
    let begin = Instant::now();
    let gathered = gather(pages.fuse()).limit(2).await;
    assert!(gathered.is_complete());
    assert!(gathered.into_successes().eq(0..5));
    // 0, 1, 2 and so on, two at a time: 1 and 3 seconds, next to 2 and 4.
    assert_eq!(begin.elapsed(), 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn items_that_cannot_fail_are_items() {
    let items = (0..3).map(|n| infallible(async move { n }));
    assert!(gather(items).await.successes().eq(&[0, 1, 2]));
}

/// One error, flat, with the attempts of the pipeline in it.
#[tokio::test(start_paused = true)]
async fn an_item_through_a_pipeline_is_tried_again_and_its_error_is_flat() {
    let pipeline = Pipeline::builder("retried")
        .retry(
            Retry::builder()
                .backoff(Backoff::none())
                .max_attempts(3)
                .no_budget(),
        )
        .build()
        .unwrap();
    let items = (0..4_u32).map(|n| {
        let mut tries = 0;
        move || {
            tries += 1;
            std::future::ready(if tries > n { Ok(tries) } else { Err(Oops(n)) })
        }
    });
    let gathered = gather(items).through(&pipeline).await;
    assert!(gathered.successes().eq(&[1, 2, 3]));
    let (index, error) = gathered.failures().next().unwrap();
    assert_eq!(
        (index, error.attempts(), error.last()),
        (3, 3, Some(&Oops(3)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_gather_tells_how_far_the_pipeline_came() {
    let pipeline = Pipeline::builder("retried")
        .retry(
            Retry::builder()
                .backoff(Backoff::none())
                .max_attempts(9)
                .no_budget(),
        )
        .build()
        .unwrap();
    let failing = || async {
        sleep(SECOND).await;
        Err::<(), _>(Oops(7))
    };
    let limit = SECOND * 5 / 2;
    for form in 0..3 {
        let items = [failing];
        let gathered = match form {
            0 => gather(items).through(&pipeline).timeout(limit).await,
            1 => gather(items).through(&pipeline).deadline(limit).await,
            _ => {
                gather(items)
                    .through(&pipeline)
                    .spawned()
                    .timeout(limit)
                    .await
            }
        };
        let error = gathered.failures().next().unwrap().1;
        let expected = Error::timed_out(limit);
        assert_eq!(
            error.to_string(),
            "timed out after 2.5s (3 attempts; last error: oops 7)"
        );
        assert_eq!(
            std::mem::discriminant(error),
            std::mem::discriminant(&expected)
        );
    }
}

/// What stands inside of the pipeline knows the gather's limits: no wait is begun that could
/// not end in time.
#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_end_before_the_limit_is_not_begun() {
    let limiter = RateLimiter::builder()
        .rate(1, 10 * SECOND)
        .burst(1)
        .max_wait(60 * SECOND)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("slow")
        .rate_limit(limiter)
        .build()
        .unwrap();
    for deadline in [false, true] {
        let items = (0..2).map(|n| move || after(n));
        let gather = gather(items).through(&pipeline);
        let begin = Instant::now();
        let gathered = if deadline {
            gather.deadline(5 * SECOND).await
        } else {
            gather.timeout(5 * SECOND).await
        };
        let (_, error) = gathered.failures().last().unwrap();
        assert!(
            matches!(error.refusal(), Some(Refusal::RateLimited { .. })),
            "{error}"
        );
        assert!(begin.elapsed() < SECOND);
        sleep(20 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gather_of_calls_nests_and_flattens() {
    let pipeline = Pipeline::builder("calls").timeout(SECOND).build().unwrap();
    let calls = [1, 2].map(|n| pipeline.call(move || after(n)));
    let gathered = gather::<[Call<'_, _>; 2], _, _>(calls).await.flatten();
    let (index, error) = gathered.failures().next().unwrap();
    assert_eq!((index, error.attempts()), (1, 1));
    assert_eq!(error.to_string(), "timed out after 1s");
}

/// Trap 32: the permits of all siblings are back, whatever ends the gather.
#[tokio::test(start_paused = true)]
async fn the_permits_of_all_siblings_are_back_when_one_panics_or_fails_or_all_is_dropped() {
    let bulkhead = Bulkhead::builder().max_concurrent(100).build().unwrap();
    let pipeline = Pipeline::builder("held")
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let inside = || bulkhead.snapshot().in_use;
    let items = |bad: fn() -> Result<u32, Oops>| {
        (0..100_u32).map(move |n| {
            move || async move {
                sleep(SECOND).await;
                if n == 37 { bad() } else { after(5).await }
            }
        })
    };
    let fail: fn() -> Result<u32, Oops> = || Err(Oops(37));
    let panics: fn() -> Result<u32, Oops> = || std::panic::resume_unwind(Box::new("37"));

    let all = gather(items(fail)).limit(100).through(&pipeline);
    let error = all.try_all().await.unwrap_err();
    assert_eq!((error.index, inside()), (37, 0));

    let all = gather(items(panics)).limit(100).through(&pipeline);
    let error = all.try_all().await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), inside()),
        ("item 37: panicked: 37", 0)
    );

    let seen = Arc::new(AtomicUsize::new(0));
    let task = tokio::spawn({
        let (bulkhead, seen) = (bulkhead.clone(), Arc::clone(&seen));
        async move {
            let pipeline = Pipeline::builder("held")
                .bulkhead(bulkhead.clone())
                .build()
                .unwrap();
            let all = gather(items(panics))
                .limit(100)
                .through(&pipeline)
                .propagate_panics();
            let mut all = std::pin::pin!(all.into_future());
            let polled = std::future::poll_fn(|cx| {
                let poll = std::panic::AssertUnwindSafe(|| all.as_mut().poll(cx));
                match std::panic::catch_unwind(poll) {
                    Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
                    Ok(std::task::Poll::Ready(_)) => std::task::Poll::Ready(false),
                    Err(_) => std::task::Poll::Ready(true),
                }
            });
            assert!(polled.await);
            // The gather is still there, and holds nothing.
            seen.store(bulkhead.snapshot().in_use as usize + 1, Ordering::SeqCst);
        }
    });
    task.await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 1);

    let mut all = Stepped::new(
        gather(items(fail))
            .limit(100)
            .through(&pipeline)
            .into_future(),
    );
    assert!(all.poll().is_pending());
    assert_eq!(inside(), 100);
    drop(all);
    assert_eq!(inside(), 0);
    assert!(now(pipeline.call(|| async { Ok::<_, Oops>(1) })).is_ok());
}

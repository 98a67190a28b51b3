//! Items that are asked to end while a pipeline has them: between two attempts, before the
//! first, within one.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::*;
use crate::retry::{Backoff, Jitter};
use crate::testing::drop_at_every_poll;
use crate::{Bulkhead, Pipeline, Retry};

const SECOND: Duration = Duration::from_secs(1);

/// Fails at once, works for a second, hangs until it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Fail,
    Work,
    WorkAndFail,
    UntilAsked,
}

type Asked = Queue<Step, u32, String>;

/// A queue whose items are tried up to four times, with 2 s between; and how often the
/// handler was called.
fn retrying() -> (Asked, Arc<AtomicU32>) {
    let backoff = Backoff::constant(2 * SECOND).jitter(Jitter::None);
    let pipeline = Pipeline::builder("asked")
        .retry(Retry::builder().backoff(backoff).max_attempts(4))
        .bulkhead(Bulkhead::builder().max_concurrent(1).max_queue(9))
        .build()
        .unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let queue = Queue::builder()
        .workers(2)
        .through(pipeline)
        .build_with(move |step, job| {
            let nth = counted.fetch_add(1, SeqCst) + 1;
            async move {
                match step {
                    Step::Fail => return Err(format!("call {nth}")),
                    Step::Work | Step::WorkAndFail => sleep(SECOND).await,
                    Step::UntilAsked => job.token().cancelled().await,
                }
                if step == Step::WorkAndFail {
                    return Err(format!("call {nth}"));
                }
                Ok(nth)
            }
        })
        .unwrap();
    (queue, calls)
}

#[tokio::test(start_paused = true)]
async fn an_item_that_waits_to_be_tried_again_ends_when_it_is_asked() {
    let (queue, calls) = retrying();
    let ticket = queue.push(Step::Fail).await.unwrap();
    sleep(SECOND).await;
    let start = time::now();
    ticket.cancel();
    let error = ticket.await.unwrap_err();
    assert_eq!((error.is_cancelled(), error.attempts()), (true, 1));
    assert_eq!((time::now(), calls.load(SeqCst)), (start, 1));
    let next = queue.push(Step::Work).await.unwrap();
    assert_eq!(next.await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_waits_for_a_policy_ends_when_it_is_asked_and_leaves_its_place() {
    let (queue, calls) = retrying();
    let first = queue.push(Step::Work).await.unwrap();
    let second = queue.push(Step::Work).await.unwrap();
    sleep(SECOND / 2).await;
    second.cancel();
    let start = time::now();
    assert_eq!(second.await, Err(Error::cancelled()));
    assert_eq!(time::now(), start);
    let third = queue.push(Step::Work).await.unwrap();
    assert_eq!((first.await, third.await), (Ok(1), Ok(2)));
    assert_eq!(calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn the_attempt_under_way_is_the_last_and_its_result_counts() {
    for (step, failed) in [
        (Step::Work, false),
        (Step::WorkAndFail, true),
        (Step::UntilAsked, false),
    ] {
        let (queue, calls) = retrying();
        let ticket = queue.push(step).await.unwrap();
        sleep(SECOND / 2).await;
        queue.cancel();
        let start = time::now();
        let outcome = ticket.await;
        assert!(time::now().since(start) <= SECOND / 2);
        let expected = if failed {
            Err(Error::operation(String::from("call 1")))
        } else {
            Ok(1)
        };
        assert_eq!((outcome, calls.load(SeqCst)), (expected, 1), "{step:?}");
        // The place in the bulkhead has been given back.
        let next = queue.push(Step::Work).await.unwrap();
        assert_eq!(next.await, Ok(2));
    }
}

/// Its number is exact also where earlier attempts have failed.
#[tokio::test(start_paused = true)]
async fn the_last_attempts_failure_counts_the_earlier_ones() {
    let (queue, _) = retrying();
    let ticket = queue.push(Step::WorkAndFail).await.unwrap();
    sleep(SECOND * 7 / 2).await;
    ticket.cancel();
    let error = ticket.await.unwrap_err();
    assert!(
        matches!(error, Error::Operation { attempts: 2, .. }),
        "{error:?}"
    );
    assert_eq!(error.last(), Some(&String::from("call 2")));
    assert_eq!(queue.snapshot().failed, 1);
}

/// Trap 85.
#[tokio::test(start_paused = true)]
async fn items_that_were_asked_between_attempts_do_not_hold_a_shutdown_up() {
    let (queue, _) = retrying();
    let ticket = queue.push(Step::Fail).await.unwrap();
    sleep(SECOND).await;
    let start = time::now();
    queue.cancel();
    let report = queue.shutdown(SECOND).await;
    assert_eq!(time::now(), start);
    assert_eq!((report.counts.cancelled, report.still_running), (1, 0));
    assert_eq!(ticket.await.unwrap_err().attempts(), 1);
}

/// The token may be cancelled by the handler's own hand, too.
#[tokio::test(start_paused = true)]
async fn a_handler_that_cancels_its_own_token_is_not_called_again() {
    let pipeline = Pipeline::builder("own").retry(Retry::builder()).build();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let queue = Queue::builder()
        .through(pipeline.unwrap())
        .build_with(move |(), job| {
            counted.fetch_add(1, SeqCst);
            async move {
                job.token().cancel();
                Err::<(), _>("no more")
            }
        })
        .unwrap();
    let ticket = queue.push(()).await.unwrap();
    assert_eq!(ticket.await, Err(Error::operation("no more")));
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_item_asked_at_any_moment_has_one_outcome_and_no_call_comes_after_it() {
    for step in [Step::Fail, Step::Work, Step::WorkAndFail, Step::UntilAsked] {
        let current = RefCell::new(None);
        drop_at_every_poll(
            || {
                let (queue, calls) = retrying();
                let ticket = queue.try_push(step).unwrap();
                *current.borrow_mut() = Some((queue, calls, ticket));
                async {
                    for _ in 0..5 {
                        tokio::task::yield_now().await;
                        sleep(SECOND / 2).await;
                    }
                }
            },
            async |polls| {
                let (queue, calls, ticket) = current.borrow_mut().take().unwrap();
                let before = calls.load(SeqCst);
                ticket.cancel();
                let start = time::now();
                let outcome = ticket.await;
                assert!(time::now().since(start) <= SECOND);
                assert_eq!(calls.load(SeqCst), before, "{step:?} after {polls}");
                let attempts = outcome.map_or_else(|error| error.attempts(), |_| before);
                assert_eq!(attempts, before);
                adds_up(&queue.snapshot());
                let next = queue.push(Step::Work).await.unwrap();
                assert_eq!(next.await, Ok(before + 1));
            },
        )
        .await;
    }
}

//! Streams with everything at once.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use mainstay::prelude::*;
use mainstay::retry::{Jitter, RetryBudget};
use mainstay::stream::{ResilientStream, every, resume};
use mainstay::{Error, Refusal};
use tokio::time::{Instant, sleep};

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

/// Numbers after `after`, one a second, until it is cut.
fn numbers(after: u32, cut_after: usize) -> impl Stream<Item = Result<u32, Oops>> {
    let items = stream::iter(after + 1..).map(Ok).take(cut_after);
    items
        .chain(stream::iter([Err(Oops(after))]))
        .then(async |item| {
            sleep(SECOND).await;
            item
        })
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_is_resumed_paced_and_ended_in_time() {
    let opened = RefCell::new(Vec::new());
    let open = async |after: u32| {
        opened.borrow_mut().push(after);
        Ok(numbers(after, 3))
    };
    let limiter = RateLimiter::builder()
        .rate(1, 2 * SECOND)
        .burst(1)
        .build()
        .unwrap();
    let retry = Retry::builder()
        .max_attempts(9)
        .backoff(Backoff::constant(SECOND).jitter(Jitter::None));
    let resumed = resume(0, open, |last, n| *last = *n).retry(retry.build().unwrap());
    let mut items = resumed.rate_limit(&limiter).time_limit(20 * SECOND);
    let (begun, mut seen) = (Instant::now(), Vec::new());
    let error = loop {
        match items.next().await.unwrap() {
            Ok(item) => seen.push(item),
            Err(error) => break error,
        }
    };
    assert!(
        seen.iter()
            .copied()
            .eq(1..=u32::try_from(seen.len()).unwrap()),
        "{seen:?}"
    );
    assert!(seen.len() >= 7, "{seen:?}");
    assert!(error.is_timed_out() || matches!(error.refusal(), Some(Refusal::RateLimited { .. })));
    assert!(begun.elapsed() <= 20 * SECOND);
    assert!(items.next().await.is_none());
    assert!(opened.borrow().windows(2).all(|two| two[1] == two[0] + 3));
}

/// The retries of many streams are taken from one budget.
#[tokio::test(start_paused = true)]
async fn a_budget_ends_the_attempts_of_all() {
    let budget = RetryBudget::new(0.0, 5).unwrap();
    let mut reopened = 0;
    for _ in 0..4 {
        let retry = Retry::builder()
            .max_attempts(3)
            .budget(budget.clone())
            .build()
            .unwrap();
        let open = async |_: u32| Err::<stream::Empty<Result<u32, Oops>>, _>(Oops(1));
        let mut items = resume(0, open, |_, _| ()).retry(retry);
        let error = items.next().await.unwrap().unwrap_err();
        assert_eq!(error.last(), Some(&Oops(1)));
        reopened += error.attempts() - 1;
        assert!(items.next().await.is_none());
    }
    assert_eq!(reopened, 5);
}

/// Chained in any order, the error stays flat.
#[tokio::test(start_paused = true)]
async fn errors_do_not_nest() {
    let limiter = RateLimiter::per_second(1000).build().unwrap();
    let token = tokio_util::sync::CancellationToken::new();
    let mut items = numbers(0, 1)
        .rate_limit(&limiter)
        .time_limit_each(SECOND / 2)
        .cancel_on_drop(token.clone())
        .time_limit(3 * SECOND)
        .in_background(2);
    let mut told: Vec<Result<u32, Error<Oops>>> = Vec::new();
    while let Some(item) = items.next().await {
        told.push(item);
    }
    assert_eq!(told.iter().flatten().count(), 1);
    assert!(told.contains(&Err(Error::operation(Oops(0)))));
    assert!(
        told.iter()
            .any(|item| item.as_ref().is_err_and(Error::is_timed_out))
    );
    assert!(token.is_cancelled());
}

/// Trap 62, as a loop that looks after something and is held up for an hour.
#[tokio::test(start_paused = true)]
async fn a_loop_that_is_held_up_runs_once_and_goes_on() {
    let mut beat = every(SECOND);
    let (begun, mut rounds) = (Instant::now(), 0);
    while let Some(tick) = beat.next().await {
        rounds += 1;
        if rounds == 3 {
            sleep(Duration::from_secs(3600)).await;
        }
        if tick.missed > 0 {
            assert_eq!((rounds, tick.missed), (4, 3599));
        }
        if begun.elapsed() >= Duration::from_secs(3604) {
            break;
        }
    }
    assert_eq!(rounds, 6);
}

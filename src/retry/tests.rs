//! The driver, on a paused clock.

mod at_once;
mod model;
mod settings;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_test::{assert_pending, task};

use super::*;
use crate::config::Value;
use crate::observe::Event;
use crate::observe::{EventKind, GaveUp};
use crate::operation::{Operation, Repeatable};
use crate::policy::CallContext;
use crate::prelude::*;
use crate::testing::{catch_panic, drop_at_every_poll, sleep, spin};
use crate::time::now;
use crate::{ConfigError, Error, Progress, Refusal};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<u32, &'static str>;

/// An operation that counts its starts and fails.
struct Broken(Cell<u32>);

impl Broken {
    fn new() -> Self {
        Self(Cell::new(0))
    }

    fn starts(&self) -> u32 {
        self.0.get()
    }

    fn start(&self) -> impl Future<Output = Answer> + use<> {
        self.0.set(self.0.get() + 1);
        ready(Err("down"))
    }
}

fn every_second() -> RetryBuilder {
    let backoff = Backoff::constant(SECOND).jitter(Jitter::None);
    Retry::builder().backoff(backoff)
}

fn at_once() -> RetryBuilder {
    Retry::builder().backoff(Backoff::none())
}

#[tokio::test(start_paused = true)]
async fn waits_between_attempts_and_keeps_the_last_error() {
    let retry = Retry::builder()
        .backoff(Backoff::exponential(Duration::from_millis(100)).jitter(Jitter::None))
        .build()
        .unwrap();
    let start = now();
    let tries = Cell::new(0);
    let error = (|| {
        tries.set(tries.get() + 1);
        let n = tries.get();
        async move { Err::<(), _>(format!("failure {n}")) }
    })
    .retry(&retry)
    .await
    .unwrap_err();
    assert_eq!(now().since(start), Duration::from_millis(300));
    assert_eq!(error.attempts(), 3);
    assert_eq!(error.to_string(), "failure 3 (3 attempts)");
}

#[tokio::test(start_paused = true)]
async fn an_outer_time_limit_knows_the_attempts_and_the_last_error() {
    let mut tries = 0;
    let error = (|| {
        tries += 1;
        let hang = tries == 2;
        async move {
            if hang {
                pending::<()>().await;
            }
            Err::<(), _>("refused")
        }
    })
    .retry(Retry::exponential(Duration::from_millis(100)))
    .timeout(SECOND)
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out after 1s (2 attempts; last error: refused)"
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_real_error_survives_later_attempts_that_time_out() {
    let tries = Cell::new(0);
    let operation = || {
        tries.set(tries.get() + 1);
        let hang = tries.get() > 1;
        async move {
            if hang {
                pending::<()>().await;
            }
            Answer::Err("down")
        }
    };
    let retry = at_once().max_attempts(4).build().unwrap();
    let error = operation.timeout(SECOND).retry(&retry).await.unwrap_err();
    assert_eq!((error.is_timed_out(), error.attempts()), (true, 4));
    assert_eq!(error.last(), Some(&"down"));
}

#[tokio::test(start_paused = true)]
async fn max_attempts_counts_the_first() {
    for max in [1, 2, 7] {
        let broken = Broken::new();
        let retry = at_once().max_attempts(max).build().unwrap();
        let error = (|| broken.start()).retry(&retry).await.unwrap_err();
        assert_eq!((broken.starts(), error.attempts()), (max, max));
        assert_eq!(error.last(), Some(&"down"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_it_and_needs_no_delay() {
    let retry = every_second().build().unwrap();
    let start = now();
    assert_eq!((|| ready(Answer::Ok(1))).retry(&retry).await, Ok(1));
    assert_eq!(now(), start);
    let tries = Cell::new(0);
    let second = || {
        tries.set(tries.get() + 1);
        ready(if tries.get() == 2 { Ok(2) } else { Err("down") })
    };
    assert_eq!(second.retry(&retry).await, Ok(2));
    assert_eq!(now().since(start), SECOND);
}

#[tokio::test(start_paused = true)]
async fn own_delays_are_used_as_they_are_and_their_end_is_the_end() {
    let millis = [5, 0, 70_000].map(Duration::from_millis);
    let retry = Retry::builder()
        .max_attempts(99)
        .delays(move || millis)
        .build()
        .unwrap();
    for _ in 0..2 {
        let (broken, start) = (Broken::new(), now());
        let error = (|| broken.start()).retry(&retry).await.unwrap_err();
        assert_eq!((broken.starts(), error.attempts()), (4, 4));
        assert_eq!(now().since(start), Duration::from_millis(70_005));
    }
}

#[tokio::test(start_paused = true)]
async fn own_delays_by_the_attempts_number() {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&asked);
    let retry = Retry::builder()
        .max_attempts(5)
        .delay_by(move |attempt| {
            told.borrow_mut().push(attempt);
            SECOND * attempt
        })
        // The second wait is named by the server.
        .classify(
            |result: Result<&u32, &Error<u32>>| match result.unwrap_err().last() {
                Some(2) => Verdict::RetryAfter(9 * SECOND),
                _ => Verdict::Retry,
            },
        )
        .build()
        .unwrap();
    let (start, tries) = (now(), Cell::new(0));
    let numbered = || {
        tries.set(tries.get() + 1);
        ready(Err(tries.get()))
    };
    numbered.retry(&retry).await.unwrap_err();
    assert_eq!(now().since(start), (1 + 9 + 3 + 4) * SECOND);
    assert_eq!(asked.take(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_max_elapsed() {
    let retry = every_second()
        .max_attempts(99)
        .max_elapsed(4 * SECOND)
        .build()
        .unwrap();
    for _ in 0..2 {
        let (broken, start) = (Broken::new(), now());
        let error = (|| broken.start()).retry(&retry).await.unwrap_err();
        // At 0, 1, 2 and 3; the one at 4 would be too late, and is not waited for.
        assert_eq!((broken.starts(), error.attempts()), (4, 4));
        assert_eq!(now().since(start), 3 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_begun_that_cannot_end_before_the_deadline() {
    let retry = every_second().max_attempts(99).build().unwrap();
    for (limit, starts) in [(3500, 4), (3001, 4), (3000, 3), (999, 1), (0, 1)] {
        let (broken, start) = (Broken::new(), now());
        let limit = Duration::from_millis(limit);
        let call = (|| broken.start()).retry(&retry).timeout(limit);
        let error = call.await.unwrap_err();
        assert_eq!(
            error,
            Error::operation("down").after(Progress::started(starts - 1))
        );
        assert_eq!(now().since(start), (starts - 1) * SECOND, "{limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_further_up_counts_as_well() {
    let inner = Pipeline::builder("inner")
        .timeout(60 * SECOND)
        .retry(every_second());
    let outer = Pipeline::builder("outer")
        .timeout(SECOND / 2)
        .build()
        .unwrap();
    let inner = inner.build().unwrap();
    let (broken, start) = (Broken::new(), now());
    let call = outer.call_with(|attempt| inner.call(|| broken.start()).during(attempt));
    let error = call.await.unwrap_err();
    assert_eq!((broken.starts(), now()), (1, start));
    assert_eq!(error.last().and_then(|inner| inner.last()), Some(&"down"));
}

#[tokio::test(start_paused = true)]
async fn retry_if_stops_at_other_errors() {
    let retry = at_once()
        .retry_if(|error: &&str| *error == "busy")
        .build()
        .unwrap();
    for (answer, starts) in [("busy", 3), ("bad request", 1)] {
        let tries = Cell::new(0);
        let operation = || {
            tries.set(tries.get() + 1);
            ready(Answer::Err(answer))
        };
        operation.retry(&retry).await.unwrap_err();
        assert_eq!(tries.get(), starts, "{answer}");
    }
    // The time limit of an attempt is none of the operation's errors.
    let error = pending::<Answer>
        .timeout(SECOND)
        .retry(&retry)
        .await
        .unwrap_err();
    assert_eq!((error.is_timed_out(), error.attempts()), (true, 3));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_not_good_enough_is_tried_again_and_at_last_returned() {
    let retry = at_once()
        .classify(|result: Result<&u32, &Error<&str>>| match result {
            Ok(503) => Verdict::Retry,
            _ => Verdict::Stop,
        })
        .build()
        .unwrap();
    let tries = Cell::new(0);
    let operation = |good: u32| {
        let tries = &tries;
        move || {
            tries.set(tries.get() + 1);
            ready(Answer::Ok(if tries.get() == good { 200 } else { 503 }))
        }
    };
    assert_eq!(operation(2).retry(&retry).await, Ok(200));
    tries.set(0);
    assert_eq!(operation(9).retry(&retry).await, Ok(503));
    assert_eq!(tries.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_the_server_names_is_kept_exactly_or_not_at_all() {
    let retry = |longest| {
        every_second()
            .max_retry_after(longest)
            .classify(|result: Result<&u32, &Error<u64>>| {
                let error = result.unwrap_err();
                Verdict::RetryAfter(Duration::from_secs(*error.last().unwrap()))
            })
            .build()
            .unwrap()
    };
    for (named, starts, waited) in [(60, 3, 120), (61, 1, 0), (0, 3, 0)] {
        let (tries, start) = (Cell::new(0), now());
        let operation = || {
            tries.set(tries.get() + 1);
            ready(Err(named))
        };
        operation.retry(retry(60 * SECOND)).await.unwrap_err();
        assert_eq!(
            (tries.get(), now().since(start).as_secs()),
            (starts, waited)
        );
    }
    // Nor is a wait begun that the deadline does not allow.
    let start = now();
    let call = (|| ready(Err(5)))
        .retry(retry(Duration::MAX))
        .timeout(5 * SECOND);
    assert_eq!(call.await.unwrap_err().attempts(), 1);
    assert_eq!(now(), start);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_below_is_not_hammered() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let _held = bulkhead.try_acquire(1).unwrap();
    let asked = Cell::new(0);
    let retry = at_once()
        .retry_if(|_: &&str| {
            asked.set(asked.get() + 1);
            true
        })
        .build()
        .unwrap();
    let broken = Broken::new();
    let call = (|| broken.start()).bulkhead(&bulkhead).retry(&retry);
    let error = call.await.unwrap_err();
    assert!(matches!(
        error.refusal(),
        Some(Refusal::BulkheadFull { .. })
    ));
    assert_eq!((error.attempts(), broken.starts(), asked.get()), (0, 0, 0));
}

/// Trap 56, and the other settings that make no sense.
#[test]
fn bad_settings_are_refused_by_name() {
    let refused = |error: ConfigError| (error.field(), error.value(), error.allowed());
    let none = Retry::builder().max_attempts(0).build().unwrap_err();
    assert_eq!(
        refused(none),
        ("max_attempts", Value::Integer(0), "at least 1")
    );
    let none = Retry::builder()
        .max_elapsed(Duration::ZERO)
        .build()
        .unwrap_err();
    let zero = Value::Duration(Duration::ZERO);
    assert_eq!(refused(none), ("max_elapsed", zero, "more than zero"));
    let backoff = Backoff::exponential(SECOND).factor(f64::NAN);
    let odd = Retry::builder().backoff(backoff).build().unwrap_err();
    assert_eq!(
        (odd.field(), odd.allowed()),
        ("factor", "from 1 to 1000000")
    );
    let odd = Pipeline::builder("odd").retry(backoff).build().unwrap_err();
    assert_eq!(odd.field(), "factor");
    let long = Pipeline::builder("long")
        .retry(Backoff::constant(31 * SECOND))
        .build();
    assert_eq!(long.unwrap_err().field(), "max_delay");
    // The last back-off given counts.
    assert!(
        Retry::builder()
            .backoff(backoff)
            .backoff(Backoff::none())
            .build()
            .is_ok()
    );
    assert!(
        Retry::builder()
            .backoff(backoff)
            .delays(|| [SECOND])
            .build()
            .is_ok()
    );
}

/// Trap 33: the extremes that are accepted work.
#[tokio::test(start_paused = true)]
async fn the_largest_settings_work() {
    let longest = Backoff::constant(Duration::MAX).max_delay(Duration::MAX);
    let patient = Retry::builder()
        .max_attempts(u32::MAX)
        .max_elapsed(Duration::MAX)
        .max_retry_after(Duration::MAX)
        .backoff(longest.jitter(Jitter::None))
        .build()
        .unwrap();
    let broken = Broken::new();
    let mut call = task::spawn((|| broken.start()).retry(&patient));
    assert_pending!(call.poll());
    tokio::time::advance(1_000_000 * SECOND).await;
    assert_pending!(call.poll());
    assert_eq!(broken.starts(), 1);
    let own = Retry::builder()
        .delay_by(|_| Duration::MAX)
        .build()
        .unwrap();
    assert_pending!(task::spawn((|| broken.start()).retry(&own)).poll());
    // With a deadline the longest wait is one that cannot end in time.
    let error = (|| broken.start())
        .retry(&own)
        .timeout(SECOND)
        .await
        .unwrap_err();
    assert_eq!(error.attempts(), 1);
    let odd = Retry::exponential(Duration::MAX);
    let error = (|| broken.start()).retry(&odd).timeout(SECOND).await;
    assert!(error.is_err());
    for span in [
        Duration::MAX.saturating_sub(SECOND),
        Duration::from_nanos(1),
    ] {
        let retry = at_once().max_elapsed(span).build().unwrap();
        (|| broken.start()).retry(&retry).await.unwrap_err();
    }
}

/// Trap 46: no end of attempts.
#[tokio::test(start_paused = true)]
async fn ten_thousand_attempts_with_every_growth() {
    let base = Duration::from_millis(1);
    let growths = [
        Backoff::constant(base),
        Backoff::linear(base),
        Backoff::exponential(base),
        Backoff::fibonacci(base),
    ];
    for backoff in growths {
        let broken = Broken::new();
        let retry = Retry::builder()
            .max_attempts(10_000)
            .no_budget()
            .backoff(backoff);
        (|| broken.start())
            .retry(retry.build().unwrap())
            .await
            .unwrap_err();
        assert_eq!(broken.starts(), 10_000);
    }
}

/// Trap 55: outside of every runtime, where a timer would panic.
#[test]
fn zero_delays_touch_no_timer() {
    let own = || Retry::builder().max_attempts(4).no_budget();
    let broken = Broken::new();
    let start = || broken.start();
    spin(start.retry(own().backoff(Backoff::none()).build().unwrap())).unwrap_err();
    spin(start.retry(own().delays(|| [Duration::ZERO; 3]).build().unwrap())).unwrap_err();
    spin(start.retry(own().delay_by(|_| Duration::ZERO).build().unwrap())).unwrap_err();
    let named = own()
        .classify(|_: Result<&u32, &Error<&str>>| Verdict::RetryAfter(Duration::ZERO))
        .build()
        .unwrap();
    spin(start.retry(named)).unwrap_err();
    assert_eq!(broken.starts(), 16);
    // Nor does an elapsed time, which is only read.
    let timed = own()
        .backoff(Backoff::none())
        .max_elapsed(60 * SECOND)
        .build()
        .unwrap();
    spin(start.retry(timed)).unwrap_err();
    assert_eq!(broken.starts(), 20);
}

/// Trap 55: and a first success touches nothing, whatever the back-off.
#[test]
fn a_success_touches_no_timer() {
    let retry = every_second().max_elapsed(SECOND).build().unwrap();
    assert_eq!(spin((|| ready(Answer::Ok(1))).retry(&retry)), Ok(1));
}

#[test]
fn attempts_without_a_pause_yield_after_32() {
    let broken = Broken::new();
    let retry = at_once().no_budget().max_attempts(100).build().unwrap();
    let mut call = task::spawn((|| broken.start()).retry(&retry));
    for starts in [32, 64, 96] {
        assert_pending!(call.poll());
        assert!(call.is_woken());
        assert_eq!(broken.starts(), starts);
    }
    assert!(call.poll().is_ready());
    assert_eq!(broken.starts(), 100);
}

/// Trap 58: attempts that never wait leave a time limit its chance.
#[tokio::test]
async fn a_time_limit_ends_attempts_that_never_pause() {
    let broken = Broken::new();
    let retry = at_once()
        .no_budget()
        .max_attempts(u32::MAX)
        .build()
        .unwrap();
    let limit = Duration::from_millis(20);
    let error = (|| broken.start())
        .retry(&retry)
        .timeout(limit)
        .await
        .unwrap_err();
    // The limit itself, or the retry below that sees that its time is up.
    assert!(broken.starts() > 32);
    assert_eq!(
        (error.attempts(), error.last()),
        (broken.starts(), Some(&"down"))
    );
}

/// Trap 52.
#[tokio::test(start_paused = true)]
async fn cancelled_in_back_off_no_attempt_follows() {
    let broken = Broken::new();
    let retry = every_second().build().unwrap();
    let mut call = task::spawn((|| broken.start()).retry(&retry));
    assert_pending!(call.poll());
    drop(call);
    sleep(9 * SECOND).await;
    assert_eq!(broken.starts(), 1);
}

/// Trap 52: a limit of its own that cuts the wait: the attempts and the last error are right.
#[tokio::test(start_paused = true)]
async fn a_time_limit_in_back_off_knows_the_attempts_and_the_last_error() {
    let broken = Broken::new();
    let retry = every_second().max_attempts(9).build().unwrap();
    // The limit is not seen below, as it stands around another pipeline's call.
    let call = async { (|| broken.start()).retry(&retry).await };
    let error = call.timeout(5 * SECOND / 2).await.unwrap_err();
    assert_eq!((error.is_timed_out(), broken.starts()), (true, 3));
    // Cut by cancel itself, at the level of operations.
    let mut operation = Box::pin(Retrying::new(&retry, closure(|| broken.start())));
    // Twice, for the second time starts at once: nothing is left of the first wait.
    for starts in [4, 5] {
        let polled = std::future::poll_fn(|cx| {
            let root = CallContext::root();
            Poll::Ready(operation.as_mut().poll(&root, cx))
        });
        assert!(polled.await.is_pending());
        assert_eq!(broken.starts(), starts);
        let progress = operation.as_mut().cancel();
        assert_eq!((progress.attempts, progress.last), (1, Some("down")));
    }
    let again = operation.as_mut().cancel();
    assert_eq!((again.attempts, again.last), (0, None));
}

fn closure<F, Fut>(start: F) -> crate::operation::Closure<crate::operation::Plain<F>, Fut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Answer>,
{
    crate::operation::Closure::new(crate::operation::Plain(start))
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_in_mid_attempt_counts_that_attempt() {
    for (limit, attempts, last) in [(1, 1, None), (4, 2, Some(&"down")), (7, 3, Some(&"down"))] {
        let retry = every_second().max_attempts(9).build().unwrap();
        let slow = || async {
            sleep(2 * SECOND).await;
            Answer::Err("down")
        };
        let error = slow
            .retry(&retry)
            .timeout(limit * SECOND)
            .await
            .unwrap_err();
        assert!(error.is_timed_out());
        assert_eq!((error.attempts(), error.last()), (attempts, last));
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_while_an_attempt_waits_in_a_queue_counts_only_what_was_started() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let taken = RefCell::new(None);
    let broken = Broken::new();
    let retry = every_second()
        .on_retry(|_: &RetryEvent<'_, u32, &str>| {
            *taken.borrow_mut() = bulkhead.try_acquire(1).ok();
        })
        .build()
        .unwrap();
    let call = (|| broken.start()).bulkhead(&bulkhead).retry(&retry);
    let mut call = task::spawn(call.timeout(5 * SECOND));
    for _ in 0..5 {
        assert_pending!(call.poll());
        tokio::time::advance(SECOND).await;
    }
    assert_eq!(bulkhead.snapshot().queued, 1);
    let Poll::Ready(Err(error)) = call.poll() else {
        panic!("still pending");
    };
    assert!(error.is_timed_out());
    assert_eq!((error.attempts(), error.last()), (1, Some(&"down")));
    // The call is still there, its place is not.
    assert_eq!(bulkhead.snapshot().queued, 0);
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn dropped_at_every_poll_nothing_is_left_and_the_next_call_works() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let retry = every_second().no_budget().build().unwrap();
    let running = Cell::new(0);
    let slow = || async {
        running.set(running.get() + 1);
        let _guard = Defer(|| running.set(running.get() - 1));
        sleep(SECOND).await;
        Answer::Err("down")
    };
    let call = || slow.bulkhead(&bulkhead).retry(&retry).timeout(60 * SECOND);
    let drops = drop_at_every_poll(call, async |_| {
        assert_eq!((running.get(), bulkhead.snapshot().in_use), (0, 0));
        let fine = (|| ready(Answer::Ok(1))).bulkhead(&bulkhead).retry(&retry);
        assert_eq!(fine.await, Ok(1));
    })
    .await;
    // Three attempts, two waits, in both ways.
    assert_eq!(drops, 12);
}

/// Cut at every instant: when the error is there, the call itself not yet dropped, nothing
/// is held any more, and what was started has been counted.
#[tokio::test(start_paused = true)]
async fn cut_at_every_instant_everything_is_back_at_once() {
    let tick = Duration::from_millis(1);
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let backoff = Backoff::constant(3 * tick).jitter(Jitter::None);
    let retry = Retry::builder()
        .no_budget()
        .backoff(backoff)
        .build()
        .unwrap();
    let started = Cell::new(0);
    let running = Cell::new(0);
    let slow = || async {
        started.set(started.get() + 1);
        running.set(running.get() + 1);
        let _guard = Defer(|| running.set(running.get() - 1));
        sleep(2 * tick).await;
        Answer::Err("down")
    };
    // Another call has the slot for the first two milliseconds; the whole takes 14.
    for limit in 0..=15 {
        started.set(0);
        let mut held = bulkhead.try_acquire(1).ok();
        let call = slow.bulkhead(&bulkhead).timeout(9 * tick).retry(&retry);
        let mut call = task::spawn(call.timeout(limit * tick));
        let mut elapsed = 0;
        let error = loop {
            if let Poll::Ready(result) = call.poll() {
                break result.unwrap_err();
            }
            tokio::time::advance(tick).await;
            elapsed += 1;
            if elapsed == 2 {
                held = None;
            }
        };
        assert_eq!(running.get(), 0, "{limit}");
        assert_eq!(error.attempts(), started.get(), "{limit}");
        assert!(elapsed <= limit, "{limit}");
        drop(held);
        assert_eq!(
            (bulkhead.snapshot().in_use, bulkhead.snapshot().queued),
            (0, 0)
        );
        drop(call);
    }
}

struct Defer<F: Fn()>(F);

impl<F: Fn()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Trap 49: nobody has to ask for the budget.
#[tokio::test(start_paused = true)]
async fn the_default_budget_stops_the_retries_of_an_outage() {
    let broken = Broken::new();
    let retry = at_once().build().unwrap();
    for _ in 0..1_000 {
        let call = (|| broken.start()).retry(&retry);
        assert_eq!(call.await.unwrap_err().last(), Some(&"down"));
    }
    assert_eq!(broken.starts(), 1_000 + 200 + 100);
    assert_eq!(retry.budget().unwrap().balance(), 0);
    assert_eq!(Retry::default().budget().unwrap().balance(), 100);
    let alone = Retry::exponential(SECOND);
    assert!(alone.budget().is_none());
    assert!(alone.into_policy().unwrap().budget().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_shared_budget_is_shared() {
    let budget = RetryBudget::new(0.0, 3).unwrap();
    let (a, b) = (Broken::new(), Broken::new());
    let retry = || {
        at_once()
            .max_attempts(3)
            .budget(budget.clone())
            .build()
            .unwrap()
    };
    (|| a.start()).retry(retry()).await.unwrap_err();
    (|| b.start()).retry(retry()).await.unwrap_err();
    assert_eq!((a.starts(), b.starts()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn successes_pay_for_later_retries() {
    let retry = at_once()
        .budget(RetryBudget::new(0.25, 0).unwrap())
        .build()
        .unwrap();
    let broken = Broken::new();
    for _ in 0..3 {
        (|| ready(Answer::Ok(1))).retry(&retry).await.unwrap();
    }
    // The fourth deposit makes a whole one.
    (|| broken.start()).retry(&retry).await.unwrap_err();
    assert_eq!(broken.starts(), 2);
}

/// Trap 50: layers that know of each other make `(1 + ratio) * n + reserve` attempts
/// together.
#[tokio::test(start_paused = true)]
async fn three_layers_of_one_call_share_the_outermost_budget() {
    const CALLS: u32 = 5_000;
    let layer = |name: &str| Pipeline::builder(name).retry(at_once()).build().unwrap();
    let (top, middle, bottom) = (layer("top"), layer("middle"), layer("bottom"));
    let (joined, through) = (Broken::new(), Broken::new());
    for _ in 0..CALLS {
        let call = top.call_with(|attempt| {
            let (middle, bottom, joined) = (&middle, &bottom, &joined);
            let call = middle
                .call_with(move |attempt| bottom.call(move || joined.start()).during(attempt));
            call.during(attempt)
        });
        call.await.unwrap_err();
    }
    assert_eq!(joined.starts(), CALLS * 12 / 10 + 100);
    let (top, middle, bottom) = (layer("top"), layer("middle"), layer("bottom"));
    for _ in 0..CALLS {
        let call = (|| through.start()).through(&bottom).through(&middle);
        call.through(&top).await.unwrap_err();
    }
    assert_eq!(through.starts(), CALLS * 12 / 10 + 100);
}

/// Trap 50, of layers that do not know of each other: of `n` calls a layer makes at most `(1 + ratio) * n + reserve`; three of them
/// make at most `1.2^3 * n + (1.2^2 + 1.2 + 1) * 100`, where without budgets they make 27n.
#[tokio::test(start_paused = true)]
async fn three_layers_amplify_an_outage_by_their_budgets_only() {
    const CALLS: u32 = 5_000;
    let bound = CALLS * 1728 / 1000 + 364;
    assert_eq!(nested_outage(CALLS, at_once).await, bound);
    assert_eq!(
        nested_outage(CALLS, || at_once().no_budget()).await,
        27 * CALLS
    );
    // With one budget for all three each layer's calls pay in, and no reserve is had twice.
    let budget = RetryBudget::default();
    let shared = nested_outage(CALLS, || at_once().budget(budget.clone())).await;
    assert!(shared <= 2 * CALLS + 200, "{shared}");
    // Where only one layer retries, the plain bound holds.
    let once = RefCell::new(Some(at_once()));
    let single = nested_outage(CALLS, || {
        let last = once.borrow_mut().take();
        last.unwrap_or_else(|| at_once().max_attempts(1))
    });
    assert_eq!(single.await, CALLS * 12 / 10 + 100);
}

/// How often a leaf is called below three pipelines that retry, in a total outage.
async fn nested_outage(calls: u32, retry: impl Fn() -> RetryBuilder) -> u32 {
    let layer = |name: &str| Pipeline::builder(name).retry(retry()).build().unwrap();
    let (top, middle, bottom) = (layer("top"), layer("middle"), layer("bottom"));
    let broken = Broken::new();
    for _ in 0..calls {
        let call = top.call(|| middle.call(|| bottom.call(|| broken.start())));
        call.await.unwrap_err();
    }
    broken.starts()
}

/// Trap 50: the same through one stack of pipelines, whose errors do not nest.
#[tokio::test(start_paused = true)]
async fn nested_pipelines_count_every_attempt_of_the_leaf() {
    let layer = |name: &str| Pipeline::builder(name).retry(at_once()).build().unwrap();
    let (top, middle, bottom) = (layer("top"), layer("middle"), layer("bottom"));
    let broken = Broken::new();
    let call = (|| broken.start())
        .through(&bottom)
        .through(&middle)
        .through(&top);
    let error = call.await.unwrap_err();
    assert_eq!((broken.starts(), error.attempts()), (27, 27));
    assert_eq!(error, Error::operation("down").after(Progress::started(26)));
}

/// Trap 51: the answer is lost after the effect. Whoever retries says that it may be done
/// twice, and a classifier takes that back.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_not_asked_for_again_unless_the_classifier_says_so() {
    let effects = Cell::new(0);
    let charge = || async {
        effects.set(effects.get() + 1);
        pending::<Answer>().await
    };
    let careful = every_second()
        .classify(|result: Result<&u32, &Error<&str>>| match result {
            Err(error) if !error.is_timed_out() => Verdict::Retry,
            _ => Verdict::Stop,
        })
        .build()
        .unwrap();
    charge.timeout(SECOND).await.unwrap_err();
    assert_eq!(effects.take(), 1, "without a retry");
    charge.timeout(SECOND).retry(&careful).await.unwrap_err();
    assert_eq!(effects.take(), 1, "with a careful one");
    let opted_in = every_second().build().unwrap();
    charge.timeout(SECOND).retry(&opted_in).await.unwrap_err();
    assert_eq!(effects.take(), 3, "opted in");
}

/// Trap 53: an operation is over when its future is; what connects and dies soon after has
/// failed, and the back-off goes on growing.
#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_soon_does_not_reset_the_back_off() {
    let backoff = Backoff::exponential(SECOND).jitter(Jitter::None);
    let retry = Retry::builder()
        .no_budget()
        .max_attempts(50)
        .backoff(backoff);
    let start = now();
    let flapping = || async {
        sleep(Duration::from_millis(10)).await;
        Answer::Err("connection lost")
    };
    flapping.retry(retry.build().unwrap()).await.unwrap_err();
    // 1, 2, 4, 8, 16 and then 30 seconds for the other 44 waits.
    let waits = Duration::from_secs(31 + 44 * 30);
    assert_eq!(now().since(start), waits + 50 * Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn the_hook_runs_before_each_wait_and_sees_everything() {
    let log = RefCell::new(Vec::new());
    let retry = Retry::builder()
        .delays(|| [SECOND, Duration::ZERO])
        .on_retry(|event: &RetryEvent<'_, u32, &str>| {
            let error = event.result.unwrap_err().last().copied();
            log.borrow_mut()
                .push((now(), event.attempt, event.delay, error));
        })
        .build()
        .unwrap();
    let start = now();
    (|| ready(Answer::Err("down")))
        .retry(&retry)
        .await
        .unwrap_err();
    let want = [
        (start, 1, SECOND, Some("down")),
        (
            start.saturating_add(SECOND),
            2,
            Duration::ZERO,
            Some("down"),
        ),
    ];
    assert_eq!(log.take(), want);
    (|| ready(Answer::Ok(1))).retry(&retry).await.unwrap();
    assert!(log.take().is_empty());
}

/// The delays that two failing calls were told, one after the other.
async fn two_calls(retry: RetryBuilder) -> [Vec<Duration>; 2] {
    let seen = RefCell::new(Vec::new());
    let retry = retry
        .no_budget()
        .max_attempts(9)
        .on_retry(|event: &RetryEvent<'_, u32, &str>| seen.borrow_mut().push(event.delay))
        .build()
        .unwrap();
    (|| ready(Answer::Err("down")))
        .retry(&retry)
        .await
        .unwrap_err();
    let first = seen.take();
    (|| ready(Answer::Err("down")))
        .retry(&retry)
        .await
        .unwrap_err();
    [first, seen.take()]
}

/// Trap 48: callers that failed together do not return together.
#[tokio::test(start_paused = true)]
async fn each_call_has_a_seed_of_its_own_and_a_seeded_retry_repeats_itself() {
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
        let retry = || Retry::builder().backoff(Backoff::exponential(SECOND).jitter(jitter));
        let [first, second] = two_calls(retry().seed(7)).await;
        assert_ne!(first, second, "{jitter:?}");
        assert_eq!(two_calls(retry().seed(7)).await, [first.clone(), second]);
        assert_ne!(two_calls(retry().seed(8)).await[0], first);
        let [first, second] = two_calls(retry()).await;
        assert_ne!(first, second, "{jitter:?}");
    }
}

type Told = (String, u32, EventKind);

/// An observer that keeps what it was told.
fn listener() -> (
    Arc<Mutex<Vec<Told>>>,
    impl Fn(&Event<'_>) + Send + Sync + 'static,
) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&log);
    let listen = move |event: &Event<'_>| {
        let entry = (event.pipeline.to_owned(), event.attempt, event.kind);
        told.lock().unwrap().push(entry);
    };
    (log, listen)
}

/// What a listener hears of one call of a broken operation.
async fn heard<B, C, H>(retry: RetryBuilder<B, C, H>, limit: Duration) -> Vec<(u32, EventKind)>
where
    B: Delays,
    C: Classify<u32, &'static str, Verdict>,
    H: RetryHook<u32, &'static str>,
    RetryBuilder<B, C, H>: IntoPolicy<Policy = Retry<B, C, H>>,
{
    let (log, listen) = listener();
    let pipeline = Pipeline::builder("search")
        .observe(listen)
        .timeout(limit)
        .retry(retry);
    let pipeline = pipeline.build().unwrap();
    pipeline
        .call(|| ready(Answer::Err("down")))
        .await
        .unwrap_err();
    let mut log = log.lock().unwrap();
    let told = log
        .drain(..)
        .inspect(|(name, ..)| assert_eq!(name, "search"));
    told.map(|(_, attempt, kind)| (attempt, kind)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_observer_is_told_of_each_wait_and_why_it_gave_up() {
    let retrying = |attempt, delay| (attempt, EventKind::Retrying { delay });
    let gave_up = |attempt, limit| (attempt, EventKind::GaveUp(limit));
    let never = Duration::MAX;
    assert_eq!(
        heard(every_second(), never).await,
        [
            retrying(1, SECOND),
            retrying(2, SECOND),
            gave_up(3, GaveUp::Attempts)
        ]
    );
    let elapsed = every_second().max_elapsed(SECOND);
    assert_eq!(heard(elapsed, never).await, [gave_up(1, GaveUp::Elapsed)]);
    let limit = SECOND / 2;
    assert_eq!(
        heard(every_second(), limit).await,
        [gave_up(1, GaveUp::Deadline)]
    );
    let empty = every_second().budget(RetryBudget::new(0.0, 0).unwrap());
    assert_eq!(heard(empty, never).await, [gave_up(1, GaveUp::Budget)]);
    let short = Retry::builder().delays(|| [SECOND]);
    let want = [retrying(1, SECOND), gave_up(2, GaveUp::Backoff)];
    assert_eq!(heard(short, never).await, want);
    let named =
        Retry::builder().classify(|_: Result<&u32, &Error<&str>>| Verdict::RetryAfter(61 * SECOND));
    assert_eq!(heard(named, never).await, [gave_up(1, GaveUp::RetryAfter)]);
    let stopped = every_second().retry_if(|_: &&str| false);
    assert_eq!(heard(stopped, never).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_cannot_be_repeated_is_not() {
    struct OnlyOnce;

    impl Operation for OnlyOnce {
        type Output = u32;
        type Error = &'static str;

        fn poll(
            self: Pin<&mut Self>,
            _: &CallContext<'_>,
            _: &mut Context<'_>,
        ) -> Poll<Result<u32, Error<&'static str>>> {
            Poll::Ready(Err(Error::operation("down")))
        }

        fn cancel(self: Pin<&mut Self>) -> Progress<&'static str> {
            Progress::none()
        }
    }

    impl Repeatable for OnlyOnce {
        fn can_repeat(&self) -> bool {
            false
        }
    }

    let (log, listen) = listener();
    let retry = every_second().build().unwrap();
    let budget = retry.budget().unwrap().clone();
    let pipeline = Pipeline::builder("once").observe(listen).retry(retry);
    let pipeline = pipeline.build().unwrap();
    let error = pipeline.run(OnlyOnce).await.unwrap_err();
    assert_eq!(error.attempts(), 1);
    let want = EventKind::GaveUp(GaveUp::NotRepeatable);
    assert_eq!(*log.lock().unwrap(), [("once".to_owned(), 1, want)]);
    assert_eq!(budget.balance(), 100);
}

#[tokio::test(start_paused = true)]
async fn below_it_the_observer_is_told_the_attempt() {
    let (log, listen) = listener();
    let pipeline = Pipeline::builder("search")
        .observe(listen)
        .retry(at_once().max_attempts(2))
        .timeout(SECOND)
        .build()
        .unwrap();
    pipeline.call(|| ready(Answer::Ok(1))).await.unwrap();
    assert!(log.lock().unwrap().is_empty());
    pipeline.call(pending::<Answer>).await.unwrap_err();
    let told: Vec<_> = log
        .lock()
        .unwrap()
        .iter()
        .map(|event| (event.1, event.2))
        .collect();
    let timed_out = EventKind::TimedOut { after: SECOND };
    let retrying = EventKind::Retrying {
        delay: Duration::ZERO,
    };
    let gave_up = EventKind::GaveUp(GaveUp::Attempts);
    assert_eq!(
        told,
        [(1, timed_out), (1, retrying), (2, timed_out), (2, gave_up)]
    );
}

/// Trap 76: a panic in any callback; the policy, its budget and its seeds work afterwards.
#[tokio::test(start_paused = true)]
async fn a_panic_in_any_callback_harms_nothing() {
    let angry = Rc::new(Cell::new(""));
    let check = |what: &'static str| {
        let angry = Rc::clone(&angry);
        move || assert_ne!(angry.get(), what)
    };
    let (by_classifier, by_hook) = (check("classifier"), check("hook"));
    let (by_iterator, by_next) = (check("iterator"), Rc::new(check("next")));
    let retry = Retry::builder()
        .delays(move || {
            by_iterator();
            let by_next = Rc::clone(&by_next);
            std::iter::repeat_with(move || {
                by_next();
                SECOND
            })
        })
        .classify(move |result: Result<&u32, &Error<&str>>| {
            by_classifier();
            Failures.classify(result)
        })
        .on_retry(move |_: &RetryEvent<'_, u32, &str>| by_hook())
        .build()
        .unwrap();
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let (by_start, by_future) = (check("start"), check("future"));
    let operation = || {
        by_start();
        async {
            sleep(SECOND).await;
            by_future();
            Answer::Err("down")
        }
    };
    for what in ["classifier", "hook", "iterator", "next", "start", "future"] {
        angry.set(what);
        let call = operation.retry(&retry).bulkhead(&bulkhead);
        assert!(catch_panic(call).await.is_err(), "{what}");
        angry.set("");
        let call = operation.bulkhead(&bulkhead).retry(&retry);
        let error = call.await.unwrap_err();
        assert_eq!(
            (error.attempts(), error.last()),
            (3, Some(&"down")),
            "{what}"
        );
        assert_eq!(bulkhead.snapshot().in_use, 0, "{what}");
    }
}

/// Trap 76: as above, for a delay by the attempt's number and for the observer.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_delay_or_the_observer_harms_nothing() {
    let angry = Rc::new(Cell::new(true));
    let asked = Rc::clone(&angry);
    let own = Retry::builder().delay_by(move |_| {
        assert!(!asked.get(), "delay");
        SECOND
    });
    let own = own.build().unwrap();
    for expected in [true, false] {
        angry.set(expected);
        let call = catch_panic((|| ready(Answer::Err("down"))).retry(&own));
        assert_eq!(call.await.is_err(), expected);
    }
    let pipeline = Pipeline::builder("angry")
        .observe(|_: &Event<'_>| panic!("observer"))
        .retry(every_second())
        .build()
        .unwrap();
    for _ in 0..3 {
        let call = pipeline.call(|| ready(Answer::Err("down")));
        assert!(catch_panic(call).await.is_err());
        assert_eq!(pipeline.call(|| ready(Answer::Ok(1))).await, Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_its_number_and_its_time() {
    let pipeline = Pipeline::builder("search")
        .timeout(10 * SECOND)
        .retry(every_second())
        .build()
        .unwrap();
    let seen = RefCell::new(Vec::new());
    let call = pipeline.call_with(|attempt| {
        seen.borrow_mut()
            .push((attempt.number(), attempt.remaining()));
        async {
            sleep(2 * SECOND).await;
            Answer::Err("down")
        }
    });
    call.await.unwrap_err();
    let left = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(seen.take(), [(1, left(10)), (2, left(7)), (3, left(4))]);
}

/// A call made in the closure fails with an error of its own kind; through a pipeline the
/// error stays flat, and a refusal is seen to be one.
#[tokio::test(start_paused = true)]
async fn a_refusal_in_a_pipeline_below_is_not_hammered() {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let _held = bulkhead.try_acquire(1).unwrap();
    let (log, listen) = listener();
    let inner = Pipeline::builder("inner")
        .observe(listen)
        .bulkhead(bulkhead.clone());
    let inner = inner.build().unwrap();
    let outer = Pipeline::builder("outer").retry(at_once()).build().unwrap();
    let call = || ready(Answer::Ok(1));
    let error = inner.call(call).through(&outer).await.unwrap_err();
    assert!(error.refusal().is_some());
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()).len(), 1);
    // In the closure it takes a classifier.
    let told = Retry::builder().retry_if(|error: &Error<&str>| error.refusal().is_none());
    let outer = Pipeline::builder("outer").retry(told).build().unwrap();
    outer.call(|| inner.call(call)).await.unwrap_err();
    assert_eq!(log.lock().unwrap().len(), 1);
}

/// An outer retry starts the inner one afresh: its attempts, delays and time.
#[tokio::test(start_paused = true)]
async fn a_retry_in_a_retry_starts_afresh() {
    let inner = Retry::builder()
        .delays(|| [SECOND, 2 * SECOND, 3 * SECOND])
        .max_elapsed(4 * SECOND)
        .build()
        .unwrap();
    let outer = every_second().max_attempts(2).build().unwrap();
    let (broken, start) = (Broken::new(), now());
    let call = (|| broken.start()).retry(&inner).retry(&outer);
    let error = call.await.unwrap_err();
    assert_eq!((broken.starts(), error.attempts()), (6, 6));
    assert_eq!(now().since(start), (3 + 1 + 3) * SECOND);
}

/// Tokio's timer rounds up, and a busy executor is late: a wait that was to end in time may
/// end too late.
#[tokio::test(start_paused = true)]
async fn nothing_is_started_when_the_deadline_has_passed_in_the_wait() {
    let broken = Broken::new();
    let late = at_once()
        .max_attempts(2)
        .delay_by(|_| Duration::from_micros(999_500));
    let pipeline = Pipeline::builder("late").timeout(SECOND).retry(late);
    let pipeline = pipeline.build().unwrap();
    let error = pipeline.call(|| broken.start()).await.unwrap_err();
    assert_eq!(error, Error::operation("down"));
    assert_eq!(broken.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_when_the_own_time_has_passed_in_the_wait() {
    let broken = Broken::new();
    let late = at_once()
        .max_elapsed(Duration::from_micros(999_900))
        .delay_by(|_| Duration::from_micros(999_500))
        .build()
        .unwrap();
    let error = (|| broken.start()).retry(late).await.unwrap_err();
    assert_eq!((error.attempts(), broken.starts()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_never_began_goes_back_into_the_budget() {
    let budget = RetryBudget::new(0.0, 1).unwrap();
    let retry = at_once()
        .delay_by(|_| 10 * SECOND)
        .budget(budget.clone())
        .build()
        .unwrap();
    let broken = Broken::new();
    let mut dropped = task::spawn((|| broken.start()).retry(&retry));
    assert_pending!(dropped.poll());
    assert_eq!(budget.balance(), 0, "taken for the wait");
    drop(dropped);
    assert_eq!(budget.balance(), 1);
    let error = (|| broken.start()).retry(&retry).await.unwrap_err();
    assert_eq!((error.attempts(), budget.balance()), (2, 0));
}

/// In an outage in which calls hang, they are what pays for the retries.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_short_in_its_first_attempt_was_counted() {
    let budget = RetryBudget::new(1.0, 5).unwrap();
    (0..5).for_each(|_| assert!(budget.withdraw()));
    let retry = at_once().budget(budget.clone()).build().unwrap();
    for _ in 0..5 {
        let hung = || pending::<Answer>();
        hung.retry(&retry).timeout(SECOND).await.unwrap_err();
    }
    assert_eq!(budget.balance(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_done_twice_is_not() {
    let broken = Broken::new();
    let pipeline = Pipeline::builder("once")
        .retry(at_once())
        .timeout(SECOND)
        .build()
        .unwrap();
    let error = pipeline.call_once(|| broken.start()).await.unwrap_err();
    assert_eq!(error, Error::operation("down"));
    let hung = pipeline.call_once(pending::<Answer>);
    assert_eq!(hung.await.unwrap_err().attempts(), 1);
    assert_eq!(broken.starts(), 1);
}

/// Twice the same delay, which must not be zero.
#[derive(Clone, Copy, Debug)]
struct Twice(Duration);

impl Delays for Twice {
    type Iter = std::iter::RepeatN<Duration>;

    fn delays(&self, _: impl FnOnce() -> u64) -> Self::Iter {
        std::iter::repeat_n(self.0, 2)
    }

    fn check(&self) -> Result<(), ConfigError> {
        crate::config::require(!self.0.is_zero(), "twice", self.0, "more than zero")
    }
}

/// A rule, a back-off and a hook that are types of their own.
#[tokio::test(start_paused = true)]
async fn each_part_may_be_the_users_own() {
    struct Never;
    impl<T, E> Classify<T, E, Verdict> for Never {
        fn classify(&self, _: Result<&T, &Error<E>>) -> Verdict {
            Verdict::Stop
        }
    }
    struct Waits(Rc<RefCell<Vec<(u32, Duration)>>>);
    impl<T, E> RetryHook<T, E> for Waits {
        fn before_wait(&self, event: &RetryEvent<'_, T, E>) {
            self.0.borrow_mut().push((event.attempt, event.delay));
        }
    }
    let waits = Rc::new(RefCell::default());
    let builder = || {
        Retry::builder()
            .max_attempts(9)
            .hook(Waits(Rc::clone(&waits)))
    };
    let broken = Broken::new();
    let retry = builder().backoff(Twice(SECOND)).build().unwrap();
    let error = (|| broken.start()).retry(&retry).await.unwrap_err();
    assert_eq!((error.attempts(), broken.starts()), (3, 3));
    assert_eq!(*waits.borrow(), [(1, SECOND), (2, SECOND)]);
    let retry = builder().classifier(Never).build().unwrap();
    (|| broken.start()).retry(&retry).await.unwrap_err();
    assert_eq!((broken.starts(), waits.borrow().len()), (4, 2));
}

/// Trap 33: the check is that of the delays which are used.
#[test]
fn the_delays_check_their_own_settings() {
    let wrong = Retry::builder().backoff(Twice(Duration::ZERO));
    assert_eq!(wrong.build().unwrap_err().field(), "twice");
    let wrong = Retry::builder().backoff(Backoff::default().factor(0.0));
    let right = wrong.backoff(Twice(SECOND));
    assert!(right.build().is_ok());
    let wrong = Retry::builder().backoff(Backoff::default().factor(0.0));
    assert_eq!(wrong.build().unwrap_err().field(), "factor");
}

/// Trap 50: a retry that stands twice in a call counts the call once.
#[tokio::test(start_paused = true)]
async fn the_same_retry_twice_pays_in_once() {
    const CALLS: u32 = 1_000;
    let budget = || RetryBudget::new(0.2, 0).unwrap();
    let pipeline = Pipeline::builder("twice").retry(at_once().budget(budget()));
    let pipeline = pipeline.build().unwrap();
    let retry = at_once().budget(budget()).build().unwrap();
    let (through, nested) = (Broken::new(), Broken::new());
    for _ in 0..CALLS {
        let call = pipeline.call(|| through.start()).through(&pipeline);
        call.await.unwrap_err();
        let call = (|| nested.start()).retry(&retry).timeout(SECOND);
        call.retry(&retry).await.unwrap_err();
    }
    assert_eq!(through.starts(), CALLS * 12 / 10);
    assert_eq!(nested.starts(), CALLS * 12 / 10);
}

/// Delays shorter than two looks at the clock are apart.
#[tokio::test]
async fn tiny_delays_let_others_run() {
    let broken = Broken::new();
    let retry = at_once()
        .max_attempts(100_000)
        .delay_by(|_| Duration::from_nanos(1))
        .build()
        .unwrap();
    let mut call = task::spawn((|| broken.start()).retry(&retry).timeout(SECOND));
    assert_pending!(call.poll());
    assert!(broken.starts() <= 64, "{} in one poll", broken.starts());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_when_the_deadline_has_passed_in_a_pause_for_others() {
    let broken = Broken::new();
    let budget = RetryBudget::new(0.0, 1_000).unwrap();
    let retry = at_once()
        .max_attempts(1_000)
        .budget(budget.clone())
        .build()
        .unwrap();
    let mut call = task::spawn((|| broken.start()).retry(&retry).timeout(SECOND));
    assert_pending!(call.poll());
    let before = broken.starts();
    tokio::time::advance(2 * SECOND).await;
    assert!(call.poll().is_ready());
    assert_eq!(broken.starts(), before);
    let spent = 1_000 - budget.balance();
    assert_eq!(spent, u64::from(before) - 1, "what never began goes back");
}

#[tokio::test(start_paused = true)]
async fn giving_up_after_a_late_wait_names_the_attempt_that_ended() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let pipeline = Pipeline::builder("late")
        .observe(move |event: &Event<'_>| log.lock().unwrap().push(event.attempt))
        .timeout(SECOND)
        .retry(at_once().delay_by(|_| SECOND / 2))
        .build()
        .unwrap();
    let broken = Broken::new();
    let mut call = task::spawn(pipeline.call(|| broken.start()));
    assert_pending!(call.poll());
    tokio::time::advance(2 * SECOND).await;
    assert!(call.poll().is_ready());
    assert_eq!(*seen.lock().unwrap(), [1, 1]);
}

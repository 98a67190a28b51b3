//! The breaker around operations: on a paused clock, and on real threads.

use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll};
use std::task::{Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::advance;

use super::CircuitState::{Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open};
use super::*;
use crate::prelude::*;
use crate::retry::{Jitter, RetryBudget};
use crate::testing::rounds;

const SECOND: Duration = Duration::from_secs(1);

/// The least that a cancellation test needs.
mod polling {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// Polls at most `times`; `true` once the future has ended.
    pub(super) fn poll_times<F: Future>(mut future: Pin<&mut F>, times: usize) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        (0..times).any(|_| future.as_mut().poll(&mut cx).is_ready())
    }

    /// Is pending so many times, then ready.
    pub(super) struct Yields(pub(super) usize);

    impl Future for Yields {
        type Output = Result<(), &'static str>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            if self.0 == 0 {
                return Poll::Ready(Ok(()));
            }
            self.0 -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
}
use polling::{Yields, poll_times};

/// Opens at two failures of the latest four, for ten seconds, one probe.
fn small() -> CircuitBreakerBuilder {
    CircuitBreaker::builder()
        .window(Window::calls(4))
        .minimum_calls(2)
        .open_for(10 * SECOND)
        .half_open_probes(1)
}

type Changes = Arc<Mutex<Vec<StateChange>>>;

fn recorded(builder: CircuitBreakerBuilder) -> (CircuitBreaker, Changes) {
    let changes = Changes::default();
    let log = Arc::clone(&changes);
    let breaker = builder.on_state_change(move |change| log.lock().unwrap().push(*change));
    (breaker.build().unwrap(), changes)
}

fn states(changes: &Changes) -> Vec<CircuitState> {
    changes.lock().unwrap().iter().map(|c| c.to).collect()
}

async fn succeed<C>(breaker: &CircuitBreaker<C>) -> Result<(), Error<&'static str>>
where
    CircuitBreaker<C>: Judge<(), &'static str>,
{
    ready(Ok(())).circuit_breaker(breaker).await
}

async fn fail<C>(breaker: &CircuitBreaker<C>) -> Result<(), Error<&'static str>>
where
    CircuitBreaker<C>: Judge<(), &'static str>,
{
    ready(Err("down")).circuit_breaker(breaker).await
}

/// Opens it by failures; the clock stands still.
fn trip(breaker: &CircuitBreaker) {
    while breaker.state() == CircuitState::Closed {
        breaker.try_acquire().unwrap().settle(End::Failure);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
}

fn is_open<T>(result: Result<T, Error<&'static str>>) -> bool {
    matches!(
        result.err().and_then(|error| error.refusal()),
        Some(Refusal::CircuitOpen { .. })
    )
}

#[tokio::test(start_paused = true)]
async fn opens_refuses_tries_and_closes() {
    let (breaker, changes) = recorded(small());
    fail(&breaker).await.unwrap_err();
    fail(&breaker).await.unwrap_err();
    let refused = fail(&breaker).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(10 * SECOND));
    assert_eq!(refused.attempts(), 0);
    advance(4 * SECOND).await;
    assert_eq!(breaker.snapshot().until_half_open, Some(6 * SECOND));
    advance(6 * SECOND).await;
    assert_eq!(breaker.snapshot().until_half_open, Some(Duration::ZERO));
    succeed(&breaker).await.unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_eq!(states(&changes), [Open, HalfOpen, Closed]);
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_tells_counts_and_rates() {
    let breaker = CircuitBreaker::builder()
        .slow_calls(1.0, SECOND)
        .build()
        .unwrap();
    assert_eq!(breaker.snapshot().failure_rate, None);
    succeed(&breaker).await.unwrap();
    fail(&breaker).await.unwrap_err();
    let slow = breaker.try_acquire().unwrap();
    let slow_failure = breaker.try_acquire().unwrap();
    advance(SECOND + Duration::from_nanos(1)).await;
    slow.settle(End::Success);
    slow_failure.settle(End::Failure);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.successes, snapshot.failures), (2, 2));
    assert_eq!(
        (snapshot.failure_rate, snapshot.slow_rate),
        (Some(0.5), Some(0.5))
    );
    assert_eq!((snapshot.slow, snapshot.consecutive_failures), (2, 1));
    assert_eq!((snapshot.until_half_open, snapshot.openings), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_answers_open_it() {
    let breaker = small().slow_calls(0.5, SECOND).build().unwrap();
    for _ in 0..2 {
        async {
            tokio::time::advance(2 * SECOND).await;
            Ok::<_, &str>(())
        }
        .circuit_breaker(&breaker)
        .await
        .unwrap();
    }
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_opens_it_again() {
    let breaker = small().slow_calls(0.5, SECOND).build().unwrap();
    trip(&breaker);
    advance(10 * SECOND).await;
    let probe = breaker.try_acquire().unwrap();
    advance(2 * SECOND).await;
    probe.settle(End::Success);
    assert_eq!(breaker.state(), Open);
    assert_eq!(breaker.snapshot().until_half_open, Some(10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_window_of_time_forgets_failures() {
    let breaker = small().window(Window::time(10 * SECOND)).build().unwrap();
    for _ in 0..10 {
        fail(&breaker).await.unwrap_err();
        assert_eq!(breaker.snapshot().failures, 1);
        advance(10 * SECOND).await;
    }
    fail(&breaker).await.unwrap_err();
    fail(&breaker).await.unwrap_err();
    assert_eq!(breaker.state(), CircuitState::Open);
}

/// Traps 1 and 6: cancelled after each number of polls, the probe's place is free at once;
/// nobody is parked who would have to be woken.
#[tokio::test(start_paused = true)]
async fn a_probe_dropped_at_any_poll_frees_its_place_and_counts_nothing() {
    const YIELDS: usize = 5;
    for polls in 0..=YIELDS {
        let breaker = small().build().unwrap();
        let pipeline = Pipeline::builder("probe")
            .timeout(100 * SECOND)
            .circuit_breaker(breaker.clone())
            .bulkhead(1)
            .build()
            .unwrap();
        trip(&breaker);
        advance(10 * SECOND).await;
        {
            let mut probe = pin!(pipeline.call(|| Yields(YIELDS)));
            assert!(!poll_times(probe.as_mut(), polls));
            assert_eq!(is_open(succeed(&breaker).await), polls > 0);
            if polls == 0 {
                continue; // never started: the call above was the probe
            }
        }
        assert_eq!(breaker.snapshot().successes, 0);
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        pipeline.call(|| Yields(YIELDS)).await.unwrap();
        assert_eq!(breaker.state(), CircuitState::Closed, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_call_dropped_at_any_poll_counts_by_the_rule() {
    for rule in [Cancelled::Ignore, Cancelled::Failure] {
        for polls in 0..=5 {
            let breaker = CircuitBreaker::builder().cancelled(rule).build().unwrap();
            let mut call = Box::pin(Yields(5).circuit_breaker(&breaker));
            assert!(!poll_times(call.as_mut(), polls));
            drop(call);
            let counted = rule == Cancelled::Failure && polls > 0;
            assert_eq!(breaker.snapshot().failures, u64::from(counted));
            succeed(&breaker).await.unwrap();
        }
    }
}

/// Trap 2.
#[test]
fn eight_threads_at_once_get_one_probe() {
    for _ in 0..rounds(50) {
        let breaker = small().open_for(Duration::ZERO).build().unwrap();
        trip(&breaker);
        let (start, end) = (Barrier::new(8), Barrier::new(8));
        let calls = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let permit = breaker.try_acquire();
                    calls.fetch_add(u32::from(permit.is_ok()), Ordering::Relaxed);
                    end.wait();
                });
            }
        });
        assert_eq!(calls.into_inner(), 1);
    }
}

/// Trap 3.
#[tokio::test(start_paused = true)]
async fn an_ignored_last_probe_changes_nothing() {
    let breaker = small().half_open_probes(2).build().unwrap();
    let picky = breaker.classify(|result: Result<&(), &Error<&'static str>>| match result {
        Ok(()) => CountAs::Success,
        Err(_) => CountAs::Nothing,
    });
    trip(&breaker);
    advance(10 * SECOND).await;
    succeed(&picky).await.unwrap();
    fail(&picky).await.unwrap_err();
    fail(&picky).await.unwrap_err();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    succeed(&picky).await.unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// Trap 4.
#[tokio::test(start_paused = true)]
async fn a_probe_that_never_ends_is_replaced_and_ignored() {
    let breaker = small().half_open_limit(30 * SECOND).build().unwrap();
    trip(&breaker);
    advance(10 * SECOND).await;
    let mut hung = Box::pin(pending::<Result<(), &str>>().circuit_breaker(&breaker));
    assert!(!poll_times(hung.as_mut(), 1));
    assert!(is_open(succeed(&breaker).await));
    advance(29 * SECOND).await;
    let refused = succeed(&breaker).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(SECOND));
    advance(SECOND).await;
    let replacement = breaker.try_acquire().unwrap();
    drop(hung);
    assert!(is_open(succeed(&breaker).await), "its place is taken");
    replacement.settle(End::Success);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// Trap 5.
#[tokio::test(start_paused = true)]
async fn a_late_success_does_not_close_a_half_open_breaker() {
    let breaker = small().half_open_probes(2).build().unwrap();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let mut late = Box::pin(
        async {
            released.await.unwrap();
            Ok::<_, &str>(())
        }
        .circuit_breaker(&breaker),
    );
    assert!(!poll_times(late.as_mut(), 1));
    trip(&breaker);
    advance(10 * SECOND).await;
    let probe = breaker.try_acquire().unwrap();
    release.send(()).unwrap();
    late.await.unwrap();
    assert_eq!(breaker.snapshot().successes, 0);
    probe.settle(End::Success);
    assert_eq!(breaker.snapshot().successes, 1);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
}

/// Traps 8 and 77: the hook is called under no lock, in order, once for each change, also
/// for those that it makes itself.
#[tokio::test(start_paused = true)]
async fn a_hook_may_call_every_method() {
    let own: Arc<Mutex<Option<CircuitBreaker>>> = Arc::default();
    let (inside, seen) = (Arc::clone(&own), Changes::default());
    let log = Arc::clone(&seen);
    let hook = move |change: &StateChange| {
        log.lock().unwrap().push(*change);
        let breaker = inside.lock().unwrap().clone().unwrap();
        let _ = (breaker.state(), breaker.snapshot(), breaker.clone());
        let _ = format!("{breaker:?}");
        drop(breaker.try_acquire());
        match change.number {
            1 => breaker.force_open(),
            2 => {
                breaker.disable();
                breaker.metrics_only();
                breaker.reset();
                trip(&breaker);
            }
            _ => {}
        }
    };
    let breaker = small().on_state_change(hook).build().unwrap();
    *own.lock().unwrap() = Some(breaker.clone());
    trip_once(&breaker);
    *own.lock().unwrap() = None;
    assert_eq!(
        states(&seen),
        [Open, ForcedOpen, Disabled, MetricsOnly, Closed, Open]
    );
    assert_numbered(&seen);
}

/// Two failures, without looking at what the hook makes of it.
fn trip_once(breaker: &CircuitBreaker) {
    (0..2).for_each(|_| breaker.try_acquire().unwrap().settle(End::Failure));
}

fn assert_numbered(changes: &Changes) {
    let changes = changes.lock().unwrap();
    for (change, number) in changes.iter().zip(1..) {
        assert_eq!(change.number, number);
    }
    for pair in changes.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
    }
}

/// Trap 77: a waker that enters the breaker again when it is woken, cloned or dropped.
#[test]
fn a_waker_that_reenters_does_not_deadlock() {
    struct Reenters(CircuitBreaker, AtomicU32);
    impl Wake for Reenters {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.reset();
            drop(self.0.try_acquire());
        }
    }
    impl Drop for Reenters {
        fn drop(&mut self) {
            self.0.force_open();
        }
    }
    let slot: Arc<Mutex<Option<Waker>>> = Arc::default();
    let inside = Arc::clone(&slot);
    let hook = move |_: &StateChange| {
        let woken = inside.lock().unwrap().take();
        woken.into_iter().for_each(Waker::wake);
    };
    let breaker = small().on_state_change(hook).build().unwrap();
    let waker = Arc::new(Reenters(breaker.clone(), AtomicU32::new(0)));
    *slot.lock().unwrap() = Some(Waker::from(Arc::clone(&waker)));
    trip_once(&breaker);
    assert_eq!(waker.1.load(Ordering::Relaxed), 1);
    assert_eq!(breaker.state(), CircuitState::Closed);
    drop(waker);
    assert_eq!(breaker.state(), CircuitState::ForcedOpen);
}

/// Trap 9.
#[test]
fn a_zero_open_time_neither_recurses_nor_loops() {
    let breaker = small().open_for(Duration::ZERO).build().unwrap();
    trip(&breaker);
    let rounds = rounds(1_000_000);
    for _ in 0..rounds {
        breaker.try_acquire().unwrap().settle(End::Failure);
    }
    assert_eq!(breaker.snapshot().openings, u64::from(rounds) + 1);
}

/// Traps 2 and 10.
#[test]
fn a_hundred_failures_on_two_threads_open_it_once() {
    for _ in 0..rounds(300) {
        let (breaker, changes) = recorded(small().minimum_calls(4));
        let start = Barrier::new(2);
        let fail = || {
            start.wait();
            for _ in 0..50 {
                if let Ok(permit) = breaker.try_acquire() {
                    permit.settle(End::Failure);
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(fail);
            fail();
        });
        assert_eq!(states(&changes), [CircuitState::Open]);
        assert_eq!(breaker.snapshot().failures, 4);
    }
}

/// Trap 10: the permits are all out when the first fails.
#[test]
fn a_hundred_calls_under_way_that_fail_open_it_once() {
    let (breaker, changes) = recorded(small());
    let permits: Vec<_> = (0..100).map(|_| breaker.try_acquire().unwrap()).collect();
    for permit in permits {
        permit.settle(End::Failure);
    }
    assert_eq!(states(&changes), [CircuitState::Open]);
}

#[test]
fn changes_by_many_threads_are_told_in_order_and_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (log, nested) = (Arc::clone(&told), Arc::new(AtomicU32::new(0)));
    let hook = move |change: &StateChange| {
        let others = nested.fetch_add(1, Ordering::SeqCst);
        log.lock().unwrap().push((*change, others));
        std::thread::yield_now();
        nested.fetch_sub(1, Ordering::SeqCst);
    };
    let breaker = small().open_for(Duration::ZERO).on_state_change(hook);
    let breaker = breaker.build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let breaker = &breaker;
            scope.spawn(move || {
                for round in 0..rounds(500) {
                    match (round + thread) % 7 {
                        0 => breaker.force_open(),
                        1 => breaker.disable(),
                        2 => breaker.metrics_only(),
                        3 => breaker.reset(),
                        _ => breaker
                            .try_acquire()
                            .into_iter()
                            .for_each(|permit| permit.settle(End::Failure)),
                    }
                }
            });
        }
    });
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(told.iter().all(|(_, others)| *others == 0), "one at a time");
    let changes: Vec<_> = told.into_iter().map(|(change, _)| change).collect();
    assert!(changes.len() > rounds(500) as usize / 5);
    assert_eq!(changes.last().unwrap().to, breaker.state());
    assert_numbered(&Changes::new(Mutex::new(changes)));
}

/// Trap 11.
#[cfg(feature = "tower")]
#[tokio::test(start_paused = true)]
async fn an_open_breaker_does_not_poll_a_service_that_is_not_ready() {
    use tower::{Layer, Service, ServiceExt};

    #[derive(Clone)]
    struct NeverReady;
    impl Service<()> for NeverReady {
        type Response = ();
        type Error = &'static str;
        type Future = std::future::Ready<Result<(), &'static str>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            panic!("an open breaker guards it");
        }
        fn call(&mut self, (): ()) -> Self::Future {
            panic!("an open breaker guards it");
        }
    }
    let breaker = small().build().unwrap();
    trip(&breaker);
    let pipeline = Pipeline::builder("tower").circuit_breaker(breaker);
    let service = pipeline.build().unwrap().layer().layer(NeverReady);
    let error = service.oneshot(()).await.unwrap_err();
    assert!(matches!(error.refusal(), Some(Refusal::CircuitOpen { .. })));
}

/// Trap 11, for an operation.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_starts_nothing() {
    let breaker = small().build().unwrap();
    trip(&breaker);
    let started = std::cell::Cell::new(0);
    let pipeline = Pipeline::builder("open").circuit_breaker(breaker);
    let pipeline = pipeline.build().unwrap();
    for _ in 0..10 {
        let call = pipeline.call(|| {
            started.set(started.get() + 1);
            pending::<Result<(), &str>>()
        });
        assert!(is_open(call.await));
    }
    assert_eq!(started.get(), 0);
}

/// Trap 12.
#[tokio::test(start_paused = true)]
async fn a_thousand_old_successes_do_not_outweigh_the_window() {
    let breaker = CircuitBreaker::builder()
        .window(Window::calls(10))
        .build()
        .unwrap();
    for _ in 0..1_000 {
        succeed(&breaker).await.unwrap();
    }
    for _ in 0..4 {
        fail(&breaker).await.unwrap_err();
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    fail(&breaker).await.unwrap_err();
    assert_eq!(breaker.state(), CircuitState::Open);
}

/// Trap 13.
#[tokio::test(start_paused = true)]
async fn hung_calls_that_an_outer_time_limit_ends_count_by_the_rule() {
    let hang = async |rule: Cancelled, limit: Duration| {
        let breaker = CircuitBreaker::builder()
            .slow_calls(1.0, SECOND)
            .minimum_calls(100)
            .cancelled(rule)
            .build()
            .unwrap();
        for _ in 0..30 {
            let hung = pending::<Result<(), &str>>();
            let call = hung.circuit_breaker(&breaker).timeout(limit);
            assert!(call.await.unwrap_err().is_timed_out());
        }
        let snapshot = breaker.snapshot();
        (snapshot.failures, snapshot.slow)
    };
    assert_eq!(hang(Cancelled::Ignore, 2 * SECOND).await, (0, 0));
    assert_eq!(hang(Cancelled::Failure, SECOND / 2).await, (30, 0));
    assert_eq!(hang(Cancelled::Slow, SECOND / 2).await, (0, 0));
    assert_eq!(hang(Cancelled::Slow, 2 * SECOND).await, (30, 30));
}

/// Trap 63.
#[tokio::test(start_paused = true)]
async fn an_outer_time_limit_around_breaker_and_retry_does_not_blind_the_breaker() {
    let breaker = CircuitBreaker::builder()
        .cancelled(Cancelled::Failure)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder("outer")
        .timeout(SECOND)
        .retry(Retry::builder().budget(RetryBudget::new(1.0, 1).unwrap()))
        .circuit_breaker(breaker.clone())
        .build()
        .unwrap();
    for _ in 0..20 {
        let call = pipeline.call(pending::<Result<(), &str>>);
        assert!(call.await.unwrap_err().is_timed_out());
    }
    assert_eq!(breaker.snapshot().failures, 20);
    assert!(is_open(pipeline.call(|| ready(Ok(()))).await));
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_of_one_attempt_is_a_failure_and_a_refusal_below_is_not() {
    let breaker = CircuitBreaker::builder().build().unwrap();
    let limited = Pipeline::builder("attempt")
        .circuit_breaker(breaker.clone())
        .timeout(SECOND);
    let limited = limited.build().unwrap();
    let call = limited.call(pending::<Result<(), &str>>);
    assert!(call.await.unwrap_err().is_timed_out());
    assert_eq!(breaker.snapshot().failures, 1);

    let shut = small().build().unwrap();
    shut.force_open();
    let stacked = Pipeline::builder("stacked")
        .circuit_breaker(breaker.clone())
        .circuit_breaker(shut);
    let stacked = stacked.build().unwrap();
    assert!(is_open(stacked.call(|| ready(Ok(()))).await));
    assert_eq!(breaker.snapshot().failures, 1);
    assert_eq!(breaker.snapshot().successes, 0);
}

/// Trap 14.
#[tokio::test(start_paused = true)]
async fn operators_orders_hold_until_told_otherwise() {
    let (breaker, changes) = recorded(small());
    breaker.force_open();
    for _ in 0..3 {
        advance(1_000_000 * SECOND).await;
        let refused = succeed(&breaker).await.unwrap_err();
        assert_eq!(
            refused.refusal(),
            Some(Refusal::CircuitOpen { retry_after: None })
        );
        assert_eq!(breaker.snapshot().until_half_open, None);
    }
    breaker.disable();
    for _ in 0..10 {
        fail(&breaker).await.unwrap_err();
    }
    assert_eq!(breaker.snapshot().failures, 0);
    breaker.metrics_only();
    for _ in 0..10 {
        assert!(!is_open(fail(&breaker).await));
    }
    assert_eq!(breaker.snapshot().failure_rate, Some(1.0));
    breaker.reset();
    assert_eq!(breaker.snapshot().failure_rate, None);
    assert_eq!(
        states(&changes),
        [ForcedOpen, Disabled, MetricsOnly, Closed]
    );
}

/// Trap 61.
#[tokio::test(start_paused = true)]
async fn it_follows_the_paused_clock() {
    let breaker = small().open_for(3_600 * SECOND).build().unwrap();
    trip(&breaker);
    advance(3_599 * SECOND).await;
    assert!(is_open(succeed(&breaker).await));
    advance(SECOND).await;
    succeed(&breaker).await.unwrap();
}

fn quietly<R>(work: impl FnOnce() -> R) -> Result<R, ()> {
    catch_unwind(AssertUnwindSafe(work)).map_err(drop)
}

fn poll_once<F: Future>(future: F) {
    let mut future = pin!(future);
    poll_times(future.as_mut(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owned_permit_counts_from_another_task() {
    let breaker = small().build().unwrap();
    let by_ok = breaker.classify_ok(|(): &()| CountAs::Success);
    for _ in 0..2 {
        let permit: Permit<CircuitBreaker> = by_ok.try_acquire_owned().unwrap();
        let settled = tokio::spawn(async move { permit.settle(End::Failure) });
        settled.await.unwrap();
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    assert!(by_ok.try_acquire_owned().is_err());
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_panicking_operation_is_a_failure() {
    let breaker = small().build().unwrap();
    let pipeline = Pipeline::builder("panics").circuit_breaker(breaker.clone());
    let pipeline = pipeline.build().unwrap();
    for _ in 0..2 {
        let start = || -> std::future::Ready<Result<(), &str>> { panic!("operation") };
        assert!(quietly(|| poll_once(pipeline.call(start))).is_err());
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    advance(10 * SECOND).await;
    let polled = async { panic!("probe") };
    assert!(quietly(|| poll_once(pipeline.call_future::<_, (), &str>(polled))).is_err());
    assert_eq!(breaker.snapshot().openings, 2);
    advance(10 * SECOND).await;
    pipeline.call(|| ready(Ok::<_, &str>(()))).await.unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_panicking_classifier_is_a_failure() {
    let breaker = small().build().unwrap();
    let panics = breaker.classify(|_: Result<&(), &Error<&'static str>>| panic!("classifier"));
    for _ in 0..2 {
        assert!(quietly(|| poll_once(succeed(&panics))).is_err());
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    advance(10 * SECOND).await;
    succeed(&breaker).await.unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// Trap 76: also where the change is made while another panic unwinds.
#[tokio::test(start_paused = true)]
async fn a_panicking_hook_harms_neither_call_nor_events() {
    struct PanicsAgain;
    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            panic!("payload");
        }
    }
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let hook = move |_: &StateChange| {
        count.fetch_add(1, Ordering::Relaxed);
        std::panic::panic_any(PanicsAgain);
    };
    let breaker = small().on_state_change(hook).build().unwrap();
    for _ in 0..2 {
        let call = panics().circuit_breaker(&breaker);
        assert!(quietly(|| poll_once(call)).is_err());
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    advance(10 * SECOND).await;
    succeed(&breaker).await.unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_eq!(told.load(Ordering::Relaxed), 3);
}

fn panics() -> impl Future<Output = Result<(), &'static str>> {
    std::future::poll_fn(|_| panic!("operation"))
}

/// Runs on another thread, so that a deadlock fails the test and does not hang it.
fn ends(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    ended.recv_timeout(20 * SECOND).is_ok()
}

#[test]
fn a_healthy_and_an_open_breaker_take_no_lock() {
    let breaker = small().build().unwrap();
    for _ in 0..256 {
        breaker.try_acquire().unwrap().settle(End::Success);
    }
    let work = |breaker: CircuitBreaker, settles: bool| {
        move || {
            for _ in 0..1_000 {
                if let (Ok(permit), true) = (breaker.try_acquire(), settles) {
                    permit.settle(End::Success);
                }
                assert_eq!(breaker.state(), breaker.shared.published.word().state());
            }
        }
    };
    let guard = breaker.shared.core.lock();
    assert!(ends(work(breaker.clone(), true)));
    drop(guard);
    trip(&breaker);
    let guard = breaker.shared.core.lock();
    assert!(ends(work(breaker.clone(), false)));
    drop(guard);
    breaker.force_open();
    let _guard = breaker.shared.core.lock();
    assert!(ends(work(breaker.clone(), false)));
}

#[tokio::test(start_paused = true)]
async fn clones_and_classified_handles_share_one_state() {
    let breaker = small().build().unwrap();
    let tolerant = breaker.failure_if(|error: &&str| *error != "down");
    fail(&tolerant).await.unwrap_err();
    assert_eq!(breaker.snapshot().successes, 1);
    fail(&breaker.clone()).await.unwrap_err();
    fail(&breaker).await.unwrap_err();
    assert_eq!(tolerant.state(), CircuitState::Open);
    assert!(is_open(fail(&tolerant.clone()).await));
}

#[tokio::test(start_paused = true)]
async fn open_times_grow_and_are_told() {
    let backoff = Backoff::exponential(SECOND).jitter(Jitter::None);
    let (breaker, changes) = recorded(small().open_backoff(backoff).seed(1));
    trip(&breaker);
    for seconds in [1, 2, 4] {
        advance(seconds * SECOND).await;
        fail(&breaker).await.unwrap_err();
        let until = crate::time::now().saturating_add(2 * seconds * SECOND);
        assert_eq!(breaker.shared.published.open_until(), until);
    }
    let opened: Vec<_> = changes
        .lock()
        .unwrap()
        .iter()
        .filter_map(|c| c.open_for)
        .collect();
    assert_eq!(opened, [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND]);
}

#[test]
fn changes_read_well() {
    let (breaker, changes) = recorded(small());
    trip(&breaker);
    breaker.reset();
    let told: Vec<_> = changes
        .lock()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "closed to open: failure rate",
            "open to closed: told by an operator"
        ]
    );
}

static_assertions::assert_impl_all!(CircuitBreaker: Clone, Send, Sync, fmt::Debug);
static_assertions::assert_impl_all!(CircuitBreakerBuilder: Clone, Send, Sync, fmt::Debug);

#[test]
fn its_debug_text_begins_with_its_name() {
    let breaker = CircuitBreaker::builder().name("payments");
    let text = format!("{breaker:?}");
    assert!(
        text.starts_with("CircuitBreakerBuilder { name: \"payments\","),
        "{text}"
    );
    let text = format!("{:?}", breaker.build().unwrap());
    assert!(
        text.starts_with("CircuitBreaker { name: \"payments\", snapshot:"),
        "{text}"
    );
}

fn refused(builder: CircuitBreakerBuilder) -> &'static str {
    builder.build().unwrap_err().field()
}

/// Traps 7 and 33.
#[test]
fn settings_out_of_range_are_refused_by_name() {
    let breaker = CircuitBreaker::builder;
    for rate in [
        0.0,
        -0.0,
        -1.0,
        1.0001,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        assert_eq!(refused(breaker().failure_rate(rate)), "failure_rate");
        assert_eq!(refused(breaker().slow_calls(rate, SECOND)), "slow_calls");
    }
    let nothing = Duration::ZERO;
    assert_eq!(refused(breaker().slow_calls(0.5, nothing)), "slow_calls");
    for calls in [0, 1_000_001, u32::MAX] {
        assert_eq!(refused(breaker().window(Window::calls(calls))), "window");
    }
    for span in [nothing, Duration::from_micros(999)] {
        assert_eq!(refused(breaker().window(Window::time(span))), "window");
    }
    for calls in [0, 101, u32::MAX] {
        assert_eq!(refused(breaker().minimum_calls(calls)), "minimum_calls");
    }
    assert_eq!(
        refused(breaker().consecutive_failures(0)),
        "consecutive_failures"
    );
    assert_eq!(refused(breaker().no_failure_rate()), "consecutive_failures");
    assert_eq!(refused(breaker().half_open_probes(0)), "half_open_probes");
    assert_eq!(
        refused(breaker().half_open_limit(nothing)),
        "half_open_limit"
    );
    assert_eq!(refused(breaker().cancelled(Cancelled::Slow)), "slow_calls");
    let backoff = Backoff::exponential(SECOND).factor(f64::NAN);
    assert_eq!(refused(breaker().open_backoff(backoff)), "factor");
    let error = breaker().failure_rate(2.0).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "failure_rate is 2, but must be above 0 and at most 1"
    );
}

#[test]
fn the_default_minimum_fits_a_small_window() {
    let breaker = CircuitBreaker::builder().window(Window::calls(5));
    let breaker = breaker.build().unwrap();
    for failures in 1..=5 {
        assert_eq!(breaker.state(), CircuitState::Closed);
        breaker.try_acquire().unwrap().settle(End::Failure);
        assert_eq!(breaker.snapshot().failures, failures);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
}

fn any_rate() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => any::<f64>(),
        8 => 0.0..=1.0f64,
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(1.0),
    ]
}

fn any_span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, n)| Duration::new(s, n)),
        8 => (0..5_000u64).prop_map(Duration::from_millis),
        1 => Just(Duration::ZERO),
        2 => Just(Duration::MAX),
    ]
}

fn any_count() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => any::<u32>(),
        12 => 1..200u32,
        1 => Just(u32::MAX),
        1 => Just(0),
    ]
}

fn any_builder() -> impl Strategy<Value = CircuitBreakerBuilder> {
    let rates = (
        any_rate(),
        prop::option::of((any_rate(), any_span())),
        prop::option::of(any_count()),
        prop::option::of(any_count()),
    );
    let window = prop_oneof![
        any_count().prop_map(Window::calls),
        any_span().prop_map(Window::time),
    ];
    let half_open = (any_count(), any_span());
    let backoff = (
        any_span(),
        any_span(),
        prop_oneof![any::<f64>(), 1.0..9.0f64],
        any::<bool>(),
    );
    (rates, window, half_open, backoff, 0..3u8).prop_map(
        |(
            (rate, slow, row, minimum),
            window,
            (probes, limit),
            (base, cap, factor, grows),
            rule,
        )| {
            let mut builder = CircuitBreaker::builder()
                .window(window)
                .failure_rate(rate)
                .half_open_probes(probes)
                .half_open_limit(limit)
                .open_for(base)
                .cancelled([Cancelled::Ignore, Cancelled::Failure, Cancelled::Slow][rule as usize]);
            if let Some((rate, limit)) = slow {
                builder = builder.slow_calls(rate, limit);
            }
            if let Some(row) = row {
                builder = builder.consecutive_failures(row);
            }
            if let Some(minimum) = minimum {
                builder = builder.minimum_calls(minimum);
            }
            if grows {
                let backoff = Backoff::exponential(base).max_delay(cap).factor(factor);
                builder = builder.open_backoff(backoff);
            }
            builder
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]
    /// Trap 33.
    #[test]
    fn no_setting_panics_neither_at_build_nor_in_use(
        builder in any_builder(),
        ends in prop::collection::vec(0..7u8, 0..20),
    ) {
        let breaker = match builder.build() {
            Ok(breaker) => breaker,
            Err(error) => {
                prop_assert!(!error.field().is_empty() && !error.allowed().is_empty());
                return Ok(());
            }
        };
        for end in ends {
            let Ok(permit) = breaker.try_acquire() else { break };
            match end {
                0 => permit.settle(End::Success),
                1 | 2 => permit.settle(End::Failure),
                3 => permit.settle(End::Ignored),
                4 => permit.settle(End::Panicked),
                5 => drop(permit),
                _ => breaker.reset(),
            }
        }
        let snapshot = breaker.snapshot();
        prop_assert!(snapshot.failure_rate.is_none_or(|rate| (0.0..=1.0).contains(&rate)));
    }
}

/// What ends with a refusal below may have called the callee before: the error says so.
#[tokio::test(start_paused = true)]
async fn a_failure_that_a_refusal_below_has_followed_counts() {
    let breaker = small().build().unwrap();
    let retry = Retry::builder().backoff(Backoff::none()).no_budget();
    let retry = retry.build().unwrap();
    for _ in 0..2 {
        let once = RateLimiter::per_minute(1).max_wait(Duration::ZERO);
        let once = once.build().unwrap();
        let down = || ready(Err::<(), _>("down"));
        let call = down.rate_limit(&once).retry(&retry);
        let error = call.circuit_breaker(&breaker).await.unwrap_err();
        assert_eq!((error.attempts(), error.last()), (1, Some(&"down")));
    }
    assert_eq!(breaker.state(), Open);
}

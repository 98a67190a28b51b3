//! The limiter on a paused clock, on many threads, and under bad input.
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio_test::task;

use super::*;
use crate::prelude::*;
use crate::time::now;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One permit each 10 ms, and nothing saved up.
fn drained(burst: u32) -> RateLimiter {
    let limiter = RateLimiter::builder()
        .rate(1, ms(10))
        .burst(burst)
        .max_wait(Duration::MAX)
        .build()
        .unwrap();
    limiter.try_acquire(burst).unwrap();
    limiter
}

/// Lets time pass, with all that it sets off.
async fn pass(span: Duration) {
    let until = now().saturating_add(span);
    let mut timer = Timer::new();
    poll_fn(|cx| timer.poll_until(until, cx)).await;
}

fn retry_after(refusal: Result<(), Refusal>) -> Duration {
    match refusal {
        Err(Refusal::RateLimited { retry_after }) => retry_after,
        other => panic!("{other:?}"),
    }
}

fn ok() -> std::future::Ready<Result<(), &'static str>> {
    std::future::ready(Ok(()))
}

#[tokio::test(start_paused = true)]
async fn waits_for_its_permits_and_no_longer() {
    let limiter = drained(4);
    let start = now();
    limiter.acquire(3).await.unwrap();
    assert_eq!(now().since(start), ms(30));
    ok().rate_limit(&limiter.costing(2)).await.unwrap();
    assert_eq!(now().since(start), ms(50));
    ok().rate_limit(&limiter.costing(0)).await.unwrap();
    assert_eq!(now().since(start), ms(50));
}

/// Trap 45.
#[tokio::test(start_paused = true)]
async fn two_hundred_calls_at_five_a_second_take_39_seconds() {
    let limiter = RateLimiter::per_second(5).build().unwrap();
    let start = now();
    for _ in 0..200 {
        ok().rate_limit(&limiter).await.unwrap();
    }
    assert_eq!(now().since(start), Duration::from_secs(39));
}

/// Trap 41.
#[tokio::test(start_paused = true)]
async fn more_than_the_burst_is_refused_at_once() {
    let limiter = RateLimiter::per_second(5).build().unwrap();
    let too_large = Err(Refusal::TooLarge { asked: 6, limit: 5 });
    assert_eq!(limiter.try_acquire(6), too_large);
    assert_eq!(limiter.acquire_within(6, Duration::MAX).await, too_large);
    assert_eq!(limiter.snapshot().available, 5);
}

/// Trap 44.
#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_fit_is_refused_at_once_with_the_time_to_come_back() {
    let limiter = RateLimiter::builder()
        .rate(1, Duration::from_secs(10))
        .max_wait(ms(500))
        .build()
        .unwrap();
    ok().rate_limit(&limiter).await.unwrap();
    let start = now();
    let error = ok().rate_limit(&limiter).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
    let tried = limiter.acquire_within(1, ms(9_999)).await;
    assert_eq!(retry_after(tried), Duration::from_secs(10));
    assert_eq!(now(), start, "nobody slept");
    limiter
        .acquire_within(1, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(now().since(start), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_at_the_deadline_is_refused_at_once() {
    let limiter = drained(1);
    let start = now();
    let error = ok().rate_limit(&limiter).timeout(ms(10)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(ms(10)));
    assert_eq!((now(), error.attempts()), (start, 0));
    ok().rate_limit(&limiter).timeout(ms(11)).await.unwrap();
    assert_eq!(now().since(start), ms(10));
}

/// Trap 75.
#[tokio::test(start_paused = true)]
async fn nothing_is_taken_before_a_call_is_polled() {
    let limiter = RateLimiter::per_second(5).build().unwrap();
    for _ in 0..9 {
        drop(limiter.acquire(1));
        drop(ok().rate_limit(&limiter));
    }
    assert_eq!(limiter.snapshot().available, 5);
}

/// Trap 75.
#[cfg(feature = "tower")]
#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_and_dropped_has_taken_nothing() {
    use tower::{Service, ServiceBuilder, ServiceExt};
    let limiter = RateLimiter::per_second(5).build().unwrap();
    let pipeline = Pipeline::builder("ready")
        .rate_limit(limiter.clone())
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(pipeline.layer())
        .service(tower::service_fn(|()| ok()));
    for _ in 0..9 {
        service.clone().ready().await.unwrap();
    }
    assert_eq!(limiter.snapshot().available, 5);
    service
        .clone()
        .ready()
        .await
        .unwrap()
        .call(())
        .await
        .unwrap();
    assert_eq!(limiter.snapshot().available, 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_admitted_and_dropped_stays_spent() {
    let limiter = RateLimiter::per_second(5).build().unwrap();
    let never = std::future::pending::<Result<(), ()>>();
    let mut call = task::spawn(never.rate_limit(&limiter));
    assert!(call.poll().is_pending());
    drop(call);
    assert_eq!(limiter.snapshot().available, 4);
}

/// Counts how often it is polled.
async fn counted<F: Future>(future: F, polls: &Cell<usize>) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polls.set(polls.get() + 1);
        future.as_mut().poll(cx)
    })
    .await
}

/// Trap 36.
#[tokio::test(start_paused = true)]
async fn a_hundred_waiters_are_served_in_order_with_one_wake_each() {
    let limiter = drained(7);
    let start = now();
    let mut due = Duration::ZERO;
    let tasks = tokio::task::LocalSet::new();
    let served = std::rc::Rc::new(Cell::new(0));
    for n in 0..100 {
        let (limiter, served) = (limiter.clone(), served.clone());
        let permits = n % 7 + 1;
        due += ms(10) * permits;
        tasks.spawn_local(async move {
            let polls = Cell::new(0);
            counted(limiter.acquire(permits), &polls).await.unwrap();
            assert_eq!(now().since(start), due, "waiter {n}");
            assert_eq!(served.replace(n + 1), n);
            assert_eq!(polls.get(), 2, "waiter {n}");
        });
    }
    tasks.await;
    assert_eq!(served.get(), 100);
}

/// Traps 34, 36.
#[tokio::test(start_paused = true)]
async fn whoever_leaves_costs_one_wake_for_each_permit_at_most() {
    let limiter = drained(1);
    let start = now();
    let mut waiters: Vec<_> = (0..100).map(|_| task::spawn(limiter.acquire(1))).collect();
    for waiter in &mut waiters {
        assert!(waiter.poll().is_pending());
    }
    // Every other one leaves, from the head on.
    let mut left: Vec<_> = waiters.drain(..).enumerate().collect();
    left.retain(|(n, _)| n % 2 == 1);
    let (mut wakes, mut served) = (0, 0);
    while served < 50 {
        assert!(now().since(start) < ms(600), "only {served} were served");
        pass(ms(1)).await;
        left.retain_mut(|(n, waiter)| {
            if !waiter.is_woken() {
                return true;
            }
            wakes += 1;
            let Poll::Ready(taken) = waiter.poll() else {
                return true;
            };
            taken.unwrap();
            assert_eq!(*n, 2 * served + 1, "in order");
            served += 1;
            assert_eq!(now().since(start), ms(10) * u32::try_from(served).unwrap());
            false
        });
    }
    assert!(wakes <= 100, "{wakes} wakes for 50 permits");
}

/// Traps 34, 35: dropped at every poll, at the head, in the middle and at the tail, while a
/// second actor tries in between.
#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_at_any_poll_leaves_the_others_their_times() {
    for position in 0..3 {
        for polls in 0..9 {
            dropped_after(polls, position).await;
        }
    }
}

async fn dropped_after(polls: u64, position: usize) {
    let limiter = drained(1);
    let start = now();
    let mut waiters: Vec<_> = (0..3)
        .map(|_| Some(task::spawn(limiter.acquire(1))))
        .collect();
    let mut times = [None; 3];
    for step in 0.. {
        assert!(step < 100, "somebody is never served: {times:?}");
        for n in 0..3 {
            if n == position && step >= polls {
                waiters[n] = None;
            }
            let Some(waiter) = &mut waiters[n] else {
                continue;
            };
            if step > 0 && n != position && !waiter.is_woken() {
                continue;
            }
            if let Poll::Ready(taken) = waiter.poll() {
                taken.unwrap();
                times[n] = Some(now().since(start));
                waiters[n] = None;
            }
        }
        if waiters.iter().all(Option::is_none) {
            break;
        }
        limiter.try_acquire(1).unwrap_err();
        pass(ms(5)).await;
    }
    // Polled each 5 ms from 0 on, it takes if it is still there when its time comes.
    let taken = polls > 2 * (position as u64 + 1);
    let served = (0..3).filter(|n| *n != position || taken);
    let mut expected = [None; 3];
    for (rank, n) in served.clone().enumerate() {
        expected[n] = Some(ms(10 * (rank as u64 + 1)));
    }
    assert_eq!(times, expected, "position {position}, {polls} polls");
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.queued, snapshot.queued_permits), (0, 0));
    limiter.acquire(1).await.unwrap();
    let next = ms(10 * (served.count() as u64 + 1)).max(ms(5 * polls.saturating_sub(1)));
    assert_eq!(now().since(start), next, "{position}, {polls}");
}

/// Trap 43.
#[tokio::test(start_paused = true)]
async fn settings_change_while_calls_wait() {
    let limiter = drained(3);
    let start = now();
    let mut big = task::spawn(limiter.acquire(3));
    let mut small = task::spawn(limiter.acquire_within(1, ms(50)));
    assert!(big.poll().is_pending() && small.poll().is_pending());
    limiter.set_burst(2).unwrap();
    let too_large = Err(Refusal::TooLarge { asked: 3, limit: 2 });
    assert!(big.is_woken());
    assert_eq!(big.poll(), Poll::Ready(too_large));
    assert!(small.is_woken(), "it moved up");
    assert!(small.poll().is_pending());
    limiter.set_rate(1, ms(200)).unwrap();
    assert!(small.is_woken(), "its 50 ms do not suffice any more");
    let Poll::Ready(refused) = small.poll() else {
        panic!("refused at once")
    };
    assert_eq!(retry_after(refused), ms(200));
    limiter.set_rate(1, ms(1)).unwrap();
    limiter.acquire(1).await.unwrap();
    assert_eq!(now().since(start), ms(1));
}

/// Trap 43.
#[tokio::test(start_paused = true)]
async fn a_bad_setting_is_refused_and_changes_nothing() {
    let limiter = RateLimiter::per_second(5).build().unwrap();
    let before = limiter.snapshot();
    assert_eq!(limiter.set_burst(0).unwrap_err().field(), "burst");
    for (permits, per) in [(0, ms(1)), (1, Duration::ZERO), (1, Duration::MAX)] {
        assert_eq!(limiter.set_rate(permits, per).unwrap_err().field(), "rate");
    }
    assert_eq!(limiter.snapshot(), before);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_the_permits_and_who_waits() {
    let limiter = drained(9);
    let mut waiter = task::spawn(limiter.acquire(4));
    assert!(waiter.poll().is_pending());
    pass(ms(25)).await;
    let expected = RateLimiterSnapshot {
        available: 2,
        permits: 1,
        per: ms(10),
        burst: 9,
        queued: 1,
        queued_permits: 4,
    };
    assert_eq!(limiter.snapshot(), expected);
}

/// Trap 40: the clock outside of a paused runtime is the real one, so nothing may come back
/// within the test.
#[test]
fn many_threads_at_one_moment_get_exactly_the_burst() {
    const THREADS: usize = 8;
    for _ in 0..crate::testing::rounds(50) {
        let limiter = RateLimiter::builder()
            .rate(1, Duration::from_secs(86_400))
            .burst(100)
            .build()
            .unwrap();
        let (taken, barrier) = (AtomicUsize::new(0), Barrier::new(THREADS));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    let mine = (0..50).filter(|_| limiter.try_acquire(1).is_ok()).count();
                    taken.fetch_add(mine, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(taken.into_inner(), 100);
    }
}

/// Trap 40.
#[test]
fn many_threads_in_a_row_never_get_more_than_burst_plus_rate() {
    let (per, burst) = (Duration::from_micros(20), 10);
    let limiter = RateLimiter::builder()
        .rate(1, per)
        .burst(burst)
        .build()
        .unwrap();
    let start = now();
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while now().since(start) < ms(30) {
                    let mine = usize::from(limiter.try_acquire(1).is_ok());
                    taken.fetch_add(mine, Ordering::Relaxed);
                }
            });
        }
    });
    let most = now().since(start).as_nanos() / per.as_nanos() + u128::from(burst);
    let taken = taken.into_inner() as u128;
    assert!(taken <= most, "{taken} of {most}");
    assert!(taken > u128::from(burst), "it was refilled");
}

#[test]
fn tasks_on_many_threads_are_all_served_within_the_law() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    let limiter = RateLimiter::builder()
        .rate(10, ms(1))
        .burst(50)
        .max_wait(Duration::MAX)
        .build()
        .unwrap();
    let start = now();
    runtime.block_on(async {
        let tasks = (0..400).map(|n| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                let mut waiting = Box::pin(limiter.acquire(1));
                if n % 3 == 0 {
                    // It looks once and goes away; it may have been admitted by then.
                    return poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await;
                }
                waiting.await.is_ok()
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut served = 0;
        for task in tasks {
            served += u128::from(task.await.unwrap());
        }
        let most = 50 + now().since(start).as_nanos() / 100_000;
        assert!(served >= 266 && served <= most, "{served} of {most}");
    });
    assert_eq!(limiter.snapshot().queued, 0);
}

/// Uses the limiter when it is woken and when it is dropped.
struct Nosy {
    limiter: Arc<OnceLock<RateLimiter>>,
    seen: Arc<AtomicUsize>,
}

impl Nosy {
    fn look(&self) {
        let limiter = self.limiter.get().unwrap();
        let _ = (limiter.snapshot(), limiter.try_acquire(1));
        let _ = limiter.set_burst(3);
        self.seen.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.look();
    }
}

fn nosy_wakers_are_used_in_every_way() -> usize {
    let (cell, seen) = (Arc::new(OnceLock::new()), Arc::default());
    let nosy = || {
        let (limiter, seen) = (Arc::clone(&cell), Arc::clone(&seen));
        Waker::from(Arc::new(Nosy { limiter, seen }))
    };
    let limiter = drained(3);
    cell.set(limiter.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let mut waiters: Vec<_> = (0..6).map(|_| Box::pin(limiter.acquire(2))).collect();
    for _ in 0..2 {
        for waiter in &mut waiters {
            let waker = nosy();
            let polled = waiter.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
    }
    drop(waiters.remove(0));
    limiter.set_rate(1, Duration::from_secs(1)).unwrap();
    limiter.set_rate(1, ms(1)).unwrap();
    drop(waiters.remove(2));
    limiter.set_burst(1).unwrap();
    for waiter in &mut waiters {
        let waker = nosy();
        let polled = waiter.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Ready(Err(_))));
    }
    drop(waiters);
    seen.load(Ordering::Relaxed)
}

/// A waker that panics.
pub(super) struct Angry;

impl Wake for Angry {
    fn wake(self: Arc<Self>) {
        panic!("waker");
    }
}

/// Trap 76: everyone who is refused is woken.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_does_not_leave_the_others_asleep() {
    let limiter = drained(3);
    let mut first = Box::pin(limiter.acquire(2));
    let angry = Waker::from(Arc::new(Angry));
    let polled = first.as_mut().poll(&mut Context::from_waker(&angry));
    assert!(polled.is_pending());
    let mut others: Vec<_> = (0..2).map(|_| task::spawn(limiter.acquire(2))).collect();
    for other in &mut others {
        assert!(other.poll().is_pending());
    }
    let change = std::panic::AssertUnwindSafe(|| limiter.set_burst(1));
    assert!(std::panic::catch_unwind(change).is_err());
    assert!(others.iter().all(task::Spawn::is_woken));
    drop((first, others));
    assert_eq!(limiter.snapshot().queued, 0);
}

/// Trap 77: under the lock any of these would wait for itself for ever.
#[test]
fn wakers_are_woken_and_dropped_outside_of_the_lock() {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(nosy_wakers_are_used_in_every_way()));
    let seen = result.recv_timeout(Duration::from_secs(20));
    assert!(seen.expect("no deadlock") >= 16);
}

fn extreme() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>(), 0..100u32]
}

fn span() -> impl Strategy<Value = Duration> {
    let nanos = |n| Duration::from_nanos(n);
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        Just(nanos(1)),
        Just(nanos(u64::MAX)),
        Just(nanos(u64::MAX) + nanos(1)),
        any::<u64>().prop_map(nanos),
        (0..2_000_000_000u64).prop_map(nanos),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]

    /// Trap 33.
    #[test]
    fn no_setting_panics_or_overflows(
        (rate, per, burst) in (extreme(), span(), prop::option::of(extreme())),
        (permits, max_wait, asked) in (prop::option::of(extreme()), span(), extreme()),
        (other_rate, other_per, other_burst) in (extreme(), span(), extreme()),
    ) {
        let mut builder = RateLimiter::builder().rate(rate, per).max_wait(max_wait);
        if let Some(burst) = burst {
            builder = builder.burst(burst);
        }
        if let Some(permits) = permits {
            builder = builder.permits(permits);
        }
        let rim = burst.unwrap_or(rate);
        let period = 1..=u128::from(u64::MAX);
        let good = rate > 0
            && period.contains(&per.as_nanos())
            && rim > 0
            && permits.unwrap_or(1) <= rim;
        let built = builder.build();
        prop_assert_eq!(built.is_ok(), good);
        let Ok(limiter) = built else { return Ok(()) };
        prop_assert_eq!(limiter.snapshot().available, rim);
        let waker = Waker::noop();
        for _ in 0..2 {
            let _ = limiter.try_acquire(asked);
            // Without a runtime only a wait that is refused at once may be tried.
            let mut acquire = task::spawn(limiter.acquire_within(asked, Duration::ZERO));
            prop_assert!(acquire.poll().is_ready());
            let _ = (limiter.set_burst(other_burst), limiter.set_rate(other_rate, other_per));
            let ask = Ask { permits: asked, until: now().saturating_add(max_wait) };
            let place = limiter.shared.ask(|s| s.enter(ask, now(), &mut Some(waker.clone())));
            if let Place::Waits(key, _) = place {
                limiter.shared.ask(|s| s.leave(key, now()));
            }
            let snapshot = limiter.snapshot();
            prop_assert!(snapshot.available <= snapshot.burst);
            prop_assert_eq!((snapshot.queued, snapshot.queued_permits), (0, 0));
        }
    }
}

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// A timer rounds up, and an executor stalls: whose permits are there is served all the
/// same, in order, and no newcomer comes first.
#[tokio::test(start_paused = true)]
async fn lateness_refuses_nobody_whose_permits_are_there() {
    let limiter = RateLimiter::builder().rate(1, us(100)).burst(1);
    let limiter = limiter.build().unwrap();
    limiter.try_acquire(1).unwrap();
    let mut first = task::spawn(limiter.acquire_within(1, us(100)));
    let mut second = task::spawn(limiter.acquire_within(1, us(200)));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    tokio::time::advance(ms(1)).await;
    assert!(matches!(second.poll(), Poll::Ready(Err(_))));
    assert!(
        limiter.try_acquire(1).is_err(),
        "the permit is the first one's"
    );
    assert_eq!(first.poll(), Poll::Ready(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_the_order_of_polls_decides_nothing() {
    for reversed in [false, true] {
        let limiter = RateLimiter::per_second(1000).burst(20).max_wait(ms(30));
        let limiter = limiter.build().unwrap();
        limiter.try_acquire(20).unwrap();
        let mut waiting: Vec<_> = (0..30).map(|_| task::spawn(limiter.acquire(1))).collect();
        assert!(waiting.iter_mut().all(|wait| wait.poll().is_pending()));
        tokio::time::advance(ms(60)).await;
        if reversed {
            waiting.reverse();
        }
        let served = waiting.iter_mut().map(task::Spawn::poll);
        let served = served.filter(|wait| *wait == Poll::Ready(Ok(()))).count();
        assert_eq!(served, 20, "reversed: {reversed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_higher_rate_refuses_nobody() {
    let limiter = RateLimiter::builder().rate(1, us(10_100)).burst(1);
    let limiter = limiter.build().unwrap();
    limiter.try_acquire(1).unwrap();
    let mut first = task::spawn(limiter.acquire_within(1, us(10_100)));
    assert!(first.poll().is_pending());
    tokio::time::advance(us(10_500)).await;
    limiter.set_rate(1, us(5_000)).unwrap();
    assert_eq!(first.poll(), Poll::Ready(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_when_the_deadline_has_passed_in_the_queue() {
    let limiter = drained(1);
    let started = Cell::new(0);
    let pipeline = Pipeline::builder("late").timeout(ms(20));
    let pipeline = pipeline.rate_limit(limiter.clone()).build().unwrap();
    let call = pipeline.call(|| {
        started.set(started.get() + 1);
        std::future::pending::<Result<(), ()>>()
    });
    let mut call = task::spawn(call);
    assert!(call.poll().is_pending());
    tokio::time::advance(ms(500)).await;
    let Poll::Ready(Err(error)) = call.poll() else {
        panic!("the deadline has passed");
    };
    assert!(matches!(error.refusal(), Some(Refusal::RateLimited { .. })));
    assert_eq!((started.get(), error.attempts()), (0, 0));
    assert_eq!(limiter.snapshot().available, 1, "nothing was spent");
    assert_eq!(limiter.snapshot().queued, 0);
}

/// Both were away for long, and both have their permits: neither passes the other by.
#[tokio::test(start_paused = true)]
async fn late_waiters_are_served_in_whatever_order_they_are_polled() {
    for reversed in [false, true] {
        let limiter = RateLimiter::per_second(10).burst(2).max_wait(ms(300));
        let limiter = limiter.build().unwrap();
        limiter.try_acquire(2).unwrap();
        let mut waiting = [
            task::spawn(limiter.acquire(1)),
            task::spawn(limiter.acquire(1)),
        ];
        assert!(waiting.iter_mut().all(|wait| wait.poll().is_pending()));
        tokio::time::advance(ms(5_000)).await;
        if reversed {
            waiting.reverse();
        }
        let served = waiting.iter_mut().map(task::Spawn::poll);
        assert!(
            served.into_iter().all(|wait| wait == Poll::Ready(Ok(()))),
            "{reversed}"
        );
    }
}

//! The clock, and timers next to tokio's own.
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::entry::stations_of;
use super::line::Line;
use super::*;
use crate::panics::{caught, message};
use crate::sync::Lock;
use crate::testing::{cases, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

thread_local! {
    /// Whether stations that this thread opens behave as in production.
    pub(super) static LAZY: Cell<bool> = const { Cell::new(false) };
    /// How far this thread's clock has run ahead of tokio's.
    pub(super) static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// With alarms that stay set, as in production, and with those of a paused clock.
fn both_ways(test: impl Fn()) {
    for lazy in [true, false] {
        LAZY.set(lazy);
        test();
    }
    LAZY.set(false);
}

fn paused() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

fn workers(threads: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .enable_time()
        .worker_threads(threads)
        .build()
        .unwrap()
}

async fn polled(timer: &mut Timer, until: Instant) -> Poll<()> {
    poll_fn(|cx| Poll::Ready(timer.poll_until(until, cx))).await
}

fn after(span: Duration) -> Instant {
    now().saturating_add(span)
}

#[expect(clippy::disallowed_methods, reason = "what ours is compared to")]
fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "what ours are compared to")]
fn tokios(span: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(span)
}

/// Counts how often it is woken, and does something each time.
struct Told<F>(AtomicUsize, F);

impl<F: Fn() + Send + Sync + 'static> Told<F> {
    fn and(act: F) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0), act))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl<F: Fn() + Send + Sync> Wake for Told<F> {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        (self.1)();
    }
}

#[test]
fn arithmetic_saturates() {
    let t = Instant::from_nanos(5);
    assert_eq!(t.saturating_add(Duration::MAX), Instant::NEVER);
    assert_eq!(t.since(Instant::from_nanos(9)), Duration::ZERO);
    assert_eq!(t.since(Instant::from_nanos(2)), Duration::from_nanos(3));
}

#[test]
fn a_timer_is_small() {
    assert_eq!(size_of::<Timer>(), 16);
}

#[tokio::test(start_paused = true)]
async fn the_clock_follows_the_paused_one() {
    let before = now();
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(now().since(before), Duration::from_secs(3600));
}

#[test]
fn a_timer_ends_at_its_time_and_can_be_moved() {
    both_ways(|| {
        paused().block_on(async {
            let start = now();
            let mut timer = Timer::new();
            assert!(polled(&mut timer, after(9 * SECOND)).await.is_pending());
            let second = after(2 * SECOND);
            poll_fn(|cx| timer.poll_until(second, cx)).await;
            assert_eq!(now().since(start).as_secs(), 2);
            assert!(polled(&mut timer, second).await.is_ready(), "once more");
            assert!(polled(&mut timer, Instant::NEVER).await.is_pending());
            timer.disarm();
            assert!(polled(&mut timer, start).await.is_ready());
        });
    });
}

/// A thread may be away between its look at the clock and the list: meanwhile the time went on.
#[test]
fn a_timer_armed_for_a_time_that_others_have_passed_ends() {
    both_ways(|| {
        paused().block_on(async {
            let (stale, mut first, mut last) = (now(), Timer::new(), Timer::new());
            assert!(polled(&mut first, after(9 * MS)).await.is_pending());
            assert!(polled(&mut last, after(90 * MS)).await.is_pending());
            tokios(20 * MS).await;
            let (mut late, until) = (Timer::new(), stale.saturating_add(2 * MS));
            let armed = poll_fn(|cx| Poll::Ready(late.poll_from(stale, until, cx)));
            assert!(armed.await.is_pending());
            tokios(2 * MS).await;
            assert!(polled(&mut late, until).await.is_ready());
        });
    });
}

/// Tokio's own timers reach about two years.
#[test]
fn a_timer_of_ten_years_ends_then() {
    let year = 365 * 24 * 3600 * SECOND;
    for (lazy, span) in [(false, 10 * year + MS), (true, year / 365 + MS)] {
        LAZY.set(lazy);
        paused().block_on(async {
            let start = now();
            sleep(span).await;
            assert_eq!(now().since(start), span);
        });
    }
    LAZY.set(false);
}

/// The counter goes on while a machine sleeps, tokio's clock does not.
#[test]
fn a_clock_that_runs_ahead_delays_nobody_for_long() {
    LAZY.set(true);
    paused().block_on(async {
        let mut long = Timer::new();
        assert!(polled(&mut long, after(3600 * SECOND)).await.is_pending());
        AHEAD.set(2 * 3600 * SECOND);
        let start = tokio_now();
        sleep(10 * MS).await;
        assert!(start.elapsed() < 11 * SECOND, "{:?}", start.elapsed());
        AHEAD.set(Duration::ZERO);
    });
    LAZY.set(false);
}

#[test]
fn a_clock_that_falls_back_delays_nobody() {
    LAZY.set(true);
    paused().block_on(async {
        AHEAD.set(SECOND);
        let (mut first, mut long) = (Timer::new(), Timer::new());
        assert!(polled(&mut first, after(SECOND)).await.is_pending());
        assert!(polled(&mut long, after(3600 * SECOND)).await.is_pending());
        tokios(2 * SECOND).await;
        AHEAD.set(Duration::ZERO);
        let start = tokio_now();
        sleep(10 * MS).await;
        let took = start.elapsed();
        assert!(10 * MS <= took && took < 12 * MS, "{took:?}");
    });
    LAZY.set(false);
}

#[test]
fn a_timer_has_the_last_waker_only_and_drops_it_when_it_ends() {
    both_ways(|| {
        paused().block_on(async {
            let [first, last, never] = [(); 3].map(|()| Told::and(|| ()));
            let poll = |timer: &mut Timer, told: &Arc<Told<_>>, until| {
                let waker = Waker::from(Arc::clone(told));
                timer.poll_until(until, &mut Context::from_waker(&waker))
            };
            let (until, mut timer, mut other) = (after(SECOND), Timer::new(), Timer::new());
            for told in [&first, &last, &last] {
                assert!(poll(&mut timer, told, until).is_pending());
            }
            assert!(poll(&mut other, &never, until).is_pending());
            assert_eq!(
                (Arc::strong_count(&first), Arc::strong_count(&last)),
                (1, 2)
            );
            other.disarm();
            assert_eq!(Arc::strong_count(&never), 1);
            sleep(2 * SECOND).await;
            assert_eq!((first.count(), last.count(), never.count()), (0, 1, 0));
            assert_eq!(Arc::strong_count(&last), 1);
            assert!(poll(&mut timer, &first, until).is_ready());
        });
    });
}

/// Trap 77, and then: a waker of a timer may do anything with timers.
#[test]
fn wakers_may_panic_and_use_timers() {
    both_ways(|| {
        let runtime = paused();
        let kept = Arc::new(Lock::new(Vec::new()));
        let (inside, again) = (Arc::clone(&kept), Told::and(|| ()));
        let waker = Waker::from(Arc::clone(&again));
        let act = move || {
            let mut timer = Timer::new();
            let mut cx = Context::from_waker(&waker);
            assert!(timer.poll_until(after(MS), &mut cx).is_pending());
            let others: Vec<Timer> = std::mem::take(&mut *inside.lock());
            drop(others);
            inside.lock().push(timer);
            panic!("woken");
        };
        runtime.block_on(async {
            let told: [_; 3] = std::array::from_fn(|_| Told::and(act.clone()));
            for told in &told {
                let (mut timer, waker) = (Timer::new(), Waker::from(Arc::clone(told)));
                let polled = timer.poll_until(after(SECOND), &mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                kept.lock().push(timer);
            }
            let start = now();
            // On tokio's own timer: one of ours would have the alarm set for itself.
            tokios(SECOND + 3 * MS).await;
            assert_eq!(again.count(), 1, "armed by who was woken");
            sleep(SECOND).await;
            assert_eq!(now().since(start), 2 * SECOND + 3 * MS);
            // The first drops the timers of the others: they may have been told or not.
            assert!(told.iter().any(|told| told.count() == 1));
            assert_eq!(again.count(), 1);
            kept.lock().clear();
        });
        let id = runtime.handle().id();
        drop(runtime);
        assert_eq!(stations_of(id), 0);
    });
}

/// What a panic says.
fn text(panicking: impl FnOnce()) -> Box<str> {
    message(caught(panicking).unwrap_err())
}

fn poll_ours(timer: &mut Timer, waker: &Waker) -> Poll<()> {
    timer.poll_until(after(SECOND), &mut Context::from_waker(waker))
}

#[test]
fn without_a_runtime_or_a_timer_it_panics_as_tokios_does_and_works_later() {
    let mut timer = Timer::new();
    let plain = text(|| drop(tokios(SECOND)));
    let own = text(|| assert!(poll_ours(&mut timer, Waker::noop()).is_ready()));
    assert_eq!(plain, own);
    let runtime = Builder::new_current_thread().build().unwrap();
    {
        let _within = runtime.enter();
        let plain = text(|| drop(tokios(SECOND)));
        for _ in 0..2 {
            let own = text(|| assert!(poll_ours(&mut timer, Waker::noop()).is_ready()));
            assert_eq!(plain, own);
        }
    }
    paused().block_on(async {
        let until = after(SECOND);
        poll_fn(|cx| timer.poll_until(until, cx)).await;
    });
    assert_eq!(stations_of(runtime.handle().id()), 0);
}

#[test]
fn who_waits_when_a_runtime_ends_is_woken_and_then_panics_as_tokios_does() {
    both_ways(|| {
        let runtime = paused();
        let handle = runtime.handle().clone();
        let [ours, tokio] = [(); 2].map(|()| Told::and(|| ()));
        let [waker, tokio_waker] = [&ours, &tokio].map(|told| Waker::from(Arc::clone(told)));
        let until = runtime.block_on(async { after(SECOND) });
        let within = handle.enter();
        let mut timers: [Timer; 3] = Default::default();
        for timer in &mut timers {
            let polled = timer.poll_until(until, &mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        let mut plain = Box::pin(tokios(SECOND));
        let poll = |plain: &mut Pin<Box<tokio::time::Sleep>>| {
            plain.as_mut().poll(&mut Context::from_waker(&tokio_waker))
        };
        assert!(poll(&mut plain).is_pending());
        drop(runtime);
        assert_eq!((ours.count(), tokio.count()), (3, 1));
        let [first, second, third] = &mut timers;
        let poll_timer =
            |timer: &mut Timer| timer.poll_until(until, &mut Context::from_waker(&waker));
        let want = text(|| assert!(poll(&mut plain).is_ready()));
        for _ in 0..2 {
            assert_eq!(text(|| assert!(poll_timer(first).is_ready())), want);
        }
        drop(within);
        // Elsewhere it goes on to wait.
        let other = paused();
        other.block_on(async {
            let until = after(SECOND);
            poll_fn(|cx| second.poll_until(until, cx)).await;
        });
        third.disarm();
        drop(timers);
        assert_eq!(stations_of(handle.id()), 0);
    });
}

#[test]
fn nothing_is_left_of_thousands_of_runtimes() {
    both_ways(|| {
        for round in 0..crate::testing::rounds(1000) {
            let runtime = paused();
            let id = runtime.handle().id();
            let mut timer = Timer::new();
            let until = runtime.block_on(async {
                let until = after(SECOND);
                assert!(polled(&mut timer, until).await.is_pending());
                until
            });
            match round % 4 {
                0 => drop(runtime),
                1 => {
                    timer.disarm();
                    drop(runtime);
                }
                2 => {
                    std::thread::scope(|scope| drop(scope.spawn(|| drop(runtime))));
                }
                _ => {
                    runtime.block_on(poll_fn(|cx| timer.poll_until(until, cx)));
                    drop(runtime);
                }
            }
            drop(timer);
            assert_eq!(stations_of(id), 0, "round {round}");
        }
    });
}

/// Trap 58.
#[test]
fn who_has_used_the_budget_up_arms_nevertheless() {
    both_ways(|| {
        paused().block_on(async {
            let (mut timer, until) = (Timer::new(), after(SECOND));
            let armed = poll_fn(|cx| {
                while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
                Poll::Ready(timer.poll_until(until, cx))
            });
            assert!(armed.await.is_pending());
            tokios(SECOND).await;
            assert!(polled(&mut timer, until).await.is_ready());
        });
    });
}

#[test]
fn runtimes_that_have_gone_leave_no_gaps_at_a_line() {
    crate::sync::global! { static LINE: Line = Line::new(); }
    let runtimes = [(); 9].map(|()| paused());
    let until = after(SECOND);
    let enter =
        |runtime: &Runtime| LINE.enter(runtime.handle().id(), now(), until, Waker::noop().clone());
    let entered = runtimes.each_ref().map(enter);
    for (station, key, _) in entered {
        LINE.leave(station, key);
    }
    assert_eq!(enter(&runtimes[0]).0, 0);
}

#[test]
fn an_alarm_that_stays_set_rings_once_in_vain_and_rests() {
    LAZY.set(true);
    let runtime = paused();
    let id = runtime.handle().id();
    runtime.block_on(async {
        for _ in 0..3 {
            for _ in 0..9 {
                assert!(
                    polled(&mut Timer::new(), after(5 * SECOND))
                        .await
                        .is_pending()
                );
                assert_eq!(stations_of(id), 1);
                tokios(SECOND / 2).await;
            }
            tokios(5 * SECOND).await;
            assert_eq!(stations_of(id), 0);
        }
    });
    LAZY.set(false);
}

/// The time stands still while nobody waits for it.
#[test]
fn a_paused_clock_does_not_run_ahead_to_a_limit_that_is_over() {
    paused().block_on(async {
        let start = now();
        assert!(
            polled(&mut Timer::new(), after(30 * SECOND))
                .await
                .is_pending()
        );
        let (done, wait) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            std::thread::park_timeout(20 * MS);
            done.send(()).unwrap();
        });
        wait.await.unwrap();
        thread.join().unwrap();
        assert_eq!(now(), start);
    });
}

/// A runtime whose thread is away: its timers wait for it, those of others do not.
#[test]
fn runtimes_on_one_thread_have_alarms_of_their_own() {
    both_ways(|| {
        let (away, here) = (paused(), paused());
        let mut timer = Timer::new();
        let until = away.block_on(async {
            let until = after(SECOND);
            assert!(polled(&mut timer, until).await.is_pending());
            until
        });
        here.block_on(async {
            let start = now();
            sleep(2 * SECOND).await;
            assert_eq!(now().since(start), 2 * SECOND);
        });
        away.block_on(async {
            poll_fn(|cx| timer.poll_until(until, cx)).await;
            assert_eq!(now(), until);
        });
    });
}

/// Entered by hand, as futures of another executor are.
#[test]
fn a_timer_polled_on_a_plain_thread_is_served_by_the_runtime_it_has_entered() {
    let runtime = workers(1);
    let _within = runtime.enter();
    let start = now();
    let thread = std::thread::current();
    let told = Told::and(move || thread.unpark());
    let waker = Waker::from(Arc::clone(&told));
    let mut sleeps = pin!(sleep(5 * MS));
    while sleeps
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        std::thread::park();
    }
    assert!(now().since(start) >= 5 * MS);
    assert_eq!(told.count(), 1);
}

#[test]
fn a_worker_that_arms_during_the_shutdown_ends_with_it() {
    for _ in 0..crate::testing::rounds(50) {
        let runtime = workers(2);
        for n in 0..20u32 {
            runtime.spawn(async move {
                loop {
                    let mut timer = Timer::new();
                    assert!(polled(&mut timer, after(SECOND)).await.is_pending());
                    sleep(MS * (n % 3 + 1) / 2).await;
                    // Where the machine is slow, every sleep has ended before it is polled.
                    tokio::task::yield_now().await;
                }
            });
        }
        let id = runtime.handle().id();
        runtime.block_on(async { tokios(MS).await });
        drop(runtime);
        assert_eq!(stations_of(id), 0);
    }
}

const STEP: u64 = 333_333;

/// When each of these ends, on a paused clock: begun and dropped after so many steps of a
/// millisecond's third.
async fn ends_of<S: Future>(
    plan: &[(u64, u64, u64)],
    start: impl Fn(Duration) -> S,
) -> Vec<Option<u64>> {
    let begun = now();
    let mut running: Vec<Option<Pin<Box<S>>>> = plan.iter().map(|_| None).collect();
    let mut ends = vec![None; plan.len()];
    let mut step = 0;
    poll_fn(|cx| {
        for (index, (from, span, dropped)) in plan.iter().enumerate() {
            if *from == step {
                running[index] = Some(Box::pin(start(Duration::from_nanos(*span))));
            }
            if from + dropped == step {
                running[index] = None;
            }
            let ready = |it: &mut Pin<Box<S>>| it.as_mut().poll(cx).is_ready();
            if running[index].as_mut().is_some_and(ready) {
                ends[index] = Some(now().since(begun).as_nanos().try_into().unwrap());
                running[index] = None;
            }
        }
        step += 1;
        let mut on = pin!(tokio::time::advance(Duration::from_nanos(STEP)));
        let _ = on.as_mut().poll(cx);
        if step > 400 {
            Poll::Ready(())
        } else {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
    ends
}

proptest! {
    #![proptest_config(ProptestConfig { cases: (cases() / 50).max(8), ..ProptestConfig::default() })]

    /// Begun and dropped at any time, whatever else waits.
    #[test]
    fn no_timer_ends_early_or_later_than_tokios(
        plan in prop::collection::vec((0..200u64, 1..60_000_000u64, 1..250u64), 1..60),
    ) {
        for lazy in [true, false] {
            LAZY.set(lazy);
            let ours = paused().block_on(ends_of(&plan, sleep));
            let tokios = paused().block_on(ends_of(&plan, |span| tokio::task::coop::unconstrained(tokios(span))));
            LAZY.set(false);
            for ((ours, tokios), (from, span, _)) in ours.into_iter().zip(tokios).zip(&plan) {
                let early = ours.is_some_and(|end| end < from * STEP + span);
                let late = tokios.is_some_and(|end| ours.is_none_or(|ours| ours > end));
                prop_assert!(!early && !late, "{:?}, tokio's {:?}", ours, tokios);
            }
        }
    }
}

/// A crowd that comes and goes from many threads: everyone who stays to the end is woken, and
/// nobody early.
#[test]
fn a_crowd_on_many_threads_is_served_whatever_leaves() {
    both_ways(|| {
        let lazy = LAZY.get();
        let mut builder = Builder::new_multi_thread();
        let threads = builder.enable_time().worker_threads(4);
        let runtime = threads
            .on_thread_start(move || LAZY.set(lazy))
            .build()
            .unwrap();
        let tasks: Vec<_> = (0..u64::from(crate::testing::rounds(2000)))
            .map(|n| runtime.spawn(one_of_the_crowd(n)))
            .collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}

async fn one_of_the_crowd(n: u64) {
    for round in 0..10 {
        let start = now();
        let span = Duration::from_micros((n * 37 + round * 911) % 4000);
        let mut other = Timer::new();
        assert!(polled(&mut other, after(60 * SECOND)).await.is_pending());
        if n % 3 == 0 {
            // The timer is polled elsewhere, and given up by someone else.
            let moved = tokio::spawn(async move { polled(&mut other, after(90 * SECOND)).await });
            assert!(moved.await.unwrap().is_pending());
        }
        sleep(span).await;
        assert!(now().since(start) >= span);
    }
}

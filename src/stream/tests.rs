//! Streams that are slow, that are cut, and that are dropped at every poll.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};

use futures_util::stream::{self, StreamExt};
use proptest::prelude::*;

use super::*;
use crate::error::{Error, Refusal};
use crate::retry::{Backoff, Jitter, Retry};
use crate::testing::{catch_panic, drop_at_every_poll, drop_beside, sleep, spin};
use crate::time::now;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Item = Result<u32, &'static str>;

/// Yields each item after a time of its own.
fn slow(items: impl IntoIterator<Item = (u64, Item)>) -> impl Stream<Item = Item> {
    let items: Vec<_> = items.into_iter().collect();
    stream::iter(items).then(|(millis, item)| async move {
        if millis > 0 {
            sleep(Duration::from_millis(millis)).await;
        }
        item
    })
}

fn endless() -> impl Stream<Item = Item> {
    stream::iter(0..).map(Ok)
}

async fn all<S: Stream + Unpin>(mut stream: S) -> Vec<S::Item> {
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item);
    }
    items
}

/// Polls once.
async fn step<Fut: Future>(mut future: Pin<&mut Fut>) -> Poll<Fut::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

fn late(after: Duration) -> Error<&'static str> {
    Error::timed_out(after).after(crate::Progress::started(1))
}

#[test]
fn without_a_limit_it_needs_no_runtime() {
    let items = slow([(0, Ok(1)), (0, Err("no")), (0, Ok(2))]);
    let guarded = items
        .time_limit(Duration::MAX)
        .time_limit_each(Duration::MAX);
    let expected = [Ok(1), Err(Error::operation("no")), Ok(2)];
    assert_eq!(spin(all(guarded)), expected);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_late_is_told_and_may_still_come() {
    let items = slow([(3, Ok(1)), (25, Ok(2)), (3, Ok(3))]);
    let told = all(items.time_limit_each(10 * MS)).await;
    let expected = [Ok(1), Err(late(10 * MS)), Err(late(10 * MS)), Ok(2), Ok(3)];
    assert_eq!(told, expected);
}

/// Time that the consumer takes is not the source's.
#[tokio::test(start_paused = true)]
async fn the_limit_of_an_item_begins_when_it_is_asked_for() {
    let mut items = slow([(3, Ok(1)), (3, Ok(2))]).time_limit_each(10 * MS);
    assert_eq!(items.next().await, Some(Ok(1)));
    sleep(SECOND).await;
    assert_eq!(items.next().await, Some(Ok(2)));
    assert_eq!(items.next().await, None);
}

/// Yields an item after two waits, of which the second begins when it is polled.
fn two_waits(millis: u64, items: std::ops::RangeInclusive<u32>) -> impl Stream<Item = Item> {
    stream::iter(items).then(move |n| async move {
        sleep(Duration::from_millis(millis)).await;
        sleep(Duration::from_millis(millis)).await;
        Ok(n)
    })
}

/// Asks as one branch of a `select!` does: for a while; then the other branch takes long.
async fn asked_by_the_way<T>(
    next: impl Future<Output = T>,
    asks: Duration,
    away: Duration,
) -> Option<T> {
    let mut next = Box::pin(next);
    let mut asks = pin!(sleep(asks));
    let asked = poll_fn(|cx| match next.as_mut().poll(cx) {
        Poll::Ready(item) => Poll::Ready(Some(item)),
        Poll::Pending => asks.as_mut().poll(cx).map(|()| None),
    })
    .await;
    drop(next);
    if asked.is_none() {
        sleep(away).await;
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_asks_is_not_the_sources() {
    macro_rules! read {
        ($items:expr) => {{
            let mut items = $items;
            let mut told = Vec::new();
            loop {
                match asked_by_the_way(items.next(), 3 * MS, 50 * MS).await {
                    Some(Some(item)) => told.push(item),
                    Some(None) => break told,
                    None => {}
                }
            }
        }};
    }
    let expected = [Ok(1), Ok(2), Ok(3)];
    let limit = 10 * MS;
    assert_eq!(read!(two_waits(4, 1..=3).time_limit_each(limit)), expected);
    let open = |after: u32| ready(Ok(two_waits(4, after + 1..=3)));
    let resumed = || resume(0, open, |last, n| *last = *n).time_limit_each(limit);
    assert_eq!(read!(resumed()), expected);
    assert_eq!(read!(resumed().time_limit(SECOND)), expected);
}

#[tokio::test(start_paused = true)]
async fn time_in_which_someone_asks_adds_up() {
    macro_rules! asked_in_vain {
        ($items:expr) => {{
            let (mut items, mut times) = ($items, 0);
            loop {
                match asked_by_the_way(items.next(), 3 * MS, 50 * MS).await {
                    Some(item) => break (times, item.unwrap().unwrap_err()),
                    None => times += 1,
                }
            }
        }};
    }
    let never = || stream::pending::<Item>();
    let told = asked_in_vain!(never().time_limit_each(10 * MS));
    assert_eq!(told, (3, late(10 * MS)));
    let once = || Retry::builder().max_attempts(1).build().unwrap();
    let open = |_: u32| ready(Ok(never()));
    let resumed = || resume(0, open, |_, _| ()).retry(once());
    let told = asked_in_vain!(resumed().time_limit_each(10 * MS));
    assert_eq!(told, (3, late(10 * MS)));
    let told = asked_in_vain!(resumed().time_limit_each(10 * MS).time_limit(SECOND));
    assert_eq!(told, (3, late(10 * MS)));
}

#[tokio::test(start_paused = true)]
async fn the_whole_ends_at_its_time_and_drops_the_source() {
    let alive = Rc::new(());
    let held = Rc::clone(&alive);
    let items = slow((0..).map(|n| (30, Ok(n))).take(99)).inspect(move |_| drop(Rc::clone(&held)));
    let mut items = items.time_limit(100 * MS);
    for n in 0..3 {
        assert_eq!(items.next().await, Some(Ok(n)));
    }
    assert_eq!(items.next().await, Some(Err(late(100 * MS))));
    assert_eq!(Rc::strong_count(&alive), 1);
    assert_eq!(items.next().await, None);
}

/// A source that is always ready is never pending, and its time ends all the same.
#[tokio::test(start_paused = true)]
async fn a_source_that_is_always_ready_ends_at_its_time() {
    let mut items = endless().time_limit(10 * MS);
    for n in 0..10 {
        assert_eq!(items.next().await, Some(Ok(n)));
        sleep(MS).await;
    }
    assert_eq!(items.next().await, Some(Err(late(10 * MS))));
    assert_eq!(items.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_leaves_one_chance() {
    let mut ready = endless()
        .time_limit(Duration::ZERO)
        .time_limit_each(Duration::ZERO);
    assert_eq!(ready.next().await, Some(Ok(0)));
    assert_eq!(ready.next().await, Some(Err(late(Duration::ZERO))));
    let mut slow = slow([(1, Ok(1))]).time_limit_each(Duration::ZERO);
    assert_eq!(slow.next().await, Some(Err(late(Duration::ZERO))));
    sleep(MS).await;
    assert_eq!(slow.next().await, Some(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn items_are_paced_and_not_refused() {
    let builder = RateLimiter::builder().rate(1, 10 * SECOND).burst(1);
    let limiter = builder.max_wait(Duration::ZERO).build().unwrap();
    let asked = Rc::new(RefCell::new(Vec::new()));
    let (log, begun) = (Rc::clone(&asked), now());
    let source = stream::poll_fn(move |_| {
        log.borrow_mut().push(now().since(begun).as_secs());
        Poll::Ready(Some(Ok::<_, &str>(0)))
    });
    // The wait for a permit is not the source's.
    let told = all(source.take(3).time_limit_each(SECOND).rate_limit(&limiter)).await;
    assert_eq!(told, [Ok(0), Ok(0), Ok(0)]);
    assert_eq!(*asked.borrow(), [0, 10, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_would_come_too_late_ends_the_stream_at_once() {
    let limiter = RateLimiter::builder().rate(1, 10 * SECOND).burst(1);
    let limiter = limiter.build().unwrap();
    let mut items = endless().rate_limit(&limiter).time_limit(5 * SECOND);
    assert_eq!(items.next().await, Some(Ok(0)));
    let refused = Error::refused(Refusal::rate_limited(10 * SECOND));
    assert_eq!(items.next().await, Some(Err(refused)));
    assert_eq!(items.next().await, None);
    let mut large = endless().rate_limit(&limiter.costing(2));
    let refused = Error::refused(Refusal::too_large(2, 1));
    assert_eq!(large.next().await, Some(Err(refused)));
    assert_eq!(large.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_keeps_its_permit_and_not_its_place() {
    let limiter = RateLimiter::builder()
        .rate(1, SECOND)
        .burst(1)
        .build()
        .unwrap();
    let mut items = Box::pin(slow([(5, Ok(1)), (5, Ok(2))])).rate_limit(&limiter);
    for _ in 0..2 {
        assert!(step(pin!(items.next())).await.is_pending());
        assert_eq!(limiter.snapshot().available, 0);
    }
    assert_eq!(items.next().await, Some(Ok(1)));
    {
        let mut asks = pin!(items.next());
        assert!(step(asks.as_mut()).await.is_pending());
        assert_eq!(limiter.snapshot().queued, 1);
    }
    assert_eq!(limiter.snapshot().queued, 0);
    assert!(step(pin!(StreamExt::next(&mut items))).await.is_pending());
    assert_eq!(limiter.snapshot().queued, 1);
    drop(items);
    assert_eq!(limiter.snapshot().queued, 0);
    sleep(SECOND).await;
    assert_eq!(limiter.try_acquire(1), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_guarded_stream_may_be_dropped_at_every_poll() {
    let limiter = RateLimiter::builder()
        .rate(1, 2 * MS)
        .burst(1)
        .build()
        .unwrap();
    let run = || {
        let items = slow([(3, Ok(1)), (0, Err("no")), (7, Ok(2))]);
        let guarded = items.time_limit_each(5 * MS).time_limit(SECOND);
        all(guarded.rate_limit(&limiter))
    };
    let check = async |_| {
        assert_eq!(limiter.snapshot().queued, 0);
        let all = run().await;
        let no = Err(Error::operation("no"));
        assert_eq!(all, [Ok(1), no, Err(late(5 * MS)), Ok(2)]);
    };
    assert!(drop_at_every_poll(run, check).await > 10);
    let two = || (run(), async { drop(run().await) });
    assert!(drop_beside(two, check).await > 10);
}

/// A `next` that is dropped at every poll, the stream kept: no item is lost.
#[tokio::test(start_paused = true)]
async fn a_dropped_next_loses_nothing() {
    let open = async |after: u32| Ok(slow((after + 1..=4).map(|n| (2, Ok::<_, &str>(n)))));
    let limiter = RateLimiter::builder().rate(1, MS).burst(1).build().unwrap();
    let mut items = resume(0, open, |last, n| *last = *n).rate_limit(&limiter);
    let mut seen = Vec::new();
    loop {
        match step(pin!(items.next())).await {
            Poll::Ready(Some(item)) => seen.push(item.unwrap()),
            Poll::Ready(None) => break,
            Poll::Pending => sleep(MS).await,
        }
    }
    assert_eq!(seen, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_cancelled_when_the_stream_goes() {
    let parent = CancellationToken::new();
    let token = || parent.child_token();
    let (dropped, ended, late) = (token(), token(), token());
    let items = endless().cancel_on_drop(dropped.clone());
    assert!(!dropped.is_cancelled());
    drop(items);
    assert!(dropped.is_cancelled());
    let mut items = slow([(0, Ok(1))])
        .cancel_on_drop(ended.clone())
        .cancel_on_drop(token());
    assert_eq!(items.next().await, Some(Ok(1)));
    assert!(!ended.is_cancelled());
    assert_eq!(items.next().await, None);
    assert!(ended.is_cancelled());
    let mut items = stream::pending::<Item>()
        .cancel_on_drop(late.clone())
        .time_limit(MS);
    assert!(items.next().await.unwrap().is_err());
    assert!(late.is_cancelled());
    drop(items);
    assert!(!parent.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_background_task_reads_ahead_so_far_and_no_further() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let source = stream::poll_fn(move |_| {
        let n = counted.fetch_add(1, SeqCst);
        Poll::Ready((n < 9).then_some(Ok::<_, &str>(n)))
    });
    let mut items = source.in_background(3);
    sleep(SECOND).await;
    assert_eq!(
        asked.load(SeqCst),
        0,
        "nothing is begun before it is asked for"
    );
    assert_eq!(items.next().await, Some(Ok(0)));
    sleep(SECOND).await;
    assert_eq!(asked.load(SeqCst), 4);
    assert_eq!(all(items).await, (1..9).map(Ok).collect::<Vec<_>>());
    for buffer in [0, usize::MAX] {
        let items = stream::iter([Ok::<_, &str>(1)]).in_background(buffer);
        assert_eq!(all(items).await, [Ok(1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_background_stream_that_is_dropped_ends_its_task() {
    let alive = Arc::new(());
    for polls in 0..6 {
        let held = Arc::clone(&alive);
        let source = slow((0..).map(|n| (2, Ok(n))).take(99)).inspect(move |_| {
            drop(Arc::clone(&held));
        });
        let mut items = Box::pin(source).in_background(2);
        for _ in 0..polls {
            let _ = step(pin!(items.next())).await;
            sleep(MS).await;
        }
        drop(items);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 1, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_background_is_the_last_item() {
    let source = stream::iter(0..).map(|n| {
        assert!(n < 2, "third item");
        Ok::<_, &str>(n)
    });
    let told = all(source.in_background(9)).await;
    assert_eq!(told, [Ok(0), Ok(1), Err(Error::panicked("third item"))]);
}

#[test]
fn a_runtime_that_ends_is_no_end_of_the_stream() {
    let items = || stream::iter([Ok::<_, &str>(1)]).chain(stream::pending());
    let outside = spin(all(items().in_background(1)));
    let refused = outside[0].as_ref().unwrap_err().refusal();
    assert!(matches!(refused, Some(Refusal::NoRuntime)), "{outside:?}");
    assert_eq!(outside.len(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut background = items().in_background(1);
    assert_eq!(runtime.block_on(background.next()), Some(Ok(1)));
    drop(runtime);
    let cancelled = Error::cancelled().after(crate::Progress::started(1));
    assert_eq!(spin(background.next()), Some(Err(cancelled)));
    assert_eq!(spin(background.next()), None);
}

/// Trap 62: an hour's stall, a period of a second.
#[tokio::test(start_paused = true)]
async fn a_beat_makes_up_for_nothing_after_a_stall() {
    let mut beat = every(SECOND);
    let begun = now();
    assert_eq!(beat.next().await, Some(Tick { missed: 0 }));
    assert_eq!(beat.next().await, Some(Tick { missed: 0 }));
    assert_eq!(now().since(begun), SECOND);
    sleep(3600 * SECOND + SECOND / 2).await;
    assert_eq!(beat.next().await, Some(Tick { missed: 3599 }));
    assert!(step(pin!(beat.next())).await.is_pending());
    assert_eq!(beat.next().await, Some(Tick { missed: 0 }));
    assert_eq!(now().since(begun), 3602 * SECOND);
    let mut later = every(SECOND).after_a_period();
    let begun = now();
    later.next().await;
    assert_eq!(now().since(begun), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_beat_may_be_dropped_at_every_poll_and_lets_others_run() {
    let drops = drop_at_every_poll(|| async { every(MS).take(4).count().await }, async |_| {});
    assert!(drops.await >= 6);
    let mut beat = every(Duration::ZERO);
    let mut pauses = 0;
    for _ in 0..100 {
        tokio::time::advance(5 * MS).await;
        pauses += u32::from(step(pin!(beat.next())).await.is_pending());
    }
    assert_eq!(pauses, 3);
}

fn patient(base: Duration) -> Retry {
    let backoff = Backoff::exponential(base).jitter(Jitter::None);
    let backoff = backoff.max_delay(3600 * SECOND);
    let retry = Retry::builder().max_attempts(u32::MAX).no_budget();
    retry.backoff(backoff).build().unwrap()
}

/// Trap 53: it opens, yields an item and dies 10 ms later, 50 times over. The delays grow as
/// if it had never opened.
#[tokio::test(start_paused = true)]
async fn a_flapping_source_does_not_reset_the_back_off() {
    let opened = RefCell::new(Vec::new());
    let begun = now();
    let open = async |after: u32| {
        opened.borrow_mut().push(now().since(begun));
        Ok(slow([(0, Ok(after + 1)), (10, Err("reset"))]))
    };
    let retry = Retry::builder().no_budget().max_attempts(50);
    let backoff = Backoff::exponential(MS)
        .jitter(Jitter::None)
        .max_delay(SECOND);
    let retry = retry.backoff(backoff).build().unwrap();
    let items = resume(0, open, |last, n| *last = *n).retry(retry);
    let told = all(items.take(99)).await;
    let (last, items) = told.split_last().unwrap();
    assert!(items.iter().cloned().map(Result::unwrap).eq(1..=50));
    let error = last.as_ref().unwrap_err();
    assert_eq!((error.attempts(), error.last()), (50, Some(&"reset")));
    let opened = opened.borrow();
    let gaps = opened
        .windows(2)
        .map(|two| two[1].saturating_sub(two[0]).as_millis());
    let expected = (0..49u32).map(|n| 10 + (1u128 << n.min(10)).min(1000));
    assert_eq!(gaps.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// Trap 53: the time that the consumer takes is not that of the source.
#[tokio::test(start_paused = true)]
async fn a_slow_consumer_makes_no_source_stable() {
    for dies_after in [0, 10] {
        let open = async |after: u32| Ok(slow([(0, Ok(after + 1)), (dies_after, Err("reset"))]));
        let retry = Retry::builder().max_attempts(3).no_budget();
        let retry = retry.backoff(Backoff::constant(MS)).build().unwrap();
        let items = resume(0, open, |last, n| *last = *n);
        let mut items = items.stable_after(40 * MS).retry(retry);
        let (mut told, mut asks) = (Vec::new(), 0);
        // It dies while the consumer is busy with the item, or away from a `next` it dropped.
        while asks < 20 && !matches!(told.last(), Some(Err(_))) {
            asks += 1;
            let asked = asked_by_the_way(items.next(), 3 * MS, 50 * MS).await;
            if dies_after == 0 && asked.is_some() {
                sleep(50 * MS).await;
            }
            told.extend(asked.flatten());
        }
        let failed = Error::operation("reset").after(crate::Progress::started(2));
        assert_eq!(told, [Ok(1), Ok(2), Ok(3), Err(failed)]);
    }
}

/// One that is always ahead of its consumer is stable all the same: its items prove it.
#[tokio::test(start_paused = true)]
async fn a_source_that_is_read_slowly_and_for_long_is_stable() {
    let open = async |after: u32| {
        let items = (after + 1..=after + 3).map(|n| (0, Ok(n)));
        Ok(slow(items.chain([(0, Err("reset"))])))
    };
    let retry = Retry::builder().max_attempts(2).no_budget();
    let retry = retry.backoff(Backoff::constant(MS)).build().unwrap();
    let items = resume(0, open, |last, n| *last = *n);
    let mut items = items.stable_after(40 * MS).retry(retry);
    for n in 1..=30 {
        assert_eq!(items.next().await, Some(Ok(n)));
        sleep(25 * MS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stable_source_begins_a_new_course() {
    let opened = RefCell::new(Vec::new());
    let begun = now();
    let open = async |after: u32| {
        opened.borrow_mut().push(now().since(begun).as_secs());
        let lives = if after == 2 { 20_000 } else { 0 };
        Ok(slow([(0, Ok(after + 1)), (lives, Err("reset"))]))
    };
    let mut items = resume(0, open, |last, n| *last = *n).retry(patient(SECOND));
    for n in 1..=5 {
        assert_eq!(items.next().await, Some(Ok(n)));
    }
    // Delays of 1 s and 2 s; 20 s of life; and again 1 s, 2 s.
    assert_eq!(*opened.borrow(), [0, 1, 3, 24, 26]);
    assert_eq!(*items.cursor(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_elapsed_time_of_a_new_course_begins_with_it() {
    let open = async |after: u32| Ok(slow([(0, Ok(after + 1)), (3_600_000, Err("reset"))]));
    let retry = Retry::builder().max_elapsed(5 * SECOND).build().unwrap();
    let mut items = resume(0, open, |last, n| *last = *n).retry(retry);
    for n in 1..=9 {
        assert_eq!(items.next().await, Some(Ok(n)));
    }
}

#[tokio::test(start_paused = true)]
async fn enough_items_are_as_good_as_enough_time() {
    let open = async |after: u32| {
        let items = (after + 1..=after + 3).map(|n| (0, Ok(n)));
        Ok(slow(items.chain([(0, Err("reset"))])))
    };
    for (enough, reached) in [(3, 30), (4, 9)] {
        let items = resume(0, open, |last, n| *last = *n).stable_after_items(enough);
        let retry = Retry::builder()
            .no_budget()
            .backoff(Backoff::constant(Duration::ZERO));
        let items = items.retry(retry.build().unwrap()).take(30);
        let told = all(items).await;
        assert_eq!(told.iter().flatten().count(), reached);
    }
}

/// A source that counts as stable although it dies at once lets others run.
#[tokio::test(start_paused = true)]
async fn a_source_that_dies_at_once_for_ever_yields_now_and_then() {
    let open = async |_: u32| Ok(stream::iter([Err::<u32, _>("reset")]));
    let retry = Retry::builder().no_budget().max_attempts(u32::MAX);
    let retry = retry
        .backoff(Backoff::constant(Duration::ZERO))
        .build()
        .unwrap();
    let items = resume(0, open, |_, _| ()).stable_after(Duration::ZERO);
    let mut items = items.retry(retry);
    for _ in 0..100 {
        assert!(step(pin!(items.next())).await.is_pending());
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_too_late_is_opened_again() {
    let opened = Cell::new(0);
    let open = |after: u32| {
        opened.set(opened.get() + 1);
        let round = opened.get();
        async move {
            if round == 2 {
                sleep(SECOND).await; // too late to open
            }
            let items =
                (after + 1..=3).map(move |n| (if n == 2 && round == 1 { 99 } else { 1 }, Ok(n)));
            Ok::<_, &str>(slow(items))
        }
    };
    let items = resume(0, open, |last, n| *last = *n).time_limit_each(10 * MS);
    assert_eq!(all(items.retry(patient(MS))).await, [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(opened.get(), 3);
    // The limit is that of each item, not of all.
    let once = async |_: u32| Ok(slow((1..=5).map(|n| (6, Ok(n)))));
    let items = resume(0, once, |_, _| ()).time_limit_each(10 * MS);
    assert!(all(items).await.into_iter().map(Result::unwrap).eq(1..=5));
    let never = |_: u32| pending::<Result<stream::Empty<Item>, &str>>();
    let items = resume(0, never, |_, _| ()).time_limit_each(10 * MS);
    let told = all(items.retry(Retry::exponential(MS))).await;
    let gave_up = Error::timed_out(10 * MS).after(crate::Progress::started(3));
    assert_eq!(told, [Err(gave_up)]);
}

/// The retry knows the end of the whole time, wherever that is said in the chain.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_whole_time_is_told_with_its_cause() {
    let refuses = |_: u32| ready(Err::<stream::Empty<Item>, _>("refused"));
    let limiter = RateLimiter::per_second(1000).build().unwrap();
    let resumed = || resume(0, refuses, |_, _| ()).retry(patient(100 * MS));
    let chains = [
        resumed().time_limit(500 * MS),
        resumed().rate_limit(&limiter).time_limit(500 * MS),
    ];
    for mut items in chains {
        let begun = now();
        let error = items.next().await.unwrap().unwrap_err();
        // After 0, 100 and 300 ms; the next would be after 700.
        assert_eq!((error.attempts(), error.last()), (3, Some(&"refused")));
        assert_eq!(now().since(begun), 300 * MS);
        assert_eq!(items.next().await, None);
    }
    let turn = Cell::new(0);
    let hangs = |_: u32| {
        turn.set(turn.get() + 1);
        let first = turn.get() == 1;
        async move {
            if first {
                Err::<stream::Empty<Item>, _>("refused")
            } else {
                pending().await
            }
        }
    };
    let items = resume(0, hangs, |_, _| ()).retry(patient(100 * MS));
    let mut items = items.time_limit(500 * MS);
    let error = items.next().await.unwrap().unwrap_err();
    let cause = crate::Progress::new(2, Some("refused"));
    assert_eq!(error, Error::timed_out(500 * MS).after(cause));
    assert_eq!(items.next().await, None);
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn an_opening_that_panics_is_begun_again() {
    let turn = Cell::new(0);
    let open = |after: u32| {
        let turn = &turn;
        async move {
            tokio::task::yield_now().await;
            turn.set(turn.get() + 1);
            assert!(turn.get() > 1, "the first opening");
            Ok::<_, &str>(stream::iter((after + 1..=2).map(Ok)))
        }
    };
    let mut items = resume(0, open, |last, n| *last = *n);
    assert!(catch_panic(items.next()).await.is_err());
    assert_eq!(all(items).await, [Ok(1), Ok(2)]);
}

#[tokio::test(start_paused = true)]
async fn an_end_can_be_a_reason_to_open_again() {
    use crate::retry::Verdict;
    let open = async |after: u32| Ok::<_, &str>(slow([(1, Ok(after + 1))]));
    let ends = all(resume(0, open, |last, n| *last = *n)).await;
    assert_eq!(ends, [Ok(1)]);
    let retry = Retry::builder()
        .max_attempts(3)
        .classify_ok(|(): &()| Verdict::Retry);
    let items = resume(0, open, |last, n| *last = *n).retry(retry.build().unwrap());
    assert_eq!(all(items).await, [Ok(1), Ok(2), Ok(3)]);
}

#[tokio::test(start_paused = true)]
async fn no_source_is_held_while_a_retry_waits() {
    let alive = Rc::new(());
    let open = |after: u32| {
        let held = Rc::clone(&alive);
        ready(Ok(slow([(0, Ok(after + 1)), (0, Err("reset"))]).inspect(
            move |_| {
                drop(Rc::clone(&held));
            },
        )))
    };
    let mut items = resume(0, open, |last, n| *last = *n).retry(patient(SECOND));
    assert_eq!(items.next().await, Some(Ok(1)));
    assert_eq!(Rc::strong_count(&alive), 2);
    assert!(step(pin!(items.next())).await.is_pending());
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_stream_may_be_dropped_at_every_poll() {
    let alive = Rc::new(());
    let run = || {
        let open = |after: u32| {
            let held = Rc::clone(&alive);
            async move {
                sleep(MS).await;
                let items = slow([(1, Ok(after + 1)), (1, Err("reset"))]);
                let items = items.inspect(move |_| drop(Rc::clone(&held)));
                if after < 3 { Ok(items) } else { Err("gone") }
            }
        };
        let retry = Retry::builder().no_budget().max_attempts(5);
        let retry = retry.backoff(Backoff::constant(MS)).build().unwrap();
        all(resume(0, open, |last, n| *last = *n).retry(retry))
    };
    let check = async |_| {
        assert_eq!(Rc::strong_count(&alive), 1);
        let told = run().await;
        assert_eq!(told[..3], [Ok(1), Ok(2), Ok(3)]);
        let error = told[3].as_ref().unwrap_err();
        assert_eq!((error.attempts(), error.last()), (5, Some(&"gone")));
    };
    assert!(drop_at_every_poll(run, check).await > 10);
    let two = || (run(), async { drop(run().await) });
    assert!(drop_beside(two, check).await > 10);
}

#[tokio::test(start_paused = true)]
async fn streams_can_be_spawned() {
    let open = |after: u32| async move { Ok(stream::iter((after..5).map(Ok::<_, &str>))) };
    let limiter = RateLimiter::per_second(1000).build().unwrap();
    let items = resume(0, open, |last, n| *last = *n + 1);
    let mut items = items
        .time_limit(SECOND)
        .rate_limit(&limiter)
        .in_background(1);
    let told = tokio::spawn(async move {
        let mut sum = 0;
        while let Some(item) = items.next().await {
            sum += item.unwrap();
        }
        sum
    });
    assert_eq!(told.await.unwrap(), 10);
    let mut items = resume(0, open, |last, n| *last = *n + 1);
    assert!(format!("{items:?}").contains("cursor: 0"));
    let told = tokio::spawn(async move { items.next().await });
    assert_eq!(told.await.unwrap(), Some(Ok(0)));
    let mut items = endless().time_limit_each(SECOND);
    let told = tokio::spawn(async move { items.next().await });
    assert_eq!(told.await.unwrap(), Some(Ok(0)));
}

/// Trap 76: the source, the factory and the cursor's closure panic; what is asked for
/// afterwards goes on from what was handed out.
#[tokio::test(start_paused = true)]
async fn a_panic_in_any_callback_loses_no_item() {
    let turn = Cell::new(0);
    let bomb = |at: u32| {
        turn.set(turn.get() + 1);
        assert!(turn.get() != at, "turn {at}");
    };
    for at in 1..12 {
        turn.set(0);
        let open = |after: u32| {
            bomb(at);
            let items = stream::iter(after + 1..=3).map(|n| {
                bomb(at);
                Ok::<_, &str>(n)
            });
            ready(Ok(items))
        };
        let mut items = resume(0, open, |last, n| {
            bomb(at);
            *last = *n;
        });
        let (mut told, mut panics) = (Vec::new(), 0);
        loop {
            match catch_panic(items.next()).await {
                Ok(Some(item)) => told.push(item.unwrap()),
                Ok(None) => break,
                Err(_) => panics += 1,
            }
        }
        assert_eq!(told, [1, 2, 3], "at {at}");
        assert_eq!(panics, u32::from(at <= 7), "at {at}");
    }
}

/// What a source does once it is opened, or instead.
#[derive(Clone, Debug)]
enum Life {
    Refuses,
    DiesAfter(usize),
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![Just(Life::Refuses), (0..4usize).prop_map(Life::DiesAfter),]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]

    /// However the source behaves, each item comes once and in order; what is stable, and
    /// which items are pending at first, changes nothing.
    #[test]
    fn no_item_comes_twice_and_none_is_lost(
        lives in prop::collection::vec(life(), 0..12),
        pauses in prop::collection::vec(any::<bool>(), 0..40),
        enough in 0..5u64,
    ) {
        const ITEMS: usize = 12;
        let (lives, pauses) = (RefCell::new(VecDeque::from(lives)), RefCell::new(pauses));
        let open = |after: usize| {
            let life = lives.borrow_mut().pop_front();
            let (mut at, mut left) = (after, match life {
                None => usize::MAX,
                Some(Life::Refuses) => return ready(Err("refused")),
                Some(Life::DiesAfter(n)) => n,
            });
            let pauses = &pauses;
            ready(Ok(stream::poll_fn(move |cx: &mut Context<'_>| {
                if pauses.borrow_mut().pop() == Some(true) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if at == ITEMS {
                    return Poll::Ready(None);
                }
                if left == 0 {
                    return Poll::Ready(Some(Err("reset")));
                }
                (at, left) = (at + 1, left - 1);
                Poll::Ready(Some(Ok(at - 1)))
            })))
        };
        let retry = Retry::builder().no_budget().max_attempts(u32::MAX);
        let retry = retry.backoff(Backoff::constant(Duration::ZERO)).build().unwrap();
        let items = resume(0, open, |next, item| *next = item + 1);
        let items = items.stable_after_items(enough).retry(retry);
        let told: Vec<_> = spin(all(items));
        prop_assert_eq!(told, (0..ITEMS).map(Ok).collect::<Vec<_>>());
    }
}

/// When each item comes, as a slow and obvious calculation: in milliseconds, `(when, what)`,
/// where `None` is a time limit. The consumer pauses after each item and asks again at once
/// after a late one.
fn calculated(items: &[(u64, u64)], each: u64, whole: u64) -> Vec<(u64, Option<usize>)> {
    let (mut at, mut told) = (0, Vec::new());
    for (number, (gap, pause)) in items.iter().enumerate() {
        if number > 0 && at >= whole {
            told.push((at, None));
            return told;
        }
        let comes = at + gap;
        loop {
            if comes <= whole && comes <= at + each {
                break;
            }
            if whole <= at + each {
                told.push((whole, None));
                return told;
            }
            at += each;
            told.push((at, None));
        }
        told.push((comes, Some(number)));
        at = comes + pause;
    }
    if at >= whole {
        told.push((at, None));
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_limits_are_those_of_the_calculation(
        items in prop::collection::vec((0..12u64, prop_oneof![Just(0), 0..12u64]), 1..12),
        each in 1..8u64,
        whole in prop_oneof![1..60u64, Just(10_000)],
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let told = runtime.block_on(async {
            let source = slow(items.iter().enumerate().map(|(n, item)| {
                (item.0, Ok(u32::try_from(n).unwrap()))
            }));
            let span = Duration::from_millis;
            let mut guarded = source.time_limit(span(whole)).time_limit_each(span(each));
            let (begun, mut told) = (now(), Vec::new());
            while let Some(item) = guarded.next().await {
                let when = u64::try_from(now().since(begun).as_millis()).unwrap();
                told.push((when, item.as_ref().ok().map(|n| *n as usize)));
                if let Ok(n) = item {
                    match items[n as usize].1 {
                        0 => {}
                        pause => sleep(span(pause)).await,
                    }
                }
            }
            told
        });
        prop_assert_eq!(told, calculated(&items, each, whole));
    }
}

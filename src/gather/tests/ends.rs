//! Limits, errors, panics and drops: what is ended, and that nothing is left.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::testing::{catch_panic, drop_at_every_poll, drop_beside, spin};
use crate::time::now;
use crate::{Bulkhead, Resilient};

#[tokio::test(start_paused = true)]
async fn each_item_has_its_time_from_its_start() {
    let begin = now();
    let items = [5, 15, 8, 20].map(|n| after(n * MS, Ok(n)));
    let gathered = gather(items).limit(2).timeout(10 * MS).await;
    assert!(gathered.is_complete(), "each has its own outcome");
    assert!(gathered.successes().eq(&[5, 8]));
    let late: Vec<_> = gathered.failures().collect();
    let error = Error::timed_out(10 * MS).after(crate::Progress::started(1));
    assert_eq!(late, [(1, &error), (3, &error)]);
    // 0 until 5, 1 until 10 (cut), 2 from 5 until 13, 3 from 10 until 20 (cut).
    assert_eq!(now().since(begin), 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_there_when_the_limit_passes_counts() {
    let gathered = gather([after(10 * MS, Ok(1))]).timeout(10 * MS).await;
    assert!(gathered.successes().eq(&[1]));
    let gathered = gather([after(10 * MS, Ok(1))]).deadline(10 * MS).await;
    assert!(gathered.successes().eq(&[1]));
}

#[tokio::test(start_paused = true)]
async fn a_zero_limit_leaves_one_chance_to_be_ready() {
    let ready = || std::future::ready(Plain::Ok(1));
    let gathered = gather([ready(), ready()]).timeout(Duration::ZERO).await;
    assert_eq!(gathered.successes().count(), 2);
    let gathered = gather([after(MS, Ok(1))]).timeout(Duration::ZERO).await;
    assert!(gathered.failures().next().unwrap().1.is_timed_out());
    let gathered = gather([after(MS, Ok(1))]).deadline(Duration::ZERO).await;
    assert!(!gathered.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_huge_limit_of_time_is_none() {
    for huge in [Duration::MAX, Duration::from_secs(u64::MAX)] {
        let items = [after(MS, Ok(1)), after(SECOND, Ok(2))];
        let gathered = gather(items).timeout(huge).deadline(huge).await;
        assert!(gathered.is_complete() && gathered.successes().count() == 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_keeps_what_there_is() {
    let (alive, pulled) = (Alive::default(), Cell::new(0));
    let items = (1..100_u32).map(|n| {
        pulled.set(pulled.get() + 1);
        let alive = &alive;
        async move {
            let _guard = alive.guard();
            after(n * MS, Ok(n)).await
        }
    });
    let begin = now();
    let gathered = gather(items).limit(3).deadline(10 * MS).await;
    assert_eq!(now().since(begin), 10 * MS);
    // 1, 2, 3, then 4 from 1 to 5, 5 from 2 to 7, 6 from 3 to 9; 7 to 9 are cut.
    assert!(!gathered.is_complete());
    assert!(gathered.successes().eq(&[1, 2, 3, 4, 5, 6]));
    let cut: Vec<_> = gathered.failures().collect();
    let error = Error::timed_out(10 * MS).after(crate::Progress::started(1));
    assert_eq!(cut, [(6, &error), (7, &error), (8, &error)]);
    assert_eq!((alive.now.get(), pulled.get()), (0, 9));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_was_pulled_and_not_started_is_cut_before_its_start() {
    let items = [(1, after(SECOND, Ok(1))), (2, after(SECOND, Ok(2)))];
    let gathered = gather(items).limit(2).deadline(MS).await;
    let attempts: Vec<_> = gathered
        .failures()
        .map(|(_, error)| error.attempts())
        .collect();
    assert_eq!(attempts, [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_result_of_successes_is_an_error() {
    use futures_util::StreamExt;
    let items = || (0..3).map(|n| std::future::ready(Plain::Ok(n)));
    let source = || futures_util::stream::iter(items());
    let gathered = gather(source()).deadline(MS).await;
    assert_eq!(gathered.into_result(), Ok(vec![0, 1, 2]));

    let endless = source().chain(futures_util::stream::pending());
    let gathered = gather(endless).deadline(MS).await;
    assert_eq!((gathered.len(), gathered.is_complete()), (3, false));
    let error = gathered.into_result().unwrap_err();
    assert_eq!((error.index, error.error), (3, Error::timed_out(MS)));

    let of_calls = |n| std::future::ready(Ok::<_, Error<&'static str>>(n));
    let endless = futures_util::stream::iter([of_calls(7)]).chain(futures_util::stream::pending());
    let flat = gather(endless).deadline(MS).await.flatten();
    assert_eq!(flat.into_result().unwrap_err().index, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cuts_nothing_leaves_the_result_complete() {
    let gathered = gather([after(MS, Ok(1))]).deadline(2 * MS).await;
    assert!(gathered.is_complete());
    // One of the source's own time: nothing is in flight when the deadline passes.
    let source = || futures_util::stream::pending::<std::future::Ready<Plain>>();
    let gathered = gather(source()).deadline(MS).await;
    assert!(!gathered.is_complete() && gathered.is_empty());
    let error = gathered.into_result().unwrap_err();
    assert_eq!(
        error.to_string(),
        "item 0: timed out after 1ms, before it was started"
    );
    let error = gather(source()).deadline(MS).try_all().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "item 0: timed out after 1ms, before it was started"
    );
}

/// The deadline holds for a consumer that is slow, and for items that never sleep.
#[tokio::test(start_paused = true)]
async fn the_deadline_holds_whatever_keeps_the_gather_busy() {
    let mut all = gather((1..9).map(|n| after(n * MS, Ok(n))))
        .limit(2)
        .deadline(SECOND)
        .as_finished();
    assert_eq!(all.next().await, Some((0, Ok(1))));
    sleep(2 * SECOND).await;
    let mut ends = Vec::new();
    while let Some((_, outcome)) = all.next().await {
        ends.push(outcome.is_ok());
    }
    assert_eq!(ends, [true], "the second was ready, and nothing new starts");
    assert!(!all.is_complete());
}

#[tokio::test]
async fn the_deadline_holds_for_items_that_never_sleep() {
    let busy = || {
        std::future::poll_fn(|cx| -> Poll<Plain> {
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    };
    tokio::time::pause();
    let clock = tokio::spawn(async {
        tokio::task::yield_now().await;
        tokio::time::advance(SECOND + MS).await; // tokio rounds up to its next tick
    });
    let gathered = gather([busy(), busy()]).deadline(SECOND).await;
    assert_eq!(gathered.failures().count(), 2);
    clock.await.unwrap();
    let clock = tokio::spawn(async {
        tokio::task::yield_now().await;
        tokio::time::advance(SECOND + MS).await; // tokio rounds up to its next tick
    });
    let gathered = gather([busy(), busy()]).timeout(SECOND).await;
    assert_eq!(gathered.failures().count(), 2);
    clock.await.unwrap();
}

/// Trap 32: the rest is gone before the error is there.
#[tokio::test(start_paused = true)]
async fn the_first_error_drops_the_rest_before_it_returns() {
    let (alive, pulled) = (Alive::default(), Cell::new(0));
    let items = (0..1_000_u32).map(|n| {
        pulled.set(pulled.get() + 1);
        let guard = alive.guard();
        async move {
            let _guard = guard;
            if n == 37 {
                after(10 * MS, Err("37")).await
            } else {
                after(SECOND, Ok(n)).await
            }
        }
    });
    let error = gather(items).limit(100).try_all().await.unwrap_err();
    assert_eq!(error.to_string(), "item 37: 37");
    assert_eq!(alive.now.get(), 0);
    assert_eq!(pulled.get(), 100);
}

#[tokio::test(start_paused = true)]
async fn the_values_so_far_are_dropped_as_well() {
    let alive = Alive::default();
    let items = (0..9_u32).map(|n| {
        let alive = &alive;
        async move {
            sleep(n * MS).await;
            if n == 5 { Err("5") } else { Ok(alive.guard()) }
        }
    });
    let mut all = Box::pin(gather(items).try_all());
    let error = std::future::poll_fn(|cx| all.as_mut().poll(cx))
        .await
        .err()
        .unwrap();
    assert_eq!((error.index, alive.ever.get(), alive.now.get()), (5, 5, 0));
}

/// Trap 32.
#[tokio::test(start_paused = true)]
async fn a_panic_is_its_items_outcome_and_the_siblings_go_on() {
    let alive = Alive::default();
    let items = (0..100_u32).map(|n| {
        let alive = &alive;
        async move {
            let _guard = alive.guard();
            if n == 1 {
                unwind()
            }
            after(n * MS, Ok(n)).await?;
            if n == 37 {
                unwind()
            }
            Plain::Ok(n)
        }
    });
    let gathered = gather(items).limit(10).await;
    let failed: Vec<_> = gathered
        .failures()
        .map(|(index, error)| (index, error.to_string()))
        .collect();
    let text = String::from("panicked: told");
    assert_eq!(failed, [(1, text.clone()), (37, text)]);
    assert_eq!((gathered.successes().count(), alive.now.get()), (98, 0));
}

/// Trap 32.
#[tokio::test(start_paused = true)]
async fn a_panic_that_is_passed_on_drops_all_others_first() {
    let alive = Alive::default();
    for at in [0, 37, 63] {
        let items = (0..100_u32).map(|n| {
            let alive = &alive;
            async move {
                let _guard = alive.guard();
                if n == at && n != 37 {
                    unwind()
                }
                after(if n == 37 { MS } else { SECOND }, Ok(n)).await?;
                if n == at {
                    unwind()
                }
                Plain::Ok(n)
            }
        });
        let begin = now();
        let mut all = gather(items).propagate_panics().as_finished();
        let panic = catch_panic(all.next()).await.unwrap_err();
        assert!(
            now().since(begin) <= MS,
            "nobody is waited for, and no outcome comes first"
        );
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"told"));
        assert_eq!(alive.now.get(), 0, "while the gather is still there");
        drop(all);
    }
}

/// Panics when it is dropped.
struct Bomb<'a>(Guard<'a>);

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        let _ = &self.0;
        unwind();
    }
}

/// A future whose drop panics; its result is there when the future is not.
fn bomb(alive: &Alive, armed: bool, span: Duration) -> impl Future<Output = Plain> {
    let (guard, bomb) = (alive.guard(), armed.then(|| Bomb(alive.guard())));
    let mut timer = Box::pin(sleep(span));
    std::future::poll_fn(move |cx| {
        let _held = (&guard, &bomb);
        timer.as_mut().poll(cx).map(|()| Ok(1))
    })
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_items_drop_is_its_outcome_and_loses_no_sibling() {
    let alive = Alive::default();
    let items = || (0..10).map(|n| bomb(&alive, n % 3 == 1, (n + 2) * MS));
    let gathered = gather(items()).await;
    assert_eq!((gathered.failures().count(), alive.now.get()), (3, 0));
    assert!(gathered.failures().all(|(_, error)| error.is_panicked()));

    let gathered = gather(items()).deadline(4 * MS).await;
    assert_eq!(alive.now.get(), 0);
    let panicked = gathered
        .outcomes()
        .iter()
        .filter(|outcome| is_panic(outcome))
        .count();
    assert_eq!((gathered.len(), panicked), (10, 3));

    let gathered = gather(items()).timeout(MS).await;
    assert_eq!((alive.now.get(), gathered.failures().count()), (0, 10));

    for propagate in [false, true] {
        let items = items()
            .chain([bomb(&alive, false, MS)])
            .map(|item| async move {
                item.await?;
                Plain::Err("late")
            });
        let all = gather(items);
        let all = if propagate {
            all.propagate_panics()
        } else {
            all
        };
        let ended = catch_panic(all.try_all()).await;
        assert_eq!(alive.now.get(), 0);
        assert_eq!(ended.is_err(), propagate);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_gather_of_items_whose_drops_panic_drops_them_all() {
    let alive = Alive::default();
    for propagate in [false, true] {
        let all = gather((0..10).map(|n| bomb(&alive, n % 3 == 1, SECOND)));
        let all = if propagate {
            all.propagate_panics()
        } else {
            all
        };
        let mut all = Box::pin(all.into_future());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(all.as_mut().poll(&mut cx).is_pending());
        assert_eq!(alive.now.get(), 13);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(all)));
        assert_eq!(dropped.is_err(), propagate);
        assert_eq!(alive.now.get(), 0);
    }
}

/// A payload whose drop panics, in the place of a panic's message.
#[tokio::test(start_paused = true)]
async fn a_panics_payload_may_panic() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                std::panic::resume_unwind(Box::new(Self));
            }
        }
    }
    let items = (0..3).map(|n| async move {
        if n == 1 {
            std::panic::resume_unwind(Box::new(Payload))
        }
        Plain::Ok(n)
    });
    assert_eq!(gather(items).await.failures().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_source_or_the_listener_leaves_nothing_in_flight() {
    let alive = Alive::default();
    let item = |n: u32| {
        let guard = alive.guard();
        async move {
            let _guard = guard;
            after((n + 1) * MS, Ok(n)).await
        }
    };
    let source = (0..10).map(|n| if n == 7 { unwind() } else { item(n) });
    let mut all = Box::pin(gather(source).limit(5).into_future());
    assert!(catch_panic(&mut all).await.is_err());
    assert_eq!((alive.ever.get(), alive.now.get()), (7, 0));
    drop(all);

    for at in [(3, 0), (10, 2), (10, 10)] {
        let mut all = Box::pin(
            gather((0..10).map(item))
                .on_progress(|p| {
                    if (p.started, p.finished) == at {
                        unwind()
                    }
                })
                .into_future(),
        );
        assert!(catch_panic(&mut all).await.is_err());
        assert_eq!(alive.now.get(), 0);
        drop(all);
    }
}

#[test]
fn a_timer_without_a_runtime_leaves_nothing_in_flight() {
    let alive = Alive::default();
    let items = (0..3).map(|_| {
        let guard = alive.guard();
        async move {
            let _guard = guard;
            std::future::pending::<Plain>().await
        }
    });
    let mut all = Box::pin(gather(items).timeout(SECOND).into_future());
    let mut cx = Context::from_waker(Waker::noop());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = catch_unwind(AssertUnwindSafe(|| all.as_mut().poll(&mut cx)));
    std::panic::set_hook(hook);
    assert!(panicked.is_err());
    assert_eq!(alive.now.get(), 0);
}

#[test]
fn what_need_not_wait_needs_no_runtime() {
    let items = (0..100).map(|n| std::future::ready(Plain::Ok(n)));
    assert_eq!(
        spin(gather(items).limit(3).timeout(SECOND).into_future()).len(),
        100
    );
}

/// A future that yields and sleeps, with a permit of a bulkhead.
fn held(bulkhead: &Bulkhead, n: u32) -> impl Future<Output = Plain> {
    let work = async move {
        tokio::task::yield_now().await;
        after(n % 3 * MS, if n == 5 { Err("5") } else { Ok(n) }).await
    };
    let call = work.bulkhead(bulkhead);
    async move {
        call.await
            .map_err(|error| error.into_last().unwrap_or("refused"))
    }
}

/// Drives one form to its end.
async fn form(kind: u8, bulkhead: &Bulkhead) {
    let all = gather((0..8).map(|n| held(bulkhead, n)))
        .limit(3)
        .timeout(SECOND)
        .deadline(SECOND);
    match kind {
        0 => assert_eq!(all.await.failures().count(), 1),
        1 => assert_eq!(all.try_all().await.unwrap_err().index, 5),
        2 => {
            let mut all = all.as_finished();
            while all.next().await.is_some() {}
        }
        3 => {
            let mut all = all.in_order();
            while all.next().await.is_some() {}
        }
        _ => {
            let mut all = all.batches(3);
            while all.next().await.is_some() {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_form_can_be_dropped_at_every_poll() {
    let bulkhead = Bulkhead::builder().max_concurrent(2).build().unwrap();
    for kind in 0..5 {
        let drops = drop_at_every_poll(
            || form(kind, &bulkhead),
            async |polls| {
                let snapshot = bulkhead.snapshot();
                assert_eq!((snapshot.in_use, snapshot.queued), (0, 0), "after {polls}");
                form(kind, &bulkhead).await;
            },
        )
        .await;
        assert!(drops > 4);
    }
}

#[tokio::test(start_paused = true)]
async fn each_form_can_be_dropped_while_another_takes_and_frees_what_it_needs() {
    let bulkhead = Bulkhead::builder().max_concurrent(2).build().unwrap();
    for kind in 0..5 {
        let actor = || async {
            for _ in 0..6 {
                let permit = bulkhead.acquire(1).await;
                tokio::task::yield_now().await;
                drop(permit);
            }
        };
        let start = || (form(kind, &bulkhead), actor());
        drop_beside(start, async |polls| {
            let snapshot = bulkhead.snapshot();
            assert_eq!((snapshot.in_use, snapshot.queued), (0, 0), "after {polls}");
            form(kind, &bulkhead).await;
        })
        .await;
    }
}

/// What was not handed out comes the next time.
#[tokio::test(start_paused = true)]
async fn a_next_that_is_dropped_loses_nothing() {
    let items = || (0..20_u32).map(|n| after(n % 4 * MS, Ok(n)));
    for kind in 0..3 {
        let seen = RefCell::new(Vec::new());
        let (mut finished, mut ordered, mut batches) = (
            gather(items()).limit(3).as_finished(),
            gather(items()).limit(3).in_order(),
            gather(items()).limit(3).batches(4),
        );
        loop {
            let next = async {
                match kind {
                    0 => finished.next().await.map(|(_, outcome)| vec![outcome]),
                    1 => ordered.next().await.map(|outcome| vec![outcome]),
                    _ => batches.next().await,
                }
            };
            let polled = crate::testing::run_for(1, crate::testing::Cut::Pending, next).await;
            match polled {
                Some(Some(outcomes)) => seen.borrow_mut().extend(outcomes.into_iter().flatten()),
                Some(None) => break,
                None => sleep(MS).await,
            }
        }
        let mut seen = seen.take();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..20));
    }
}

/// The futures' memory is theirs until they have ended: wakers may outlive all.
#[tokio::test(start_paused = true)]
async fn wakers_that_outlive_the_gather_hold_nothing_and_wake_nobody() {
    let wakers = RefCell::new(Vec::new());
    let alive = Alive::default();
    let items = (0..100).map(|_| {
        let (guard, wakers) = (alive.guard(), &wakers);
        std::future::poll_fn(move |cx| -> Poll<Plain> {
            let _held = &guard;
            wakers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    });
    let task = std::sync::Arc::new(Count);
    let waker = Waker::from(std::sync::Arc::clone(&task));
    let mut all = Box::pin(gather(items).limit(100).into_future());
    assert!(
        all.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop((all, waker));
    assert_eq!(
        (alive.now.get(), std::sync::Arc::strong_count(&task)),
        (0, 1)
    );
    wakers.take().into_iter().for_each(Waker::wake);
}

#[derive(Default)]
struct Count;

impl std::task::Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {}
}

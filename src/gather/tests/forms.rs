//! What each form yields, and when what starts.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::error::Refusal;
use crate::testing::{Cut, run_for, spin};
use crate::time::now;

#[tokio::test(start_paused = true)]
async fn outcomes_come_in_the_order_of_the_source_however_they_finish() {
    let gathered = gather((0..10).map(|n| after((10 - n) * MS, Ok(n)))).await;
    assert!(gathered.is_complete());
    assert!(gathered.into_successes().eq(0..10));
}

#[tokio::test(start_paused = true)]
async fn as_finished_yields_them_as_they_come() {
    let mut all = gather((0..4).map(|n| after((10 - n) * MS, Ok(n)))).as_finished();
    let mut seen = Vec::new();
    while let Some((index, outcome)) = all.next().await {
        assert_eq!(outcome, Ok(u32::try_from(index).unwrap()));
        seen.push(index);
        assert_eq!(all.is_complete(), seen.len() == 4);
        if seen.len() == 4 {
            break;
        }
    }
    assert_eq!(seen, [3, 2, 1, 0]);
    assert_eq!(all.next().await, None);
    assert!(all.is_complete());
    assert_eq!(all.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_empty_source_is_complete_and_has_no_outcome() {
    let none = || std::iter::empty::<std::future::Ready<Plain>>();
    let gathered = gather(none()).await;
    assert!(gathered.is_complete() && gathered.is_empty());
    assert_eq!(gather(none()).try_all().await, Ok(vec![]));
    assert_eq!(gather(none()).in_order().next().await, None);
    assert_eq!(gather(none()).batches(3).next().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_reached_and_never_passed() {
    let alive = Alive::default();
    for limit in [1, 2, 7, 64, 65, 200] {
        alive.most.set(0);
        let items = (0..130).map(|n| {
            let alive = &alive;
            move || async move {
                let _guard = alive.guard();
                after((n % 7 + 1) * MS, Ok(n)).await
            }
        });
        assert_eq!(gather(items).limit(limit).await.successes().count(), 130);
        assert_eq!(alive.most.get() as usize, limit.min(130));
    }
}

#[tokio::test(start_paused = true)]
async fn a_weight_takes_its_share_of_the_limit() {
    let alive = Alive::default();
    let items = (0..60_u32).map(|n| {
        let (alive, weight) = (&alive, n % 5 + 1);
        let held = async move {
            let _guard = alive.weighing(weight);
            after((n % 3 + 1) * MS, Ok(n)).await
        };
        (weight, held)
    });
    assert_eq!(gather(items).limit(7).await.successes().count(), 60);
    assert_eq!(alive.most.get(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_light_item_does_not_pass_a_heavy_one() {
    let started = RefCell::new(Vec::new());
    let items = [2_u32, 3, 1, 1].into_iter().enumerate().map(|(n, weight)| {
        let started = &started;
        let held = async move {
            started.borrow_mut().push((n, now()));
            after(SECOND, Ok(0)).await
        };
        (weight, held)
    });
    let begin = now();
    assert!(gather(items).limit(4).await.is_complete());
    let times: Vec<_> = started
        .take()
        .into_iter()
        .map(|(n, at)| (n, at.since(begin).as_secs()))
        .collect();
    // 1 does not fit next to 0; then 2 does next to 1, and 3 does not.
    assert_eq!(times, [(0, 0), (1, 1), (2, 1), (3, 2)]);
}

/// Trap 33: no limit panics or hangs, and a huge one costs nothing.
#[tokio::test(start_paused = true)]
async fn an_item_that_is_too_heavy_is_refused_and_the_others_run() {
    let items = |weights: [u32; 3]| weights.map(|weight| (weight, after(MS, Ok(weight))));
    let gathered = gather(items([2, 5, u32::MAX])).limit(4).await;
    let reasons: Vec<_> = gathered
        .failures()
        .map(|(index, error)| (index, error.refusal(), error.attempts()))
        .collect();
    let too_large = |asked| Some(Refusal::too_large(asked, 4));
    assert_eq!(reasons, [(1, too_large(5), 0), (2, too_large(u32::MAX), 0)]);

    let gathered = gather(items([1, 0, 7])).limit(0).await;
    assert!(
        gathered.failures().all(|(_, error)| {
            matches!(error.refusal(), Some(Refusal::TooLarge { limit: 0, .. }))
        })
    );
    assert_eq!(gathered.failures().count(), 3);
    let mut ordered = gather(items([1, 0, 7])).limit(0).in_order();
    for _ in 0..3 {
        assert!(ordered.next().await.unwrap().is_err());
    }
    assert_eq!(ordered.next().await, None);

    let all = gather(items([u32::MAX, u32::MAX, 3])).limit(usize::MAX);
    assert_eq!(all.in_order().next().await, Some(Ok(u32::MAX)));
    assert_eq!(
        gather(items([1, 0, 3]))
            .limit(u32::MAX as usize)
            .await
            .successes()
            .count(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn what_weighs_nothing_takes_a_place() {
    let alive = Alive::default();
    let items = (0..9).map(|n| {
        let guarded = async {
            let _guard = alive.guard();
            after(MS, Ok(1)).await
        };
        (n % 2, guarded)
    });
    assert_eq!(gather(items).limit(2).await.len(), 9);
    assert_eq!(alive.most.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn items_are_pulled_when_there_is_room_for_them() {
    let pulled = Cell::new(0);
    let items = (0..1_000_000).map(|n| {
        pulled.set(pulled.get() + 1);
        after(SECOND, Ok(n))
    });
    let mut all = gather(items).limit(5).as_finished();
    assert_eq!(pulled.get(), 0);
    assert!(run_for(1, Cut::Pending, all.next()).await.is_none());
    assert_eq!(pulled.get(), 5);
    all.next().await;
    assert!((5..=6).contains(&pulled.get()));
    drop(all);
    assert!(pulled.get() <= 6);
}

/// Trap 33: what an iterator says of its length is not believed.
#[tokio::test(start_paused = true)]
async fn a_size_hint_that_lies_does_no_harm() {
    struct Liar(u32, (usize, Option<usize>));
    impl Iterator for Liar {
        type Item = std::future::Ready<Plain>;
        fn next(&mut self) -> Option<Self::Item> {
            self.0 = self.0.checked_sub(1)?;
            Some(std::future::ready(Ok(self.0)))
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            self.1
        }
    }
    let hints = [
        (usize::MAX, None),
        (usize::MAX, Some(usize::MAX)),
        (1, Some(1)),
        (9, Some(0)),
    ];
    for hint in hints {
        let mut last = GatherProgress::default();
        let gathered = gather(Liar(3, hint))
            .on_progress(|progress| last = *progress)
            .await;
        assert_eq!((gathered.len(), gathered.is_complete()), (3, true));
        assert_eq!((last.finished, last.total == Some(1)), (3, false));
    }
}

#[tokio::test(start_paused = true)]
async fn progress_tells_of_each_start_and_each_end() {
    let events = RefCell::new(Vec::new());
    let items = [after(2 * MS, Ok(1)), after(MS, Err("no")), after(MS, Ok(3))];
    let gathered = gather(items)
        .limit(2)
        .on_progress(|p| {
            events
                .borrow_mut()
                .push((p.started, p.running, p.finished, p.failed, p.total));
        })
        .await;
    assert_eq!(gathered.len(), 3);
    let all = Some(3);
    assert_eq!(
        events.take(),
        [
            (1, 1, 0, 0, all),
            (2, 2, 0, 0, all),
            (2, 1, 1, 1, all),
            (3, 2, 1, 1, all),
            (3, 1, 2, 1, all),
            (3, 0, 3, 1, all),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn in_order_starts_no_more_than_twice_the_limit_while_the_first_is_slow() {
    let alive = Alive::default();
    let items = (0..100_u32).map(|n| {
        let alive = &alive;
        async move {
            let _guard = alive.guard();
            after(if n == 0 { SECOND } else { MS }, Ok(n)).await
        }
    });
    let mut all = gather(items).limit(5).in_order();
    let mut waiting = Box::pin(all.next());
    for _ in 0..100 {
        assert!(run_for(1, Cut::Pending, &mut waiting).await.is_none());
        sleep(MS).await;
    }
    assert_eq!(alive.ever.get(), 10);
    assert_eq!(waiting.as_mut().await, Some(Ok(0)));
    drop(waiting);
    for n in 1..100 {
        assert_eq!(all.next().await, Some(Ok(n)));
    }
    assert_eq!(all.next().await, None);
    assert!(all.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_batch_starts_when_it_is_asked_for() {
    let alive = Alive::default();
    let items = (0..7_u32).map(|n| {
        let alive = &alive;
        async move {
            let _guard = alive.guard();
            after((9 - n) * MS, Ok(n)).await
        }
    });
    let mut batches = gather(items).limit(2).batches(3);
    for (begin, size) in [(0, 3), (3, 3), (6, 1)] {
        assert_eq!((alive.ever.get(), alive.now.get()), (begin, 0));
        let batch = batches.next().await.unwrap();
        assert!(
            batch
                .into_iter()
                .map(Result::unwrap)
                .eq(begin..begin + size)
        );
        sleep(SECOND).await;
    }
    assert_eq!(batches.next().await, None);
    assert!(batches.is_complete());
    let mut single = gather([after(MS, Ok(1))]).batches(0);
    assert_eq!(single.next().await.unwrap(), [Ok(1)]);
    assert_eq!(single.next().await, None);
}

/// A source that has no item for now is asked again when it says so, and not before.
#[tokio::test(start_paused = true)]
async fn a_stream_is_pulled_as_its_items_come() {
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let mut next = 0_u32;
    let mut timer = Box::pin(sleep(10 * MS));
    let source = futures_util::stream::poll_fn(move |cx| {
        count.set(count.get() + 1);
        if next == 3 {
            return Poll::Ready(None);
        }
        std::task::ready!(timer.as_mut().poll(cx));
        timer.set(sleep(10 * MS));
        next += 1;
        Poll::Ready(Some(after((50 - 15 * next) * MS, Ok(next))))
    });
    let mut all = gather(source).as_finished();
    let mut seen = Vec::new();
    while let Some((_, outcome)) = all.next().await {
        seen.push(outcome.unwrap());
    }
    assert_eq!(seen, [3, 2, 1]);
    assert_eq!(asked.get(), 7, "three pending, three items, the end");
}

/// Items that are always ready do not keep the thread for themselves.
#[tokio::test]
async fn it_lets_other_tasks_run() {
    let others = Rc::new(Cell::new(0));
    let seen = Rc::clone(&others);
    let local = tokio::task::LocalSet::new();
    local.spawn_local(async move {
        loop {
            seen.set(seen.get() + 1);
            tokio::task::yield_now().await;
        }
    });
    local
        .run_until(async {
            let items = (0..10_000).map(|n| std::future::ready(Plain::Ok(n)));
            assert_eq!(gather(items).await.len(), 10_000);
        })
        .await;
    assert!(others.get() >= 10_000 / 128);
}

/// One that is woken all the time is polled no more often than the others.
/// Outcomes that came out of order are at hand, and those in flight have always something to do:
/// who takes the former drives the latter, but lets other tasks run.
#[test]
fn outcomes_at_hand_do_not_put_off_the_pause() {
    const AT_HAND: u32 = 300;
    let polls = Cell::new(0_u32);
    let items = (0..AT_HAND + 200).map(|n| {
        let polls = &polls;
        let mut turns = 0;
        std::future::poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            turns += 1;
            cx.waker().wake_by_ref();
            let last = if n == 0 { 20 } else { 1 };
            if n <= AT_HAND && turns >= last {
                Poll::Ready(Plain::Ok(n))
            } else {
                Poll::Pending
            }
        })
    });
    let mut all = gather(items).limit(1000).in_order();
    let mut cx = Context::from_waker(Waker::noop());
    let (mut taken, mut most) = (0, 0);
    for _ in 0..20_000 {
        match pin!(all.next()).poll(&mut cx) {
            Poll::Ready(outcome) => {
                assert_eq!(outcome, Some(Ok(taken)));
                taken += 1;
            }
            Poll::Pending => {
                most = most.max(polls.replace(0));
            }
        }
    }
    assert_eq!(taken, AT_HAND + 1, "each of them is handed out");
    assert!(most <= 2 * 128, "{most} polls without a pause");
}

#[test]
fn everyone_who_is_woken_has_his_turn() {
    let polls = RefCell::new([0_u32; 100]);
    let items = (0..100).map(|n| {
        let polls = &polls;
        std::future::poll_fn(move |cx| {
            polls.borrow_mut()[n] += 1;
            cx.waker().wake_by_ref();
            if polls.borrow()[n] > 1_000 {
                Poll::Ready(Plain::Ok(0))
            } else {
                Poll::Pending
            }
        })
    });
    let mut all = Box::pin(gather(items).limit(100).into_future());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..300 {
        assert!(all.as_mut().poll(&mut cx).is_pending());
        let polls = polls.borrow();
        let (least, most) = (polls.iter().min().unwrap(), polls.iter().max().unwrap());
        assert!(most - least <= 3, "{least} to {most}");
    }
    assert_eq!(spin(all).len(), 100);
}

/// A waker that outlives its item wakes nobody else's poll wrongly.
#[tokio::test(start_paused = true)]
async fn a_stale_waker_costs_a_look_at_most() {
    let stale = RefCell::new(None::<std::task::Waker>);
    let polls = Cell::new(0);
    let first = |n: u32| {
        let (stale, polls) = (&stale, &polls);
        let mut timer = Box::pin(sleep(SECOND));
        std::future::poll_fn(move |cx| {
            if n == 0 {
                stale.replace(Some(cx.waker().clone()));
                return Poll::Ready(Plain::Ok(n));
            }
            polls.set(polls.get() + 1);
            timer.as_mut().poll(cx).map(|()| Plain::Ok(n))
        })
    };
    let mut all = gather((0..2).map(first)).limit(1).as_finished();
    assert_eq!(all.next().await, Some((0, Ok(0))));
    stale.borrow().as_ref().unwrap().wake_by_ref();
    assert!(run_for(1, Cut::Pending, all.next()).await.is_none());
    stale.take().unwrap().wake();
    assert_eq!(all.next().await, Some((1, Ok(1))));
    assert!(polls.get() <= 4);
}

/// Trap 31: while the consumer is busy, nothing in flight is driven.
#[tokio::test(start_paused = true)]
async fn items_are_driven_while_the_gather_is_polled_and_only_then() {
    let alive = Alive::default();
    let steps = |n: u32| {
        let alive = &alive;
        async move {
            for _ in 0..10 {
                sleep(MS).await;
                drop(alive.guard());
            }
            Plain::Ok(n)
        }
    };
    let mut all = gather([1, 2].map(steps)).as_finished();
    assert!(run_for(1, Cut::Pending, all.next()).await.is_none());
    sleep(SECOND).await;
    assert_eq!(
        alive.ever.get(),
        0,
        "the consumer has slept: no step was made"
    );
    while all.next().await.is_some() {}
    assert_eq!(alive.ever.get(), 20);
}

/// Trap 30: an item that is not polled keeps what it was handed; a consumer must not wait for
/// it. Dropping the stream gives it back.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_waits_for_what_an_item_holds_waits_until_it_drops_the_stream() {
    let lock = tokio::sync::Mutex::new(());
    let items = (0..2_u32).map(|n| {
        let lock = &lock;
        async move {
            let _held = lock.lock().await;
            after(MS, Ok(n)).await
        }
    });
    let mut all = gather(items).as_finished();
    assert_eq!(all.next().await, Some((0, Ok(0))));
    // The lock was handed to the second item, which nobody polls.
    let mine = tokio::time::timeout(SECOND, lock.lock()).await;
    assert!(mine.is_err(), "futurelock");
    drop(mine);
    drop(all);
    assert!(tokio::time::timeout(SECOND, lock.lock()).await.is_ok());
}

/// In a log a gather is its settings and how far it is, whatever it is made of.
#[tokio::test]
async fn each_part_of_a_gather_has_a_name() {
    let pipeline = crate::Pipeline::builder("pages").build().unwrap();
    let items = || (0..2_u32).map(|n| async move { Ok::<_, &str>(n) });
    let told = gather(items()).on_progress(|_| {}).through(&pipeline);
    let parts = format!("{:?} {:?}", told.supply, told.listener);
    let expected = "Origin { source: Some(FromIter), exhausted: false, launch: \
                    Through(Pipeline { name: \"pages\", .. }), kind: PhantomData";
    assert!(parts.starts_with(expected), "{parts}");
    assert!(parts.ends_with(" Told"), "{parts}");
    let tasks = gather(futures_util::stream::iter(items())).spawned();
    let tasks = tasks.through(&pipeline);
    let parts = format!("{:?}", tasks.supply);
    assert!(parts.contains("FromStream"), "{parts}");
    assert!(parts.contains("InTasksThrough(Pipeline"), "{parts}");
    assert!(tasks.await.successes().eq(&[0, 1]));
}

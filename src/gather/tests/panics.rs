//! Panics of the source and the listener, and those that meet another.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use super::*;
use crate::testing::catch_panic;

async fn item(n: u32) -> Plain {
    sleep((n + 1) * MS).await;
    if n == 1 { unwind() } else { Ok(n) }
}

#[tokio::test(start_paused = true)]
async fn a_gather_that_a_panic_of_an_item_ended_is_not_complete() {
    for (items, limit) in [(100, 4), (4, 4), (2, 2), (2, 1)] {
        let all = || gather((0..items).map(item)).limit(limit);
        let mut finished = all().propagate_panics().as_finished();
        let drained = catch_panic(async { while finished.next().await.is_some() {} }).await;
        assert!(drained.is_err());
        assert_eq!(finished.next().await, None);
        assert!(!finished.is_complete(), "{items} items, {limit} at a time");

        let mut ordered = all().propagate_panics().in_order();
        let drained = catch_panic(async { while ordered.next().await.is_some() {} }).await;
        assert!(drained.is_err());
        assert_eq!(ordered.next().await, None);
        assert!(!ordered.is_complete(), "{items} items, {limit} at a time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gather_that_a_panic_of_its_listener_ended_is_not_complete() {
    for at in [(1, 0), (4, 0), (4, 1), (4, 4)] {
        let listener = |p: &GatherProgress| {
            if (p.started, p.finished) == at {
                unwind()
            }
        };
        let items = (0..4).map(|n| after((n + 2) * MS, Ok(n)));
        let mut all = gather(items).on_progress(listener).as_finished();
        let drained = catch_panic(async { while all.next().await.is_some() {} }).await;
        assert!(drained.is_err());
        assert_eq!(all.next().await, None);
        assert!(!all.is_complete(), "an outcome is lost at {at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gather_that_a_panic_of_its_source_ended_is_not_complete() {
    let source = (0..9_u32).map(|n| if n == 2 { unwind() } else { item(n + 2) });
    let mut all = gather(source).as_finished();
    assert!(catch_panic(all.next()).await.is_err());
    assert_eq!(all.next().await, None);
    assert!(!all.is_complete());
}

/// Panics when it is dropped, unless the thread unwinds already.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            unwind()
        }
    }
}

/// Trap 32: the source is dropped when the first error is there, and panics.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_sources_drop_leaves_nothing_in_flight() {
    let alive = Alive::default();
    let items = (0..100_u32).map(|n| {
        let guard = alive.guard();
        async move {
            let _guard = guard;
            after((n + 1) * MS, if n == 0 { Err("0") } else { Ok(n) }).await
        }
    });
    let mut all = Box::pin(gather(Owning(items, Bomb)).limit(4).try_all());
    assert!(catch_panic(&mut all).await.is_err());
    assert_eq!(alive.now.get(), 0, "while the gather is still there");
}

/// An iterator with something else to be dropped.
struct Owning<I>(I, Bomb);

impl<I: Iterator> Iterator for Owning<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }
}

/// A future whose poll panics, and whose drop does so as well.
struct Twice(Arc<AtomicU32>);

impl Future for Twice {
    type Output = Plain;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Plain> {
        std::panic::resume_unwind(Box::new("polled"))
    }
}

impl Drop for Twice {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new("dropped"))
    }
}

/// Also in a task: where two panics meet, the process would end.
#[tokio::test(start_paused = true)]
async fn of_a_panic_in_the_poll_and_one_in_the_drop_the_first_is_the_outcome() {
    let drops = Arc::new(AtomicU32::new(0));
    let items = || (0..3).map(|_| Twice(Arc::clone(&drops)));
    let pipeline = crate::Pipeline::builder("p").bulkhead(1).build().unwrap();
    let every = [
        gather(items()).await,
        gather(items()).spawned().await,
        gather(items()).through(&pipeline).await,
        gather(items()).through(&pipeline).spawned().await,
    ];
    for gathered in every {
        assert_eq!(gathered.failures().count(), 3);
        for (_, error) in gathered.failures() {
            assert_eq!(error.to_string(), "panicked: polled");
            assert_eq!(error.attempts(), 1);
        }
    }
    assert_eq!(drops.load(Ordering::SeqCst), 12);

    for spawned in [false, true] {
        let all = gather(items()).limit(1).propagate_panics();
        let ended = if spawned {
            catch_panic(all.spawned().into_future()).await
        } else {
            catch_panic(all.into_future()).await
        };
        assert_eq!(ended.unwrap_err().downcast_ref::<&str>(), Some(&"polled"));
    }
}

/// A result that is there when the item's drop panics: that is the outcome, in a task too.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_spawned_item_is_its_outcome() {
    let items = || {
        (0..3).map(|n| {
            let bomb = (n == 1).then(|| Bomb);
            std::future::poll_fn(move |_| {
                let _held = &bomb;
                Poll::Ready(Plain::Ok(n))
            })
        })
    };
    let gathered = gather(items()).spawned().await;
    let failed: Vec<_> = gathered.failures().map(|(index, _)| index).collect();
    assert_eq!(failed, [1]);
    assert!(is_panic(&gathered.outcomes()[1]));

    let endless = || {
        let bomb = Bomb;
        std::future::poll_fn(move |_| -> Poll<Plain> {
            let _held = &bomb;
            Poll::Pending
        })
    };
    let gathered = gather([endless()]).spawned().timeout(MS).await;
    assert!(is_panic(&gathered.outcomes()[0]));
}

/// What never runs is dropped, and no one else suffers from that.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_an_item_that_is_too_heavy_is_its_outcome() {
    let items = (0..3_u32).map(|n| {
        let bomb = (n == 1).then(|| Bomb);
        let item = async move {
            let _held = bomb;
            after(MS, Ok(n)).await
        };
        (if n == 1 { 9 } else { 1 }, item)
    });
    let all: Vec<_> = gather(items).limit(4).await.into();
    assert_eq!((&all[0], &all[2]), (&Ok(0), &Ok(2)));
    assert!(is_panic(&all[1]));
}

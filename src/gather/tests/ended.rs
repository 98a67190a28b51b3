//! The end of a gather in the background: when it is told, all is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};

use futures_core::Stream;

use super::*;
use crate::testing::catch_panic;

/// How many guards there are, and how many there were when the consumer was last woken.
#[derive(Debug, Default)]
struct Seen {
    alive: AtomicU32,
    at_wake: AtomicU32,
    wakes: AtomicU32,
}

impl Wake for Seen {
    fn wake(self: Arc<Self>) {
        self.at_wake
            .store(self.alive.load(Ordering::SeqCst), Ordering::SeqCst);
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

struct Held(Arc<Seen>);

impl Seen {
    fn hold(self: &Arc<Self>) -> Held {
        self.alive.fetch_add(1, Ordering::SeqCst);
        Held(Arc::clone(self))
    }

    fn at_wakes(&self) -> (u32, u32) {
        let wakes = self.wakes.load(Ordering::SeqCst);
        (wakes, self.at_wake.load(Ordering::SeqCst))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What ends the gather before there is an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is no item.
    Source,
    Listener,
    Item,
    /// The item never ends: its runtime does.
    Runtime,
}

/// With guards in the source, in its one item and in the listener.
fn background(seen: &Arc<Seen>, end: End, through: bool) -> Background<u32, &'static str> {
    let (source, listener) = (seen.hold(), seen.hold());
    let mut item = (end != End::Source).then(|| seen.hold());
    let items = std::iter::from_fn(move || {
        let _held = &source;
        let item = item.take()?;
        Some(async move {
            let _held = &item;
            if end == End::Item {
                unwind()
            }
            std::future::pending::<Plain>().await
        })
    });
    let all = gather(items).propagate_panics().on_progress(move |_| {
        let _held = &listener;
        if end == End::Listener {
            unwind()
        }
    });
    if through {
        let pipeline = crate::Pipeline::builder("p").bulkhead(1).build().unwrap();
        all.through(&pipeline).in_background(4)
    } else {
        all.in_background(4)
    }
}

fn is_pending(all: &mut Background<u32, &'static str>, seen: &Arc<Seen>) -> bool {
    let waker = Waker::from(Arc::clone(seen));
    std::pin::Pin::new(all)
        .poll_next(&mut Context::from_waker(&waker))
        .is_pending()
}

/// Who is woken on another thread looks at once.
#[tokio::test(start_paused = true)]
async fn the_end_is_told_when_nothing_of_the_gather_is_left() {
    for through in [false, true] {
        for end in [End::Source, End::Listener, End::Item] {
            let seen = Arc::new(Seen::default());
            let mut all = background(&seen, end, through);
            assert!(is_pending(&mut all, &seen));
            sleep(MS).await;
            assert_eq!(seen.at_wakes(), (1, 0), "{end:?}, through: {through}");
            let next = catch_panic(all.next()).await;
            assert_eq!(next.is_ok(), end == End::Source);
            assert_eq!(all.is_complete(), end == End::Source);
        }
    }
}

#[test]
fn a_runtime_that_ends_tells_so_when_nothing_of_the_gather_is_left() {
    for (through, begun) in [(false, false), (false, true), (true, false), (true, true)] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let seen = Arc::new(Seen::default());
        let entered = runtime.enter();
        let mut all = background(&seen, End::Runtime, through);
        drop(entered);
        assert!(is_pending(&mut all, &seen));
        if begun {
            runtime.block_on(async { tokio::task::yield_now().await });
        }
        drop(runtime);
        assert_eq!(
            seen.at_wakes(),
            (1, 0),
            "through: {through}, begun: {begun}"
        );
        assert_eq!(crate::testing::spin(all.next()), None);
        assert!(!all.is_complete());
    }
}

/// The listener may share something that panics when it is dropped, with nobody to tell.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_listeners_drop_reaches_the_consumer() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            unwind()
        }
    }
    let bomb = Bomb;
    let items = (0..2).map(|n| std::future::ready(Plain::Ok(n)));
    let mut all = gather(items)
        .on_progress(move |_| {
            let _held = &bomb;
        })
        .in_background(4);
    assert!(all.next().await.is_some() && all.next().await.is_some());
    let panic = catch_panic(all.next()).await.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"told"));
    assert_eq!(all.next().await, None);
    assert!(all.is_complete(), "every outcome was handed out");
}

//! Panics in what the patterns for many at once are given.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use mainstay::gather::gather;
use mainstay::offload::Offload;
use mainstay::prelude::*;
use mainstay::queue::Queue;
use mainstay::stream::resume;
use mainstay::{Error, RateLimiter};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::policies::Held;
use crate::support::Oops;
use crate::{Fuse, On, Touchy, caught, caught_now};

const SECOND: Duration = Duration::from_secs(1);

/// One of three items meets the fuse: it alone panics, and the outcomes are all there.
async fn gathered(fuse: &Fuse, mut item: impl FnMut(Fuse) -> Touched) {
    let held = Held::new();
    let around = held.around().build().unwrap();
    for in_pipeline in [false, true] {
        fuse.arm();
        let items: Vec<_> = (0..3).map(|_| item(fuse.clone())).collect();
        let outcomes = if in_pipeline {
            gather(items).limit(1).through(&around).await
        } else {
            gather(items).await
        };
        assert_eq!(outcomes.len(), 3);
        let panicked = outcomes
            .iter()
            .filter(|o| o.as_ref().is_err_and(Error::is_panicked));
        assert_eq!(panicked.count(), 1);
        assert!(
            outcomes.iter().filter(|o| o.is_ok()).count() >= 1,
            "the others go on"
        );
        held.rests();
    }
}

type Touched = Pin<Box<dyn Future<Output = Result<u32, Oops>> + Send>>;

/// A queue whose handler, items, values or errors meet the fuse.
async fn queued(fuse: Fuse, what: &'static str, outcome_is_a_panic: bool) {
    let inner = fuse.clone();
    let queue = Queue::builder()
        .workers(1)
        .capacity(4)
        .build(move |item: Touchy| {
            let fuse = inner.clone();
            if what == "handler" {
                fuse.blow();
            }
            async move {
                let _item = item;
                yield_now().await;
                if what == "poll" {
                    fuse.blow();
                }
                if what == "error" {
                    return Err(Touchy::new(&fuse, On::Drop));
                }
                Ok(Touchy::new(
                    &fuse,
                    if what == "value" {
                        On::Drop
                    } else {
                        On::Display
                    },
                ))
            }
        })
        .unwrap();
    let on = if what == "item" {
        On::Drop
    } else {
        On::Display
    };
    fuse.arm();
    let tickets: Vec<_> = (0..3)
        .map(|_| queue.try_push(Touchy::new(&fuse, on)).unwrap())
        .collect();
    let mut panicked = 0;
    for ticket in tickets {
        let outcome = ticket.await;
        panicked += u32::from(outcome.as_ref().is_err_and(Error::is_panicked));
        let _ = caught_now(|| drop(outcome));
    }
    assert_eq!(panicked, u32::from(outcome_is_a_panic), "{what}");
    at_rest(&queue).await;
}

async fn at_rest(queue: &Queue<Touchy, Touchy, Touchy>) {
    queue.drained().await;
    yield_now().await;
    let seen = queue.snapshot();
    assert_eq!((seen.waiting, seen.running, seen.workers), (0, 0, 0));
    assert_eq!(seen.accepted, seen.settled());
    let next = queue
        .try_push(Touchy::new(&Fuse::default(), On::Drop))
        .unwrap();
    drop(next.await);
    queue.shutdown(SECOND).await;
}

/// A key whose hash, comparison or making panics.
#[derive(Debug)]
struct Key(u32, Fuse, &'static str);

impl Key {
    fn touch(&self, what: &str) {
        if self.2 == what {
            self.1.blow();
        }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        self.touch("clone");
        Self(self.0, self.1.clone(), self.2)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.touch("hash");
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.touch("eq");
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.touch("drop");
        }
    }
}

async fn keyed(fuse: Fuse, what: &'static str) {
    let limiter = RateLimiter::per_second(1)
        .burst(2)
        .max_wait(9 * SECOND)
        .keyed();
    let limiter: KeyedRateLimiter<Key> = limiter.max_keys(4).build().unwrap();
    let key = |n| Key(n, fuse.clone(), what);
    let (one, other) = (key(1), key(2));
    if what != "clone" {
        limiter.try_acquire(&one, 1).unwrap();
    }
    fuse.arm();
    if what == "drop" {
        // Keys are dropped where the table forgets them.
        for n in 10..40 {
            let many = std::mem::ManuallyDrop::new(key(n));
            let _ = caught_now(|| limiter.try_acquire(&*many, 1));
            sleep(9 * SECOND).await;
        }
        fuse.arm();
        assert!(caught_now(|| drop(key(9))).is_err() || fuse.blown() > 0);
    } else {
        assert!(
            caught_now(|| limiter.try_acquire(&one, 1)).is_err(),
            "{what}"
        );
    }
    sleep(60 * SECOND).await;
    // The lock is usable, and each key has its burst: of this key, of others, of new ones.
    for k in [&one, &other, &key(3)] {
        for _ in 0..2 {
            limiter.acquire(k, 1).await.unwrap();
        }
        assert!(limiter.try_acquire(k, 1).is_err());
    }
    assert!(limiter.keys() <= 4);
    let _: &Key = one.borrow();
}

/// A stream that panics when it is asked for its second item.
fn items(fuse: &Fuse) -> impl futures_util::Stream<Item = Result<u32, Oops>> + Unpin + use<> {
    let fuse = fuse.clone();
    stream::iter(0..3).map(move |n| {
        if n == 1 {
            fuse.blow();
        }
        Ok(n)
    })
}

/// As a source of `gather`, by hand.
struct ByHand(u32, Fuse);

impl futures_util::Stream for ByHand {
    type Item = Touched;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Touched>> {
        self.0 += 1;
        if self.0 == 2 {
            self.1.blow();
        }
        let n = self.0;
        Poll::Ready((n < 4).then(|| Box::pin(async move { Ok(n) }) as Touched))
    }
}

crate::rows! {
    "gather", "future: poll", ["gather/item trait IntoItem", "gather/item trait Item", "gather/item trait Launch"], |fuse| {
        gathered(&fuse, |fuse| Box::pin(async move { yield_now().await; fuse.blow(); Ok(1) })).await;
    }
    "gather", "future: drop", ["gather/item trait Item"], |fuse| {
        gathered(&fuse, |fuse| Box::pin(async move {
            let _touchy = Touchy::new(&fuse, On::Drop);
            yield_now().await;
            Ok(1)
        })).await;
    }
    "gather", "closure, as it starts", ["gather/item trait IntoItem"], |fuse| {
        fuse.arm();
        let held = Held::new();
        let around = held.around().retry(Retry::builder()).build().unwrap();
        let items = (0..3).map(|_| { let fuse = fuse.clone(); move || { fuse.blow(); async { Ok::<_, Oops>(1) } } });
        let outcomes = gather(items).limit(1).through(&around).await;
        assert_eq!((outcomes.len(), outcomes.successes().count()), (3, 2));
        held.rests();
    }
    "gather", "iterator", ["gather/source trait Source", "gather/source trait IntoSource", "gather/supply trait Supply"], |fuse| {
        fuse.arm();
        let f = fuse.clone();
        let source = (0..3).map(move |n| { if n == 1 { f.blow(); } async move { Ok::<_, Oops>(n) } });
        assert!(caught(async { gather(source).limit(1).await }).await.is_err(), "it is the caller's own");
        assert_eq!(gather((0..3).map(|n| async move { Ok::<_, Oops>(n) })).await.successes().count(), 3);
    }
    "gather", "stream", ["gather/source trait Source"], |fuse| {
        fuse.arm();
        assert!(caught(async { gather(ByHand(0, fuse.clone())).limit(1).await }).await.is_err());
        assert_eq!(gather(ByHand(0, fuse)).await.successes().count(), 3);
    }
    "gather", "on_progress", ["gather/mod on_progress", "gather/progress trait Listen"], |fuse| {
        fuse.arm();
        let f = fuse.clone();
        let three = || (0..3).map(|n| async move { yield_now().await; Ok::<_, Oops>(n) });
        assert!(caught(async { gather(three()).on_progress(move |_| f.blow()).await }).await.is_err());
        assert_eq!(gather(three()).on_progress(|_| {}).await.successes().count(), 3);
    }
    "gather", "value: drop, of what is not taken", [], |fuse| {
        let values = (0..3).map(|_| { let fuse = fuse.clone(); async move { Ok::<_, Oops>(Touchy::new(&fuse, On::Drop)) } });
        let mut outcomes = gather(values).as_finished();
        let first = outcomes.next().await.unwrap();
        fuse.arm();
        assert!(caught_now(|| drop((first, outcomes))).is_err());
    }
    "gather", "in tasks: poll", [], |fuse| {
        fuse.arm();
        let items: Vec<_> = (0..3).map(|_| { let fuse = fuse.clone(); async move { yield_now().await; fuse.blow(); Ok::<_, Oops>(1) } }).collect();
        let outcomes = gather(items).spawned().await;
        assert_eq!((outcomes.len(), outcomes.successes().count()), (3, 2));
    }
    "gather", "in the background: iterator", [], |fuse| {
        fuse.arm();
        let f = fuse.clone();
        let source = (0..3).map(move |n| { if n == 1 { f.blow(); } async move { Ok::<_, Oops>(n) } });
        let ended = caught(async {
            let mut all = gather(source).in_background(1);
            while all.next().await.is_some() {}
        }).await;
        assert!(ended.is_err(), "it is passed on to the reader");
    }
    "queue", "handler", ["queue/builder build"], |fuse| { queued(fuse, "handler", true).await; }
    "queue", "future: poll", ["queue/builder build"], |fuse| { queued(fuse, "poll", true).await; }
    "queue", "item: drop", [], |fuse| { queued(fuse, "item", true).await; }
    "queue", "value: drop", [], |fuse| { queued(fuse, "value", false).await; }
    "queue", "error: drop", [], |fuse| { queued(fuse, "error", false).await; }
    "queue", "value: drop, of what nobody takes", [], |fuse| {
        let f = fuse.clone();
        let queue = Queue::builder().workers(1).build(move |(): ()| {
            let fuse = f.clone();
            async move { Ok::<_, Oops>(Touchy::new(&fuse, On::Drop)) }
        }).unwrap();
        fuse.arm();
        for _ in 0..3 { queue.try_push(()).unwrap().detach(); }
        queue.drained().await;
        assert_eq!(queue.snapshot().done, 3);
        assert_eq!(queue.try_push(()).unwrap().await.map(drop), Ok(()));
        queue.shutdown(SECOND).await;
    }
    "queue", "item: drop, of one that is cancelled", [], |fuse| {
        let queue = Queue::builder().workers(1).build(|item: Touchy| async move {
            let _item = item;
            sleep(SECOND).await;
            Ok::<_, Oops>(1)
        }).unwrap();
        let running = queue.try_push(Touchy::new(&fuse, On::Drop)).unwrap();
        yield_now().await;
        let waiting = queue.try_push(Touchy::new(&fuse, On::Drop)).unwrap();
        let third = queue.try_push(Touchy::new(&fuse, On::Display)).unwrap();
        fuse.arm();
        waiting.cancel();
        fuse.arm();
        running.abort();
        assert!(waiting.await.is_err_and(|e| e.is_cancelled()));
        assert!(running.await.is_err_and(|e| e.is_cancelled()));
        assert_eq!(third.await, Ok(1));
        assert_eq!(queue.snapshot().settled(), 3);
        assert_eq!(fuse.blown(), 2);
        queue.shutdown(SECOND).await;
    }
    "queue", "handler with a job", ["queue/builder build_with"], |fuse| {
        let f = fuse.clone();
        let queue = Queue::builder().workers(1).build_with(move |n: u32, _job| { f.blow(); async move { Ok::<_, Oops>(n) } }).unwrap();
        fuse.arm();
        assert!(queue.try_push(1).unwrap().await.is_err_and(|e| e.is_panicked()));
        assert_eq!(queue.try_push(2).unwrap().await, Ok(2));
        queue.shutdown(SECOND).await;
    }
    "queue", "handler and clone of the item, through a pipeline", ["queue/builder build", "queue/job trait IntoDynPipeline"], |fuse| {
        for what in [On::Clone, On::Display] {
            let held = Held::new();
            let pipeline = held.around().retry(Retry::builder()).build().unwrap();
            let f = fuse.clone();
            let queue = Queue::builder().workers(1).through(&pipeline).build(move |_: Touchy| {
                if what == On::Display { f.blow(); }
                async { Ok::<_, Oops>(1) }
            }).unwrap();
            fuse.arm();
            assert!(queue.try_push(Touchy::new(&fuse, what)).unwrap().await.is_err_and(|e| e.is_panicked()));
            held.rests();
            let next = loop {
                // The breaker half-opens by the next call.
                let next = queue.try_push(Touchy::new(&fuse, On::Drop)).unwrap().await;
                if next.is_ok() { break next; }
            };
            assert_eq!(next, Ok(1));
            queue.shutdown(SECOND).await;
        }
    }
    "queue", "on_progress", ["queue/builder on_progress"], |fuse| {
        let f = fuse.clone();
        let queue = Queue::builder().workers(1).on_progress(move |_| f.blow()).build(|n: u32| async move { Ok::<_, Oops>(n) }).unwrap();
        fuse.arm();
        let pushed = caught_now(|| queue.try_push(1));
        if let Ok(ticket) = pushed { assert_eq!(ticket.unwrap().await, Ok(1)); }
        assert_eq!(queue.try_push(2).unwrap().await, Ok(2));
        queue.drained().await;
        let seen = queue.snapshot();
        assert_eq!(seen.accepted, seen.settled());
        queue.shutdown(SECOND).await;
    }
    "keyed limiter", "hash of a key", [], |fuse| { keyed(fuse, "hash").await; }
    "keyed limiter", "comparison of a key", [], |fuse| { keyed(fuse, "eq").await; }
    "keyed limiter", "clone of a key", [], |fuse| { keyed(fuse, "clone").await; }
    "keyed limiter", "drop of a key", [], |fuse| { keyed(fuse, "drop").await; }
    "offload", "work", ["offload/mod run", "offload/run trait Work"], |fuse| {
        let offload = Offload::builder().threads(1).build().unwrap();
        fuse.arm();
        let f = fuse.clone();
        assert!(caught(async { offload.run(move || { f.blow(); Ok::<_, Oops>(1) }).await }).await.map_or(true, |r| r.is_err()));
        let seen = offload.snapshot();
        assert_eq!((seen.running, seen.queued, seen.abandoned), (0, 0, 0));
        assert_eq!(offload.run(|| Ok::<_, Oops>(2)).await, Ok(2));
    }
    "offload", "repeatable work", ["offload/mod run_repeatable"], |fuse| {
        let offload = Offload::builder().threads(1).build().unwrap();
        fuse.arm();
        let f = fuse.clone();
        let work = move || { f.blow(); Ok::<_, Oops>(1) };
        assert!(caught(async { offload.run_repeatable(work).await }).await.map_or(true, |r| r.is_err()));
        assert_eq!(offload.snapshot().running, 0);
        assert_eq!(offload.run(|| Ok::<_, Oops>(2)).await, Ok(2));
    }
    "offload", "drop of work that is never begun", [], |fuse| {
        let offload = Offload::builder().threads(1).build().unwrap();
        let touchy = Touchy::new(&fuse, On::Drop);
        let call = offload.run(move || { let _touchy = &touchy; Ok::<_, Oops>(1) });
        fuse.arm();
        assert!(caught_now(|| drop(call)).is_err());
        assert_eq!(offload.run(|| Ok::<_, Oops>(2)).await, Ok(2));
        assert_eq!(offload.snapshot().running, 0);
    }
    "stream", "poll_next", ["stream/mod trait ResilientStream", "stream/source trait Source"], |fuse| {
        fuse.arm();
        let mut limited = items(&fuse).time_limit_each(SECOND);
        assert_eq!(limited.next().await, Some(Ok(0)));
        assert!(caught(async { limited.next().await }).await.is_err());
        drop(limited);
        let pace = RateLimiter::per_second(100).build().unwrap();
        assert_eq!(items(&fuse).time_limit_each(SECOND).rate_limit(&pace).collect::<Vec<_>>().await.len(), 3);
        assert_eq!(pace.snapshot().queued, 0);
    }
    "stream", "in the background: poll_next", ["stream/source trait Source"], |fuse| {
        fuse.arm();
        let mut all = items(&fuse).time_limit_each(SECOND).in_background(1);
        assert_eq!(all.next().await, Some(Ok(0)));
        assert!(all.next().await.unwrap().is_err_and(|e| e.is_panicked()), "it is the last item");
        assert!(all.next().await.is_none());
    }
    "stream", "resume: open, its future, seen", ["stream/resume resume"], |fuse| {
        for what in 0..3 {
            let f = fuse.clone();
            let blow = move |here| if here == what { f.blow() };
            let seen = blow.clone();
            let mut lines = resume(0_u32, move |from: u32| {
                blow(0);
                let blow = blow.clone();
                async move {
                    yield_now().await;
                    blow(1);
                    Ok::<_, Oops>(stream::iter((from..3).map(Ok::<u32, Oops>)))
                }
            }, move |at, n| { seen(2); *at = n + 1; });
            fuse.arm();
            assert!(caught(async { lines.next().await }).await.is_err());
            // Whoever caught it may ask again, or drop it: nothing is stuck.
            let _ = caught(async { lines.next().await }).await;
            assert!(caught_now(|| drop(lines)).is_ok());
        }
    }
    "blocking", "closure", ["blocking/mod call"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().build().unwrap();
        let f = fuse.clone();
        fuse.arm();
        let outside = std::thread::spawn(move || {
            let first = caught_now(|| mainstay::blocking::call(&pipeline, || { f.blow(); async { Ok::<_, Oops>(1) } }));
            assert!(first.is_err());
            mainstay::blocking::call(&pipeline, || async { Ok::<_, Oops>(1) })
        });
        assert_eq!(outside.join().unwrap(), Ok(1));
        held.rests();
    }
}

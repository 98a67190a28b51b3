//! Wakers that panic when they are woken or dropped, and wakers that call the very policy which
//! wakes or drops them: whoever waits beside them is served. (A waker whose clone panics cannot
//! be made without `unsafe`.)

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mainstay::bulkhead::Bulkhead;
use mainstay::policy::Permit;
use mainstay::prelude::*;
use mainstay::queue::Queue;
use mainstay::scope::Tracker;
use tokio::time::sleep;

use crate::support::Oops;
use crate::{Fuse, caught_now, proof};

const SECOND: Duration = Duration::from_secs(1);

/// What a waker does when it is woken, or for the last time dropped.
struct Bell {
    fuse: Fuse,
    on_drop: bool,
    then: Box<dyn Fn() + Send + Sync>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if !self.on_drop {
            (self.then)();
            self.fuse.blow();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if self.on_drop && !std::thread::panicking() {
            (self.then)();
            self.fuse.blow();
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = bool>>>;

/// A pattern with somebody who waits in it.
struct Case {
    name: &'static str,
    /// A wait that ends with `true` if it was served.
    wait: Box<dyn Fn() -> Waiting>,
    /// Lets one who waits through.
    release: Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>,
    /// Calls the pattern: what a waker may do.
    enter: Arc<dyn Fn() + Send + Sync>,
    rests: Box<dyn Fn() -> bool>,
}

fn soon(call: impl FnOnce() + 'static) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move { call() })
}

fn bulkhead() -> Case {
    let bulkhead = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(9)
        .build()
        .unwrap();
    let held: Arc<std::sync::Mutex<Vec<Permit<Bulkhead>>>> = Arc::default();
    held.lock()
        .unwrap()
        .push(bulkhead.try_acquire_owned(1).unwrap());
    let (a, b, c) = (bulkhead.clone(), bulkhead.clone(), bulkhead);
    Case {
        name: "bulkhead",
        wait: Box::new(move || {
            let bulkhead = a.clone();
            Box::pin(async move { bulkhead.acquire(1).await.is_ok() })
        }),
        release: Box::new(move || {
            let held = Arc::clone(&held);
            soon(move || {
                let permit = held.lock().unwrap().pop();
                drop(permit);
            })
        }),
        enter: Arc::new(move || {
            drop(b.try_acquire(1));
            b.resize(1);
            let _ = b.snapshot();
        }),
        rests: Box::new(move || c.snapshot().in_use == 0 && c.snapshot().queued == 0),
    }
}

fn limiter() -> Case {
    let limiter = RateLimiter::builder().rate(1, SECOND).burst(1);
    let limiter = limiter.max_wait(99 * SECOND).build().unwrap();
    limiter.try_acquire(1).unwrap();
    let (a, b, c) = (limiter.clone(), limiter.clone(), limiter.clone());
    Case {
        name: "rate limiter",
        wait: Box::new(move || {
            let limiter = a.clone();
            Box::pin(async move { limiter.acquire(1).await.is_ok() })
        }),
        // A new burst calls those whose time it changes; time does the rest.
        release: Box::new(move || {
            let limiter = limiter.clone();
            Box::pin(async move {
                let _ = caught_now(|| limiter.set_rate(10, SECOND));
                sleep(SECOND).await;
            })
        }),
        enter: Arc::new(move || {
            let _ = b.try_acquire(1);
            b.set_burst(2).unwrap();
            let _ = b.snapshot();
        }),
        rests: Box::new(move || c.snapshot().queued == 0),
    }
}

fn pool() -> Case {
    let pool = Pool::builder(|| async { Ok::<_, Oops>(1) })
        .max_size(1)
        .build()
        .unwrap();
    let (a, b, c) = (pool.clone(), pool.clone(), pool.clone());
    Case {
        name: "pool",
        wait: Box::new(move || {
            let pool = a.clone();
            Box::pin(async move { pool.get().await.is_ok() })
        }),
        // The creation that those who wait have begun ends, and calls the first of them.
        release: Box::new(|| Box::pin(sleep(SECOND))),
        enter: Arc::new(move || {
            drop(b.try_get());
            b.resize(1);
            let _ = b.snapshot();
        }),
        rests: Box::new(move || {
            let seen = c.snapshot();
            seen.in_use + seen.pending + seen.changing_hands + seen.creating == 0
        }),
    }
}

fn queue() -> Case {
    let queue = Queue::builder()
        .workers(1)
        .capacity(1)
        .build(|n: u32| async move {
            sleep(SECOND).await;
            Ok::<_, Oops>(n)
        });
    let queue = queue.unwrap();
    let (a, b, c) = (queue.clone(), queue.clone(), queue.clone());
    queue.try_push(0).unwrap().detach();
    Case {
        name: "queue",
        wait: Box::new(move || {
            let queue = a.clone();
            Box::pin(async move {
                match queue.push(1).await {
                    Ok(ticket) => ticket.await == Ok(1),
                    Err(_) => false,
                }
            })
        }),
        release: Box::new(move || {
            let queue = queue.clone();
            Box::pin(async move { queue.drained().await })
        }),
        enter: Arc::new(move || {
            let _ = b.try_push(9).map(mainstay::queue::Ticket::detach);
            let _ = b.snapshot();
        }),
        rests: Box::new(move || c.snapshot().waiting + c.snapshot().running == 0),
    }
}

fn tracker() -> Case {
    let tracker = Arc::new(Tracker::new());
    let held = std::sync::Mutex::new(vec![tracker.enter_owned().unwrap()]);
    let held = Arc::new(held);
    let (a, b, c) = (Arc::clone(&tracker), Arc::clone(&tracker), tracker);
    Case {
        name: "tracker",
        wait: Box::new(move || {
            let tracker = Arc::clone(&a);
            Box::pin(async move {
                tracker.drained().await;
                true
            })
        }),
        release: Box::new(move || {
            let held = Arc::clone(&held);
            soon(move || {
                let entered = held.lock().unwrap().pop();
                drop(entered);
            })
        }),
        enter: Arc::new(move || {
            drop(b.enter());
            let _ = b.in_flight();
        }),
        rests: Box::new(move || c.in_flight() == 0),
    }
}

fn scope() -> Case {
    let scope = Arc::new(Scope::new());
    scope
        .spawn("one", async {
            sleep(SECOND).await;
            Ok::<_, Oops>(())
        })
        .unwrap();
    let (a, b, c) = (Arc::clone(&scope), Arc::clone(&scope), scope);
    Case {
        name: "scope",
        wait: Box::new(move || {
            let scope = Arc::clone(&a);
            Box::pin(async move {
                scope.drained().await;
                true
            })
        }),
        release: Box::new(|| Box::pin(sleep(2 * SECOND))),
        enter: Arc::new(move || {
            let _ = b.counts();
            let _ = b.tasks();
        }),
        rests: Box::new(move || c.counts().in_flight == 0),
    }
}

fn lazy() -> Case {
    let lazy = Arc::new(Lazy::<u32, Oops>::new(|| async {
        sleep(SECOND).await;
        Ok(1)
    }));
    let (a, b, c) = (Arc::clone(&lazy), Arc::clone(&lazy), lazy);
    Case {
        name: "lazy",
        wait: Box::new(move || {
            let lazy = Arc::clone(&a);
            Box::pin(async move { lazy.get().await == Ok(&1) })
        }),
        release: Box::new(|| Box::pin(sleep(2 * SECOND))),
        enter: Arc::new(move || {
            let _ = b.try_get();
            let _ = format!("{b:?}");
        }),
        rests: Box::new(move || format!("{c:?}").contains("waiting: 0")),
    }
}

fn keyed() -> Case {
    let keyed = RateLimiter::builder().rate(1, SECOND).burst(1);
    let keyed: KeyedRateLimiter<u32> = keyed.max_wait(99 * SECOND).keyed().build().unwrap();
    let keyed = Arc::new(keyed);
    keyed.try_acquire(&1, 1).unwrap();
    let (a, b, c) = (Arc::clone(&keyed), Arc::clone(&keyed), Arc::clone(&keyed));
    Case {
        name: "keyed limiter",
        wait: Box::new(move || {
            let keyed = Arc::clone(&a);
            Box::pin(async move { keyed.acquire(&1, 1).await.is_ok() })
        }),
        release: Box::new(move || {
            let keyed = Arc::clone(&keyed);
            Box::pin(async move {
                let _ = caught_now(|| keyed.set_rate(10, SECOND));
                sleep(SECOND).await;
            })
        }),
        enter: Arc::new(move || {
            let _ = b.try_acquire(&1, 1);
            let _ = b.try_acquire(&2, 1);
            b.set_burst(2).unwrap();
        }),
        rests: Box::new(move || c.limiter(&1).is_ok_and(|own| own.snapshot().queued == 0)),
    }
}

/// Those who wait for an item's outcome.
fn ticket() -> Case {
    let queue = Queue::builder()
        .workers(3)
        .capacity(9)
        .build(|n: u32| async move {
            sleep(SECOND).await;
            Ok::<_, Oops>(n)
        });
    let queue = queue.unwrap();
    let (a, b, c) = (queue.clone(), queue.clone(), queue);
    Case {
        name: "ticket",
        wait: Box::new(move || {
            let ticket = a.try_push(1).unwrap();
            Box::pin(async move { ticket.await == Ok(1) })
        }),
        release: Box::new(|| Box::pin(sleep(2 * SECOND))),
        enter: Arc::new(move || {
            let _ = b.try_push(9).map(mainstay::queue::Ticket::detach);
            let _ = b.snapshot();
        }),
        rests: Box::new(move || c.snapshot().waiting + c.snapshot().running == 0),
    }
}

/// Those who wait to hear of a shutdown.
fn shutdown() -> Case {
    let shutdown = Shutdown::builder().component("none", Scope::new());
    let shutdown = Arc::new(shutdown.build().unwrap());
    let (a, b) = (Arc::clone(&shutdown), Arc::clone(&shutdown));
    Case {
        name: "shutdown",
        wait: Box::new(move || {
            let shutdown = Arc::clone(&a);
            Box::pin(async move {
                shutdown.requested().await;
                true
            })
        }),
        release: Box::new(move || {
            let shutdown = Arc::clone(&shutdown);
            soon(move || shutdown.request())
        }),
        enter: Arc::new(move || {
            b.request();
            let _ = b.is_requested();
        }),
        rests: Box::new(|| true),
    }
}

const CASES: [fn() -> Case; 10] = [
    bulkhead, limiter, keyed, pool, queue, ticket, tracker, scope, lazy, shutdown,
];

/// Three wait: the one in the middle has the bad waker. Its panic is met by whoever calls it (a
/// caller who gives back what the waiting one gets), or by nobody; all others are served.
async fn beside(make: fn() -> Case, on_drop: bool, reenters: bool) -> (&'static str, u32) {
    let case = make();
    let name = format!("{}, on drop {on_drop}, re-enters {reenters}", case.name);
    let fuse = Fuse::default();
    let first = tokio_test::task::spawn((case.wait)());
    let mut first = first;
    let mut last = tokio_test::task::spawn((case.wait)());
    let mut bad = (case.wait)();
    let then: Box<dyn Fn() + Send + Sync> = if reenters {
        let enter = Arc::clone(&case.enter);
        Box::new(move || enter())
    } else {
        Box::new(|| ())
    };
    let bell = Arc::new(Bell {
        fuse: fuse.clone(),
        on_drop,
        then,
    });
    let waker = Waker::from(bell);
    assert!(first.poll().is_pending(), "{name}");
    assert!(
        bad.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending(),
        "{name}"
    );
    assert!(last.poll().is_pending(), "{name}");
    if !reenters {
        fuse.arm();
    }
    // The pattern's clones are the last ones; the drop is theirs.
    let _ = caught_now(|| drop(waker));
    // Who has ended: served, or hit by the panic, which is then his own call's.
    let mut ended = [None; 3];
    for _ in 0..40 {
        let _ = crate::caught((case.release)()).await;
        sleep(SECOND).await;
        let mut look = |who: usize, poll: &mut dyn FnMut() -> Poll<bool>| {
            if ended[who].is_none() {
                ended[who] = match caught_now(poll) {
                    Ok(Poll::Ready(served)) => Some(served),
                    Ok(Poll::Pending) => None,
                    Err(()) => Some(false),
                };
            }
        };
        look(0, &mut || first.poll());
        look(1, &mut || {
            bad.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        look(2, &mut || last.poll());
        if ended.iter().all(Option::is_some) {
            break;
        }
    }
    let served = ended.iter().filter(|end| **end == Some(true)).count();
    assert!(ended.iter().all(Option::is_some), "{name}: {ended:?}");
    assert!(
        served >= 2,
        "{name}: one panic hits one caller at most: {ended:?}"
    );
    let _ = caught_now(|| drop((first, last, bad)));
    sleep(60 * SECOND).await;
    assert!((case.rests)(), "{name}");
    (case.name, fuse.blown())
}

#[test]
fn who_waits_beside_a_bad_waker_is_served() {
    let (mut cases, mut hit) = (0, Vec::new());
    let mut blown = std::collections::BTreeMap::<&str, u32>::new();
    for make in CASES {
        for (on_drop, reenters) in [(false, false), (true, false), (false, true), (true, true)] {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let Ok((name, times)) =
                caught_now(|| runtime.block_on(beside(make, on_drop, reenters)))
            else {
                hit.push(format!(
                    "case {cases}, on drop {on_drop}, re-enters {reenters}"
                ));
                cases += 1;
                continue;
            };
            if !reenters {
                *blown.entry(name).or_default() += times;
            }
            cases += 1;
        }
    }
    assert!(hit.is_empty(), "others were hit, or not served: {hit:#?}");
    // Each pattern met at least one of the two panics.
    assert!(blown.values().all(|times| *times > 0), "{blown:?}");
    proof::count("faults.wakers", cases);
}

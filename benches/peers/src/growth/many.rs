//! Many at once: a gather's slots, tasks, a pool's objects, a queue's items.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::StreamExt;
use mainstay::pool::{Check, Manage};
use mainstay::prelude::*;
use mainstay::queue::Ticket;
use mainstay::scope::Tracker;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::series::{Figure, Law, Series, Unit};
use super::sweep::{Numbers, Sweep, block_on, settle};
use super::windows::turned;
use crate::meter::{Sample, runtime};

/// Pending so many times, woken at once each time, then ready.
struct Yields(u32);

impl Future for Yields {
    type Output = Result<u64, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0 == 0 {
            return Poll::Ready(Ok(black_box(1)));
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// So many items that what a slot costs at first is shared.
fn items(slots: u64) -> u64 {
    (slots * 4).max(1_000)
}

pub(crate) fn gather(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(1, 100_000);
    let series = |name: &str, yields: u32| {
        sweep.series(name, &sizes, move |sweep, slots| {
            let all = async move || {
                let items = (0..items(slots)).map(move |_| Yields(yields));
                let mut all = mainstay::gather(items).limit(slots as usize).as_finished();
                while let Some(outcome) = all.next().await {
                    black_box(outcome.1.is_ok());
                }
            };
            sweep.await_in(&runtime(), all).per(items(slots))
        })
    };
    Figure {
        file: "",
        title: "Gather: slots",
        axis: "slots",
        about: "One item of a gather with four items for each slot (at least 1000). The yardstick \
                is `buffer_unordered` of futures with yielding items.",
        unit: Unit::Nanoseconds,
        ours: vec![
            series("items that are ready", 0),
            series("items that yield once", 1),
        ],
        yardsticks: vec![unordered(sweep, &sizes)],
        law: Law::Logarithmic,
    }
}

fn unordered(sweep: &Sweep, sizes: &[u64]) -> Series {
    sweep.series("futures, yielding items", sizes, |sweep, slots| {
        let all = async move || {
            let items = futures::stream::iter((0..items(slots)).map(|_| Yields(1)));
            let mut all = items.buffer_unordered(slots as usize);
            while let Some(outcome) = all.next().await {
                black_box(outcome.is_ok());
            }
        };
        sweep.await_in(&runtime(), all).per(items(slots))
    })
}

pub(crate) fn tasks(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(1, 1_000_000);
    Figure {
        file: "",
        title: "Scope and tracker: tasks",
        axis: "tasks that are there already",
        about: "One more task, spawned and awaited, while so many others wait; or one more future \
                tracked and awaited. The yardstick is tokio's `JoinSet`.",
        unit: Unit::Nanoseconds,
        ours: vec![
            sweep.series("scope", &sizes, in_scope),
            sweep.series("tracker", &sizes, tracked),
        ],
        yardsticks: vec![sweep.series("tokio's JoinSet", &sizes, in_set)],
        law: Law::Logarithmic,
    }
}

fn ok() -> std::future::Ready<Result<u64, Infallible>> {
    std::future::ready(Ok(black_box(1)))
}

fn in_scope(sweep: &Sweep, tasks: u64) -> Sample {
    let runtime = runtime();
    let scope = Scope::new();
    {
        let _inside = runtime.enter();
        for _ in 0..tasks {
            let waiting = std::future::pending::<Result<(), Infallible>>();
            scope.spawn("waits", waiting).expect("it is open");
        }
    }
    settle(&runtime);
    sweep.await_in(&runtime, async move || {
        let task = scope.spawn("one", ok());
        task.expect("it is open").await.is_ok()
    })
}

fn tracked(sweep: &Sweep, tasks: u64) -> Sample {
    let tracker = Arc::new(Tracker::new());
    let others = (0..tasks).map(|_| tracker.enter_owned().expect("it is open"));
    let others: Vec<_> = others.collect();
    sweep.await_in(&runtime(), async move || {
        let one = tracker.track(ok());
        let _ = one.expect("it is open").await;
        others.len()
    })
}

fn in_set(sweep: &Sweep, tasks: u64) -> Sample {
    let runtime = runtime();
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        let waiting = std::future::pending::<Result<u64, Infallible>>();
        set.spawn_on(waiting, runtime.handle());
    }
    settle(&runtime);
    sweep.await_in(&runtime, async move || {
        set.spawn(ok());
        set.join_next().await.is_some()
    })
}

struct Units;

impl Manage for Units {
    type Object = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(1)
    }
}

pub(crate) fn pool(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(1, 10_000);
    let series = |name: &str, lent: fn(u64) -> u64| {
        sweep.series(name, &sizes, move |sweep, size| {
            one_of(sweep, size, lent(size))
        })
    };
    Figure {
        file: "",
        title: "Pool: objects",
        axis: "objects",
        about: "One object got and given back: all others are idle, or all others are lent. The \
                yardstick is a mutexed `VecDeque`.",
        unit: Unit::Nanoseconds,
        ours: vec![
            series("the others idle", |_| 0),
            series("the others lent", |size| size - 1),
        ],
        yardsticks: vec![sweep.series("a mutexed VecDeque", &sizes, turned)],
        law: Law::Logarithmic,
    }
}

fn one_of(sweep: &Sweep, size: u64, lent: u64) -> Sample {
    let runtime = runtime();
    let pool = Pool::builder(Units)
        .max_size(size as usize)
        .check(Check::Never);
    let pool: &'static Pool<Units> = Box::leak(Box::new(pool.build().expect("in range")));
    let mut all = Vec::new();
    block_on(&runtime, async {
        for _ in 0..size {
            all.push(pool.get().await.expect("there is room"));
        }
    });
    all.truncate(lent as usize);
    sweep.await_in(&runtime, async move || {
        black_box(&all);
        pool.get().await.is_ok()
    })
}

pub(crate) fn queue(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(1, 1_000_000);
    Figure {
        file: "",
        title: "Queue: items",
        axis: "items that wait",
        about: "One item pushed and another one run, while so many wait: all with one priority, \
                or with any of a thousand; or any of them taken back and another one pushed. The \
                yardsticks are tokio's bounded channel with one receiving task, and a mutexed `BTreeMap` \
                that is used in the same order.",
        unit: Unit::Nanoseconds,
        ours: vec![
            sweep.series("one priority", &sizes, |sweep, size| {
                through(sweep, size, 1)
            }),
            sweep
                .series("a thousand priorities", &sizes, |sweep, size| {
                    through(sweep, size, 1000)
                })
                .against(1),
            sweep
                .series("taken back from anywhere", &sizes, taken_back)
                .against(2),
        ],
        yardsticks: vec![
            sweep.series("tokio's channel", &sizes, channel),
            sweep.series("a mutexed BTreeMap, a thousand priorities", &sizes, ordered),
            sweep.series("a mutexed BTreeMap, any taken out", &sizes, plucked),
        ],
        law: Law::Logarithmic,
    }
}

type Work = Queue<u64, u64, Infallible>;

/// A queue whose one worker does as many items as there are passes in the gate.
fn queue_of(runtime: &tokio::runtime::Runtime, size: u64) -> (Work, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::clone(&gate);
    let _inside = runtime.enter();
    let queue = Queue::builder().workers(1).capacity(size as usize + 64);
    let queue = queue.build(move |item| {
        let gate = Arc::clone(&inside);
        async move {
            gate.acquire_owned().await.expect("it is open").forget();
            Ok(item)
        }
    });
    (queue.expect("in range"), gate)
}

fn through(sweep: &Sweep, size: u64, priorities: u64) -> Sample {
    let runtime = runtime();
    let (queue, gate) = queue_of(&runtime, size);
    let mut numbers = Numbers::new();
    let mut push = move || {
        let priority = numbers.below(priorities) as i32;
        let ticket = queue.try_push_at(priority, 1);
        ticket.expect("there is room").detach();
    };
    block_on(&runtime, async { (0..size).for_each(|_| push()) });
    sweep.await_in(&runtime, async move || {
        push();
        gate.add_permits(1);
        tokio::task::yield_now().await;
    })
}

fn taken_back(sweep: &Sweep, size: u64) -> Sample {
    let runtime = runtime();
    // The worker holds the first of them; it is never let go.
    let (queue, _gate) = queue_of(&runtime, size);
    let push = |queue: &Work| queue.try_push(1).expect("there is room");
    let mut tickets: Vec<Ticket<u64, Infallible>> = block_on(&runtime, async {
        push(&queue).detach();
        tokio::task::yield_now().await;
        (0..size).map(|_| push(&queue)).collect()
    });
    let mut numbers = Numbers::new();
    sweep.time_in(&runtime, move || {
        let any = numbers.below(size) as usize;
        let back = queue.take_back(&tickets[any]);
        assert!(back.is_some(), "it waits");
        tickets[any] = push(&queue);
    })
}

fn channel(sweep: &Sweep, size: u64) -> Sample {
    let runtime = runtime();
    let gate = Arc::new(Semaphore::new(0));
    let (sender, mut receiver) = mpsc::channel(size as usize + 64);
    let inside = Arc::clone(&gate);
    runtime.spawn(async move {
        while let Some(item) = receiver.recv().await {
            black_box::<u64>(item);
            inside.acquire().await.expect("it is open").forget();
        }
    });
    (0..size).for_each(|item| sender.try_send(item).expect("there is room"));
    settle(&runtime);
    sweep.await_in(&runtime, async move || {
        sender.try_send(1).expect("there is room");
        gate.add_permits(1);
        tokio::task::yield_now().await;
    })
}

type Ordered = Mutex<BTreeMap<(u64, u64), Box<[u64; 8]>>>;

/// The first of the order out, one in.
fn ordered(sweep: &Sweep, size: u64) -> Sample {
    let (mut numbers, mut id) = (Numbers::new(), 0);
    let mut next = move || {
        id += 1;
        ((numbers.below(1000), id), Box::new([id; 8]))
    };
    let map: Ordered = Mutex::new((0..size).map(|_| next()).collect());
    sweep.time(move || {
        let (key, value) = next();
        let mut map = map.lock().expect("no panic");
        map.insert(key, value);
        map.pop_first()
    })
}

/// Any of them out, one in at the end.
fn plucked(sweep: &Sweep, size: u64) -> Sample {
    let map: Ordered = Mutex::new((0..size).map(|id| ((0, id), Box::new([id; 8]))).collect());
    let mut tickets: Vec<_> = (0..size).map(Box::new).collect();
    let (mut numbers, mut id) = (Numbers::new(), size);
    sweep.time(move || {
        let any = numbers.below(size) as usize;
        let mut map = map.lock().expect("no panic");
        let removed = map.remove(&(0, *tickets[any]));
        id += 1;
        *tickets[any] = id;
        map.insert((0, id), Box::new([id; 8]));
        removed
    })
}

//! `next` of every stream: cut anywhere, no item is lost and none comes twice.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_util::stream::{self, Stream, StreamExt};
use mainstay::prelude::*;
use mainstay::retry::Jitter;
use mainstay::stream::{Every, every, resume};
use mainstay::testing::Point;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::{Gates, MILLI, Meter};

/// A stream that outlives the futures which ask it, and what came of it so far.
pub(crate) struct World<S> {
    pub(crate) stream: tokio::sync::Mutex<Option<S>>,
    pub(crate) seen: Mutex<Vec<u32>>,
    pub(crate) gates: Gates,
    pub(crate) alive: Alive,
}

/// How many of the things that a stream is made of are there.
#[derive(Clone, Default)]
pub(crate) struct Alive(Arc<AtomicUsize>);

pub(crate) struct Held(Arc<AtomicUsize>);

impl Alive {
    pub(crate) fn hold(&self) -> Held {
        self.0.fetch_add(1, SeqCst);
        Held(Arc::clone(&self.0))
    }

    /// All of them are dropped. A task that was aborted goes when it has its turn: no time
    /// passes until then.
    pub(crate) async fn are_gone(&self) {
        for _ in 0..8 {
            yield_now().await;
        }
        assert_eq!(self.0.load(SeqCst), 0, "what it is made of");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A trial of `next` until the end. `items` turns what comes into numbers; together these are
/// the expected ones, whether the one who asked was cut or not.
macro_rules! next {
    ($all:ident, $name:expr, $covers:expr, $least:literal, $gates:expr, |$g:ident, $alive:ident| $stream:expr,
     |$item:ident| $items:expr, $expected:expr) => {
        $all.push(crate::trial::trial(
            $name,
            $covers,
            $least,
            |lab| async move {
                use crate::streams::World;
                // What the stream waits for goes on without the one who asked.
                let lab = lab.watch_waker(false);
                lab.run_beside(
                    async || {
                        let $g: crate::world::Gates = $gates;
                        let $alive = crate::streams::Alive::default();
                        let stream = tokio::sync::Mutex::new(Some($stream));
                        World {
                            stream,
                            seen: std::sync::Mutex::default(),
                            gates: $g,
                            alive: $alive,
                        }
                    },
                    |world: std::sync::Arc<World<_>>| async move {
                        let mut stream = world.stream.lock().await;
                        let stream = stream.as_mut().unwrap();
                        while let Some($item) = stream.next().await {
                            let items: Vec<u32> = $items;
                            world.seen.lock().unwrap().extend(items);
                        }
                    },
                    |world: std::sync::Arc<World<_>>| async move {
                        let got = world.gates.limiter.acquire(1).await;
                        let _ = world.gates.spent(1, got);
                        tokio::task::yield_now().await;
                        world.gates.release();
                        let _slot = world.gates.bulkhead.acquire(1).await;
                        tokio::time::sleep(crate::world::MILLI).await;
                    },
                    async |world: &World<_>, point: &mainstay::testing::Point| {
                        let mut stream = world.stream.lock().await.take().unwrap();
                        if point.polls() % 2 == 0 {
                            // Every other one is dropped where it stands.
                            drop(stream);
                        } else {
                            let mut seen = std::mem::take(&mut *world.seen.lock().unwrap());
                            while let Some($item) = stream.next().await {
                                let items: Vec<u32> = $items;
                                seen.extend(items);
                            }
                            seen.sort_unstable();
                            let expected: Vec<u32> = $expected.into_iter().collect();
                            assert_eq!(seen, expected);
                            drop(stream);
                        }
                        world.alive.are_gone().await;
                        world.gates.are_whole(async || Ok(7)).await;
                    },
                )
                .await
            },
        ));
    };
}
pub(crate) use next;

/// Numbers after `after`, slowly; it is cut after so many.
fn numbers(
    alive: &Alive,
    after: u32,
    cut: Option<usize>,
) -> impl Stream<Item = Result<u32, Oops>> + Send + use<> {
    let held = alive.hold();
    let items = stream::iter(after + 1..=5).map(Ok);
    let items = items.take(cut.unwrap_or(usize::MAX));
    let cut = cut
        .filter(|cut| after as usize + cut < 5)
        .map(|_| Err(Oops(after)));
    items.chain(stream::iter(cut)).then(move |item| {
        let _held = &held;
        async move {
            yield_now().await;
            sleep(MILLI).await;
            item
        }
    })
}

/// Counts the permits of those who ask: one for each item, however often its source is opened,
/// and one for the end.
fn metered<S: Stream<Item = Result<u32, Oops>> + Send>(
    meter: Meter,
    after: u32,
    numbers: S,
) -> impl Stream<Item = Result<u32, Oops>> + Send + use<S> {
    let mut numbers = Box::pin(numbers);
    let mut next = after + 1;
    stream::poll_fn(move |cx| {
        meter.asked_for(next);
        let polled = numbers.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(_))) = &polled {
            next += 1;
        }
        polled
    })
}

const GUARDED: &[&str] = &["stream::Guarded", "stream::Guarded::next"];
const RESUMED: &[&str] = &["stream::Resumed", "stream::Resumed::next"];
const BACKGROUND: &[&str] = &["stream::Background", "stream::Background::next"];

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    of_guarded(&mut all);
    of_resumed(&mut all);
    of_backgrounds(&mut all);
    all.push(of_ticks("every: at once", 6, || every(2 * MILLI)));
    all.push(of_ticks("every: after a period", 6, || {
        every(2 * MILLI).after_a_period()
    }));
    all
}

fn of_guarded(all: &mut Vec<Trial>) {
    next!(
        all,
        "guarded: in time",
        GUARDED,
        10,
        Gates::free(),
        |g, alive| Box::pin(numbers(&alive, 0, None))
            .time_limit_each(9 * MILLI)
            .time_limit(900_000 * MILLI),
        |item| item.ok().into_iter().collect(),
        1..=5
    );
    next!(
        all,
        "guarded: waits for its rate",
        GUARDED,
        10,
        Gates::slow(),
        |g, alive| Box::pin(metered(g.meter(1), 0, numbers(&alive, 0, None)))
            .rate_limit(&g.limiter),
        |item| item.ok().into_iter().collect(),
        1..=5
    );
    next!(
        all,
        "guarded: cancels a token",
        GUARDED,
        10,
        Gates::free(),
        |g, alive| Box::pin(numbers(&alive, 0, None)).cancel_on_drop({
            let (token, held) = (CancellationToken::new(), alive.hold());
            let told = token.clone();
            tokio::spawn(async move {
                told.cancelled().await;
                drop(held);
            });
            token
        }),
        |item| item.ok().into_iter().collect(),
        1..=5
    );
}

fn of_resumed(all: &mut Vec<Trial>) {
    next!(
        all,
        "resumed: in one go",
        RESUMED,
        10,
        Gates::free(),
        |g, alive| {
            let open = alive.clone();
            resume(
                0,
                move |after| std::future::ready(Ok(Box::pin(numbers(&open, after, None)))),
                |last, n| *last = *n,
            )
        },
        |item| item.ok().into_iter().collect(),
        1..=5
    );
    next!(
        all,
        "resumed: cut after each second item",
        RESUMED,
        14,
        Gates::free(),
        |g, alive| {
            let open = alive.clone();
            let retry = Retry::builder()
                .backoff(Backoff::constant(MILLI).jitter(Jitter::None))
                .no_budget();
            let source = move |after: u32| {
                let stream = numbers(&open, after, Some(2));
                async move {
                    yield_now().await;
                    Ok(Box::pin(stream))
                }
            };
            resume(0, source, |last, n| *last = *n).retry(retry.build().unwrap())
        },
        |item| item.ok().into_iter().collect(),
        1..=5
    );
    next!(
        all,
        "resumed: paced, in the background",
        &[
            "stream::Resumed",
            "stream::Guarded",
            "stream::Background::next"
        ],
        8,
        Gates::slow(),
        |g, alive| {
            let (open, meter) = (alive.clone(), g.meter(1));
            let retry = Retry::builder()
                .backoff(Backoff::constant(MILLI).jitter(Jitter::None))
                .no_budget();
            let source = move |after: u32| {
                let stream = metered(meter.clone(), after, numbers(&open, after, Some(2)));
                std::future::ready(Ok(Box::pin(stream)))
            };
            let resumed = resume(0, source, |last, n| *last = *n).retry(retry.build().unwrap());
            resumed.rate_limit(&g.limiter).in_background(1)
        },
        |item| item.ok().into_iter().collect(),
        1..=5
    );
}

fn of_backgrounds(all: &mut Vec<Trial>) {
    next!(
        all,
        "background: room for one",
        BACKGROUND,
        5,
        Gates::free(),
        |g, alive| Box::pin(numbers(&alive, 0, None)).in_background(1),
        |item| item.ok().into_iter().collect(),
        1..=5
    );
    next!(
        all,
        "background: room for all",
        BACKGROUND,
        5,
        Gates::free(),
        |g, alive| Box::pin(numbers(&alive, 0, None)).in_background(9),
        |item| item.ok().into_iter().collect(),
        1..=5
    );
    next!(
        all,
        "background: cut by an error",
        BACKGROUND,
        3,
        Gates::free(),
        |g, alive| Box::pin(numbers(&alive, 0, Some(2))).in_background(1),
        |item| item.ok().into_iter().collect(),
        1..=2
    );
}

/// Ticks: those that were missed are counted, also by one who was cut.
fn of_ticks(name: &str, least: usize, make: fn() -> Every) -> Trial {
    struct Clock {
        ticks: tokio::sync::Mutex<Every>,
        told: Mutex<u64>,
        begun: Mutex<Option<Instant>>,
    }
    trial(
        name,
        &["stream::Every", "stream::Every::next"],
        least,
        move |lab| async move {
            let new = async || Clock {
                ticks: make().into(),
                told: Mutex::default(),
                begun: Mutex::default(),
            };
            let ask = async |clock: &Clock| {
                let mut ticks = clock.ticks.lock().await;
                clock.begun.lock().unwrap().get_or_insert_with(Instant::now);
                let tick = ticks.next().await.unwrap();
                *clock.told.lock().unwrap() += 1 + tick.missed;
            };
            let count = move |clock: Arc<Clock>| async move {
                for _ in 0..6 {
                    let mut ticks = clock.ticks.lock().await;
                    clock.begun.lock().unwrap().get_or_insert_with(Instant::now);
                    let tick = ticks.next().await.unwrap();
                    *clock.told.lock().unwrap() += 1 + tick.missed;
                }
            };
            let check = async |clock: &Clock, _: &Point| {
                sleep(5 * MILLI).await;
                ask(clock).await;
                let begun = clock.begun.lock().unwrap().unwrap();
                let periods = begun.elapsed().as_millis() / 2;
                let told = u128::from(*clock.told.lock().unwrap());
                assert!(
                    told == periods || told == periods + 1,
                    "{told} of {periods}"
                );
            };
            lab.watch_waker(false)
                .shuffles(0)
                .run(new, count, check)
                .await
        },
    )
}

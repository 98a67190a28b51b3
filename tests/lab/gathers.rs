//! Gathers: awaited, as streams, in tasks, in the background.

use std::sync::Arc;

use mainstay::Pipeline;
use mainstay::gather::gather;
use mainstay::policy::{Identity, Stack};
use mainstay::prelude::*;
use mainstay::testing::Point;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::streams::{Alive, next};
use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::{Gates, MILLI, retry};

type Two = Stack<Stack<Identity, Retry>, Bulkhead>;

/// What items are made of, and go through.
struct Shop {
    pipeline: Pipeline<Two>,
    gates: Gates,
    alive: Alive,
}

fn shop() -> Shop {
    let gates = Gates::full(2).loose();
    Shop {
        pipeline: pipeline(&gates),
        gates,
        alive: Alive::default(),
    }
}

fn pipeline(gates: &Gates) -> Pipeline<Two> {
    let pipeline = Pipeline::builder("items")
        .retry(retry(gates))
        .bulkhead(gates.bulkhead.clone());
    pipeline.build().unwrap()
}

/// One that takes its time; every fifth fails.
async fn item(alive: Alive, number: u32) -> Result<u32, Oops> {
    let _held = alive.hold();
    yield_now().await;
    sleep(MILLI * (1 + number % 3)).await;
    if number % 5 == 4 {
        Err(Oops(number))
    } else {
        Ok(number)
    }
}

/// Four of them, as closures, so that they can be tried again.
fn items(
    alive: &Alive,
) -> impl Iterator<Item = impl FnMut() -> ItemFuture + Send + use<>> + Send + use<> {
    let alive = alive.clone();
    (0..4).map(move |number| {
        let alive = alive.clone();
        move || -> ItemFuture { Box::pin(item(alive.clone(), number)) }
    })
}

type ItemFuture = std::pin::Pin<Box<dyn Future<Output = Result<u32, Oops>> + Send>>;

/// A gather that is awaited, beside somebody who holds the slots.
fn awaited<F, Fut>(name: &str, covers: &'static [&'static str], least: usize, work: F) -> Trial
where
    F: Fn(Arc<Shop>) -> Fut + Copy + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    trial(
        format!("gather: {name}"),
        covers,
        least,
        move |lab| async move {
            let actor = |shop: Arc<Shop>| async move {
                shop.gates.release();
                yield_now().await;
                shop.gates.release();
                let _slot = shop.gates.bulkhead.acquire(1).await;
                yield_now().await;
            };
            let check = async |shop: &Shop, _: &Point| {
                shop.alive.are_gone().await;
                let next = async || {
                    let all = gather((0..2).map(|_| || async { Ok::<_, Oops>(7) }));
                    let all = all.through(&shop.pipeline).try_all().await.unwrap();
                    assert_eq!(all, [7, 7]);
                    Ok(7)
                };
                shop.gates.are_whole(next).await;
            };
            lab.run_beside(async || shop(), work, actor, check).await
        },
    )
}

const COLLECT: &[&str] = &["gather::Gather", "gather::Collect"];
const TRY_ALL: &[&str] = &["gather::TryAll"];

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    of_awaited(&mut all);
    of_tasks(&mut all);
    of_streams(&mut all);
    of_backgrounds(&mut all);
    all
}

fn of_awaited(all: &mut Vec<Trial>) {
    all.push(awaited("all at once", COLLECT, 4, |shop| async move {
        let gathered = gather(items(&shop.alive)).await;
        assert_eq!(gathered.len(), 4);
    }));
    all.push(awaited("two at once", COLLECT, 5, |shop| async move {
        let gathered = gather(items(&shop.alive)).limit(2).await;
        assert!(gathered.is_complete());
    }));
    all.push(awaited(
        "through a pipeline",
        COLLECT,
        5,
        |shop| async move {
            let _ = gather(items(&shop.alive))
                .limit(3)
                .through(&shop.pipeline)
                .await;
        },
    ));
    all.push(awaited("with limits", COLLECT, 3, |shop| async move {
        let _ = gather(items(&shop.alive))
            .limit(2)
            .timeout(2 * MILLI)
            .deadline(4 * MILLI)
            .await;
    }));
    all.push(awaited("of a stream", COLLECT, 6, |shop| async move {
        use futures_util::StreamExt;
        let source = futures_util::stream::iter(items(&shop.alive));
        let source = source.then(|item| async {
            yield_now().await;
            item
        });
        let _ = gather(Box::pin(source))
            .limit(2)
            .through(&shop.pipeline)
            .await;
    }));
    all.push(awaited("try_all", TRY_ALL, 5, |shop| async move {
        let all = gather(items(&shop.alive)).limit(2).through(&shop.pipeline);
        let _ = all.try_all().await;
    }));
    all.push(awaited(
        "try_all, an error",
        TRY_ALL,
        3,
        |shop| async move {
            let alive = shop.alive.clone();
            let items = (2..6).map(|number| item(alive.clone(), number));
            assert!(gather(items).limit(3).try_all().await.is_err());
        },
    ));
}

fn of_tasks(all: &mut Vec<Trial>) {
    all.push(awaited("tasks", COLLECT, 3, |shop| async move {
        let _ = gather(items(&shop.alive)).limit(2).spawned().await;
    }));
    all.push(awaited(
        "tasks, through a pipeline",
        COLLECT,
        3,
        |shop| async move {
            let _ = gather(items(&shop.alive))
                .limit(3)
                .spawned()
                .through(&shop.pipeline)
                .await;
        },
    ));
    all.push(awaited(
        "tasks, with limits",
        COLLECT,
        2,
        |shop| async move {
            let _ = gather(items(&shop.alive))
                .timeout(2 * MILLI)
                .deadline(3 * MILLI)
                .spawned()
                .await;
        },
    ));
    all.push(awaited(
        "tasks, try_all, an error",
        TRY_ALL,
        2,
        |shop| async move {
            let alive = shop.alive.clone();
            let items = (2..6).map(move |number| item(alive.clone(), number));
            assert!(gather(items).limit(3).spawned().try_all().await.is_err());
        },
    ));
}

fn of_streams(all: &mut Vec<Trial>) {
    const AS_FINISHED: &[&str] = &["gather::AsFinished", "gather::AsFinished::next"];
    const IN_ORDER: &[&str] = &["gather::InOrder", "gather::InOrder::next"];
    const BATCHES: &[&str] = &["gather::Batches", "gather::Batches::next"];
    next!(
        all,
        "gather: as finished",
        AS_FINISHED,
        5,
        Gates::free(),
        |g, alive| gather(items(&alive)).limit(2).as_finished(),
        |item| vec![item.1.unwrap()],
        0..4
    );
    next!(
        all,
        "gather: as finished, in tasks",
        AS_FINISHED,
        4,
        Gates::free(),
        |g, alive| gather(items(&alive)).limit(2).spawned().as_finished(),
        |item| vec![item.1.unwrap()],
        0..4
    );
    next!(
        all,
        "gather: in order",
        IN_ORDER,
        5,
        Gates::free(),
        |g, alive| gather(items(&alive)).limit(3).in_order(),
        |item| vec![item.unwrap()],
        0..4
    );
    next!(
        all,
        "gather: in order, in tasks through a pipeline",
        IN_ORDER,
        4,
        Gates::full(2).loose(),
        |g, alive| gather(items(&alive))
            .limit(3)
            .spawned()
            .through(&pipeline(&g))
            .in_order(),
        |item| vec![item.unwrap()],
        0..4
    );
    next!(
        all,
        "gather: batches",
        BATCHES,
        5,
        Gates::free(),
        |g, alive| gather(items(&alive)).limit(2).batches(3),
        |item| item.into_iter().map(Result::unwrap).collect(),
        0..4
    );
    next!(
        all,
        "gather: batches, in tasks",
        BATCHES,
        4,
        Gates::free(),
        |g, alive| gather(items(&alive)).limit(2).spawned().batches(2),
        |item| item.into_iter().map(Result::unwrap).collect(),
        0..4
    );
}

fn of_backgrounds(all: &mut Vec<Trial>) {
    const BACKGROUND: &[&str] = &["gather::Background", "gather::Background::next"];
    next!(
        all,
        "gather: in the background, room for one",
        BACKGROUND,
        4,
        Gates::free(),
        |g, alive| gather(items(&alive)).limit(2).in_background(1),
        |item| vec![item.1.unwrap()],
        0..4
    );
    next!(
        all,
        "gather: in the background, in tasks",
        BACKGROUND,
        4,
        Gates::free(),
        |g, alive| gather(items(&alive)).limit(2).spawned().in_background(9),
        |item| vec![item.1.unwrap()],
        0..4
    );
    next!(
        all,
        "gather: in the background, through a pipeline",
        BACKGROUND,
        4,
        Gates::full(2).loose(),
        |g, alive| gather(items(&alive))
            .limit(3)
            .through(&pipeline(&g))
            .in_background(1),
        |item| vec![item.1.unwrap()],
        0..4
    );
}

//! Many futures, 64 at once: those that are ready, and those that yield once.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use futures_buffered::BufferedStreamExt;
use futures_concurrency::prelude::*;
use mainstay::gather::gather;
use mainstay::infallible;
use mainstay::prelude::*;
use tokio::task::JoinSet;

use crate::calls::{LONG, item, yielding as late};
use crate::floor::gather::Gather;
use crate::row::Row;

const ITEMS: u64 = 10_000;
const AT_ONCE: usize = 64;

pub(super) fn ready(row: &mut Row) {
    row.goal(4.0);
    entrants(row, item);
}

pub(super) fn yielding(row: &mut Row) {
    row.goal(30.0);
    entrants(row, late);
}

fn entrants<F>(row: &mut Row, each: impl Fn(u64) -> F + Copy + Send + 'static)
where
    F: Future<Output = u64> + Send + 'static,
{
    row.calls = ITEMS;
    row.budgeted = true;
    row.note(
        "All of it runs in one task, under tokio's cooperative budget, and collects every value. \
         Ours yields results, tells panics apart, says which item a result is of, and catches its \
         breath so that other tasks get a turn. A JoinSet makes a task of each future, which may \
         then run on other threads.",
    );
    row.floor("64 slots in one task", move || {
        async move || Gather::new((0..ITEMS).map(each)).await
    });
    buffered(row, each);
    concurrent(row, each);
    in_tasks(row, each);
    row.ours("gather, as finished", move || {
        async move || {
            let source = (0..ITEMS).map(|n| infallible(each(n)));
            let mut all = gather(source).limit(AT_ONCE).as_finished();
            let mut values = Vec::with_capacity(ITEMS as usize);
            while let Some((_, one)) = all.next().await {
                values.extend(one);
            }
            values
        }
    });
    other_ways(row, each);
}

/// The other ways through a gather.
fn other_ways<F>(row: &mut Row, each: impl Fn(u64) -> F + Copy + Send + 'static)
where
    F: Future<Output = u64> + Send + 'static,
{
    let source = move || gather((0..ITEMS).map(move |n| infallible(each(n)))).limit(AT_ONCE);
    row.aside("mainstay", "gather, in order", move || {
        async move || {
            let mut all = source().in_order();
            let mut values = Vec::with_capacity(ITEMS as usize);
            while let Some(one) = all.next().await {
                values.extend(one);
            }
            values
        }
    });
    row.aside("mainstay", "gather, all outcomes", move || {
        async move || source().await
    });
    row.aside("mainstay", "gather, a time limit for each", move || {
        async move || source().timeout(LONG).await
    });
    let pipeline = Pipeline::builder("bulkhead").bulkhead(100).build();
    let pipeline = Arc::new(pipeline.expect("a pipeline"));
    row.aside("mainstay", "gather, through a bulkhead", move || {
        let pipeline = Arc::clone(&pipeline);
        async move || source().through(&*pipeline).await
    });
}

fn buffered<F>(row: &mut Row, each: impl Fn(u64) -> F + Copy + Send + 'static)
where
    F: Future<Output = u64> + Send + 'static,
{
    let source = move || stream::iter((0..ITEMS).map(each));
    row.peer("futures-buffered", "buffered_unordered", move || {
        async move || {
            let all = BufferedStreamExt::buffered_unordered(source(), AT_ONCE);
            all.collect::<Vec<_>>().await
        }
    });
    row.peer("futures-buffered", "buffered_ordered", move || {
        async move || {
            let all = BufferedStreamExt::buffered_ordered(source(), AT_ONCE);
            all.collect::<Vec<_>>().await
        }
    });
    row.peer("futures", "buffer_unordered", move || {
        async move || source().buffer_unordered(AT_ONCE).collect::<Vec<_>>().await
    });
    row.peer("futures", "buffered", move || {
        async move || source().buffered(AT_ONCE).collect::<Vec<_>>().await
    });
    row.aside("futures", "join_all, without a limit", move || {
        async move || futures::future::join_all((0..ITEMS).map(each)).await
    });
}

fn concurrent<F>(row: &mut Row, each: impl Fn(u64) -> F + Copy + Send + 'static)
where
    F: Future<Output = u64> + Send + 'static,
{
    row.peer("futures-concurrency", "co_stream with a limit", move || {
        async move || {
            let all = (0..ITEMS).collect::<Vec<_>>().into_co_stream();
            let all = all.limit(NonZeroUsize::new(AT_ONCE)).map(each);
            all.collect::<Vec<_>>().await
        }
    });
    row.aside(
        "futures-concurrency",
        "Vec::join, without a limit",
        move || async move || (0..ITEMS).map(each).collect::<Vec<_>>().join().await,
    );
}

fn in_tasks<F>(row: &mut Row, each: impl Fn(u64) -> F + Copy + Send + 'static)
where
    F: Future<Output = u64> + Send + 'static,
{
    row.peer("tokio", "JoinSet, 64 at once", move || {
        async move || {
            let (mut tasks, mut values) = (JoinSet::new(), Vec::with_capacity(ITEMS as usize));
            for n in 0..ITEMS {
                if tasks.len() >= AT_ONCE {
                    values.extend(tasks.join_next().await.and_then(Result::ok));
                }
                tasks.spawn(each(n));
            }
            while let Some(value) = tasks.join_next().await {
                values.extend(value.ok());
            }
            values
        }
    });
}

//! A gather of so many items, in each form whose outcomes are not collected.

use crate::Form;

use mainstay::gather::gather;
use mainstay::prelude::*;

pub(crate) const FORMS: [Form; 6] = [
    ("gather, as they finish", |n| Box::pin(as_finished(n))),
    ("gather, in order", |n| Box::pin(in_order(n))),
    ("gather, in batches", |n| Box::pin(batches(n))),
    ("gather, through a bulkhead, as finished", |n| {
        Box::pin(through(n))
    }),
    ("gather, in tasks", |n| Box::pin(spawned(n))),
    ("gather, in the background", |n| Box::pin(in_background(n))),
];

const LIMIT: usize = 64;

/// A KiB each, so that what is kept is seen.
async fn item(n: u64) -> Result<[u64; 128], std::convert::Infallible> {
    for _ in 0..n % 4 {
        tokio::task::yield_now().await;
    }
    Ok([n; 128])
}

async fn as_finished(items: u64) {
    let mut all = gather((0..items).map(item)).limit(LIMIT).as_finished();
    let mut seen = 0;
    while all.next().await.is_some() {
        seen += 1;
    }
    assert_eq!(seen, items);
}

async fn in_order(items: u64) {
    let mut all = gather((0..items).map(item)).limit(LIMIT).in_order();
    let mut seen = 0;
    while let Some(Ok(n)) = all.next().await {
        assert_eq!(n[0], seen);
        seen += 1;
    }
    assert_eq!(seen, items);
}

async fn batches(items: u64) {
    let mut all = gather((0..items).map(item)).limit(LIMIT).batches(1000);
    let mut seen = 0;
    while let Some(batch) = all.next().await {
        seen += batch.len() as u64;
    }
    assert_eq!(seen, items);
}

async fn through(items: u64) {
    let pipeline = Pipeline::builder("few").bulkhead(16).build();
    let pipeline = pipeline.expect("a pipeline");
    let mut all = gather((0..items).map(|n| move || item(n)))
        .limit(LIMIT / 2)
        .through(&pipeline)
        .as_finished();
    let mut seen = 0;
    while let Some((_, outcome)) = all.next().await {
        seen += u64::from(outcome.is_ok());
    }
    assert_eq!(seen, items);
}

async fn spawned(items: u64) {
    let mut all = gather((0..items).map(item))
        .limit(LIMIT)
        .spawned()
        .as_finished();
    let mut seen = 0;
    while all.next().await.is_some() {
        seen += 1;
    }
    assert_eq!(seen, items);
}

async fn in_background(items: u64) {
    let mut all = gather((0..items).map(item))
        .limit(LIMIT)
        .in_background(LIMIT);
    let mut seen = 0;
    while all.next().await.is_some() {
        seen += 1;
    }
    assert_eq!(seen, items);
}

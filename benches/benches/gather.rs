//! What a gather costs for one item, next to the streams of `futures-util`:
//! `cargo bench -p mainstay-benches --bench gather`.
//!
//! Each row runs 1000 items on one thread; the figures are for one of them.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use criterion::Criterion;
use futures_util::StreamExt;
use mainstay::Pipeline;
use mainstay::gather::gather;

const ITEMS: u64 = 1000;
const LIMIT: usize = 64;

type Nothing = std::convert::Infallible;

/// Pending so many times, woken at once each time, then ready.
struct Yields(u32, u64);

impl Future for Yields {
    type Output = Result<u64, Nothing>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0 == 0 {
            return Poll::Ready(Ok(black_box(self.1)));
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn items(yields: u32) -> impl Iterator<Item = Yields> {
    (0..ITEMS).map(move |n| Yields(yields, n))
}

macro_rules! row {
    ($criterion:ident, $name:expr, $all:expr) => {
        $criterion.bench_function($name, |bencher| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime");
            bencher.iter_custom(|n| {
                runtime.block_on(tokio::task::unconstrained(async {
                    let start = Instant::now();
                    for _ in 0..n.div_ceil(ITEMS) {
                        let _ = black_box($all);
                    }
                    start
                        .elapsed()
                        .mul_f64(n as f64 / (n.div_ceil(ITEMS) * ITEMS) as f64)
                }))
            });
        });
    };
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let criterion = &mut Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000));
    for yields in [0, 1] {
        let kind = ["ready", "yielding once"][yields as usize];
        row!(criterion, &format!("{kind}: loop"), {
            let mut sum = 0;
            for item in items(yields) {
                sum += item.await.unwrap_or_default();
            }
            sum
        });
        row!(criterion, &format!("{kind}: gather, as finished"), {
            let mut sum = 0;
            let mut all = gather(items(yields)).limit(LIMIT).as_finished();
            while let Some((_, outcome)) = all.next().await {
                sum += outcome.unwrap_or_default();
            }
            sum
        });
        row!(criterion, &format!("{kind}: futures-util, unordered"), {
            let mut sum = 0;
            let mut all = futures_util::stream::iter(items(yields)).buffer_unordered(LIMIT);
            while let Some(outcome) = all.next().await {
                sum += outcome.unwrap_or_default();
            }
            sum
        });
        row!(criterion, &format!("{kind}: gather, in order"), {
            let mut sum = 0;
            let mut all = gather(items(yields)).limit(LIMIT).in_order();
            while let Some(outcome) = all.next().await {
                sum += outcome.unwrap_or_default();
            }
            sum
        });
        row!(criterion, &format!("{kind}: futures-util, ordered"), {
            let mut sum = 0;
            let mut all = futures_util::stream::iter(items(yields)).buffered(LIMIT);
            while let Some(outcome) = all.next().await {
                sum += outcome.unwrap_or_default();
            }
            sum
        });
        row!(
            criterion,
            &format!("{kind}: gather, all outcomes"),
            gather(items(yields)).limit(LIMIT).await
        );
        row!(
            criterion,
            &format!("{kind}: futures-util, unordered, collected"),
            futures_util::stream::iter(items(yields))
                .buffer_unordered(LIMIT)
                .collect::<Vec<_>>()
                .await
        );
        let limited = Duration::from_secs(30);
        row!(
            criterion,
            &format!("{kind}: gather, all outcomes, with a time limit each"),
            gather(items(yields)).limit(LIMIT).timeout(limited).await
        );
        let pipeline = Pipeline::builder("bulkhead").bulkhead(100).build()?;
        row!(
            criterion,
            &format!("{kind}: gather, all outcomes, through a bulkhead"),
            gather(items(yields)).limit(LIMIT).through(&pipeline).await
        );
    }
    Ok(())
}

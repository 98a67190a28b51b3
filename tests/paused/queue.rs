//! The task queue as part of a whole: with pipelines, streams of futures-util, other tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures_util::StreamExt;
use mainstay::queue::{Priority, Queue, QueueReport, QueueSnapshot, Rejected, Ticket};
use mainstay::{DynPipeline, Error, Pipeline, Refusal, prelude::*};
use tokio::time::{Instant, sleep};

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

/// As a user has it: a client behind an `Arc`, methods that borrow, a struct that names types.
#[derive(Default)]
struct Client {
    calls: AtomicU32,
}

impl Client {
    async fn send(&self, order: &str) -> Result<usize, Oops> {
        let nth = self.calls.fetch_add(1, SeqCst);
        sleep(SECOND).await;
        if nth % 2 == 0 {
            Err(Oops(nth))
        } else {
            Ok(order.len())
        }
    }
}

struct Shop {
    orders: Queue<String, usize, Oops>,
    client: Arc<Client>,
}

impl Shop {
    fn open(pipeline: DynPipeline<usize, Oops>) -> Self {
        let client = Arc::new(Client::default());
        let known = Arc::clone(&client);
        let orders = Queue::builder()
            .workers(2)
            .through(pipeline)
            .build(move |order: String| {
                let client = Arc::clone(&known);
                async move { client.send(&order).await }
            })
            .unwrap();
        Self { orders, client }
    }
}

async fn plain(n: u32) -> Result<u32, Oops> {
    Ok(n)
}

#[tokio::test(start_paused = true)]
async fn handlers_of_every_usual_form_compile_and_can_be_spawned() {
    let pipeline = Pipeline::builder("orders")
        .timeout(9 * SECOND)
        .retry(Retry::builder().max_attempts(3))
        .build()
        .unwrap();
    let shop = Shop::open(pipeline.erase());
    let orders = shop.orders.clone();
    let done = tokio::spawn(async move {
        let ticket: Ticket<usize, Oops> = orders.push("a rope".into()).await.unwrap();
        ticket.await
    });
    assert_eq!(done.await.unwrap(), Ok(6));
    assert_eq!(shop.client.calls.load(SeqCst), 2);

    let queue = Queue::builder().build(plain).unwrap();
    assert_eq!(queue.push(7).await.unwrap().await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn the_stream_works_with_combinators() {
    let queue = Queue::builder()
        .workers(3)
        .outcomes(2)
        .build(plain)
        .unwrap();
    let outcomes = queue.outcomes().unwrap();
    tokio::spawn(async move {
        for n in 0..20 {
            queue.push(n).await.unwrap().detach();
        }
    });
    let sum = outcomes
        .map(|(_, outcome)| outcome.unwrap())
        .collect::<Vec<_>>();
    let mut all = sum.await;
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_push_with_a_time_limit_around_it_has_put_nothing_in_when_it_ends() {
    let queue = Queue::builder()
        .workers(1)
        .capacity(1)
        .build(|n: u32| async move {
            sleep(SECOND).await;
            plain(n).await
        })
        .unwrap();
    for n in 0..2 {
        queue.push(n).await.unwrap().detach();
    }
    let late = queue.push(9).timeout(SECOND / 2).await.unwrap_err();
    assert!(late.is_timed_out());
    queue.drained().await;
    assert_eq!(queue.snapshot().accepted, 2);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_bounded_and_everybody_learns_of_it() {
    let queue = Queue::builder()
        .workers(2)
        .capacity(2)
        .build(|hours: u64| async move {
            sleep(Duration::from_secs(3_600 * hours)).await;
            Ok::<_, Oops>(hours)
        })
        .unwrap();
    let mut tickets = Vec::new();
    for hours in [0, 5, 6, 7, 8] {
        tickets.push(queue.push(hours).await.unwrap());
    }
    let waits = tokio::spawn(queue.push(9));
    tokio::task::yield_now().await;
    let start = Instant::now();
    let report: QueueReport<u64> = queue.shutdown(SECOND).await;
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(report.returned, [7, 8]);
    let refused: Rejected<u64> = waits.await.unwrap().unwrap_err();
    assert_eq!((refused.item, refused.reason), (9, Refusal::ShutDown));
    let mut attempts = Vec::new();
    for ticket in tickets {
        attempts.push(ticket.await.map_err(|error: Error<Oops>| error.attempts()));
    }
    assert_eq!(attempts, [Ok(0), Err(1), Err(1), Err(0), Err(0)]);
    let counts: QueueSnapshot = report.counts;
    assert_eq!((counts.done, counts.cancelled, counts.returned), (1, 2, 2));
    assert_eq!((counts.accepted, counts.settled()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_of_the_pipeline_begins_with_the_work_and_not_with_the_wait() {
    let pipeline = Pipeline::builder("limit")
        .timeout(3 * SECOND)
        .build()
        .unwrap();
    let queue = Queue::builder()
        .workers(1)
        .through(&pipeline)
        .build(|n: u32| async move {
            sleep(2 * SECOND).await;
            plain(n).await
        })
        .unwrap();
    let mut tickets = Vec::new();
    for n in 0..4 {
        tickets.push(queue.push(n).priority(Priority::HIGH).await.unwrap());
    }
    for (n, ticket) in (0..).zip(tickets) {
        assert_eq!(ticket.await, Ok(n));
    }
}

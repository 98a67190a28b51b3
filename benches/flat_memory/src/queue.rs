//! A million items through a queue of 4 workers and 64 places.

use mainstay::queue::Queue;

use crate::Form;

pub(crate) const FORMS: [Form; 3] = [
    ("queue, tickets detached", |n| Box::pin(detached(n))),
    ("queue, tickets awaited", |n| Box::pin(ticketed(n))),
    ("queue, outcomes as a stream", |n| Box::pin(streamed(n))),
];

type Work = Queue<u64, [u64; 128], std::convert::Infallible>;

/// A KiB each, so that what is kept is seen. Every fourth item has to wait once.
async fn work(n: u64) -> Result<[u64; 128], std::convert::Infallible> {
    if n.trailing_zeros() >= 2 {
        tokio::task::yield_now().await;
    }
    Ok([n; 128])
}

fn queue(outcomes: Option<usize>) -> Work {
    let builder = Queue::builder().workers(4).capacity(64);
    let builder = match outcomes {
        Some(bound) => builder.outcomes(bound),
        None => builder,
    };
    builder.build(work).expect("the settings are in range")
}

/// Nobody asks how the items ended.
async fn detached(items: u64) {
    let queue = queue(None);
    for n in 0..items {
        queue.push(n).await.expect("it is open").detach();
    }
    queue.drained().await;
    assert_eq!(queue.snapshot().done, items);
}

/// Each producer awaits its ticket.
async fn ticketed(items: u64) {
    let queue = queue(None);
    let producers = (0..8).map(|_| {
        let queue = queue.clone();
        tokio::spawn(async move {
            for n in 0..items / 8 {
                let ticket = queue.push(n).await.expect("it is open");
                assert_eq!(ticket.await.expect("it is done")[127], n);
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.expect("nothing panics");
    }
}

/// All outcomes are read from the stream.
async fn streamed(items: u64) {
    let queue = queue(Some(64));
    let mut outcomes = queue.outcomes().expect("it was asked for");
    tokio::spawn(async move {
        for n in 0..items {
            queue.push(n).await.expect("it is open").detach();
        }
    });
    let mut read = 0;
    while outcomes.next().await.is_some() {
        read += 1;
    }
    assert_eq!(read, items);
}

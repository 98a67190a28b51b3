//! Tests of the queue from inside.

mod asked;
mod behaviour;
mod drops;
mod lives;
mod model;
mod outbox;
mod runtimes;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::testing::sleep;

/// An item says what its handler is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    Yield(u32),
    Sleep(u64),
    Fail(u32),
    Panic,
    PanicAtOnce,
    Never,
}

type Tasks = Queue<Task, u32, String>;

fn handler(task: Task) -> impl Future<Output = Result<u32, String>> + Send + 'static {
    assert!(task != Task::PanicAtOnce, "at once");
    async move {
        match task {
            Task::Yield(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                Ok(turns)
            }
            Task::Sleep(millis) => {
                sleep(Duration::from_millis(millis)).await;
                Ok(0)
            }
            Task::Fail(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                Err(String::from("failed"))
            }
            Task::Panic | Task::PanicAtOnce => {
                tokio::task::yield_now().await;
                panic!("told to")
            }
            Task::Never => std::future::pending().await,
        }
    }
}

fn tasks(workers: usize, capacity: usize) -> Tasks {
    Queue::builder()
        .workers(workers)
        .capacity(capacity)
        .build(handler)
        .unwrap()
}

/// The law of every queue: what was taken in waits, runs or has ended, once.
#[track_caller]
fn adds_up(counts: &QueueSnapshot) {
    let inside = (counts.waiting + counts.running) as u64;
    assert_eq!(counts.accepted, inside + counts.settled(), "{counts:?}");
}

/// After whatever has happened: the counts add up, nothing is stuck, and the queue works.
async fn works_on(queue: &Tasks) {
    adds_up(&queue.snapshot());
    let ticket = queue.push(Task::Yield(1)).await.unwrap();
    assert_eq!(ticket.await, Ok(1));
    queue.drained().await;
    let counts = queue.snapshot();
    assert_eq!(counts.accepted, counts.settled(), "{counts:?}");
    assert_eq!(counts.producers, 0, "{counts:?}");
}

/// Polls once, with the task's own waker.
async fn poll_once<Fut: Future + Unpin>(future: &mut Fut) -> Poll<Fut::Output> {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

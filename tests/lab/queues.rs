//! The queue: `push`, tickets, outcomes, `drained`, `shutdown`, with items in each state.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use mainstay::prelude::*;
use mainstay::queue::{Job, Outcomes, Priority, QueueBuilder, Ticket};
use mainstay::shutdown::Component;
use mainstay::testing::Point;
use mainstay::{Pipeline, Refusal};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::MILLI;

/// What an item tells its handler to do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Do {
    Well,
    Fail,
    Panic,
    /// Goes on until it is asked to end.
    Linger,
}

type Line = Queue<Do, u32, Oops>;
type Note = Ticket<u32, Oops>;

/// A queue, its handlers, and the tickets of what was in it first.
struct Desk {
    queue: Line,
    running: Arc<AtomicUsize>,
    tickets: Mutex<Vec<Note>>,
    outcomes: tokio::sync::Mutex<Option<Outcomes<u32, Oops>>>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn handle(running: Arc<AtomicUsize>, what: Do, job: Option<Job>) -> Result<u32, Oops> {
    running.fetch_add(1, SeqCst);
    let _running = Running(running);
    yield_now().await;
    sleep(2 * MILLI).await;
    match (what, job) {
        (Do::Well, _) => Ok(7),
        (Do::Fail, _) => Err(Oops(1)),
        (Do::Panic, _) => panic!("an item's own"),
        (Do::Linger, Some(job)) => {
            job.token().cancelled().await;
            Ok(7)
        }
        (Do::Linger, None) => {
            sleep(500 * MILLI).await;
            Ok(7)
        }
    }
}

impl Desk {
    /// One worker, and room for two; so many items are in it, the first of them begun.
    async fn with(items: &[Do], settings: impl Fn(QueueBuilder) -> QueueBuilder) -> Self {
        let running = Arc::<AtomicUsize>::default();
        let known = Arc::clone(&running);
        let queue = settings(Queue::builder().workers(1).capacity(2))
            .build_with(move |what, job| handle(Arc::clone(&known), what, Some(job)))
            .unwrap();
        Self::of(queue, running, items).await
    }

    /// As above, each item through a pipeline that tries it twice.
    async fn through_a_pipeline(items: &[Do]) -> Self {
        let running = Arc::<AtomicUsize>::default();
        let known = Arc::clone(&running);
        let retry = Retry::builder()
            .max_attempts(2)
            .backoff(Backoff::constant(MILLI));
        let pipeline = Pipeline::builder("items")
            .retry(retry.no_budget())
            .timeout(9 * MILLI);
        let pipeline = pipeline.build().unwrap().erase();
        let queue = Queue::builder().workers(1).capacity(2).through(pipeline);
        let queue = queue
            .build(move |what| handle(Arc::clone(&known), what, None))
            .unwrap();
        Self::of(queue, running, items).await
    }

    async fn of(queue: Line, running: Arc<AtomicUsize>, items: &[Do]) -> Self {
        let mut tickets = Vec::new();
        let outcomes = queue.outcomes();
        for item in items {
            tickets.push(queue.push(*item).await.unwrap());
            // The first is taken up.
            yield_now().await;
            yield_now().await;
        }
        tickets.reverse();
        Self {
            queue,
            running,
            tickets: Mutex::new(tickets),
            outcomes: outcomes.into(),
        }
    }

    /// The ticket of the first item that is left.
    fn ticket(&self) -> Option<Note> {
        self.tickets.lock().unwrap().pop()
    }

    /// Every item that came in has its end, and the next is taken.
    async fn is_whole(&self) {
        let outcomes = self.outcomes.lock().await.take();
        drop(outcomes);
        let tickets = std::mem::take(&mut *self.tickets.lock().unwrap());
        tickets.iter().for_each(Ticket::cancel);
        drop(tickets);
        let by_themselves = tokio::time::timeout(2_000 * MILLI, self.queue.drained()).await;
        if by_themselves.is_err() {
            // Only what goes on until it is asked to end can be left.
            let seen = self.queue.snapshot();
            assert_eq!(seen.running, 1, "{seen:?}");
            self.queue.cancel();
            self.queue.drained().await;
        }
        if !self.queue.is_closed() {
            let ticket = self.queue.push(Do::Well).await.unwrap();
            assert_eq!(ticket.await, Ok(7), "the next item");
        }
        self.queue.drained().await;
        let seen = self.queue.snapshot();
        assert_eq!(
            (seen.waiting, seen.running, seen.producers),
            (0, 0, 0),
            "{seen:?}"
        );
        assert_eq!(seen.accepted, seen.settled(), "{seen:?}");
        assert_eq!(self.running.load(SeqCst), 0, "handlers");
        let report = self.queue.shutdown(MILLI).await;
        assert_eq!((report.still_running, report.returned.len()), (0, 0));
        let refused = self.queue.push(Do::Well).await.unwrap_err();
        assert_eq!(refused.reason, Refusal::ShutDown);
    }
}

type Acting = Pin<Box<dyn Future<Output = ()>>>;
type Actor = fn(Arc<Desk>) -> Acting;

const ACTORS: [(&str, Actor); 3] = [
    ("others push", |desk| {
        Box::pin(async move {
            let push = async {
                let push = desk.queue.push(Do::Well).priority(Priority::HIGH);
                if let Ok(ticket) = push.max_wait(50 * MILLI).await {
                    // What lingers in front of it may do so until the check.
                    let _ = tokio::time::timeout(50 * MILLI, ticket).await;
                }
            };
            let another = async {
                yield_now().await;
                drop(desk.queue.push(Do::Fail).max_wait(3 * MILLI).await);
            };
            futures_util::future::join(push, another).await;
        })
    }),
    ("items are cancelled and aborted", |desk| {
        Box::pin(async move {
            yield_now().await;
            if let Some(last) = desk.tickets.lock().unwrap().first() {
                let _ = desk.queue.take_back(last);
            }
            yield_now().await;
            desk.tickets.lock().unwrap().iter().for_each(Ticket::cancel);
            yield_now().await;
            desk.queue.abort();
        })
    }),
    ("it is shut down", |desk| {
        Box::pin(async move {
            yield_now().await;
            desk.queue.close();
            yield_now().await;
            let report = desk.queue.shutdown(3 * MILLI).await;
            assert_eq!(report.counts.waiting, 0);
        })
    }),
];

fn in_state<F, Fut, W>(
    all: &mut Vec<Trial>,
    name: &str,
    covers: &'static [&'static str],
    make: W,
    work: F,
) where
    W: AsyncFn() -> Desk + Copy + 'static,
    F: Fn(Arc<Desk>) -> Fut + Copy + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    for (meanwhile, actor) in ACTORS {
        let name = format!("queue: {name}; {meanwhile}");
        // The stream of outcomes goes on without the one who asked.
        let is_stream = covers.contains(&"queue::Outcomes");
        all.push(trial(name, covers, 1, move |lab| async move {
            let lab = lab.watch_waker(!is_stream);
            let check = async |desk: &Desk, _: &Point| desk.is_whole().await;
            lab.run_beside(make, work, actor, check).await
        }));
    }
}

const PUSH: &[&str] = &["queue::Push"];
const TICKET: &[&str] = &["queue::Ticket"];

async fn push(desk: Arc<Desk>) {
    match desk.queue.push(Do::Well).await {
        Ok(ticket) => {
            ticket.detach();
        }
        Err(rejected) => assert_eq!(rejected.item, Do::Well),
    }
}

async fn await_first(desk: Arc<Desk>) {
    if let Some(ticket) = desk.ticket() {
        let _ = ticket.await;
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    of_pushes(&mut all);
    of_tickets(&mut all);
    of_ends(&mut all);
    all
}

fn of_pushes(all: &mut Vec<Trial>) {
    in_state(
        all,
        "push: nothing in it",
        PUSH,
        async || Desk::with(&[], |b| b).await,
        push,
    );
    in_state(
        all,
        "push: room",
        PUSH,
        async || Desk::with(&[Do::Well], |b| b).await,
        push,
    );
    in_state(
        all,
        "push: full",
        PUSH,
        async || Desk::with(&[Do::Well; 3], |b| b).await,
        push,
    );
    in_state(
        all,
        "push: full, no more than 1 ms",
        PUSH,
        async || Desk::with(&[Do::Well; 3], |b| b.max_wait(MILLI)).await,
        push,
    );
    in_state(
        all,
        "push: full of what goes on",
        PUSH,
        async || Desk::with(&[Do::Linger; 3], |b| b).await,
        |desk| async move {
            drop(
                desk.queue
                    .push(Do::Fail)
                    .priority(Priority::LOW)
                    .max_wait(9 * MILLI)
                    .await,
            );
        },
    );
    in_state(
        all,
        "push: closed",
        PUSH,
        async || {
            let desk = Desk::with(&[Do::Well], |b| b).await;
            desk.queue.close();
            desk
        },
        push,
    );
    in_state(
        all,
        "push, then the outcome",
        &["queue::Push", "queue::Ticket"],
        async || Desk::with(&[Do::Well; 2], |b| b.ageing(MILLI)).await,
        |desk| async move {
            if let Ok(ticket) = desk.queue.push(Do::Well).await {
                let _ = ticket.await;
            }
        },
    );
}

fn of_tickets(all: &mut Vec<Trial>) {
    in_state(
        all,
        "ticket: it runs",
        TICKET,
        async || Desk::with(&[Do::Well], |b| b).await,
        await_first,
    );
    in_state(
        all,
        "ticket: it waits",
        TICKET,
        async || Desk::with(&[Do::Well; 3], |b| b).await,
        |desk| async move {
            let (first, second) = (desk.ticket(), desk.ticket());
            if let Some(first) = first {
                first.detach();
            }
            if let Some(ticket) = second {
                let _ = ticket.await;
            }
        },
    );
    in_state(
        all,
        "ticket: it fails",
        TICKET,
        async || Desk::with(&[Do::Fail], |b| b).await,
        await_first,
    );
    in_state(
        all,
        "ticket: it panics",
        TICKET,
        async || Desk::with(&[Do::Panic, Do::Well], |b| b).await,
        await_first,
    );
    in_state(
        all,
        "ticket: it is cancelled",
        TICKET,
        async || Desk::with(&[Do::Linger; 2], |b| b).await,
        |desk| async move {
            if let Some(ticket) = desk.ticket() {
                yield_now().await;
                ticket.cancel();
                let _ = ticket.await;
            }
        },
    );
    in_state(
        all,
        "ticket: it is aborted",
        TICKET,
        async || Desk::with(&[Do::Linger; 2], |b| b).await,
        |desk| async move {
            if let Some(ticket) = desk.ticket() {
                yield_now().await;
                ticket.abort();
                let _ = ticket.await;
            }
        },
    );
    in_state(
        all,
        "ticket: it is tried twice",
        TICKET,
        async || Desk::through_a_pipeline(&[Do::Fail, Do::Linger]).await,
        |desk| async move {
            await_first(Arc::clone(&desk)).await;
            await_first(desk).await;
        },
    );
}

fn of_ends(all: &mut Vec<Trial>) {
    in_state(
        all,
        "outcomes",
        &["queue::Outcomes::next", "queue::Outcomes"],
        async || {
            let desk = Desk::with(&[Do::Well, Do::Fail, Do::Well], |b| b.outcomes(1)).await;
            for ticket in desk.tickets.lock().unwrap().drain(..) {
                ticket.detach();
            }
            desk
        },
        |desk| async move {
            let mut outcomes = desk.outcomes.lock().await;
            let outcomes = outcomes.as_mut().unwrap();
            for _ in 0..3 {
                let told = tokio::time::timeout(100 * MILLI, outcomes.next()).await;
                drop(told);
            }
        },
    );
    in_state(
        all,
        "drained: nothing in it",
        &["queue::Drained"],
        async || Desk::with(&[], |b| b).await,
        |desk| async move { desk.queue.drained().await },
    );
    in_state(
        all,
        "drained: items in it",
        &["queue::Drained"],
        async || Desk::with(&[Do::Well, Do::Panic, Do::Fail], |b| b).await,
        |desk| async move { desk.queue.drained().await },
    );
    in_state(
        all,
        "drained, as a component: items in it",
        &["queue::Queue::drained"],
        async || Desk::with(&[Do::Well, Do::Panic, Do::Fail], |b| b).await,
        |desk| async move {
            Component::stop(&desk.queue);
            Component::drained(&desk.queue).await;
        },
    );
    in_state(
        all,
        "shutdown: in time",
        &["queue::Queue::shutdown"],
        async || Desk::with(&[Do::Well, Do::Fail], |b| b).await,
        |desk| async move {
            desk.queue.shutdown(100 * MILLI).await;
        },
    );
    in_state(
        all,
        "shutdown: too late",
        &["queue::Queue::shutdown"],
        async || Desk::with(&[Do::Well, Do::Linger, Do::Well], |b| b).await,
        |desk| async move {
            desk.queue.shutdown(5 * MILLI).await;
        },
    );
    in_state(
        all,
        "shutdown: through a pipeline",
        &["queue::Queue::shutdown"],
        async || Desk::through_a_pipeline(&[Do::Fail, Do::Well, Do::Linger]).await,
        |desk| async move {
            desk.queue.shutdown(6 * MILLI).await;
        },
    );
}

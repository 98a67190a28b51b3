//! The queue: each item has one outcome, room is conserved, items begin in their order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::queue::{Queue, QueueSnapshot};
use mainstay::{Error, Refusal};

use crate::stage::{
    Crowd, Failed, Stage, abort_one, below, check, cut, once_in, runtime_turns, turns,
};

const CAPACITY: usize = 2;
const WORKERS: usize = 2;
const PRODUCERS: usize = 3;
const ITEMS: usize = 2;

/// Producer and number.
type Item = (usize, usize);
type Jobs = Queue<Item, Item, Failed>;

#[derive(Default)]
struct Book {
    /// In order of their beginnings.
    begun: Mutex<Vec<Item>>,
    working: Arc<Crowd>,
    /// What producers know: by item, whether it was taken in.
    taken_in: Mutex<BTreeMap<Item, bool>>,
    heard: Mutex<Vec<Item>>,
}

impl Book {
    fn took(&self, item: Item, is_in: bool) {
        self.taken_in.lock().unwrap().insert(item, is_in);
    }

    fn hear(&self, item: Item) {
        self.heard.lock().unwrap().push(item);
    }
}

fn jobs(book: &Arc<Book>, outcomes: usize) -> Jobs {
    let book = Arc::clone(book);
    let handler = move |item: Item| {
        let book = Arc::clone(&book);
        async move {
            let _working = book.working.enter();
            book.begun.lock().unwrap().push(item);
            runtime_turns().await;
            if once_in(4) {
                return Err(Failed);
            }
            Ok(item)
        }
    };
    let mut builder = Queue::builder().workers(WORKERS).capacity(CAPACITY);
    if outcomes > 0 {
        builder = builder.outcomes(outcomes);
    }
    builder.build(handler).expect("a queue")
}

fn adds_up(s: &QueueSnapshot) {
    let there = (s.waiting + s.running) as u64;
    assert_eq!(s.accepted, there + s.settled(), "{s:?}");
    assert!(s.waiting <= CAPACITY, "{s:?}");
    assert!(s.workers <= WORKERS, "{s:?}");
}

/// One outcome for the item of a ticket, and its own.
fn has_outcome(item: Item, outcome: Result<Item, Error<Failed>>, book: &Book) {
    match outcome {
        Ok(of) => assert_eq!(of, item, "someone else's outcome"),
        Err(Error::Operation { .. } | Error::Cancelled { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    book.hear(item);
}

async fn producer(jobs: Jobs, book: Arc<Book>, me: usize, keeps_tickets: bool) {
    for number in 0..ITEMS {
        let item = (me, number);
        let mut push = jobs.push(item);
        let pushed = cut(&mut push).await;
        match pushed {
            None => {
                let back = push.into_item();
                assert_eq!(back, Some(item), "cut before it was in");
                book.took(item, false);
                continue;
            }
            Some(Err(rejected)) => {
                assert_eq!(rejected.reason, Refusal::ShutDown);
                assert_eq!(rejected.into_item(), item);
                book.took(item, false);
                continue;
            }
            Some(Ok(ticket)) => {
                book.took(item, true);
                adds_up(&jobs.snapshot());
                turns().await;
                match below(6) {
                    0 if keeps_tickets => ticket.cancel(),
                    1 if keeps_tickets => ticket.abort(),
                    2 if keeps_tickets => continue,
                    _ if !keeps_tickets => continue,
                    _ => {}
                }
                let mut ticket = ticket;
                let first = cut(&mut ticket).await;
                let outcome = match first {
                    Some(outcome) => outcome,
                    None => ticket.await,
                };
                has_outcome(item, outcome, &book);
            }
        }
    }
}

/// Items of one producer begin in the order in which they were pushed, none of them twice.
fn in_order(book: &Book) {
    let begun = book.begun.lock().unwrap();
    for producer in 0..PRODUCERS {
        let numbers: Vec<_> = begun
            .iter()
            .filter(|(of, _)| *of == producer)
            .map(|(_, number)| *number)
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{begun:?}");
    }
}

fn at_the_end(jobs: &Jobs, book: &Book) {
    let s = jobs.snapshot();
    adds_up(&s);
    assert_eq!((s.waiting, s.running, s.producers), (0, 0, 0), "{s:?}");
    assert_eq!(book.working.here(), 0, "an item lives on");
    assert!(book.working.most() <= WORKERS);
    let taken_in = book.taken_in.lock().unwrap();
    let known = taken_in.values().filter(|is_in| **is_in).count() as u64;
    // A producer that was aborted may not have told of its last one.
    assert!(s.accepted >= known && s.accepted <= known + 1, "{s:?}");
    let heard = book.heard.lock().unwrap();
    let mut unique = heard.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), heard.len(), "two outcomes: {heard:?}");
    for item in book.begun.lock().unwrap().iter() {
        assert_ne!(
            taken_in.get(item),
            Some(&false),
            "begun and not in: {item:?}"
        );
    }
}

/// All of the room is there: so many go in at once, and not one more.
fn has_all_its_room(jobs: &Jobs) {
    for number in 0..CAPACITY {
        let ticket = jobs.try_push((9, number)).expect("there is room");
        ticket.detach();
    }
    assert!(jobs.try_push((9, 9)).is_err(), "more room than there is");
}

async fn tickets(stage: Stage) {
    let book = Arc::new(Book::default());
    let jobs = jobs(&book, 0);
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|me| stage.actor(producer(jobs.clone(), Arc::clone(&book), me, true)))
        .collect();
    abort_one(&producers).await.expect("not aborted");
    for one in producers {
        let _ = one.await;
    }
    jobs.drained().await;
    in_order(&book);
    at_the_end(&jobs, &book);
    has_all_its_room(&jobs);
    jobs.drained().await;
    stage.until(|| jobs.snapshot().workers == 0).await;
}

/// Pushes that are given up, tickets that are awaited, dropped, cancelled and aborted. Fails where
/// a push that is dropped keeps the room it was promised.
#[test]
fn the_queue_gives_each_item_one_outcome() {
    check(tickets);
}

async fn shut_down(stage: Stage) {
    let book = Arc::new(Book::default());
    let jobs = jobs(&book, 0);
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|me| stage.actor(producer(jobs.clone(), Arc::clone(&book), me, true)))
        .collect();
    turns().await;
    let within = if once_in(2) {
        Duration::ZERO
    } else {
        Duration::from_millis(2)
    };
    let report = jobs.shutdown(within).await;
    assert_eq!(report.still_running, 0, "nothing blocks here");
    assert_eq!(report.counts.returned, report.returned.len() as u64);
    let refused = jobs
        .try_push((9, 9))
        .is_err_and(|r| r.reason == Refusal::ShutDown);
    assert!(refused, "taken in after the end");
    for one in producers {
        one.await.expect("not aborted");
    }
    at_the_end(&jobs, &book);
    assert_eq!(jobs.snapshot().accepted, report.counts.accepted);
}

/// Shut down while producers push: what was in has its outcome, what comes later comes back. Fails
/// where a close wakes no producer.
#[test]
fn the_queue_shuts_down_under_load() {
    check(shut_down);
}

async fn streamed(stage: Stage) {
    let book = Arc::new(Book::default());
    let jobs = jobs(&book, 1);
    let mut outcomes = jobs.outcomes().expect("asked for");
    let reader = stage.actor(async move {
        let mut ids = Vec::new();
        loop {
            match cut(outcomes.next()).await {
                Some(Some((id, _))) => ids.push(id),
                Some(None) => return ids,
                None => {}
            }
            turns().await;
        }
    });
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|me| stage.actor(producer(jobs.clone(), Arc::clone(&book), me, false)))
        .collect();
    for one in producers {
        one.await.expect("not aborted");
    }
    jobs.close();
    let mut ids = reader.await.expect("not aborted");
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an outcome came twice");
    assert_eq!(all as u64, jobs.snapshot().accepted, "an outcome is lost");
    at_the_end(&jobs, &book);
}

/// Nobody holds tickets: a stream with room for one tells of each of them once. Fails where no
/// worker is hired when an outcome was read.
#[test]
fn the_queue_streams_each_outcome_once() {
    check(streamed);
}

//! What a queue does, as its users see it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Wake};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_string());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Says when it is dropped.
struct Noted(Log, &'static str);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_run_at_once_and_all_are_done() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = (Arc::clone(&now), Arc::clone(&most));
    let queue = Queue::builder()
        .workers(3)
        .capacity(2)
        .build(move |millis: u64| {
            let (now, most) = seen.clone();
            async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                sleep(Duration::from_millis(millis)).await;
                now.fetch_sub(1, SeqCst);
                Ok::<_, String>(millis)
            }
        })
        .unwrap();
    for millis in 0..50 {
        queue.push(millis % 7).await.unwrap().detach();
    }
    queue.drained().await;
    assert_eq!((queue.snapshot().done, most.load(SeqCst)), (50, 3));
    assert_eq!(queue.snapshot().workers, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_important_goes_first_and_equals_keep_their_order() {
    let log = Log::default();
    let notes = log.clone();
    let queue = Queue::builder()
        .workers(1)
        .build(move |name: &'static str| {
            notes.note(name);
            async { Ok::<_, String>(()) }
        })
        .unwrap();
    for (name, priority) in [("c", 0), ("e", -1), ("a", 7), ("d", 0), ("b", 7)] {
        queue.push(name).priority(priority).await.unwrap().detach();
    }
    queue.try_push_at(Priority::LOW, "f").unwrap().detach();
    queue.drained().await;
    assert_eq!(log.take(), ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test(start_paused = true)]
async fn an_aged_item_overtakes_more_important_ones_that_came_later() {
    let log = Log::default();
    let notes = log.clone();
    let queue = Queue::builder()
        .workers(1)
        .ageing(SECOND)
        .build(move |name: &'static str| {
            notes.note(name);
            async {
                sleep(10 * SECOND).await;
                Ok::<_, String>(())
            }
        })
        .unwrap();
    queue.push("first").await.unwrap().detach();
    tokio::task::yield_now().await;
    queue.push("old").await.unwrap().detach();
    sleep(3 * SECOND).await;
    queue.push("urgent").priority(4).await.unwrap().detach();
    queue.push("high").priority(2).await.unwrap().detach();
    queue.drained().await;
    assert_eq!(log.take(), ["first", "urgent", "old", "high"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_comes_back_with_the_exact_reason() {
    let queue = Queue::builder()
        .workers(1)
        .capacity(1)
        .max_wait(2 * SECOND)
        .build(handler)
        .unwrap();
    let running = queue.push(Task::Never).await.unwrap();
    tokio::task::yield_now().await;
    let waiting = queue.try_push(Task::Never).unwrap();
    let full = queue.try_push(Task::Yield(1)).unwrap_err();
    assert_eq!(full.reason, Refusal::queue_full(Duration::ZERO));
    assert_eq!(full.into_item(), Task::Yield(1));
    let late = queue.push(Task::Yield(2)).await.unwrap_err();
    assert_eq!(late.reason, Refusal::queue_full(2 * SECOND));
    assert_eq!(late.to_string(), "queue is full: waited 2s");
    let sooner = queue
        .push(Task::Yield(2))
        .max_wait(SECOND)
        .await
        .unwrap_err();
    assert_eq!(sooner.reason, Refusal::queue_full(SECOND));
    let at_once = queue.push(Task::Yield(3)).max_wait(Duration::ZERO).await;
    assert_eq!(
        at_once.unwrap_err().reason,
        Refusal::queue_full(Duration::ZERO)
    );
    assert_eq!(queue.push(Task::Yield(4)).into_item(), Some(Task::Yield(4)));
    let mut waits = queue.push(Task::Yield(5));
    assert!(poll_once(&mut waits).await.is_pending());
    queue.close();
    let shut = waits.await.unwrap_err();
    assert_eq!(
        (shut.item, shut.reason),
        (Task::Yield(5), Refusal::ShutDown)
    );
    let shut = queue.try_push(Task::Yield(6)).unwrap_err();
    assert_eq!(
        shut.into_error::<String>(),
        Error::refused(Refusal::ShutDown)
    );
    let shut = queue.push(Task::Yield(6)).await.unwrap_err();
    assert_eq!(shut.reason, Refusal::ShutDown);
    assert!(!running.is_settled() && !waiting.is_settled());
    assert_eq!(queue.snapshot().accepted, 2);
}

/// Traps 76 and 84.
#[tokio::test(start_paused = true)]
async fn a_panic_is_its_items_outcome_and_the_workers_go_on() {
    let queue = tasks(1, 9);
    let todo = [
        Task::Panic,
        Task::PanicAtOnce,
        Task::Fail(0),
        Task::Yield(3),
    ];
    let tickets = todo.map(|task| queue.try_push(task).unwrap());
    let mut outcomes = Vec::new();
    for ticket in tickets {
        outcomes.push(ticket.await);
    }
    let texts = ["panicked: told to", "panicked: at once", "failed"];
    for (outcome, text) in outcomes.iter().zip(texts) {
        let error = outcome.as_ref().unwrap_err();
        assert_eq!((error.to_string().as_str(), error.attempts()), (text, 1));
    }
    assert_eq!(outcomes[3], Ok(3));
    let counts = queue.snapshot();
    assert_eq!((counts.panicked, counts.failed, counts.done), (2, 1, 1));
    works_on(&queue).await;
}

/// Trap 84: a session that cannot be made fails one command, and a producer who pauses for an hour
/// finds the queue at work.
#[tokio::test(start_paused = true)]
async fn a_worker_that_fails_to_begin_and_a_producer_that_pauses_strand_nothing() {
    let made = Arc::new(AtomicUsize::new(0));
    let queue = Queue::builder()
        .workers(2)
        .build(move |command: u32| {
            let nth = made.fetch_add(1, SeqCst);
            async move {
                if nth % 2 == 0 {
                    return Err("no session");
                }
                sleep(SECOND).await;
                Ok(command)
            }
        })
        .unwrap();
    let mut tickets = Vec::new();
    for command in 0..6 {
        tickets.push(queue.push(command).await.unwrap());
        if command % 2 == 1 {
            sleep(Duration::from_secs(3_600)).await;
        }
    }
    for (command, ticket) in (0..).zip(tickets) {
        let expected = if command % 2 == 0 {
            Err(Error::operation("no session"))
        } else {
            Ok(command)
        };
        let told = tokio::time::timeout(Duration::from_secs(86_400), ticket);
        assert_eq!(told.await.expect("it is stranded"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_finishes_what_it_can_in_time() {
    let queue = tasks(2, 9);
    for _ in 0..4 {
        queue.try_push(Task::Sleep(500)).unwrap().detach();
    }
    let start = time::now();
    let report = queue.shutdown(9 * SECOND).await;
    assert_eq!(time::now().since(start), SECOND);
    assert_eq!((report.counts.done, report.counts.closed), (4, true));
    assert!(report.returned.is_empty());
}

/// Trap 85.
#[tokio::test(start_paused = true)]
async fn shutdown_takes_no_longer_than_it_may_and_returns_what_had_not_begun() {
    let log = Log::default();
    let notes = log.clone();
    let queue = Queue::builder()
        .workers(1)
        .build(move |n: u32| {
            let held = Noted(notes.clone(), "running dropped");
            async move {
                let _held = held;
                sleep(100 * SECOND).await;
                Ok::<_, String>(n)
            }
        })
        .unwrap();
    let running = queue.push(1).await.unwrap();
    let low = queue.push(2).priority(-1).await.unwrap();
    queue.push(3).await.unwrap().detach();
    let start = time::now();
    let report = queue.shutdown(SECOND).await;
    assert_eq!(time::now().since(start), SECOND);
    assert_eq!(log.take(), ["running dropped"]);
    assert_eq!((report.returned, report.still_running), (vec![3, 2], 0));
    assert_eq!((report.counts.cancelled, report.counts.returned), (1, 2));
    assert_eq!(running.await.unwrap_err().attempts(), 1);
    assert_eq!(low.await.unwrap_err().attempts(), 0);
    let again = queue.shutdown(Duration::ZERO).await;
    assert_eq!(again.counts, queue.snapshot());
    assert!(again.returned.is_empty());
}

#[tokio::test(start_paused = true)]
async fn shutdown_at_once_and_shutdown_without_limit_both_end() {
    let queue = tasks(1, 9);
    let ticket = queue.push(Task::Never).await.unwrap();
    let report = queue.shutdown(Duration::ZERO).await;
    assert_eq!(report.returned, [Task::Never]);
    assert!(ticket.await.unwrap_err().is_cancelled());
    let queue = tasks(1, 9);
    let ticket = queue.push(Task::Sleep(9_999)).await.unwrap();
    let report = queue.shutdown(Duration::MAX).await;
    assert_eq!((report.counts.done, ticket.await), (1, Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_shuts_its_own_queue_down_does_not_hang() {
    type Own = Queue<(), (), String>;
    let own: Arc<Mutex<Option<Own>>> = Arc::default();
    let known = Arc::clone(&own);
    let queue = Queue::builder()
        .build(move |()| {
            let queue = known.lock().unwrap().clone().unwrap();
            async move {
                let report = queue.shutdown(SECOND).await;
                assert_eq!(report.still_running, 1);
                std::future::pending().await
            }
        })
        .unwrap();
    *own.lock().unwrap() = Some(queue.clone());
    let ticket = queue.push(()).await.unwrap();
    tokio::task::yield_now().await;
    own.lock().unwrap().take();
    assert!(ticket.await.unwrap_err().is_cancelled());
    assert!(queue.is_closed());
}

/// Aborted in the middle of a poll: dropped right after it, unless that poll was its last.
#[tokio::test(start_paused = true)]
async fn an_item_aborted_while_it_is_polled_is_dropped_after_that_poll() {
    type Own = Arc<Mutex<Option<Ticket<(), String>>>>;
    for ends in [false, true] {
        let (own, alive) = (Own::default(), Arc::new(()));
        let known = (Arc::clone(&own), Arc::clone(&alive));
        let queue = Queue::builder()
            .workers(1)
            .build(move |first: bool| {
                let (own, held) = known.clone();
                async move {
                    if first {
                        own.lock().unwrap().as_ref().unwrap().abort();
                    }
                    if first && !ends {
                        std::future::pending::<()>().await;
                    }
                    drop(held);
                    Ok(())
                }
            })
            .unwrap();
        *own.lock().unwrap() = Some(queue.push(true).await.unwrap());
        let second = queue.push(false).await.unwrap();
        assert_eq!(second.await, Ok(()));
        let first = own.lock().unwrap().take().unwrap();
        let outcome = first.await.map_err(|error| error.attempts());
        assert_eq!(outcome, if ends { Ok(()) } else { Err(1) });
        assert_eq!(Arc::strong_count(&alive), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn cancel_asks_those_who_can_be_asked_and_their_result_counts() {
    let queue = Queue::builder()
        .workers(1)
        .build_with(|n: u32, job| async move {
            assert_eq!((job.attempt().number(), job.id()), (1, u64::from(n)));
            assert!(!job.is_cancelled());
            job.token().cancelled().await;
            assert!(job.is_cancelled());
            sleep(SECOND).await;
            Ok::<_, String>(n)
        })
        .unwrap();
    let (first, second) = (queue.push(0).await.unwrap(), queue.push(1).await.unwrap());
    tokio::task::yield_now().await;
    first.cancel();
    second.cancel();
    assert_eq!(second.await, Err(Error::cancelled()));
    assert_eq!(first.await, Ok(0));
    let (third, fourth) = (queue.push(2).await.unwrap(), queue.push(3).await.unwrap());
    tokio::task::yield_now().await;
    queue.cancel();
    assert_eq!((third.await, fourth.await.is_err()), (Ok(2), true));
    let fifth = queue.push(4).await.unwrap();
    tokio::task::yield_now().await;
    queue.abort();
    assert_eq!(fifth.await.unwrap_err().attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn cancel_drops_those_who_cannot_be_asked() {
    let queue = tasks(1, 9);
    let (first, second) = (
        queue.push(Task::Never).await.unwrap(),
        queue.push(Task::Never).await.unwrap(),
    );
    tokio::task::yield_now().await;
    first.cancel();
    assert!(first.is_settled() && !second.is_settled());
    assert_eq!(first.await.unwrap_err().attempts(), 1);
    tokio::task::yield_now().await;
    queue.cancel();
    assert_eq!(second.await.unwrap_err().attempts(), 1);
    works_on(&queue).await;
}

#[tokio::test(start_paused = true)]
async fn an_item_that_waits_can_be_taken_back_once_and_only_from_its_own_queue() {
    let (queue, other) = (tasks(1, 9), tasks(1, 9));
    let tickets = [Task::Never, Task::Yield(1)].map(|task| queue.try_push(task).unwrap());
    let strange = [Task::Never, Task::Yield(2)].map(|task| other.try_push(task).unwrap());
    tokio::task::yield_now().await;
    assert_eq!(queue.take_back(&tickets[0]), None);
    assert_eq!(queue.take_back(&strange[1]), None);
    assert_eq!(queue.take_back(&tickets[1]), Some(Task::Yield(1)));
    assert_eq!(queue.take_back(&tickets[1]), None);
    let [first, second] = tickets;
    assert_eq!(second.await, Err(Error::cancelled()));
    first.abort();
    assert_eq!(
        (queue.snapshot().returned, queue.snapshot().cancelled),
        (1, 1)
    );
    works_on(&queue).await;
}

/// Trap 80.
#[tokio::test(start_paused = true)]
async fn when_the_last_handle_is_gone_everything_is_cancelled() {
    let log = Log::default();
    let notes = log.clone();
    let queue = Queue::builder()
        .workers(1)
        .build(move |item: Noted| {
            let held = Noted(notes.clone(), "future");
            async move {
                let _held = (item, held);
                std::future::pending::<Result<(), String>>().await
            }
        })
        .unwrap();
    for name in ["running", "waiting"] {
        queue.push(Noted(log.clone(), name)).await.unwrap().detach();
    }
    tokio::task::yield_now().await;
    assert_eq!(log.take(), Vec::<String>::new());
    drop(queue);
    assert_eq!(log.take(), ["waiting", "running", "future"]);
}

/// Trap 80.
#[tokio::test(start_paused = true)]
async fn a_ticket_or_the_stream_keeps_the_work_going_but_nothing_new_can_come() {
    let queue = tasks(1, 9);
    let tickets = [Task::Sleep(10), Task::Yield(2)].map(|task| queue.try_push(task).unwrap());
    drop(queue);
    let [first, second] = tickets;
    assert_eq!((first.await, second.await), (Ok(0), Ok(2)));

    let queue = Queue::builder()
        .workers(1)
        .outcomes(1)
        .build(handler)
        .unwrap();
    let mut outcomes = queue.outcomes().unwrap();
    for turns in 0..5 {
        queue.push(Task::Yield(turns)).await.unwrap().detach();
    }
    drop(queue);
    let mut all = Vec::new();
    while let Some((id, outcome)) = outcomes.next().await {
        all.push((id, outcome.unwrap()));
    }
    assert_eq!(all, [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
    assert!(outcomes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_holds_the_queue_up_at_its_bound() {
    let queue = Queue::builder()
        .workers(3)
        .outcomes(2)
        .build(handler)
        .unwrap();
    for _ in 0..9 {
        queue.push(Task::Yield(0)).await.unwrap().detach();
    }
    sleep(SECOND).await;
    let counts = queue.snapshot();
    assert_eq!((counts.done, counts.waiting, counts.workers), (2, 7, 0));
    let mut outcomes = queue.outcomes().unwrap();
    assert!(queue.outcomes().is_none());
    assert_eq!(outcomes.next().await.unwrap().0, 0);
    sleep(SECOND).await;
    assert_eq!(queue.snapshot().done, 3);
    drop(outcomes);
    sleep(SECOND).await;
    assert_eq!(queue.snapshot().done, 9);
    assert!(tasks(1, 1).outcomes().is_none());
}

/// The first to learn of a worker's receipt is the producer who waits: its waker aborts
/// the item between receipt and begin.
#[tokio::test(start_paused = true)]
async fn an_item_aborted_between_receive_and_begin_never_begins() {
    struct Aborts(Mutex<Option<Ticket<u32, String>>>);
    impl Wake for Aborts {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().as_ref().unwrap().abort();
        }
    }
    let queue = tasks(1, 1);
    let ticket = queue.try_push(Task::Yield(1)).unwrap();
    let aborts = Arc::new(Aborts(Mutex::new(Some(ticket))));
    let waker = Waker::from(Arc::clone(&aborts));
    let mut push = queue.push(Task::Yield(2));
    let poll = std::pin::Pin::new(&mut push).poll(&mut Context::from_waker(&waker));
    assert!(poll.is_pending());
    tokio::task::yield_now().await;
    let ticket = aborts.0.lock().unwrap().take().unwrap();
    assert_eq!(ticket.await, Err(Error::cancelled()));
    assert_eq!(push.await.unwrap().await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn the_stream_has_what_was_cancelled_and_ends_when_a_closed_queue_is_empty() {
    let queue = Queue::builder()
        .workers(1)
        .outcomes(1)
        .build(handler)
        .unwrap();
    let mut outcomes = queue.outcomes().unwrap();
    let held = queue.push(Task::Yield(1)).await.unwrap();
    for _ in 0..3 {
        queue.push(Task::Never).await.unwrap().detach();
    }
    held.await.unwrap();
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some((id, outcome)) = outcomes.next().await {
            all.push((id, outcome.unwrap_err().attempts()));
        }
        all
    });
    sleep(SECOND).await;
    queue.abort();
    queue.close();
    assert_eq!(reader.await.unwrap(), [(2, 0), (3, 0), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn each_item_has_the_retries_and_time_limits_of_the_pipeline_for_itself() {
    let pipeline = crate::Pipeline::builder("items")
        .retry(crate::Retry::builder().max_attempts(3))
        .timeout(SECOND)
        .build()
        .unwrap();
    let queue = Queue::builder()
        .workers(9)
        .through(&pipeline)
        .build_with(|task: Task, job| async move {
            match (task, job.attempt().number()) {
                (Task::Fail(until), attempt) if attempt <= until => Err(format!("try {attempt}")),
                (Task::Panic, 2) => panic!("in the second"),
                (Task::Panic, _) => Err(String::from("first")),
                (Task::Sleep(_), _) => std::future::pending().await,
                (_, attempt) => Ok(attempt),
            }
        })
        .unwrap();
    let todo = [
        Task::Fail(2),
        Task::Fail(9),
        Task::Panic,
        Task::Sleep(1),
        Task::Yield(0),
    ];
    let [twice, never, panics, hangs, fine] = todo.map(|task| queue.try_push(task).unwrap());
    let held = queue.try_push(Task::Sleep(2)).unwrap();
    assert_eq!((fine.await, twice.await), (Ok(1), Ok(3)));
    let error = never.await.unwrap_err();
    assert_eq!(
        (error.attempts(), error.last().unwrap().as_str()),
        (3, "try 3")
    );
    let error = panics.await.unwrap_err();
    assert_eq!((error.is_panicked(), error.attempts()), (true, 2));
    sleep(Duration::from_millis(500)).await;
    held.abort();
    let error = held.await.unwrap_err();
    assert_eq!((error.is_cancelled(), error.attempts()), (true, 1));
    let error = hangs.await.unwrap_err();
    assert_eq!((error.is_timed_out(), error.attempts()), (true, 3));
    let counts = queue.snapshot();
    assert_eq!(
        (counts.timed_out, counts.given_up(), counts.done),
        (1, 1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_pipeline_is_an_outcome_and_counted() {
    let bulkhead = crate::Bulkhead::builder().max_concurrent(1).max_queue(0);
    let pipeline = crate::Pipeline::builder("one")
        .bulkhead(bulkhead)
        .build()
        .unwrap();
    let queue = Queue::builder()
        .through(pipeline.erase())
        .build(handler)
        .unwrap();
    let first = queue.push(Task::Sleep(1)).await.unwrap();
    let second = queue.push(Task::Sleep(1)).await.unwrap();
    let refusal = second.await.unwrap_err();
    assert!(matches!(
        refusal.refusal(),
        Some(Refusal::BulkheadFull { .. })
    ));
    assert_eq!(refusal.attempts(), 0);
    assert_eq!(first.await, Ok(0));
    assert_eq!(
        (queue.snapshot().refused, queue.snapshot().given_up()),
        (1, 1)
    );
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn progress_is_told_after_each_outcome_and_a_panic_in_it_does_no_harm() {
    let told: Arc<Mutex<Vec<QueueSnapshot>>> = Arc::default();
    let keep = Arc::clone(&told);
    let queue = Queue::builder()
        .workers(1)
        .on_progress(move |counts| {
            keep.lock().unwrap().push(counts);
            panic!("a bar that breaks");
        })
        .build(handler)
        .unwrap();
    for task in [
        Task::Yield(1),
        Task::Fail(1),
        Task::Panic,
        Task::Never,
        Task::Never,
    ] {
        queue.push(task).await.unwrap().detach();
    }
    sleep(SECOND).await;
    queue.abort();
    let told = std::mem::take(
        &mut *told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    );
    let settled: Vec<_> = told.iter().map(QueueSnapshot::settled).collect();
    assert_eq!(settled, [1, 2, 3, 4, 5]);
    told.iter().for_each(adds_up);
    assert_eq!(
        told.last(),
        Some(&QueueSnapshot {
            workers: 1,
            ..queue.snapshot()
        })
    );
    works_on(&queue).await;
}

type Looked = Queue<Option<Arc<Nosy>>, Option<Arc<Nosy>>, String>;

/// A waker and a value that look at the queue whenever anything happens to them.
struct Nosy {
    queue: Mutex<Option<Looked>>,
    looks: AtomicUsize,
    panics: bool,
}

impl Nosy {
    fn look(&self) {
        // Taken out for the time: another look may be under way, below this on the stack.
        let queue = self.queue.lock().unwrap().take();
        if let Some(queue) = queue {
            adds_up(&queue.snapshot());
            drop(queue.try_push(None));
            self.looks.fetch_add(1, SeqCst);
            *self.queue.lock().unwrap() = Some(queue);
        }
        assert!(!self.panics, "nosy");
    }
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.look();
    }
}

/// Traps 76 and 77: wakers and destructors run without a lock, and may panic.
#[tokio::test(start_paused = true)]
async fn wakers_and_destructors_may_use_the_queue_and_may_panic() {
    for panics in [false, true] {
        let queue = Queue::builder()
            .workers(1)
            .capacity(2)
            .build(|item: Option<Arc<Nosy>>| async move {
                tokio::task::yield_now().await;
                Ok::<_, String>(item)
            })
            .unwrap();
        let nosy = || {
            Arc::new(Nosy {
                queue: Mutex::new(Some(queue.clone())),
                looks: AtomicUsize::new(0),
                panics,
            })
        };
        let (eye, item) = (nosy(), nosy());
        let waker = Waker::from(Arc::clone(&eye));
        let cx = &mut Context::from_waker(&waker);
        let mut ticket = queue.try_push(Some(item)).unwrap();
        let mut second = queue.try_push(None).unwrap();
        let mut push = queue.push(None);
        let mut drained = queue.drained();
        assert!(std::pin::Pin::new(&mut ticket).poll(cx).is_pending());
        assert!(std::pin::Pin::new(&mut second).poll(cx).is_pending());
        assert!(std::pin::Pin::new(&mut push).poll(cx).is_pending());
        assert!(std::pin::Pin::new(&mut drained).poll(cx).is_pending());
        sleep(SECOND).await;
        assert!(eye.looks.load(SeqCst) >= 3, "{:?}", eye.looks);
        let dropped = crate::panics::caught(move || drop(ticket));
        assert_eq!(dropped.is_err(), panics);
        drop((second, drained, push));
        // An item that is dropped by the queue, unbegun and begun.
        let unbegun = nosy();
        queue.push(Some(unbegun)).await.unwrap().detach();
        queue.abort();
        queue.push(Some(nosy())).await.unwrap().detach();
        queue.drained().await;
        adds_up(&queue.snapshot());
        let ticket = queue.push(None).await.unwrap();
        assert!(ticket.await.unwrap().is_none());
        *eye.queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        drop(crate::panics::caught(move || drop((waker, eye))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_that_panics_when_it_is_dropped_harms_nobody_else() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    let queue = Queue::builder()
        .workers(1)
        .build(|hang: bool| {
            let bomb = Bomb;
            // Dropped with the future, not at its end.
            let mut kept = Some(bomb);
            poll_fn(move |_| {
                assert!(kept.as_mut().is_some());
                if hang {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok::<_, String>(7))
                }
            })
        })
        .unwrap();
    let (fine, hangs) = (
        queue.push(false).await.unwrap(),
        queue.push(true).await.unwrap(),
    );
    assert!(fine.await.unwrap_err().is_panicked());
    tokio::task::yield_now().await;
    hangs.abort();
    let error = hangs.await.unwrap_err();
    assert_eq!((error.is_cancelled(), error.attempts()), (true, 1));
    let ticket = queue.push(false).await.unwrap();
    assert!(ticket.await.unwrap_err().is_panicked());
    assert_eq!(queue.snapshot().panicked, 2);
}

/// A handler that is always ready leaves the others their turn.
#[tokio::test(start_paused = true)]
async fn a_busy_worker_lets_other_tasks_run() {
    let queue = tasks(1, 10_000);
    for _ in 0..10_000 {
        queue.try_push(Task::Yield(0)).unwrap().detach();
    }
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let counts = queue.snapshot();
    assert!(counts.done > 0 && counts.waiting > 1_000, "{counts:?}");
    queue.drained().await;
}

#[test]
fn settings_out_of_range_are_refused_and_huge_ones_are_fine() {
    let error = |builder: QueueBuilder| builder.build(handler).unwrap_err().to_string();
    let builder = Queue::builder;
    assert_eq!(
        error(builder().workers(0)),
        "workers is 0, but must be at least 1"
    );
    assert_eq!(
        error(builder().capacity(0)),
        "capacity is 0, but must be at least 1"
    );
    assert_eq!(
        error(builder().outcomes(0)),
        "outcomes is 0, but must be at least 1"
    );
    assert_eq!(
        error(builder().ageing(Duration::ZERO)),
        "ageing is 0ns, but must be longer than nothing"
    );
    let huge = builder()
        .workers(usize::MAX)
        .capacity(usize::MAX)
        .outcomes(usize::MAX)
        .ageing(Duration::MAX)
        .max_wait(Duration::MAX);
    assert!(format!("{huge:?}").contains("workers"));
    let queue = huge.build(handler).unwrap();
    let ticket = queue.try_push_at(i32::MAX, Task::Yield(0)).unwrap();
    assert_eq!(ticket.id(), 0);
    assert_eq!(
        format!("{ticket:?}"),
        "Ticket { id: 0, settled: false, .. }"
    );
    assert!(format!("{queue:?}{:?}", queue.push(Task::Never)).contains("waiting: 1"));
    assert!(format!("{:?}{:?}", queue.drained(), queue.outcomes()).contains("Drained"));
}

#[tokio::test(start_paused = true)]
async fn every_future_can_be_spawned() {
    let queue = tasks(1, 1);
    let push = queue.push(Task::Yield(1));
    let ticket = tokio::spawn(push).await.unwrap().unwrap();
    assert_eq!(tokio::spawn(ticket).await.unwrap(), Ok(1));
    tokio::spawn(queue.drained()).await.unwrap();
    let shut = queue.clone();
    let report = tokio::spawn(async move { shut.shutdown(SECOND).await })
        .await
        .unwrap();
    assert_eq!(report.counts.done, 1);
    let queue = Queue::builder().outcomes(1).build(handler).unwrap();
    let mut outcomes = queue.outcomes().unwrap();
    drop(queue);
    assert!(
        tokio::spawn(async move { outcomes.next().await })
            .await
            .unwrap()
            .is_none()
    );
}

//! What is let go, when, and what order users see.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::task::Wake;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<String>>>;

/// Writes down that it was woken.
struct Bell(Log, &'static str);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.lock().unwrap().push(self.1.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_before_anyone_is_woken_by_it() {
    let log = Log::default();
    let told = Arc::clone(&log);
    let queue = Queue::builder()
        .workers(1)
        .outcomes(9)
        .on_progress(move |counts| {
            let line = format!("{} settled", counts.settled());
            told.lock().unwrap().push(line);
        })
        .build(handler)
        .unwrap();
    let mut outcomes = queue.outcomes().unwrap();
    let mut ticket = queue.try_push(Task::Yield(0)).unwrap();
    let mut drained = queue.drained();
    let poll = |what: &mut (dyn Future<Output = ()> + Unpin), name| {
        let waker = Waker::from(Arc::new(Bell(Arc::clone(&log), name)));
        let polled = std::pin::Pin::new(what).poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
    };
    poll(&mut Box::pin(async { drop((&mut ticket).await) }), "ticket");
    poll(&mut drained, "drained");
    tokio::task::yield_now().await;
    let seen = std::mem::take(&mut *log.lock().unwrap());
    assert_eq!(seen, ["1 settled", "ticket", "drained"]);

    // An item that waits, taken back and emptied; and the stream.
    for all in [false, true] {
        let held = queue.try_push(Task::Never).unwrap();
        let mut drained = queue.drained();
        poll(&mut drained, "drained");
        if all {
            held.detach();
            while poll_once(&mut Box::pin(outcomes.next())).await.is_ready() {}
            poll(
                &mut Box::pin(async { drop(outcomes.next().await) }),
                "stream",
            );
            drop(queue.take_waiting());
        } else {
            drop(queue.take_back(&held));
        }
        let seen = std::mem::take(&mut *log.lock().unwrap());
        assert!(seen[0].ends_with("settled") && seen.len() > 1, "{seen:?}");
    }
}

/// Traps 80 and 85.
#[tokio::test(start_paused = true)]
async fn a_handler_and_a_callback_that_hold_their_own_queue_are_freed_once_it_is_closed_and_done() {
    for through in [false, true] {
        let own: Arc<OnceLock<Queue<u32, u32, String>>> = Arc::default();
        let life = Arc::new(());
        let known = (Arc::clone(&own), Arc::clone(&life));
        let handler = move |n: u32| {
            let (own, _life) = known.clone();
            async move {
                if let (Some(queue), true) = (own.get(), n > 0) {
                    drop(queue.try_push(n - 1));
                }
                Ok(n)
            }
        };
        let known = (Arc::clone(&own), Arc::clone(&life));
        let builder = Queue::builder().on_progress(move |counts| {
            let (own, _life) = &known;
            assert!(own.get().unwrap().snapshot().settled() >= counts.settled());
        });
        let queue = if through {
            let pipeline = crate::Pipeline::builder("own").build().unwrap();
            builder.through(pipeline).build(handler).unwrap()
        } else {
            builder.build(handler).unwrap()
        };
        own.set(queue.clone()).unwrap();
        drop(own);
        queue.push(3).await.unwrap().detach();
        queue.drained().await;
        assert_eq!((queue.snapshot().done, Arc::strong_count(&life)), (4, 3));
        queue.push(0).await.unwrap().detach();
        queue.close();
        assert_eq!(Arc::strong_count(&life), 3);
        queue.drained().await;
        assert_eq!((queue.snapshot().done, Arc::strong_count(&life)), (5, 1));
        let weak = Arc::downgrade(queue.shared());
        drop(queue);
        tokio::task::yield_now().await;
        assert!(weak.upgrade().is_none());
    }
}

/// Trap 80: a worker's task is as large as what it works on.
#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_kept_does_not_keep_the_task_of_its_worker() {
    struct Counted(AtomicUsize);
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    let queue = std::thread::scope(|scope| scope.spawn(|| tasks(1, 9)).join().unwrap());
    let (ends, aborted) = std::thread::scope(|scope| {
        let push = || [2, 9].map(|n| queue.try_push(Task::Yield(n)).unwrap());
        let [ends, aborted] = scope.spawn(push).join().unwrap();
        (ends, aborted)
    });
    let shared = queue.shared();
    assert!(shared.inner.lock().state.hire(true));
    let hired = super::super::home::Hired::default();
    let mut worker = super::super::worker::Worker::new(Arc::clone(shared), hired);
    let waker = Arc::new(Counted(AtomicUsize::new(0)));
    let task = Waker::from(Arc::clone(&waker));
    let mut step = || {
        let cx = &mut std::task::Context::from_waker(&task);
        std::pin::Pin::new(&mut worker).poll(cx)
    };
    assert!(step().is_pending());
    assert!(Arc::strong_count(&waker) > 2);
    while !ends.is_settled() {
        assert!(step().is_pending());
    }
    aborted.abort();
    assert!(step().is_ready());
    drop(worker);
    assert_eq!(waker.0.load(SeqCst), 0);
    drop(task);
    tokio::task::yield_now().await; // the runtime lets those go that yielded
    assert_eq!(Arc::strong_count(&waker), 1);
    assert!(ends.is_settled() && aborted.is_settled());
}

/// The handler's future is the larger part of an item: it is kept once.
#[test]
fn a_running_item_takes_the_place_of_its_handlers_future_once() {
    let cell = || Arc::new(super::super::cell::Cell::new(first_rank(), None));
    let large = |n: u8| async move {
        let kept = [n; 10_000];
        tokio::task::yield_now().await;
        Ok::<_, String>(kept[usize::from(n)])
    };
    let size = size_of_val(&large(1));
    let start = super::super::start::once(large);
    let future = start(1, &cell());
    let held = size_of_val(&*future);
    assert!(held < size + 100, "{held} bytes for {size}");
}

fn first_rank() -> super::super::state::Rank {
    let mut rank = None;
    let mut state = super::super::state::State::<(), (), ()>::new(super::super::state::Limits {
        capacity: 1,
        workers: 1,
        ageing: None,
    });
    let arrival = Arrival {
        priority: 0,
        now: Instant::NEVER,
        may_wait: false,
    };
    state.enter(&mut None, arrival, &mut None, |given| {
        rank = Some(given);
        ((), ())
    });
    rank.unwrap()
}

/// Trap 85: the callback is slow, and called once for all that a shutdown ends.
#[tokio::test(start_paused = true)]
async fn what_is_ended_together_is_told_of_once() {
    for way in 0..4 {
        let told: Arc<Mutex<Vec<u64>>> = Arc::default();
        let keep = Arc::clone(&told);
        let queue = Queue::builder()
            .workers(20)
            .on_progress(move |counts| keep.lock().unwrap().push(counts.settled()))
            .build(handler)
            .unwrap();
        let mut tickets = Vec::new();
        for _ in 0..20 {
            tickets.push(queue.push(Task::Never).await.unwrap());
        }
        sleep(SECOND).await;
        match way {
            0 => queue.abort(),
            1 => queue.cancel(),
            2 => assert_eq!(queue.shutdown(SECOND).await.counts.cancelled, 20),
            _ => {
                let shared = Arc::clone(queue.shared());
                tickets.clear();
                drop(queue);
                assert_eq!(shared.inner.lock().state.snapshot().cancelled, 20);
            }
        }
        assert_eq!(*told.lock().unwrap(), [20], "way {way}");
        for ticket in tickets {
            assert_eq!(ticket.await.unwrap_err().attempts(), 1);
        }
    }
}

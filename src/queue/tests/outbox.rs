//! The bound of the stream of outcomes.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn streaming(workers: usize, capacity: usize, bound: usize) -> Tasks {
    Queue::builder()
        .workers(workers)
        .capacity(capacity)
        .outcomes(bound)
        .build(handler)
        .unwrap()
}

/// Trap 81.
#[tokio::test(start_paused = true)]
async fn unread_outcomes_of_what_never_began_take_up_places_in_the_line() {
    let queue = streaming(1, 16, 2);
    let mut outcomes = queue.outcomes().unwrap();
    let mut taken = 0;
    while let Ok(ticket) = queue.try_push(Task::Never) {
        ticket.detach();
        queue.cancel();
        taken += 1;
        assert!(taken < 1_000, "without limit");
    }
    assert_eq!(taken, 16 + 2);
    // Who waits for room gets it from the reader.
    let mut push = queue.push(Task::Never);
    assert!(poll_once(&mut push).await.is_pending());
    assert!(outcomes.next().await.is_some());
    push.await.unwrap().detach();
    assert!(queue.try_push(Task::Never).is_err());
    let mut push = queue.push(Task::Never);
    assert!(poll_once(&mut push).await.is_pending());
    drop(outcomes);
    push.await.unwrap().detach();
    adds_up(&queue.snapshot());
    queue.abort();
    works_on(&queue).await;
}

#[tokio::test(start_paused = true)]
async fn a_small_bound_makes_fewer_outcomes_wait_and_not_fewer_items_run() {
    let queue = streaming(8, 64, 1);
    let mut outcomes = queue.outcomes().unwrap();
    let mut tickets = Vec::new();
    for _ in 0..16 {
        tickets.push(queue.push(Task::Sleep(1_000)).await.unwrap());
    }
    sleep(SECOND / 2).await;
    assert_eq!(queue.snapshot().running, 8);
    sleep(SECOND).await;
    assert_eq!(queue.snapshot().running, 8);
    drop(tickets);
    // The first eight outcomes are in the stream now: nothing more begins.
    sleep(SECOND).await;
    queue.push(Task::Never).await.unwrap().detach();
    sleep(SECOND).await;
    let counts = queue.snapshot();
    assert_eq!((counts.done, counts.running, counts.waiting), (16, 0, 1));
    for _ in 0..16 {
        assert!(outcomes.next().await.unwrap().1.is_ok());
    }
    sleep(SECOND).await;
    assert_eq!(queue.snapshot().running, 1);
}

/// Nothing begins while the stream is full; what runs by then comes on top.
#[tokio::test(start_paused = true)]
async fn the_stream_keeps_its_bound_and_what_ran_when_it_was_reached() {
    let queue = streaming(4, 64, 2);
    for _ in 0..9 {
        queue.push(Task::Sleep(9)).await.unwrap().detach();
        sleep(Duration::from_millis(1)).await;
    }
    sleep(SECOND).await;
    let counts = queue.snapshot();
    assert_eq!((counts.done, counts.waiting), (2 + 3, 4));
    let mut outcomes = queue.outcomes().unwrap();
    for _ in 0..4 {
        assert!(outcomes.next().await.is_some());
    }
    sleep(SECOND).await;
    assert!(queue.snapshot().done > 5);
}

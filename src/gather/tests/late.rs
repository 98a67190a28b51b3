//! Time limits that the runtime's timer tells of too late: its thread is kept busy.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::time::now;

/// Keeps the thread busy: time passes, and no timer is turned.
fn block(span: Duration) {
    let mut advance = pin!(tokio::time::advance(span));
    let _ = advance
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
}

async fn busy(n: u32) -> Plain {
    block(MS);
    Ok(n)
}

/// Keeps the thread busy as often as it is polled, and asks to be polled again.
fn never_done() -> impl Future<Output = Plain> {
    std::future::poll_fn(|cx| {
        block(MS);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// A gather looks at the clock once in 16 polls and starts.
fn is_soon_after(begin: crate::time::Instant, limit: Duration) -> bool {
    (limit..=limit + 20 * MS).contains(&now().since(begin))
}

/// Trap 58.
#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_items_that_keep_the_thread_busy() {
    for limit in [1, 8, 500] {
        let begin = now();
        let task = async move {
            gather((0..4_000).map(busy))
                .limit(limit)
                .deadline(20 * MS)
                .await
        };
        let gathered = tokio::spawn(task).await.unwrap();
        assert!(!gathered.is_complete());
        assert!((20..40).contains(&gathered.len()), "{}", gathered.len());
        assert!(is_soon_after(begin, 20 * MS), "{:?}", now().since(begin));
    }
}

/// Trap 58.
#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_items_that_wake_themselves() {
    let begin = now();
    let items = (0..8).map(|_| never_done());
    let task = async move { gather(items).deadline(20 * MS).await };
    let gathered = tokio::spawn(task).await.unwrap();
    assert!(gathered.failures().all(|(_, error)| error.is_timed_out()));
    assert_eq!((gathered.len(), gathered.is_complete()), (8, false));
    assert!(is_soon_after(begin, 20 * MS), "{:?}", now().since(begin));
}

/// Trap 58.
#[tokio::test(start_paused = true)]
async fn an_items_time_is_up_also_while_others_keep_the_thread_busy() {
    let begin = now();
    let slow = gather([never_done()]).timeout(20 * MS);
    let task = async move { slow.as_finished().next().await };
    let (_, outcome) = tokio::spawn(task).await.unwrap().unwrap();
    assert!(outcome.unwrap_err().is_timed_out());
    assert!(is_soon_after(begin, 20 * MS), "{:?}", now().since(begin));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_a_consumer_that_keeps_the_thread_busy() {
    let begin = now();
    let items = (0..4_000).map(|n| std::future::ready(Plain::Ok(n)));
    let task = async move {
        let mut all = gather(items).deadline(20 * MS).as_finished();
        let mut seen = 0;
        while all.next().await.is_some() {
            block(MS);
            seen += 1;
        }
        (seen, all.is_complete())
    };
    let (seen, complete) = tokio::spawn(task).await.unwrap();
    assert_eq!((seen, complete), (20, false));
    assert!(is_soon_after(begin, 20 * MS), "{:?}", now().since(begin));
}

/// The runtime is given a turn before anything is cut: a reply that has come while the thread
/// was busy is there, though nobody has told of it yet.
#[tokio::test(start_paused = true)]
async fn what_has_come_in_time_counts_after_a_consumer_kept_the_thread_busy() {
    for each in [false, true] {
        let task = async move {
            let all = gather([2, 1, 5, 900].map(|n| after(n * MS, Ok(n))));
            let all = if each {
                all.timeout(100 * MS)
            } else {
                all.deadline(100 * MS)
            };
            let mut all = all.as_finished();
            assert_eq!(all.next().await, Some((1, Ok(1))));
            block(SECOND / 2);
            let mut ends = Vec::new();
            while let Some((index, outcome)) = all.next().await {
                ends.push((index, outcome.is_ok()));
            }
            ends.sort_unstable();
            assert_eq!(ends, [(0, true), (2, true), (3, false)]);
        };
        tokio::spawn(task).await.unwrap();
    }
}

/// Only what was found late is cut, not what has become due while the runtime had its turn.
#[tokio::test(start_paused = true)]
async fn who_becomes_due_while_another_is_found_late_gets_a_turn_as_well() {
    let begin = now();
    // In the very turn that the runtime is given for the first item, it is kept busy again.
    tokio::spawn(async move {
        crate::testing::sleep(100 * MS).await;
        block(begin.saturating_add(180 * MS).since(now()));
    });
    let task = async move {
        // The first is due at 100; the third starts at 40, is due at 140, and there at 120.
        let items = [900, 40, 120].map(|ms| async move {
            crate::testing::sleep(begin.saturating_add(ms * MS).since(now())).await;
            Ok::<_, &str>(ms)
        });
        let all = gather(items).limit(2).timeout(100 * MS);
        let mut all = all.as_finished();
        assert_eq!(all.next().await, Some((1, Ok(40))));
        tokio::select! {
            biased;
            _ = all.next() => panic!("nothing ends so early"),
            () = crate::testing::sleep(40 * MS) => block(35 * MS),
        }
        let mut ends = Vec::new();
        while let Some((index, outcome)) = all.next().await {
            ends.push((index, outcome.is_ok()));
        }
        ends.sort_unstable();
        assert_eq!(ends, [(0, false), (2, true)]);
    };
    tokio::spawn(task).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_items_time_begins_before_its_first_poll() {
    let item = || async {
        block(100 * MS);
        after(100 * MS, Ok(1)).await
    };
    let begin = now();
    let gathered = gather([item()]).timeout(150 * MS).await;
    assert!(gathered.failures().all(|(_, error)| error.is_timed_out()));
    assert_eq!((gathered.len(), now().since(begin)), (1, 150 * MS));
    let gathered = gather([item()]).timeout(250 * MS).await;
    assert!(gathered.successes().eq(&[1]));
}

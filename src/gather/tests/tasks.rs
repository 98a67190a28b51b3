//! Items in tasks of their own, and a gather in one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::testing::{catch_panic, drop_at_every_poll};
use crate::time::now;

/// As `Alive`, for several threads.
#[derive(Clone, Debug, Default)]
struct Tasks(Arc<[AtomicU32; 3]>);

struct InTask(Tasks);

impl Tasks {
    fn guard(&self) -> InTask {
        let now = self.0[0].fetch_add(1, Ordering::SeqCst) + 1;
        self.0[1].fetch_max(now, Ordering::SeqCst);
        self.0[2].fetch_add(1, Ordering::SeqCst);
        InTask(self.clone())
    }

    fn now(&self) -> u32 {
        self.0[0].load(Ordering::SeqCst)
    }

    fn most(&self) -> u32 {
        self.0[1].load(Ordering::SeqCst)
    }

    fn ever(&self) -> u32 {
        self.0[2].load(Ordering::SeqCst)
    }
}

impl Drop for InTask {
    fn drop(&mut self) {
        self.0.0[0].fetch_sub(1, Ordering::SeqCst);
    }
}

fn items(
    tasks: &Tasks,
    span: fn(u32) -> u32,
) -> impl Iterator<Item = impl Future<Output = Plain> + Send + use<>> + Send + use<> {
    let tasks = tasks.clone();
    (0..20_u32).map(move |n| {
        let tasks = tasks.clone();
        async move {
            let _guard = tasks.guard();
            after(span(n) * MS, if n == 13 { Err("13") } else { Ok(n) }).await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn spawned_items_keep_to_the_limit_and_to_their_order() {
    let tasks = Tasks::default();
    let gathered = gather(items(&tasks, |n| 20 - n)).limit(4).spawned().await;
    assert_eq!((gathered.len(), gathered.failures().count()), (20, 1));
    assert!(
        gathered
            .successes()
            .eq((0..20).filter(|n| *n != 13).collect::<Vec<_>>().iter())
    );
    assert_eq!((tasks.most(), tasks.now(), tasks.ever()), (4, 0, 20));
}

/// Also on several threads: when the error is there, every task has ended.
#[test]
fn spawned_items_have_ended_when_the_first_error_is_there() {
    for threads in [1, 4] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_time()
            .build()
            .unwrap();
        for _ in 0..50 {
            let tasks = Tasks::default();
            let seen = tasks.clone();
            runtime.block_on(async move {
                let all = gather(items(&tasks, |n| if n == 13 { 1 } else { 10_000 }));
                let error = all.limit(20).spawned().try_all().await.unwrap_err();
                assert_eq!(error.index, 13);
                assert_eq!(tasks.now(), 0);
            });
            assert_eq!(seen.now(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn spawned_items_that_are_cut_say_how_far_they_came() {
    let tasks = Tasks::default();
    for deadline in [false, true] {
        let all = gather(items(&tasks, |_| 1_000)).limit(20).spawned();
        let all = if deadline {
            all.deadline(MS)
        } else {
            all.timeout(MS)
        };
        let gathered = all.await;
        let error = Error::timed_out(MS).after(crate::Progress::started(1));
        assert!(gathered.failures().all(|(_, late)| *late == error));
        assert_eq!((gathered.len(), gathered.is_complete()), (20, !deadline));
        assert_eq!(tasks.now(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_spawned_item_goes_on_while_nobody_polls() {
    let tasks = Tasks::default();
    let mut all = gather(items(&tasks, |n| n))
        .limit(3)
        .spawned()
        .as_finished();
    assert!(all.next().await.is_some());
    sleep(SECOND).await;
    assert_eq!(
        (tasks.now(), tasks.ever()),
        (0, 3),
        "what has started has ended"
    );
    while all.next().await.is_some() {}
    assert_eq!(tasks.ever(), 20);
}

#[tokio::test(start_paused = true)]
async fn spawned_items_are_aborted_with_the_gather() {
    let tasks = Tasks::default();
    let check = async |_| {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(tasks.now(), 0);
    };
    let all = || {
        gather(items(&tasks, |n| n))
            .limit(3)
            .spawned()
            .into_future()
    };
    assert!(drop_at_every_poll(all, check).await > 4);
    let all = || gather(items(&tasks, |n| n)).limit(3).spawned().try_all();
    assert!(drop_at_every_poll(all, check).await > 4);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_task_is_its_items_outcome_or_is_passed_on() {
    let tasks = Tasks::default();
    let items = || {
        let tasks = tasks.clone();
        (0..10_u32).map(move |n| {
            let tasks = tasks.clone();
            async move {
                let _guard = tasks.guard();
                after(MS, Ok(n)).await?;
                if n == 3 {
                    unwind()
                }
                after(MS, Ok(n)).await
            }
        })
    };
    let gathered = gather(items()).spawned().await;
    let (index, error) = gathered.failures().next().unwrap();
    assert_eq!((index, error.to_string().as_str()), (3, "panicked: told"));
    assert_eq!(gathered.successes().count(), 9);

    let mut all = Box::pin(gather(items()).spawned().propagate_panics().into_future());
    let panic = catch_panic(&mut all).await.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"told"));
    assert_eq!(tasks.now(), 0, "the tasks have ended");
}

#[test]
fn a_runtime_that_ends_cancels_the_items_of_a_gather_elsewhere() {
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let mine = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let tasks = Tasks::default();
    let mut all = Box::pin(
        gather(items(&tasks, |_| 0).map(|item| async move {
            drop(item);
            std::future::pending::<Plain>().await
        }))
        .spawned()
        .into_future(),
    );
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let entered = other.enter();
    assert!(all.as_mut().poll(&mut cx).is_pending());
    drop(entered);
    drop(other);
    let gathered = mine.block_on(all);
    assert_eq!(gathered.len(), 20);
    assert!(gathered.failures().all(|(_, error)| error.is_cancelled()));
    assert_eq!(gathered.failures().count(), 20);
}

/// Trap 31: the form that goes on while the consumer is slow.
#[tokio::test(start_paused = true)]
async fn in_the_background_all_goes_on_until_the_buffer_is_full() {
    for (buffer, most) in [(5, 8), (1, 4), (0, 4), (100, 20)] {
        let tasks = Tasks::default();
        let mut all = gather(items(&tasks, |n| n % 3))
            .limit(4)
            .in_background(buffer);
        sleep(SECOND).await;
        let ever = tasks.ever() as usize;
        assert!(
            (buffer.min(20)..=most).contains(&ever),
            "{ever} with {buffer}"
        );
        assert_eq!(tasks.now(), 0, "what has started was driven to its end");
        let begin = now();
        let mut seen = Vec::new();
        while let Some((index, _)) = all.next().await {
            assert!(!all.is_complete() || seen.len() == 19);
            seen.push(index);
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..20));
        assert!(all.is_complete());
        assert!(now().since(begin) < 40 * MS);
        assert_eq!(all.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_consumer_ends_what_is_in_the_background() {
    let tasks = Tasks::default();
    let consume = || async {
        let mut all = gather(items(&tasks, |n| n % 5)).limit(4).in_background(2);
        while all.next().await.is_some() {}
    };
    let drops = drop_at_every_poll(consume, async |_| {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(tasks.now(), 0);
    })
    .await;
    assert!(drops > 4);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_background_reaches_the_consumer_after_the_outcomes() {
    let tasks = Tasks::default();
    let source = items(&tasks, |n| n)
        .enumerate()
        .map(|(n, item)| if n == 7 { unwind() } else { item });
    let mut all = gather(source).limit(2).in_background(100);
    sleep(SECOND).await;
    let mut seen = 0;
    let panic = loop {
        match catch_panic(all.next()).await {
            Ok(Some(_)) => seen += 1,
            Ok(None) => panic!("the panic was lost"),
            Err(panic) => break panic,
        }
    };
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"told"));
    assert!((5..7).contains(&seen));
    assert_eq!(all.next().await, None);
    assert!(!all.is_complete());
    assert_eq!(tasks.now(), 0);
}

#[test]
fn a_background_whose_runtime_has_ended_says_that_it_is_incomplete() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let tasks = Tasks::default();
    let entered = runtime.enter();
    let mut all = gather(items(&tasks, |n| n)).in_background(1);
    drop(entered);
    drop(runtime);
    assert_eq!(crate::testing::spin(all.next()), None);
    assert!(!all.is_complete());
}

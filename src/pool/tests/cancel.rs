//! Dropped anywhere, nothing is lost.

use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::testing::{catch_panic, drop_at_every_poll, drop_beside};

/// A pool whose every step takes a while.
fn slow_pool(max_size: usize) -> (Arc<Factory>, Pool<Plant>) {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(max_size)
        .check(Check::Always)
        .before_hand_over(hook(&factory, |factory| &factory.before))
        .after_return(hook(&factory, |factory| &factory.after))
        .build()
        .unwrap();
    for step in [&factory.create, &factory.check, &factory.before] {
        step.takes(2 * MILLI);
    }
    for step in [&factory.after, &factory.close] {
        step.takes(MILLI);
    }
    (factory, pool)
}

/// Trap 16.
#[tokio::test(start_paused = true)]
async fn a_get_dropped_at_every_poll_loses_no_object() {
    let (factory, pool) = slow_pool(1);
    let get = || async { drop(pool.get().await.unwrap()) };
    let drops = drop_at_every_poll(get, async |_| assert_whole(&factory, &pool).await).await;
    assert!(drops >= 6, "{drops}");
    assert_eq!(pool.snapshot().closed.total(), 0, "nothing is thrown away");
}

/// Traps 16, 17: also when it is the one that has to create.
#[tokio::test(start_paused = true)]
async fn a_first_get_dropped_at_every_poll_loses_no_place() {
    let (factory, pool) = slow_pool(2);
    let get = || async {
        Pooled::discard(pool.get().await.unwrap());
        drop(pool.get().await.unwrap());
    };
    drop_at_every_poll(get, async |_| assert_whole(&factory, &pool).await).await;
}

/// Traps 16, 19: with one who returns, breaks, takes out or resizes between any two polls.
#[tokio::test(start_paused = true)]
async fn a_get_dropped_beside_another_user_loses_nothing() {
    for what in 0..6 {
        let (factory, pool) = slow_pool(1);
        let start = || {
            let held = pool.try_get().ok();
            let other = async {
                let held = match held {
                    Some(held) => held,
                    None => pool.get().await.unwrap(),
                };
                tokio::task::yield_now().await;
                match what {
                    0 => drop(held),
                    1 => Pooled::discard(held),
                    2 => drop(Pooled::detach(held)),
                    3 => {
                        pool.resize(0);
                        drop(held);
                        pool.resize(1);
                    }
                    4 => {
                        drop(held);
                        drop(pool.get().await.unwrap());
                    }
                    _ => {
                        let used = async |_: &mut Thing| {
                            sleep(MILLI).await;
                            Err::<(), _>("failed")
                        };
                        assert!(Pooled::use_with(held, used).await.is_err());
                    }
                }
            };
            (async { drop(pool.get().await.unwrap()) }, other)
        };
        let drops = drop_beside(start, async |_| assert_whole(&factory, &pool).await).await;
        assert!(drops >= 9, "{what}: {drops}");
    }
}

/// Trap 21: a use that does not come to its end closes the object.
#[tokio::test(start_paused = true)]
async fn a_use_dropped_at_every_poll_returns_no_object_that_expects_a_reply() {
    let (factory, pool) = slow_pool(1);
    let command = || {
        pool.use_with(async |thing| {
            assert!(!thing.mid_command, "the reply to another's command is read");
            thing.mid_command = true;
            sleep(MILLI).await;
            sleep(MILLI).await;
            thing.mid_command = false;
            Ok::<_, Oops>(())
        })
    };
    let drops = drop_at_every_poll(command, async |_| {
        factory.reusable.set(Does::Well);
        assert_whole(&factory, &pool).await;
    })
    .await;
    assert!(drops >= 8, "{drops}");
    assert_eq!(pool.snapshot().closed.broken, 0, "nobody had to ask");
    assert!(pool.snapshot().closed.cancelled_use >= 2);
}

/// Trap 21: a plain guard is looked at when it comes back.
#[tokio::test(start_paused = true)]
async fn a_command_cancelled_in_the_middle_ends_the_connection_that_says_so() {
    let (factory, pool) = pool_of(1);
    let command = async {
        let mut thing = pool.get().await.unwrap();
        thing.mid_command = true;
        pending::<()>().await;
    };
    assert!(tokio::time::timeout(SECOND, command).await.is_err());
    let next = pool.get().await.unwrap();
    assert_eq!((next.name, next.mid_command), (1, false));
    drop(next);
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_use_that_panics_closes_the_object() {
    let (factory, pool) = pool_of(1);
    let scoped = pool.use_with(async |thing| {
        assert!(thing.mid_command, "told to");
        Ok::<_, Oops>(())
    });
    assert!(catch_panic(scoped).await.is_err());
    let plain = async {
        let thing = pool.get().await.unwrap();
        assert!(thing.mid_command, "told to");
    };
    assert!(catch_panic(plain).await.is_err());
    assert_eq!(pool.snapshot().closed.cancelled_use, 2);
    assert_whole(&factory, &pool).await;
}

/// Trap 17.
#[tokio::test(start_paused = true)]
async fn after_many_cancelled_gets_as_many_real_ones_succeed() {
    let (factory, pool) = slow_pool(4);
    for polls in 0..40 {
        let mut gets: Vec<_> = (0..4).map(|_| task::spawn(pool.get())).collect();
        for get in &mut gets {
            let _ = get.poll();
        }
        sleep(MILLI * (polls % 8)).await;
        // Every other one goes without having looked at what it was handed.
        for get in gets.iter_mut().step_by(2) {
            let _ = get.poll();
        }
    }
    let get = || pool.get().max_wait(SECOND);
    let all = tokio::join!(get(), get(), get(), get());
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
    drop(all);
    assert_whole(&factory, &pool).await;
}

/// Trap 18: a connect of 2 s, callers who wait for 1 s and try again.
#[tokio::test(start_paused = true)]
async fn a_creation_goes_on_when_its_caller_gives_up_and_lands_idle() {
    let (factory, pool) = pool_of(3);
    factory.create.takes(2 * SECOND);
    let impatient = async || {
        let mut failures = 0;
        while let Err(error) = pool.get().max_wait(SECOND).await {
            assert_eq!(error.refusal(), Some(Refusal::pool_exhausted(SECOND)));
            failures += 1;
            assert!(failures < 9, "every connect is thrown away");
        }
        failures
    };
    let start = time::now();
    let callers = (0..10).map(|_| impatient());
    let failures = futures_util::future::join_all(callers).await;
    assert!(failures.iter().all(|n| (1..=2).contains(n)), "{failures:?}");
    assert!(time::now().since(start) <= 2 * SECOND);
    assert_eq!(factory.create.begun(), 3);

    let (factory, pool) = pool_of(1);
    factory.create.takes(2 * SECOND);
    error(pool.get().max_wait(SECOND).await);
    sleep(2 * SECOND).await;
    assert_eq!((pool.snapshot().idle, factory.create.begun()), (1, 1));
    assert_whole(&factory, &pool).await;
}

/// Trap 20: one creation for each who needs one, and none for who has gone.
#[tokio::test(start_paused = true)]
async fn there_are_no_more_creations_than_are_needed() {
    let (factory, pool) = pool_of(9);
    factory.create.takes(SECOND);
    drop(pool.get().await.unwrap());
    let _held = pool.get().await.unwrap();
    assert_eq!(factory.create.begun(), 1);
    let mut waits: Vec<_> = (0..3).map(|_| task::spawn(pool.get())).collect();
    for wait in &mut waits {
        assert_pending!(wait.poll());
    }
    assert_eq!(pool.snapshot().creating, 3);
    waits.clear();
    let mut again: Vec<_> = (0..3).map(|_| task::spawn(pool.get())).collect();
    for wait in &mut again {
        assert_pending!(wait.poll());
    }
    assert_eq!(
        pool.snapshot().creating,
        3,
        "those under way serve the next"
    );
    drop(again);
    sleep(2 * SECOND).await;
    assert_eq!((factory.create.begun(), pool.snapshot().idle), (4, 3));
    assert_whole(&factory, &pool).await;
}

/// Trap 26.
#[tokio::test(start_paused = true)]
async fn cancelled_gets_are_not_pending() {
    let (factory, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let mut waits: Vec<_> = (0..5).map(|_| task::spawn(pool.get())).collect();
    for wait in &mut waits {
        assert_pending!(wait.poll());
    }
    assert_eq!(pool.snapshot().pending, 5);
    drop(waits);
    assert_eq!(pool.snapshot().pending, 0);
    drop(held);
    assert_whole(&factory, &pool).await;
}

/// Traps 16, 28: what a cancelled caller was handed goes to the next at once.
#[tokio::test(start_paused = true)]
async fn what_a_cancelled_caller_was_handed_goes_to_the_next() {
    let (factory, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let mut first = task::spawn(pool.get());
    let mut second = task::spawn(pool.get());
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    drop(held);
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    drop(assert_ready!(second.poll()).unwrap());
    drop(second);
    assert_whole(&factory, &pool).await;
}

/// Trap 30: the object stays with one who is not polled; a drop gives it back.
#[tokio::test(start_paused = true)]
async fn a_get_that_is_not_polled_keeps_what_it_was_handed_until_it_is_dropped() {
    let (factory, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let mut parked = task::spawn(pool.get());
    assert_pending!(parked.poll());
    drop(held);
    let refused = error(pool.get().max_wait(SECOND).await);
    assert_eq!(refused.refusal(), Some(Refusal::pool_exhausted(SECOND)));
    assert_eq!(pool.snapshot().changing_hands, 1);
    drop(parked);
    assert_eq!(pool.snapshot().idle, 1);
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_drain_dropped_at_every_poll_leaves_nothing() {
    let (factory, pool) = slow_pool(1);
    let held = pool.get().await.unwrap();
    pool.close();
    let mut waits: Vec<_> = (0..3).map(|_| task::spawn(pool.drained())).collect();
    for wait in &mut waits {
        assert_pending!(wait.poll());
    }
    drop(waits.remove(1));
    drop(held);
    settle().await;
    settle().await;
    assert!(
        waits
            .iter_mut()
            .all(|wait| wait.is_woken() && wait.poll().is_ready())
    );
    assert_eq!(factory.alive(), 0);

    let start = || async {
        let (_, pool) = slow_pool(1);
        drop(pool.get().await.unwrap());
        let report = pool.close_within(SECOND).await;
        assert!(report.is_drained);
    };
    let drops = drop_at_every_poll(start, async |_| {}).await;
    assert!(drops >= 4, "{drops}");
}

#[tokio::test(start_paused = true)]
async fn a_close_dropped_at_every_poll_stays_a_close() {
    let last: std::cell::RefCell<Option<(Arc<Factory>, Pool<Plant>)>> = None.into();
    let start = || {
        let (factory, pool) = slow_pool(2);
        *last.borrow_mut() = Some((factory, pool.clone()));
        async move {
            let held = pool.get().await.unwrap();
            drop(pool.get().await.unwrap());
            let later = async {
                sleep(3 * MILLI).await;
                drop(held);
            };
            tokio::join!(pool.close_within(SECOND), later).0
        }
    };
    drop_at_every_poll(start, async |_| {
        let (factory, pool) = last.take().unwrap();
        pool.close();
        pool.drained().await;
        assert_eq!((factory.alive(), pool.snapshot().size), (0, 0));
        assert_adds_up(&pool.snapshot());
        assert!(factory.most() <= 2);
    })
    .await;
}

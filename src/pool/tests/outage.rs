//! When the other side fails: who is told, who is served, and how often it is asked.

use tokio_test::{assert_pending, task};

use super::*;
use crate::prelude::*;

/// Objects can be had, but no more than so many at a time; each use takes 10 ms.
async fn storm(pool: &Pool<Plant>, callers: usize) -> usize {
    let served = (0..callers).map(|_| async {
        let held = pool.get().max_wait(2 * SECOND).await;
        sleep(10 * MILLI).await;
        usize::from(held.is_ok())
    });
    futures_util::future::join_all(served).await.iter().sum()
}

/// Trap 27: a creation that fails costs nobody his place while objects come back.
#[tokio::test(start_paused = true)]
async fn a_service_that_allows_fewer_than_the_maximum_serves_everyone() {
    for refuses_first in [false, true] {
        let (factory, pool) = pool_of(10);
        factory.most_allowed.store(5, SeqCst);
        let (well, refused) = if refuses_first { (5, 0) } else { (5, 5) };
        factory.create.takes(well * MILLI);
        factory.refusal_takes.store(refused, SeqCst);
        assert_eq!(storm(&pool, 200).await, 200);
        assert_eq!(factory.alive(), 5);
        let asked = factory.create.begun();
        assert!(asked < 60, "asked {asked} times");
        assert_adds_up(&pool.snapshot());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_learns_why_nothing_was_created() {
    let (factory, pool) = pool_of(2);
    let held = pool.get().await.unwrap();
    factory.create.set(Does::Fail);
    let refused = error(pool.get().max_wait(SECOND).await);
    assert_eq!(refused.refusal(), Some(Refusal::pool_exhausted(SECOND)));
    assert_eq!((refused.attempts(), refused.last()), (1, Some(&"failed")));
    let begun = factory.create.begun();
    assert!((3..=8).contains(&begun), "paced: {begun}");
    drop(held);
    factory.create.set(Does::Well);
    assert_whole(&factory, &pool).await;
}

/// A long use of one object keeps nobody from trying to create another.
#[tokio::test(start_paused = true)]
async fn a_creation_for_one_who_waits_is_tried_again_after_a_pause() {
    let (factory, pool) = pool_of(2);
    let _held = pool.get().await.unwrap();
    factory.create.set(Does::Fail);
    let later = async {
        sleep(SECOND).await;
        factory.create.set(Does::Well);
    };
    let start = time::now();
    let (got, ()) = tokio::join!(pool.get(), later);
    assert_eq!(got.unwrap().name, factory.names() - 1);
    assert!(time::now().since(start) < 4 * SECOND);
}

/// What paces creations is over as soon as nothing circulates any more.
#[tokio::test(start_paused = true)]
async fn who_waits_is_told_at_once_when_the_last_object_goes() {
    let (factory, pool) = pool_of(2);
    let held = pool.get().await.unwrap();
    factory.create.set(Does::Fail);
    let mut waits = task::spawn(pool.get());
    assert_pending!(waits.poll());
    // The pauses grow to half a minute.
    for _ in 0..600 {
        sleep(SECOND / 10).await;
        assert_pending!(waits.poll());
    }
    let start = time::now();
    let (told, ()) = tokio::join!(waits, async { drop(Pooled::detach(held)) });
    assert_eq!(error(told), Error::operation("failed"));
    assert_eq!(time::now().since(start), Duration::ZERO);
}

/// Trap 27: an open breaker answers at once when nothing circulates.
#[tokio::test(start_paused = true)]
async fn everyone_is_told_at_once_that_the_breaker_is_open() {
    let (factory, builder) = plant();
    let breaker = CircuitBreaker::builder()
        .no_failure_rate()
        .consecutive_failures(1);
    let connect = Pipeline::builder("connect").circuit_breaker(breaker);
    let connect = connect.build().unwrap();
    let pool = builder.max_size(3).create_policy(&connect).build().unwrap();
    factory.create.set(Does::Fail);
    error(pool.get().await);
    let start = time::now();
    let told = futures_util::future::join_all((0..100).map(|_| pool.get())).await;
    for told in told {
        let refusal = error(told).refusal();
        assert!(matches!(refusal, Some(Refusal::CircuitOpen { .. })));
    }
    assert_eq!(time::now().since(start), Duration::ZERO);
    assert_eq!(factory.create.begun(), 1);
}

/// A failing hook or check does not create and end objects for ever.
#[tokio::test(start_paused = true)]
async fn a_caller_gets_the_error_of_a_new_object_also_with_a_minimum() {
    for is_hook in [true, false] {
        for takes in [Duration::ZERO, 5 * MILLI] {
            let (factory, builder) = plant();
            let builder = builder.max_size(4).min_idle(2);
            let pool = if is_hook {
                builder.before_hand_over(hook(&factory, |factory| &factory.check))
            } else {
                builder.check(Check::Always)
            };
            let pool = pool.build().unwrap();
            factory.check.takes(takes);
            factory.create.takes(2 * MILLI);
            factory.check.set(Does::Fail);
            sleep(20 * MILLI).await;
            let got = pool.get().max_wait(2 * SECOND).await;
            if is_hook {
                assert_eq!(error(got), Error::operation("failed"));
            } else {
                drop(got);
            }
            let begun = factory.create.begun();
            assert!(begun < 20, "created {begun}");
        }
    }
}

/// Many callers, and not one object that gets through its hook: the minimum is not filled
/// up in a hot loop.
#[tokio::test(start_paused = true)]
async fn the_minimum_pauses_when_its_objects_fail_their_first_hook() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(4)
        .min_idle(4)
        .before_hand_over(hook(&factory, |factory| &factory.before))
        .build()
        .unwrap();
    factory.before.set(Does::Fail);
    factory.before.takes(5 * MILLI);
    let start = time::now();
    let mut failures = 0;
    while time::now().since(start) < 2 * SECOND {
        if pool.get().max_wait(SECOND).await.is_err() {
            failures += 1;
        }
        sleep(50 * MILLI).await;
    }
    let begun = factory.create.begun();
    assert!(begun < 4 + 2 * failures + 40, "{begun} for {failures}");
    factory.before.set(Does::Well);
    sleep(60 * SECOND).await;
    assert_whole(&factory, &pool).await;
}

/// Trap 25: many dead idle objects cost the time of one check.
#[tokio::test(start_paused = true)]
async fn a_failover_costs_the_limit_of_one_check() {
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let (factory, builder) = plant();
        let pool = builder.max_size(10).order(order).build().unwrap();
        let all: Vec<_> = (0..10).map(|_| pool.get()).collect();
        drop(futures_util::future::join_all(all).await);
        sleep(9 * SECOND).await;
        factory.check.set(Does::Hang);
        let start = time::now();
        let (one, other) = tokio::join!(pool.get(), pool.get());
        assert!(one.is_ok() && other.is_ok());
        assert_eq!(time::now().since(start), 5 * SECOND);
        drop((one, other));
        factory.check.set(Does::Well);
        assert_whole(&factory, &pool).await;
    }
}

/// Trap 18, of a check: it goes on when its caller gives up, and the object stays.
#[tokio::test(start_paused = true)]
async fn a_check_slower_than_the_wait_ends_no_object() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(4)
        .check(Check::Always)
        .max_wait(50 * MILLI)
        .build()
        .unwrap();
    drop(pool.get().await.unwrap());
    factory.check.takes(80 * MILLI);
    for _ in 0..30 {
        error(pool.get().await);
        sleep(100 * MILLI).await;
    }
    let now = pool.snapshot();
    assert_eq!((now.closed.total(), now.idle, now.created), (0, 1, 1));
    factory.check.set(Does::Fail);
    error(pool.get().await);
    assert_eq!(pool.snapshot().changing_hands, 1);
    sleep(SECOND).await;
    assert_eq!(pool.snapshot().closed.check_failed, 1);
    factory.check.set(Does::Hang);
    drop(pool.get().max_wait(SECOND).await.unwrap());
    error(pool.get().await);
    sleep(5 * SECOND).await;
    assert_eq!(pool.snapshot().closed.check_failed, 2, "within its limit");
    factory.check.set(Does::Well);
    factory.check.takes(Duration::ZERO);
    assert_whole(&factory, &pool).await;
}

/// A check that goes on by itself serves the next.
#[tokio::test(start_paused = true)]
async fn what_passes_its_check_after_its_caller_left_goes_to_the_next() {
    let (factory, builder) = plant();
    let pool = builder.max_size(1).build().unwrap();
    drop(pool.get().await.unwrap());
    sleep(2 * SECOND).await;
    factory.check.takes(SECOND);
    let mut first = task::spawn(pool.get());
    let mut next = task::spawn(pool.get());
    assert_pending!(first.poll());
    assert_pending!(next.poll());
    drop(first);
    let start = time::now();
    assert_eq!(next.await.unwrap().name, 0);
    assert_eq!(time::now().since(start), SECOND);
    assert_eq!(factory.check.begun(), 1);
}

/// The check of one that is given up on a pool that closes ends it.
#[tokio::test(start_paused = true)]
async fn a_check_whose_caller_left_does_not_outlive_the_pool() {
    let (factory, builder) = plant();
    let pool = builder.max_size(1).check(Check::Always).build().unwrap();
    drop(pool.get().await.unwrap());
    factory.check.takes(SECOND);
    error(pool.get().max_wait(MILLI).await);
    assert!(pool.close_within(2 * SECOND).await.is_drained);
    assert_eq!(
        (factory.alive(), pool.snapshot().closed.pool_closed),
        (0, 1)
    );
}

/// A pool that is closed has nothing to keep.
#[tokio::test(start_paused = true)]
async fn a_get_of_a_closed_pool_starts_no_task() {
    let (_, builder) = plant();
    let pool = builder.max_size(1).idle_time(SECOND).build().unwrap();
    pool.close();
    settle().await;
    let spawned = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    assert_eq!(error(pool.get().await).refusal(), Some(Refusal::ShutDown));
    assert_eq!(spawned(), 0);
}

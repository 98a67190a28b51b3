//! Idle time, life time, the minimum.

use super::*;

#[tokio::test(start_paused = true)]
async fn idle_objects_end_after_their_idle_time() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(3)
        .idle_time(10 * SECOND)
        .jitter(0.0)
        .build()
        .unwrap();
    let held = pool.get().await.unwrap();
    drop(pool.get().await.unwrap());
    sleep(a_bit_less(10 * SECOND)).await;
    assert_eq!(pool.snapshot().idle, 1);
    drop(pool.get().await.unwrap());
    sleep(a_bit_less(10 * SECOND)).await;
    assert_eq!(pool.snapshot().idle, 1, "it was used meanwhile");
    sleep(2 * MILLI).await;
    assert_eq!(
        (pool.snapshot().idle, pool.snapshot().closed.idle_time),
        (0, 1)
    );
    assert_eq!(factory.alive(), 1, "what is in use stays");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn objects_end_after_their_life_time_idle_or_as_they_come_back() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(3)
        .life_time(10 * SECOND)
        .jitter(0.0)
        .build()
        .unwrap();
    let held = pool.get().await.unwrap();
    drop(pool.get().await.unwrap());
    for _ in 0..9 {
        sleep(SECOND).await;
        assert_eq!(pool.get().await.unwrap().name, 1);
    }
    sleep(SECOND + MILLI).await;
    assert_eq!((pool.snapshot().idle, pool.snapshot().in_use), (0, 1));
    drop(held);
    assert_eq!(
        (pool.snapshot().size, pool.snapshot().closed.life_time),
        (0, 2)
    );
    assert_whole(&factory, &pool).await;
}

/// One who waits gets a new object when the one that comes back is too old.
#[tokio::test(start_paused = true)]
async fn one_who_waits_gets_no_object_that_is_too_old() {
    let (factory, builder) = plant();
    let pool = builder.max_size(1).life_time(SECOND).build().unwrap();
    let held = pool.get().await.unwrap();
    let (next, ()) = tokio::join!(pool.get(), async {
        sleep(2 * SECOND).await;
        drop(held);
    });
    assert_eq!(next.unwrap().name, 1);
    assert_eq!(factory.most(), 1);
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_the_ends_of_what_was_created_together() {
    let (_, builder) = plant();
    let pool = builder
        .max_size(40)
        .life_time(100 * SECOND)
        .jitter(0.5)
        .build()
        .unwrap();
    let all: Vec<_> = (0..40).map(|_| pool.get()).collect();
    drop(futures_util::future::join_all(all).await);
    sleep(a_bit_less(50 * SECOND)).await;
    assert_eq!(pool.snapshot().idle, 40);
    sleep(25 * SECOND).await;
    let half = pool.snapshot().idle;
    assert!((5..35).contains(&half), "{half}");
    sleep(25 * SECOND + 2 * MILLI).await;
    assert_eq!(pool.snapshot().idle, 0);
}

#[tokio::test(start_paused = true)]
async fn the_life_time_holds_at_check_out_without_the_keeper() {
    let (_, builder) = plant();
    let pool = builder.max_size(1).life_time(SECOND).build().unwrap();
    drop(pool.get().await.unwrap());
    // Nothing in the background has run when this asks.
    tokio::time::advance(2 * SECOND).await;
    assert!(pool.try_get().is_err());
    assert_eq!(pool.get().await.unwrap().name, 1);
}

#[tokio::test(start_paused = true)]
async fn the_minimum_is_there_before_anyone_asks_and_is_kept() {
    let (factory, builder) = plant();
    factory.create.takes(SECOND);
    let pool = builder.max_size(5).min_idle(2).build().unwrap();
    sleep(2 * SECOND).await;
    assert_eq!((pool.snapshot().idle, factory.create.begun()), (2, 2));
    let held = pool.get().await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!((pool.snapshot().idle, factory.create.begun()), (2, 3));
    drop(held);
    sleep(9 * SECOND).await;
    assert_eq!((pool.snapshot().idle, factory.create.begun()), (3, 3));
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_leaves_the_minimum() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(5)
        .min_idle(2)
        .idle_time(SECOND)
        .build()
        .unwrap();
    settle().await;
    let all: Vec<_> = (0..5).map(|_| pool.get()).collect();
    drop(futures_util::future::join_all(all).await);
    assert_eq!(pool.snapshot().idle, 5);
    sleep(60 * SECOND).await;
    assert_eq!((pool.snapshot().idle, factory.create.begun()), (2, 5));
}

/// A creation that nobody waits for is not repeated in a hot loop.
#[tokio::test(start_paused = true)]
async fn the_minimum_is_tried_again_after_growing_pauses() {
    let (factory, builder) = plant();
    factory.create.set(Does::Fail);
    let pool = builder.max_size(5).min_idle(2).build().unwrap();
    sleep(SECOND).await;
    let first = factory.create.begun();
    assert!((4..=10).contains(&first), "{first}");
    sleep(60 * SECOND).await;
    let later = factory.create.begun();
    assert!((first + 4..first + 30).contains(&later), "{later}");
    factory.create.set(Does::Well);
    sleep(31 * SECOND).await;
    assert_eq!(pool.snapshot().idle, 2);
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn no_task_runs_that_no_setting_needs() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let (_, pool) = pool_of(3);
    drop(pool.get().await.unwrap());
    settle().await;
    assert_eq!(tasks(), 0);
    let (_, builder) = plant();
    let kept = builder.max_size(3).idle_time(SECOND).build().unwrap();
    settle().await;
    assert_eq!(tasks(), 1);
    kept.close();
    settle().await;
    assert_eq!(tasks(), 0);
}

/// Trap 23.
#[tokio::test(start_paused = true)]
async fn with_the_last_handle_everything_goes() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let (factory, builder) = plant();
    let pool = builder
        .max_size(3)
        .min_idle(2)
        .idle_time(SECOND)
        .life_time(9 * SECOND)
        .build()
        .unwrap();
    settle().await;
    let held = Pooled::into_owned(pool.get().await.unwrap());
    settle().await;
    let shared = Arc::downgrade(pool.shared());
    drop(pool.clone());
    assert_eq!(factory.alive(), 3);
    drop(pool);
    settle().await;
    assert_eq!((factory.alive(), factory.close.begun(), tasks()), (1, 2, 0));
    drop(held);
    assert_eq!((factory.alive(), factory.close.begun()), (0, 3));
    assert!(shared.upgrade().is_none());
    assert_eq!(Arc::strong_count(&factory), 1);
}

/// Trap 23.
#[tokio::test(start_paused = true)]
async fn a_creation_under_way_does_not_outlive_the_pool_for_long() {
    let (factory, pool) = pool_of(1);
    factory.create.takes(SECOND);
    error(pool.get().max_wait(MILLI).await);
    drop(pool);
    assert_eq!(factory.alive(), 1);
    sleep(2 * SECOND).await;
    assert_eq!((factory.alive(), factory.close.begun()), (0, 1));
    assert_eq!(Arc::strong_count(&factory), 1);
}

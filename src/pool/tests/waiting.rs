//! Who gets what, and when it is refused.

use std::cell::RefCell;

use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::prelude::*;
use crate::testing::spin;

#[tokio::test(start_paused = true)]
async fn first_come_first_served() {
    let (_, pool) = pool_of(1);
    let order = RefCell::new(Vec::new());
    let user = async |name: u32| {
        let _held = pool.get().await.unwrap();
        order.borrow_mut().push(name);
        sleep(SECOND).await;
    };
    tokio::join!(user(1), user(2), user(3), user(4), user(5));
    assert_eq!(*order.borrow(), [1, 2, 3, 4, 5]);
    assert_eq!(pool.snapshot().created, 1);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_never_passes_one_who_waits() {
    let (_, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let mut waits = task::spawn(pool.get());
    assert_pending!(waits.poll());
    drop(held);
    assert!(pool.try_get().is_err());
    let mut newcomer = task::spawn(pool.get());
    assert_pending!(newcomer.poll());
    drop(assert_ready!(waits.poll()));
    assert!(assert_ready!(newcomer.poll()).is_ok());
}

/// One whose object turns out to be broken is served before those who came after it.
#[tokio::test(start_paused = true)]
async fn a_failed_check_costs_nobody_his_place() {
    let (factory, builder) = plant();
    let pool = builder.max_size(1).check(Check::Always).build().unwrap();
    let held = pool.get().await.unwrap();
    let mut first = task::spawn(pool.get());
    let mut second = task::spawn(pool.get());
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    factory.check.set(Does::Fail);
    drop(held);
    assert_pending!(first.poll());
    settle().await;
    assert_pending!(second.poll());
    assert_eq!(assert_ready!(first.poll()).unwrap().name, 1);
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_ends_in_a_refusal_that_says_how_long_it_was() {
    let (_, builder) = plant();
    let pool = builder.max_size(1).max_wait(2 * SECOND).build().unwrap();
    let held = pool.get().await.unwrap();
    let start = time::now();
    let refused = error(pool.get().await);
    assert_eq!(refused, Error::refused(Refusal::pool_exhausted(2 * SECOND)));
    let refused = error(pool.get().max_wait(SECOND).await);
    assert_eq!(refused, Error::refused(Refusal::pool_exhausted(SECOND)));
    assert_eq!(time::now().since(start), 3 * SECOND);
    drop(held);
    assert_eq!(pool.get().await.unwrap().name, 0);
}

/// An object that comes at the last moment is taken.
#[tokio::test(start_paused = true)]
async fn the_object_wins_a_tie_with_the_longest_wait() {
    let (_, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let mut late = task::spawn(pool.get().max_wait(SECOND));
    assert_pending!(late.poll());
    tokio::time::advance(9 * SECOND).await;
    drop(held);
    assert!(assert_ready!(late.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_time_to_wait_what_is_at_hand_is_taken_and_nothing_is_created() {
    let (factory, builder) = plant();
    let pool = builder.max_size(1).build().unwrap();
    let reason = Refusal::pool_exhausted(Duration::ZERO);
    let full = Err(reason);
    let none = || spin(pool.get().max_wait(Duration::ZERO));
    assert_eq!(none().map(drop), Err(Error::refused(reason)));
    assert_eq!(pool.try_get().map(drop), full);
    assert_eq!(factory.create.begun(), 0);
    drop(pool.get().await.unwrap());
    assert!(none().is_ok());
    sleep(SECOND).await;
    // It would have to be checked first; it is not spoilt by that.
    assert_eq!(pool.try_get().map(drop), full);
    assert!(none().is_err());
    assert_eq!(pool.get().await.unwrap().name, 0);
    assert_eq!(factory.check.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_it_has_time() {
    let (_, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let part = Pipeline::builder("part").build().unwrap();
    let with_deadline = async |limit: Duration| {
        let attempt = part
            .call_with(|attempt| async { Ok::<_, Oops>(attempt) })
            .timeout(limit);
        attempt.await.unwrap()
    };
    let attempt = with_deadline(SECOND).await;
    let start = time::now();
    let refused = error(pool.get().during(&attempt).await);
    assert_eq!(refused.refusal(), Some(Refusal::pool_exhausted(SECOND)));
    assert_eq!(time::now().since(start), SECOND);
    // Its time is over: it is refused at once.
    let refused = error(spin(pool.get().during(&attempt)));
    let waited = Duration::ZERO;
    assert_eq!(refused.refusal(), Some(Refusal::pool_exhausted(waited)));
    drop(held);
    assert!(spin(pool.get().during(&attempt)).is_ok());
}

/// Trap 25: nobody answers, at a check or at a log-in.
#[tokio::test(start_paused = true)]
async fn a_dead_peer_costs_no_more_than_the_time_to_wait() {
    let (factory, builder) = plant();
    let pool = builder.max_size(1).check(Check::Always).build().unwrap();
    drop(pool.get().await.unwrap());
    factory.check.set(Does::Hang);
    factory.create.set(Does::Hang);
    let start = time::now();
    let refused = error(pool.get().max_wait(SECOND).await);
    assert_eq!(refused.refusal(), Some(Refusal::pool_exhausted(SECOND)));
    assert_eq!(time::now().since(start), SECOND);
    let refused = error(pool.get().max_wait(SECOND).await);
    assert_eq!(refused.refusal(), Some(Refusal::pool_exhausted(SECOND)));
    // Without a limit of the caller the pool's own ones end it.
    let late = error(pool.get().await);
    assert_eq!(
        late,
        Error::timed_out(30 * SECOND).after(crate::Progress::started(1))
    );
    factory.create.set(Does::Well);
    drop(pool.get().await.unwrap());
    let start = time::now();
    assert_eq!(pool.get().await.unwrap().name, 3);
    assert_eq!(time::now().since(start), 5 * SECOND, "the check's limit");
    factory.check.set(Does::Well);
    assert_whole(&factory, &pool).await;
}

/// Trap 27, of the guide's pool: two first callers made two pools full.
#[tokio::test(start_paused = true)]
async fn a_storm_of_first_callers_creates_no_more_than_the_maximum() {
    let (factory, pool) = pool_of(3);
    factory.create.takes(SECOND);
    let start = time::now();
    let use_it = async || {
        let _held = pool.get().await.unwrap();
        sleep(SECOND).await;
    };
    let all = (0..30).map(|_| use_it());
    futures_util::future::join_all(all).await;
    assert_eq!((factory.most(), factory.create.begun()), (3, 3));
    assert_eq!(time::now().since(start), 11 * SECOND);
}

/// Trap 27, of the guide's pool: with nothing created, everyone waited for ever.
#[tokio::test(start_paused = true)]
async fn when_every_creation_fails_everyone_gets_an_error_of_his_own() {
    let (factory, pool) = pool_of(3);
    factory.create.takes(SECOND);
    factory.create.set(Does::Fail);
    let all = (0..10).map(|_| pool.get().max_wait(60 * SECOND));
    let results = futures_util::future::join_all(all).await;
    for result in results {
        assert_eq!(error(result), Error::operation("failed"));
    }
    assert_eq!(
        (factory.create.begun(), pool.snapshot().create_failures),
        (10, 10)
    );
    factory.create.set(Does::Well);
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_for_the_one_who_has_waited_longest_and_others_are_served() {
    let (factory, pool) = pool_of(1);
    factory.create.takes(SECOND);
    factory.create.set(Does::Fail);
    let later = async {
        sleep(SECOND + MILLI).await;
        factory.create.set(Does::Well);
    };
    let (first, second, ()) = tokio::join!(
        async { pool.get().await.map(|thing| thing.name) },
        async { pool.get().await.map(|thing| thing.name) },
        later
    );
    assert_eq!((first, second), (Err(Error::operation("failed")), Ok(1)));
}

/// A failed creation does not take away an object that comes back.
#[tokio::test(start_paused = true)]
async fn who_gave_up_before_the_creation_failed_is_not_told_and_nobody_hangs() {
    let (factory, pool) = pool_of(1);
    factory.create.takes(2 * SECOND);
    factory.create.set(Does::Fail);
    error(pool.get().max_wait(SECOND).await);
    sleep(2 * SECOND).await;
    assert_eq!(
        (pool.snapshot().create_failures, pool.snapshot().size),
        (1, 0)
    );
    factory.create.set(Does::Well);
    assert_whole(&factory, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn creations_are_limited_in_parallel() {
    let (factory, builder) = plant();
    let pool = builder.max_size(6).max_creating(2).build().unwrap();
    factory.create.takes(SECOND);
    let start = time::now();
    let all: Vec<_> = (0..6).map(|_| pool.get()).collect();
    let (all, ()) = tokio::join!(futures_util::future::join_all(all), async {
        sleep(SECOND / 2).await;
        assert_eq!((pool.snapshot().creating, pool.snapshot().pending), (2, 6));
    });
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(time::now().since(start), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn creations_go_through_their_policy() {
    let (factory, builder) = plant();
    let connect = Pipeline::builder("connect")
        .circuit_breaker(
            CircuitBreaker::builder()
                .no_failure_rate()
                .consecutive_failures(3),
        )
        .retry(
            Retry::builder()
                .max_attempts(2)
                .backoff(Backoff::none())
                .no_budget(),
        )
        .build()
        .unwrap();
    let pool = builder.max_size(2).create_policy(&connect).build().unwrap();
    factory.create.set(Does::Fail);
    let failed = error(pool.get().await);
    assert_eq!((failed.attempts(), failed.last()), (2, Some(&"failed")));
    error(pool.get().await);
    error(pool.get().await);
    let begun = factory.create.begun();
    let refused = error(pool.get().await);
    assert!(
        matches!(refused.refusal(), Some(Refusal::CircuitOpen { .. })),
        "{refused:?}"
    );
    assert_eq!(factory.create.begun(), begun);
}

/// A clock that is far ahead, or has jumped, harms nothing.
#[tokio::test(start_paused = true)]
async fn an_hour_without_a_poll_harms_nothing() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(2)
        .min_idle(1)
        .idle_time(SECOND)
        .life_time(60 * SECOND)
        .build()
        .unwrap();
    let held = pool.get().await.unwrap();
    tokio::time::advance(3600 * SECOND).await;
    assert_ne!(pool.get().await.unwrap().name, held.name);
    drop(held);
    assert!(pool.snapshot().closed.life_time >= 1);
    assert_whole(&factory, &pool).await;
}

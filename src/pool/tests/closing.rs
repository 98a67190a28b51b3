//! The end of a pool.

use tokio_test::{assert_pending, assert_ready, task};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_closed_pool_refuses_everyone_and_ends_everything() {
    let (factory, pool) = pool_of(2);
    let held = pool.get().await.unwrap();
    drop((pool.get().await.unwrap(), ()));
    let other = pool.get().await.unwrap();
    let mut waits = task::spawn(pool.get());
    assert_pending!(waits.poll());
    drop(other);
    drop(assert_ready!(waits.poll()));
    let other = pool.get().await.unwrap();
    let mut waits = task::spawn(pool.get());
    assert_pending!(waits.poll());
    pool.close();
    assert!(pool.is_closed() && waits.is_woken());
    let refused = error(assert_ready!(waits.poll()));
    assert_eq!(refused, Error::refused(Refusal::ShutDown));
    assert_eq!(error(pool.get().await).refusal(), Some(Refusal::ShutDown));
    assert_eq!(pool.try_get().map(drop), Err(Refusal::ShutDown));
    drop(other);
    let mut drained = task::spawn(pool.drained());
    assert_pending!(drained.poll());
    drop(held);
    assert!(drained.is_woken());
    assert_ready!(drained.poll());
    assert_eq!((factory.alive(), factory.close.begun()), (0, 2));
    assert_eq!(pool.snapshot().closed.pool_closed, 2);
    pool.close();
    pool.resize(9);
    assert_adds_up(&pool.snapshot());
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_creations_and_for_ends() {
    let (factory, pool) = pool_of(2);
    drop(pool.get().await.unwrap());
    factory.create.takes(SECOND);
    factory.close.takes(2 * SECOND);
    let held = pool.get().await.unwrap();
    error(pool.get().max_wait(MILLI).await);
    let start = time::now();
    drop(held);
    pool.close();
    assert_eq!((pool.snapshot().creating, pool.snapshot().closing), (1, 1));
    pool.drained().await;
    assert_eq!(time::now().since(start), a_bit_less(3 * SECOND));
    assert_eq!(factory.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_with_a_limit_says_what_is_still_out() {
    let (factory, pool) = pool_of(2);
    let held = pool.get().await.unwrap();
    drop(pool.get().await.unwrap());
    let report = pool.close_within(SECOND).await;
    assert!(!report.is_drained);
    assert_eq!((report.took, report.snapshot.in_use), (SECOND, 1));
    drop(held);
    let report = pool.close_within(SECOND).await;
    assert!(report.is_drained);
    assert_eq!((report.took, report.snapshot.size), (Duration::ZERO, 0));
    assert_eq!(factory.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_an_open_pool_waits_for_its_close() {
    let (_, pool) = pool_of(2);
    let mut drained = task::spawn(pool.drained());
    assert_pending!(drained.poll());
    pool.close();
    assert!(drained.is_woken());
    assert_ready!(drained.poll());
}

/// What was handed over before the close, and looked at after it, is not lent out.
#[tokio::test(start_paused = true)]
async fn nothing_is_lent_out_after_the_close() {
    let (factory, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let mut waits = task::spawn(pool.get());
    assert_pending!(waits.poll());
    drop(held);
    pool.close();
    let refused = error(assert_ready!(waits.poll()));
    assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
    pool.drained().await;
    assert_eq!(
        (factory.alive(), pool.snapshot().closed.pool_closed),
        (0, 1)
    );
}

/// In the middle of a check, the pool closes: its end refuses the caller.
#[tokio::test(start_paused = true)]
async fn a_check_under_way_while_the_pool_closes_loses_nothing() {
    for does in [Does::Well, Does::Fail] {
        let (factory, builder) = plant();
        let pool = builder.max_size(1).check(Check::Always).build().unwrap();
        drop(pool.get().await.unwrap());
        factory.check.takes(SECOND);
        factory.check.set(does);
        let (got, ()) = tokio::join!(pool.get(), async {
            sleep(MILLI).await;
            pool.close();
        });
        assert_eq!(error(got).refusal(), Some(Refusal::ShutDown));
        pool.drained().await;
        assert_eq!(factory.alive(), 0);
        assert_adds_up(&pool.snapshot());
    }
}

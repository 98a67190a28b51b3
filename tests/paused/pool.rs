//! The pool, over the public API.

use std::cell::Cell;
use std::time::Duration;

use mainstay::pool::{Drained, Get, Manage, Pool, PoolBuilder, PoolSnapshot, Pooled};
use mainstay::{Error, Pipeline, Refusal};
use static_assertions::{assert_impl_all, assert_not_impl_any};

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

async fn number() -> Result<u32, Oops> {
    tokio::time::sleep(SECOND).await;
    Ok(7)
}

async fn double<M: Manage<Object = u32, Error = Oops>>(pool: &Pool<M>) -> Result<u32, Error<Oops>> {
    let once = pool.use_with(async |n| Ok::<_, Oops>(*n)).await?;
    let twice = pool.get().await?;
    Ok(once + *twice)
}

fn in_a_task<M: Manage<Object = u32, Error = Oops>>(
    pool: Pool<M>,
) -> tokio::task::JoinHandle<Result<u32, Error<Oops>>> {
    tokio::spawn(async move { pool.get().await.map(|n| *n) })
}

#[tokio::test(start_paused = true)]
async fn every_future_can_be_spawned() {
    let pool = Pool::builder(number).max_size(2).build().unwrap();
    assert_eq!(in_a_task(pool.clone()).await.unwrap(), Ok(7));
    let by = String::from("1");
    let all = tokio::spawn({
        let pool = pool.clone();
        async move {
            let sum = double(&pool).await?;
            let used = pool
                .use_with(async |n| {
                    tokio::time::sleep(SECOND).await;
                    *n += by.parse::<u32>().unwrap();
                    Ok::<_, Oops>(*n)
                })
                .await?;
            let held = pool.get().max_wait(SECOND).await?;
            let used_again = Pooled::use_with(held, async |n| Ok::<_, Oops>(*n)).await?;
            let report = pool.close_within(SECOND).await;
            pool.drained().await;
            Ok::<_, Error<Oops>>((sum, used, used_again, report.is_drained))
        }
    });
    assert_eq!(all.await.unwrap(), Ok((14, 8, 8, true)));
    assert_eq!(
        pool.get().await.unwrap_err().refusal(),
        Some(Refusal::ShutDown)
    );
}

type Make<T> = fn() -> std::future::Ready<Result<T, Oops>>;

// An object that only one thread may look at can be pooled: one at a time does.
assert_impl_all!(Pool<Make<Cell<u8>>>: Send, Sync, Clone, std::fmt::Debug);
assert_impl_all!(Get<'static, Make<Cell<u8>>>: Send, Unpin, std::fmt::Debug);
assert_impl_all!(Drained<'static, Make<Cell<u8>>>: Send, std::fmt::Debug);
assert_impl_all!(PoolBuilder<Make<Cell<u8>>>: Send, std::fmt::Debug);
assert_impl_all!(Pooled<'static, Make<Cell<u8>>>: Send, std::fmt::Debug);
assert_not_impl_any!(Pooled<'static, Make<Cell<u8>>>: Sync, Clone);
assert_impl_all!(Pooled<'static, Make<u8>>: Sync);
assert_impl_all!(PoolSnapshot: Send, Sync, Copy, Eq);

fn used_in_a_task<M: Manage<Object = u32, Error = Oops>>(
    pool: Pool<M>,
) -> tokio::task::JoinHandle<Result<u32, Error<Oops>>> {
    tokio::spawn(async move { pool.use_with(async |n| Ok::<_, Oops>(*n)).await })
}

#[tokio::test(start_paused = true)]
async fn a_use_can_be_spawned_whatever_the_manager_is() {
    let pool = Pool::builder(number).max_size(1).build().unwrap();
    assert_eq!(used_in_a_task(pool).await.unwrap(), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_a_pipeline_ends_with_the_time_of_the_call() {
    let pool = Pool::builder(number).max_size(1).build().unwrap();
    let held = pool.get().await.unwrap();
    let query = Pipeline::builder("query")
        .timeout(2 * SECOND)
        .build()
        .unwrap();
    let call = query.call_with(|attempt| {
        let pool = &pool;
        async move {
            let object = pool.get().during(&attempt).await?;
            Ok::<_, Error<Oops>>(*object)
        }
    });
    let start = tokio::time::Instant::now();
    assert!(call.await.is_err());
    assert_eq!(start.elapsed(), 2 * SECOND);
    assert_eq!(pool.snapshot().pending, 0);
    drop(held);
    assert_eq!(pool.get().await.map(|n| *n), Ok(7));
}

/// The guides' pool, told in one test: two first callers, a failing service, a full pool.
#[tokio::test(start_paused = true)]
async fn what_the_guides_pool_does_wrong_goes_right() {
    let pool = Pool::builder(number).max_size(3).build().unwrap();
    let (first, second) = tokio::join!(pool.get(), pool.get());
    assert_eq!((pool.snapshot().size, pool.snapshot().created), (2, 2));
    drop((first, second));

    let failing = Pool::builder(|| async { Err::<u32, _>(Oops(1)) });
    let failing = failing.max_size(3).build().unwrap();
    let (first, second) = tokio::join!(failing.get(), failing.get());
    assert_eq!(first.map(|n| *n), Err(Error::operation(Oops(1))));
    assert_eq!(second.map(|n| *n), Err(Error::operation(Oops(1))));
    assert_eq!(failing.snapshot().size, 0);
}

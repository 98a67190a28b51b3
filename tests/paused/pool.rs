//! The pool, over the public API.

use std::time::Duration;

use mainstay::pool::{Manage, Pool, Pooled};
use mainstay::{Error, Refusal};

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

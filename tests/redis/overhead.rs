//! What the protections cost, against the bare library.

use std::time::{Duration, Instant};

use mainstay::redis::{Connections, RedisClient};

use crate::redis_server::RedisServer;

const CALLS: u32 = 20_000;

/// Nanoseconds a call, by so many callers at once.
async fn measured<F, Fut>(callers: u32, call: F) -> f64
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                for _ in 0..CALLS / callers {
                    call().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

async fn ours(client: RedisClient, callers: u32) -> f64 {
    measured(callers, move || {
        let client = client.clone();
        async move {
            client.get::<Vec<u8>>("k").await.unwrap();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures: run it alone, in release, with --nocapture"]
async fn the_overhead_against_the_bare_library() {
    let server = RedisServer::start();
    let client = |connections| {
        let builder = RedisClient::builder(server.url()).connections(connections);
        let builder = builder.limits(Duration::from_secs(10));
        builder.build().unwrap()
    };
    let bare = ::redis::Client::open(server.url()).unwrap();
    let config = ::redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let bare = bare
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap();
    let (one, pool) = (
        client(Connections::Multiplexed(1)),
        client(Connections::Pooled(64)),
    );
    let small = client(Connections::Pooled(8));
    one.set("k", "v").await.unwrap();
    for callers in [1, 64] {
        let mut best = [f64::MAX; 4];
        for _round in 0..7 {
            let plain = bare.clone();
            let plain = measured(callers, move || {
                let mut plain = plain.clone();
                async move {
                    let command = ::redis::cmd("GET").arg("k").take();
                    let _: Option<Vec<u8>> = command.query_async(&mut plain).await.unwrap();
                }
            });
            let times = [
                plain.await,
                ours(one.clone(), callers).await,
                ours(pool.clone(), callers).await,
                ours(small.clone(), callers).await,
            ];
            best = std::array::from_fn(|at| best[at].min(times[at]));
        }
        let [plain, shared, pooled, few] = best;
        println!(
            "{callers} callers: bare {plain:.0} ns, multiplexed {shared:.0} ns ({:.3}), \
             pool of 64 {pooled:.0} ns ({:.3}), pool of 8 {few:.0} ns ({:.3})",
            shared / plain,
            pooled / plain,
            few / plain,
        );
    }
}

//! What a call costs, next to a round trip on the same connection.

use std::time::Instant;

use super::{SECOND, bulkhead, client, limiter};
use crate::redis_server::RedisServer;

const CALLS: u32 = 5000;

async fn timed<F: Future>(mut call: impl FnMut() -> F) -> f64 {
    for _ in 0..CALLS / 10 {
        call().await;
    }
    let begun = Instant::now();
    for _ in 0..CALLS {
        call().await;
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

/// Run it by hand, in release.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_call_costs() {
    let server = RedisServer::start();
    let raw = client(&server.url());
    let (rate, slots) = (
        limiter(&server, 1_000_000, SECOND, 1_000_000),
        bulkhead(&server, 10, 10 * SECOND),
    );
    let empty = redis::Script::new("return 1");
    let get = timed(|| async { raw.exists("nothing").await.unwrap() }).await;
    let script = timed(|| async {
        let none: [&str; 0] = [];
        raw.script(&empty, &none, &none).await.unwrap()
    })
    .await;
    let take = timed(|| async { rate.try_acquire(1).await.unwrap() }).await;
    let lease = timed(|| async { drop(slots.try_acquire(1).await.unwrap()) }).await;
    let begun = Instant::now();
    let crowd = (0..CALLS).map(|_| rate.try_acquire(1));
    let answers = futures_util::future::join_all(crowd).await;
    let crowd = begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
    let stats = server.ask("INFO commandstats");
    let scripts: Vec<_> = stats.lines().filter(|line| line.contains("eval")).collect();
    println!("on the server: {scripts:?}");
    println!("{:?}", slots.snapshot());
    println!("EXISTS {get:.1} us, empty script {script:.1} us");
    println!("rate limiter {take:.1} us, in a crowd {crowd:.2} us; bulkhead {lease:.1} us");
    println!(
        "{} of {} in the crowd",
        answers.iter().filter(|each| each.is_ok()).count(),
        CALLS
    );
}

//! The Redis adapter with a real server.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

#[path = "../support/redis_server.rs"]
mod redis_server;

mod cancel;
mod commands;
mod exclusive;
mod outage;
mod overhead;
mod probe;
mod scan;
mod settings;
mod strangers;

use std::time::{Duration, Instant};

use mainstay::redis::RedisClient;

/// Longer than anything takes here, on a machine that is busy.
const BOUND: Duration = Duration::from_secs(30);

fn client(url: &str) -> RedisClient {
    RedisClient::builder(url).build().unwrap()
}

/// A command of these words.
fn line(words: &str) -> ::redis::Cmd {
    let mut words = words.split(' ');
    let mut command = ::redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

/// Waits for a condition, with a bound.
#[track_caller]
fn until<'a>(what: &'a str, mut holds: impl FnMut() -> bool + 'a) -> impl Future<Output = ()> + 'a {
    let begun = Instant::now();
    async move {
        while !holds() {
            assert!(begun.elapsed() < BOUND, "never: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Calls until it is answered, with a bound.
async fn healed(client: &RedisClient) {
    let begun = Instant::now();
    while let Err(error) = client.exists("healed").await {
        assert!(begun.elapsed() < BOUND, "never healed: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
mod limits;

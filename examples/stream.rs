//! The answer of an agent as a stream: the chapters "Pattern 1: Async with Streaming" and
//! "Pattern 3: Timeout Handling" of the agentflow guide.
//!
//! There a connection that is cut ends the answer in the middle, and a time limit around the
//! whole throws away what has come. Here it is opened again where it was cut, each word has
//! its own limit, and the words are paced.

use std::cell::Cell;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use mainstay::prelude::*;
use mainstay::retry::Jitter;
use mainstay::stream::{every, resume};

const ANSWER: &str = "a mainstay is the rope that holds up the main mast of a ship";

/// The server's side: words from a place on; it is cut twice, and once it hangs.
fn answer(from: usize, connection: u32) -> impl Stream<Item = Result<(usize, String), String>> {
    let words = ANSWER.split(' ').map(String::from).enumerate().skip(from);
    let lasts = if connection < 4 { 4 } else { usize::MAX };
    let end = stream::once(async move {
        match connection {
            1 | 3 => Err(String::from("connection reset")),
            _ => std::future::pending().await,
        }
    });
    let words = stream::iter(words.take(lasts).map(Ok));
    words.chain(end.take(usize::from(connection < 4)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), mainstay::ConfigError> {
    let connection = Cell::new(0);
    let open = |from: usize| {
        connection.set(connection.get() + 1);
        println!("  [connection {} from word {from}]", connection.get());
        std::future::ready(Ok(answer(from, connection.get())))
    };
    let backoff = Backoff::exponential(Duration::from_millis(50)).jitter(Jitter::None);
    let retry = Retry::builder().max_attempts(5).backoff(backoff).build()?;
    let pace = RateLimiter::per_second(40).burst(1).build()?;

    let mut words = resume(0, open, |next, (at, _)| *next = at + 1)
        .retry(retry)
        .time_limit_each(Duration::from_millis(200))
        .rate_limit(&pace)
        .time_limit(Duration::from_secs(3));
    while let Some(word) = words.next().await {
        match word {
            Ok((_, word)) => println!("{word}"),
            Err(error) => println!("gave up: {error}"),
        }
    }

    println!("a loop that looks after it every 50 ms, and is held up once:");
    let mut beat = every(Duration::from_millis(50));
    for round in 0..4 {
        if let Some(tick) = beat.next().await {
            println!("  round {round}: {} ticks missed", tick.missed);
        }
        if round == 1 {
            tokio::time::sleep(Duration::from_millis(220)).await;
        }
    }
    Ok(())
}

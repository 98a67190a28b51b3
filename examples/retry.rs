//! Tries again: with back-off, with the server's own time, and on a budget.

use std::cell::Cell;
use std::time::Duration;

use mainstay::prelude::*;
use mainstay::retry::{RetryEvent, Verdict};
use mainstay::{Error, Retry};

const MS: Duration = Duration::from_millis(1);

#[derive(Debug)]
enum Failure {
    Lost,
    /// The server names a time, as `Retry-After` does.
    Busy(Duration),
    NotFound,
}

fn judge(result: Result<&u32, &Error<Failure>>) -> Verdict {
    match result.map_err(Error::last) {
        Ok(_) | Err(Some(Failure::NotFound)) => Verdict::Stop,
        Err(Some(Failure::Busy(wait))) => Verdict::RetryAfter(*wait),
        Err(Some(Failure::Lost) | None) => Verdict::Retry,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), mainstay::ConfigError> {
    let retry = Retry::builder()
        .max_attempts(4)
        .backoff(Backoff::exponential(50 * MS))
        .classify(judge)
        .on_retry(|event: &RetryEvent<'_, u32, Failure>| {
            let RetryEvent {
                attempt,
                delay,
                result,
                ..
            } = event;
            println!("  attempt {attempt}: {result:?}; the next in {delay:.0?}");
        })
        .build()?;

    println!("two failures, then an answer:");
    let tries = Cell::new(0);
    let flaky = || {
        tries.set(tries.get() + 1);
        std::future::ready(match tries.get() {
            1 => Err(Failure::Lost),
            2 => Err(Failure::Busy(200 * MS)),
            _ => Ok(7),
        })
    };
    println!("  {:?}", flaky.retry(&retry).await);

    println!("nothing to try again:");
    let missing = || std::future::ready(Err(Failure::NotFound));
    println!("  {:?}", missing.retry(&retry).await);

    println!("an outage, 1000 calls, at most 3 attempts each:");
    let calls = Cell::new(0);
    let down = || {
        calls.set(calls.get() + 1);
        std::future::ready(Err::<(), _>("down"))
    };
    let budgeted = Retry::builder().backoff(Backoff::none()).build()?;
    for _ in 0..1000 {
        let _ = down.retry(&budgeted).await;
    }
    println!("  {} attempts, thanks to the default budget", calls.get());
    Ok(())
}

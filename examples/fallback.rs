//! Another answer: a value, a function of the error, or another operation.

use std::time::Duration;

use mainstay::observe::Event;
use mainstay::{Error, prelude::*};

type Answer = Result<String, std::io::Error>;

async fn primary() -> Answer {
    std::future::pending().await
}

fn replica() -> impl Future<Output = Answer> {
    std::future::ready(Ok(String::from("the replica's answer")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), mainstay::ConfigError> {
    let limit = Duration::from_millis(50);

    let value = Fallback::value(String::from("a fixed answer"));
    println!("{:?}", primary.timeout(limit).fallback(value).await);

    let told = Fallback::with(|error: Error<std::io::Error>| format!("because it {error}"));
    println!("{:?}", primary.timeout(limit).fallback(told).await);

    let late = |error: &Error<std::io::Error>| error.is_timed_out();
    let pipeline = Pipeline::builder("reads")
        .observe(|event: &Event<'_>| println!("  {event}"))
        .fallback(Fallback::call(|_| replica()).when(late))
        .timeout(limit)
        .build()?;
    println!("{:?}", pipeline.call(primary).await);

    let missing = || async { Err(std::io::Error::from(std::io::ErrorKind::NotFound)) };
    println!("not for every error: {:?}", pipeline.call(missing).await);
    Ok(())
}

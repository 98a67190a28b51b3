//! Each setting by its effect, and how the client's things look in a log.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use mainstay::observe::Event;
use mainstay::redis::{
    Effect, RedisClient, RedisErrorKind, SharedBulkhead, SharedRateLimiter, may_have_acted,
};
use mainstay::retry::{Backoff, RetryBudget};
use mainstay::{CircuitBreaker, Refusal};

use crate::redis_server::RedisServer;
use crate::{BOUND, client, line};

const SECOND: Duration = Duration::from_secs(1);
const SECRET: &str = "hunter2";

#[track_caller]
fn shows(thing: &impl Debug, name: &str, parts: &[&str]) {
    let text = format!("{thing:?}");
    assert!(text.starts_with(name), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn everything_has_a_form_and_none_shows_the_password() {
    let url = format!("redis://user:{SECRET}@localhost:1");
    let builder = RedisClient::builder(url);
    shows(&builder, "RedisClientBuilder", &[]);
    shows(&builder.build().unwrap(), "RedisClient", &[]);

    let server = RedisServer::start();
    let client = client(&server.url());
    shows(
        &client.scan("user:*").page(7),
        "Scan",
        &["user:*", "page: 7"],
    );
    shows(
        &client.exclusive().await.unwrap(),
        "Exclusive",
        &["state: Clean"],
    );
    let asked = client.command(line("GET k"));
    assert!(asked.is_repeatable());
    assert!(!client.command(line("INCR k")).is_repeatable());
    shows(&asked, "Request", &["Command"]);
    shows(&client.batch(::redis::pipe()), "Request", &["Batch"]);
    let limiter = SharedRateLimiter::builder(&client, "rate")
        .rate(9, SECOND)
        .build()
        .unwrap();
    shows(&limiter, "SharedRateLimiter", &["Driver", "running: false"]);
    shows(&limiter.acquire(1), "SharedRateLimiterAcquire", &[]);
    let slots = SharedBulkhead::builder(&client, "slots")
        .max_concurrent(1)
        .build()
        .unwrap();
    shows(&slots.acquire(1), "SharedBulkheadAcquire", &["wait"]);
    let permit = slots.acquire(1).await.unwrap();
    shows(
        &permit,
        "SharedPermit",
        &["fencing_token: Some", "lost: false"],
    );
}

/// Where there is no server.
fn nowhere() -> mainstay::redis::RedisClientBuilder {
    RedisClient::builder("redis://127.0.0.1:1").no_probe()
}

#[tokio::test]
async fn the_waits_between_attempts_the_budget_and_the_observer_are_those_given() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let budget = RetryBudget::new(0.1, 1).unwrap();
    while budget.withdraw() {}
    let settings = || {
        let tell = Arc::clone(&tell);
        nowhere()
            .max_attempts(3)
            .backoff(Backoff::constant(Duration::from_millis(1)))
            .reconnect_backoff(Backoff::constant(Duration::from_millis(1)))
            .observe(move |event: &Event<'_>| tell.lock().unwrap().push(event.to_string()))
    };
    let client = settings().build().unwrap();
    let error = client.exists("k").await.unwrap_err();
    assert!(!may_have_acted(&error));
    let seen = std::mem::take(&mut *told.lock().unwrap());
    assert!(
        seen.iter().any(|line| line.starts_with("redis: ")),
        "{seen:?}"
    );

    let poor = settings().retry_budget(budget).build().unwrap();
    let error = poor.exists("k").await.unwrap_err();
    assert_eq!(error.attempts(), 1, "{error}");
}

#[tokio::test]
async fn a_breaker_of_ones_own_is_asked() {
    let breaker = CircuitBreaker::builder().build().unwrap();
    let server = RedisServer::start();
    let builder = RedisClient::builder(server.url()).no_probe();
    let client = builder.circuit_breaker(breaker.clone()).build().unwrap();
    client.set("k", 1).await.unwrap();
    breaker.force_open();
    let refused = client.set("k", 2).await.unwrap_err();
    assert!(
        matches!(refused.refusal(), Some(Refusal::CircuitOpen { .. })),
        "{refused}"
    );
}

#[tokio::test]
async fn what_changes_the_connection_does_not_go_into_a_batch() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let mut own = client.exclusive().await.unwrap();
    let mut batch = ::redis::pipe();
    batch.add_command(line("WATCH k"));
    let error = own.batch::<()>(batch).await.unwrap_err();
    let last = error.last().unwrap();
    assert_eq!(last.kind(), RedisErrorKind::Usage);
    assert_eq!(last.effect(), Effect::NotSent);
    assert_eq!(last.advice(), "use a connection of its own: `exclusive`");
    assert!(
        client
            .get_many::<String>(&[] as &[&str])
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_scan_that_cannot_be_done_says_why_and_is_over() {
    let client = nowhere().max_attempts(1).build().unwrap();
    let mut scan = client.scan("*").within(BOUND);
    let error = scan.next().await.unwrap().unwrap_err();
    assert_eq!(error.last().unwrap().kind(), RedisErrorKind::Connection);
    assert!(scan.next().await.is_none());
}

/// How long a limit lets wait is said at its builder, and holds for the pipeline too.
#[tokio::test]
async fn shared_limits_wait_no_longer_than_they_were_told() {
    let server = RedisServer::start();
    let client = client(&server.url());
    let short = Duration::from_millis(20);
    let slots = SharedBulkhead::builder(&client, "slots")
        .max_concurrent(1)
        .max_wait(short);
    let rate = SharedRateLimiter::builder(&client, "rate")
        .rate(1, BOUND)
        .max_wait(short);
    let calls = AtomicU32::new(0);
    let pipeline = mainstay::Pipeline::builder("shared")
        .policy(rate)
        .policy(slots)
        .build()
        .unwrap();
    let call = async || {
        calls.fetch_add(1, SeqCst);
        Ok::<_, std::io::Error>(())
    };
    pipeline.call(call).await.unwrap();
    let refused = pipeline.call(call).await.unwrap_err();
    assert!(
        matches!(refused.refusal(), Some(Refusal::RateLimited { .. })),
        "{refused}"
    );
    assert_eq!(calls.load(SeqCst), 1);
}

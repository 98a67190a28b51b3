//! The shared rate limiter in one process, with a real server.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mainstay::redis::{SharedRateLimiter, WhenAway};
use mainstay::{Pipeline, Refusal};

use super::{MILLI, SECOND, client, eventually, limiter};
use crate::redis_server::{Faults, Proxy, RedisServer};

fn rate_limited(refusal: Refusal) -> Duration {
    let Refusal::RateLimited { retry_after, .. } = refusal else {
        panic!("{refusal:?}");
    };
    retry_after
}

fn is_away(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Other { .. })
}

#[tokio::test]
async fn two_limiters_of_one_key_are_one() {
    let server = RedisServer::start();
    let one = limiter(&server, 1, 10 * SECOND, 3);
    let other = limiter(&server, 1, 10 * SECOND, 3);
    one.try_acquire(2).await.unwrap();
    other.try_acquire(1).await.unwrap();
    for limiter in [&one, &other] {
        let after = rate_limited(limiter.try_acquire(1).await.unwrap_err());
        assert!(after > 9 * SECOND && after <= 10 * SECOND, "{after:?}");
    }
}

#[tokio::test]
async fn what_the_refusal_says_is_exact() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, 300 * MILLI, 1);
    limiter.try_acquire(1).await.unwrap();
    let asked = Instant::now();
    let after = rate_limited(limiter.try_acquire(1).await.unwrap_err());
    tokio::time::sleep(after.saturating_sub(60 * MILLI)).await;
    let early = limiter.try_acquire(1).await;
    // On a busy machine it may be late already.
    if asked.elapsed() < after {
        assert!(rate_limited(early.unwrap_err()) < 150 * MILLI);
        tokio::time::sleep(after.saturating_sub(asked.elapsed()) + 20 * MILLI).await;
    } else if early.is_ok() {
        return;
    }
    limiter.try_acquire(1).await.unwrap();
}

/// Trap 41.
#[tokio::test]
async fn more_than_the_burst_is_refused_without_a_question() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 10, SECOND, 5);
    assert_eq!(limiter.acquire(6).await, Err(Refusal::too_large(6, 5)));
    limiter.try_acquire(0).await.unwrap();
    assert_eq!(limiter.snapshot().questions, 0);
}

/// Trap 44.
#[tokio::test]
async fn a_wait_that_cannot_fit_is_refused_at_once() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, 1000 * SECOND, 1);
    limiter.try_acquire(1).await.unwrap();
    let begun = Instant::now();
    // Who slept a wait out that cannot fit would be a minute late.
    let after = rate_limited(limiter.acquire_within(1, 60 * SECOND).await.unwrap_err());
    assert!(after > 900 * SECOND);
    let pipeline = Pipeline::builder("late")
        .timeout(60 * SECOND)
        .policy(limiter.clone())
        .build()
        .unwrap();
    let refused = pipeline.call(|| async { Ok::<_, Infallible>(()) }).await;
    assert!(rate_limited(refused.unwrap_err().refusal().unwrap()) > 900 * SECOND);
    assert!(begun.elapsed() < 50 * SECOND);
    // A wait behind one who waits already is known without a question.
    let patient = tokio::spawn(limiter.acquire_within(1, 6000 * SECOND));
    eventually("it waits", || limiter.snapshot().queued == 1).await;
    tokio::time::sleep(20 * MILLI).await;
    let questions = limiter.snapshot().questions;
    let after = rate_limited(limiter.acquire_within(1, 60 * SECOND).await.unwrap_err());
    assert!(after > 1800 * SECOND, "{after:?}");
    assert_eq!(limiter.snapshot().questions, questions);
    patient.abort();
}

/// Traps 34 and 35: the one behind gets the due time of the one who has gone.
#[tokio::test]
async fn a_cancelled_waiter_consumes_nothing() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, 2 * SECOND, 1);
    limiter.try_acquire(1).await.unwrap();
    let begun = Instant::now();
    let first = tokio::spawn(limiter.acquire_within(1, 10 * SECOND));
    eventually("one waits", || limiter.snapshot().queued == 1).await;
    let second = tokio::spawn(limiter.acquire_within(1, 10 * SECOND));
    eventually("two wait", || limiter.snapshot().queued == 2).await;
    let third = tokio::spawn(limiter.acquire_within(1, 10 * SECOND));
    eventually("three wait", || limiter.snapshot().queued == 3).await;
    tokio::time::sleep(50 * MILLI).await;
    first.abort();
    third.abort();
    second.await.unwrap().unwrap();
    let took = begun.elapsed();
    // Else it were the time of the one behind: 4 s.
    assert!(took > 1500 * MILLI && took < 3500 * MILLI, "{took:?}");
    // The third has consumed nothing either.
    limiter.acquire_within(1, 2500 * MILLI).await.unwrap();
}

/// Trap 34, in rounds.
#[tokio::test]
async fn a_thousand_cancelled_waits_consume_nothing() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, 3 * SECOND, 1);
    limiter.try_acquire(1).await.unwrap();
    let begun = Instant::now();
    for _ in 0..1000 {
        let mut wait = Box::pin(limiter.acquire_within(1, 100 * SECOND));
        tokio::select! {
            biased;
            _ = &mut wait => break,
            () = tokio::task::yield_now() => {}
        }
    }
    limiter.acquire_within(1, 100 * SECOND).await.unwrap();
    // A question whose caller went in the very moment of its answer may have spent one.
    assert!(begun.elapsed() < 8 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(limiter.snapshot().queued, 0);
}

/// The claim of a process that has nobody waiting any more is taken back.
#[tokio::test]
async fn a_cancelled_waiter_holds_up_nobody_elsewhere() {
    let server = RedisServer::start();
    // So slow that no time passes between two questions.
    let one = limiter(&server, 1, 100 * SECOND, 4);
    let other = limiter(&server, 1, 100 * SECOND, 4);
    one.try_acquire(4).await.unwrap();
    let waits = tokio::spawn(one.acquire_within(4, 1000 * SECOND));
    eventually("it has a claim", || server.ask("HLEN rate") == ":2").await;
    let after = rate_limited(other.try_acquire(1).await.unwrap_err());
    assert!(after > 300 * SECOND, "{after:?}");
    waits.abort();
    eventually("it has none", || server.ask("HLEN rate") == ":1").await;
    let after = rate_limited(other.try_acquire(1).await.unwrap_err());
    assert!(after <= 100 * SECOND, "{after:?}");
}

/// Trap 36: one question is under way for all, and no more than one for each that is let in.
#[tokio::test]
async fn a_hundred_waiters_are_no_herd_and_come_in_order() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 200, SECOND, 2);
    let order = Arc::new(AtomicU32::new(0));
    let waits: Vec<_> = (0..100)
        .map(|nth| {
            let wait = limiter.acquire_within(1 + nth % 2, 10 * SECOND);
            let order = Arc::clone(&order);
            async move {
                wait.await.unwrap();
                assert_eq!(order.fetch_add(1, Ordering::SeqCst), nth);
            }
        })
        .collect();
    futures_util::future::join_all(waits).await;
    let seen = limiter.snapshot();
    assert_eq!((seen.granted, seen.queued), (100, 0));
    assert!(seen.questions <= 110, "{} questions", seen.questions);
}

/// Trap 36 between processes: one who takes whatever there is does not starve one who waits
/// for more.
#[tokio::test]
async fn a_large_wait_is_not_starved_by_another_process() {
    let server = RedisServer::start();
    let greedy = limiter(&server, 100, SECOND, 10);
    let modest = limiter(&server, 100, SECOND, 10);
    let taker = tokio::spawn(async move {
        loop {
            let _ = greedy.try_acquire(1).await;
        }
    });
    tokio::time::sleep(200 * MILLI).await;
    for _ in 0..5 {
        let begun = Instant::now();
        modest.acquire_within(10, 5 * SECOND).await.unwrap();
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    }
    taker.abort();
}

/// Trap 38: a key from the future is one of a clock that was set back. It brings no permits,
/// and locks nobody out.
#[tokio::test]
async fn a_clock_that_was_set_back_brings_nothing_and_takes_nothing() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, 200 * MILLI, 5);
    limiter.try_acquire(1).await.unwrap();
    let hour = 3_600_000_000_u64;
    let at = micros(&server) + hour;
    // Two of five permits are left, an hour ahead.
    server.ask(&format!("HSET rate t \"{} 0 1 {at}\"", at + 600_000));
    limiter.try_acquire(2).await.unwrap();
    let after = rate_limited(limiter.try_acquire(1).await.unwrap_err());
    assert!(after <= 200 * MILLI, "{after:?}");
    limiter.acquire_within(1, SECOND).await.unwrap();
    rate_limited(limiter.try_acquire(1).await.unwrap_err());
}

fn micros(server: &RedisServer) -> u64 {
    let answer = server.ask("TIME");
    let numbers: Vec<u64> = answer
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    numbers[0] * 1_000_000 + numbers[1]
}

#[tokio::test]
async fn the_key_is_gone_when_the_bucket_is_full_again() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, 100 * MILLI, 3);
    limiter.try_acquire(2).await.unwrap();
    let ttl = server.ask("PTTL rate");
    let ttl: u64 = ttl.trim_start_matches(':').parse().unwrap();
    assert!((100..=202).contains(&ttl), "{ttl} ms");
    eventually("it is gone", || server.ask("EXISTS rate") == ":0").await;
    limiter.try_acquire(3).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_something_else_is_no_limit_and_no_hang() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, SECOND, 3);
    server.ask("SET rate nonsense");
    assert!(is_away(limiter.try_acquire(1).await.unwrap_err()));
    server.ask("DEL rate");
    server.ask("HSET rate t nonsense");
    tokio::time::sleep(1100 * MILLI).await;
    assert!(is_away(limiter.acquire(1).await.unwrap_err()));
    assert!(limiter.snapshot().failures >= 2);
    server.ask("DEL rate");
    eventually("it is back", || {
        let _ = futures_util::FutureExt::now_or_never(limiter.try_acquire(1));
        limiter.snapshot().away_for.is_none()
    })
    .await;
    limiter.try_acquire(1).await.unwrap();
}

/// Dropped at any time, calls leave nothing behind.
#[tokio::test]
async fn calls_that_are_dropped_at_any_time_leave_nothing_behind() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 2000, SECOND, 10);
    let mut calls = Vec::new();
    for nth in 0..400_u64 {
        let wait = limiter.acquire_within(1 + (nth % 3) as u32, 5 * SECOND);
        let span = Duration::from_micros(nth * 37 % 3000);
        calls.push(tokio::spawn(async move {
            let _ = tokio::time::timeout(span, wait).await;
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(limiter.snapshot().queued, 0);
    eventually("no claim is left", || {
        !server.ask("HKEYS rate").contains('w')
    })
    .await;
    limiter.acquire_within(10, 5 * SECOND).await.unwrap();
}

fn away(url: &str, choice: WhenAway) -> SharedRateLimiter {
    SharedRateLimiter::builder(&client(url), "rate")
        .rate(10, SECOND)
        .burst(4)
        .when_away(choice)
        .ask_within(200 * MILLI)
        .probe_every(50 * MILLI)
        .build()
        .unwrap()
}

async fn come_back(limiter: &SharedRateLimiter) {
    eventually("it is back", || {
        let _ = futures_util::FutureExt::now_or_never(limiter.try_acquire(1));
        limiter.snapshot().away_for.is_none()
    })
    .await;
}

#[tokio::test]
async fn while_redis_is_gone_the_choice_holds_and_then_redis_again() {
    let mut server = RedisServer::start();
    let refuse = away(&server.url(), WhenAway::Refuse);
    let allow = away(&server.url(), WhenAway::Allow);
    let local = away(&server.url(), WhenAway::local(2));
    for limiter in [&refuse, &allow, &local] {
        limiter.try_acquire(1).await.unwrap();
        assert_eq!(limiter.snapshot().away_for, None);
    }
    server.kill();
    assert!(is_away(refuse.try_acquire(1).await.unwrap_err()));
    assert!(is_away(refuse.acquire(1).await.unwrap_err()));
    for _ in 0..20 {
        allow.try_acquire(1).await.unwrap();
    }
    // A half of the burst of four, and of ten a second.
    local.try_acquire(2).await.unwrap();
    let after = rate_limited(local.try_acquire(1).await.unwrap_err());
    assert!(after > 100 * MILLI && after <= 200 * MILLI, "{after:?}");
    let begun = Instant::now();
    local.acquire(1).await.unwrap();
    assert!(begun.elapsed() > 100 * MILLI);
    let seen = [&refuse, &allow, &local].map(SharedRateLimiter::snapshot);
    assert!(seen.iter().all(|seen| seen.away_for.is_some()));
    assert_eq!(seen.map(|seen| seen.allowed_while_away), [0, 20, 2]);
    assert_eq!(seen.map(|seen| seen.refused_while_away), [2, 0, 1]);
    server.restart();
    for limiter in [&refuse, &allow, &local] {
        come_back(limiter).await;
        limiter.acquire(1).await.unwrap();
    }
}

#[tokio::test]
async fn a_redis_that_hangs_costs_one_call_the_time_limit() {
    let server = RedisServer::start();
    let limiter = away(&server.url(), WhenAway::Allow);
    limiter.try_acquire(1).await.unwrap();
    server.stop();
    let begun = Instant::now();
    limiter.try_acquire(1).await.unwrap();
    let first = begun.elapsed();
    assert!(first >= 200 * MILLI && first < SECOND, "{first:?}");
    let begun = Instant::now();
    for _ in 0..100 {
        limiter.try_acquire(1).await.unwrap();
    }
    assert!(begun.elapsed() < 100 * MILLI, "{:?}", begun.elapsed());
    server.resume();
    come_back(&limiter).await;
}

/// A deadline is kept whatever Redis does, and those who wait are let go of when it goes away.
#[tokio::test]
async fn whoever_waits_while_redis_goes_away_is_decided_by_the_choice() {
    let mut server = RedisServer::start();
    let limiter = away(&server.url(), WhenAway::Allow);
    limiter.try_acquire(4).await.unwrap();
    let waits: Vec<_> = (0..3)
        .map(|_| tokio::spawn(limiter.acquire_within(4, 60 * SECOND)))
        .collect();
    eventually("they wait", || limiter.snapshot().queued == 3).await;
    server.kill();
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    assert!(limiter.snapshot().away_for.is_some());
}

/// A lost answer has spent its permits: fewer, never more.
#[tokio::test]
async fn a_lost_answer_has_taken_its_permits() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    let limiter = away(&proxy.url(), WhenAway::Refuse);
    limiter.try_acquire(1).await.unwrap();
    proxy.set(Faults {
        swallow_answers: true,
        ..Faults::default()
    });
    assert!(is_away(limiter.try_acquire(3).await.unwrap_err()));
    let other = super::limiter(&server, 10, SECOND, 4);
    rate_limited(other.try_acquire(4).await.unwrap_err());
}

#[tokio::test]
async fn outside_of_a_runtime_it_says_so() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, SECOND, 1);
    let answer =
        std::thread::spawn(move || futures_util::FutureExt::now_or_never(limiter.acquire(1)));
    assert_eq!(answer.join().unwrap(), Some(Err(Refusal::NoRuntime)));
}

/// One who waits in a runtime that shuts down is let go of in another.
#[test]
fn a_runtime_that_ends_takes_nobody_with_it() {
    let server = RedisServer::start();
    let limiter = limiter(&server, 1, 300 * MILLI, 1);
    let first = tokio::runtime::Runtime::new().unwrap();
    first.block_on(limiter.try_acquire(1)).unwrap();
    let task = first.spawn(limiter.acquire_within(1, 60 * SECOND));
    while limiter.snapshot().queued == 0 {
        std::thread::yield_now();
    }
    let second = tokio::runtime::Runtime::new().unwrap();
    let other = second.spawn(limiter.acquire_within(1, 60 * SECOND));
    while limiter.snapshot().queued < 2 {
        std::thread::yield_now();
    }
    first.shutdown_background();
    drop(task);
    let told = second.block_on(async { tokio::time::timeout(10 * SECOND, other).await });
    assert_eq!(told.unwrap().unwrap(), Err(Refusal::NoRuntime));
    second
        .block_on(limiter.acquire_within(1, 5 * SECOND))
        .unwrap();
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let client = client("redis://127.0.0.1:1");
    let builder = || SharedRateLimiter::builder(&client, "rate").rate(1, SECOND);
    let fields = [
        SharedRateLimiter::builder(&client, "rate").build(),
        SharedRateLimiter::builder(&client, "")
            .rate(1, SECOND)
            .build(),
        builder().rate(0, SECOND).build(),
        builder().burst(0).build(),
        builder().permits(2).build(),
        builder().max_queue(0).build(),
        builder().ask_within(Duration::ZERO).build(),
        builder().when_away(WhenAway::local(0)).build(),
    ]
    .map(|built| built.unwrap_err().field());
    assert_eq!(
        fields,
        [
            "rate",
            "key",
            "rate",
            "burst",
            "permits",
            "max_queue",
            "ask_within",
            "when_away"
        ]
    );
}

/// Trap 24: a runtime of one thread runs nothing while nobody is in its `block_on`.
#[test]
fn a_runtime_that_stands_still_holds_up_no_other() {
    let server = RedisServer::start();
    // Its own time for an answer: the connection is on the runtime that stands still.
    let shared = SharedRateLimiter::builder(&client(&server.url()), "rate")
        .rate(1, SECOND)
        .build()
        .unwrap();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (still, other) = (runtime(), runtime());
    let mut waits = Box::pin(shared.acquire_within(1, 60 * SECOND));
    still.block_on(async {
        shared.try_acquire(1).await.unwrap();
        // It asks, and is to ask again when the permits are there.
        let asks = tokio::time::timeout(100 * MILLI, &mut waits).await;
        assert!(asks.is_err());
    });
    let begun = Instant::now();
    let taken = other.block_on(async {
        loop {
            match shared.acquire_within(1, 15 * SECOND).await {
                Err(refusal) if is_away(refusal) && begun.elapsed() < 15 * SECOND => {
                    tokio::time::sleep(20 * MILLI).await;
                }
                taken => break taken,
            }
        }
    });
    assert!(taken.is_ok(), "{taken:?}");
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
}

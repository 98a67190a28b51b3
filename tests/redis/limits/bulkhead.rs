//! The shared bulkhead in one process, with a real server.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mainstay::redis::{SharedBulkhead, WhenAway};
use mainstay::{Pipeline, Refusal};

use super::{MILLI, NONE, SECOND, bulkhead, client, eventually, leases};
use crate::redis_server::{Faults, Proxy, RedisServer};

fn is_full(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::BulkheadFull { .. })
}

fn is_away(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Other { .. })
}

#[tokio::test]
async fn two_bulkheads_of_one_key_are_one() {
    let server = RedisServer::start();
    let one = bulkhead(&server, 3, 10 * SECOND);
    let other = bulkhead(&server, 3, 10 * SECOND);
    let held = one.try_acquire(2).await.unwrap();
    let more = other.try_acquire(1).await.unwrap();
    assert!(more.fencing_token() > held.fencing_token());
    assert!(is_full(one.try_acquire(1).await.unwrap_err()));
    assert!(is_full(other.try_acquire(1).await.unwrap_err()));
    assert_eq!(
        other.acquire(4).await.unwrap_err(),
        Refusal::too_large(4, 3)
    );
    assert_eq!((one.snapshot().held, other.snapshot().in_use), (2, 3));
    let waiting = tokio::spawn(other.acquire(2));
    eventually("it waits", || other.snapshot().queued == 1).await;
    drop(held);
    let got = waiting.await.unwrap().unwrap();
    assert!(got.fencing_token() > more.fencing_token());
    drop((got, more));
    eventually("all is given back", || leases(&server) == NONE).await;
    assert_eq!(other.snapshot().held, 0);
}

#[tokio::test]
async fn a_call_in_a_pipeline_holds_its_slot() {
    let server = RedisServer::start();
    let shared = bulkhead(&server, 1, 10 * SECOND);
    let pipeline = Pipeline::builder("guarded")
        .timeout(300 * MILLI)
        .policy(shared.clone())
        .build()
        .unwrap();
    let seen = pipeline
        .call(|| async { Ok::<_, Infallible>(leases(&server)) })
        .await;
    assert_eq!(seen.unwrap(), ":1");
    let held = shared.acquire(1).await.unwrap();
    // The deadline of the pipeline ends the wait.
    let begun = Instant::now();
    let refused = pipeline.call(|| async { Ok::<_, Infallible>(()) }).await;
    assert!(refused.is_err() && begun.elapsed() < SECOND);
    let within = shared.acquire_within(1, 100 * MILLI).await.unwrap_err();
    assert!(is_full(within));
    drop(held);
    eventually("all is given back", || leases(&server) == NONE).await;
    assert_eq!(shared.snapshot().queued, 0);
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_it_is_held() {
    let server = RedisServer::start();
    let one = bulkhead(&server, 1, 300 * MILLI);
    let other = bulkhead(&server, 1, 300 * MILLI);
    let held = one.acquire(1).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < SECOND {
        assert!(is_full(other.try_acquire(1).await.unwrap_err()));
        assert!(!held.is_lost());
        tokio::time::sleep(20 * MILLI).await;
    }
    drop(held);
    drop(other.acquire(1).await.unwrap());
}

#[tokio::test]
async fn a_permit_that_cannot_be_renewed_says_that_it_is_lost() {
    let server = RedisServer::start();
    let one = bulkhead(&server, 1, 600 * MILLI);
    let other = bulkhead(&server, 1, 600 * MILLI);
    let held = one.acquire(1).await.unwrap();
    let late = tokio::time::timeout(300 * MILLI, held.lost()).await;
    assert!(late.is_err() && !held.is_lost());
    server.stop();
    let begun = Instant::now();
    tokio::time::timeout(5 * SECOND, held.lost()).await.unwrap();
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    assert!(held.is_lost());
    server.resume();
    let token = held.fencing_token();
    let next = loop {
        if let Ok(next) = other.try_acquire(1).await {
            break next;
        }
        tokio::time::sleep(20 * MILLI).await;
    };
    assert!(next.fencing_token() > token, "a late writer can be refused");
    assert!(held.is_lost(), "once lost, it stays so");
    assert_eq!(one.snapshot().lost, 1);
    // Its release changes nothing for the one who has the slot now.
    drop(held);
    tokio::time::sleep(100 * MILLI).await;
    assert_eq!(leases(&server), ":1");
}

/// A server that has lost its data hears of the leases again, from those who hold them.
#[tokio::test]
async fn leases_come_back_to_a_server_that_has_forgotten_them() {
    let server = RedisServer::start();
    let one = bulkhead(&server, 2, 600 * MILLI);
    let other = bulkhead(&server, 2, 600 * MILLI);
    let held = one.acquire(2).await.unwrap();
    let token = held.fencing_token();
    server.ask("FLUSHALL");
    eventually("it is there again", || leases(&server) == ":1").await;
    assert!(is_full(other.try_acquire(1).await.unwrap_err()));
    assert!(!held.is_lost());
    assert_eq!(held.fencing_token(), token);
    drop(held);
    let next = other.acquire(2).await.unwrap();
    assert!(next.fencing_token() > token);
    // Where others were faster, it is lost, and never are there more than the slots.
    server.ask("FLUSHALL");
    let third = bulkhead(&server, 2, 600 * MILLI);
    let faster = third.try_acquire(1).await.unwrap();
    assert!(faster.fencing_token() > next.fencing_token());
    tokio::time::timeout(5 * SECOND, next.lost()).await.unwrap();
    assert_eq!(leases(&server), ":1");
}

/// Fencing tokens rise over a restart without data.
#[tokio::test]
async fn tokens_rise_over_a_restart() {
    let mut server = RedisServer::start();
    let shared = bulkhead(&server, 4, 10 * SECOND);
    let mut highest = None;
    for round in 0..30 {
        if round % 10 == 9 {
            server.restart();
        }
        let permit = loop {
            if let Ok(permit) = shared.try_acquire(1).await {
                break permit;
            }
            tokio::time::sleep(20 * MILLI).await;
        };
        assert!(permit.fencing_token() > highest);
        highest = permit.fencing_token();
    }
}

/// Trap 17, 28 and 29: a call that is dropped at any time leaks no slot.
#[tokio::test]
async fn calls_that_are_dropped_at_any_time_leak_no_slot() {
    let server = RedisServer::start();
    let shared = SharedBulkhead::builder(&client(&server.url()), "slots")
        .max_concurrent(5)
        .max_queue(1000)
        .lease(60 * SECOND)
        .poll_every(2 * MILLI)
        .build()
        .unwrap();
    // How long an answer takes on this machine now: the calls live for up to a few of them.
    drop(shared.acquire(1).await.unwrap());
    let begun = Instant::now();
    drop(shared.acquire(5).await.unwrap());
    let unit = begun.elapsed().clamp(MILLI, SECOND);
    let mut calls = Vec::new();
    for nth in 0..400_u64 {
        let wait = shared.acquire(1 + (nth % 3) as u32);
        let span = unit * (nth * nth * 37 % 60_000) as u32 / 1000;
        calls.push(tokio::spawn(async move {
            let _ = tokio::time::timeout(span, async {
                let _permit = wait.await.unwrap();
                tokio::time::sleep(MILLI).await;
            })
            .await;
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    eventually("no lease is left", || leases(&server) == NONE).await;
    // That it was told, it has to say first.
    eventually("all is known", || shared.snapshot().returning == 0).await;
    let seen = shared.snapshot();
    assert_eq!((seen.held, seen.queued), (0, 0));
    assert!(seen.granted > 2, "some were let in");
    drop(shared.try_acquire(5).await.unwrap());
    eventually("the last is given back", || leases(&server) == NONE).await;
}

/// What a lost answer may have granted is given back long before its lease has run out.
#[tokio::test]
async fn what_a_lost_answer_has_granted_is_given_back() {
    for faults in [
        Faults {
            lose_answers: true,
            ..Faults::default()
        },
        Faults {
            swallow_answers: true,
            ..Faults::default()
        },
    ] {
        let server = RedisServer::start();
        let proxy = Proxy::to(&server);
        let shared = SharedBulkhead::builder(&client(&proxy.url()), "slots")
            .max_concurrent(2)
            .lease(30 * SECOND)
            .ask_within(200 * MILLI)
            .probe_every(50 * MILLI)
            .build()
            .unwrap();
        drop(shared.acquire(1).await.unwrap());
        eventually("the first is given back", || leases(&server) == NONE).await;
        proxy.set(faults);
        assert!(is_away(shared.acquire(1).await.unwrap_err()));
        assert_ne!(leases(&server), NONE, "it was granted");
        proxy.set(Faults::default());
        eventually("it is given back", || leases(&server) == NONE).await;
    }
}

/// A process that takes its slots again and again lets another one in, in turn.
#[tokio::test]
async fn a_busy_process_does_not_starve_another() {
    let server = RedisServer::start();
    let busy = bulkhead(&server, 2, 10 * SECOND);
    let other = bulkhead(&server, 2, 10 * SECOND);
    let taken = Arc::new(AtomicU32::new(0));
    for _ in 0..4 {
        let (busy, taken) = (busy.clone(), Arc::clone(&taken));
        tokio::spawn(async move {
            loop {
                let _permit = busy.acquire(1).await.unwrap();
                taken.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(5 * MILLI).await;
            }
        });
    }
    eventually("it is busy", || taken.load(Ordering::SeqCst) > 10).await;
    for weight in [1, 2, 1, 2, 2] {
        let begun = Instant::now();
        drop(other.acquire(weight).await.unwrap());
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn the_queue_is_in_order_and_bounded() {
    let server = RedisServer::start();
    let shared = SharedBulkhead::builder(&client(&server.url()), "slots")
        .max_concurrent(2)
        .max_queue(3)
        .build()
        .unwrap();
    let held = shared.acquire(2).await.unwrap();
    let order = Arc::new(AtomicU32::new(0));
    let mut waits = Vec::new();
    for nth in 0..3 {
        let (wait, order) = (shared.acquire(1 + nth % 2), Arc::clone(&order));
        waits.push(tokio::spawn(async move {
            let _permit = wait.await.unwrap();
            assert_eq!(order.fetch_add(1, Ordering::SeqCst), nth);
        }));
        eventually("it waits", || shared.snapshot().queued == nth as usize + 1).await;
    }
    eventually("it has asked", || shared.snapshot().questions > 2).await;
    assert!(is_full(shared.acquire(1).await.unwrap_err()));
    assert!(is_full(shared.try_acquire(1).await.unwrap_err()));
    drop(held);
    for wait in waits {
        wait.await.unwrap();
    }
}

/// Trap 22: a permit may be dropped on a plain thread, and after its runtime.
#[test]
fn a_permit_that_is_dropped_anywhere_is_given_back_or_runs_out() {
    let server = RedisServer::start();
    let shared = bulkhead(&server, 2, 600 * MILLI);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (one, two) = runtime.block_on(async {
        (
            shared.acquire(1).await.unwrap(),
            shared.acquire(1).await.unwrap(),
        )
    });
    std::thread::spawn(move || drop(one)).join().unwrap();
    wait_for(&server, ":1");
    drop(runtime);
    assert!(!two.is_lost());
    drop(two);
    wait_for(&server, NONE);
    let other = tokio::runtime::Runtime::new().unwrap();
    drop(other.block_on(shared.acquire(2)).unwrap());
}

fn wait_for(server: &RedisServer, count: &str) {
    let begun = Instant::now();
    // Leases that have run out are counted until the next question: here none comes, but the
    // key itself runs out with its last lease.
    while leases(server) != count {
        assert!(begun.elapsed() < 10 * SECOND, "{}", leases(server));
        std::thread::sleep(10 * MILLI);
    }
}

fn away(url: &str, choice: WhenAway) -> SharedBulkhead {
    SharedBulkhead::builder(&client(url), "slots")
        .max_concurrent(8)
        .when_away(choice)
        .ask_within(200 * MILLI)
        .probe_every(50 * MILLI)
        .build()
        .unwrap()
}

#[tokio::test]
async fn while_redis_is_gone_the_choice_holds_and_then_redis_again() {
    let mut server = RedisServer::start();
    let refuse = away(&server.url(), WhenAway::Refuse);
    let allow = away(&server.url(), WhenAway::Allow);
    let local = away(&server.url(), WhenAway::local(4));
    for shared in [&refuse, &allow, &local] {
        drop(shared.acquire(1).await.unwrap());
    }
    server.kill();
    assert!(is_away(refuse.acquire(1).await.unwrap_err()));
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(allow.acquire(1).await.unwrap());
    }
    assert!(held.iter().all(|permit| permit.fencing_token().is_none()));
    // A quarter of eight.
    let two = local.acquire(2).await.unwrap();
    assert!(is_full(local.try_acquire(1).await.unwrap_err()));
    assert!(is_full(
        local.acquire_within(1, 50 * MILLI).await.unwrap_err()
    ));
    let waiting = tokio::spawn(local.acquire(1));
    tokio::time::sleep(20 * MILLI).await;
    drop(two);
    let one = waiting.await.unwrap().unwrap();
    assert!(!one.is_lost());
    let seen = [&refuse, &allow, &local].map(SharedBulkhead::snapshot);
    assert!(seen.iter().all(|seen| seen.away_for.is_some()));
    assert_eq!(seen.map(|seen| seen.allowed_while_away), [0, 20, 2]);
    server.restart();
    for shared in [&refuse, &allow, &local] {
        eventually("it is back", || {
            let _ = futures_util::FutureExt::now_or_never(shared.try_acquire(1));
            shared.snapshot().away_for.is_none()
        })
        .await;
        assert!(shared.acquire(1).await.unwrap().fencing_token().is_some());
    }
}

#[tokio::test]
async fn a_redis_that_hangs_costs_one_call_the_time_limit() {
    let server = RedisServer::start();
    let shared = away(&server.url(), WhenAway::Allow);
    drop(shared.acquire(1).await.unwrap());
    eventually("it is given back", || leases(&server) == NONE).await;
    server.stop();
    let begun = Instant::now();
    drop(shared.acquire(1).await.unwrap());
    let first = begun.elapsed();
    assert!(first >= 200 * MILLI && first < SECOND, "{first:?}");
    let begun = Instant::now();
    for _ in 0..100 {
        drop(shared.acquire(1).await.unwrap());
    }
    assert!(begun.elapsed() < 100 * MILLI, "{:?}", begun.elapsed());
    // What it executes when it wakes up is given back then.
    server.resume();
    eventually("it is given back", || leases(&server) == NONE).await;
    eventually("nothing is left to tell", || {
        shared.snapshot().returning == 0
    })
    .await;
}

/// Trap 23: nothing is left running for a bulkhead that nobody has.
#[tokio::test]
async fn a_bulkhead_that_is_dropped_asks_nothing_more() {
    let server = RedisServer::start();
    let shared = bulkhead(&server, 1, 300 * MILLI);
    let permit = shared.acquire(1).await.unwrap();
    drop((shared, permit));
    eventually("it is given back", || leases(&server) == NONE).await;
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    eventually("its task has ended", || alive() <= 3).await;
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let client = client("redis://127.0.0.1:1");
    let builder = || SharedBulkhead::builder(&client, "slots").max_concurrent(2);
    let fields = [
        SharedBulkhead::builder(&client, "slots").build(),
        SharedBulkhead::builder(&client, "")
            .max_concurrent(1)
            .build(),
        builder().max_concurrent(0).build(),
        builder().weight(3).build(),
        builder().lease(MILLI).build(),
        builder().poll_every(Duration::ZERO).build(),
        builder().lease(SECOND).ask_within(500 * MILLI).build(),
        builder().ask_within(Duration::ZERO).build(),
        builder().when_away(WhenAway::local(0)).build(),
    ]
    .map(|built| built.unwrap_err().field());
    assert_eq!(
        fields,
        [
            "max_concurrent",
            "key",
            "max_concurrent",
            "weight",
            "lease",
            "poll_every",
            "ask_within",
            "ask_within",
            "when_away"
        ]
    );
}

/// Programs that want to be repeatable seed their random numbers: each would have the same.
#[tokio::test]
async fn processes_that_seed_alike_are_not_taken_for_one() {
    let server = RedisServer::start();
    let process = || {
        fastrand::seed(7);
        bulkhead(&server, 2, 10 * SECOND)
    };
    let (one, other) = (process(), process());
    let held = one.acquire(1).await.unwrap();
    let also = other.acquire(1).await.unwrap();
    assert_eq!(leases(&server), ":2");
    drop(held);
    eventually("one is given back", || leases(&server) == ":1").await;
    drop(also);
}

/// Trap 24: a runtime of one thread runs nothing while nobody is in its `block_on`.
#[test]
fn a_runtime_that_stands_still_holds_up_no_other() {
    let server = RedisServer::start();
    let shared = bulkhead(&server, 2, 10 * SECOND);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (still, other) = (runtime(), runtime());
    let held = still.block_on(shared.acquire(1)).unwrap();
    let begun = Instant::now();
    let next = other.block_on(async {
        // The connection stands still too: until there is another, Redis is away.
        let next = async {
            loop {
                match shared.acquire(1).await {
                    Ok(permit) => break permit,
                    Err(refusal) => assert!(is_away(refusal), "{refusal}"),
                }
                tokio::time::sleep(20 * MILLI).await;
            }
        };
        tokio::time::timeout(15 * SECOND, next)
            .await
            .expect("it hangs")
    });
    assert!(begun.elapsed() < 10 * SECOND && !held.is_lost());
    // Whoever runs again finds its place taken, and nothing is lost.
    still.block_on(async { tokio::time::sleep(50 * MILLI).await });
    drop((held, next));
    let all = other.block_on(shared.acquire(2)).unwrap();
    assert!(!all.is_lost());
}

/// They are gates as the local ones are: a pipeline of them is a tower layer.
#[cfg(feature = "tower")]
#[tokio::test]
async fn a_pipeline_of_shared_limits_is_a_tower_layer() {
    use tower::{ServiceBuilder, ServiceExt};

    let server = Arc::new(RedisServer::start());
    let rate = super::limiter(&server, 2, 60 * SECOND, 2);
    let slots = bulkhead(&server, 1, 10 * SECOND);
    let pipeline = Pipeline::builder("served")
        .policy(rate.clone())
        .policy(slots.clone())
        .build()
        .unwrap();
    let seen = Arc::clone(&server);
    let inner = tower::service_fn(move |(): ()| {
        let seen = leases(&seen);
        async move { Ok::<_, Infallible>(seen) }
    });
    let service = ServiceBuilder::new().layer(pipeline.layer()).service(inner);
    for _ in 0..2 {
        assert_eq!(service.clone().oneshot(()).await.unwrap(), ":1");
    }
    // The third is one too many for the rate.
    let refused = service.oneshot(()).await.unwrap_err();
    assert!(matches!(
        refused.refusal(),
        Some(Refusal::RateLimited { .. })
    ));
    assert_eq!((rate.snapshot().granted, slots.snapshot().granted), (2, 2));
    eventually("all is given back", || leases(&server) == NONE).await;
}

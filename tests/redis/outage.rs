//! A server that dies, hangs, loses answers, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mainstay::circuit_breaker::CircuitState;
use mainstay::redis::{Connections, Effect, RedisClient, RedisErrorKind, Source, may_have_acted};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::redis_server::{Faults, Proxy, RedisServer};
use crate::{healed, line, until};

const WAYS: [Connections; 2] = [Connections::Multiplexed(1), Connections::Pooled(4)];

/// Trap 96.
#[tokio::test]
async fn a_connection_that_died_while_it_was_idle_costs_no_call() {
    for connections in WAYS {
        let mut server = RedisServer::start();
        let builder = RedisClient::builder(server.url()).connections(connections);
        let client = builder.no_probe().build().unwrap();
        client.increment("n", 1).await.unwrap();
        server.restart();
        // The end of the old connection has to be seen, as it is by then.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(client.increment("n", 1).await.unwrap(), 1);
        assert_eq!(client.stats().connected, 2);
    }
}

/// Trap 96.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_mid_flight_and_restarted_it_heals_and_nothing_is_done_twice() {
    for connections in WAYS {
        let mut server = RedisServer::start_durable();
        let client = RedisClient::builder(server.url())
            .connections(connections)
            .probe_every(Duration::from_millis(50))
            .build()
            .unwrap();
        client.increment("n", 0).await.unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (sure, unsure) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let (client, is_over) = (client.clone(), Arc::clone(&is_over));
                let (sure, unsure) = (Arc::clone(&sure), Arc::clone(&unsure));
                tokio::spawn(async move {
                    while !is_over.load(Ordering::Relaxed) {
                        match client.increment("n", 1).await {
                            Ok(_) => {
                                sure.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) if may_have_acted(&error) => {
                                unsure.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                        }
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            let before = sure.load(Ordering::Relaxed);
            until("they are at work", || {
                sure.load(Ordering::Relaxed) > before + 20
            })
            .await;
            server.kill();
            tokio::time::sleep(Duration::from_millis(20)).await;
            server.restart();
            healed(&client).await;
        }
        let before = sure.load(Ordering::Relaxed);
        until("they are at work again", || {
            sure.load(Ordering::Relaxed) > before + 20
        })
        .await;
        is_over.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.unwrap();
        }
        let value = client.get::<u64>("n").await.unwrap().unwrap();
        let (sure, unsure) = (sure.load(Ordering::Relaxed), unsure.load(Ordering::Relaxed));
        assert!(
            (sure..=sure + unsure).contains(&value),
            "{connections:?}: {value} is not {sure} and up to {unsure}"
        );
    }
}

#[tokio::test]
async fn what_adds_up_is_sent_once_when_its_answer_is_lost_and_what_does_not_again() {
    for connections in WAYS {
        let server = RedisServer::start();
        let proxy = Proxy::to(&server);
        let builder = RedisClient::builder(proxy.url()).connections(connections);
        let client = builder.no_probe().build().unwrap();
        let lose = |lose_answers| {
            proxy.set(Faults {
                lose_answers,
                ..Faults::default()
            });
        };
        client.exists("warm").await.unwrap();
        lose(true);
        let error = client.increment("n", 1).await.unwrap_err();
        assert_eq!(error.attempts(), 1, "{error}");
        let last = error.last().unwrap();
        assert_eq!(
            (last.kind(), last.effect()),
            (RedisErrorKind::Connection, Effect::Unknown)
        );
        assert!(last.advice().contains("look"));
        assert_eq!(server.ask("GET n"), "$1\r\n1");

        lose(false);
        client.exists("warm").await.unwrap();
        lose(true);
        let error = client.set("k", "v").await.unwrap_err();
        assert!(error.attempts() > 1 && may_have_acted(&error), "{error}");

        lose(false);
        healed(&client).await;
        lose(true);
        let command = client.command(line("INCR n")).repeatable();
        // A new connection cannot be made either, so that only the first is ever done.
        let error = command.fetch::<i64>().await.unwrap_err();
        assert!(error.attempts() > 1 && may_have_acted(&error), "{error}");
        let error = client
            .command(line("GET n"))
            .once()
            .fetch::<i64>()
            .await
            .unwrap_err();
        assert!(!may_have_acted(&error) || error.attempts() == 1, "{error}");
    }
}

#[tokio::test]
async fn a_read_whose_answer_was_lost_is_asked_again_and_answered() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    // As often as it takes until the fault is gone.
    let client = RedisClient::builder(proxy.url())
        .no_probe()
        .max_attempts(90)
        .limits(crate::BOUND)
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    proxy.set(Faults {
        lose_answers: true,
        ..Faults::default()
    });
    let (read, ()) = tokio::join!(client.get::<String>("k"), async {
        until("the answer was lost", || client.stats().retries > 0).await;
        proxy.set(Faults::default());
    });
    assert_eq!(read.unwrap(), Some("v".to_owned()));
}

/// A server that hangs: time limits, the breaker, and the probe that closes it.
#[tokio::test]
async fn a_server_that_hangs_costs_no_more_than_the_limit_and_is_found_again() {
    let server = RedisServer::start();
    let limit = Duration::from_millis(400);
    let client = RedisClient::builder(server.url())
        .limits(limit)
        .connect_limit(Duration::from_millis(300))
        .probe_every(Duration::from_millis(50))
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    server.stop();
    let mut refused = false;
    for _ in 0..40 {
        let begun = Instant::now();
        let lookup = client.get_or("k", "fallback".to_owned()).await;
        assert!(begun.elapsed() < limit * 4, "{:?}", begun.elapsed());
        assert_eq!(lookup.value, "fallback");
        let Source::Fallback(error) = lookup.source else {
            panic!("it hangs");
        };
        refused |= error.refusal().is_some();
    }
    assert!(refused && client.is_away());
    assert!(client.breaker().snapshot().openings > 0);
    server.resume();
    // Nobody calls: the probe does it, long before the breaker would try by itself.
    let back = Instant::now();
    until("the probe closes it", || !client.is_away()).await;
    assert!(
        back.elapsed() < Duration::from_secs(4),
        "{:?}",
        back.elapsed()
    );
    assert_eq!(client.get("k").await.unwrap(), Some("v".to_owned()));
    assert_eq!(client.breaker().state(), CircuitState::Closed);
}

#[tokio::test]
async fn a_time_out_says_whether_the_server_may_have_acted() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .no_probe()
        .limits(Duration::from_millis(400))
        .patience(Duration::from_millis(200))
        .build()
        .unwrap();
    client.set("k", 1).await.unwrap();
    server.stop();
    let error = client.increment("k", 1).await.unwrap_err();
    assert!(error.is_timed_out() && may_have_acted(&error), "{error}");
    assert_eq!(error.last().unwrap().kind(), RedisErrorKind::Unanswered);
    // The connection was silent all the time and is given up; the next cannot be set up.
    let error = client.increment("k", 1).await.unwrap_err();
    assert!(error.is_timed_out() && !may_have_acted(&error), "{error}");
    server.resume();
    healed(&client).await;
    let value = client.get::<i64>("k").await.unwrap().unwrap();
    assert!((1..=2).contains(&value), "{value}");
}

/// Traps 13 and 63.
#[tokio::test]
async fn callers_with_time_limits_of_their_own_do_not_blind_the_breaker() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .no_probe()
        .patience(Duration::from_millis(20))
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    server.stop();
    for _ in 0..20 {
        let call = client.get::<String>("k");
        let _cut = tokio::time::timeout(Duration::from_millis(40), call).await;
    }
    assert!(client.is_away(), "{:?}", client.breaker().snapshot());
    server.resume();
}

#[tokio::test]
async fn callers_who_hang_up_early_do_not_open_the_breaker() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    proxy.set(Faults {
        delay: Duration::from_millis(10),
        ..Faults::default()
    });
    let client = RedisClient::builder(proxy.url())
        .no_probe()
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    for _ in 0..50 {
        let call = client.get::<String>("k");
        let _cut = tokio::time::timeout(Duration::from_millis(2), call).await;
    }
    assert_eq!(client.breaker().snapshot().failures, 0);
    assert_eq!(client.get("k").await.unwrap(), Some("v".to_owned()));
    assert_eq!(client.stats().connected, 1, "the connection was kept");
}

/// Trap 96: the network is gone, and nobody says so.
#[tokio::test]
async fn a_connection_that_has_gone_silent_is_replaced() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    let client = RedisClient::builder(proxy.url())
        .no_probe()
        .limits(Duration::from_millis(500))
        .patience(Duration::from_millis(250))
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    proxy.set(Faults {
        swallow_answers: true,
        ..Faults::default()
    });
    let error = client.get::<String>("k").await.unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    // New connections work; the old one would never answer again.
    proxy.set(Faults::default());
    assert_eq!(client.get("k").await.unwrap(), Some("v".to_owned()));
    assert_eq!(proxy.accepted(), 2);
}

/// Trap 96: nobody waits as long as `patience`, but all of them together do.
#[tokio::test]
async fn callers_who_wait_a_short_time_each_notice_a_silent_connection_together() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    let client = RedisClient::builder(proxy.url())
        .no_probe()
        .patience(Duration::from_millis(200))
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    proxy.set(Faults {
        swallow_answers: true,
        ..Faults::default()
    });
    for _ in 0..20 {
        let call = client.get::<String>("k");
        let cut = tokio::time::timeout(Duration::from_millis(40), call).await;
        assert!(!matches!(cut, Ok(Ok(_))));
    }
    until("another connection is tried", || proxy.accepted() > 1).await;
}

#[tokio::test]
async fn a_call_with_a_short_limit_does_not_cost_the_others_their_connection() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    proxy.set(Faults {
        delay: Duration::from_millis(30),
        ..Faults::default()
    });
    let client = RedisClient::builder(proxy.url())
        .no_probe()
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    for limit in [0, 1, 5] {
        for _ in 0..5 {
            let get = client.command(line("GET k"));
            let get = get.within(Duration::from_millis(limit));
            assert!(get.fetch::<String>().await.unwrap_err().is_timed_out());
        }
        client.breaker().reset();
        client.exists("k").await.unwrap();
    }
    assert_eq!(client.stats().connected, 1);
}

/// Trap 53.
#[tokio::test]
async fn connections_that_die_as_soon_as_they_are_made_are_made_less_and_less_often() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&accepted);
    let flapping = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut asked = [0; 4096];
            // Its set-up is answered, and its first command is not.
            let _asked = stream.read(&mut asked).await;
            let _set_up = stream.write_all(b"+OK\r\n+OK\r\n").await;
            let _asked = stream.read(&mut asked).await;
        }
    });
    for connections in WAYS {
        let before = accepted.load(Ordering::Relaxed);
        let client = RedisClient::builder(&url)
            .connections(connections)
            .no_probe()
            .max_attempts(1)
            .build()
            .unwrap();
        client.breaker().disable();
        let (begun, mut calls) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_millis(600) || calls < 50 {
            let _lost = client.get::<String>("k").await;
            calls += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // At once, and then after 50 ms doubled, half of it random: 6 in the time.
        let spent = begun.elapsed().as_secs();
        let made = accepted.load(Ordering::Relaxed) - before;
        assert!(
            (2..=7 + spent).contains(&made),
            "{connections:?}: {made} in {spent} s"
        );
    }
    flapping.abort();
}

#[tokio::test]
async fn a_server_that_is_slow_is_not_given_up_while_it_answers_others() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .limits(Duration::from_secs(20))
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    server.sleep(Duration::from_secs(1));
    let begun = Instant::now();
    assert_eq!(client.get("k").await.unwrap(), Some("v".to_owned()));
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert_eq!(client.stats().connected, 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_not_hammered_with_connections() {
    let mut server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .no_probe()
        .build()
        .unwrap();
    client.set("k", "v").await.unwrap();
    server.kill();
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        let many = (0..20).map(|_| client.get::<String>("k"));
        calls += mainstay::gather(many).await.len();
    }
    // 50 ms doubled, half of it random: at most 5 in half a second, and one that was under way.
    let failed = client.stats().connect_failed;
    assert!(calls >= 20 && failed <= 8, "{failed} of {calls}");
}

/// A script that never ends: the server answers `BUSY` to everyone else.
#[tokio::test]
async fn a_server_that_is_busy_has_done_nothing_and_is_asked_again() {
    let server = RedisServer::start_with(&["--busy-reply-threshold", "10"]);
    let client = RedisClient::builder(server.url())
        .no_probe()
        .build()
        .unwrap();
    client.set("k", 1).await.unwrap();
    let looping = client.clone();
    let looping = tokio::spawn(async move {
        let script = ::redis::Script::new("while true do end");
        let call = looping.script_request(&script, &["k"], &[0]);
        call.within(Duration::from_secs(20)).fetch::<()>().await
    });
    until("it is busy", || server.ask("GET k").starts_with("-BUSY")).await;
    let other = RedisClient::builder(server.url())
        .no_probe()
        .build()
        .unwrap();
    let busy = other
        .command(line("INCR k"))
        .within(Duration::from_secs(1))
        .fetch::<i64>()
        .await;
    let error = busy.unwrap_err();
    assert!(error.attempts() > 1, "{error}");
    let error = error.into_last().unwrap();
    assert!(!error.may_have_acted(), "{error:?}");
    server.ask("SCRIPT KILL");
    let error = looping.await.unwrap().unwrap_err().into_last().unwrap();
    assert_eq!(
        (error.kind(), error.effect()),
        (RedisErrorKind::Script, Effect::Unknown)
    );
    assert_eq!(other.increment("k", 1).await.unwrap(), 2);
}

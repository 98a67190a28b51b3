//! Redis: every command, at a real server that is there, dozes, dies, comes again; on a
//! connection that is shared, pooled, one's own; while others call.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use mainstay::CircuitBreaker;
use mainstay::circuit_breaker::CircuitState;
use mainstay::redis::{Connections, RedisClient};
use tokio::sync::Mutex;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::relay::{Relay, doze, fresh_key, healed, server};
use crate::trial::{Clock, MS, Trial, trial};

type Acting = Pin<Box<dyn Future<Output = ()>>>;
type Calling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client, the way to its server, and who else uses it.
struct Shop {
    relay: Relay,
    client: RedisClient,
    key: String,
    others: Mutex<JoinSet<()>>,
}

/// How a client stands to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unconnected,
    Connected,
    Pooled,
    /// Its only connections are another's for a while.
    Taken,
    Dozing,
    Away,
    HalfOpen,
}

const STATES: [State; 7] = [
    State::Unconnected,
    State::Connected,
    State::Pooled,
    State::Taken,
    State::Dozing,
    State::Away,
    State::HalfOpen,
];

impl Shop {
    async fn new(state: State) -> Self {
        let relay = Relay::start().await;
        let mut builder = relay.client().exclusive_connections(1);
        if matches!(state, State::Pooled | State::Taken) {
            builder = builder.connections(Connections::Pooled(1));
        }
        if state == State::HalfOpen {
            let breaker = CircuitBreaker::builder().consecutive_failures(1);
            let breaker = breaker.open_for(MS).half_open_probes(2).no_failure_rate();
            builder = builder.circuit_breaker(breaker.build().unwrap()).no_probe();
        }
        let shop = Self {
            client: builder.build().unwrap(),
            relay,
            key: fresh_key(),
            others: Mutex::default(),
        };
        if state != State::Unconnected {
            healed(&shop.client).await;
        }
        shop.enter(state).await;
        shop
    }

    async fn enter(&self, state: State) {
        match state {
            State::Unconnected | State::Connected | State::Pooled => {}
            State::Taken => {
                let client = self.client.clone();
                let mut others = self.others.lock().await;
                others.spawn(async move {
                    let Ok(mut own) = client.exclusive().await else {
                        return;
                    };
                    let slow = ::redis::cmd("BLPOP").arg("nothing").arg(0.003).take();
                    own.command::<Option<(String, String)>>(slow).await.ok();
                });
                let client = self.client.clone();
                others.spawn(async move {
                    let calls = (0..3).map(|_| client.ping());
                    futures_util::future::join_all(calls).await;
                });
                yield_now().await;
            }
            State::Dozing => {
                let dozing = doze("0.006").await;
                self.others.lock().await.spawn(async move {
                    sleep(8 * MS).await;
                    drop(dozing);
                });
            }
            State::Away => self.relay.die(),
            State::HalfOpen => {
                self.relay.die();
                while self.client.breaker().state() == CircuitState::Closed {
                    self.client.exists("a").await.ok();
                    yield_now().await;
                }
                self.relay.revive().await;
                sleep(MS).await;
            }
        }
    }

    /// The server is back, and every reply is its caller's; the figures add up.
    async fn is_whole(&self) {
        while self.others.lock().await.join_next().await.is_some() {}
        self.relay.revive().await;
        healed(&self.client).await;
        for next in ["one", "two"] {
            let echo = ::redis::cmd("ECHO").arg(next).take();
            let echo = self.client.command(echo).within(10_000 * MS);
            assert_eq!(echo.fetch::<String>().await.unwrap(), next);
        }
        let mut own = loop {
            // One that was lent to what was cut is made anew.
            match self.client.exclusive().await {
                Ok(own) => break own,
                Err(_) => sleep(MS).await,
            }
        };
        let echo = ::redis::cmd("ECHO").arg("own").take();
        match own.command::<String>(echo).await {
            Ok(own) => assert_eq!(own, "own"),
            Err(error) => assert!(error.is_timed_out(), "{error}"),
        }
        let stats = self.client.stats();
        let known = stats.succeeded + stats.timed_out + stats.refused;
        assert_eq!(
            stats.calls,
            known + stats.cancelled + stats.failed,
            "{stats:?}"
        );
    }
}

type Neighbour = fn(Arc<Shop>) -> Acting;

/// What happens meanwhile.
const NEIGHBOURS: [(&str, Neighbour); 3] = [
    ("others call", |shop| {
        Box::pin(async move {
            let calls = (0..3).map(|_| shop.client.increment("others", 1));
            futures_util::future::join_all(calls).await;
            drop(shop.client.exclusive().await);
        })
    }),
    ("the connections end", |shop| {
        Box::pin(async move {
            yield_now().await;
            shop.relay.die();
            yield_now().await;
            shop.relay.revive().await;
        })
    }),
    ("the server dozes", |shop| {
        Box::pin(async move {
            let dozing = doze("0.006").await;
            sleep(7 * MS).await;
            drop(dozing);
            drop(shop);
        })
    }),
];

type Call = fn(Arc<Shop>) -> Calling;

/// A command and its name; its error is no news here.
macro_rules! commands {
    ($($name:literal |$shop:ident| $call:expr;)*) => {
        [$(({
            const COVERS: &[&str] = &[concat!("redis::", $name)];
            COVERS
        }, {
            let call: Call = |$shop| Box::pin(async move {
                drop($call.await);
            });
            call
        }),)*]
    };
}

pub(crate) fn trials() -> Vec<Trial> {
    #[rustfmt::skip]
    let commands: [(&'static [&'static str], Call); 16] = commands! {
        "RedisClient::get" |shop| shop.client.get::<String>(&shop.key);
        "RedisClient::get_or" |shop| shop.client.get_or(&shop.key, String::new());
        "RedisClient::get_many" |shop| shop.client.get_many::<String>(&[&shop.key, "b"]);
        "RedisClient::set" |shop| shop.client.set(&shop.key, "value");
        "RedisClient::set_for" |shop| shop.client.set_for(&shop.key, "value", 1000 * MS);
        "RedisClient::delete" |shop| shop.client.delete(&shop.key);
        "RedisClient::exists" |shop| shop.client.exists(&shop.key);
        "RedisClient::expire" |shop| shop.client.expire(&shop.key, 1000 * MS);
        "RedisClient::increment" |shop| shop.client.increment(&shop.key, 1);
        "RedisClient::ping" |shop| shop.client.ping();
        "RedisClient::script" |shop| shop.client.script::<&str, u8>(&::redis::Script::new("return 7"), &[], &[]);
        "RedisClient::exclusive" |shop| shop.client.exclusive();
        "Request::fetch" |shop| shop.client.command(::redis::cmd("ECHO").arg("mine").take()).repeatable().fetch::<String>();
        "Exclusive::command" |shop| async {
            let mut own = shop.client.exclusive().await?;
            own.command::<()>(::redis::cmd("WATCH").arg(&shop.key).take()).await?;
            own.command::<Option<(String, String)>>(::redis::cmd("BLPOP").arg("nothing").arg(0.002).take()).await
        };
        "Exclusive::batch" |shop| async {
            let mut own = shop.client.exclusive().await?;
            let mut change = ::redis::pipe();
            change.atomic().cmd("SET").arg(&shop.key).arg(1).ignore();
            own.batch::<Option<()>>(change).await
        };
        "Scan" |shop| shop.client.scan("key*").page(5).take(3).collect::<Vec<_>>();
    };
    // One of each way to the server is tried in all states beside all neighbours.
    let in_full = [
        "redis::Request::fetch",
        "redis::RedisClient::exclusive",
        "redis::Exclusive::command",
    ];
    let mut all = Vec::new();
    for (n, (covers, call)) in commands.into_iter().enumerate() {
        for (m, state) in STATES.into_iter().enumerate() {
            for (l, (what, act)) in NEIGHBOURS.into_iter().enumerate() {
                if !in_full.contains(&covers[0]) && (n + m) % 7 != l {
                    continue;
                }
                all.push(trial(
                    format!("{}: {state:?}, {what}", covers[0]),
                    covers,
                    (Clock::Real, 1),
                    move |lab| {
                        server();
                        lab.beside(
                            async move || Shop::new(state).await,
                            call,
                            act,
                            async |shop: &Shop, _| shop.is_whole().await,
                        )
                    },
                ));
            }
        }
    }
    all
}

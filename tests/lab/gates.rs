//! `Acquire` of every gate, beside two other waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::policy::Acquire;
use mainstay::prelude::*;
use mainstay::testing::Point;
use mainstay::{Error, Refusal};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::{Gates, MILLI};

type Covers = &'static [&'static str];

/// A wait that holds for a while what it got.
fn wait<F, Fut, G>(name: &str, covers: Covers, least: usize, gates: G, wait: F) -> Trial
where
    F: Fn(Arc<Gates>) -> Fut + Copy + 'static,
    Fut: Future<Output = ()> + Send + 'static,
    G: AsyncFn() -> Gates + 'static,
{
    trial(name, covers, least, move |lab| async move {
        let actor = |gates: Arc<Gates>| async move {
            let behind = async {
                yield_now().await;
                gates.release();
                yield_now().await;
                gates.release();
                wait(Arc::clone(&gates)).await;
            };
            futures_util::future::join(wait(Arc::clone(&gates)), behind).await;
        };
        let check = async |gates: &Gates, _: &Point| {
            gates
                .are_whole(async || {
                    let _slot = gates.bulkhead.acquire(1).await.map_err(Error::refused)?;
                    let permit = gates.spent(1, gates.limiter.acquire(1).await);
                    permit.map_err(Error::refused)?;
                    let probe = gates.breaker.try_acquire().map_err(Error::refused)?;
                    probe.settle(mainstay::policy::End::Success);
                    Ok::<_, Error<Oops>>(7)
                })
                .await;
        };
        lab.run_beside(gates, wait, actor, check).await
    })
}

/// What came of a wait is held for a while.
async fn hold<T>(got: Result<T, Refusal>) {
    if let Ok(_held) = got {
        sleep(MILLI).await;
        yield_now().await;
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = of_bulkheads();
    all.extend(of_limiters());
    all.extend(of_keyed_limiters());
    let breaker: Covers = &["policy::Acquire"];
    all.push(wait(
        "acquire: breaker closed",
        breaker,
        3,
        async || Gates::free(),
        |gates| async move {
            hold(Acquire::new(gates.breaker.clone()).await).await;
        },
    ));
    all.push(wait(
        "acquire: breaker forced open",
        breaker,
        1,
        async || Gates::forced_open(),
        |gates| async move {
            hold(Acquire::new(gates.breaker.clone()).await).await;
        },
    ));
    all.push(wait(
        "acquire: breaker forced open meanwhile",
        breaker,
        3,
        async || Gates::half_open(0).await.opened_later(),
        |gates| async move {
            hold(Acquire::new(gates.breaker.clone()).await).await;
        },
    ));
    all.push(wait(
        "acquire: breaker half open",
        breaker,
        3,
        async || Gates::half_open(1).await,
        |gates| async move {
            hold(Acquire::new(&gates.breaker).await).await;
        },
    ));
    all
}

fn of_bulkheads() -> Vec<Trial> {
    let covers: Covers = &["policy::Acquire"];
    vec![
        wait(
            "acquire: bulkhead free",
            covers,
            3,
            async || Gates::with(3, 1),
            |gates| async move {
                hold(gates.bulkhead.acquire(1).await).await;
            },
        ),
        wait(
            "acquire: bulkhead, one slot for three",
            covers,
            3,
            async || Gates::with(1, 1),
            |gates| async move {
                hold(Acquire::new(&gates.bulkhead).await).await;
            },
        ),
        wait(
            "acquire: bulkhead full",
            covers,
            4,
            async || Gates::full(1),
            |gates| async move {
                hold(gates.bulkhead.acquire(1).await).await;
            },
        ),
        wait(
            "acquire: bulkhead full, two shares",
            covers,
            4,
            async || Gates::full(2),
            |gates| async move {
                hold(gates.bulkhead.acquire(2).await).await;
            },
        ),
        wait(
            "acquire: bulkhead full, resized meanwhile",
            covers,
            5,
            async || Gates::full(2),
            |gates| async move {
                gates.bulkhead.resize(1);
                yield_now().await;
                gates.bulkhead.resize(2);
                hold(gates.bulkhead.acquire(2).await).await;
            },
        ),
    ]
}

fn of_limiters() -> Vec<Trial> {
    let own: Covers = &["rate_limit::Acquire"];
    vec![
        wait(
            "acquire: limiter free",
            own,
            3,
            async || Gates::free(),
            |gates| async move {
                hold(gates.spent(1, gates.limiter.acquire(1).await)).await;
            },
        ),
        wait(
            "acquire: limiter queued",
            own,
            4,
            async || Gates::slow(),
            |gates| async move {
                hold(gates.spent(1, gates.limiter.acquire(1).await)).await;
            },
        ),
        wait(
            "acquire: limiter queued, two permits",
            own,
            4,
            async || Gates::slow(),
            |gates| async move {
                hold(gates.spent(2, gates.limiter.acquire(2).await)).await;
            },
        ),
        wait(
            "acquire: limiter queued, or refused",
            own,
            1,
            async || Gates::slow(),
            |gates| async move {
                let got = gates.limiter.acquire_within(1, 5 * MILLI).await;
                hold(gates.spent(1, got)).await;
            },
        ),
        wait(
            "acquire: limiter queued, as a gate",
            &["policy::Acquire"],
            4,
            async || Gates::slow(),
            |gates| async move {
                let got = Acquire::new(gates.limiter.clone()).await;
                hold(gates.spent(1, got)).await;
            },
        ),
    ]
}

/// What a bucket of its one permit needs to be full again.
const REFILL: Duration = Duration::from_millis(4);

/// One bucket for each of two keys at most, and when each is full again.
struct Keyed {
    limiter: KeyedRateLimiter<String>,
    full_at: Mutex<HashMap<&'static str, Instant>>,
}

impl Keyed {
    /// The burst of "a" is used up.
    fn new() -> Self {
        let limiter = RateLimiter::builder()
            .rate(1, REFILL)
            .burst(1)
            .max_wait(1_000 * MILLI);
        let keyed = Self {
            limiter: limiter.keyed().max_keys(2).build().unwrap(),
            full_at: Mutex::default(),
        };
        keyed.spent("a", keyed.limiter.try_acquire("a", 1)).unwrap();
        keyed
    }

    /// Whoever got a permit has spent it.
    fn spent<T>(&self, key: &'static str, got: Result<T, Refusal>) -> Result<T, Refusal> {
        if got.is_ok() {
            let now = Instant::now();
            let mut full_at = self.full_at.lock().unwrap();
            let full_at = full_at.entry(key).or_insert(now);
            *full_at = now.max(*full_at) + REFILL;
        }
        got
    }

    /// Each bucket is full at the very millisecond that comes from what was got: who was
    /// cancelled has spent nothing.
    async fn are_full_in_time(&self) {
        let mut full_at: Vec<_> = self.full_at.lock().unwrap().drain().collect();
        full_at.sort_unstable_by_key(|(_, at)| *at);
        for (key, at) in full_at {
            sleep_until(at).await;
            // One that has given its place to another was full.
            if let Ok(bucket) = self.limiter.limiter(key) {
                assert_eq!(bucket.snapshot().available, 1, "the permit of {key}");
            }
        }
    }
}

fn of_keyed_limiters() -> Vec<Trial> {
    let covers: Covers = &["rate_limit::KeyedAcquire"];
    let mut all = Vec::new();
    for (name, key, least) in [
        ("keyed limiter: queued", "a", 2),
        ("keyed limiter: a new key", "b", 1),
    ] {
        all.push(trial(
            format!("acquire: {name}"),
            covers,
            least,
            move |lab| async move {
                let wait = move |keyed: Arc<Keyed>| async move {
                    // With three keys for two places somebody may be refused.
                    let _ = keyed.spent(key, keyed.limiter.acquire(key, 1).await);
                    yield_now().await;
                    let got = keyed.limiter.acquire_within(key, 1, 9 * MILLI).await;
                    let _ = keyed.spent(key, got);
                };
                let actor = |keyed: Arc<Keyed>| async move {
                    let one = async {
                        keyed
                            .spent("a", keyed.limiter.acquire("a", 1).await)
                            .unwrap();
                    };
                    let other = async {
                        yield_now().await;
                        let _ = keyed.spent("c", keyed.limiter.acquire("c", 1).await);
                    };
                    futures_util::future::join(one, other).await;
                };
                let check = async |keyed: &Keyed, _: &Point| {
                    assert!(keyed.limiter.keys() <= 2);
                    keyed.are_full_in_time().await;
                    // Nobody waits any more, so all buckets give way to others: one that was
                    // waited for is looked at again after a second.
                    sleep(1_000 * MILLI).await;
                    for other in ["d", "e"] {
                        keyed.limiter.try_acquire(other, 1).unwrap();
                    }
                    assert_eq!(keyed.limiter.keys(), 2);
                    keyed.limiter.acquire("d", 1).await.unwrap();
                };
                lab.run_beside(async || Keyed::new(), wait, actor, check)
                    .await
            },
        ));
    }
    all
}

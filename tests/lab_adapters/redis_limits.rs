//! Limits that are shared through Redis: waits for permits and slots, leases that are lost,
//! while others take and return, and while Redis is away.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use mainstay::redis::{SharedBulkhead, SharedPermit, SharedRateLimiter, WhenAway};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::relay::{Relay, doze, fresh_key, healed, server};
use crate::trial::{Clock, LONG, MS, Trial, trial, until};

/// After a question that failed, a twelfth of it passes before the next one, if nobody calls.
const LEASE: Duration = Duration::from_secs(16);

type Acting = Pin<Box<dyn Future<Output = ()>>>;
type Calling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A bulkhead of two slots, of which so many are held, and a limiter whose permits are all
/// taken.
struct Gate {
    relay: Relay,
    client: mainstay::redis::RedisClient,
    key: String,
    slots: SharedBulkhead,
    rate: SharedRateLimiter,
    held: Mutex<Vec<SharedPermit>>,
}

impl Gate {
    async fn new(held: usize, when_away: WhenAway) -> Self {
        let relay = Relay::start().await;
        let client = relay.client().build().unwrap();
        healed(&client).await;
        let key = fresh_key();
        let slots = SharedBulkhead::builder(&client, &*key)
            .max_concurrent(2)
            .max_queue(8)
            .max_wait(30 * MS)
            .lease(LEASE)
            .poll_every(2 * MS)
            .ask_within(20 * MS)
            .probe_every(2 * MS)
            .when_away(when_away);
        let rate = SharedRateLimiter::builder(&client, format!("{key} rate"))
            .rate(1, 4 * MS)
            .burst(2)
            .max_wait(30 * MS)
            .ask_within(20 * MS)
            .probe_every(2 * MS)
            .when_away(when_away);
        let gate = Self {
            relay,
            client,
            key,
            slots: slots.build().unwrap(),
            rate: rate.build().unwrap(),
            held: Mutex::default(),
        };
        for _ in 0..held {
            let permit = taken(&gate.slots, 1).await;
            gate.held.lock().unwrap().push(permit);
        }
        for _ in 0..held {
            gate.rate.try_acquire(1).await.ok();
        }
        gate
    }

    fn release(&self) {
        let held = self.held.lock().unwrap().pop();
        drop(held);
    }

    /// Nobody waits, Redis holds nothing for us, and the next calls get all there is.
    async fn is_whole(&self) {
        self.relay.revive().await;
        healed(&self.client).await;
        self.held.lock().unwrap().clear();
        let slots = || self.slots.snapshot();
        assert_eq!((slots().held, slots().queued), (0, 0), "{:?}", slots());
        let all = taken(&self.slots, 2).await;
        assert!(!all.is_lost());
        drop(all);
        until("the slots are given back", || slots().returning == 0).await;
        assert_eq!(slots().held, 0);

        let rate = || self.rate.snapshot();
        assert_eq!(
            (rate().queued, rate().queued_permits),
            (0, 0),
            "{:?}",
            rate()
        );
        let next = async {
            while self.rate.acquire(2).await.is_err() {
                sleep(MS).await;
            }
        };
        tokio::time::timeout(LONG, next).await.unwrap();
    }
}

/// By Redis, in less time than a lease lasts: what is not given back stays taken for longer.
async fn taken(slots: &SharedBulkhead, weight: u32) -> SharedPermit {
    let taken = async {
        loop {
            match slots.acquire(weight).await {
                Ok(permit) if permit.fencing_token().is_some() => return permit,
                Ok(_) | Err(_) => sleep(MS).await,
            }
        }
    };
    let taken = tokio::time::timeout(LEASE / 2, taken).await;
    taken.unwrap_or_else(|_| panic!("no slots: {:?}", slots.snapshot()))
}

type Neighbour = fn(Arc<Gate>) -> Acting;

/// What happens meanwhile.
const NEIGHBOURS: [(&str, Neighbour); 3] = [
    ("others come and go", |gate| {
        Box::pin(async move {
            gate.release();
            let (permit, _) = tokio::join!(gate.slots.acquire(1), gate.rate.acquire(1));
            gate.release();
            drop(permit);
        })
    }),
    ("Redis goes and comes", |gate| {
        Box::pin(async move {
            yield_now().await;
            gate.relay.die();
            gate.release();
            sleep(2 * MS).await;
            gate.relay.revive().await;
        })
    }),
    ("Redis dozes", |gate| {
        Box::pin(async move {
            let dozing = doze("0.024").await;
            gate.release();
            sleep(25 * MS).await;
            drop(dozing);
        })
    }),
];

type Call = fn(Arc<Gate>) -> Calling;

/// What is on trial. Permits are dropped at once, or held for a moment.
const CALLS: [(&str, &[&str], Call); 6] = [
    ("slots.acquire", &["redis::SharedBulkheadAcquire"], |gate| {
        Box::pin(async move {
            let permit = gate.slots.acquire(1).await;
            sleep(MS).await;
            drop(permit);
        })
    }),
    (
        "slots.acquire, both",
        &["redis::SharedBulkheadAcquire"],
        |gate| Box::pin(async move { drop(gate.slots.acquire_within(2, 12 * MS).await) }),
    ),
    (
        "slots.try_acquire",
        &["redis::SharedBulkhead::try_acquire"],
        |gate| Box::pin(async move { drop(gate.slots.try_acquire(1).await) }),
    ),
    (
        "rate.acquire",
        &["redis::SharedRateLimiterAcquire"],
        |gate| {
            Box::pin(async move {
                gate.rate.acquire(1).await.ok();
            })
        },
    ),
    (
        "rate.acquire, two",
        &["redis::SharedRateLimiterAcquire"],
        |gate| {
            Box::pin(async move {
                gate.rate.acquire_within(2, 12 * MS).await.ok();
            })
        },
    ),
    (
        "rate.try_acquire",
        &["redis::SharedRateLimiter::try_acquire"],
        |gate| {
            Box::pin(async move {
                gate.rate.try_acquire(1).await.ok();
            })
        },
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for (call, covers, start) in CALLS {
        for held in [0, 2] {
            for (what, act) in NEIGHBOURS {
                for when_away in [WhenAway::Refuse, WhenAway::local(2)] {
                    if held == 0 && when_away != WhenAway::Refuse {
                        continue;
                    }
                    all.push(trial(
                        format!("{call}: {held} of 2 held, {what}, {when_away:?}"),
                        covers,
                        (Clock::Real, 1),
                        move |lab| {
                            server();
                            lab.beside(
                                async move || Gate::new(held, when_away).await,
                                start,
                                act,
                                async |gate: &Gate, _| gate.is_whole().await,
                            )
                        },
                    ));
                }
            }
        }
    }
    of_leases(&mut all);
    all
}

/// `lost`: somebody takes the lease away, or Redis forgets it.
fn of_leases(all: &mut Vec<Trial>) {
    struct Lease {
        gate: Gate,
        permit: Mutex<Option<Arc<SharedPermit>>>,
    }
    async fn lease() -> Lease {
        let mut gate = Gate::new(0, WhenAway::Refuse).await;
        // Told soon that it is no more.
        let slots = SharedBulkhead::builder(&gate.client, format!("{} lease", gate.key));
        let slots = slots.max_concurrent(2).lease(300 * MS).poll_every(2 * MS);
        gate.slots = slots.ask_within(4 * MS).max_queue(8).build().unwrap();
        let permit = Mutex::new(Some(Arc::new(taken(&gate.slots, 1).await)));
        Lease { gate, permit }
    }
    all.push(trial(
        "permit.lost: Redis goes and comes",
        &["redis::SharedPermit::lost"],
        (Clock::Real, 1),
        |lab| {
            server();
            lab.beside(
                async || lease().await,
                |lease: Arc<Lease>| async move {
                    let permit = lease.permit.lock().unwrap().clone();
                    permit.unwrap().lost().await;
                },
                |lease: Arc<Lease>| async move {
                    yield_now().await;
                    lease.gate.relay.die();
                    sleep(320 * MS).await;
                    lease.gate.relay.revive().await;
                },
                async |lease: &Lease, _| {
                    let permit = lease.permit.lock().unwrap().take().unwrap();
                    permit.lost().await;
                    assert!(permit.is_lost());
                    drop(permit);
                    lease.gate.is_whole().await;
                },
            )
        },
    ));
}

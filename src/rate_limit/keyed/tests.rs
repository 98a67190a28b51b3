//! Keys: each on its own, in bounded memory.
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio_test::task;

use super::super::tests::Angry;
use super::*;
use crate::observe::Event;
use crate::policy::Gate;
use crate::prelude::*;
use crate::time::{Timer, now};

const HOUR: Duration = Duration::from_secs(3600);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

async fn pass(span: Duration) {
    let until = now().saturating_add(span);
    let mut timer = Timer::new();
    std::future::poll_fn(|cx| timer.poll_until(until, cx)).await;
}

/// One permit each 10 ms.
fn keyed<K: Hash + Eq>(burst: u32, max_keys: usize) -> KeyedRateLimiter<K> {
    RateLimiter::builder()
        .rate(1, ms(10))
        .burst(burst)
        .keyed()
        .max_keys(max_keys)
        .build()
        .unwrap()
}

fn retry_after<T>(refusal: Result<T, Refusal>) -> Option<Duration> {
    refusal.err().and_then(|refusal| refusal.retry_after())
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_permits_and_its_own_line() {
    let tenants = keyed::<String>(1, 9);
    let start = now();
    for key in ["a", "b"] {
        tenants.try_acquire(key, 1).unwrap();
    }
    let mut first = task::spawn(tenants.acquire("a", 1));
    let mut second = task::spawn(tenants.acquire("a", 1));
    let mut other = task::spawn(tenants.acquire("b", 1));
    assert!(first.poll().is_pending() && second.poll().is_pending() && other.poll().is_pending());
    assert_eq!(retry_after(tenants.try_acquire("a", 1)), Some(ms(30)));
    other.await.unwrap();
    assert_eq!(now().since(start), ms(10));
    drop(first);
    second.await.unwrap();
    assert_eq!(now().since(start), ms(10));
    assert_eq!(
        tenants.acquire_within("a", 1, ms(9)).await,
        Err(Refusal::RateLimited {
            retry_after: ms(10)
        })
    );
}

/// Trap 75.
#[tokio::test(start_paused = true)]
async fn nothing_is_taken_or_remembered_before_the_first_poll() {
    let tenants = keyed::<u8>(1, 9);
    drop(tenants.acquire(&1, 1));
    assert_eq!(tenants.keys(), 0);
}

/// Trap 42.
#[tokio::test(start_paused = true)]
async fn a_million_keys_once_each_stay_bounded() {
    let tenants = keyed::<u32>(1, 1000);
    let mut refused = 0;
    // A million at the usual 10 000 cases.
    for key in 0..100 * crate::testing::cases() {
        if key % 500 == 0 {
            tokio::time::advance(ms(10)).await;
        }
        refused += u32::from(tenants.try_acquire(&key, 1).is_err());
        assert!(key % 64 > 0 || tenants.keys() <= 1000);
    }
    assert_eq!(refused, 0, "of 1000 keys 500 owe at any time");
    let table = tenants.shared.shards[0].read();
    assert!(table.len() < 700, "{} keys", table.len());
}

/// Trap 42.
#[tokio::test(start_paused = true)]
async fn a_new_key_waits_until_the_first_debtor_has_filled_up() {
    let tenants = keyed::<u8>(3, 2);
    tenants.try_acquire(&1, 3).unwrap();
    tenants.try_acquire(&2, 1).unwrap();
    tenants.try_acquire(&2, 1).unwrap();
    assert_eq!(retry_after(tenants.try_acquire(&3, 1)), Some(ms(20)));
    pass(ms(19)).await;
    assert_eq!(retry_after(tenants.try_acquire(&3, 1)), Some(ms(1)));
    assert!(tenants.try_acquire(&1, 1).is_ok(), "a known key is served");
    pass(ms(1)).await;
    assert!(tenants.try_acquire(&3, 3).is_ok());
    assert_eq!(tenants.keys(), 2);
    assert_eq!(retry_after(tenants.try_acquire(&2, 1)), Some(ms(20)));
}

#[tokio::test(start_paused = true)]
async fn a_key_in_use_is_not_forgotten() {
    let tenants = keyed::<u8>(1, 1);
    let held = tenants.limiter(&1).unwrap();
    async { Ok::<_, ()>(()) }.rate_limit(&held).await.unwrap();
    pass(HOUR).await;
    assert_eq!(
        retry_after(tenants.try_acquire(&2, 1)),
        Some(Duration::from_secs(1)),
        "it is looked at again after a second"
    );
    pass(ms(400)).await;
    assert_eq!(retry_after(tenants.try_acquire(&2, 1)), Some(ms(600)));
    drop(held);
    pass(Duration::from_secs(1)).await;
    tenants.try_acquire(&2, 1).unwrap();
    let mut waiter = task::spawn(tenants.acquire(&2, 1));
    assert!(waiter.poll().is_pending());
    pass(HOUR).await;
    assert!(
        tenants.try_acquire(&3, 1).is_err(),
        "its waiter still waits"
    );
    waiter.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_with_settings_of_its_own_is_kept_until_they_are_as_usual() {
    let tenants = keyed::<u8>(1, 1);
    tenants.limiter(&1).unwrap().set_burst(5).unwrap();
    pass(HOUR).await;
    assert!(tenants.try_acquire(&2, 1).is_err());
    assert!(tenants.try_acquire(&1, 5).is_ok());
    tenants.set_burst(2).unwrap();
    pass(HOUR).await;
    assert!(tenants.try_acquire(&2, 2).is_ok());
}

/// Trap 43.
#[tokio::test(start_paused = true)]
async fn new_settings_hold_for_known_and_new_keys_and_wake_their_waiters() {
    let tenants = keyed::<u8>(1, 9);
    tenants.try_acquire(&1, 1).unwrap();
    let mut waiter = task::spawn(tenants.acquire(&1, 1));
    assert!(waiter.poll().is_pending());
    tenants.set_rate(1, ms(1)).unwrap();
    assert!(waiter.is_woken());
    let start = now();
    waiter.await.unwrap();
    assert_eq!(now().since(start), ms(1));
    tenants.set_burst(7).unwrap();
    for key in [1, 2] {
        let snapshot = tenants.limiter(&key).unwrap().snapshot();
        assert_eq!((snapshot.burst, snapshot.per), (7, ms(1)));
    }
    assert_eq!(tenants.set_burst(0).unwrap_err().field(), "burst");
    assert_eq!(tenants.set_rate(0, ms(1)).unwrap_err().field(), "rate");
}

/// Trap 76: in each of the parts of a large table.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_keeps_neither_change_nor_wake_from_the_other_keys() {
    let tenants = keyed::<u8>(3, 16_384);
    let waiting = |key| {
        tenants.try_acquire(key, 3).unwrap();
        tenants.acquire(key, 2)
    };
    let keys: Vec<u8> = (0..100).collect();
    let mut first = Box::pin(waiting(&keys[0]));
    let angry = Waker::from(Arc::new(Angry));
    let polled = first.as_mut().poll(&mut Context::from_waker(&angry));
    assert!(polled.is_pending());
    let others = keys[1..].iter().map(|key| task::spawn(waiting(key)));
    let mut others: Vec<_> = others.collect();
    for other in &mut others {
        assert!(other.poll().is_pending());
    }
    let change = std::panic::AssertUnwindSafe(|| tenants.set_burst(1));
    assert!(std::panic::catch_unwind(change).is_err());
    assert!(others.iter().all(task::Spawn::is_woken));
    let burst = |key| tenants.limiter(key).unwrap().snapshot().burst;
    assert!(keys.iter().all(|key| burst(key) == 1));
}

#[tokio::test(start_paused = true)]
async fn a_higher_rate_lets_keys_be_forgotten_earlier() {
    let tenants: KeyedRateLimiter<u8> = RateLimiter::builder()
        .rate(1, HOUR)
        .burst(2)
        .keyed()
        .max_keys(2)
        .build()
        .unwrap();
    tenants.try_acquire(&1, 2).unwrap();
    tenants.try_acquire(&2, 1).unwrap();
    assert_eq!(retry_after(tenants.try_acquire(&3, 1)), Some(HOUR));
    tenants.set_rate(1, ms(1)).unwrap();
    assert_eq!(retry_after(tenants.try_acquire(&3, 1)), Some(ms(1)));
    pass(ms(1)).await;
    tenants.try_acquire(&3, 1).unwrap();
}

/// Trap 38.
#[test]
fn a_fresh_key_is_not_older_than_a_forgotten_one_when_the_clock_goes_backwards() {
    let mut table = Table::<u8, Instant>::new(1);
    let mut forgotten = Forgotten::default();
    let late = Instant::from_nanos(100);
    for (key, nanos) in [(1, 100), (2, 50)] {
        let (now, idle) = (Instant::from_nanos(nanos), |_: &Instant, now| Some(now));
        let fresh = table.get_or_insert((key, key), now, idle, |now| now, &mut forgotten);
        assert_eq!(fresh, Ok(late));
    }
    assert_eq!((table.len(), table.get(&1)), (1, None));
}

/// Trap 78: what an observer is told names the pipeline and never a key.
#[tokio::test(start_paused = true)]
async fn events_do_not_grow_with_the_keys() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let names = Arc::clone(&seen);
    let tenants = keyed::<u32>(1, 10_000);
    for key in 0..1000 {
        let names = Arc::clone(&names);
        let pipeline = Pipeline::builder("tenants")
            .observe(move |event: &Event<'_>| {
                names.lock().unwrap().insert(event.to_string());
            })
            .rate_limit(tenants.limiter(&key).unwrap())
            .build()
            .unwrap();
        pipeline.call(|| async { Ok::<_, ()>(()) }).await.unwrap();
        tenants.limiter(&key).unwrap().set_rate(1, HOUR).unwrap();
        assert!(pipeline.call(|| async { Ok::<_, ()>(()) }).await.is_err());
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn threads_that_bring_new_keys_never_exceed_the_room_or_the_burst() {
    for max_keys in [64, 16_384] {
        let tenants: KeyedRateLimiter<u64> = RateLimiter::builder()
            .rate(1, 24 * HOUR)
            .burst(3)
            .keyed()
            .max_keys(max_keys)
            .build()
            .unwrap();
        let taken = Mutex::new(HashMap::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..(4 * max_keys as u64).min(2000) {
                        if tenants.try_acquire(&(key / 4), 1).is_ok() {
                            *taken.lock().unwrap().entry(key / 4).or_insert(0) += 1;
                        }
                    }
                });
            }
        });
        assert!(tenants.keys() <= max_keys);
        let taken = taken.into_inner().unwrap();
        assert_eq!(taken.len(), tenants.keys());
        assert!(taken.values().all(|n| *n == 3));
    }
}

/// A key whose copy and drop use the very limiter that it is a key of.
struct Nosy(u8, KeyedRateLimiter<Nosy>);

impl PartialEq for Nosy {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Nosy {}

impl Hash for Nosy {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Clone for Nosy {
    fn clone(&self) -> Self {
        assert!(self.1.keys() <= 2);
        Self(self.0, self.1.clone())
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        assert!(self.1.keys() <= 2);
    }
}

/// Trap 77: under the lock any of these would wait for itself for ever.
#[test]
fn keys_are_copied_and_dropped_outside_of_the_lock() {
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let tenants = keyed::<Nosy>(1, 2);
        let refused = (0..50).filter(|key| {
            let taken = tenants.try_acquire(&Nosy(*key, tenants.clone()), u32::from(*key > 40));
            taken.is_err()
        });
        done.send(refused.count())
    });
    let refused = result.recv_timeout(Duration::from_secs(20));
    assert_eq!(
        refused.expect("no deadlock"),
        7,
        "2 of the last 9 have room"
    );
}

fn step() -> impl Strategy<Value = (u8, u32, u64)> {
    (0..6u8, 1..4u32, prop_oneof![Just(0), 0..40u64])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]

    /// Trap 42: a bucket for each key that is never forgotten agrees with every answer of a
    /// table that has room for two; only a table without an idle key may refuse, and then
    /// until the first is idle.
    #[test]
    fn a_forgotten_key_equals_a_fresh_one(steps in prop::collection::vec(step(), 0..24)) {
        const ROOM: usize = 2;
        let limits = RateLimiter::builder().rate(2, Duration::from_nanos(3)).burst(3).check().unwrap();
        let mut table = Table::<u8, RateLimiter>::new(ROOM);
        let mut known: HashMap<u8, RateLimiter> = HashMap::new();
        let mut time = 0;
        for (key, permits, by) in steps {
            time += by;
            let now = Instant::from_nanos(time);
            let mut forgotten = Forgotten::default();
            let idle = |limiter: &RateLimiter, now| limiter.idle_at(&limits, now);
            let fresh = |now| limits.limiter(now);
            let got = table.get_or_insert((key, key), now, idle, fresh, &mut forgotten);
            let full_at = |limiter: &RateLimiter| limiter.idle_at(&limits, now).unwrap();
            match got {
                Ok(limiter) => {
                    let never = known.entry(key).or_insert_with(|| limits.limiter(now));
                    prop_assert_eq!(
                        limiter.shared.try_take(permits, now),
                        never.shared.try_take(permits, now)
                    );
                }
                Err(wait) => {
                    let mut full: Vec<_> = known.values().map(full_at).filter(|at| *at > now).collect();
                    full.sort();
                    prop_assert!(full.len() >= ROOM);
                    prop_assert_eq!(now.saturating_add(wait), full[0]);
                }
            }
            prop_assert!(table.len() <= ROOM);
        }
    }
}

#[test]
fn the_handle_of_a_key_is_a_gate() {
    fn is_gate<G: Gate>(_: &G) {}
    is_gate(&keyed::<u8>(1, 1).limiter(&1).unwrap());
}

/// Trap 33.
#[test]
fn bad_settings_are_refused_at_build() {
    let builder = || RateLimiter::per_second(5).keyed();
    let error = builder().max_keys(0).build::<u8>().unwrap_err();
    assert_eq!(error.field(), "max_keys");
    assert!(builder().max_keys(usize::MAX).build::<u8>().is_ok());
    let error = RateLimiter::per_second(0).keyed().build::<u8>();
    assert_eq!(error.unwrap_err().field(), "rate");
}

#[test]
fn two_changes_at_once_leave_one_rate_for_all_keys() {
    const SECOND: Duration = Duration::from_secs(1);
    for round in 0..2_000 {
        let limiter = RateLimiter::per_second(9).keyed().max_keys(100);
        let keyed: KeyedRateLimiter<u32> = limiter.build().unwrap();
        (0..50).for_each(|key| keyed.try_acquire(&key, 1).unwrap());
        let gate = std::sync::Barrier::new(2);
        std::thread::scope(|threads| {
            for rate in [1, 2] {
                let (keyed, gate) = (&keyed, &gate);
                threads.spawn(move || {
                    gate.wait();
                    keyed.set_rate(rate, SECOND).unwrap();
                });
            }
        });
        let rate = |key| keyed.limiter(&key).unwrap().snapshot().permits;
        let new = rate(1_000);
        assert!((0..50).all(|key| rate(key) == new), "round {round}");
    }
}

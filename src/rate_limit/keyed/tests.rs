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
#[cfg_attr(miri, ignore = "a crowd of keys takes too long")]
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
    // Once the crowd has gone, each new key has two forgotten.
    assert_eq!(tenants.keys(), 1000);
    pass(Duration::from_secs(10) + ms(10)).await;
    for key in 0..500 {
        tenants.try_acquire(&(u32::MAX - key), 1).unwrap();
    }
    assert!(tenants.keys() <= 502, "{} keys", tenants.keys());
}

/// One who comes back every now and then finds its key, if there is room; one that was last
/// seen long ago does not take it from others.
#[tokio::test(start_paused = true)]
async fn while_there_is_room_a_key_is_kept_for_ten_seconds_after_its_last_use() {
    let tenants = keyed::<u8>(1, 100);
    let is_known = |key: u8| {
        let shard = tenants.shared.shards[0].read();
        let hash = tenants.shared.hasher.hash_one(key);
        shard.try_take((hash, &key), 0, now()).is_some()
    };
    for key in 0..90 {
        tenants.try_acquire(&key, 1).unwrap();
    }
    pass(Duration::from_secs(9)).await;
    for key in 0..80 {
        tenants.try_acquire(&key, 1).unwrap();
    }
    pass(Duration::from_secs(9)).await;
    // Each of them looks at two.
    for key in 100..199 {
        tenants.try_acquire(&key, 1).unwrap();
        assert!(tenants.keys() <= 100);
        if key == 109 {
            assert!((0..80).all(is_known), "they came 9 s ago");
        }
    }
    assert!((80..90).all(|key| !is_known(key)));
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

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// Two permits each 3 ns, at most 3.
fn shard(room: usize) -> (Limits, Shard<u8>) {
    let limiter = RateLimiter::builder().rate(2, Duration::from_nanos(3));
    let limits = limiter.burst(3).check().unwrap();
    (limits, Shard::new(limits, at(0), room))
}

fn take(shard: &mut Shard<u8>, hash: u64, key: u8, permits: u32, now: u64) -> Result<(), Refusal> {
    let known = shard.try_take((hash, &key), permits, at(now));
    let answer = known.unwrap_or_else(|| {
        shard.try_take_of((hash, key), permits, at(now), &mut Forgotten::default())
    });
    match answer {
        Answer::Taken => Ok(()),
        Answer::Refused(refusal) => Err(refusal),
        Answer::Ask(own) => own.try_take(permits, at(now)),
    }
}

/// Trap 38.
#[test]
fn a_fresh_key_is_not_older_than_a_forgotten_one_when_the_clock_goes_backwards() {
    let (_, mut shard) = shard(1);
    for key in [1, 2, 3] {
        let late = u64::from(key) << 20;
        take(&mut shard, 9, 9, 0, late).unwrap();
        take(&mut shard, key.into(), key, 3, 50).unwrap();
        // Of a clock that stands at 50 it would be full already.
        let retry_after = Duration::from_nanos(5);
        assert_eq!(take(&mut shard, 9, 9, 1, 60), Err(limited(retry_after)));
        assert_eq!(shard.len(), 1);
    }
}

/// Keys that share all 64 bits of their hash are still keys of their own.
#[test]
fn keys_with_the_same_hash_do_not_share_permits() {
    let (_, mut shard) = shard(3);
    for key in 0..3 {
        take(&mut shard, 7, key, u32::from(key) + 1, 0).unwrap();
    }
    for key in 0..3 {
        let left = 2 - u32::from(key);
        assert!(take(&mut shard, 7, key, left + 1, 0).is_err());
        assert!(take(&mut shard, 7, key, left, 0).is_ok());
    }
    assert_eq!(shard.len(), 3);
    let full = Duration::from_nanos(5);
    assert_eq!(take(&mut shard, 8, 9, 1, 0), Err(limited(full)));
    take(&mut shard, 8, 9, 1, 5).unwrap();
    assert_eq!(shard.len(), 1, "they are forgotten together");
    take(&mut shard, 7, 2, 3, 5).unwrap();
}

/// A scale ends after a time; on the next one every key stands as it stood.
#[test]
fn keys_outlive_the_scale_that_they_are_measured_by() {
    // The finest there is: it ends after 18 minutes.
    let limiter = RateLimiter::builder().rate((1 << 22) - 1, Duration::from_nanos(1 << 22));
    let limits = limiter.burst(1 << 20).check().unwrap();
    let mut shard = Shard::new(limits, at(0), 9);
    let known = limits.limiter(at(0));
    for round in 0..9u64 {
        let now = round << 38;
        for (key, by) in [(0, 0), (1, 1 << 18), (2, 1 << 17)] {
            let permits = if key == 0 { 1 } else { 1 << 19 };
            if key == 1 {
                let known = known.shared.try_take(permits, at(now + by));
                assert_eq!(take(&mut shard, 1, 1, permits, now + by), known);
            } else {
                let _ = take(&mut shard, u64::from(key), key, permits, now + by);
            }
        }
        let too_much = take(&mut shard, 1, 1, 1 << 20, now + (1 << 18));
        let other = known.shared.try_take(1 << 20, at(now + (1 << 18)));
        assert_eq!(too_much, other);
        assert!(too_much.is_err());
        assert!(shard.known_limiter((1, &1)).is_none(), "a word is enough");
    }
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
    #![proptest_config(ProptestConfig { cases: crate::models::cases("limiter"), ..ProptestConfig::default() })]

    /// Trap 42: a bucket for each key that is never forgotten agrees with every answer of a
    /// part that has room for two, whatever else becomes of its keys; only one without an idle
    /// key may refuse, and then until the first is idle.
    #[test]
    fn a_forgotten_key_equals_a_fresh_one(
        steps in prop::collection::vec((step(), 0..12u8), 0..24),
        same_hash in any::<bool>(),
    ) {
        const ROOM: usize = 2;
        let (mut limits, mut shard) = shard(ROOM);
        let mut known: HashMap<u8, RateLimiter> = HashMap::new();
        let mut time = 0;
        for ((key, permits, by), what) in steps {
            time += by;
            let now = at(time);
            let hash_of = |key: u8| if same_hash { 7 } else { key.into() };
            let hash = hash_of(key);
            if what < 2 {
                // What was forgotten is new under new settings.
                known.retain(|key, _| shard.try_take((hash_of(*key), key), 0, now).is_some());
            }
            match what {
                0 => {
                    limits.rate = Rate::new(permits, Duration::from_nanos(3)).unwrap();
                    let rate = limits.rate;
                    shard.set_limits(limits, now, |state, _| state.set_rate(rate, now));
                    for limiter in known.values() {
                        limiter.shared.ask(|state| state.set_rate(rate, now));
                    }
                }
                1 => {
                    limits.burst = permits + 1;
                    let burst = limits.burst;
                    shard.set_limits(limits, now, |state, _| state.set_burst(burst, now));
                    for limiter in known.values() {
                        limiter.shared.ask(|state| state.set_burst(burst, now));
                    }
                }
                // From now on the key has a limiter of its own, until it is forgotten.
                2 => drop(shard.limiter((hash, key), now, &mut Forgotten::default())),
                _ => {}
            }
            let full_at = |limiter: &RateLimiter| limiter.shared.ask(|state| {
                state.refill(now);
                state.bucket().full_at()
            });
            let never = known.get(&key).cloned().unwrap_or_else(|| limits.limiter(now));
            let has_room = take(&mut shard, hash, key, 0, time);
            match has_room {
                Ok(()) => {
                    known.insert(key, never.clone());
                    let taken = take(&mut shard, hash, key, permits, time);
                    prop_assert_eq!(taken, never.shared.try_take(permits, now));
                }
                Err(refusal) => {
                    let mut full: Vec<_> = known.values().map(full_at).filter(|at| *at > now).collect();
                    full.sort();
                    let owing = if same_hash { 1 } else { ROOM };
                    prop_assert!(full.len() >= owing);
                    let wait = refusal.retry_after().unwrap();
                    if !same_hash {
                        prop_assert_eq!(now.saturating_add(wait), full[0]);
                    }
                }
            }
            prop_assert!(shard.len() <= ROOM);
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
    for round in 0..crate::testing::rounds(2_000) {
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

//! The door against the bucket behind it, in one thread and in many.
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::error::Refusal;
use crate::models::{Move, moves};
use crate::rate_limit::bucket::Rate;
use crate::rate_limit::shared::Shared;
use crate::rate_limit::state::{Ask, Place, State};
use crate::rate_limit::word::GRAIN;

fn rate(permits: u32, nanos: u64) -> Rate {
    Rate::new(permits, Duration::from_nanos(nanos)).unwrap()
}

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn is_open(shared: &Shared) -> bool {
    shared.door.hot.word.number() & SHUT == 0
}

/// Puts someone into the queue who waits as long as it takes.
fn enter(shared: &Shared, permits: u32, now: Instant) -> Place {
    let until = Instant::NEVER;
    shared.ask(|state| state.enter(Ask { permits, until }, now, &mut None))
}

#[test]
fn it_is_open_while_nobody_waits_and_shut_while_someone_does() {
    let shared = Shared::new(Bucket::new(rate(1, 10), 3, at(5)));
    assert!(is_open(&shared));
    assert_eq!(shared.try_take(3, at(5)), Ok(()));
    let Place::Waits(key, due) = enter(&shared, 1, at(5)) else {
        panic!("nothing is left");
    };
    assert_eq!(due, at(15));
    assert!(!is_open(&shared));
    assert!(shared.try_take(0, at(14)).is_err(), "nobody passes");
    assert!(shared.try_take(1, at(24)).is_err());
    let place = shared.ask(|state| state.check(key, 1, at(24), &mut None).0);
    assert_eq!(place, Place::Taken);
    assert!(is_open(&shared));
}

/// What the lock would answer as well, but at the price of the lock.
#[test]
fn while_it_is_open_it_answers_by_itself() {
    let shared = Shared::new(Bucket::new(rate(1, 10), 3, at(5)));
    assert_eq!(shared.door.try_take(2, at(5)), Some(Ok(())));
    let ten = Duration::from_nanos(10);
    assert_eq!(shared.door.try_take(2, at(5)), Some(Err(ten)));
    shared.ask(|state| state.set_rate(rate(1, 20), at(5)));
    assert_eq!(shared.door.try_take(2, at(5)), Some(Err(2 * ten)));
    assert_eq!(shared.door.try_take(1, at(5)), Some(Ok(())));
}

#[test]
fn what_one_number_cannot_tell_keeps_it_shut_until_the_settings_change() {
    let shared = Shared::new(Bucket::new(rate(u32::MAX, 1), 9, at(5)));
    assert!(!is_open(&shared));
    assert_eq!(shared.try_take(9, at(5)), Ok(()));
    shared.ask(|state| state.set_rate(rate(1, 10), at(5)));
    assert!(is_open(&shared));
    let retry_after = Duration::from_nanos(10);
    assert_eq!(
        shared.try_take(1, at(5)),
        Err(Refusal::RateLimited { retry_after })
    );
    shared.ask(|state| state.set_burst(u32::MAX, at(5)));
    assert!(is_open(&shared));
    shared.ask(|state| state.set_rate(rate(1, u64::MAX), at(15)));
    assert!(!is_open(&shared));
}

/// Whoever decided by older settings does not get in.
#[test]
fn no_open_word_is_one_of_older_settings() {
    let shared = Shared::new(Bucket::new(rate(1, 10), 3, at(5)));
    let mut words = std::collections::HashSet::new();
    for burst in 1..100 {
        let (version, scale) = shared.door.scale.load();
        assert!(scale.claim(1, at(5)).is_some());
        assert!(words.insert(shared.door.hot.word.number()));
        shared.ask(|state| state.set_burst(burst % 7 + 1, at(5)));
        assert_eq!(shared.door.try_take_by(1, at(5), version, &scale), None);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take(u32),
    TakeAny(u32),
    /// The clock moves, also backwards.
    Move(i64),
    Leap(u64),
    Rate(u32, u64),
    Burst(u32),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let any_rate = prop_oneof![
        (1..5u32, 1..8u64),
        (1..=u32::MAX, 1..=u64::MAX),
        (Just(1000), Just(1_000_000_000)),
    ];
    prop_oneof![
        8 => (0..6u32).prop_map(Step::Take),
        1 => any::<u32>().prop_map(Step::TakeAny),
        6 => (-30..40i64).prop_map(Step::Move),
        1 => (0..62u32, any::<u64>()).prop_map(|(bits, by)| Step::Leap(by >> (2 + bits))),
        1 => any_rate.prop_map(|(n, p)| Step::Rate(n, p)),
        1 => prop_oneof![1..6u32, 1..=u32::MAX].prop_map(Step::Burst),
        1 => Just(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("limiter"), ..ProptestConfig::default() })]

    /// Traps 37, 38, 43: each answer is the one of the exact bucket, to the nanosecond; where
    /// the clock goes back by less than a grain, the one of the exact bucket as it would be at
    /// the latest time that was kept.
    #[test]
    fn answers_like_the_bucket_behind_it(
        (permits, nanos, burst) in prop_oneof![
            (1..5u32, 1..8u64, 1..6u32),
            (1..=u32::MAX, 1..=u64::MAX, 1..=u32::MAX),
        ],
        start in prop_oneof![Just(0), Just(1u64 << 60), any::<u64>()],
        // In whole grains, and a bit, the latest time is always kept.
        unit in prop_oneof![Just(1u64), Just(GRAIN / 3), Just(GRAIN + 1)],
        steps in prop::collection::vec(step(), 0..32),
    ) {
        let stretched = |(n, p): (u32, u64)| rate(n, p.saturating_mul(unit));
        let bucket = Bucket::new(stretched((permits, nanos)), burst, at(start));
        let mut exact = State::<()>::new(bucket.clone());
        let shared = Shared::new(bucket);
        let mut now = start;
        for step in steps {
            match step {
                Step::Take(n) | Step::TakeAny(n) => {
                    let kept = if is_open(&shared) {
                        shared.door.hot.latest.get().max(at(now))
                    } else {
                        exact.bucket().at().max(at(now))
                    };
                    let early = early_by(&exact, kept.as_nanos());
                    prop_assert!(early <= GRAIN);
                    prop_assert!(early == 0 || unit <= GRAIN);
                    let asked = shared.try_take(n, at(now));
                    // What the bucket holds less at the time that was kept.
                    let less = u128::from(early) * u128::from(exact.bucket().rate().per_nano());
                    // One that was full when it was last told may have been full before.
                    let is_full = exact.bucket().missing() == 0;
                    if (is_full && asked.is_ok()) || is_level_of(&exact, n, less) {
                        prop_assert_eq!(asked, exact.try_take(n, at(now)));
                    } else {
                        let wait = wait_at(&exact, n, less);
                        prop_assert_eq!(asked, Err(Refusal::RateLimited { retry_after: wait }));
                    }
                }
                Step::Move(by) => now = now.saturating_add_signed(by.saturating_mul(unit.cast_signed())),
                Step::Leap(by) => now = now.saturating_add(by / unit * unit),
                // Another rate or rim at another time is another history.
                Step::Rate(..) | Step::Burst(_) if early_by(&exact, now) > 0 => {}
                Step::Rate(n, p) => {
                    exact.set_rate(stretched((n, p)), at(now));
                    shared.ask(|state| state.set_rate(stretched((n, p)), at(now)));
                }
                Step::Burst(n) => {
                    exact.set_burst(n, at(now));
                    shared.ask(|state| state.set_burst(n, at(now)));
                }
                Step::Look => {
                    // Of the kept time nothing is lost but the time.
                    let told = exact.bucket().at();
                    let bucket = shared.ask(|state| {
                        state.refill(told);
                        state.bucket().clone()
                    });
                    prop_assert_eq!(&bucket, exact.bucket());
                }
            }
        }
    }
}

/// One who does something with a limiter.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Take(u32),
    /// Waits at most so long.
    Enter(u32, u64),
    /// Someone who waits looks, whether it was called or not.
    Look(usize),
    Leave(usize),
    Clock(Move),
}

fn deed() -> impl Strategy<Value = Deed> {
    let clock = moves(Duration::from_micros(60));
    (0..20u8, any::<u32>(), any::<u32>(), clock).prop_map(|(kind, number, more, clock)| {
        // Mostly few, so that many get some; and any number.
        let permits = if number % 8 == 0 { more } else { number % 7 };
        let wait = u64::from(more) >> (number % 32);
        match kind {
            0..6 => Deed::Take(permits),
            6..10 => Deed::Enter(permits, wait),
            10..14 => Deed::Look(more as usize),
            14 => Deed::Leave(more as usize),
            _ => Deed::Clock(clock),
        }
    })
}

/// What was taken by whom knows what way, and when: the time that it was told, and the latest
/// that anybody was told by then.
#[derive(Clone, Copy, Debug)]
struct Taken {
    told: u64,
    latest: u64,
    permits: u32,
}

/// Of every window from one take up to another: no more was taken in it than the burst and what
/// the rate adds in its time. `taken` is in the order in which it was taken.
fn obeys_the_law(taken: &[Taken], permits: u32, period: u64, burst: u32) -> bool {
    let (rate, period) = (u128::from(permits), u128::from(period));
    (0..taken.len()).all(|first| {
        // The door keeps the time in grains: one who was told an earlier one than others were
        // may have taken by it.
        let from = taken[first]
            .told
            .max(taken[first].latest.saturating_sub(GRAIN));
        let mut sum = 0;
        taken[first..].iter().all(|last| {
            sum += u128::from(last.permits);
            let added = u128::from(last.latest.saturating_sub(from)) * rate;
            (sum.saturating_sub(burst.into())) * period <= added
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("limiter"), ..ProptestConfig::default() })]

    /// Traps 38, 39, 40: door, queue and bucket together, for every window, whatever the clock
    /// does.
    #[test]
    fn no_window_has_more_than_the_burst_and_what_the_rate_adds(
        (permits, period, burst) in prop_oneof![
            4 => (1..5u32, 1..9_000u64, 1..9u32),
            1 => (1..=u32::MAX, 1..=u64::MAX, 1..=u32::MAX),
        ],
        start in prop_oneof![Just(0), Just(1u64 << 60)],
        deeds in prop::collection::vec(deed(), 0..60),
    ) {
        let shared = Shared::new(Bucket::new(rate(permits, period), burst, at(start)));
        let (mut now, mut latest) = (start, start);
        let mut waiting = Vec::new();
        let mut taken = Vec::new();
        for deed in deeds {
            if let Deed::Clock(by) = deed {
                // Nobody is told of it yet.
                now = by.from(now);
                continue;
            }
            if waiting.is_empty() && matches!(deed, Deed::Look(_) | Deed::Leave(_)) {
                continue;
            }
            latest = latest.max(now);
            let told = now;
            let mut take = |permits| taken.push(Taken { told, latest, permits });
            match deed {
                Deed::Take(n) => if shared.try_take(n, at(now)).is_ok() {
                    take(n);
                },
                Deed::Enter(n, wait) => {
                    let ask = Ask { permits: n, until: at(now).after(wait) };
                    match shared.ask(|state| state.enter(ask, at(now), &mut None)) {
                        Place::Taken => take(n),
                        Place::Waits(key, _) => waiting.push((key, n)),
                        Place::Refused(_) => {}
                    }
                }
                Deed::Look(which) => {
                    let which = which % waiting.len();
                    let (key, n) = waiting[which];
                    match shared.ask(|state| state.check(key, n, at(now), &mut None).0) {
                        Place::Taken => { take(n); waiting.remove(which); }
                        Place::Refused(_) => drop(waiting.remove(which)),
                        Place::Waits(same, _) => prop_assert_eq!(same, key),
                    }
                }
                Deed::Leave(which) => {
                    let (key, _) = waiting.swap_remove(which % waiting.len());
                    shared.ask(|state| state.leave(key, at(now)));
                }
                Deed::Clock(_) => {}
            }
        }
        prop_assert!(obeys_the_law(&taken, permits, period, burst), "{taken:?}");
    }
}

fn early_by(exact: &State<()>, nanos: u64) -> u64 {
    exact.bucket().at().as_nanos().saturating_sub(nanos)
}

/// The wait for permits of a bucket that holds so much less.
fn wait_at(exact: &State<()>, permits: u32, less: u128) -> Duration {
    let bucket = exact.bucket();
    let level = bucket.capacity() - bucket.missing();
    let cost = u128::from(permits) * u128::from(bucket.rate().cost());
    let nanos = (cost + less - level).div_ceil(bucket.rate().per_nano().into());
    Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
}

/// Whether the exact answer is the one at the kept time as well: nothing is early, or the
/// permits are there all the same, or never will be.
fn is_level_of(exact: &State<()>, permits: u32, less: u128) -> bool {
    let bucket = exact.bucket();
    let level = bucket.capacity() - bucket.missing();
    let cost = u128::from(permits) * u128::from(bucket.rate().cost());
    less == 0 || cost == 0 || permits > bucket.burst() || cost + less <= level
}

/// A clock that all threads move, and that each of them reads a little wrong.
struct Clock(AtomicU64);

impl Clock {
    fn read(&self, random: &mut fastrand::Rng) -> Instant {
        let now = self.0.fetch_add(random.u64(0..20), Ordering::Relaxed);
        at(now.saturating_sub(random.u64(0..50)))
    }
}

const ROUNDS: u32 = crate::testing::rounds(30_000);

/// Trap 40: what was drained and never fills up again is refilled by time alone, so all that
/// came is taken or still there, to the last unit, whatever else goes on.
#[test]
fn threads_with_skewed_clocks_neither_make_nor_lose_a_permit() {
    const START: u64 = 1 << 60;
    for seed in 0..4 {
        let burst = u32::MAX;
        let shared = Shared::new(Bucket::new(rate(3, 14), burst, at(START)));
        shared.try_take(burst, at(START)).unwrap();
        let clock = Clock(AtomicU64::new(START));
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (shared, clock, taken) = (&shared, &clock, &taken);
                let mut random = fastrand::Rng::with_seed(seed * 10 + thread);
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let (permits, now) = (random.u32(0..3), clock.read(&mut random));
                        if shared.try_take(permits, now).is_ok() {
                            taken.fetch_add(permits.into(), Ordering::Relaxed);
                        }
                    }
                });
            }
            scope.spawn(|| {
                let mut random = fastrand::Rng::with_seed(seed);
                for round in 0..ROUNDS / 10 {
                    let now = clock.read(&mut random);
                    if round % 8 == 0 {
                        // Settings that are measured by another scale, and hold as much.
                        let burst = burst - round % 5;
                        shared.ask(|state| state.set_burst(burst, now));
                        continue;
                    }
                    match enter(&shared, 5000, now) {
                        Place::Taken => drop(taken.fetch_add(5000, Ordering::Relaxed)),
                        Place::Waits(key, _) => drop(shared.ask(|state| state.leave(key, now))),
                        Place::Refused(refusal) => panic!("{refusal:?}"),
                    }
                }
            });
        });
        let (last, left) = shared.ask(|state| {
            let bucket = state.bucket();
            (bucket.at(), bucket.capacity() - bucket.missing())
        });
        let came = u128::from(last.as_nanos() - START) * 3;
        let taken = u128::from(taken.into_inner()) * 14;
        assert!(taken > 0);
        assert_eq!(taken + left, came);
    }
}

/// Trap 36: from the moment someone waits until it leaves, no newcomer takes.
#[test]
fn nobody_comes_in_past_one_who_waits() {
    let shared = Shared::new(Bucket::new(rate(1, u64::MAX >> 8), 1 << 20, at(0)));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = shared.try_take(1, at(1));
                }
            });
        }
        let available = || shared.ask(|state| state.bucket().available());
        for _ in 0..ROUNDS / 10 {
            let Place::Waits(key, _) = enter(&shared, 1 << 20, at(1)) else {
                continue;
            };
            let before = available();
            (0..50).for_each(|_| std::hint::spin_loop());
            assert_eq!(available(), before);
            shared.ask(|state| state.leave(key, at(1)));
        }
        done.store(true, Ordering::Relaxed);
    });
}

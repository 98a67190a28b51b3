//! Every back-off, every jitter, any setting.
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const JITTERS: [Jitter; 4] = [
    Jitter::None,
    Jitter::Full,
    Jitter::Equal,
    Jitter::Decorrelated,
];

fn ns(n: u64) -> Duration {
    Duration::from_nanos(n)
}

/// Spans of every size, with the odd ones among them.
fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(ns(1)),
        Just(ns((1 << 53) + 1)),
        Just(ns(u64::MAX - 1)),
        Just(ns(u64::MAX)),
        Just(Duration::MAX),
        (0..100u64).prop_map(ns),
        (0..10_000u64).prop_map(Duration::from_millis),
        any::<u64>().prop_map(ns),
        (any::<u64>(), 0..64u32).prop_map(|(n, shift)| ns(n >> shift)),
    ]
}

/// Factors that are allowed.
fn factor() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(1.0),
        Just(1.0 + f64::EPSILON),
        Just(2.0),
        Just(1e6),
        1.0..3.0,
        1.0..1e6,
    ]
}

fn backoff() -> impl Strategy<Value = Backoff> {
    let growth = prop_oneof![
        span().prop_map(Backoff::constant),
        span().prop_map(Backoff::linear),
        span().prop_map(Backoff::fibonacci),
        (span(), factor()).prop_map(|(base, factor)| Backoff::exponential(base).factor(factor)),
    ];
    (growth, span()).prop_map(|(backoff, cap)| backoff.max_delay(cap.max(backoff.base)))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the comparison allows for a part in a billion"
)]
fn float(span: Duration) -> f64 {
    nanos(span) as f64
}

/// What the n-th delay is before its jitter, computed from nothing but `n`.
fn due(backoff: &Backoff, n: i32) -> f64 {
    let base = float(backoff.base);
    let due = match backoff.growth {
        Growth::Constant => base,
        Growth::Linear => base * f64::from(n),
        Growth::Exponential { factor } => base * factor.powi(n - 1),
        Growth::Fibonacci => {
            let (mut a, mut b) = (0.0, 1.0);
            for _ in 1..n {
                (a, b) = (b, a + b);
            }
            base * b
        }
    };
    // Zero times infinity, where the base is zero.
    if due.is_nan() { 0.0 } else { due }
}

fn capped(backoff: &Backoff, due: f64) -> f64 {
    due.min(float(backoff.max_delay))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("backoff"), ..ProptestConfig::default() })]

    /// Traps 46 and 47.
    #[test]
    fn without_jitter_delays_are_monotone_and_as_computed(backoff in backoff()) {
        prop_assert!(backoff.check().is_ok());
        let backoff = backoff.jitter(Jitter::None);
        let mut previous = Duration::ZERO;
        for (n, delay) in (1..=300).zip(backoff.delays(|| 0)) {
            prop_assert!(delay >= previous, "{previous:?} then {delay:?} at {n}");
            prop_assert!(delay <= backoff.max_delay);
            let want = capped(&backoff, due(&backoff, n));
            let off = (float(delay) - want).abs();
            prop_assert!(off <= 1.0 + want * 1e-9, "{delay:?} at {n}, not {want}");
            previous = delay;
        }
    }

    /// Trap 48.
    #[test]
    fn jitter_stays_in_its_range_and_under_the_cap(backoff in backoff(), seed: u64) {
        let base = nanos(backoff.base);
        let plain: Vec<_> = backoff.jitter(Jitter::None).delays(|| 0).take(300).collect();
        for jitter in JITTERS {
            let backoff = backoff.jitter(jitter);
            let mut previous = ns(base);
            for (delay, due) in backoff.delays(|| seed).zip(&plain) {
                let (low, high) = match jitter {
                    Jitter::None => (*due, *due),
                    Jitter::Full => (Duration::ZERO, *due),
                    Jitter::Equal => (ns(nanos(*due) / 2), *due),
                    Jitter::Decorrelated => (ns(base), ns(nanos(previous).saturating_mul(3))),
                };
                prop_assert!(low <= delay && delay <= high, "{jitter:?}: {delay:?}");
                prop_assert!(delay <= backoff.max_delay, "{jitter:?}: {delay:?}");
                previous = delay;
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_delays(backoff in backoff(), seed: u64) {
        for jitter in JITTERS {
            let backoff = backoff.jitter(jitter);
            prop_assert!(backoff.delays(|| seed).take(50).eq(backoff.delays(|| seed).take(50)));
        }
    }

    /// A back-off may be used without a builder, and so without its checks.
    #[test]
    fn an_unchecked_setting_never_panics(
        base in span(), cap in span(), factor in any::<f64>(), seed: u64,
    ) {
        for jitter in JITTERS {
            let odd = Backoff::exponential(base).factor(factor).max_delay(cap).jitter(jitter);
            prop_assert!(odd.delays(|| seed).take(100).all(|delay| delay <= cap));
        }
    }
}

/// Trap 46.
#[test]
#[cfg_attr(miri, ignore = "a million attempts take too long")]
fn a_million_attempts_stay_at_the_cap() {
    let base = Duration::from_millis(1);
    let all = [
        Backoff::constant(base),
        Backoff::linear(base),
        Backoff::exponential(base),
        Backoff::exponential(base).factor(1e6),
        Backoff::fibonacci(base),
    ];
    for backoff in all {
        for cap in [Duration::from_secs(1), Duration::MAX] {
            let mut delays = backoff.jitter(Jitter::None).max_delay(cap).delays(|| 0);
            let last = delays.nth(1_000_000).unwrap();
            assert!(base <= last && last <= cap, "{backoff:?}");
            assert!(delays.next().unwrap() >= last, "{backoff:?}");
        }
    }
}

#[test]
fn a_factor_of_one_keeps_even_the_longest_delay() {
    let long = ns((1 << 53) + 1);
    let backoff = Backoff::exponential(long)
        .factor(1.0)
        .max_delay(Duration::MAX);
    let delays: Vec<_> = backoff.jitter(Jitter::None).delays(|| 0).take(3).collect();
    assert_eq!(delays, [long; 3]);
}

#[test]
fn the_shortest_delay_grows_too() {
    let backoff = Backoff::exponential(ns(1)).factor(1.5);
    let mut delays = backoff.jitter(Jitter::None).delays(|| 0);
    assert_eq!(delays.nth(9), Some(ns(38))); // 1.5 to the ninth
}

#[test]
fn each_growth_is_what_its_name_says() {
    let step = Duration::from_millis(100);
    let first = |backoff: Backoff| -> Vec<u128> {
        let delays = backoff.jitter(Jitter::None).delays(|| 0);
        delays.take(7).map(|delay| delay.as_millis()).collect()
    };
    assert_eq!(first(Backoff::constant(step)), [100; 7]);
    assert_eq!(
        first(Backoff::linear(step)),
        [100, 200, 300, 400, 500, 600, 700]
    );
    assert_eq!(
        first(Backoff::exponential(step)),
        [100, 200, 400, 800, 1600, 3200, 6400]
    );
    assert_eq!(
        first(Backoff::exponential(step).factor(1.5)),
        [100, 150, 225, 337, 506, 759, 1139]
    );
    assert_eq!(
        first(Backoff::fibonacci(step)),
        [100, 100, 200, 300, 500, 800, 1300]
    );
    assert_eq!(first(Backoff::none()), [0; 7]);
    assert_eq!(
        first(Backoff::exponential(step).max_delay(ns(250_000_000))),
        [100, 200, 250, 250, 250, 250, 250]
    );
}

/// Trap 48: both ends of each range can be had, and nothing else.
#[test]
fn each_jitter_reaches_exactly_its_range() {
    let reached = |backoff: Backoff| -> BTreeSet<u128> {
        let second = |seed| backoff.delays(|| seed).nth(1).unwrap().as_nanos();
        (0..2_000).map(second).collect()
    };
    let three = Backoff::constant(ns(3));
    assert_eq!(reached(three.jitter(Jitter::None)), BTreeSet::from([3]));
    assert_eq!(reached(three.jitter(Jitter::Full)), (0..=3).collect());
    assert_eq!(reached(three.jitter(Jitter::Equal)), (1..=3).collect());
    // First from 2 to 6, then from 2 to three times that.
    let two = Backoff::constant(ns(2)).jitter(Jitter::Decorrelated);
    assert_eq!(reached(two), (2..=18).collect());
    assert_eq!(reached(two.max_delay(ns(7))), (2..=7).collect());
}

#[test]
fn full_jitter_is_even() {
    let backoff = Backoff::constant(ns(9));
    let mut seen = [0u32; 10];
    for seed in 0..20_000 {
        let delay = backoff.delays(|| seed).next().unwrap();
        seen[usize::try_from(delay.as_nanos()).unwrap()] += 1;
    }
    // 2 000 each; five standard deviations are 212.
    assert!(seen.iter().all(|n| n.abs_diff(2_000) < 212), "{seen:?}");
}

#[test]
fn different_seeds_give_different_delays() {
    let backoff = Backoff::exponential(Duration::from_secs(1));
    let firsts: BTreeSet<_> = (0..1_000)
        .map(|seed| backoff.delays(|| seed).next())
        .collect();
    assert_eq!(firsts.len(), 1_000);
}

/// Trap 46.
#[test]
fn an_attempt_number_never_wraps() {
    let delays = ByAttempt(|attempt: u32| ns(attempt.into()));
    let mut delays = delays.delays(|| 0);
    assert_eq!(delays.next(), Some(ns(1)));
    delays.attempt = u32::MAX - 1;
    assert_eq!(delays.next(), Some(ns(u32::MAX.into())));
    assert_eq!(delays.next(), Some(ns(u32::MAX.into())));
}

/// Trap 47.
#[test]
fn bad_settings_are_refused_by_name() {
    let second = Duration::from_secs(1);
    for factor in [
        0.0,
        -1.0,
        0.999,
        1.1e6,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
    ] {
        let error = Backoff::exponential(second)
            .factor(factor)
            .check()
            .unwrap_err();
        assert_eq!(error.field(), "factor");
        assert_eq!(error.allowed(), "from 1 to 1000000");
        assert!(
            matches!(error.value(), crate::config::Value::Float(x) if x.to_bits() == factor.to_bits())
        );
    }
    let error = Backoff::constant(second)
        .max_delay(second / 2)
        .check()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_delay is 500ms, but must be at least the base delay"
    );
    for base in [Duration::ZERO, ns(1), Duration::MAX] {
        assert!(
            Backoff::fibonacci(base)
                .max_delay(Duration::MAX)
                .check()
                .is_ok()
        );
    }
}

/// However it grows, is spread and is capped.
#[test]
fn a_base_of_zero_is_no_delay() {
    let zero = Duration::ZERO;
    for jitter in JITTERS {
        for backoff in [
            Backoff::constant(zero),
            Backoff::linear(zero),
            Backoff::exponential(zero),
            Backoff::exponential(zero).factor(1e6),
            Backoff::fibonacci(zero),
        ] {
            let backoff = backoff.jitter(jitter);
            assert!(backoff.are_none());
            assert!(backoff.delays(|| 7).take(100).all(|delay| delay.is_zero()));
        }
    }
    assert!(!Backoff::constant(ns(1)).are_none());
    let unknown = ByAttempt(|_: u32| ns(0));
    assert!(!unknown.are_none(), "nobody has tried");
}

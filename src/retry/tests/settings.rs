//! Any setting at all: it is refused by name, or it works.
use proptest::prelude::*;

use super::*;

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::from_nanos(u64::MAX)),
        Just(Duration::MAX),
        (0..10_000u64).prop_map(Duration::from_millis),
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, n)| Duration::new(s, n)),
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), 2..9u32]
}

fn backoff() -> impl Strategy<Value = Backoff> {
    let growth = prop_oneof![
        span().prop_map(Backoff::constant),
        span().prop_map(Backoff::linear),
        span().prop_map(Backoff::fibonacci),
        (span(), any::<f64>()).prop_map(|(base, factor)| Backoff::exponential(base).factor(factor)),
        (span(), 0.5..9.0).prop_map(|(base, factor)| Backoff::exponential(base).factor(factor)),
    ];
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
    ];
    (growth, span(), jitter).prop_map(|(growth, cap, jitter)| growth.max_delay(cap).jitter(jitter))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::testing::cases() / 5, ..ProptestConfig::default() })]

    /// Traps 33 and 47: the call ends at the latest with its time limit, whatever was set.
    #[test]
    fn are_refused_by_name_or_work(
        backoff in backoff(),
        attempts in count(),
        spans in (span(), span(), span()),
        ratio in prop_oneof![any::<f64>(), 0.0..1000.0],
        reserve in count(),
        busy: bool,
    ) {
        let (elapsed, longest, limit) = spans;
        let budget = RetryBudget::new(ratio, reserve);
        prop_assert_eq!(budget.is_ok(), (0.0..=1000.0).contains(&ratio));
        let builder = Retry::builder()
            .backoff(backoff)
            .max_attempts(attempts)
            .max_elapsed(elapsed)
            .max_retry_after(longest)
            .budget(budget.unwrap_or_default())
            .classify(move |_: Result<&u32, &Error<&str>>| {
                if busy { Verdict::RetryAfter(longest) } else { Verdict::Retry }
            });
        let retry = match builder.build() {
            Ok(retry) => retry,
            Err(error) => {
                let known = ["factor", "max_delay", "max_attempts", "max_elapsed"];
                prop_assert!(known.contains(&error.field()), "{}", error);
                return Ok(());
            }
        };
        prop_assert!(attempts > 0 && !elapsed.is_zero());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let slow = || async {
            sleep(SECOND / 4).await;
            Answer::Err("down")
        };
        let limit = limit.min(9 * SECOND);
        let start = runtime.block_on(async { now() });
        let error = runtime.block_on(slow.retry(&retry).timeout(limit)).unwrap_err();
        let took = runtime.block_on(async { now() }).since(start);
        prop_assert!(took <= limit + Duration::from_millis(1));
        prop_assert!(error.attempts() >= 1 && error.attempts() <= attempts);
    }

    /// Trap 33: the same for a bulkhead.
    #[test]
    fn of_a_bulkhead_are_refused_by_name_or_work(
        slots in count(),
        queue in prop_oneof![Just(0), Just(1), Just(usize::MAX)],
        wait in span(),
        weight in count(),
        limit in count(),
    ) {
        let builder = Bulkhead::builder().max_concurrent(slots).max_queue(queue).max_wait(wait);
        let bulkhead = match builder.weight(weight).build() {
            Ok(bulkhead) => bulkhead,
            Err(error) => {
                prop_assert!(slots == 0 && error.field() == "max_concurrent"
                    || weight > slots && error.field() == "weight");
                return Ok(());
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let slow = || async {
                sleep(SECOND).await;
                Answer::Ok(1)
            };
            let call = || slow.bulkhead(&bulkhead).timeout(3 * SECOND);
            let resize = async {
                sleep(SECOND / 2).await;
                bulkhead.resize(limit);
            };
            let (first, ..) = tokio::join!(biased; call(), call(), resize, call());
            assert_eq!(first, Ok(1));
        });
        prop_assert_eq!((bulkhead.snapshot().in_use, bulkhead.snapshot().queued), (0, 0));
    }
}

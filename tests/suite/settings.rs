//! What builders say of settings that are missing or wrong.

use mainstay::circuit_breaker::Cancelled;
use mainstay::rate_limit::RateLimiterBuilder;
use mainstay::{Bulkhead, CircuitBreaker, RateLimiter};

#[test]
fn what_was_never_set_is_not_called_zero() {
    let rate: RateLimiterBuilder = RateLimiter::builder();
    let errors = [
        Bulkhead::builder().build().unwrap_err(),
        rate.build().unwrap_err(),
        rate.keyed().build::<u8>().unwrap_err(),
        CircuitBreaker::builder()
            .no_failure_rate()
            .build()
            .unwrap_err(),
        CircuitBreaker::builder()
            .cancelled(Cancelled::Slow)
            .build()
            .unwrap_err(),
    ];
    assert_eq!(
        errors.map(|error| error.to_string()),
        [
            "max_concurrent is not set, but must be at least 1",
            "rate is not set, but must be at least 1 permit in a period",
            "rate is not set, but must be at least 1 permit in a period",
            "consecutive_failures is not set, but must be set where there is neither a \
             failure rate nor a slow-call rate",
            "slow_calls is not set, but must be set where cancelled calls count when they \
             are slow",
        ]
    );
    let zero = Bulkhead::builder().max_concurrent(0).build().unwrap_err();
    assert_eq!(
        zero.to_string(),
        "max_concurrent is 0, but must be at least 1"
    );
}

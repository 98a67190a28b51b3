//! `Call`: whole stacks, where what one policy holds is cut by another.

use std::sync::Arc;

use mainstay::Pipeline;
use tokio::task::yield_now;

use crate::calls::call;
use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::{Gates, MILLI, is_usual, retry};

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    call!(all, "six: all free", 4, Gates::free().loose(), failing 0, |b, g| b
        .timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    call!(all, "six: two attempts fail", 12, Gates::free().loose(), failing 2, |b, g| b
        .timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    call!(all, "six: waits for its rate", 8, Gates::slow().loose(), failing 1, |b, g| b
        .timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    call!(all, "six: waits for a slot", 8, Gates::full(1).loose(), failing 1, |b, g| b
        .timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    call!(all, "six: half open", 8, Gates::half_open(0).await.loose(), failing 1, |b, g| b
        .timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    call!(all, "six: forced open", 1, Gates::forced_open().loose(), failing 1, |b, g| b
        .timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    call!(all, "six: forced open meanwhile", 6, Gates::full(1).opened_later().loose(), failing 1, |b, g| b
        .timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    call!(all, "six: attempts cut short", 6, Gates::free().loose(), failing 0, |b, g| b
        .timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(MILLI));
    call!(all, "six: the whole cut short", 6, Gates::slow().loose(), failing 2, |b, g| b
        .timeout(8 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone())
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    // Gates upside down: a slot is held through pauses, a permit is spent before a slot is had.
    call!(all, "a slot around the retry", 12, Gates::full(1).loose(), failing 2, |b, g| b
        .bulkhead(g.bulkhead.clone()).retry(retry(g)).rate_limit(g.limiter.clone()).policy(g.meter(1)));
    call!(all, "a rate before a slot", 5, Gates::with(1, 1).loose(), failing 0, |b, g| b
        .rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()));
    call!(all, "a slot before a rate", 5, Gates::slow().loose(), failing 0, |b, g| b
        .bulkhead(g.bulkhead.clone()).rate_limit(g.limiter.clone()).policy(g.meter(1)));
    call!(all, "a breaker within a bulkhead", 4, Gates::half_open(1).await.loose(), failing 0, |b, g| b
        .bulkhead(g.bulkhead.clone()).circuit_breaker(g.breaker.clone()));
    call!(all, "a forced-open breaker within a bulkhead", 1, Gates::forced_open().loose(), failing 0, |b, g| b
        .bulkhead(g.bulkhead.clone()).circuit_breaker(g.breaker.clone()));
    call!(all, "a breaker around a slot", 4, Gates::half_open(1).await.loose(), failing 1, |b, g| b
        .circuit_breaker(g.breaker.clone()).bulkhead(g.bulkhead.clone()).timeout(9 * MILLI));
    all
}

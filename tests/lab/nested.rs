//! `Call`: within another, erased, once, around a bare future, without a pipeline.

use std::sync::Arc;

use mainstay::prelude::*;
use mainstay::{Attempt, DynPipeline, Error, Pipeline};
use tokio::task::yield_now;

use crate::calls::call;
use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::{Gates, MILLI, is_usual, retry};

type Erased = DynPipeline<u32, Oops>;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    call!(all, "once", &["policy::Call"], 5, Gates::full(1).loose(), failing 1,
        |b, g| b.timeout(900 * MILLI).circuit_breaker(g.breaker.clone()).bulkhead(g.bulkhead.clone()),
        |world, operation| world.pipeline.call_once(move || operation(1)));
    call!(all, "a bare future", &["policy::Call"], 5, Gates::full(1).loose(), failing 1,
        |b, g| b.timeout(900 * MILLI).circuit_breaker(g.breaker.clone()).bulkhead(g.bulkhead.clone()),
        |world, operation| world.pipeline.call_future(operation(1)));
    call!(all, "without a pipeline", &["policy::Call"], 8, Gates::full(1).loose(), failing 1, |b, _| b,
    |world, operation| {
        let mut attempt = 0;
        let closure = move || {
            attempt += 1;
            operation(attempt)
        };
        closure
            .timeout(9 * MILLI)
            .bulkhead(&world.gates.bulkhead)
            .policy(&world.gates.meter)
            .rate_limit(&world.gates.limiter)
            .circuit_breaker(&world.gates.breaker)
            .retry(retry(&world.gates))
            .through(&world.pipeline)
    });
    call!(all, "during another call", &["policy::Call"], 8, Gates::full(1).loose(), failing 1,
    |b, g| b.timeout(900 * MILLI).retry(retry(g)).rate_limit(g.limiter.clone()).policy(g.meter(1)),
    |world, operation| async {
        let inner = Pipeline::builder("inner")
            .circuit_breaker(world.gates.breaker.clone())
            .retry(retry(&world.gates))
            .bulkhead(world.gates.bulkhead.clone())
            .build()
            .unwrap();
        let inner = &inner;
        let call = world.pipeline.call_with(move |outer: Attempt| {
            inner.call_with(move |attempt: Attempt| operation(attempt.number())).during(outer)
        });
        call.await.map_err(Error::flatten)
    });
    call!(all, "erased", &["policy::Call"], 8, Gates::full(1).loose(), failing 1,
    |b, g| b.timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone()).bulkhead(g.bulkhead.clone()),
    |world, operation| async {
        let erased: Erased = world.pipeline.erase();
        erased.call_with(move |attempt: Attempt| operation(attempt.number())).await
    });
    call!(all, "erased, forced open", &["policy::Call"], 1, Gates::forced_open().loose(), failing 1,
    |b, g| b.timeout(900 * MILLI).retry(retry(g)).circuit_breaker(g.breaker.clone()).bulkhead(g.bulkhead.clone()),
    |world, operation| async {
        let erased: Erased = world.pipeline.erase();
        erased.call_with(move |attempt: Attempt| operation(attempt.number())).await
    });
    call!(all, "erased, cut from outside", &["policy::Call"], 5, Gates::slow().loose(), failing 2,
    |b, g| b.retry(retry(g)).rate_limit(g.limiter.clone()).policy(g.meter(1)).bulkhead(g.bulkhead.clone()),
    |world, operation| async {
        let erased: Erased = world.pipeline.erase();
        let call = erased.call_with(move |attempt: Attempt| operation(attempt.number()));
        call.timeout(9 * MILLI).await
    });
    call!(all, "erased, once", &["policy::Call"], 5, Gates::full(1).loose(), failing 0,
    |b, g| b.timeout(900 * MILLI).bulkhead(g.bulkhead.clone()),
    |world, operation| async {
        let erased: Erased = world.pipeline.erase();
        erased.call_once(move || operation(1)).await
    });
    all
}

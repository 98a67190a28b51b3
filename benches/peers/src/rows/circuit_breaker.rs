//! Breakers: closed with two kinds of window, and open.

use std::sync::Arc;
use std::time::Duration;

use failsafe::futures::CircuitBreaker as _;
use failsafe::{backoff, failure_policy};
use mainstay::circuit_breaker::{CircuitBreaker as Ours, CircuitState, Window};
use mainstay::policy::End;
use mainstay::prelude::*;
use recloser::{AsyncRecloser, Recloser};
use tower_resilience::circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use crate::calls::{Failed, HOUR, LONG, Prompt, ask, ok};
use crate::floor::breaker::{Counted, Open, Timed};
use crate::row::{Row, each};

pub(super) fn recloser() -> AsyncRecloser {
    AsyncRecloser::from(Recloser::custom().closed_len(100).build())
}

pub(super) fn closed_by_count(row: &mut Row) {
    row.shared().goal(8.0).note(
        "Ours, tower-resilience and recloser look at the latest 100 results. failsafe counts \
         failures in a row, without a window. recloser needs 100 results before it may open; its \
         sharing costs a pinned epoch per call.",
    );
    let floor = Arc::new(Counted::default());
    row.floor("a ring of bits", each!(floor => floor.call(ok()).await))
        .anchor(6.78);
    let breaker = recloser();
    row.peer(
        "recloser",
        "async call",
        each!(breaker => breaker.call(ok()).await),
    )
    .anchor(27.68);
    let breaker = Arc::new(Recloser::custom().closed_len(100).build());
    row.peer(
        "recloser",
        "sync call",
        each!(breaker => breaker.call(|| Ok::<_, Failed>(1))),
    )
    .note("guards a function, not a future")
    .anchor(13.99);
    let policy = failure_policy::consecutive_failures(5, backoff::constant(HOUR));
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    row.peer(
        "failsafe",
        "failures in a row",
        each!(breaker => breaker.call(ok()).await),
    )
    .anchor(34.12);
    let service = CircuitBreakerLayer::builder().build().expect("a breaker");
    let service = service.layer_fn(Prompt);
    row.peer(
        "tower-resilience",
        "circuitbreaker",
        each!(service => ask(&mut service).await),
    )
    .anchor(205.7);
    let ours = Ours::builder().build().expect("a breaker");
    row.ours(
        "circuit_breaker()",
        each!(ours => ok().circuit_breaker(&ours).await),
    );
}

pub(super) fn closed_by_time(row: &mut Row) {
    row.shared().goal(16.0).note(
        "Ours looks at the latest 30 s, into which the run itself puts millions of records. \
         failsafe's default is a moving average over 30 s. tower-resilience keeps a record of \
         each call and goes through all of them at each call, so its cost grows with their \
         number: shown aside. recloser has no such window.",
    );
    let floor = Arc::new(Timed::default());
    row.floor(
        "16 buckets, the processor's counter",
        each!(floor => floor.call(ok()).await),
    );
    let breaker = failsafe::Config::new().build();
    row.peer(
        "failsafe",
        "default policy",
        each!(breaker => breaker.call(ok()).await),
    )
    .anchor(87.03);
    for records in [1_000, 10_000] {
        row.aside(
            "tower-resilience",
            format!("{records} records"),
            move || {
                let mut service = by_time();
                futures::executor::block_on(async {
                    for _ in 0..records {
                        let _ = ask(&mut service).await;
                    }
                });
                async move || ask(&mut service).await
            },
        )
        .alone()
        .at_most(records / 20);
    }
    let ours = Ours::builder().window(Window::time(LONG)).build();
    let ours = ours.expect("a breaker");
    row.ours(
        "circuit_breaker()",
        each!(ours => ok().circuit_breaker(&ours).await),
    );
}

fn by_time() -> impl tower::Service<u64, Response = u64, Error: Send, Future: Send> + Send {
    CircuitBreakerLayer::builder()
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(HOUR)
        .minimum_number_of_calls(10)
        .build()
        .expect("a breaker")
        .layer_fn(Prompt)
}

pub(super) fn open(row: &mut Row) {
    row.shared().goal(12.0).note(
        "A refusal of ours says when the breaker will let a call in again, which takes a look at \
         the clock. The floor says no more than no.",
    );
    let floor = Arc::new(Open::default());
    row.floor("one load", each!(floor => floor.call(ok()).await));

    let breaker = Recloser::custom().closed_len(1).open_wait(HOUR).build();
    for _ in 0..3 {
        let _ = breaker.call(|| Err::<u64, _>(Failed));
    }
    let breaker = AsyncRecloser::from(breaker);
    row.peer(
        "recloser",
        "async call",
        each!(breaker => breaker.call(ok()).await.is_err()),
    )
    .anchor(38.56);

    let policy = failure_policy::consecutive_failures(1, backoff::constant(HOUR));
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    let _ = failsafe::CircuitBreaker::call(&breaker, || Err::<u64, _>(Failed));
    row.peer(
        "failsafe",
        "failures in a row",
        each!(breaker => breaker.call(ok()).await.is_err()),
    )
    .anchor(40.5);

    let service = CircuitBreakerLayer::builder().wait_duration_in_open(HOUR);
    let service = service.build().expect("a breaker").layer_fn(Prompt);
    futures::executor::block_on(service.force_open());
    row.peer(
        "tower-resilience",
        "circuitbreaker",
        each!(service => {
            ask(&mut service).await.is_err()
        }),
    )
    .anchor(133.5);

    let ours = open_for(HOUR);
    row.ours(
        "circuit_breaker()",
        each!(ours => ok().circuit_breaker(&ours).await.is_err()),
    );
}

fn open_for(span: Duration) -> Ours {
    let breaker = Ours::builder().open_for(span).build().expect("a breaker");
    while breaker.state() == CircuitState::Closed {
        let permit = breaker.try_acquire().expect("it is closed");
        permit.settle(End::Failure);
    }
    breaker
}

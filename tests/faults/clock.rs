//! A clock that jumps, by anything from a nanosecond to years, between any two steps.

use std::time::Duration;

use mainstay::circuit_breaker::CircuitState;
use mainstay::policy::End;
use mainstay::prelude::*;
use mainstay::queue::Queue;
use mainstay::{CircuitBreaker, Error, Refusal};
use tokio::time::{advance, sleep};

use crate::policies::Held;
use crate::proof;
use crate::support::{Oops, Stepped};

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const JUMPS: [Duration; 7] = [
    Duration::from_nanos(1),
    Duration::from_millis(1),
    Duration::from_millis(999),
    SECOND,
    Duration::from_secs(3600),
    YEAR,
    Duration::from_secs(20 * 365 * 24 * 3600),
];

/// A call of a stack, with a jump before its n-th poll: it ends, by a result or by the time
/// limit, and holds nothing afterwards.
async fn jumped(at: usize, jump: Duration) -> bool {
    let held = Held::new();
    let pipeline = held
        .around()
        .timeout(10 * SECOND)
        .retry(Retry::builder().backoff(Backoff::constant(SECOND)))
        .timeout(2 * SECOND)
        .build()
        .unwrap();
    let mut attempts = 0;
    let mut call = Stepped::new(pipeline.call(move || {
        attempts += 1;
        let fails = attempts == 1;
        async move {
            sleep(SECOND).await;
            tokio::task::yield_now().await;
            if fails { Err(Oops(1)) } else { Ok(7) }
        }
    }));
    let mut ended = None;
    let mut reached = false;
    for poll in 0..64 {
        if poll == at {
            advance(jump).await;
            reached = true;
        }
        if let std::task::Poll::Ready(result) = call.poll() {
            ended = Some(result);
            break;
        }
        sleep(SECOND / 4).await;
    }
    let result: Result<u32, Error<Oops>> = ended.expect("it ends");
    match &result {
        Ok(7) => {}
        Err(error) => assert!(
            error.is_timed_out() || error.last() == Some(&Oops(1)),
            "{error:?}"
        ),
        other => panic!("{other:?}"),
    }
    drop(call);
    held.rests();
    reached
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_whenever_the_clock_jumps() {
    let mut points = 0;
    for jump in JUMPS {
        let mut at = 0;
        while jumped(at, jump).await {
            at += 1;
            points += 1;
        }
        assert!(at > 3);
    }
    proof::count("faults.jumps", points);
}

#[tokio::test(start_paused = true)]
async fn a_jump_brings_no_more_than_a_burst_and_opens_nothing_for_good() {
    for jump in JUMPS {
        let limiter = RateLimiter::per_second(10).burst(5).build().unwrap();
        assert_eq!((0..9).filter(|_| limiter.try_acquire(1).is_ok()).count(), 5);
        advance(jump).await;
        let brought = (0..99).filter(|_| limiter.try_acquire(1).is_ok()).count();
        let due = usize::try_from(jump.as_millis() / 100).unwrap().min(5);
        assert_eq!(brought, due, "{jump:?}");

        let breaker = CircuitBreaker::builder()
            .consecutive_failures(1)
            .no_failure_rate();
        let breaker = breaker
            .open_for(SECOND)
            .half_open_probes(1)
            .build()
            .unwrap();
        breaker.try_acquire().unwrap().settle(End::Failure);
        advance(jump).await;
        match breaker.try_acquire() {
            Ok(probe) => {
                assert!(jump >= SECOND);
                assert_eq!(breaker.state(), CircuitState::HalfOpen);
                // Lost for a while, and replaced after the limit.
                advance(jump).await;
                probe.settle(End::Success);
            }
            Err(Refusal::CircuitOpen { retry_after, .. }) => {
                assert!(
                    jump < SECOND && retry_after == SECOND.checked_sub(jump),
                    "{jump:?}"
                );
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_served_or_told_after_a_jump() {
    for jump in JUMPS {
        let pool = Pool::builder(|| async { Ok::<_, Oops>(1) })
            .max_size(1)
            .max_wait(SECOND)
            .idle_time(SECOND)
            .life_time(60 * SECOND)
            .build()
            .unwrap();
        let held = pool.get().await.unwrap();
        let mut waiting = Stepped::new(async { pool.get().await.map(drop) });
        assert!(waiting.poll().is_pending());
        advance(jump).await;
        drop(held);
        let mut answer = None;
        for _ in 0..16 {
            if let std::task::Poll::Ready(got) = waiting.poll() {
                answer = Some(got);
                break;
            }
            sleep(SECOND / 2).await;
        }
        drop(waiting);
        assert!(answer.is_some(), "{jump:?}");
        drop(pool.get().await.expect("the next is served"));
        assert_eq!(pool.snapshot().in_use, 0);

        let queue = Queue::builder()
            .workers(1)
            .ageing(SECOND)
            .build(|n: u32| async move {
                sleep(SECOND).await;
                Ok::<_, Oops>(n)
            });
        let queue = queue.unwrap();
        let tickets: Vec<_> = (0..3).map(|n| queue.try_push(n).unwrap()).collect();
        advance(jump).await;
        for (n, ticket) in (0..3).zip(tickets) {
            assert_eq!(ticket.await, Ok(n));
            advance(jump).await;
        }
        assert_eq!(queue.shutdown(SECOND).await.counts.done, 3);

        let scope = Scope::builder().grace(SECOND).build().unwrap();
        scope
            .spawn("hangs", std::future::pending::<Result<(), Oops>>())
            .unwrap();
        tokio::task::yield_now().await;
        scope.cancel();
        advance(jump).await;
        assert_eq!(scope.join().await.counts.aborted, 1);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Two runtimes with paused clocks: what both use sees its clock go backwards, by an hour and by
/// twenty years, and forwards again. That is as far as it can be told so from outside; the pure
/// states are told in their models.
#[test]
fn a_clock_that_goes_backwards_gives_nothing_for_nothing_and_breaks_nothing() {
    for back in [SECOND / 2, 3600 * SECOND, 20 * YEAR] {
        let (late, early) = (runtime(), runtime());
        late.block_on(advance(back));
        let limiter = RateLimiter::per_second(10).burst(5).max_wait(SECOND);
        let limiter = limiter.build().unwrap();
        let breaker = CircuitBreaker::builder()
            .consecutive_failures(1)
            .no_failure_rate();
        let breaker = breaker
            .open_for(SECOND)
            .half_open_probes(1)
            .build()
            .unwrap();
        let bulkhead = mainstay::Bulkhead::builder()
            .max_concurrent(1)
            .build()
            .unwrap();
        let pipeline = mainstay::Pipeline::builder("both")
            .timeout(10 * SECOND)
            .retry(Retry::builder().backoff(Backoff::constant(SECOND / 10)))
            .bulkhead(bulkhead.clone())
            .build()
            .unwrap();
        let pool = Pool::builder(|| async { Ok::<_, Oops>(1) })
            .max_size(1)
            .idle_time(SECOND)
            .life_time(2 * SECOND)
            .build()
            .unwrap();
        let queue = Queue::builder().workers(1).ageing(SECOND);
        let queue = early.block_on(async {
            queue.build(|n: u32| async move {
                sleep(SECOND).await;
                Ok::<_, Oops>(n)
            })
        });
        let queue = queue.unwrap();
        let mut given = 0;
        let mut take = || given += (0..9).filter(|_| limiter.try_acquire(1).is_ok()).count();
        // Each enters the other's time once more.
        for round in 0..3 {
            for runtime in [&late, &early] {
                runtime.block_on(async {
                    take();
                    if let Ok(permit) = breaker.try_acquire() {
                        permit.settle(End::Failure);
                    }
                    let open = breaker.snapshot();
                    assert!(
                        open.until_half_open
                            .is_none_or(|span| span <= back + SECOND)
                    );
                    let called = pipeline.call(fails_first()).await;
                    assert_eq!(called, Ok(1), "{back:?} {round}");
                    assert_eq!(*pool.get().await.unwrap(), 1);
                });
            }
        }
        // Six calls of a tenth of a second each; a clock that went back and brought permits again
        // would bring a burst with each change.
        assert!(given <= 5 + 6, "{given}");
        early.block_on(async {
            let tickets: Vec<_> = (0..3).map(|n| queue.try_push(n).unwrap()).collect();
            for (n, ticket) in (0..3).zip(tickets) {
                assert_eq!(ticket.await, Ok(n));
            }
        });
        // When the later clock goes on, all is as ever.
        late.block_on(async {
            sleep(10 * SECOND).await;
            assert_eq!((0..9).filter(|_| limiter.try_acquire(1).is_ok()).count(), 5);
            breaker.try_acquire().expect("a probe").settle(End::Success);
            assert_eq!(breaker.state(), CircuitState::Closed);
            assert_eq!(bulkhead.snapshot().in_use, 0);
            assert_eq!(pool.snapshot().in_use, 0);
        });
    }
}

fn fails_first() -> impl FnMut() -> std::future::Ready<Result<u32, Oops>> {
    let mut failed = false;
    move || {
        let first = !std::mem::replace(&mut failed, true);
        std::future::ready(if first { Err(Oops(1)) } else { Ok(1) })
    }
}

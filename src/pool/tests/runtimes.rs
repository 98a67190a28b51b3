//! Several runtimes, none, and several threads.

use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::testing::spin;

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Trap 22: with everything that would want to spawn.
#[tokio::test(start_paused = true)]
async fn a_guard_dropped_on_a_plain_thread_gives_its_object_back() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(2)
        .after_return(hook(&factory, |factory| &factory.after))
        .build()
        .unwrap();
    factory.after.takes(MILLI);
    factory.close.takes(MILLI);
    let guards = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    let [returned, broken] = guards.map(Pooled::into_owned);
    let elsewhere = thread::spawn(move || {
        drop(returned);
        Pooled::discard(broken);
    });
    elsewhere.join().unwrap();
    settle().await;
    assert_eq!((pool.snapshot().idle, pool.snapshot().size), (1, 1));
    assert_eq!((factory.after.begun(), factory.close.begun()), (1, 1));
    assert_whole(&factory, &pool).await;
}

/// Trap 22: the object's own end finds no runtime either.
#[test]
fn without_any_runtime_objects_come_back_and_are_freed() {
    for close_takes in [Duration::ZERO, SECOND] {
        let (factory, builder) = plant();
        // However long this takes on the real clock.
        let pool = builder
            .max_size(3)
            .check(Check::Never)
            .after_return(hook(&factory, |factory| &factory.after))
            .build()
            .unwrap();
        let first = runtime();
        let guards = first.block_on(async {
            let all = tokio::join!(pool.get(), pool.get(), pool.get());
            [all.0, all.1, all.2].map(|thing| Pooled::into_owned(thing.unwrap()))
        });
        drop(first);
        factory.close.takes(close_takes);
        let [returned, broken, hooked] = guards;
        drop(returned);
        assert_eq!((pool.snapshot().idle, pool.snapshot().size), (1, 3));
        Pooled::discard(broken);
        assert_eq!((pool.snapshot().closing, factory.alive()), (0, 2));
        factory.after.takes(SECOND);
        drop(hooked);
        assert_eq!(
            pool.snapshot().size,
            1,
            "what cannot be cleaned up is not lent out"
        );
        assert_eq!(spin(pool.get().max_wait(Duration::ZERO)).unwrap().name, 0);
        factory.after.takes(Duration::ZERO);
        pool.close();
        spin(pool.drained());
        assert_eq!(factory.alive(), 0);
        assert_adds_up(&pool.snapshot());
    }
}

/// Trap 24.
#[test]
fn a_pool_outlives_the_runtime_it_was_made_in() {
    let (factory, builder) = plant();
    let first = runtime();
    let pool = first.block_on(async {
        let pool = builder
            .max_size(2)
            .min_idle(1)
            .idle_time(60 * SECOND)
            .life_time(600 * SECOND)
            .build()
            .unwrap();
        drop(pool.get().await.unwrap());
        settle().await;
        // One is under way when its runtime goes.
        factory.create.takes(SECOND);
        let held = pool.get().await.unwrap();
        settle().await;
        drop(held);
        pool
    });
    drop(first);
    assert_adds_up(&pool.snapshot());
    assert_eq!(pool.snapshot().creating, 0);
    let second = runtime();
    second.block_on(async {
        let both = tokio::join!(pool.get(), pool.get());
        assert!(both.0.is_ok() && both.1.is_ok());
        drop(both);
        sleep(2 * SECOND).await;
        assert_whole(&factory, &pool).await;
        sleep(700 * SECOND).await;
        assert!(pool.snapshot().closed.life_time >= 1, "a keeper runs again");
        assert!(pool.close_within(SECOND).await.is_drained);
    });
    assert_eq!(factory.alive(), 0);
}

/// Trap 23: the keeper, on a runtime that nobody drives any more, holds nothing.
#[test]
fn a_keeper_that_is_not_driven_does_not_keep_the_pool_alive() {
    let (factory, builder) = plant();
    let first = runtime();
    let pool = first.block_on(async {
        let pool = builder.max_size(1).idle_time(SECOND).build().unwrap();
        drop(pool.get().await.unwrap());
        pool
    });
    drop(pool);
    assert_eq!((factory.alive(), factory.close.begun()), (0, 1));
    assert_eq!(Arc::strong_count(&factory), 1);
    drop(first);
}

/// Trap 24: those who wait for a creation in a runtime that goes are told, and so is who
/// has none at all.
#[test]
fn who_waits_for_a_creation_that_is_lost_gets_an_error() {
    let (factory, pool) = pool_of(1);
    factory.create.set(Does::Hang);
    let no_runtime = Some(Refusal::NoRuntime);
    assert_eq!(error(spin(pool.get())).refusal(), no_runtime);
    let first = runtime();
    let mut waits = vec![pool.get(), pool.get(), pool.get()];
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut look_at = |get: &mut Get<'_, Plant>| {
        let polled = std::pin::Pin::new(get).poll(&mut context);
        polled.map(|result| error(result).refusal())
    };
    first.block_on(async {
        for wait in &mut waits {
            assert!(look_at(wait).is_pending());
        }
        settle().await;
    });
    drop(first);
    assert_eq!(pool.snapshot().creating, 0);
    for _ in 0..3 {
        waits.retain_mut(|wait| match look_at(wait) {
            std::task::Poll::Ready(refusal) => {
                assert_eq!(refusal, no_runtime);
                false
            }
            std::task::Poll::Pending => true,
        });
    }
    assert!(waits.is_empty(), "everyone is told");
    assert_adds_up(&pool.snapshot());
    factory.create.set(Does::Well);
    runtime().block_on(assert_whole(&factory, &pool));
}

/// A runtime that runs by itself.
fn driven() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn until(condition: impl Fn() -> bool) {
    let start = time::now();
    while !condition() {
        let waited = time::now().since(start);
        assert!(waited < 20 * SECOND, "it never comes");
        thread::yield_now();
    }
}

/// Trap 24: a creation for one who waits runs where that one does, not where room was made,
/// in a runtime that goes away or falls asleep.
#[test]
fn who_waits_does_not_depend_on_the_runtime_of_another() {
    for goes_away in [true, false] {
        let (factory, pool) = pool_of(1);
        let live = driven();
        let held = live.block_on(async { Pooled::into_owned(pool.get().await.unwrap()) });
        factory.create.takes(20 * MILLI);
        let waits = live.spawn({
            let pool = pool.clone();
            async move {
                pool.get()
                    .max_wait(20 * SECOND)
                    .await
                    .map(|thing| thing.name)
            }
        });
        until(|| pool.snapshot().pending == 1);
        let other = Builder::new_current_thread().enable_all().build().unwrap();
        other.block_on(async { Pooled::discard(held) });
        let asleep = (!goes_away).then_some(other);
        assert_eq!(live.block_on(waits).unwrap(), Ok(1));
        drop(asleep);
    }
}

/// Traps 24, 28: those of a runtime that goes do not strand the one of another.
#[test]
fn a_waiter_outlives_those_before_it_and_their_runtime() {
    let (factory, pool) = pool_of(1);
    factory.create.set(Does::Hang);
    let dies = driven();
    for _ in 0..8 {
        let pool = pool.clone();
        dies.spawn(async move { drop(pool.get().await) });
    }
    until(|| pool.snapshot().pending == 8 && factory.create.begun() == 1);
    let live = driven();
    let waits = live.spawn({
        let pool = pool.clone();
        async move { pool.get().max_wait(20 * SECOND).await.is_ok() }
    });
    until(|| pool.snapshot().pending == 9);
    factory.create.set(Does::Well);
    drop(dies);
    assert!(live.block_on(waits).unwrap());
    assert_adds_up(&pool.snapshot());
}

/// A chosen runtime does everything: no other one is needed, or matters.
#[test]
fn a_chosen_runtime_does_all_that_goes_on_in_the_background() {
    let chosen = driven();
    let (factory, builder) = plant();
    let pool = builder
        .max_size(2)
        .min_idle(1)
        .runtime(chosen.handle().clone())
        .after_return(hook(&factory, |factory| &factory.after))
        .build()
        .unwrap();
    until(|| pool.snapshot().idle == 1);
    for step in [&factory.create, &factory.after, &factory.close] {
        step.takes(MILLI);
    }
    let other = Builder::new_current_thread().enable_all().build().unwrap();
    let held = other.block_on(async {
        let both = tokio::join!(pool.get(), pool.get());
        [both.0, both.1].map(|thing| Pooled::into_owned(thing.unwrap()))
    });
    let [returned, broken] = held;
    Pooled::discard(broken);
    // The minimum is filled up before the other one is there.
    until(|| pool.snapshot().idle == 1);
    other.block_on(async { drop(returned) });
    until(|| pool.snapshot().idle == 2);
    assert_eq!((factory.after.begun(), factory.close.begun()), (1, 1));
    drop(other);
    pool.close();
    chosen.block_on(pool.drained());
    assert_eq!(factory.alive(), 0);
}

/// A wait whose limit no timer can keep is refused, and loses nothing.
#[test]
fn a_limited_wait_without_a_timer_is_refused() {
    let (factory, pool) = pool_of(1);
    let held = runtime().block_on(async { Pooled::into_owned(pool.get().await.unwrap()) });
    let refused = error(spin(pool.get().max_wait(SECOND)));
    assert_eq!(refused.refusal(), Some(Refusal::NoRuntime));
    let timeless = Builder::new_current_thread().build().unwrap();
    let refused = error(timeless.block_on(pool.get().max_wait(SECOND)));
    assert_eq!(refused.refusal(), Some(Refusal::NoRuntime));
    assert_eq!(pool.snapshot().pending, 0);
    drop(held);
    assert_eq!(spin(pool.get().max_wait(SECOND)).unwrap().name, 0);
    runtime().block_on(assert_whole(&factory, &pool));
}

/// Trap 19: who comes as an object comes back gets it, on threads of their own.
#[test]
fn two_threads_that_share_one_object_both_get_it_every_time() {
    const ROUNDS: u32 = crate::testing::rounds(2_000);
    let (factory, builder) = plant();
    let pool = builder.max_size(1).check(Check::Never).build().unwrap();
    let user = |how: u32| {
        let pool = &pool;
        move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for round in 0..ROUNDS {
                    let mut thing = pool.get().await.unwrap();
                    assert!(!thing.mid_command, "one user at a time");
                    thing.mid_command = true;
                    tokio::task::yield_now().await;
                    thing.mid_command = false;
                    if (round + how) % 97 == 0 {
                        Pooled::discard(thing);
                    }
                }
            });
        }
    };
    thread::scope(|scope| {
        scope.spawn(user(0));
        scope.spawn(user(1));
    });
    let snapshot = pool.snapshot();
    assert_adds_up(&snapshot);
    assert!(factory.most() <= 1 && snapshot.pending == 0 && snapshot.in_use == 0);
}

/// Traps 16, 17, 19: many threads, cancellations, and in the end everything is there.
#[test]
fn many_tasks_that_give_up_at_random_leave_the_pool_whole() {
    let (factory, builder) = plant();
    let pool = builder.max_size(3).check(Check::Always).build().unwrap();
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..400u32)
            .map(|n| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    for _ in 0..n % 7 {
                        tokio::task::yield_now().await;
                    }
                    let used = pool.use_with(async |thing| {
                        assert!(!std::mem::replace(&mut thing.mid_command, true));
                        for _ in 0..n % 5 {
                            tokio::task::yield_now().await;
                        }
                        thing.mid_command = false;
                        Ok::<_, Oops>(())
                    });
                    let _ = futures_util::future::select(
                        Box::pin(used),
                        Box::pin(async {
                            for _ in 0..n % 11 {
                                tokio::task::yield_now().await;
                            }
                            if n % 3 > 0 {
                                pending::<()>().await;
                            }
                        }),
                    )
                    .await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let all = tokio::join!(pool.get(), pool.get(), pool.get());
        assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok());
        drop(all);
        pool.close();
        pool.drained().await;
    });
    assert_eq!((factory.alive(), pool.snapshot().size), (0, 0));
    assert!(factory.most() <= 3);
    assert_adds_up(&pool.snapshot());
}

/// Who has no timer cannot be the one who tries again after a pause: it leaves, with the
/// cause, and the next one tries.
#[tokio::test(start_paused = true)]
async fn who_has_no_timer_for_a_pause_leaves_the_retry_to_others() {
    // The real clock, which counts on a plain thread, is far behind from now on: the pause lasts
    // for that one, however long this machine takes.
    sleep(3_600 * SECOND).await;
    let (factory, builder) = plant();
    let here = tokio::runtime::Handle::current();
    let pool = builder.max_size(2).runtime(here).build().unwrap();
    let _held = pool.get().await.unwrap();
    factory.create.set(Does::Fail);
    let mut plain = Box::pin(pool.get());
    let mut look = || {
        let mut once = || {
            let mut cx = Context::from_waker(Waker::noop());
            plain.as_mut().poll(&mut cx).map(|given| given.map(drop))
        };
        thread::scope(|threads| threads.spawn(&mut once).join().unwrap())
    };
    assert!(look().is_pending());
    sleep(MILLI).await;
    let Poll::Ready(Err(refused)) = look() else {
        panic!("nothing will ever tell it to look again");
    };
    assert_eq!(refused.refusal(), Some(Refusal::NoRuntime));
    assert_eq!(refused.last(), Some(&"failed"));
    factory.create.set(Does::Well);
    let served = pool.get().max_wait(SECOND).await;
    assert!(served.is_ok());
    assert_eq!(pool.snapshot().pending, 0);
}

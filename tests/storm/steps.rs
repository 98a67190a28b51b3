//! What a caller may do next, apart from calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mainstay::Lazy;
use mainstay::policy::End;
use mainstay::pool::Pooled;
use mainstay::scope::{OnError, Scope};
use tokio::time::sleep;

use crate::calls;
use crate::fate::{Ended, Fate, fated};
use crate::house::{House, SLOTS};
use crate::support::Oops;
use crate::witness::BreakerTicket;
use crate::world::{Counted, Doom, Phase, World};

/// One step of one caller.
pub(crate) async fn step(house: Arc<House>) {
    let world = Arc::clone(&house.world);
    world.calls.fetch_add(1, Ordering::Relaxed);
    match world.below(100) {
        0..40 => calls::main(house).await,
        40..50 => calls::lenient(house).await,
        50..55 => calls::tower(house).await,
        55..58 => calls::many(house).await,
        58..63 => limiter(house).await,
        63..66 => keyed(house).await,
        66..71 => breaker(house).await,
        71..76 => bulkhead(house).await,
        76..86 => pool(house).await,
        86..96 => queue(house).await,
        96..98 => scope(house).await,
        98..99 => lazy(house).await,
        _ => operator(&house),
    }
}

fn small(world: &World, bound: u64) -> u32 {
    u32::try_from(world.below(bound)).expect("small")
}

async fn limiter(house: Arc<House>) {
    let world = &house.world;
    let permits = small(world, 4);
    let acquire = async {
        let given = house.limiter.acquire(permits).await.is_ok();
        if given {
            house.limiter_ledger.gave(permits);
        }
        given
    };
    let end = fated(world, Fate::draw(world), acquire).await;
    world.note("limiter", end.code());
}

async fn keyed(house: Arc<House>) {
    let world = &house.world;
    let key = world.below(8);
    let ledger = &house.key_ledgers[usize::try_from(key).expect("small")];
    let acquire = async {
        let given = house.keyed.acquire(&key, 1).await.is_ok();
        if given {
            ledger.gave(1);
        }
    };
    let end = fated(world, Fate::draw(world), acquire).await;
    world.note("keyed", end.code());
}

async fn breaker(house: Arc<House>) {
    let world = &house.world;
    let Ok(permit) = house.breaker.try_acquire() else {
        return world.note("breaker", 9);
    };
    let mut out = Out(&house, Some(house.breaker_ledger.admitted()));
    sleep(world.span(0, 1500)).await;
    let end = [End::Success, End::Failure, End::Ignored, End::Cancelled][small(world, 4) as usize];
    out.ended(end);
    match end {
        End::Cancelled => drop(permit),
        end => permit.settle(end),
    }
}

/// A permit's entry in the ledger.
struct Out<'a>(&'a House, Option<BreakerTicket>);

impl Out<'_> {
    fn ended(&mut self, end: End) {
        if let Some(ticket) = self.1.take() {
            self.0.breaker_ledger.ended(&ticket, end);
        }
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.ended(End::Cancelled);
    }
}

async fn bulkhead(house: Arc<House>) {
    let world = &house.world;
    let weight = small(world, 3) + 1;
    let hold = async {
        let Ok(_permit) = house.bulkhead.acquire(weight).await else {
            return 0;
        };
        house.slots.fetch_add(weight, Ordering::Relaxed);
        let held = Held(&house.slots, weight);
        house.always();
        sleep(world.span(0, 80)).await;
        drop(held);
        1
    };
    let end = fated(world, Fate::draw(world), hold).await;
    world.note("bulkhead", end.code());
}

struct Held<'a>(&'a AtomicU32, u32);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

async fn pool(house: Arc<House>) {
    let world = &house.world;
    let ends = world.below(20);
    let usage = async {
        let mut pooled = house.pool.get().await.map_err(drop)?;
        let user = pooled.user();
        house.always();
        sleep(world.span(0, 120)).await;
        match ends {
            0 => {
                world.fault("object broken");
                Pooled::mark_broken(&mut pooled);
                drop(user);
            }
            1 => {
                world.fault("object detached");
                drop(user);
                Pooled::detach(pooled).detached();
            }
            2 => {
                drop(user);
                Pooled::discard(pooled);
            }
            3..10 => {
                drop(user);
                let plan = world.plan();
                let result = Pooled::use_with(pooled, async |object| {
                    let _user = object.user();
                    match plan.doom {
                        Doom::Hangs => Err(Oops(4)),
                        _ => world.carry_out(plan).await,
                    }
                });
                result.await.map_err(drop)?;
            }
            _ => drop(user),
        }
        Ok::<(), ()>(())
    };
    let end = fated(world, Fate::draw(world), usage).await;
    world.note("pool", end.code());
}

async fn queue(house: Arc<House>) {
    let world = &house.world;
    let item = house.items.item();
    let push = house
        .queue
        .push(item)
        .priority([-1, 0, 1][small(world, 3) as usize]);
    let Ended::With(Ok(ticket)) = fated(world, Fate::draw(world), push).await else {
        return world.note("queue", 9);
    };
    let number = ticket.id();
    match world.below(10) {
        0 => {
            world.fault("item cancelled");
            sleep(world.span(0, 100)).await;
            ticket.cancel();
        }
        1 => {
            world.fault("item aborted");
            sleep(world.span(0, 100)).await;
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ticket.abort()));
        }
        // Its outcome is the stream's.
        2 => drop(ticket),
        3 => {
            drop(house.queue.take_back(&ticket));
            drop(ticket);
        }
        _ => {
            let items = &house.items;
            let outcome = async {
                let outcome = ticket.await;
                items.outcome(number);
                outcome.is_ok()
            };
            let end = fated(world, Fate::draw(world), outcome).await;
            world.note("queue", end.code());
        }
    }
}

async fn scope(house: Arc<House>) {
    let world = Arc::clone(&house.world);
    let alive = Arc::new(AtomicU32::new(0));
    let on_error = [OnError::CancelOthers, OnError::Collect][small(&world, 2) as usize];
    let scope = Scope::builder()
        .limit(2)
        .on_error(on_error)
        .build()
        .unwrap();
    let count = world.below(5) + 1;
    let mut spawned = 0;
    for _ in 0..count {
        let (world, alive) = (Arc::clone(&world), Arc::clone(&alive));
        let plan = world.plan();
        let task = scope.spawn("task", async move {
            let (_alive, _) = Counted::up(&alive);
            world.carry_out(plan).await
        });
        spawned += u64::from(task.is_ok());
    }
    let handle = scope.handle();
    match world.below(5) {
        0 => drop(scope),
        1 => {
            world.fault("scope aborted");
            sleep(world.span(0, 50)).await;
            scope.abort();
            scope.join().await;
        }
        2 => {
            world.fault("scope cancelled");
            sleep(world.span(0, 50)).await;
            scope.cancel();
            scope.join().await;
        }
        _ => {
            // What hangs is left when the time is up.
            scope.join_within(world.span(0, 900)).await;
            drop(scope);
        }
    }
    handle.drained().await;
    let counts = handle.counts();
    let left = alive.load(Ordering::Relaxed);
    let adds_up = counts.ended() == spawned && counts.in_flight == 0 && left == 0;
    world.law(adds_up, "scope", || {
        format!("{counts:?} of {spawned}, {left} alive")
    });
    world.note("scope", counts.completed);
}

async fn lazy(house: Arc<House>) {
    let world = Arc::clone(&house.world);
    let (running, made) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (sees, counts) = (Arc::clone(&world), Arc::clone(&made));
    let lazy = Arc::new(Lazy::new(move || {
        let (world, running, made) = (Arc::clone(&sees), Arc::clone(&running), Arc::clone(&counts));
        let plan = world.plan();
        async move {
            let (_running, now) = Counted::up(&running);
            world.law(now == 1, "lazy: one at a time", || format!("{now} run"));
            match plan.doom {
                Doom::Hangs => return Err(Oops(5)),
                _ => world.carry_out(plan).await?,
            };
            Ok(made.fetch_add(1, Ordering::Relaxed))
        }
    }));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (world, lazy) = (Arc::clone(&world), Arc::clone(&lazy));
        callers.push(tokio::spawn(async move {
            let get = async { lazy.get().await.copied().ok() };
            match fated(&world, Fate::draw(&world), get).await {
                Ended::With(Some(value)) => Some(value),
                _ => None,
            }
        }));
    }
    let mut values = Vec::new();
    for caller in callers {
        values.extend(caller.await.ok().flatten());
    }
    let same = values.iter().all(|value| Some(value) == lazy.try_get());
    world.law(same, "lazy: one value", || format!("{values:?}"));
    world.note("lazy", values.len() as u64);
}

/// Orders from outside, taken back by the next one or when the storm is over.
fn operator(house: &House) {
    let world = &house.world;
    if world.phase() == Phase::Healthy {
        return;
    }
    world.fault("order");
    match world.below(8) {
        0 => house.breaker_ledger.reset(),
        1 => house.breaker.force_open(),
        2 => house.bulkhead.resize(2),
        3 => house.pool.resize(1),
        4 => drop(house.queue.take_waiting()),
        5 => house.queue.cancel(),
        6 => {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| house.queue.abort()));
        }
        _ => restore(house),
    }
}

pub(crate) fn restore(house: &House) {
    house.bulkhead.resize(SLOTS);
    house.pool.resize(crate::goods::OBJECTS);
    if house.breaker.state() == mainstay::circuit_breaker::CircuitState::ForcedOpen {
        house.breaker_ledger.reset();
    }
}

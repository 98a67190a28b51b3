//! Calls through the pipelines: what they are told must be what was done.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::gather::gather;
use mainstay::{Error, Refusal};
use tower::{Layer, ServiceExt, service_fn};

use crate::fate::{Ended, Fate, fated};
use crate::house::{ATTEMPTS, EACH, House, OPEN_FOR, PROBES_LOST, SLOTS, WHOLE};
use crate::support::Oops;
use crate::world::{Counted, Doom, MS, locked, unwind};

/// What the upstream saw of one call.
#[derive(Default)]
struct Seen {
    started: AtomicU32,
    last: Mutex<Option<Oops>>,
}

/// One attempt at the upstream.
fn attempt(
    house: &Arc<House>,
    seen: &Arc<Seen>,
    counts: bool,
) -> impl Future<Output = Result<u32, Oops>> + Send + use<> {
    let (house, seen) = (Arc::clone(house), Arc::clone(seen));
    let world = Arc::clone(&house.world);
    seen.started.fetch_add(1, Ordering::Relaxed);
    if counts {
        let attempts = world.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        house.budget.amplified(attempts);
    }
    let plan = world.plan();
    if plan.doom == Doom::PanicsAtStart {
        unwind();
    }
    async move {
        let (_inside, now) = Counted::up(&world.inside);
        let (_slot, _) = Counted::up(&house.slots);
        house.always();
        world.law(now <= SLOTS, "bulkhead: inside", || {
            format!("{now} of {SLOTS}")
        });
        let result = world.carry_out(plan).await;
        if let Err(error) = &result {
            *locked(&seen.last) = Some(*error);
        }
        result
    }
}

/// The clock when a call began.
struct Begun {
    at: Duration,
    jumped: Duration,
}

impl Begun {
    fn now(house: &House) -> Self {
        Self {
            at: house.world.now(),
            jumped: house.world.jumped(),
        }
    }

    /// How long it took, but for what the clock has jumped.
    fn took(&self, house: &House) -> Duration {
        let jumped = house.world.jumped().saturating_sub(self.jumped);
        let elapsed = house.world.now().saturating_sub(self.at);
        elapsed.saturating_sub(jumped)
    }
}

/// Every error tells true figures.
fn judge(house: &House, seen: &Seen, begun: &Begun, result: &Result<u32, Error<Oops>>) {
    let took = begun.took(house);
    let started = seen.started.load(Ordering::Relaxed);
    let last = *locked(&seen.last);
    let law = |holds, what: &str| {
        house.world.law(holds, what, || {
            format!("{result:?} after {took:?}, {started} started, last {last:?}")
        });
    };
    law(took <= WHOLE + MS, "errors: within the deadline");
    law(started <= ATTEMPTS, "errors: attempts are limited");
    let Err(error) = result else { return };
    law(error.attempts() == started, "errors: attempts");
    if !error.is_panicked() && !error.is_cancelled() {
        law(error.last().copied() == last, "errors: the last one");
    }
    match error {
        Error::TimedOut { after, .. } => {
            law([WHOLE, EACH].contains(after), "errors: which limit");
            law(
                took + MS >= *after || begun.jumped < house.world.jumped(),
                "errors: too early",
            );
        }
        Error::Refused { reason, .. } => law(
            is_true(*reason, house.world.now().saturating_sub(begun.at)),
            "errors: refusal",
        ),
        _ => {}
    }
}

fn is_true(reason: Refusal, elapsed: Duration) -> bool {
    match reason {
        Refusal::CircuitOpen { retry_after, .. } => {
            retry_after.is_none_or(|after| after <= OPEN_FOR.max(PROBES_LOST))
        }
        // Those who wait have at most 400 ms, so the line is not longer; a call's permit is one.
        Refusal::RateLimited { retry_after, .. } => retry_after <= 450 * MS,
        Refusal::BulkheadFull { waited, .. } => waited <= elapsed,
        _ => false,
    }
}

fn ended(house: &House, seen: &Seen, begun: &Begun, ended: &Ended<Result<u32, Error<Oops>>>) {
    let world = &house.world;
    world.note("call", ended.code());
    world.note("started", seen.started.load(Ordering::Relaxed).into());
    if let Ended::With(result) = ended {
        world.note("ok", result.is_ok().into());
        judge(house, seen, begun, result);
    }
}

pub(crate) async fn main(house: Arc<House>) {
    let (seen, begun) = (Arc::new(Seen::default()), Begun::now(&house));
    let call = house.main.call(|| attempt(&house, &seen, true));
    let fate = Fate::draw(&house.world);
    let end = fated(&house.world, fate, call).await;
    ended(&house, &seen, &begun, &end);
}

/// A fallback answers for everything but the time limit.
pub(crate) async fn lenient(house: Arc<House>) {
    let (seen, begun) = (Arc::new(Seen::default()), Begun::now(&house));
    let call = house.lenient.call(|| attempt(&house, &seen, false));
    let fate = Fate::draw(&house.world);
    let end = fated(&house.world, fate, call).await;
    if let Ended::With(Err(error)) = &end {
        house
            .world
            .law(error.is_timed_out(), "fallback", || format!("{error:?}"));
    }
    ended(&house, &seen, &begun, &end);
}

/// The same pipeline as a tower service.
pub(crate) async fn tower(house: Arc<House>) {
    let (seen, begun) = (Arc::new(Seen::default()), Begun::now(&house));
    let upstream = Arc::clone(&house);
    let service = house.main.layer().layer(service_fn(move |seen: Arc<Seen>| {
        attempt(&upstream, &seen, true)
    }));
    let call = service.oneshot(Arc::clone(&seen));
    let fate = Fate::draw(&house.world);
    let end = fated(&house.world, fate, call).await;
    ended(&house, &seen, &begun, &end);
}

/// Many at once: each has its outcome, in the order of the source.
pub(crate) async fn many(house: Arc<House>) {
    let world = &house.world;
    let count = usize::try_from(world.below(8) + 1).expect("small");
    let seen: Vec<Arc<Seen>> = (0..count).map(|_| Arc::default()).collect();
    let begun = Begun::now(&house);
    let whole = async {
        let items = seen.iter().map(|seen| {
            let house = &house;
            move || attempt(house, seen, true)
        });
        gather(items).limit(3).through(&house.main).await
    };
    let fate = Fate::draw(world);
    let end = fated(world, fate, whole).await;
    world.note("many", end.code());
    let Ended::With(outcomes) = end else { return };
    world.law(
        outcomes.len() == count && outcomes.is_complete(),
        "gather: outcomes",
        || format!("{} of {count}", outcomes.len()),
    );
    for (seen, outcome) in seen.iter().zip(outcomes.iter()) {
        world.note("item", outcome.is_ok().into());
        let started = seen.started.load(Ordering::Relaxed);
        if let Err(error) = outcome {
            // A panic in the closure itself, or in the drop of its future, leaves nothing that
            // could tell of that attempt.
            let untold = u32::from(error.is_panicked() && started > 1);
            let told = error.attempts();
            world.law(
                told <= started && told + untold >= started,
                "gather: attempts",
                || format!("{error:?}, {started} started"),
            );
        }
    }
    let took = begun.took(&house);
    let rounds = u32::try_from(count.div_ceil(3)).expect("small");
    world.law(took <= (WHOLE + MS) * rounds, "gather: time", || {
        format!("{took:?}")
    });
}

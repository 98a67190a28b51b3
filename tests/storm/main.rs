//! A full house in a storm: simulated, seeded, replayed by its seed.
//!
//! `MAINSTAY_SEED=7 cargo test --features test-util --test storm` replays one storm exactly.
//! `MAINSTAY_STORM_SEEDS` sets how many seeds there are, `MAINSTAY_STORM_FAULTS` goes on until
//! so many faults were injected.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod budget;
mod calls;
mod fate;
mod goods;
mod house;
#[path = "../support/proof.rs"]
mod proof;
mod steps;
#[path = "../support/mod.rs"]
mod support;
mod witness;
mod world;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mainstay::queue::Outcomes;
use mainstay::shutdown::Shutdown;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep, timeout};

use house::House;
use support::Oops;
use world::{Phase, SECOND, World};

/// What one storm was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Storm {
    trace: (u64, u64),
    faults: u64,
    calls: u64,
    refused: u64,
    kinds: BTreeMap<&'static str, u64>,
}

/// How long a round may take when no clock jumps: nothing waits for so long.
const STUCK: Duration = Duration::from_secs(3600);

fn storm(seed: u64, rounds: usize) -> Storm {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(seed);
        let house = House::new(&world);
        let reader = tokio::spawn(read(Arc::clone(&house), house.queue.outcomes().unwrap()));
        for round in 0..rounds {
            one_round(&house, round).await;
            world.check();
        }
        let storm = Storm {
            trace: world.trace(),
            faults: world.faults.load(Ordering::Relaxed),
            calls: world.calls.load(Ordering::Relaxed),
            refused: world.refused.load(Ordering::Relaxed),
            kinds: world.kinds(),
        };
        end(house, reader).await;
        world.check();
        storm
    })
}

/// Takes the outcomes that no ticket takes.
async fn read(house: Arc<House>, mut outcomes: Outcomes<u32, Oops>) {
    let items = Arc::clone(&house.items);
    drop(house);
    while let Some((number, _)) = outcomes.next().await {
        items.outcome(number);
    }
}

/// Callers, and a weather that changes above them; then a calm to look at what is left.
async fn one_round(house: &Arc<House>, round: usize) {
    let world = &house.world;
    world.note("round", round as u64);
    let crowd = 8 + world.below(40);
    let callers: Vec<_> = (0..crowd).map(|_| caller(house)).collect();
    let weather = tokio::spawn(weather(Arc::clone(house)));
    let all = async {
        for caller in callers {
            // Those that were aborted are no matter.
            let _ = caller.await;
        }
        weather.await.unwrap();
    };
    // Jumps are hours; what is stuck stays so through any of them.
    let stuck = timeout(STUCK * 1000, all).await.is_err();
    world.law(!stuck, "stuck", || {
        format!("{:?} {:?}", house.pool.snapshot(), house.queue.snapshot())
    });
    world.enter(Phase::Calm);
    steps::restore(house);
    // The longest limit in the house; with it everything has ended.
    sleep(10 * SECOND).await;
    house.at_rest().await;
    sleep(10 * SECOND).await;
}

/// One caller: some steps in a row, perhaps aborted in the middle.
fn caller(house: &Arc<House>) -> JoinHandle<()> {
    let house = Arc::clone(house);
    tokio::spawn(async move {
        let world = Arc::clone(&house.world);
        for _ in 0..3 + world.below(6) {
            let step = tokio::spawn(steps::step(Arc::clone(&house)));
            let odds = if world.phase() == Phase::CancelStorm {
                3
            } else {
                25
            };
            if world.one_in(odds) {
                sleep(world.span(0, 300)).await;
                if !step.is_finished() {
                    world.fault("caller aborted");
                }
                step.abort();
            }
            if let Err(error) = step.await {
                let cause = error.try_into_panic().ok();
                let ours = cause.is_none_or(|cause| cause.downcast_ref() == Some(&"storm"));
                world.law(ours, "panic", || String::from("not one of the storm's"));
            }
            if world.phase() != Phase::Overload {
                sleep(world.span(0, 400)).await;
            }
            house.always();
        }
    })
}

async fn weather(house: Arc<House>) {
    let world = &house.world;
    for _ in 0..3 {
        let which = usize::try_from(world.below(Phase::ALL.len() as u64)).unwrap();
        world.enter(Phase::ALL[which]);
        for _ in 0..world.below(8) + 2 {
            sleep(world.span(50, 900)).await;
            if world.phase() == Phase::ClockJumps {
                let most = [5, 1_000, 20_000, 36_000_000][usize::try_from(world.below(4)).unwrap()];
                world.jump(world.span(1, most)).await;
            }
            house.always();
        }
    }
}

/// All of it is shut down, and nothing is left.
async fn end(house: Arc<House>, reader: JoinHandle<()>) {
    let world = Arc::clone(&house.world);
    let shutdown = Shutdown::builder()
        .deadline(30 * SECOND)
        .component("queue", house.queue.clone())
        .component("pool", house.pool.clone())
        .build()
        .unwrap();
    shutdown.request();
    let report = shutdown.run().await;
    world.law(report.is_orderly(), "shutdown", || report.to_string());
    drop(shutdown);
    reader.await.unwrap();
    let queue = house.queue.snapshot();
    let had = house.items.outcomes();
    world.law(had == queue.accepted, "queue: each has an outcome", || {
        format!("{had} of {queue:?}")
    });
    world.law(house.objects.alive() == 0, "objects left", || {
        house.objects.alive().to_string()
    });
    drop(house);
    sleep(SECOND).await;
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    world.law(tasks == 0, "tasks left", || tasks.to_string());
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

const ROUNDS: usize = 12;

/// One storm: of `MAINSTAY_SEED`, or of 0.
#[test]
fn one_storm_by_its_seed() {
    let storm = storm(number("MAINSTAY_SEED").unwrap_or(0), ROUNDS);
    let (hash, steps) = storm.trace;
    println!("storm: {hash} {steps} {} {}", storm.faults, storm.calls);
    for (kind, count) in storm.kinds {
        println!("fault: {count} {kind}");
    }
}

/// What another process made of a seed. Each storm has a process of its own: the crate's scale
/// of time begins with the process, and where its ticks lie decides which of two timers that
/// are due at once comes first.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    trace: [u64; 2],
    faults: u64,
    calls: u64,
    kinds: Vec<(u64, String)>,
}

fn elsewhere(seed: u64) -> Told {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["one_storm_by_its_seed", "--exact", "--nocapture"])
        .env("MAINSTAY_SEED", seed.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    if !ran.status.success() {
        println!("{}{text}", String::from_utf8_lossy(&ran.stderr));
        println!("MAINSTAY_SEED={seed} fails");
        panic!("a law was broken: see above");
    }
    let line = |name: &'static str| text.lines().filter_map(move |line| line.strip_prefix(name));
    let figures = line("storm: ").next().unwrap();
    let figures: Vec<u64> = figures.split(' ').map(|n| n.parse().unwrap()).collect();
    let kinds = line("fault: ").map(|kind| {
        let (count, name) = kind.split_once(' ').unwrap();
        (count.parse().unwrap(), String::from(name))
    });
    Told {
        trace: [figures[0], figures[1]],
        faults: figures[2],
        calls: figures[3],
        kinds: kinds.collect(),
    }
}

#[test]
fn all_laws_hold_in_the_storm() {
    let (mut faults, mut calls, mut seeds) = (0, 0, 0);
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let only = number("MAINSTAY_SEED");
    let least = number("MAINSTAY_STORM_SEEDS").unwrap_or(16);
    let wanted = number("MAINSTAY_STORM_FAULTS").unwrap_or(0);
    let mut fresh = fastrand::Rng::new();
    while seeds < least || faults < wanted {
        // The first are the same each time; the rest are new, and named when they fail. Two at
        // a time.
        let pair = [seeds, seeds + 1].map(|n| if n < least / 2 { n } else { fresh.u64(..) });
        let pair = only.map_or(pair.to_vec(), |only| vec![only]);
        let pair: Vec<_> = pair
            .into_iter()
            .map(|n| std::thread::spawn(move || elsewhere(n)))
            .collect();
        for storm in pair {
            let storm = storm
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            faults += storm.faults;
            calls += storm.calls;
            seeds += 1;
            for (count, kind) in storm.kinds {
                *kinds.entry(kind).or_default() += count;
            }
        }
        if only.is_some() {
            break;
        }
    }
    println!("{kinds:#?}");
    proof::count("storm.faults", faults);
    proof::count("storm.calls", calls);
    proof::count("storm.seeds", seeds);
}

#[test]
fn the_same_seed_is_the_same_storm() {
    let mut traces = Vec::new();
    for seed in [1, 2, 3, 77] {
        let first = elsewhere(seed);
        for _ in 0..4 {
            assert_eq!(first, elsewhere(seed), "seed {seed}");
        }
        traces.push(first.trace);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 4, "another seed is another storm");
}

//! A state of an adapter's future, to be put into the laboratory.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mainstay::testing::{Ending, Laboratory, Order, Point, Report};
use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval};

use crate::proof;

pub(crate) const MS: Duration = Duration::from_millis(1);
/// What may take long on a busy machine, and must not take for ever.
pub(crate) const LONG: Duration = Duration::from_secs(30);

type Running = Pin<Box<dyn Future<Output = Tally>>>;

/// One future in one state of its adapter.
pub(crate) struct Trial {
    name: String,
    /// The public futures that are polled in it, as `complete` names them.
    pub(crate) covers: &'static [&'static str],
    /// How many polls it takes at least: fewer, and it does not come where it should.
    least: usize,
    clock: Clock,
    /// One order and two endings.
    pub(crate) is_brief: bool,
    run: Box<dyn FnOnce(Lab) -> Running>,
}

/// Which clock a trial has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The real one, where children, sockets and servers are real.
    Real,
    /// It jumps over whatever is waited for.
    Paused,
}

/// A trial; `least` is how many polls it must come to.
pub(crate) fn trial<Fut: Future<Output = Tally> + 'static>(
    name: impl Into<String>,
    covers: &'static [&'static str],
    (clock, least): (Clock, usize),
    run: impl FnOnce(Lab) -> Fut + 'static,
) -> Trial {
    Trial {
        name: name.into(),
        covers,
        least,
        clock,
        is_brief: false,
        run: Box::new(|lab| Box::pin(run(lab))),
    }
}

impl Trial {
    /// One order and two endings, where a world takes long to make; all of them in the deep form.
    pub(crate) fn briefly(mut self) -> Self {
        self.is_brief = shuffles() == 0;
        self
    }
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    points: u64,
    /// Until it ended by itself, waited for nothing any more, or was polled often enough.
    most_polls: usize,
}

/// The laboratory, with a bound: how often a future is polled that ends by input and output is
/// another number each time.
#[derive(Clone)]
pub(crate) struct Lab {
    laboratory: Laboratory,
    clock: Clock,
    is_brief: bool,
}

impl Lab {
    /// After so many polls at most, each future is cancelled.
    const MOST: usize = 12;
    /// Where the neighbour keeps still, what waits for it is polled again after a while.
    const NUDGE: Duration = Duration::from_millis(4);
    /// So many polls then say all there is to say.
    const MOST_NUDGED: usize = 5;

    fn new(trial: &Trial) -> Self {
        let laboratory = Laboratory::new(&*trial.name);
        let laboratory = match trial.clock {
            // Nothing here waits so long by itself: it is for what was lost. Children and peers
            // take real time to end.
            Clock::Real => laboratory
                .patience(LONG)
                .settle_within(LONG)
                .watch_descriptors()
                .watch_children(),
            // The other end goes on with what it was asked for, and what could not be deleted is
            // tried again after a while.
            Clock::Paused => laboratory.patience(LONG).settle_within(200 * MS),
        };
        let laboratory = if trial.is_brief {
            laboratory.endings([Ending::Drop, Ending::Abort])
        } else {
            laboratory
        };
        Self {
            laboratory,
            clock: trial.clock,
            is_brief: trial.is_brief,
        }
    }

    /// Tries every point of a future that has no neighbour.
    pub(crate) async fn alone<W, Fut>(
        self,
        world: impl AsyncFnMut() -> W,
        future: impl FnMut(Arc<W>) -> Fut,
        check: impl AsyncFnMut(&W, &Point),
    ) -> Tally
    where
        Fut: Future<Output: Send> + Send + 'static,
    {
        let lab = self.laboratory.up_to(Self::MOST);
        Tally::of(&[lab.run(world, future, check).await])
    }

    /// Tries every point of a future beside its neighbour.
    pub(crate) async fn beside<W, Fut, Actor>(
        self,
        mut world: impl AsyncFnMut() -> W,
        mut future: impl FnMut(Arc<W>) -> Fut,
        mut actor: impl FnMut(Arc<W>) -> Actor,
        mut check: impl AsyncFnMut(&W, &Point),
    ) -> Tally
    where
        Fut: Future<Output: Send> + Send + 'static,
        Actor: Future<Output = ()>,
    {
        let lab = self.laboratory.up_to(Self::MOST);
        if self.is_brief {
            let lab = lab.orders([Order::Between]);
            return Tally::of(&[lab.run_beside(world, future, actor, check).await]);
        }
        // A real clock does not jump over what waits for a neighbour that keeps still. In the
        // other orders nothing but the adapter wakes: a lost wake-up shows there.
        let still = lab.clone().orders([Order::AfterCut]);
        let nudge = self.clock == Clock::Real;
        let still = if nudge {
            still.up_to(Self::MOST_NUDGED)
        } else {
            still
        };
        let start = |world| nudged(future(world), nudge);
        let still = still.run_beside(&mut world, start, &mut actor, &mut check);
        let still = still.await;
        let lab = lab.orders([Order::Between, Order::First]);
        let lab = lab.shuffles(shuffles());
        Tally::of(&[still, lab.run_beside(world, future, actor, check).await])
    }
}

/// How many orders by chance there are, for each ending and state: none but in the deep form.
fn shuffles() -> u64 {
    let shuffles = std::env::var("MAINSTAY_ADAPTER_SHUFFLES");
    shuffles.ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

impl Tally {
    fn of(reports: &[Report]) -> Self {
        Self {
            points: reports.iter().map(Report::points).sum(),
            most_polls: reports.iter().map(Report::most_polls).max().unwrap(),
        }
    }
}

/// Polled now and then without being woken, as any future must bear.
async fn nudged<Fut: Future>(future: Fut, is_on: bool) -> Fut::Output {
    let mut future = pin!(future);
    let mut ticks = is_on.then(|| interval(Lab::NUDGE));
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if let (Poll::Pending, Some(ticks)) = (&polled, &mut ticks) {
            while ticks.poll_tick(cx).is_ready() {}
        }
        polled
    })
    .await
}

fn runtime(clock: Clock) -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(clock == Clock::Paused)
        .build()
        .unwrap()
}

/// Runs each trial in a runtime of its own, and counts.
/// Runs the trials of the test of this name in a process of their own, whose children and
/// descriptors are counted. Mostly they wait, so the adapters' run side by side.
pub(crate) fn apart(name: &str, trials: impl Fn() -> Vec<Trial>) {
    const APART: &str = "MAINSTAY_APART";
    if std::env::var_os(APART).is_some() {
        return run_all(trials());
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(APART, name)
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}", output.status);
}

fn run_all(trials: Vec<Trial>) {
    // One that has failed can be tried alone, by a part of its name.
    let only = std::env::var("MAINSTAY_TRIAL").unwrap_or_default();
    let (mut points, mut states) = (0, 0);
    for trial in trials {
        if !trial.name.contains(&only) {
            continue;
        }
        states += 1;
        let runtime = runtime(trial.clock);
        // What every process opens once.
        runtime.block_on(async {
            let opened = mainstay::process::Command::new("true").run().await;
            opened.unwrap();
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        });
        // What the crate does by chance is the same each time.
        fastrand::seed(7);
        let since = std::time::Instant::now();
        let lab = Lab::new(&trial);
        let tally = runtime.block_on((trial.run)(lab));
        println!(
            "{}: {} points, {} polls, {:.1?}",
            trial.name,
            tally.points,
            tally.most_polls,
            since.elapsed()
        );
        assert!(
            tally.most_polls >= trial.least,
            "{}: it came to {} polls only",
            trial.name,
            tally.most_polls
        );
        points += tally.points;
    }
    proof::count("lab.points", points);
    proof::count("lab.states", states);
}

/// Waits for what has to come soon.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(2 * MS).await;
    }
    panic!("it does not come: {what}");
}

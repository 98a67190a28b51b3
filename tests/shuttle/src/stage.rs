//! Where a model is played: actors as tasks of shuttle, and a real runtime of tokio, on a paused
//! clock, for what the crate spawns.
//!
//! Everything is on one thread. The runtime is an actor like the others: when it is its turn it
//! runs one task of its own, or lets a millisecond pass. Actors poll the crate's futures inside
//! of the runtime's context, as any thread of a program may, but not on the runtime; so who is
//! woken by it, by its timers, or by another actor, runs when the schedule says so. An order of
//! turns is all that there is by chance, so that a schedule can be replayed.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use shuttle::future::JoinHandle;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::proof;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What an actor fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

/// A number below `bound`, which belongs to the schedule.
pub(crate) fn below(bound: usize) -> usize {
    thread_rng().gen_range(0..bound)
}

/// Once in so many times.
pub(crate) fn once_in(times: usize) -> bool {
    below(times) == 0
}

/// Lets others have their turn. On the runtime, use tokio's.
pub(crate) async fn turn() {
    shuttle::future::yield_now().await;
}

/// Lets others have their turn, up to twice.
pub(crate) async fn turns() {
    for _ in 0..below(3) {
        turn().await;
    }
}

/// As [`turns`], for what runs on the runtime.
pub(crate) async fn runtime_turns() {
    for _ in 0..below(3) {
        tokio::task::yield_now().await;
    }
}

/// Spawns actors.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) runtime: Handle,
}

impl Stage {
    /// Begins an actor; it can be aborted by [`abort`].
    pub(crate) fn actor<T: Send + 'static>(
        &self,
        part: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let runtime = self.runtime.clone();
        shuttle::future::spawn(Inside {
            part: Box::pin(part),
            runtime,
        })
    }

    /// Waits until `done`, while the others go on.
    pub(crate) async fn until(&self, done: impl Fn() -> bool) {
        while !done() {
            turn().await;
        }
    }
}

/// A future that is polled in the context of the runtime, and dropped wherever it is.
struct Inside<F> {
    part: Pin<Box<F>>,
    runtime: Handle,
}

impl<F: Future> Future for Inside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let _inside = this.runtime.enter();
        this.part.as_mut().poll(cx)
    }
}

/// Aborts one of them some turns later, or none: it is dropped wherever it is, outside of the
/// runtime's context.
pub(crate) fn abort_one<T: Send + 'static>(actors: &[JoinHandle<T>]) -> JoinHandle<()> {
    let victim = actors
        .get(below(actors.len() + 1))
        .map(JoinHandle::abort_handle);
    let after = below(12);
    shuttle::future::spawn(async move {
        for _ in 0..after {
            turn().await;
        }
        if let Some(victim) = victim {
            victim.abort();
        }
    })
}

/// Lets a future go on for a while, drawn by lot, and then drops it: right after a poll, or when
/// it has been woken and not polled. `None` if it was cut.
pub(crate) async fn cut<F: Future>(future: F) -> Option<F::Output> {
    let mut polls = match below(8) {
        // Mostly it may go on to its end.
        0..=3 => usize::MAX,
        few => few - 3,
    };
    let at_wake = once_in(2);
    let mut future = pin!(future);
    poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        polls -= 1;
        match polls {
            0 if !at_wake => Poll::Ready(None),
            _ => Poll::Pending,
        }
    })
    .await
}

/// How many there are, and the most that there ever were.
#[derive(Default)]
pub(crate) struct Crowd {
    here: AtomicUsize,
    most: AtomicUsize,
    ever: AtomicUsize,
}

impl Crowd {
    pub(crate) fn enter(self: &Arc<Self>) -> Member {
        self.ever.fetch_add(1, Ordering::SeqCst);
        let here = self.here.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(here, Ordering::SeqCst);
        Member(Arc::clone(self))
    }

    pub(crate) fn here(&self) -> usize {
        self.here.load(Ordering::SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    pub(crate) fn ever(&self) -> usize {
        self.ever.load(Ordering::SeqCst)
    }
}

/// One of a crowd, until it is dropped.
pub(crate) struct Member(Arc<Crowd>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The runtime's turns, until the play is over.
async fn run(runtime: Runtime, over: Arc<AtomicBool>) {
    let mut turns = 0_u32;
    while !over.load(Ordering::SeqCst) {
        if once_in(6) {
            // Where the play is long somebody pauses: between creations that fail, up to 30 s.
            let pause = MS * (1 << (turns / 128).min(12));
            runtime.block_on(async { tokio::time::sleep(pause).await });
        } else {
            runtime.block_on(tokio::task::yield_now());
        }
        turns += 1;
        turn().await;
    }
}

fn play<Fut: Future<Output = ()>>(model: fn(Stage) -> Fut) {
    // What the crate draws by lot is the same each time.
    fastrand::seed(7);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // One task a turn.
        .event_interval(1)
        .build()
        .expect("a runtime");
    let stage = Stage {
        runtime: runtime.handle().clone(),
    };
    let over = Arc::new(AtomicBool::new(false));
    let stepper = shuttle::future::spawn(run(runtime, Arc::clone(&over)));
    shuttle::future::block_on(Inside {
        runtime: stage.runtime.clone(),
        part: Box::pin(model(stage)),
    });
    over.store(true, Ordering::SeqCst);
    shuttle::future::block_on(stepper).expect("nobody aborts the runtime");
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 0x4_0000;
    // A schedule takes some hundred steps: who waits for ever is found so.
    config.max_steps = MaxSteps::FailAfter(20_000);
    config
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

/// Plays a model in as many orders as it takes, or replays one.
pub(crate) fn check<Fut: Future<Output = ()> + 'static>(model: fn(Stage) -> Fut) {
    if let Ok(schedule) = std::env::var("MAINSTAY_SCHEDULE") {
        shuttle::replay(move || play(model), &schedule);
        return;
    }
    let schedules = number("MAINSTAY_SCHEDULES").unwrap_or(1_000);
    let seed = number("MAINSTAY_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let half = usize::try_from(schedules / 2).expect("a sane number");
    let random = RandomScheduler::new_from_seed(seed, half);
    let mut played = Runner::new(random, config()).run(move || play(model));
    for depth in [2, 4] {
        let pct = PctScheduler::new_from_seed(seed, depth, half / 2);
        played += Runner::new(pct, config()).run(move || play(model));
    }
    proof::count("shuttle.schedules", played as u64);
    proof::count("shuttle.models", 1);
}

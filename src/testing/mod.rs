//! Does it leak when it is cancelled? A laboratory that cancels a future at every point.
//!
//! A future can be dropped wherever it waits, and whatever it holds there must be given back.
//! That is easily got wrong, and hard to see: the drop has to come at the right moment, often
//! between two steps of somebody else. A [`Laboratory`] tries all of them, one after another,
//! always in the same order.
//!
//! It needs the feature `test-util`.

mod actor;
#[cfg(test)]
mod amount;
mod drive;
#[cfg(test)]
mod inside;
mod point;
mod resources;
mod run;
mod subject;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use point::{Ending, Order, Point};
pub use run::{Failure, Report};
#[cfg(test)]
pub(crate) use {amount::*, inside::*};

use resources::Resources;
use run::Run;

/// Runs a future for `k` polls, then cancels it, for every `k` until it ends by itself; and
/// checks each time that nothing is lost.
///
/// Each point is tried in a fresh world, which the future, its neighbour and the check share.
/// A point is a number of polls, an [`Ending`] (how the future is cancelled) and an [`Order`]
/// (when somebody else takes a step). Nothing is left to chance, so a failure names its point,
/// and [`only`](Self::only) tries that one again.
///
/// After each point it looks at all of this, and then asks your check:
///
/// - the future, once cancelled, has let go of its world, without any time passing unless
///   [`settle_within`](Self::settle_within) says so;
/// - the check, the neighbour and the future each come to their end within the
///   [patience](Self::patience): a wake-up that was lost shows as a future that never ends;
/// - once the world is dropped, the runtime has no more tasks than before it was made; on Linux,
///   if asked for, the process no more descriptors and children. What other threads have to do
///   for either may take them a second.
///
/// | setting | default | why |
/// |---|---|---|
/// | `endings` | all | each takes another way out |
/// | `orders` | all but by chance | what a neighbour does may matter before, between and after |
/// | `shuffles` | 0 | orders by chance are for what the three plain ones do not find |
/// | `patience` | 60 s | a paused clock jumps over it; with a real one, set less |
/// | `limit_after` | 1 ms | shorter than most waits, so time is up in the middle of one |
/// | `settle_within` | 0 s | what comes back by a timer, long after the cut, was lost meanwhile |
/// | `most_polls` | 300 | more is a loop without an end, which wants `up_to` |
/// | `up_to` | none | a future that ends is tried until then |
///
/// # Runtime
///
/// It wants a current-thread runtime, best with a paused clock:
/// `#[tokio::test(start_paused = true)]`. With a real clock it works as well, in real time, as
/// what waits for a child process or a socket must. (Tokio does not move a paused clock on while
/// blocking work is under way: a future that waits for such work needs an order in which the
/// neighbour ends it.)
///
/// # Examples
///
/// ```
/// use mainstay::testing::Laboratory;
/// use std::sync::Arc;
/// use tokio::sync::Semaphore;
/// use tokio::time::{Duration, sleep};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let report = Laboratory::new("two steps under one permit")
///     .run(
///         async || Semaphore::new(1),
///         |permits: Arc<Semaphore>| async move {
///             let permit = permits.acquire().await.unwrap();
///             sleep(Duration::from_millis(5)).await;
///             sleep(Duration::from_millis(5)).await;
///             drop(permit); // not reached by who is cancelled: dropped all the same
///         },
///         async |permits: &Semaphore, _| assert_eq!(permits.available_permits(), 1),
///     )
///     .await;
/// assert_eq!(report.most_polls(), 3);
/// # }
/// ```
///
/// The same with `permit.forget()` and `add_permits(1)` in place of the guard leaks, and says
/// so:
///
/// ```should_panic
/// # use mainstay::testing::Laboratory;
/// # use std::sync::Arc;
/// # use tokio::sync::Semaphore;
/// # use tokio::time::{Duration, sleep};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// Laboratory::new("a permit by hand")
///     .run(
///         async || Semaphore::new(1),
///         |permits: Arc<Semaphore>| async move {
///             permits.acquire().await.unwrap().forget();
///             sleep(Duration::from_millis(5)).await;
///             permits.add_permits(1);
///         },
///         async |permits: &Semaphore, _| assert_eq!(permits.available_permits(), 1),
///     )
///     .await;
/// // a permit by hand: dropped after 1 poll: the check panicked: ..
/// // Try it alone: .only(Point::new(1, Ending::Drop, Order::AfterCut))
/// # }
/// ```
#[derive(Clone)]
#[must_use = "it tries nothing until it is told to `run`"]
pub struct Laboratory {
    name: String,
    endings: Vec<Ending>,
    /// `None` is each of the plain ones.
    orders: Option<Vec<Order>>,
    shuffles: u64,
    only: Option<Point>,
    patience: Duration,
    limit_after: Duration,
    settle_within: Duration,
    most_polls: usize,
    up_to: Option<usize>,
    may_stay_pending: bool,
    watches_waker: bool,
    watched: Resources,
}

impl Laboratory {
    /// A laboratory with every default. Failures begin with its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            endings: Ending::ALL.to_vec(),
            orders: None,
            shuffles: 0,
            only: None,
            patience: Duration::from_secs(60),
            limit_after: Duration::from_millis(1),
            settle_within: Duration::ZERO,
            most_polls: 300,
            up_to: None,
            may_stay_pending: false,
            watches_waker: false,
            watched: Resources::default(),
        }
    }

    /// Cancels in these ways only.
    pub fn endings(mut self, endings: impl IntoIterator<Item = Ending>) -> Self {
        self.endings = endings.into_iter().collect();
        self
    }

    /// Tries these orders only, and those of [`shuffles`](Self::shuffles). They need a neighbour:
    /// see [`run_beside`](Self::run_beside).
    pub fn orders(mut self, orders: impl IntoIterator<Item = Order>) -> Self {
        self.orders = Some(orders.into_iter().collect());
        self
    }

    /// Tries so many random orders as well, [`Order::Shuffled`] with the seeds 0, 1, and so on.
    /// They need a neighbour: see [`run_beside`](Self::run_beside).
    pub fn shuffles(mut self, number: u64) -> Self {
        self.shuffles = number;
        self
    }

    /// Tries this point only: the one that a failure has named. If the future does not come to
    /// it, that is a failure as well.
    pub fn only(mut self, point: Point) -> Self {
        self.only = Some(point);
        self
    }

    /// How long anything may take: a wait of the future, a wait of the neighbour after the cut,
    /// and the check. It has to be longer than any timer of the future.
    pub fn patience(mut self, span: Duration) -> Self {
        self.patience = span;
        self
    }

    /// How long after the `k`-th poll the time limit of [`Ending::TimeOut`] passes. It has to be
    /// shorter than the patience.
    pub fn limit_after(mut self, span: Duration) -> Self {
        self.limit_after = span;
        self
    }

    /// How long it may take, by the clock of the runtime, until what was cancelled is given back:
    /// until nothing but the check has the world, and, once that is dropped, until tasks (and
    /// descriptors and children) are no more than before.
    ///
    /// By default no time passes on a paused clock between the cut and the check, but for what
    /// the neighbour waits for until its end: what takes a timer to come back is lost. Tasks have
    /// 16 turns, and if that is not enough, other threads one second of real time (which on a
    /// real clock is a second of the runtime's).
    pub fn settle_within(mut self, span: Duration) -> Self {
        self.settle_within = span;
        self
    }

    /// After how many polls a future that has not ended is given up, as a failure. All points
    /// before are tried first, which takes about half the square of so many polls.
    pub fn most_polls(mut self, polls: usize) -> Self {
        self.most_polls = polls;
        self
    }

    /// Tries the points after so many polls and fewer, and then all is well: for a future that
    /// does not end by itself, as the loop of a server or a heartbeat.
    pub fn up_to(mut self, polls: usize) -> Self {
        self.up_to = Some(polls);
        self
    }

    /// The future need not end by itself: where nothing wakes it any more, all its points have
    /// been tried. Without this it is a failure, and probably a wake-up that was lost.
    pub fn may_stay_pending(mut self) -> Self {
        self.may_stay_pending = true;
        self
    }

    /// Whether nobody may hold the future's waker any more once it is cancelled, as one that is
    /// left behind in a list of waiters does. By default somebody may: many channels keep the
    /// waker of their receiver until the next one comes.
    pub fn watch_waker(mut self, watch: bool) -> Self {
        self.watches_waker = watch;
        self
    }

    /// Counts the open descriptors of the process as well. No other test may run beside it, and
    /// what the process opens once, at first use, has to be open before (tokio's pipe for
    /// signals, as it comes with the first child; a resolver; `/dev/urandom`): use it once before
    /// you begin.
    #[cfg(target_os = "linux")]
    pub fn watch_descriptors(mut self) -> Self {
        self.watched.descriptors = true;
        self
    }

    /// Counts the children of the process as well, those that have ended but were not waited
    /// for among them. No other test may run beside it.
    #[cfg(target_os = "linux")]
    pub fn watch_children(mut self) -> Self {
        self.watched.children = true;
        self
    }

    /// Tries every point of a future that has no neighbour.
    ///
    /// `world` makes what the future works on, anew for each point; `future` starts the future
    /// on trial; `check` looks whether everything adds up and whether the next call succeeds.
    ///
    /// # Panics
    ///
    /// At the first [`Failure`], with its text; outside of a current-thread tokio runtime; where
    /// there is nothing to try; and if orders are set, which are those of a neighbour.
    pub async fn run<W, Fut: Future<Output: Send> + Send + 'static>(
        self,
        world: impl AsyncFnMut() -> W,
        future: impl FnMut(Arc<W>) -> Fut,
        check: impl AsyncFnMut(&W, &Point),
    ) -> Report {
        match self.try_run(world, future, check).await {
            Ok(report) => report,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// As [`run`](Self::run), with a neighbour: another actor in the same world, which takes or
    /// frees what the future is after. It takes its steps before, between or after the polls of
    /// the future (see [`Order`]), and is run to its end before the check.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run) does; it may have orders.
    pub async fn run_beside<W, Fut, Actor>(
        self,
        world: impl AsyncFnMut() -> W,
        future: impl FnMut(Arc<W>) -> Fut,
        actor: impl FnMut(Arc<W>) -> Actor,
        check: impl AsyncFnMut(&W, &Point),
    ) -> Report
    where
        Fut: Future<Output: Send> + Send + 'static,
        Actor: Future<Output = ()>,
    {
        match self.try_run_beside(world, future, actor, check).await {
            Ok(report) => report,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// As [`run`](Self::run), but returns the first failure.
    ///
    /// # Errors
    ///
    /// At which point what was wrong.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run) does, but for a failure.
    pub async fn try_run<W, Fut: Future<Output: Send> + Send + 'static>(
        self,
        world: impl AsyncFnMut() -> W,
        mut future: impl FnMut(Arc<W>) -> Fut,
        check: impl AsyncFnMut(&W, &Point),
    ) -> Result<Report, Failure> {
        let start = |world: &Arc<W>| (future(Arc::clone(world)), None::<std::future::Ready<()>>);
        Run::new(&self, world, start, check).all().await
    }

    /// As [`run_beside`](Self::run_beside), but returns the first failure.
    ///
    /// # Errors
    ///
    /// At which point what was wrong.
    ///
    /// # Panics
    ///
    /// As [`run_beside`](Self::run_beside) does, but for a failure.
    pub async fn try_run_beside<W, Fut, Actor>(
        self,
        world: impl AsyncFnMut() -> W,
        mut future: impl FnMut(Arc<W>) -> Fut,
        mut actor: impl FnMut(Arc<W>) -> Actor,
        check: impl AsyncFnMut(&W, &Point),
    ) -> Result<Report, Failure>
    where
        Fut: Future<Output: Send> + Send + 'static,
        Actor: Future<Output = ()>,
    {
        let start = |world: &Arc<W>| {
            let future = future(Arc::clone(world));
            (future, Some(actor(Arc::clone(world))))
        };
        let run = Run::new(&self, world, start, check);
        run.with_actor().all().await
    }
}

impl fmt::Debug for Laboratory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Laboratory")
            .field("name", &self.name)
            .field("endings", &self.endings)
            .field("shuffles", &self.shuffles)
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

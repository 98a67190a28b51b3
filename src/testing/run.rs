//! All points of one future, one after another.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::Laboratory;
use super::drive::{Came, Drive};
use super::point::{Ending, Order, Point, count};
use super::watch::{comes_true, within};
use crate::panics::{message, poll_caught};

/// What a [`Laboratory`] has tried, all of it well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    points: u64,
    most_polls: usize,
}

impl Report {
    /// How many points were tried.
    #[must_use]
    pub const fn points(&self) -> u64 {
        self.points
    }

    /// How many polls the future took at most, until it ended by itself, nothing woke it any
    /// more, or no more were to be tried. A figure lower than you thought means that it did not
    /// come where you wanted it.
    #[must_use]
    pub const fn most_polls(&self) -> usize {
        self.most_polls
    }
}

/// What was wrong, and at which point.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The laboratory's name.
    pub name: String,
    /// Where the future was cancelled.
    pub point: Point,
    /// What was wrong then.
    pub what: String,
    has_actor: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, point, what, ..
        } = self;
        if self.has_actor {
            writeln!(f, "{name}: {point}: {what}")?;
        } else {
            writeln!(f, "{name}: {}: {what}", point.moment())?;
        }
        let (polls, ending, order) = (point.polls(), point.ending(), point.order());
        write!(
            f,
            "Try it alone: .only(Point::new({polls}, Ending::{ending:?}, Order::{order:?}))"
        )
    }
}

impl std::error::Error for Failure {}

/// A laboratory at work.
pub(super) struct Run<'a, World, Start, Check> {
    laboratory: &'a Laboratory,
    world: World,
    start: Start,
    check: Check,
    has_actor: bool,
    report: Report,
    /// What is under way: whose panic it is.
    stage: Cell<&'static str>,
}

impl<'a, World, Start, Check> Run<'a, World, Start, Check> {
    pub(super) fn new<W, Fut, Actor>(
        laboratory: &'a Laboratory,
        world: World,
        start: Start,
        check: Check,
    ) -> Self
    where
        World: AsyncFnMut() -> W,
        Start: FnMut(&Arc<W>) -> (Fut, Option<Actor>),
        Check: AsyncFnMut(&W, &Point),
    {
        Self {
            laboratory,
            world,
            start,
            check,
            has_actor: false,
            report: Report::default(),
            stage: Cell::new(""),
        }
    }

    pub(super) fn with_actor(mut self) -> Self {
        self.has_actor = true;
        self
    }

    /// Tries every point, or the only one.
    pub(super) async fn all<W, Fut, Actor>(mut self) -> Result<Report, Failure>
    where
        World: AsyncFnMut() -> W,
        Start: FnMut(&Arc<W>) -> (Fut, Option<Actor>),
        Check: AsyncFnMut(&W, &Point),
        Fut: Future<Output: Send> + Send + 'static,
        Actor: Future<Output = ()>,
    {
        assert!(
            Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread,
            "{}: a laboratory wants a current-thread runtime: what other threads do would be \
             another thing each time",
            self.laboratory.name
        );
        let orders = self.orders();
        if let Some(point) = self.laboratory.only {
            return self.only(point).await;
        }
        for order in orders {
            for &ending in &self.laboratory.endings {
                self.every_poll(ending, order).await?;
            }
        }
        assert!(
            self.report.points > 0,
            "{}: there is nothing to try: no endings, orders or polls",
            self.laboratory.name
        );
        Ok(self.report)
    }

    /// Tries one point, which has to be there.
    async fn only<W, Fut, Actor>(mut self, point: Point) -> Result<Report, Failure>
    where
        World: AsyncFnMut() -> W,
        Start: FnMut(&Arc<W>) -> (Fut, Option<Actor>),
        Check: AsyncFnMut(&W, &Point),
        Fut: Future<Output: Send> + Send + 'static,
        Actor: Future<Output = ()>,
    {
        let why = if point.ending() == Ending::DropWoken && point.polls() == 0 {
            "what was never polled is never woken".into()
        } else {
            match self.try_point(point).await? {
                Came::Ended(polls) if polls < point.polls() => {
                    format!("it ended after {}", count(polls))
                }
                // To be polled once more it would have to be woken.
                Came::Stuck(polls) if polls + 1 < point.polls() => {
                    format!("nothing woke it after {}", count(polls))
                }
                _ => return Ok(self.report),
            }
        };
        Err(self.failure(point, format!("{why}: there is no such point")))
    }

    /// Without a neighbour all orders are one.
    fn orders(&self) -> Vec<Order> {
        let lab = self.laboratory;
        if !self.has_actor {
            let only = lab.only.map_or(Order::AfterCut, |point| point.order());
            assert!(
                lab.orders.is_none() && lab.shuffles == 0 && only == Order::AfterCut,
                "{}: orders are those of a neighbour, and there is none: see `run_beside`",
                lab.name
            );
            return vec![Order::AfterCut];
        }
        let plain = || vec![Order::AfterCut, Order::Between, Order::First];
        let mut orders = lab.orders.clone().unwrap_or_else(plain);
        orders.extend((0..lab.shuffles).map(Order::Shuffled));
        orders
    }

    /// From the first point on until the future ends by itself, or waits for nothing.
    async fn every_poll<W, Fut, Actor>(
        &mut self,
        ending: Ending,
        order: Order,
    ) -> Result<(), Failure>
    where
        World: AsyncFnMut() -> W,
        Start: FnMut(&Arc<W>) -> (Fut, Option<Actor>),
        Check: AsyncFnMut(&W, &Point),
        Fut: Future<Output: Send> + Send + 'static,
        Actor: Future<Output = ()>,
    {
        let Laboratory {
            up_to, most_polls, ..
        } = *self.laboratory;
        let most = up_to.unwrap_or(most_polls);
        // What was never polled is never woken.
        let first = usize::from(ending == Ending::DropWoken);
        for polls in first..=most {
            if self.try_point(Point::new(polls, ending, order)).await? != Came::Cut {
                return Ok(());
            }
        }
        if up_to.is_some() {
            self.report.most_polls = self.report.most_polls.max(most);
            return Ok(());
        }
        let what = format!(
            "it has still not ended: more polls than {most} are not tried; `up_to` tries so many"
        );
        Err(self.failure(Point::new(most, ending, order), what))
    }

    /// Tries one point; a panic, wherever it comes from, is a failure there.
    async fn try_point<W, Fut, Actor>(&mut self, point: Point) -> Result<Came, Failure>
    where
        World: AsyncFnMut() -> W,
        Start: FnMut(&Arc<W>) -> (Fut, Option<Actor>),
        Check: AsyncFnMut(&W, &Point),
        Fut: Future<Output: Send> + Send + 'static,
        Actor: Future<Output = ()>,
    {
        let tried = caught(self.in_a_fresh_world(point)).await;
        let came =
            tried.unwrap_or_else(|text| Err(format!("{} panicked: {text}", self.stage.get())));
        let came = came.map_err(|what| self.failure(point, what))?;
        if came == Came::Unlimited {
            let (limit, patience) = (self.laboratory.limit_after, self.laboratory.patience);
            let what = format!(
                "its time limit of {limit:?} has not woken it for {patience:?}: set less, or \
                 more patience"
            );
            return Err(self.failure(point, what));
        }
        self.report.points += 1;
        let (Came::Ended(polls) | Came::Stuck(polls)) = came else {
            return Ok(came);
        };
        self.report.most_polls = self.report.most_polls.max(polls);
        let may_be_stuck = self.laboratory.may_stay_pending
            || (self.has_actor && point.order() == Order::AfterCut);
        if matches!(came, Came::Stuck(_)) && !may_be_stuck {
            let patience = self.laboratory.patience;
            let what = format!(
                "after {polls} polls nothing has woken it for {patience:?}: a wake-up was lost, \
                 or it never ends"
            );
            return Err(self.failure(point, what));
        }
        Ok(came)
    }

    async fn in_a_fresh_world<W, Fut, Actor>(&mut self, point: Point) -> Result<Came, String>
    where
        World: AsyncFnMut() -> W,
        Start: FnMut(&Arc<W>) -> (Fut, Option<Actor>),
        Check: AsyncFnMut(&W, &Point),
        Fut: Future<Output: Send> + Send + 'static,
        Actor: Future<Output = ()>,
    {
        let Laboratory {
            patience,
            limit_after,
            settle_within,
            watched,
            watches_waker,
            ..
        } = *self.laboratory;
        let before = watched.count();
        self.stage.set("what makes the world");
        let world = Arc::new((self.world)().await);

        self.stage.set("the future or its neighbour");
        let (future, actor) = (self.start)(&world);
        let mut drive = Drive::new(point, patience, limit_after, actor);
        let subject = drive.subject(future);
        let flag = subject.flag();
        let came = drive.go(subject).await;
        let came = came.ok_or("its task was aborted, and is still not dropped")?;
        // Before time goes on or the neighbour acts: whoever wakes lets go of the waker. (The
        // runtime itself keeps that of one who yields until its next round.)
        if watches_waker && !comes_true(Duration::ZERO, || Arc::strong_count(&flag) == 1).await {
            return Err("something still holds the waker that it was polled with".into());
        }
        if !drive.finish().await {
            return Err("its neighbour does not come to its end".into());
        }
        drop(drive);
        if !comes_true(settle_within, || Arc::strong_count(&world) == 1).await {
            return Err("something still holds the world that it was given".into());
        }

        self.stage.set("the check");
        if within(patience, (self.check)(&world, &point))
            .await
            .is_none()
        {
            return Err(format!("the check is not through after {patience:?}"));
        }

        self.stage.set("the end of the world");
        drop(world);
        if !comes_true(settle_within, || watched.count().is_within(before)).await {
            let now = watched.count();
            return Err(format!("{before} before, and {now} when its world is gone"));
        }
        Ok(came)
    }

    fn failure(&self, point: Point, what: String) -> Failure {
        Failure {
            name: self.laboratory.name.clone(),
            point,
            what,
            has_actor: self.has_actor,
        }
    }
}

/// What a future yields, or the text of its panic.
async fn caught<Fut: Future>(future: Fut) -> Result<Fut::Output, Box<str>> {
    let mut future = pin!(future);
    let result = poll_fn(|cx| poll_caught(future.as_mut(), cx)).await;
    result.map_err(message)
}

//! Brings a future to the point at which it is cancelled, and its neighbour along.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::actor::Actor;
use super::point::{Ending, Order, Point};
use super::subject::Subject;
use super::watch::{rung, sleep};

/// How a future came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It was cancelled at its point.
    Cut,
    /// It ended by itself, after so many polls.
    Ended(usize),
    /// Nothing woke it for as long as the patience lasts, after so many polls.
    Stuck(usize),
    /// It had a time limit, and that did not wake it either.
    Unlimited,
}

/// One future and its neighbour, on their way to one point.
pub(super) struct Drive<Fut> {
    pub(super) point: Point,
    pub(super) patience: Duration,
    pub(super) limit_after: Duration,
    pub(super) bell: Arc<Notify>,
    pub(super) actor: Actor<Fut>,
    dice: Rng,
}

impl<Fut: Future<Output = ()>> Drive<Fut> {
    pub(super) fn new(
        point: Point,
        patience: Duration,
        limit_after: Duration,
        actor: Option<Fut>,
    ) -> Self {
        let bell = Arc::new(Notify::new());
        let seed = match point.order() {
            Order::Shuffled(seed) => seed,
            _ => 0,
        };
        Self {
            point,
            patience,
            limit_after,
            actor: Actor::new(actor, &bell),
            bell,
            dice: Rng::with_seed(seed),
        }
    }

    /// Starts the future in the place that its ending needs.
    pub(super) fn subject(&self, future: impl Future + Send + 'static) -> Subject {
        match self.point.ending() {
            Ending::Abort => Subject::in_task(future, &self.bell),
            _ => Subject::here(future, &self.bell),
        }
    }

    /// Polls the future as often as the point says, then cancels it. `None` when an aborted
    /// task was not dropped in time.
    pub(super) async fn go(&mut self, mut subject: Subject) -> Option<Came> {
        if self.point.order() == Order::First {
            self.step().await;
        }
        let mut came = Came::Cut;
        for poll in 1..=self.point.polls() {
            if subject.poll().await {
                return Some(Came::Ended(poll));
            }
            if poll < self.point.polls() && !self.until_poll(&subject).await {
                came = Came::Stuck(poll);
                break;
            }
        }
        if came == Came::Cut {
            came = self.last_moments(&mut subject).await;
        }
        subject.cut(self.patience).await.then_some(came)
    }

    /// What happens between the last poll and the cut.
    async fn last_moments(&mut self, subject: &mut Subject) -> Came {
        match self.point.ending() {
            Ending::Drop | Ending::Abort => {}
            Ending::DropWoken => {
                while !subject.is_woken() {
                    if !self.until_poll(subject).await {
                        return Came::Stuck(self.point.polls());
                    }
                }
            }
            // It ends by its limit, or by itself before.
            Ending::TimeOut => {
                subject.limit(self.limit_after);
                while !subject.poll().await {
                    if !self.until_poll(subject).await {
                        return Came::Unlimited;
                    }
                }
            }
        }
        Came::Cut
    }

    /// Lets the neighbour and time go on until the future is to be polled again; `false` when
    /// it never will be.
    async fn until_poll(&mut self, subject: &Subject) -> bool {
        // Tasks have their turn, as they would between two polls of a task.
        yield_now().await;
        let steps = match self.point.order() {
            Order::AfterCut => false,
            Order::Between | Order::First => true,
            Order::Shuffled(_) => return self.shuffle(subject).await,
        };
        if steps && self.actor.can_step() {
            self.step().await;
            return true;
        }
        if !self.news(subject, steps).await {
            return false;
        }
        if steps && self.actor.can_step() {
            self.step().await;
        }
        true
    }

    /// As above, by chance.
    async fn shuffle(&mut self, subject: &Subject) -> bool {
        loop {
            match self.dice.u8(..4) {
                // Woken or not.
                0 => return true,
                1 if subject.is_woken() => return true,
                2 if self.actor.can_step() => self.step().await,
                3 => sleep(Duration::from_millis(1)).await,
                _ if !self.news(subject, true).await => return false,
                _ => {}
            }
        }
    }

    /// Waits until the future was woken, or the neighbour if it counts; `false` when that does
    /// not happen in time.
    async fn news(&self, subject: &Subject, or_actor: bool) -> bool {
        let news = || subject.is_woken() || (or_actor && self.actor.can_step());
        rung(&self.bell, self.patience, news).await
    }

    async fn step(&mut self) {
        self.actor.step();
        yield_now().await;
    }

    /// Runs the neighbour to its end; whether it came to it in time.
    pub(super) async fn finish(&mut self) -> bool {
        while !self.actor.has_ended() {
            if self.actor.can_step() {
                self.step().await;
            } else {
                let news = || self.actor.can_step();
                if !rung(&self.bell, self.patience, news).await {
                    return false;
                }
            }
        }
        true
    }
}

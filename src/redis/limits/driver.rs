//! The one task of a process that asks Redis, for as long as there is something to ask.
//!
//! What is asked, and what an answer means, is decided by a [`Brain`], which is told the time.
//! One question is under way at a time: the herd stays in the process.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::away::Failure;
use super::source::{Asked, Source};
use crate::time::{self, Instant, Timer};

/// What the task does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask with these arguments.
    Ask(Vec<String>),
    /// Nothing before then, unless it is poked.
    Sleep(Instant),
    /// Nothing until someone starts it again.
    Done,
}

/// A pure state: no clock, no task, and nobody is told anything while it is locked.
pub(super) trait Brain: fmt::Debug + Send + 'static {
    /// Whom to tell what, once the lock is free.
    type News: Default + Send;

    fn step(&mut self, now: Instant, news: &mut Self::News) -> Step;
    fn answered(&mut self, now: Instant, answer: Result<&[i64], Failure>, news: &mut Self::News);
    /// There will be no answer to what was asked.
    fn forget_question(&mut self, now: Instant);
    /// The task has ended with things left to do: its runtime has shut down.
    fn stopped(&mut self, news: &mut Self::News);
    fn tell(news: Self::News, driver: &Arc<Driver<Self>>)
    where
        Self: Sized;
}

/// The state and its task.
pub(super) struct Driver<B: Brain> {
    seat: Mutex<Seat<B>>,
    source: Box<dyn Source>,
    ask_within: Duration,
}

struct Seat<B> {
    brain: B,
    /// Of the task that runs: what pokes it, and what it is known by.
    running: Option<Arc<Notify>>,
    /// Since when it has been poked and has not come.
    unheard: Option<Instant>,
    /// Where it ran last: permits come back from plain threads too.
    handle: Option<Handle>,
}

impl<B> Seat<B> {
    fn is_of(&self, task: &Arc<Notify>) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| Arc::ptr_eq(running, task))
    }
}

impl<B: Brain> Driver<B> {
    pub(super) fn new(brain: B, source: Box<dyn Source>, ask_within: Duration) -> Arc<Self> {
        Arc::new(Self {
            seat: Mutex::new(Seat {
                brain,
                running: None,
                unheard: None,
                handle: None,
            }),
            source,
            ask_within,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Seat<B>> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, or looks at it.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut B) -> T) -> T {
        change(&mut self.lock().brain)
    }

    pub(super) const fn ask_within(&self) -> Duration {
        self.ask_within
    }

    /// Sees to it that the task looks at the state. `false` where there is no runtime for it.
    pub(super) fn rouse(self: &Arc<Self>) -> bool {
        let here = Handle::try_current().ok();
        let mut seat = self.lock();
        if let Some(running) = &seat.running {
            running.notify_one();
            seat.unheard.get_or_insert_with(time::now);
            return true;
        }
        let Some(handle) = here.or_else(|| seat.handle.clone()) else {
            return false;
        };
        let running = Arc::new(Notify::new());
        seat.running = Some(Arc::clone(&running));
        seat.handle = Some(handle.clone());
        drop(seat);
        drop(handle.spawn(Running::new(self, running).run()));
        true
    }

    /// When a caller looks after the task who begins to wait now.
    pub(super) fn look_at(&self) -> Instant {
        time::now().saturating_add(self.patience())
    }

    /// A question is over after `ask_within`; the rest is for a busy machine.
    const fn patience(&self) -> Duration {
        self.ask_within.saturating_mul(2)
    }

    /// Polls a caller's wait until `last`. Now and then it looks after the task meanwhile.
    pub(super) fn poll_wait(
        self: &Arc<Self>,
        timer: &mut Timer,
        look_at: &mut Instant,
        last: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            ready!(timer.poll_until(last.min(*look_at), cx));
            if last <= *look_at {
                return Poll::Ready(());
            }
            self.replace_if_deaf();
            *look_at = self.look_at();
        }
    }

    /// A task can be in a runtime that nobody runs any more, or whose thread is blocked. One
    /// that does not come is replaced by one in the runtime of the caller.
    fn replace_if_deaf(self: &Arc<Self>) {
        {
            let (now, patience) = (time::now(), self.patience());
            let mut seat = self.lock();
            let since = seat.unheard.unwrap_or(now);
            if since.saturating_add(patience) <= now && Handle::try_current().is_ok() {
                (seat.running, seat.unheard) = (None, None);
                seat.brain.forget_question(now);
            }
        }
        self.rouse();
    }

    /// The next step; `None` when there is none, and the task is at its end.
    fn step(self: &Arc<Self>, task: &Arc<Notify>) -> Option<Step> {
        let mut news = B::News::default();
        let step = {
            let mut seat = self.lock();
            if !seat.is_of(task) {
                return None;
            }
            seat.unheard = None;
            let step = seat.brain.step(time::now(), &mut news);
            if step == Step::Done {
                seat.running = None;
            }
            step
        };
        B::tell(news, self);
        (step != Step::Done).then_some(step)
    }

    async fn ask(self: &Arc<Self>, args: Vec<String>, task: &Arc<Notify>) {
        let answer = within(self.source.ask(args, self.ask_within), self.ask_within).await;
        let mut news = B::News::default();
        let told = answer.as_deref().map_err(|failure| *failure);
        {
            let mut seat = self.lock();
            if !seat.is_of(task) {
                return;
            }
            seat.brain.answered(time::now(), told, &mut news);
        }
        B::tell(news, self);
    }
}

/// Sleeps until then, or until it is poked.
async fn sleep(until: Instant, poke: &Notify) {
    let mut poked = pin!(poke.notified());
    let mut timer = Timer::new();
    poll_fn(|cx| {
        if poked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        timer.poll_until(until, cx)
    })
    .await;
}

/// The answer, if it comes in time.
async fn within(mut asked: Asked, span: Duration) -> Result<Vec<i64>, Failure> {
    let until = time::now().saturating_add(span);
    let mut timer = Timer::new();
    poll_fn(|cx| {
        if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        timer.poll_until(until, cx).map(|()| Err(Failure::TimedOut))
    })
    .await
}

/// The task, which says so when it is dropped before its end.
struct Running<B: Brain> {
    driver: Option<Arc<Driver<B>>>,
    poke: Arc<Notify>,
}

impl<B: Brain> Running<B> {
    fn new(driver: &Arc<Driver<B>>, poke: Arc<Notify>) -> Self {
        let driver = Some(Arc::clone(driver));
        Self { driver, poke }
    }

    async fn run(mut self) {
        while let Some(driver) = &self.driver {
            match driver.step(&self.poke) {
                Some(Step::Ask(args)) => driver.ask(args, &self.poke).await,
                Some(Step::Sleep(until)) => sleep(until, &self.poke).await,
                Some(Step::Done) | None => self.driver = None,
            }
        }
    }
}

impl<B: Brain> Drop for Running<B> {
    fn drop(&mut self) {
        let Some(driver) = self.driver.take() else {
            return;
        };
        let mut news = B::News::default();
        {
            let mut seat = driver.lock();
            if !seat.is_of(&self.poke) {
                return;
            }
            (seat.running, seat.unheard, seat.handle) = (None, None, None);
            let now = time::now();
            seat.brain.forget_question(now);
            seat.brain.stopped(&mut news);
        }
        B::tell(news, &driver);
    }
}

impl<B: Brain> fmt::Debug for Driver<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("running", &self.lock().running.is_some())
            .finish_non_exhaustive()
    }
}

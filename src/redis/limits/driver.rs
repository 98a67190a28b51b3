//! The one task of a process that asks Redis, for as long as there is something to ask.
//!
//! What is asked, and what an answer means, is decided by a [`Brain`], which is told the time.
//! One question is under way at a time: the herd stays in the process.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
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
    /// The task has ended with things left to do: its runtime has shut down.
    fn stopped(&mut self, now: Instant, news: &mut Self::News);
    fn tell(news: Self::News, driver: &Arc<Driver<Self>>)
    where
        Self: Sized;
}

/// The state and its task.
pub(super) struct Driver<B: Brain> {
    seat: Mutex<Seat<B>>,
    poke: Notify,
    source: Box<dyn Source>,
    ask_within: Duration,
}

struct Seat<B> {
    brain: B,
    running: bool,
    /// Where it ran last: permits come back from plain threads too.
    handle: Option<Handle>,
}

impl<B: Brain> Driver<B> {
    pub(super) fn new(brain: B, source: Box<dyn Source>, ask_within: Duration) -> Arc<Self> {
        Arc::new(Self {
            seat: Mutex::new(Seat {
                brain,
                running: false,
                handle: None,
            }),
            poke: Notify::new(),
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
        let start = {
            let mut seat = self.lock();
            if seat.running {
                None
            } else {
                let handle = here.or_else(|| seat.handle.clone());
                seat.running = handle.is_some();
                seat.handle.clone_from(&handle);
                Some(handle)
            }
        };
        match start {
            None => self.poke.notify_one(),
            Some(None) => return false,
            Some(Some(handle)) => {
                let running = Running(Some(Arc::clone(self)));
                drop(handle.spawn(running.run()));
            }
        }
        true
    }

    /// The next step; `None` when there is none, and the task is at its end.
    fn step(self: &Arc<Self>) -> Option<Step> {
        let mut news = B::News::default();
        let step = {
            let mut seat = self.lock();
            let step = seat.brain.step(time::now(), &mut news);
            seat.running = step != Step::Done;
            step
        };
        B::tell(news, self);
        (step != Step::Done).then_some(step)
    }

    async fn ask(self: &Arc<Self>, args: Vec<String>) {
        let answer = within(self.source.ask(args), self.ask_within).await;
        let mut news = B::News::default();
        let told = answer.as_deref().map_err(|failure| *failure);
        self.lock().brain.answered(time::now(), told, &mut news);
        B::tell(news, self);
    }

    /// Sleeps until then, or until it is poked.
    async fn sleep(&self, until: Instant) {
        let mut poked = pin!(self.poke.notified());
        let mut timer = Timer::new();
        poll_fn(|cx| {
            if poked.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            timer.poll_until(until, cx)
        })
        .await;
    }
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
struct Running<B: Brain>(Option<Arc<Driver<B>>>);

impl<B: Brain> Running<B> {
    async fn run(mut self) {
        while let Some(driver) = &self.0 {
            match driver.step() {
                Some(Step::Ask(args)) => driver.ask(args).await,
                Some(Step::Sleep(until)) => driver.sleep(until).await,
                Some(Step::Done) | None => self.0 = None,
            }
        }
    }
}

impl<B: Brain> Drop for Running<B> {
    fn drop(&mut self) {
        let Some(driver) = self.0.take() else {
            return;
        };
        let mut news = B::News::default();
        {
            let mut seat = driver.lock();
            seat.running = false;
            seat.handle = None;
            seat.brain.stopped(time::now(), &mut news);
        }
        B::tell(news, &driver);
    }
}

impl<B: Brain> fmt::Debug for Driver<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("running", &self.lock().running)
            .finish_non_exhaustive()
    }
}

//! The future on trial: here, or in a task of its own.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::watch::{Flag, within};
use crate::ext::Resilient as _;

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The future on trial.
pub(super) struct Subject {
    flag: Arc<Flag>,
    place: Place,
}

/// Where it lives, and so who drops it.
enum Place {
    Here(Boxed),
    Task(JoinHandle<()>, Arc<Desk>),
}

impl Subject {
    /// Polled where the laboratory is.
    pub(super) fn here(future: impl Future + Send + 'static, bell: &Arc<Notify>) -> Self {
        Self {
            flag: Flag::new(bell),
            place: Place::Here(boxed(future)),
        }
    }

    /// Polled by the scheduler, in a task.
    pub(super) fn in_task(future: impl Future + Send + 'static, bell: &Arc<Notify>) -> Self {
        let flag = Flag::new(bell);
        let desk = Arc::new(Desk::default());
        let in_task = desk_work(boxed(future), Arc::clone(&flag), Arc::clone(&desk));
        Self {
            flag,
            place: Place::Task(tokio::spawn(in_task), desk),
        }
    }

    /// What its wakers refer to.
    pub(super) fn flag(&self) -> Arc<Flag> {
        Arc::clone(&self.flag)
    }

    /// Whether it would be polled again by a scheduler.
    pub(super) fn is_woken(&self) -> bool {
        self.flag.is_up()
    }

    /// Polls it once; whether it has ended.
    pub(super) async fn poll(&mut self) -> bool {
        match &mut self.place {
            Place::Here(future) => self.flag.poll(|cx| future.as_mut().poll(cx)).is_ready(),
            Place::Task(task, desk) => {
                desk.ask();
                let answered = poll_fn(|cx| desk.poll_answer(cx.waker())).await;
                if answered == Answer::Gone {
                    // Only a panic ends the task without an answer; it goes on here.
                    if let Err(error) = task.await {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                answered != Answer::Pending
            }
        }
    }

    /// Puts a time limit around it, which counts from the next poll.
    pub(super) fn limit(&mut self, limit: Duration) {
        if let Place::Here(future) = &mut self.place {
            let inner = std::mem::replace(future, Box::pin(std::future::ready(())));
            *future = boxed(crate::infallible(inner).timeout(limit));
        }
    }

    /// Drops it; in a task, the scheduler does. `false` when that has not happened in time.
    pub(super) async fn cut(self, patience: Duration) -> bool {
        match self.place {
            Place::Here(future) => {
                drop(future);
                true
            }
            Place::Task(task, _) => {
                task.abort();
                match within(patience, task).await {
                    Some(Err(error)) if error.is_panic() => {
                        std::panic::resume_unwind(error.into_panic())
                    }
                    ended => ended.is_some(),
                }
            }
        }
    }
}

fn boxed(future: impl Future + Send + 'static) -> Boxed {
    Box::pin(async {
        future.await;
    })
}

/// What a task does: a poll of the future for each that was asked for.
fn desk_work(
    mut future: Boxed,
    flag: Arc<Flag>,
    desk: Arc<Desk>,
) -> impl Future<Output = ()> + Send {
    let leave = Leave(desk);
    poll_fn(move |cx| {
        let desk = &leave.0;
        if !desk.takes_order(cx.waker()) {
            return Poll::Pending;
        }
        let polled = flag.poll(|cx| future.as_mut().poll(cx));
        desk.answer(match polled {
            Poll::Ready(()) => Answer::Ended,
            Poll::Pending => Answer::Pending,
        });
        polled
    })
}

/// How the laboratory and the task speak: one asks for a poll, the other tells what it was.
#[derive(Default)]
struct Desk(Mutex<Slip>);

#[derive(Default)]
struct Slip {
    asked: bool,
    answer: Option<Answer>,
    task: Option<Waker>,
    laboratory: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Pending,
    Ended,
    /// The task is no more.
    Gone,
}

impl Desk {
    fn with<T>(&self, change: impl FnOnce(&mut Slip) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self) {
        let task = self.with(|slip| {
            slip.asked = true;
            slip.task.take()
        });
        if let Some(task) = task {
            task.wake();
        }
    }

    fn takes_order(&self, task: &Waker) -> bool {
        self.with(|slip| {
            slip.task = Some(task.clone());
            std::mem::take(&mut slip.asked)
        })
    }

    fn answer(&self, answer: Answer) {
        let laboratory = self.with(|slip| {
            slip.answer.get_or_insert(answer);
            slip.laboratory.take()
        });
        if let Some(laboratory) = laboratory {
            laboratory.wake();
        }
    }

    fn poll_answer(&self, laboratory: &Waker) -> Poll<Answer> {
        self.with(|slip| {
            if let Some(answer) = slip.answer.take() {
                return Poll::Ready(answer);
            }
            slip.laboratory = Some(laboratory.clone());
            Poll::Pending
        })
    }
}

/// Tells the laboratory that the task is no more.
struct Leave(Arc<Desk>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.answer(Answer::Gone);
    }
}

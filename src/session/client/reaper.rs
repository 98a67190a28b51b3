//! Ends what nobody holds any more: one task that is there as long as there is work.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinSet;

use super::super::error::{SessionError, SessionErrorKind};
use super::super::provider::SessionProvider;
use super::super::types::{Deleted, SessionId};
use super::book::{Course, End, Target};
use super::kind::OperationKind;
use super::look::look;
use super::pipes::Way;
use super::report::{Reaped, ReaperEvent};
use super::shared::{SessionResult, Shared};
use crate::Error;
use crate::time::{Instant, Timer};

/// What is to be started now, and when to look again.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) targets: Vec<Target>,
    pub(super) next: Instant,
}

/// The reaper's task. Dropped before its end, it was lost with its runtime.
pub(super) struct Driver<P: SessionProvider> {
    shared: Arc<Shared<P>>,
    over: bool,
}

impl<P: SessionProvider> Driver<P> {
    pub(super) const fn new(shared: Arc<Shared<P>>) -> Self {
        Self {
            shared,
            over: false,
        }
    }

    pub(super) async fn drive(mut self) {
        let mut jobs = JoinSet::new();
        while let Some(batch) = self.shared.batch(jobs.is_empty()) {
            for target in batch.targets {
                jobs.spawn(Job::new(&self.shared, target).run());
            }
            if !self.wait(&mut jobs, batch.next).await {
                return;
            }
        }
        self.over = true;
    }

    /// Until a job has ended, something is due, or the book has changed. False when a job was
    /// dropped: the runtime is ending, and would drop the next ones too, for as long as this
    /// one tried.
    async fn wait(&self, jobs: &mut JoinSet<()>, next: Instant) -> bool {
        let mut changed = pin!(self.shared.changed.notified());
        let mut timer = Timer::new();
        poll_fn(|cx| {
            let ended = match jobs.poll_join_next(cx) {
                Poll::Ready(Some(Err(error))) if error.is_cancelled() => return Poll::Ready(false),
                polled => matches!(polled, Poll::Ready(Some(_))),
            };
            let due = timer.poll_until(next, cx).is_ready();
            if ended || due || changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            Poll::Pending
        })
        .await
    }
}

impl<P: SessionProvider> Drop for Driver<P> {
    fn drop(&mut self) {
        if !self.over {
            self.shared.undriven();
        }
    }
}

/// One try. Dropped before its end, it was lost with its runtime, or it panicked.
struct Job<P: SessionProvider> {
    shared: Arc<Shared<P>>,
    target: Target,
    over: bool,
}

impl<P: SessionProvider> Job<P> {
    fn new(shared: &Arc<Shared<P>>, target: Target) -> Self {
        Self {
            shared: Arc::clone(shared),
            target,
            over: false,
        }
    }

    async fn run(mut self) {
        let result = self.try_once().await;
        self.over = true;
        settle(&self.shared, &self.target, result);
    }

    async fn try_once(&self) -> SessionResult<End> {
        match &self.target {
            Target::Session(id) => {
                let deleted = delete(&self.shared, Way::Plain, id).await?;
                Ok(End::Gone {
                    before: deleted.already_gone,
                })
            }
            Target::Creation(key) => look(&self.shared, key).await.map(End::Looked),
        }
    }
}

impl<P: SessionProvider> Drop for Job<P> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if std::thread::panicking() {
            let error = Error::panicked("the provider panicked");
            settle(&self.shared, &self.target, Err(error));
        } else {
            let interrupted = |book: &mut super::book::Book, now| {
                book.interrupted(&self.target, now);
            };
            self.shared.change(interrupted);
        }
    }
}

/// Writes down how a try has ended, and tells the listener.
pub(super) fn settle<P: SessionProvider>(
    shared: &Arc<Shared<P>>,
    target: &Target,
    result: SessionResult<End>,
) {
    let end = match &result {
        Ok(end) => end.clone(),
        Err(error) => End::Failed(error.last().and_then(SessionError::retry_after)),
    };
    let seed = fastrand::u64(..);
    let course = shared.change(|book, now| book.ended(target, end, now, seed));
    if let Some(event) = event(target, course, result) {
        shared.tell(&event);
    }
}

fn event(target: &Target, course: Course, result: SessionResult<End>) -> Option<ReaperEvent> {
    let what = match target {
        Target::Session(id) => Reaped::Session(id.clone()),
        Target::Creation(key) => Reaped::Creation(Arc::clone(key)),
    };
    match (course, result) {
        (Course::Done, Ok(End::Gone { before })) => match what {
            Reaped::Session(id) => Some(ReaperEvent::Deleted {
                id,
                already_gone: before,
            }),
            Reaped::Creation(_) => None,
        },
        (Course::Again(failures), Err(error)) => Some(ReaperEvent::Failed {
            what,
            failures,
            error,
        }),
        (Course::GivenUp(failures), result) => Some(ReaperEvent::GaveUp {
            what,
            failures,
            error: result.err(),
        }),
        (Course::Done | Course::Again(_), _) => None,
    }
}

/// Ends a session. "Not found" is what was wanted.
pub(super) async fn delete<P: SessionProvider>(
    shared: &Arc<Shared<P>>,
    way: Way,
    id: &SessionId,
) -> SessionResult<Deleted> {
    let limit = shared.limits.of(OperationKind::Delete);
    let delete = || async {
        match shared.provider.delete(id).await {
            Err(error) if error.kind() == SessionErrorKind::NotFound => {
                Ok(Deleted::before(error.request_id().unwrap_or_default()))
            }
            result => result,
        }
    };
    let deleted = shared.pipes.call(way, limit, || Box::pin(delete()));
    deleted.await
}

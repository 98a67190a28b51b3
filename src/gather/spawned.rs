//! Each item in a task of its own.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::{JoinError, JoinHandle};

use super::item::{End, Ended, Item, Launch, Limits};
use crate::error::{Error, Progress};
use crate::operation::Operation;
use crate::policy::{CallContext, Pipeline, Policy};
use crate::sync::Lock;
use crate::time::{Instant, now};

/// Each item runs in a task of its own.
#[derive(Clone, Copy, Debug)]
pub struct InTasks;

/// Each item runs in a task of its own, through a pipeline, of which this holds a handle.
pub struct InTasksThrough<P>(pub(super) Pipeline<P>);

/// What the end of a task leaves behind, when that was not its own.
type Report<E> = Arc<Lock<Option<Progress<E>>>>;

/// An item in its task. Dropping it aborts the task, whose end it cannot wait for.
pub struct Spawned<T, E> {
    task: JoinHandle<Result<T, Error<E>>>,
    report: Report<E>,
    ended: bool,
}

impl<R, T, E> Launch<R> for InTasks
where
    R: Operation<Output = T, Error = E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Item = Spawned<T, E>;

    fn launch(&self, operation: R, limits: Limits) -> Spawned<T, E> {
        let until = limits.deadline();
        Spawned::new(|report| tokio::spawn(run(operation, until, report)))
    }
}

impl<P, R, T, E> Launch<R> for InTasksThrough<P>
where
    R: Operation<Output = T, Error = E> + Send + 'static,
    P: for<'b> Policy<'b, R, Operation: Send> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Item = Spawned<T, E>;

    fn launch(&self, operation: R, limits: Limits) -> Spawned<T, E> {
        let until = limits.deadline();
        let pipeline = self.0.clone();
        Spawned::new(|report| {
            tokio::spawn(async move { run_through(&pipeline, operation, until, report).await })
        })
    }
}

impl Limits {
    /// The earlier of the two, for an item that starts now.
    fn deadline(self) -> Instant {
        if self.timeout == std::time::Duration::MAX {
            return self.until;
        }
        self.until.min(now().saturating_add(self.timeout))
    }
}

/// The task around one operation.
async fn run<O: Operation>(
    operation: O,
    until: Instant,
    report: Report<O::Error>,
) -> Result<O::Output, Error<O::Error>> {
    let mut running = Running {
        operation: pin!(operation),
        report,
    };
    let call = CallContext::root().until(until);
    poll_fn(|cx| running.operation.as_mut().poll(&call, cx)).await
}

/// With the lifetime spelled out, which `Send` of the task's future needs.
fn run_through<'b, P, R, T, E>(
    pipeline: &'b Pipeline<P>,
    operation: R,
    until: Instant,
    report: Report<E>,
) -> Pin<Box<dyn Future<Output = Result<T, Error<E>>> + Send + 'b>>
where
    R: Operation<Output = T, Error = E> + Send + 'b,
    P: Policy<'b, R, Operation: Send> + Send + Sync,
    T: Send + 'b,
    E: Send + 'b,
{
    Box::pin(run(pipeline.part(operation), until, report))
}

/// Says how far the operation came when its task is ended.
struct Running<'o, O: Operation> {
    operation: Pin<&'o mut O>,
    report: Report<O::Error>,
}

impl<O: Operation> Drop for Running<'_, O> {
    fn drop(&mut self) {
        let progress = self.operation.as_mut().cancel();
        let before = self.report.lock().replace(progress);
        drop(before);
    }
}

impl<T, E> Spawned<T, E> {
    fn new(spawn: impl FnOnce(Report<E>) -> JoinHandle<Result<T, Error<E>>>) -> Self {
        let report = Report::default();
        Self {
            task: spawn(Arc::clone(&report)),
            report,
            ended: false,
        }
    }

    fn progress(&self) -> Progress<E> {
        let report = self.report.lock().take();
        report.unwrap_or_else(Progress::none)
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<Result<T, Error<E>>, JoinError>> {
        let joined = ready!(Pin::new(&mut self.task).poll(cx));
        self.ended = true;
        Poll::Ready(joined)
    }
}

impl<T, E> Item for Spawned<T, E> {
    type Output = T;
    type Error = E;

    fn poll_item(
        self: Pin<&mut Self>,
        _: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, Error<E>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.poll_task(cx)) {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // Nobody but a runtime that shuts down.
                Err(_) => Err(Error::cancelled().after(this.progress())),
            },
        })
    }

    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<Self>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(End::Cut(this.progress()));
        }
        this.task.abort();
        Poll::Ready(match ready!(this.poll_task(cx)) {
            Ok(result) => End::Itself(result),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => End::Cut(this.progress()),
            },
        })
    }
}

impl<T, E> Drop for Spawned<T, E> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<P> fmt::Debug for InTasksThrough<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InTasksThrough").field(&self.0).finish()
    }
}

impl<T, E> fmt::Debug for Spawned<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

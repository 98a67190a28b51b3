//! Each item in a task of its own.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::{JoinError, JoinHandle};

use super::item::{End, Ended, Item, Launch, Limits};
use super::slot::keep_first;
use crate::error::{Error, Progress};
use crate::operation::Operation;
use crate::panics::{self, Payload};
use crate::policy::{CallContext, Pipeline, Policy};
use crate::sync::Lock;
use crate::time::Instant;

/// Each item runs in a task of its own.
#[derive(Clone, Copy, Debug)]
pub struct InTasks;

/// Each item runs in a task of its own, through a pipeline, of which this holds a handle.
pub struct InTasksThrough<P>(pub(super) Pipeline<P>);

/// What the end of a task leaves behind, when that was not its own.
type Report<E> = Arc<Lock<Option<Progress<E>>>>;

/// What a task yields: the operation's outcome, or the panic that it ended with. That one is
/// kept from unwinding through the task: with another, in a drop on its way, the process ends.
type Ran<T, E> = Result<Result<T, Error<E>>, Payload>;

/// An item in its task. Dropping it aborts the task, whose end it cannot wait for.
pub struct Spawned<T, E> {
    task: JoinHandle<Ran<T, E>>,
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
        let until = limits.until;
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
        let until = limits.until;
        let pipeline = self.0.clone();
        Spawned::new(|report| {
            tokio::spawn(async move { run_through(&pipeline, operation, until, report).await })
        })
    }
}

/// The task around one operation.
async fn run<O: Operation>(
    operation: O,
    until: Instant,
    report: Report<O::Error>,
) -> Ran<O::Output, O::Error> {
    let mut running = Running {
        operation: pin!(Some(operation)),
        report,
    };
    let call = CallContext::root().until(until);
    poll_fn(|cx| running.poll(&call, cx)).await
}

/// With the lifetime spelled out, which `Send` of the task's future needs.
fn run_through<'b, P, R, T, E>(
    pipeline: &'b Pipeline<P>,
    operation: R,
    until: Instant,
    report: Report<E>,
) -> Pin<Box<dyn Future<Output = Ran<T, E>> + Send + 'b>>
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
    operation: Pin<&'o mut Option<O>>,
    report: Report<O::Error>,
}

impl<O: Operation> Running<'_, O> {
    fn poll(
        &mut self,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Ran<O::Output, O::Error>> {
        let operation = self.operation.as_mut().as_pin_mut();
        let polled = match panics::caught(|| operation.map(|operation| operation.poll(call, cx))) {
            Ok(polled) => Ok(ready!(polled.unwrap_or(Poll::Pending))),
            Err(panic) => Err(panic),
        };
        let dropped = self.end();
        Poll::Ready(match (polled, dropped) {
            (polled, None) => polled,
            (Err(first), second) => Err(kept(first, second)),
            (Ok(result), Some(first)) => Err(kept(first, panics::caught(|| drop(result)).err())),
        })
    }

    /// Ends the operation and says how far it came; the panic if that panics.
    fn end(&mut self) -> Option<Payload> {
        let operation = self.operation.as_mut().as_pin_mut();
        let mut first = None;
        match panics::caught(|| operation.map(Operation::cancel)) {
            Ok(None) => {}
            Ok(Some(progress)) => {
                let before = self.report.lock().replace(progress);
                drop(before);
            }
            Err(panic) => first = Some(panic),
        }
        keep_first(
            &mut first,
            panics::caught(|| self.operation.set(None)).err(),
        );
        first
    }
}

fn kept(first: Payload, second: Option<Payload>) -> Payload {
    drop(second.map(panics::message));
    first
}

impl<O: Operation> Drop for Running<'_, O> {
    fn drop(&mut self) {
        match self.end() {
            Some(panic) if !std::thread::panicking() => resume_unwind(panic),
            panic => drop(panic.map(panics::message)),
        }
    }
}

impl<T, E> Spawned<T, E> {
    fn new(spawn: impl FnOnce(Report<E>) -> JoinHandle<Ran<T, E>>) -> Self {
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

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ran<T, E>, JoinError>> {
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
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
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
            Ok(Ok(result)) => End::Itself(result),
            Ok(Err(panic)) => resume_unwind(panic),
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

//! The structured form: a body and its tasks, which all have ended when it returns.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio_util::sync::CancellationToken;

use super::effects::Ending;
use super::shared::{Means, Shared};
use super::state::Key;
use super::{Scope, ScopeHandle, ScopeReport, task};
use crate::Progress;
use crate::error::Error;
use crate::panics::{self, Payload};
use crate::time;

/// How the body ended.
enum Body<T, E> {
    /// Cancelled, when it was dropped instead.
    Returned(Result<T, Error<E>>),
    Panicked(Payload),
}

impl Scope {
    /// Runs `body`, which may spawn tasks, and waits until all of them have ended as well.
    ///
    /// The body counts as one of the tasks, named `body`, beside the limit: when one of them
    /// fails and errors cancel the others, the body has the grace to end by itself and is
    /// dropped then; when the body fails, the tasks are cancelled; an abort aborts it too. So
    /// do not wait in it for the scope to be [drained](ScopeHandle::drained). The body's
    /// result comes back, and the report of all of them.
    ///
    /// # Errors
    ///
    /// The body's own error; [`Error::Cancelled`] when it was dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body and aborts the tasks.
    ///
    /// # Panics
    ///
    /// When the body does: after the tasks have been cancelled and have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::num::ParseIntError;
    /// use mainstay::scope::Scope;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let (sum, report) = Scope::new()
    ///     .run(|scope| async move {
    ///         let mut tasks = Vec::new();
    ///         for text in ["1", "2", "3"] {
    ///             tasks.extend(scope.spawn(text, async move { text.parse::<u32>() }));
    ///         }
    ///         let mut sum = 0;
    ///         for task in tasks {
    ///             sum += task.await.unwrap_or(0);
    ///         }
    ///         Ok::<_, ParseIntError>(sum)
    ///     })
    ///     .await;
    /// assert_eq!(sum, Ok(6));
    /// assert_eq!(report.counts.completed, 4); // with the body
    /// # }
    /// ```
    pub async fn run<T, E, F, B>(self, body: B) -> (Result<T, Error<E>>, ScopeReport)
    where
        B: FnOnce(ScopeHandle) -> F,
        F: Future<Output = Result<T, E>>,
        E: fmt::Display,
    {
        let running = Running::new(&self.shared);
        let handle = self.handle();
        let end = match panics::caught(move || body(handle)) {
            Ok(body) => running.drive(body).await,
            Err(panic) => Body::Panicked(panic),
        };
        running.end(end.how());
        let report = self.join().await;
        match end {
            Body::Returned(result) => (result, report),
            Body::Panicked(panic) => resume_unwind(panic),
        }
    }
}

impl<T, E: fmt::Display> Body<T, E> {
    fn how(&self) -> Ending {
        match self {
            Self::Returned(Err(error)) if error.is_cancelled() => Ending::Dropped { begun: true },
            Self::Returned(result) => task::ending(result),
            Self::Panicked(panic) => Ending::Panicked(text(panic)),
        }
    }
}

/// The text of a panic that goes on afterwards.
fn text(panic: &Payload) -> Box<str> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or_default()
        .into()
}

/// The body, as one of the scope's tasks until this is dropped.
struct Running<'a> {
    shared: &'a Shared,
    key: Key,
    aborted: CancellationToken,
}

impl<'a> Running<'a> {
    fn new(shared: &'a Arc<Shared>) -> Self {
        // Without one there are no tasks to be watched, and the body watches for itself.
        let _ = shared.runtime();
        let aborted = CancellationToken::new();
        let by = Means::Body(aborted.clone());
        let now = time::now();
        let mut registry = shared.registry.lock();
        let key = registry.enter_outside("body".into(), now, by);
        drop(registry);
        Self {
            shared,
            key,
            aborted,
        }
    }

    /// Polls the body until it ends, or is aborted.
    async fn drive<T, E>(&self, body: impl Future<Output = Result<T, E>>) -> Body<T, E> {
        let mut body = pin!(Some(body));
        let end = {
            let mut aborted = pin!(self.aborted.cancelled());
            let mut time_is_up = pin!(self.shared.time_is_up());
            let mut watches = true;
            poll_fn(|cx| {
                let given_up = Body::Returned(Err(Error::cancelled().after(Progress::started(1))));
                let Some(body) = body.as_mut().as_pin_mut() else {
                    return Poll::Ready(given_up);
                };
                match panics::poll_caught(body, cx) {
                    Poll::Ready(Ok(result)) => {
                        return Poll::Ready(Body::Returned(result.map_err(Error::operation)));
                    }
                    Poll::Ready(Err(panic)) => return Poll::Ready(Body::Panicked(panic)),
                    Poll::Pending => {}
                }
                // It aborts this too.
                watches = watches && time_is_up.as_mut().poll(cx).is_pending();
                aborted.as_mut().poll(cx).map(|()| given_up)
            })
            .await
        };
        match panics::caught(|| body.set(None)) {
            Ok(()) => end,
            Err(panic) => Body::Panicked(panic),
        }
    }

    fn end(self, how: Ending) {
        self.shared.end(self.key, how);
    }
}

impl Drop for Running<'_> {
    /// Once it has ended this changes nothing.
    fn drop(&mut self) {
        self.shared.end(self.key, Ending::Dropped { begun: true });
    }
}

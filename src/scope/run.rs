//! The structured form: a body and its tasks, which all have ended when it returns.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::pin;
use std::task::Poll;

use super::{Scope, ScopeHandle, ScopeReport};
use crate::error::Error;
use crate::panics::{self, Payload};
use crate::time::Timer;

/// How the body ended.
enum Body<R> {
    Returned(R),
    Panicked(Payload),
    /// It was cancelled with the scope, and its grace is over.
    GivenUp,
}

impl Scope {
    /// Runs `body`, which may spawn tasks, and waits until all of them have ended as well.
    ///
    /// The body counts as one of the tasks: when one of them fails and errors cancel the
    /// others, the body has the grace to end by itself and is dropped then; when the body
    /// fails, the tasks are cancelled. The body's result and the tasks' report come back.
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
    /// assert_eq!(report.counts.completed, 3);
    /// # }
    /// ```
    pub async fn run<T, E, F, B>(self, body: B) -> (Result<T, Error<E>>, ScopeReport)
    where
        B: FnOnce(ScopeHandle) -> F,
        F: Future<Output = Result<T, E>>,
    {
        let handle = self.handle();
        let end = match panics::caught(move || body(handle)) {
            Ok(body) => self.drive(body).await,
            Err(panic) => Body::Panicked(panic),
        };
        let failed = !matches!(end, Body::Returned(Ok(_)));
        if failed && self.shared.registry.lock().cancels_on_error() {
            self.cancel();
        }
        let report = self.join().await;
        match end {
            Body::Returned(result) => (result.map_err(Error::operation), report),
            Body::Panicked(panic) => resume_unwind(panic),
            Body::GivenUp => (
                Err(Error::cancelled().after(crate::Progress::started(1))),
                report,
            ),
        }
    }

    /// Polls the body until it ends, or until its time is up.
    async fn drive<F: Future>(&self, body: F) -> Body<F::Output> {
        let mut body = pin!(Some(body));
        let end = {
            let mut time_is_up = pin!(self.time_is_up());
            poll_fn(|cx| {
                let Some(body) = body.as_mut().as_pin_mut() else {
                    return Poll::Ready(Body::GivenUp);
                };
                match panics::poll_caught(body, cx) {
                    Poll::Ready(Ok(output)) => Poll::Ready(Body::Returned(output)),
                    Poll::Ready(Err(panic)) => Poll::Ready(Body::Panicked(panic)),
                    Poll::Pending => time_is_up.as_mut().poll(cx).map(|()| Body::GivenUp),
                }
            })
            .await
        };
        match panics::caught(|| body.set(None)) {
            Ok(()) => end,
            Err(panic) => Body::Panicked(panic),
        }
    }

    /// Ends when the scope was cancelled and the grace is over.
    async fn time_is_up(&self) {
        self.shared.token.cancelled().await;
        let abort_at = self.shared.cancelled();
        let mut timer = Timer::new();
        poll_fn(|cx| timer.poll_until(abort_at, cx)).await;
    }
}

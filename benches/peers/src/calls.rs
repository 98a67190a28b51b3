//! What every entrant calls: the same small operations, as futures and as tower services.

use std::fmt;
use std::future::{Future, Ready, poll_fn, ready};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tower::{Service, ServiceExt};

/// A limit that never passes.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// Longer than any run.
pub(crate) const HOUR: Duration = Duration::from_hours(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

pub(crate) type Answer = Result<u64, Failed>;

/// What a caller does with an outcome: looks which one it is, and takes what is in it.
///
/// Stored away whole, an outcome of four words costs some nanoseconds more than one of two,
/// whoever made it: a processor waits when it reads in one piece what was written in several.
pub(crate) trait Used {
    fn used(self);
}

impl<T, E> Used for Result<T, E> {
    #[inline(always)]
    fn used(self) {
        match self {
            Ok(value) => drop(black_box(value)),
            Err(error) => drop(black_box(error)),
        }
    }
}

impl Used for u64 {
    #[inline(always)]
    fn used(self) {
        black_box(self);
    }
}

impl Used for bool {
    #[inline(always)]
    fn used(self) {
        black_box(self);
    }
}

/// The call that succeeds at once.
#[inline(always)]
pub(crate) async fn ok() -> Answer {
    Ok(black_box(1))
}

/// Pending once, without a wake-up, then ready.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PendingOnce(bool);

impl Future for PendingOnce {
    type Output = Answer;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(Ok(black_box(1)))
        } else {
            Poll::Pending
        }
    }
}

/// Polls again at once what was pending: both polls without a scheduler.
#[inline(always)]
pub(crate) async fn twice<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending => future.as_mut().poll(cx),
        done @ Poll::Ready(_) => done,
    })
    .await
}

/// Fails three times, then succeeds, and so on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaky(u32);

impl Flaky {
    #[inline]
    pub(crate) fn answer(&mut self) -> Answer {
        self.0 += 1;
        if black_box(self.0).is_multiple_of(4) {
            Ok(black_box(1))
        } else {
            Err(Failed)
        }
    }
}

/// The same for services, whose retries clone them: clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedFlaky(Arc<AtomicU32>);

impl Service<u64> for SharedFlaky {
    type Response = u64;
    type Error = Failed;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> Ready<Answer> {
        // No read-modify-write: nobody else counts at the same time.
        let mut flaky = Flaky(self.0.load(Relaxed));
        let answer = flaky.answer();
        self.0.store(flaky.0, Relaxed);
        ready(answer)
    }
}

/// A service that is ready and answers at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prompt;

impl Service<u64> for Prompt {
    type Response = u64;
    type Error = Failed;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Ready<Answer> {
        ready(Ok(black_box(request)))
    }
}

/// A service whose answer is [`PendingOnce`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slower;

impl Service<u64> for Slower {
    type Response = u64;
    type Error = Failed;
    type Future = PendingOnce;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> PendingOnce {
        PendingOnce::default()
    }
}

/// One request to a service, from its readiness to its answer.
#[inline(always)]
pub(crate) async fn ask<S: Service<u64>>(service: &mut S) -> Result<S::Response, S::Error> {
    service.ready().await?.call(black_box(7)).await
}

/// tower's retry needs a policy of the user's: three times more, at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreeMore(pub(crate) u32);

impl<E> tower::retry::Policy<u64, u64, E> for ThreeMore {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Ready<()>> {
        if result.is_ok() || self.0 == 0 {
            return None;
        }
        self.0 -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

/// An item of a gather that is ready at once.
#[inline(always)]
pub(crate) async fn item(n: u64) -> u64 {
    black_box(n)
}

/// An item that lets the others go first, once.
pub(crate) async fn yielding(n: u64) -> u64 {
    tokio::task::yield_now().await;
    black_box(n)
}

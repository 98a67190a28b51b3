//! What becomes of a future: driven to its end, or given up at some poll or time.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::world::{Phase, World};

/// How a future is driven.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Finish,
    /// Dropped after so many polls; 0 is unpolled.
    DropAt(u64),
    /// Dropped after so long, as by a time limit of the caller's own.
    DropAfter(Duration),
}

impl Fate {
    pub(crate) fn draw(world: &World) -> Self {
        let phase = world.phase();
        let odds = match phase {
            Phase::Calm => 0,
            Phase::CancelStorm => 80,
            Phase::Panics | Phase::Overload => 20,
            _ => 8,
        };
        if world.below(100) >= odds {
            return Self::Finish;
        }
        if world.one_in(2) {
            Self::DropAt(world.below(6))
        } else {
            Self::DropAfter(world.span(0, 400))
        }
    }
}

pub(crate) enum Ended<T> {
    With(T),
    Cut,
    Panicked,
}

impl<T> Ended<T> {
    pub(crate) fn code(&self) -> u64 {
        match self {
            Self::With(_) => 0,
            Self::Cut => 1,
            Self::Panicked => 2,
        }
    }
}

/// Drives a future as its fate says; panics of it and of its drop end here.
pub(crate) async fn fated<'a, T>(
    world: &World,
    fate: Fate,
    future: impl Future<Output = T> + Send + 'a,
) -> Ended<T> {
    let (polls, limit) = match fate {
        Fate::Finish => (u64::MAX, None),
        Fate::DropAt(polls) => (polls, None),
        Fate::DropAfter(span) => (u64::MAX, Some(Box::pin(sleep(span)))),
    };
    let fated = Fated {
        future: Some(Box::pin(future)),
        polls,
        limit,
    };
    let ended = fated.await;
    if matches!(ended, Ended::Cut) {
        world.fault(match fate {
            Fate::DropAfter(_) => "caller gave up",
            _ => "caller dropped",
        });
    }
    ended
}

struct Fated<'a, T> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
    polls: u64,
    limit: Option<Pin<Box<Sleep>>>,
}

impl<T> Fated<'_, T> {
    fn end(&mut self, ended: Ended<T>) -> Ended<T> {
        let future = self.future.take();
        match catch_unwind(AssertUnwindSafe(|| drop(future))) {
            Ok(()) => ended,
            Err(_) => Ended::Panicked,
        }
    }
}

impl<T> Future for Fated<'_, T> {
    type Output = Ended<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<T>> {
        let this = &mut *self;
        let time_is_up = this
            .limit
            .as_mut()
            .is_some_and(|l| l.as_mut().poll(cx).is_ready());
        if this.polls == 0 || time_is_up {
            return Poll::Ready(this.end(Ended::Cut));
        }
        this.polls -= 1;
        let future = this.future.as_mut().expect("polled after its end");
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(value)) => Poll::Ready(this.end(Ended::With(value))),
            Ok(Poll::Pending) if this.polls == 0 => Poll::Ready(this.end(Ended::Cut)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(this.end(Ended::Panicked)),
        }
    }
}

impl<T> Drop for Fated<'_, T> {
    /// An abort of the caller's task comes here: a panic then is that task's.
    fn drop(&mut self) {
        let future = self.future.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
    }
}

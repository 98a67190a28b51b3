//! The wait for permits, without a call behind it.

use std::borrow::Borrow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{RateLimiter, RateLimiterWait, Terms};
use crate::error::Refusal;
use crate::policy::{CallContext, Gate};

/// A place in the queue of a limiter, borrowed or owned; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<L: Borrow<RateLimiter>> {
    limiter: L,
    wait: RateLimiterWait,
}

impl<L: Borrow<RateLimiter>> Turn<L> {
    pub(super) fn new(limiter: L, permits: u32, max_wait: Duration) -> Self {
        let terms = Some(Terms { permits, max_wait });
        Self {
            limiter,
            wait: RateLimiterWait {
                terms,
                ..RateLimiterWait::default()
            },
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let limiter = self.limiter.borrow();
        limiter.poll_admit(&mut self.wait, &CallContext::root(), cx)
    }
}

impl<L: Borrow<RateLimiter>> Drop for Turn<L> {
    fn drop(&mut self) {
        self.limiter.borrow().leave(&mut self.wait);
    }
}

/// A wait for permits; see [`RateLimiter::acquire`].
#[must_use = "a wait does nothing unless awaited"]
#[derive(Debug)]
pub struct Acquire<'a>(Turn<&'a RateLimiter>);

impl<'a> Acquire<'a> {
    pub(super) fn new(turn: Turn<&'a RateLimiter>) -> Self {
        Self(turn)
    }
}

impl Future for Acquire<'_> {
    type Output = Result<(), Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

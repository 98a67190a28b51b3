//! The wait for permits, without a call behind it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::RateLimiter;
use crate::error::Refusal;
use crate::policy;

/// A wait for permits; see [`RateLimiter::acquire`].
#[must_use = "a wait does nothing unless awaited"]
#[derive(Debug)]
pub struct Acquire(policy::Acquire<RateLimiter>);

impl Acquire {
    pub(super) fn new(limiter: RateLimiter) -> Self {
        Self(policy::Acquire::new(limiter))
    }
}

impl Future for Acquire {
    type Output = Result<(), Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let acquired = ready!(Pin::new(&mut self.0).poll(cx));
        // What was taken is spent: there is nothing to hold on to.
        Poll::Ready(acquired.map(drop))
    }
}

//! A time limit that touches no timer before it is known to be needed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Armed when the future was pending; the timer is lent, and set anew.
pub(crate) struct Limited<'a, F> {
    future: F,
    limit: Duration,
    timer: &'a mut Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl<'a, F> Limited<'a, F> {
    #[inline]
    pub(crate) fn new(limit: Duration, future: F, timer: &'a mut Option<Pin<Box<Sleep>>>) -> Self {
        Self {
            future,
            limit,
            timer,
            armed: false,
        }
    }
}

impl<F: Future> Future for Limited<'_, F> {
    type Output = Option<F::Output>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the future is the only pinned field, and is not moved.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        if let Poll::Ready(value) = future.poll(cx) {
            return Poll::Ready(Some(value));
        }
        let limit = this.limit;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !std::mem::replace(&mut this.armed, true) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx).map(|()| None)
    }
}

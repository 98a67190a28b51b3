//! What several test binaries need: an error, a future that is stepped by hand.

#![allow(dead_code, reason = "each binary uses a part of it")]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// The error of the test's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oops(pub(crate) u32);

impl fmt::Display for Oops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oops {}", self.0)
    }
}

impl std::error::Error for Oops {}

/// Counts how often it was woken.
#[derive(Debug, Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A task that is polled only when the test says so.
pub(crate) struct Stepped<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    wakes: Arc<Wakes>,
}

impl<'a, T> Stepped<'a, T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'a) -> Self {
        Self {
            future: Box::pin(future),
            wakes: Arc::default(),
        }
    }

    pub(crate) fn poll(&mut self) -> Poll<T> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.count()
    }
}

/// The result of a future that has to be ready at once.
#[track_caller]
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match Stepped::new(future).poll() {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it should have been ready at once"),
    }
}

/// A rate limiter that never lets wait.
pub(crate) fn limiter() -> mainstay::RateLimiter {
    mainstay::RateLimiter::per_second(1_000_000)
        .build()
        .unwrap()
}

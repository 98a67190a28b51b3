//! Where tasks run: the runtime that was chosen, or this one, or the last one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::time::{Instant, Timer};

/// A guard is dropped on plain threads too: the runtime of the last call is remembered.
#[derive(Debug)]
pub(super) struct Home {
    chosen: Option<Handle>,
    last: Mutex<Option<Handle>>,
}

impl Home {
    pub(super) fn new(chosen: Option<Handle>) -> Self {
        let home = Self {
            chosen,
            last: Mutex::default(),
        };
        home.remember();
        home
    }

    pub(super) fn remember(&self) {
        if self.chosen.is_some() {
            return;
        }
        if let Ok(here) = Handle::try_current() {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let before = last.replace(here);
            drop(last);
            drop(before);
        }
    }

    /// Spawns it. `None` when there is no runtime; one that has shut down drops the future.
    pub(super) fn spawn<F>(&self, future: F) -> Option<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let here = || Handle::try_current().ok();
        let last = || {
            let last = self.last.lock();
            last.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let handle = self.chosen.clone().or_else(here).or_else(last);
        handle.map(|handle| handle.spawn(future))
    }
}

/// Sleeps until then.
pub(super) async fn sleep_until(until: Instant) {
    let mut timer = Timer::new();
    poll_fn(|cx| timer.poll_until(until, cx)).await;
}

/// Whichever ends first; the first wins when both do. `None` is the second.
pub(super) async fn unless<A: Future, B: Future>(first: A, second: B) -> Option<A::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => second.as_mut().poll(cx).map(|_| None),
    })
    .await
}

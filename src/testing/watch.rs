//! Who has been woken.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::time::{Timer, now};

/// A waker that notes that it was woken, and rings for the laboratory.
pub(super) struct Flag {
    woken: AtomicBool,
    bell: Arc<Notify>,
}

impl Flag {
    /// Not woken yet.
    pub(super) fn new(bell: &Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicBool::new(false),
            bell: Arc::clone(bell),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Takes the flag down, polls, and so sees whatever wakes from then on.
    pub(super) fn poll<T>(self: &Arc<Self>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.woken.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(self));
        poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.bell.notify_one();
    }
}

/// What the future yields, unless that takes longer.
pub(super) async fn within<Fut: Future>(limit: Duration, future: Fut) -> Option<Fut::Output> {
    let mut future = pin!(future);
    let until = now().saturating_add(limit);
    let mut timer = Timer::new();
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.poll_until(until, cx).map(|()| None),
    })
    .await
}

/// Waits until there are news, which the bell tells; `false` when none come in time.
pub(super) async fn rung(bell: &Notify, patience: Duration, news: impl Fn() -> bool) -> bool {
    let heard = async {
        while !news() {
            bell.notified().await;
        }
    };
    within(patience, heard).await.is_some()
}

/// Sleeps on the crate's own timer.
pub(crate) async fn sleep(span: Duration) {
    let until = now().saturating_add(span);
    let mut timer = Timer::new();
    poll_fn(|cx| timer.poll_until(until, cx)).await;
}

/// Waits until something is true, but so long at most: tasks run and time goes on meanwhile.
///
/// A paused clock jumps over all of that at once. What other threads do takes real time, so at
/// last they are given some.
pub(super) async fn comes_true(limit: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let until = now().saturating_add(limit);
    let mut pause = Duration::from_millis(1);
    for _ in 0..16 {
        if is_true() {
            return true;
        }
        yield_now().await;
    }
    while now() < until {
        sleep(pause).await;
        if is_true() {
            return true;
        }
        pause *= 2;
    }
    for _ in 0..200 {
        let_others_run();
        yield_now().await;
        if is_true() {
            return true;
        }
    }
    false
}

#[expect(
    clippy::disallowed_methods,
    reason = "this thread has nothing else to do, and no clock of tokio's shows what others do"
)]
fn let_others_run() {
    std::thread::sleep(Duration::from_millis(5));
}

//! Tools of the unit tests.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::time::{Timer, now};

/// How many cases a model test runs: the environment may ask for more.
pub(crate) fn cases() -> u32 {
    std::env::var("MAINSTAY_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000)
}

/// How often a test of threads goes round: under Miri, which takes ten thousand times as long but
/// looks at every step, and comes with many seeds, the cube root of it.
pub(crate) const fn rounds(usual: u32) -> u32 {
    if !cfg!(miri) {
        return usual;
    }
    let mut root = 1_u32;
    while (root + 1).pow(3) <= usual {
        root += 1;
    }
    root
}

/// When a future that is pending is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// In the very poll that left it pending.
    Pending,
    /// When it has been woken, instead of being polled again: it may have been handed
    /// something that it has not seen yet.
    Woken,
}

/// Drops a future at every point at which it can be dropped: unpolled, then after one poll,
/// after two, and so on until it ends by itself; each time in both ways of [`Cut`].
///
/// After each drop `check` is told how many polls there were: it should find everything
/// given back, and the next call working. Returns how many drops there were.
pub(crate) async fn drop_at_every_poll<Fut: Future>(
    mut start: impl FnMut() -> Fut,
    mut check: impl AsyncFnMut(usize),
) -> usize {
    const MOST: usize = 10_000;
    let mut drops = 0;
    for cut in [Cut::Pending, Cut::Woken] {
        let mut polls = 0;
        while run_for(polls, cut, start()).await.is_none() {
            assert!(polls < MOST, "still pending after {MOST} polls");
            check(polls).await;
            drops += 1;
            polls += 1;
        }
        check(polls).await;
    }
    drops
}

/// As [`drop_at_every_poll`], with a second actor that is stepped after each poll of the
/// future: what it frees or takes comes between any two polls. When the future has been
/// dropped, the actor runs to its end, and then `check` is told how many polls there were.
///
/// The future is polled whether it was woken or not. It is cut in three ways: right after its
/// poll, after the actor's step that follows it, and with the actor stepped first of all.
pub(crate) async fn drop_beside<Fut: Future, Actor: Future<Output = ()>>(
    mut start: impl FnMut() -> (Fut, Actor),
    mut check: impl AsyncFnMut(usize),
) -> usize {
    const MOST: usize = 1_000;
    let mut drops = 0;
    for order in [Order::Cut, Order::StepThenCut, Order::StepFirst] {
        let mut polls = 0;
        loop {
            assert!(polls < MOST, "still pending after {MOST} polls");
            let (future, actor) = start();
            let ended = step_together(polls, order, future, actor).await;
            check(polls).await;
            if ended {
                break;
            }
            drops += 1;
            polls += 1;
        }
    }
    drops
}

/// When the second actor of [`drop_beside`] takes its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Cut,
    StepThenCut,
    StepFirst,
}

/// Whether the future ended before it was dropped.
async fn step_together<Fut: Future, Actor: Future<Output = ()>>(
    polls: usize,
    order: Order,
    future: Fut,
    actor: Actor,
) -> bool {
    let mut future = Box::pin(future);
    let mut actor = Box::pin(actor);
    let mut acted = false;
    let mut step = async |acted: &mut bool| {
        poll_fn(|cx| {
            *acted = *acted || actor.as_mut().poll(cx).is_ready();
            Poll::Ready(())
        })
        .await;
    };
    if order == Order::StepFirst {
        step(&mut acted).await;
    }
    let mut ended = false;
    for poll in 1..=polls {
        ended = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if ended {
            break;
        }
        if poll < polls || order != Order::Cut {
            step(&mut acted).await;
        }
        // Timers and tasks move on between two steps.
        if poll < polls {
            tokio::task::yield_now().await;
            sleep(Duration::from_millis(1)).await;
        }
    }
    drop(future);
    if !acted {
        actor.await;
    }
    ended
}

/// Polls `future` so often at most, then drops it; what it yielded, if it came to that.
pub(crate) async fn run_for<Fut: Future>(
    polls: usize,
    cut: Cut,
    future: Fut,
) -> Option<Fut::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 && cut == Cut::Pending => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Awaits a future that may panic; the panic's payload, if it did. The future is dropped.
pub(crate) async fn catch_panic<Fut: Future>(
    future: Fut,
) -> Result<Fut::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

/// Polls a future outside of every runtime until it ends: whatever touches tokio's timer
/// panics.
pub(crate) fn spin<Fut: Future>(future: Fut) -> Fut::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("still pending after a million polls");
}

/// Sleeps on the crate's own timer.
pub(crate) async fn sleep(span: Duration) {
    let until = now().saturating_add(span);
    let mut timer = Timer::new();
    poll_fn(|cx| timer.poll_until(until, cx)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_future_of_three_polls_is_dropped_three_times_in_each_way() {
        let mut seen = Vec::new();
        let two_yields = || async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        };
        let drops = drop_at_every_poll(two_yields, async |polls| seen.push(polls)).await;
        assert_eq!(drops, 6);
        assert_eq!(seen, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    /// Notes its drop.
    struct Dropped<'a>(&'a std::cell::RefCell<String>);

    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push('x');
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_takes_its_steps_between_the_polls_and_ends() {
        let log = std::cell::RefCell::new(String::new());
        let note = async |of: char, dropped: Option<Dropped<'_>>| {
            for _ in 0..2 {
                log.borrow_mut().push(of);
                tokio::task::yield_now().await;
            }
            log.borrow_mut().push(of);
            drop(dropped);
        };
        let mut seen = Vec::new();
        let start = || (note('f', Some(Dropped(&log))), note('a', None));
        let drops = drop_beside(start, async |_| seen.push(log.take())).await;
        assert_eq!(drops, 9);
        let cut = ["xaaa", "fxaaa", "fafxaa", "fafafxa"];
        let step_then_cut = ["xaaa", "faxaa", "fafaxa", "fafafxa"];
        let step_first = ["axaa", "afaxa", "afafax", "afafafx"];
        assert_eq!(seen, [cut, step_then_cut, step_first].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_caught() {
        let caught = catch_panic(async { panic!("told") }).await.map(|(): ()| ());
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"told"));
    }
}

//! Does what the plan says: one task that watches, and one for each component.
//!
//! Foreign code runs in the component's own task only, so that one that blocks its thread
//! holds up itself and, on a runtime with several threads, nobody else; what does not answer
//! at the end is counted on a thread of its own. `pace` keeps the deadline where none of the
//! tasks can.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shared;
use super::component::Component;
use super::counts::Counts;
use super::plan::{Order, Plan};
use crate::panics::{self, Payload};
use crate::time::{self, Instant, Timer};

/// How much longer than the deadline the last words of the components are waited for: a tick
/// of the timer, and one to be scheduled.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(2);

/// How long it may take to count what is left, where that has to be done from outside.
const COUNTING: Duration = Duration::from_millis(10);

/// Sees to it that a shutdown ends, even if its runtime goes away in the middle.
#[derive(Debug)]
pub(super) struct Conductor {
    shared: Arc<Shared>,
}

impl Conductor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Goes through the phases.
    pub(super) async fn conduct(self) {
        let shared = &self.shared;
        let drivers: Vec<_> = (0..shared.components.len())
            .map(|at| tokio::spawn(drive_caught(Arc::clone(shared), at)))
            .collect();
        let (drain_until, over_at) = shared.with_plan(|plan| (plan.drain_until(), plan.over_at()));
        until(drain_until, shared.sections.drained()).await;
        shared.with_plan(Plan::release);
        shared.changed.send_replace(());
        until(over_at, all_ended(shared)).await;
        // From when this is noticed on, which on a busy machine is later: everyone is told
        // once, and has its say.
        let last = time::now().saturating_add(LAST_WORDS);
        until(last, all_ended(shared)).await;
        if !shared.with_plan(|plan| plan.all_ended()) {
            // Someone is stuck: what is left of it is counted from outside.
            let (counted, mut all) = mpsc::channel::<Infallible>(1);
            shared.count_what_is_left(&counted);
            drop(counted);
            until(time::now().saturating_add(COUNTING), all.recv()).await;
        }
        for driver in drivers {
            driver.abort();
        }
        shared.finish();
    }
}

impl Drop for Conductor {
    /// Nothing to do after an orderly end.
    fn drop(&mut self) {
        if self.shared.done.is_cancelled() {
            return;
        }
        for at in 0..self.shared.components.len() {
            self.shared.give_up(at);
        }
        self.shared.finish();
    }
}

impl Shared {
    /// Ends the shutdown where its tasks cannot.
    pub(super) fn give_up_from_outside(self: &Arc<Self>) {
        let (counted, all) = std::sync::mpsc::channel::<Infallible>();
        self.count_what_is_left(&counted);
        drop(counted);
        let _ = all.recv_timeout(COUNTING);
        self.finish();
    }

    /// Counts each component that has not ended, on a thread of its own: it may block. What is
    /// counted afterwards is not told any more. `done` is kept as long as it counts.
    fn count_what_is_left<D: Clone + Send + 'static>(self: &Arc<Self>, done: &D) {
        let left = |at: &usize| !self.with_plan(|plan| plan.has_ended(*at));
        for at in (0..self.components.len()).filter(left) {
            let (shared, done) = (Arc::clone(self), done.clone());
            let name = std::thread::Builder::new().name("mainstay-counts".into());
            let _ = name.spawn(move || {
                let _in = shared.runtime.get().map(tokio::runtime::Handle::enter);
                shared.sample(at);
                drop(done);
            });
        }
    }

    /// Ends what is left of a component, from outside of a runtime.
    fn give_up(&self, at: usize) {
        if self.with_plan(|plan| plan.has_ended(at)) {
            return;
        }
        self.call(at, "abort", <dyn Component>::abort);
        let left = self.sample(at);
        let under = if left.in_flight == 0 {
            Order::Abort
        } else {
            Order::Over
        };
        self.ended(at, under);
    }

    /// Calls a function of a component; a panic is reported.
    fn call<T>(
        &self,
        at: usize,
        what: &str,
        function: impl FnOnce(&dyn Component) -> T,
    ) -> Option<T> {
        let component = &*self.components[at].component;
        match panics::caught(|| function(component)) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.panicked(at, what, panic);
                None
            }
        }
    }

    fn panicked(&self, at: usize, what: &str, panic: Payload) {
        let message = format!("{what} panicked: {}", panics::message(panic));
        self.with_plan(|plan| plan.fail(at, message.into()));
    }

    fn sample(&self, at: usize) -> Counts {
        let counts = self.call(at, "counts", <dyn Component>::counts);
        if let Some(counts) = counts {
            self.with_plan(|plan| plan.sample(at, counts));
        }
        counts.unwrap_or_default()
    }

    fn ended(&self, at: usize, under: Order) {
        if let Some(message) = self.call(at, "failure", <dyn Component>::failure).flatten() {
            self.with_plan(|plan| plan.fail(at, message));
        }
        let now = time::now();
        self.with_plan(|plan| plan.end(at, under, now));
        self.changed.send_replace(());
    }

    fn order(&self, at: usize) -> (Order, Instant) {
        let now = time::now();
        self.with_plan(|plan| plan.order(at, now))
    }
}

/// Closes one component. Whatever may panic in there is caught where it is called; what is not
/// is a fault of our own, and still nobody waits for it.
async fn drive_caught(shared: Arc<Shared>, at: usize) {
    let mut drive = pin!(drive(Arc::clone(&shared), at));
    if let Err(panic) = poll_fn(|cx| panics::poll_caught(drive.as_mut(), cx)).await {
        shared.panicked(at, "closing it", panic);
        shared.ended(at, Order::Over);
    }
}

/// Closes one component.
async fn drive(shared: Arc<Shared>, at: usize) {
    shared.sample(at);
    its_turn(&shared, at).await;
    let now = time::now();
    shared.with_plan(|plan| plan.turn(at, now));
    let under = close(&shared, at).await;
    shared.sample(at);
    shared.ended(at, under);
    // The conductor may be stuck, on a thread that is blocked.
    if shared.with_plan(|plan| plan.all_ended()) {
        shared.finish();
    }
}

/// Under which order it has ended.
async fn close(shared: &Shared, at: usize) -> Order {
    shared.call(at, "stop", <dyn Component>::stop);
    let mut wait = Wait::new(shared, at);
    let mut under = Order::Drain;
    loop {
        // What cannot tell when it has ended is told to end, and not waited for.
        if wait.sterner_than(under).await == End::Drained {
            return under;
        }
        under = match under {
            Order::Wait | Order::Drain => {
                shared.call(at, "cancel", <dyn Component>::cancel);
                Order::Cancel
            }
            Order::Cancel => {
                shared.call(at, "abort", <dyn Component>::abort);
                wait.once_more().await;
                Order::Abort
            }
            Order::Abort if wait.future.is_none() => return Order::Abort,
            Order::Abort | Order::Over => return Order::Over,
        };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Drained,
    /// A sterner order has come.
    Order,
}

/// A component's own future, which says when it has drained. None when it has panicked.
struct Wait<'a> {
    shared: &'a Shared,
    at: usize,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    has_drained: bool,
}

impl<'a> Wait<'a> {
    fn new(shared: &'a Shared, at: usize) -> Self {
        let component = &*shared.components[at].component;
        let future = panics::caught(|| component.drained());
        let future = future.map_err(|panic| shared.panicked(at, "drained", panic));
        Self {
            shared,
            at,
            future: future.ok(),
            has_drained: false,
        }
    }

    /// Waits until the component has drained, or is to be told something sterner than `under`.
    /// It is looked at in any case: what has nothing under way is not cancelled.
    async fn sterner_than(&mut self, under: Order) -> End {
        let mut timer = Timer::new();
        poll_fn(|cx| {
            match self.poll(cx) {
                Poll::Ready(true) => return Poll::Ready(End::Drained),
                Poll::Ready(false) => return Poll::Ready(End::Order),
                Poll::Pending => {}
            }
            loop {
                let (order, until) = self.shared.order(self.at);
                if order > under {
                    return Poll::Ready(End::Order);
                }
                if timer.poll_until(until, cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// What was aborted at the deadline itself has as long to end as last words take.
    async fn once_more(&mut self) {
        if self.shared.order(self.at).0 < Order::Over {
            return;
        }
        let last = time::now().saturating_add(LAST_WORDS / 2);
        until(last, poll_fn(|cx| self.poll(cx))).await;
    }

    /// Whether it has drained, or cannot tell.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.has_drained {
            return Poll::Ready(true);
        }
        let Some(future) = &mut self.future else {
            return Poll::Ready(false);
        };
        match std::task::ready!(panics::poll_caught(Pin::new(future), cx)) {
            Ok(()) => self.has_drained = true,
            Err(panic) => {
                self.shared.panicked(self.at, "drained", panic);
                self.leave();
            }
        }
        Poll::Ready(self.has_drained)
    }

    /// Drops it, which is foreign code: a panic of it is one of the component.
    fn leave(&mut self) {
        let future = self.future.take();
        if let Err(panic) = panics::caught(move || drop(future)) {
            self.shared.panicked(self.at, "drained", panic);
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

async fn its_turn(shared: &Shared, at: usize) {
    let mut changed = shared.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let (order, holds_until) = shared.order(at);
        if order > Order::Wait {
            return;
        }
        until(holds_until, changed.changed()).await;
    }
}

async fn all_ended(shared: &Shared) {
    let mut changed = shared.changed.subscribe();
    loop {
        changed.mark_unchanged();
        if shared.with_plan(|plan| plan.all_ended()) {
            return;
        }
        // It cannot fail: the sender is in `shared`.
        let _ = changed.changed().await;
    }
}

/// Waits for something, until some time at most.
async fn until<F: Future>(at: Instant, future: F) {
    let mut future = pin!(future);
    let mut timer = Timer::new();
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => timer.poll_until(at, cx),
    })
    .await;
}

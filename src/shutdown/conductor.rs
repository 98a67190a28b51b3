//! Does what the plan says: one task that watches, and one for each component.
//!
//! Foreign code runs in the component's own task only, so that one that blocks its thread
//! holds up itself and, on a runtime with several threads, nobody else.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::Shared;
use super::component::{Component, Counts};
use super::plan::{Order, Plan};
use crate::panics::{self, Payload};
use crate::time::{self, Instant, Timer};

/// How much longer than the deadline the last words of the components are waited for: a tick
/// of the timer, and one to be scheduled.
const LAST_WORDS: Duration = Duration::from_millis(2);

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
            .map(|at| tokio::spawn(drive(Arc::clone(shared), at)))
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

/// Closes one component.
async fn drive(shared: Arc<Shared>, at: usize) {
    shared.sample(at);
    its_turn(&shared, at).await;
    let now = time::now();
    shared.with_plan(|plan| plan.turn(at, now));
    let under = close(&shared, at).await;
    shared.sample(at);
    shared.ended(at, under);
}

/// Under which order it has ended.
async fn close(shared: &Shared, at: usize) -> Order {
    let component = &*shared.components[at].component;
    shared.call(at, "stop", <dyn Component>::stop);
    let mut drained = match panics::caught(|| component.drained()) {
        Ok(drained) => Some(drained),
        Err(panic) => {
            shared.panicked(at, "drained", panic);
            None
        }
    };
    let mut under = Order::Drain;
    loop {
        // What cannot tell when it has ended is told to end, and not waited for.
        let end = match &mut drained {
            Some(drained) => sterner_or(shared, at, under, drained).await,
            None => End::Order,
        };
        match end {
            End::Drained => return under,
            End::Panicked => drained = None,
            End::Order => {}
        }
        under = match under {
            Order::Wait | Order::Drain => {
                shared.call(at, "cancel", <dyn Component>::cancel);
                Order::Cancel
            }
            Order::Cancel => {
                shared.call(at, "abort", <dyn Component>::abort);
                Order::Abort
            }
            Order::Abort if drained.is_none() => return Order::Abort,
            Order::Abort | Order::Over => return Order::Over,
        };
    }
}

enum End {
    Drained,
    Panicked,
    /// A sterner order has come.
    Order,
}

type Drained<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Waits until the component has drained, or is to be told something sterner than `under`.
/// It is looked at in any case: what has nothing under way is not cancelled.
async fn sterner_or(shared: &Shared, at: usize, under: Order, drained: &mut Drained<'_>) -> End {
    let mut timer = Timer::new();
    poll_fn(|cx| {
        match panics::poll_caught(Pin::new(&mut *drained), cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(End::Drained),
            Poll::Ready(Err(panic)) => {
                shared.panicked(at, "drained", panic);
                return Poll::Ready(End::Panicked);
            }
            Poll::Pending => {}
        }
        loop {
            let (order, until) = shared.order(at);
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

//! What a gather sees to between polls and starts of items: who was woken, the time, pauses.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Driver;
use crate::gather::item::Item;
use crate::gather::progress::Listen;
use crate::gather::ready::{SOURCE, TIMER};
use crate::gather::slot::Finished;
use crate::gather::supply::Supply;
use crate::panics;
use crate::time;

impl<F, H, R, O, T, E> Driver<F, H, R, O>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Sees to everything but polls and starts; whether there may be some of these again.
    #[inline(never)]
    pub(super) fn look_around(
        &mut self,
        cx: &mut Context<'_>,
    ) -> ControlFlow<Poll<Option<Finished<T, E>>>> {
        loop {
            if !self.pace.goes_on() && self.must_pause() {
                self.pause(cx);
                return ControlFlow::Break(Poll::Pending);
            }
            // A result that has come in time counts: so whoever was woken comes first.
            if !self.ready.is_round_over() && self.failure.is_none() {
                return ControlFlow::Continue(());
            }
            let done = self.end_woken().or_else(|| self.end_next());
            let done = done.or_else(|| self.start_parked());
            if let Some(done) = done {
                self.pace.spend();
                if let Some(done) = self.hand_out(done) {
                    return ControlFlow::Break(Poll::Ready(Some(done)));
                }
            } else if self.open() || self.begin_round() {
                return ControlFlow::Continue(());
            } else if self.is_idle() {
                return ControlFlow::Break(Poll::Ready(self.pass_on_failure()));
            } else if self.is_late() {
                self.pause(cx);
                return ControlFlow::Break(Poll::Pending);
            } else {
                self.arm();
                if self.clock.fired.is_none() && self.ready.sleep(cx) {
                    self.pace.pause();
                    return ControlFlow::Break(Poll::Pending);
                }
            }
        }
    }

    /// Takes up where the last poll left off; whether to pause at once.
    pub(super) fn begin(&mut self) -> bool {
        self.pace.begin();
        self.ready.wake_up();
        if !self.begun {
            self.begun = true;
            if self.settings.deadline != Duration::MAX {
                self.clock.until = time::now().saturating_add(self.settings.deadline);
            }
            self.listener.expect(self.supply.total());
        }
        // The timer may have told, before time is looked at.
        if self.ready.is_round_over() {
            self.begin_round();
        }
        // Time has passed if the consumer was slow.
        if self.is_late() {
            return true;
        }
        self.arm();
        false
    }

    /// Items that are always ready must not keep the thread for themselves.
    fn must_pause(&mut self) -> bool {
        self.pace.look() | self.is_late()
    }

    /// Whether a time limit has passed, of which the runtime is to tell first.
    fn is_late(&mut self) -> bool {
        self.clock.limited && self.cut.is_none() && self.clock.look(self.seats.first_due())
    }

    #[cold]
    pub(super) fn pause(&mut self, cx: &mut Context<'_>) {
        self.pace.pause();
        if self.clock.is_late() {
            // Woken when the runtime has been at its timers and its sockets.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        } else {
            self.arm();
            cx.waker().wake_by_ref();
        }
    }

    fn arm(&mut self) {
        if self.clock.limited {
            self.clock.arm(&self.ready, self.seats.first_due());
        }
    }

    /// Looks who was woken; whether there is anything to look at again.
    fn begin_round(&mut self) -> bool {
        let marks = self.ready.begin_round();
        if marks & TIMER != 0 {
            self.clock.poll(&self.ready);
        }
        if marks & SOURCE != 0 {
            self.tap.pending = false;
        }
        self.pace.begin_round() || marks != 0
    }

    /// Whether nothing is in flight, and nothing can be started.
    fn is_idle(&self) -> bool {
        let may_pull =
            self.cut.is_none() && !self.supply.is_exhausted() && self.index < self.pull_until;
        self.seats.taken() == 0 && self.parked.is_none() && !may_pull
    }

    /// Hands it out, unless all that is left to hand out is a panic.
    fn hand_out(&mut self, done: Finished<T, E>) -> Option<Finished<T, E>> {
        self.listener.finish(done.1.is_err());
        self.listener.tell();
        if self.failure.is_some() {
            panics::discard(done);
            return None;
        }
        Some(done)
    }

    fn pass_on_failure(&mut self) -> Option<Finished<T, E>> {
        if let Some(panic) = self.failure.take() {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

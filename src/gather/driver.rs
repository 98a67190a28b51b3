//! Drives a gather: pulls, starts, polls who was woken, ends what has to end.
//!
//! Invariants, at every return and every unwinding of `poll_finished`:
//!
//! 1. Every item that was pulled is in its seat, parked, or its outcome was handed out.
//! 2. Seats and slots agree: a slot is filled if and only if its seat is taken.
//! 3. If it returns pending, its task will be woken when a seat, the timer or the source is.

mod end;
mod start;

use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Settings;
use super::clock::Clock;
use super::item::Item;
use super::progress::{Listen, Tally};
use super::ready::{Ready, SOURCE, TIMER};
use super::seats::Seats;
use super::slot::{Cause, Finished, Polled, Slot};
use super::supply::Supply;
use crate::panics::{self, Payload};
use crate::policy::CallContext;
use crate::time;
use end::Unwinding;

/// Polls of items in a row before the gather lets other tasks run.
const BUDGET: u32 = 128;

/// Polls of items in a row before it looks at the clock, if there is a time limit.
const LOOK: u32 = 16;

/// Starts in a row before those are polled that were woken.
const STARTS: u32 = 64;

/// The gather at work. `F` feeds it, `H` listens, `R` is what is pulled and `O` what is in
/// flight: both also stand in `F`, but as associated types, which a future that is to be
/// spawned must not hold.
pub(super) struct Driver<F, H, R, O> {
    slots: Vec<Slot<O>>,
    seats: Seats,
    ready: Ready,
    supply: F,
    listener: H,
    tally: Tally,
    settings: Settings,
    /// Pulled, and too heavy for the room there is.
    parked: Option<(usize, u32, R)>,
    /// The number of the next item to be pulled.
    index: usize,
    /// Items from this number on are not pulled yet.
    pub(super) pull_until: usize,
    /// Nothing is started, for now.
    pub(super) on_hold: bool,
    begun: bool,
    /// Polls and starts since the last pause.
    spent: u32,
    starts: u32,
    tap: Tap,
    clock: Clock,
    /// Everything is being ended, for this reason.
    cut: Option<Cause>,
    /// Whether there are items without an outcome, or with one that was not their own.
    cut_short: bool,
    /// The panic to be passed on when everything has ended.
    failure: Option<Payload>,
}

// The items are pinned in their boxes; nothing is pinned here.
impl<F, H, R, O> Unpin for Driver<F, H, R, O> {}

/// What is known of the source.
#[derive(Debug, Default)]
struct Tap {
    waker: Option<Waker>,
    /// It has nothing for now, and will say so when it has.
    pending: bool,
}

impl<F, H, R, O> Driver<F, H, R, O> {
    pub(super) fn new(supply: F, listener: H, settings: Settings) -> Self {
        Self {
            slots: Vec::new(),
            seats: Seats::new(settings.limit),
            ready: Ready::new(),
            supply,
            listener,
            tally: Tally::default(),
            settings,
            parked: None,
            index: 0,
            pull_until: usize::MAX,
            on_hold: false,
            begun: false,
            spent: 0,
            starts: 0,
            tap: Tap::default(),
            clock: Clock::new(settings.timeout.min(settings.deadline) != Duration::MAX),
            cut: None,
            cut_short: false,
            failure: None,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The number of the next item that would be pulled.
    pub(super) fn index(&self) -> usize {
        self.index
    }
}

/// What came of one step.
enum Step<T, E> {
    /// There was nothing to do.
    Nothing,
    /// Something was done.
    Went,
    Finished(Finished<T, E>),
}

impl<F, H, R, O, T, E> Driver<F, H, R, O>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Goes on until an item has an outcome; `None` when there is none to come: all have
    /// ended, or nothing is in flight and nothing may be pulled.
    pub(super) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<Option<Finished<T, E>>> {
        let unwinding = Unwinding(self);
        let polled = unwinding.0.drive_one(cx);
        mem::forget(unwinding);
        polled
    }

    /// Goes on until there is no outcome to come, and hands each one to `each`, which says
    /// whether the rest is to be ended. The outcomes that follow then are those of items that
    /// were cut.
    pub(super) fn poll_each(
        &mut self,
        cx: &mut Context<'_>,
        each: impl FnMut(Finished<T, E>) -> ControlFlow<()>,
    ) -> Poll<()> {
        let unwinding = Unwinding(self);
        let polled = unwinding.0.drive_each(cx, each);
        mem::forget(unwinding);
        polled
    }

    /// Whether the source was pulled to its end and every outcome was handed out.
    pub(super) fn is_complete(&self) -> bool {
        self.supply.is_exhausted() && !self.cut_short
    }

    /// Whether all is over for good.
    pub(super) fn is_over(&self) -> bool {
        let fed = self.cut.is_none() && !self.supply.is_exhausted();
        self.seats.taken() == 0 && self.parked.is_none() && !fed
    }

    fn drive_each(
        &mut self,
        cx: &mut Context<'_>,
        mut each: impl FnMut(Finished<T, E>) -> ControlFlow<()>,
    ) -> Poll<()> {
        if self.begin() {
            return self.pause(cx);
        }
        loop {
            match self.drive(cx) {
                Poll::Ready(Some(done)) => {
                    if each(done).is_break() {
                        self.end_all(Cause::Stopped);
                    }
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn drive_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Finished<T, E>>> {
        if self.begin() {
            return self.pause(cx);
        }
        self.drive(cx)
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Finished<T, E>>> {
        loop {
            if self.must_pause() {
                return self.pause(cx);
            }
            match self.step() {
                Step::Finished(done) => {
                    if let Some(done) = self.hand_out(done) {
                        return Poll::Ready(Some(done));
                    }
                }
                Step::Went => {}
                Step::Nothing if self.begin_round() => {}
                Step::Nothing if self.is_idle() => return Poll::Ready(self.pass_on_failure()),
                Step::Nothing if self.is_late() => return self.pause(cx),
                Step::Nothing => {
                    self.arm();
                    if self.clock.fired.is_none() && self.ready.sleep(cx) {
                        self.spent = 0;
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Polls one that was woken, or ends one whose time is up, or starts one: in this order,
    /// so that a result that has come in time counts.
    #[inline]
    fn step(&mut self) -> Step<T, E> {
        if let Some(seat) = self.ready.next() {
            return self.poll_seat(seat).map_or(Step::Went, Step::Finished);
        }
        if let Some(done) = self.end_next() {
            return Step::Finished(done);
        }
        self.start_next()
    }

    /// Takes up where the last poll left off; whether to pause at once.
    fn begin(&mut self) -> bool {
        self.ready.wake_up();
        if !self.begun {
            self.begun = true;
            if self.settings.deadline != Duration::MAX {
                self.clock.until = time::now().saturating_add(self.settings.deadline);
            }
            self.tally.expect(self.supply.total());
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
        let spent = self.spent;
        self.spent += 1;
        if spent == 0 || spent % LOOK != 0 || self.cut == Some(Cause::Stopped) {
            return false;
        }
        self.is_late() || spent >= BUDGET
    }

    /// Whether a time limit has passed, of which the runtime is to tell first.
    fn is_late(&mut self) -> bool {
        self.clock.limited && self.cut.is_none() && self.clock.look(self.seats.first_due())
    }

    #[cold]
    fn pause<D>(&mut self, cx: &mut Context<'_>) -> Poll<D> {
        self.spent = 0;
        if self.clock.is_late() {
            // Woken when the runtime has been at its timers and its sockets.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        } else {
            self.arm();
            cx.waker().wake_by_ref();
        }
        Poll::Pending
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
        mem::take(&mut self.starts) > 0 || marks != 0
    }

    /// Whether nothing is in flight, and nothing can be started.
    fn is_idle(&self) -> bool {
        let may_pull =
            self.cut.is_none() && !self.supply.is_exhausted() && self.index < self.pull_until;
        self.seats.taken() == 0 && self.parked.is_none() && !may_pull
    }

    /// Hands it out, unless all that is left to hand out is a panic.
    fn hand_out(&mut self, done: Finished<T, E>) -> Option<Finished<T, E>> {
        self.tally.finish(done.1.is_err());
        self.tally.tell(&mut self.listener);
        if self.failure.is_none() {
            return Some(done);
        }
        panics::swallow(|| drop(done));
        None
    }

    fn pass_on_failure(&mut self) -> Option<Finished<T, E>> {
        if let Some(panic) = self.failure.take() {
            std::panic::resume_unwind(panic);
        }
        None
    }

    /// Polls an item that was woken.
    fn poll_seat(&mut self, seat: usize) -> Option<Finished<T, E>> {
        // A waker of an earlier item may name a seat that is free.
        let due = self.seats.passenger(seat)?.due;
        let polled = if self.slots[seat].ending.is_some() {
            self.slots[seat].poll_end()
        } else {
            let call = CallContext::root().until(self.clock.until.min(due));
            self.slots[seat].poll(&call)
        };
        self.conclude(seat, polled)
    }

    /// Frees the seat of an item that has ended; its outcome.
    #[inline]
    fn conclude(&mut self, seat: usize, polled: Polled<T, E>) -> Option<Finished<T, E>> {
        if let Polled::Pending = polled {
            return None;
        }
        let cause = self.slots[seat].ending.take();
        let index = self.seats.leave(seat)?.index;
        let result = match polled {
            Polled::Pending => return None,
            Polled::Ready(result) => result,
            Polled::Cut(progress) => {
                let cause = cause.unwrap_or(Cause::Stopped);
                Err(self.settings.cut_by(cause, progress))
            }
            Polled::Panicked(panic, progress) => self.panicked(panic, progress)?,
        };
        Some((index, result))
    }
}

impl<F, H, R, O> fmt::Debug for Driver<F, H, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("settings", &self.settings)
            .field("running", &self.seats.taken())
            .field("pulled", &self.index)
            .finish_non_exhaustive()
    }
}

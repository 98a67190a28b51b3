//! Drives a gather: pulls, starts, polls who was woken, ends what has to end.
//!
//! Invariants, at every return and every unwinding of `poll_finished`:
//!
//! 1. Every item that was pulled is in its seat, parked, or its outcome was handed out.
//! 2. Seats and slots agree: a slot is filled if and only if its seat is taken.
//! 3. If it returns pending, its task will be woken when a seat, the timer or the source is.

mod end;
mod look;
mod pace;
mod start;

use std::fmt;
use std::mem;
use std::ops::ControlFlow;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Settings;
use super::clock::Clock;
use super::item::Item;
use super::progress::Listen;
use super::ready::{Ready, SOURCE};
use super::seats::Seats;
use super::slot::{Cause, Finished, Slot};
use super::supply::Supply;
use crate::panics::Payload;
use crate::policy::CallContext;
use end::Unwinding;
use pace::Pace;

/// The gather at work. `F` feeds it, `H` listens, `R` is what is pulled and `O` what is in
/// flight: both also stand in `F`, but as associated types, which a future that is to be
/// spawned must not hold.
pub(super) struct Driver<F, H, R, O> {
    slots: Vec<Slot<O>>,
    seats: Seats,
    ready: Ready,
    supply: F,
    listener: H,
    settings: Settings,
    /// Pulled, and too heavy for the room there is.
    parked: Option<(usize, u32, R)>,
    /// The number of the next item to be pulled.
    index: usize,
    /// Items from this number on are not pulled yet.
    pub(super) pull_until: usize,
    /// Nothing is started, for now.
    on_hold: bool,
    begun: bool,
    /// It lets nothing be started unless that is all there may be to do: nothing is being ended
    /// or parked, there is room, and the source has something.
    pace: Pace,
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

impl Tap {
    fn waker(&mut self, ready: &Ready) -> &Waker {
        let made = || ready.waker_of_bit(SOURCE);
        self.waker.get_or_insert_with(made)
    }
}

impl<F, H, R, O> Driver<F, H, R, O> {
    pub(super) fn new(supply: F, listener: H, settings: Settings) -> Self {
        let limited = settings.timeout.min(settings.deadline) != Duration::MAX;
        Self {
            slots: Vec::new(),
            seats: Seats::new(settings.limit),
            ready: Ready::new(),
            supply,
            listener,
            settings,
            parked: None,
            index: 0,
            pull_until: usize::MAX,
            on_hold: false,
            begun: false,
            pace: Pace::new(limited),
            tap: Tap::default(),
            clock: Clock::new(limited),
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

impl<F, H, R, O, T, E> Driver<F, H, R, O>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Goes on until an item has an outcome; `None` when there is none to come: all have
    /// ended, or nothing is in flight and nothing may be pulled.
    #[inline(always)]
    pub(super) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<Option<Finished<T, E>>> {
        let unwinding = Unwinding(self);
        let polled = unwinding.0.drive_one(cx);
        mem::forget(unwinding);
        polled
    }

    /// Goes on until there is no outcome to come, and hands each one to `each`, which says
    /// whether the rest is to be ended. The outcomes that follow then are those of items that
    /// were cut.
    #[inline]
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

    /// Makes room for all outcomes, before the first poll, if the source says how many there
    /// are to come: with so many at most that a source which is wrong does no harm.
    pub(super) fn reserve<V>(&self, outcomes: &mut Vec<V>) {
        const MOST: usize = 1 << 14;
        if !self.begun {
            outcomes.reserve(self.supply.total().unwrap_or(0).min(MOST));
        }
    }

    /// While the consumer is slow, nothing new is started.
    pub(super) fn hold(&mut self, hold: bool) {
        self.on_hold = hold;
        if hold {
            self.pace.close();
        }
    }

    /// After a poll that was pending: whether that was for other tasks to have a turn, and not
    /// because there was nothing to do.
    pub(super) fn is_pausing(&self) -> bool {
        self.ready.is_awake()
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

    #[inline(always)]
    fn drive_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Finished<T, E>>> {
        if !self.is_under_way() && self.begin() {
            self.pause(cx);
            return Poll::Pending;
        }
        loop {
            if let Some(done) = self.go_on() {
                return Poll::Ready(Some(done));
            }
            if let ControlFlow::Break(polled) = self.look_around(cx) {
                return polled;
            }
        }
    }

    #[inline(always)]
    fn drive_each(
        &mut self,
        cx: &mut Context<'_>,
        mut each: impl FnMut(Finished<T, E>) -> ControlFlow<()>,
    ) -> Poll<()> {
        if self.begin() {
            self.pause(cx);
            return Poll::Pending;
        }
        loop {
            let done = match self.go_on() {
                Some(done) => done,
                None => match self.look_around(cx) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(Poll::Ready(Some(done))) => done,
                    ControlFlow::Break(Poll::Ready(None)) => return Poll::Ready(()),
                    ControlFlow::Break(Poll::Pending) => return Poll::Pending,
                },
            };
            if each(done).is_break() {
                self.end_all(Cause::Stopped);
            }
        }
    }

    /// Whether this poll can take up just where the last one left off.
    #[inline]
    fn is_under_way(&self) -> bool {
        self.begun && !self.clock.limited && (self.ready.is_in_hand() || self.ready.is_quiet())
    }

    /// Polls those who were woken, and then starts others, one after the other until one has an
    /// outcome or there may be something else to do. Nothing else polls an item that is not
    /// being ended.
    #[inline(always)]
    fn go_on(&mut self) -> Option<Finished<T, E>> {
        while self.pace.goes_on() && self.failure.is_none() {
            if let Some(seat) = self.ready.next() {
                self.pace.spend();
                if let Some(done) = self.poll_seat(seat) {
                    return Some(self.told(done));
                }
            } else if self.pace.may_start() {
                self.pace.spend();
                if let Some(done) = self.start_one() {
                    return Some(self.told(done));
                }
            } else {
                return None;
            }
        }
        None
    }

    #[inline(always)]
    fn told(&mut self, (index, result): Finished<T, E>) -> Finished<T, E> {
        match result {
            Ok(value) => {
                self.listener.finish(false);
                self.listener.tell();
                (index, Ok(value))
            }
            Err(error) => {
                self.listener.finish(true);
                self.listener.tell();
                (index, Err(error))
            }
        }
    }

    /// Polls an item that was woken.
    #[inline(always)]
    fn poll_seat(&mut self, seat: usize) -> Option<Finished<T, E>> {
        // A waker of an earlier item may name a seat that is free.
        let due = self.seats.passenger(seat)?.due;
        let slot = &mut self.slots[seat];
        if slot.ending.is_some() {
            return self.poll_ending(seat);
        }
        let call = CallContext::root().until(self.clock.until.min(due));
        match slot.poll(&call) {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(result)) => Some((self.seats.leave(seat)?.index, result)),
            Err(crash) => self.seat_crashed(seat, crash),
        }
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

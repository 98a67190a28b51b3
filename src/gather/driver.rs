//! Drives a gather: pulls, starts, polls who was woken, ends what has to end.
//!
//! Invariants, at every return and every unwinding of `poll_finished`:
//!
//! 1. Every item that was pulled is in its seat, parked, or its outcome was handed out.
//! 2. Seats and slots agree: a slot is filled if and only if its seat is taken.
//! 3. If it returns pending, its task will be woken when a seat, the timer or the source is.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Settings;
use super::item::{End, IntoItem, Item, Launch, Limits};
use super::progress::{Listen, Tally};
use super::ready::{Ready, SOURCE, TIMER};
use super::seats::{Fit, Passenger, Seats};
use super::source::Source;
use crate::error::{Error, Progress, Refusal};
use crate::operation::Operation;
use crate::panics::{self, Payload};
use crate::policy::CallContext;
use crate::time::{self, Instant, Timer};

/// Polls of items in a row before the gather lets other tasks run.
const BUDGET: u32 = 128;

/// Starts in a row before those are polled that were woken.
const STARTS: u32 = 64;

/// A source and how its items are put in flight.
#[derive(Debug)]
pub struct Origin<S, K, W> {
    pub(super) source: Option<S>,
    pub(super) launch: W,
    pub(super) kind: PhantomData<fn() -> K>,
}

/// What a gather is fed by. Never implemented by hand.
pub trait Supply {
    /// The operation, as the source gives it.
    type Raw;
    /// The operation, in flight.
    type Item: Item;

    #[doc(hidden)]
    fn poll_pull(&mut self, cx: &mut Context<'_>) -> Poll<Option<(u32, Self::Raw)>>;
    #[doc(hidden)]
    fn launch(&self, raw: Self::Raw, limits: Limits) -> Self::Item;
    #[doc(hidden)]
    fn total(&self) -> Option<usize>;
    #[doc(hidden)]
    fn is_exhausted(&self) -> bool;
    /// Drops the source.
    #[doc(hidden)]
    fn close(&mut self);
}

impl<S, K, W, R> Supply for Origin<S, K, W>
where
    S: Source,
    S::Item: IntoItem<K, Operation = R>,
    R: Operation,
    W: Launch<R>,
{
    type Raw = R;
    type Item = W::Item;

    #[inline]
    fn poll_pull(&mut self, cx: &mut Context<'_>) -> Poll<Option<(u32, R)>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        match source.poll_next(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(item.into_item())),
            Poll::Ready(None) => {
                self.source = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    #[inline]
    fn launch(&self, raw: R, limits: Limits) -> W::Item {
        self.launch.launch(raw, limits)
    }

    fn total(&self) -> Option<usize> {
        self.source.as_ref()?.total()
    }

    fn is_exhausted(&self) -> bool {
        self.source.is_none()
    }

    fn close(&mut self) {
        self.source = None;
    }
}

/// The memory of a seat: allocated once, used by one item after another.
struct Slot<O> {
    item: Pin<Box<Option<O>>>,
    waker: Waker,
    /// Why it is being ended, if it is.
    ending: Option<Cause>,
}

/// Why items are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Its own time is up.
    Timeout,
    /// The time for the whole is up.
    Deadline,
    /// Nobody wants its outcome.
    Stopped,
}

/// An item's place in the source, and its outcome.
pub(super) type Finished<T, E> = (usize, Result<T, Error<E>>);

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
    source_waker: Option<Waker>,
    source_pending: bool,
    clock: Clock,
    /// Everything is being ended, for this reason.
    cut: Option<Cause>,
    /// Whether the deadline has cut anything short.
    cut_short: bool,
    /// The panic to be passed on when everything has ended.
    failure: Option<Payload>,
}

// The items are pinned in their boxes; nothing is pinned here.
impl<F, H, R, O> Unpin for Driver<F, H, R, O> {}

/// The one timer of a gather, for the whole and for the items.
#[derive(Debug)]
struct Clock {
    /// When the time for the whole is up.
    until: Instant,
    timer: Timer,
    waker: Option<Waker>,
    armed: Instant,
    /// When the timer fired, until what is due by then has been ended.
    fired: Option<Instant>,
}

impl Clock {
    /// Sets the timer for `due`, unless it is set for an earlier time. That one may be of an
    /// item that has ended meanwhile: then it fires for nothing, which is cheaper than to
    /// move it for each item that ends.
    fn arm(&mut self, ready: &Ready, due: Instant) {
        let due = due.min(self.until);
        if self.armed <= due || self.fired.is_some() {
            return;
        }
        self.armed = due;
        self.poll(ready);
    }

    /// Everything is being ended: no time matters any more.
    fn stop(&mut self) {
        self.until = Instant::NEVER;
        self.armed = Instant::NEVER;
        self.fired = None;
        self.timer.disarm();
    }

    fn poll(&mut self, ready: &Ready) {
        let waker = self.waker.get_or_insert_with(|| ready.waker_of_bit(TIMER));
        let mut cx = Context::from_waker(waker);
        if self.armed != Instant::NEVER && self.timer.poll_until(self.armed, &mut cx).is_ready() {
            self.fired = Some(time::now().max(self.armed));
            self.armed = Instant::NEVER;
            self.timer.disarm();
        }
    }
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
            source_waker: None,
            source_pending: false,
            clock: Clock {
                until: Instant::NEVER,
                timer: Timer::new(),
                waker: None,
                armed: Instant::NEVER,
                fired: None,
            },
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

    /// Drops all that is in flight, and all that is parked; panics in their drops are kept
    /// from each other. The first of them.
    fn drop_all(&mut self) -> Option<Payload> {
        let parked = self.parked.take();
        let mut first = panics::caught(|| drop(parked)).err();
        for slot in &mut self.slots {
            let panicked = panics::caught(|| slot.item.as_mut().set(None)).err();
            keep_first(&mut first, panicked);
        }
        self.seats.clear();
        first
    }
}

impl<F, H, R, O> Drop for Driver<F, H, R, O> {
    fn drop(&mut self) {
        let task = self.ready.close();
        let panicked = self.drop_all();
        drop(task);
        let Some(panic) = panicked else {
            return;
        };
        if self.settings.propagate && !std::thread::panicking() {
            std::panic::resume_unwind(panic);
        }
        drop(panics::message(panic));
    }
}

/// Drops all that is in flight when the driver itself unwinds: from the source, from the
/// listener, from a timer outside of a runtime.
struct Unwinding<'d, F, H, R, O>(&'d mut Driver<F, H, R, O>);

impl<F, H, R, O> Drop for Unwinding<'_, F, H, R, O> {
    fn drop(&mut self) {
        self.0.cut = Some(Cause::Stopped);
        drop(self.0.drop_all().map(panics::message));
    }
}

/// Of two panics only one can be passed on. A payload's drop is foreign code as well.
fn keep_first(first: &mut Option<Payload>, second: Option<Payload>) {
    if first.is_none() {
        *first = second;
    } else {
        drop(second.map(panics::message));
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
        let polled = unwinding.0.drive(cx);
        mem::forget(unwinding);
        polled
    }

    /// Ends all that is in flight, and pulls no more. The outcomes that follow are those of
    /// items that were cut.
    pub(super) fn stop(&mut self) {
        self.end_all(Cause::Stopped);
    }

    /// Whether the source was pulled to its end and nothing was cut short.
    pub(super) fn is_complete(&self) -> bool {
        self.supply.is_exhausted() && !self.cut_short
    }

    /// Whether all is over for good.
    pub(super) fn is_over(&self) -> bool {
        let fed = self.cut.is_none() && !self.supply.is_exhausted();
        self.seats.taken() == 0 && self.parked.is_none() && !fed
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Finished<T, E>>> {
        self.begin();
        loop {
            if self.must_pause() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
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

    fn begin(&mut self) {
        self.ready.wake_up();
        if !self.begun {
            self.begun = true;
            if self.settings.deadline != Duration::MAX {
                self.clock.until = time::now().saturating_add(self.settings.deadline);
            }
            self.tally.expect(self.supply.total());
        }
        // Time has passed if the consumer was slow.
        self.arm();
        if self.ready.is_round_over() {
            self.begin_round();
        }
    }

    /// Items that are always ready must not keep the thread for themselves.
    fn must_pause(&mut self) -> bool {
        self.spent += 1;
        if self.spent <= BUDGET || self.cut == Some(Cause::Stopped) {
            return false;
        }
        self.spent = 0;
        self.arm();
        true
    }

    fn arm(&mut self) {
        self.clock.arm(&self.ready, self.seats.first_due());
    }

    /// Looks who was woken; whether there is anything to look at again.
    fn begin_round(&mut self) -> bool {
        let marks = self.ready.begin_round();
        if marks & TIMER != 0 {
            self.clock.poll(&self.ready);
        }
        if marks & SOURCE != 0 {
            self.source_pending = false;
        }
        mem::take(&mut self.starts) > 0 || marks != 0
    }

    /// Whether nothing is in flight, and nothing can be started.
    fn is_idle(&self) -> bool {
        let may_pull = self.cut.is_none()
            && !self.supply.is_exhausted()
            && self.index < self.pull_until;
        self.seats.taken() == 0 && self.parked.is_none() && !may_pull
    }

    /// Hands it out, unless all that is left to hand out is a panic.
    fn hand_out(&mut self, done: Finished<T, E>) -> Option<Finished<T, E>> {
        self.tally.finish(done.1.is_err());
        self.tally.tell(&mut self.listener);
        if self.failure.is_none() {
            return Some(done);
        }
        drop(panics::caught(|| drop(done)).map_err(panics::message));
        None
    }

    fn pass_on_failure(&mut self) -> Option<Finished<T, E>> {
        if let Some(panic) = self.failure.take() {
            std::panic::resume_unwind(panic);
        }
        None
    }

    /// Starts the next item, if there is one and it has room.
    #[inline]
    fn start_next(&mut self) -> Step<T, E> {
        if self.cut.is_some() || self.starts >= STARTS || self.on_hold {
            return Step::Nothing;
        }
        let Some((index, weight, raw)) = self.next_item() else {
            return Step::Nothing;
        };
        self.starts += 1;
        self.tally.start();
        self.tally.tell(&mut self.listener);
        if self.seats.fit(weight) == Fit::Never {
            return Step::Finished((index, Err(self.too_large(weight))));
        }
        self.launch(index, weight, raw)
            .map_or(Step::Went, Step::Finished)
    }

    /// What was parked, or is pulled now, if it has room; or can never have any.
    fn next_item(&mut self) -> Option<(usize, u32, R)> {
        if let Some((_, weight, _)) = &self.parked {
            return if self.seats.fit(*weight) == Fit::Now {
                self.parked.take()
            } else {
                None
            };
        }
        let (index, weight, raw) = self.pull()?;
        if self.seats.fit(weight) == Fit::Later {
            self.parked = Some((index, weight, raw));
            return None;
        }
        Some((index, weight, raw))
    }

    fn pull(&mut self) -> Option<(usize, u32, R)> {
        let no_room = self.seats.is_full() && self.seats.taken() > 0;
        if no_room || self.source_pending || self.index >= self.pull_until {
            return None;
        }
        let ready = &self.ready;
        let waker = self
            .source_waker
            .get_or_insert_with(|| ready.waker_of_bit(SOURCE));
        match self.supply.poll_pull(&mut Context::from_waker(waker)) {
            Poll::Ready(pulled) => {
                let (weight, raw) = pulled?;
                let index = self.index;
                self.index += 1;
                // What weighs nothing would never fill the room.
                Some((index, weight.max(1), raw))
            }
            Poll::Pending => {
                self.source_pending = true;
                None
            }
        }
    }

    fn too_large(&self, weight: u32) -> Error<E> {
        let limit = u32::try_from(self.settings.limit).unwrap_or(u32::MAX);
        Error::refused(Refusal::too_large(weight, limit))
    }

    /// Polls the item for the first time; its outcome, if it is ready at once.
    ///
    /// It takes its seat only if it is not: most of the bookkeeping is for those who wait.
    #[inline]
    fn launch(&mut self, index: usize, weight: u32, raw: R) -> Option<Finished<T, E>> {
        let limits = Limits {
            until: self.clock.until,
            timeout: self.settings.timeout,
        };
        let item = self.supply.launch(raw, limits);
        let seat = self.seats.next();
        if seat == self.slots.len() {
            self.slots.push(Slot {
                item: Box::pin(None),
                waker: self.ready.waker_of(seat),
                ending: None,
            });
        }
        self.slots[seat].item.as_mut().set(Some(item));
        let call = CallContext::root()
            .until(self.clock.until)
            .within(self.settings.timeout);
        let polled = self.slots[seat].poll(&call);
        if let Polled::Ready(result) = polled {
            return Some((index, result));
        }
        let due = self.settings.due();
        let seat = self.seats.take(Passenger { index, weight, due });
        self.conclude(seat, polled)
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

    /// Ends the next item whose time is up.
    fn end_next(&mut self) -> Option<Finished<T, E>> {
        loop {
            let cause = match (self.cut, self.clock.fired) {
                (Some(cause), fired) => {
                    if fired.is_some() {
                        self.clock.fired = None;
                    }
                    cause
                }
                (None, None) => return None,
                (None, Some(now)) if self.clock.until <= now => {
                    self.end_all(Cause::Deadline);
                    continue;
                }
                (None, Some(now)) if self.seats.first_due() <= now => Cause::Timeout,
                (None, Some(_)) => {
                    self.clock.fired = None;
                    return None;
                }
            };
            let Some(seat) = self.seats.oldest() else {
                return self.end_parked(cause);
            };
            self.seats.unlink(seat);
            self.slots[seat].ending = Some(cause);
            let polled = self.slots[seat].poll_end();
            if let Some(done) = self.conclude(seat, polled) {
                return Some(done);
            }
        }
    }

    fn end_parked(&mut self, cause: Cause) -> Option<Finished<T, E>> {
        let (index, _, raw) = self.parked.take()?;
        self.tally.start();
        let result = match panics::caught(|| drop(raw)) {
            Ok(()) => Err(self.settings.cut_by(cause, Progress::none())),
            Err(panic) => self.panicked(panic, Progress::none())?,
        };
        Some((index, result))
    }

    fn end_all(&mut self, cause: Cause) {
        self.cut_short |= cause == Cause::Deadline
            && (self.seats.taken() > 0 || self.parked.is_some() || !self.supply.is_exhausted());
        self.cut = Some(cause);
        self.clock.stop();
        self.supply.close();
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

    /// A panic as an outcome; or everything is ended first, for the panic to be passed on.
    fn panicked(&mut self, panic: Payload, progress: Progress<E>) -> Option<Result<T, Error<E>>> {
        if !self.settings.propagate {
            return Some(Err(Error::Panicked {
                message: panics::message(panic),
                attempts: progress.attempts,
                last: progress.last,
            }));
        }
        self.tally.finish(true);
        match self.failure {
            None => self.failure = Some(panic),
            // Only one can be passed on: the first.
            Some(_) => drop(panics::message(panic)),
        }
        self.stop();
        None
    }
}

impl Settings {
    fn due(&self) -> Instant {
        if self.timeout == Duration::MAX {
            return Instant::NEVER;
        }
        time::now().saturating_add(self.timeout)
    }

    fn cut_by<E>(&self, cause: Cause, progress: Progress<E>) -> Error<E> {
        let error = match cause {
            Cause::Timeout => Error::timed_out(self.timeout),
            Cause::Deadline => Error::timed_out(self.deadline),
            Cause::Stopped => Error::cancelled(),
        };
        error.after(progress)
    }
}

/// What a poll of a slot gave. Unless it is pending, the slot is empty.
enum Polled<T, E> {
    Pending,
    Ready(Result<T, Error<E>>),
    Cut(Progress<E>),
    Panicked(Payload, Progress<E>),
}

impl<O: Item> Slot<O> {
    #[inline]
    fn poll(&mut self, call: &CallContext<'_>) -> Polled<O::Output, O::Error> {
        let mut cx = Context::from_waker(&self.waker);
        let slot = &mut self.item;
        // Kept outside: a panic in the item's drop must not drop the result while unwinding.
        let mut result = None;
        let panicked = panics::caught(|| {
            let item = slot.as_mut().as_pin_mut();
            if let Some(Poll::Ready(ready)) = item.map(|item| item.poll_item(call, &mut cx)) {
                result = Some(ready);
                slot.as_mut().set(None);
            }
        });
        match (panicked, result) {
            (Ok(()), None) => Polled::Pending,
            (Ok(()), Some(result)) => Polled::Ready(result),
            (Err(panic), result) => self.after_panic(panic, result),
        }
    }

    /// Ends the item, or goes on with that.
    fn poll_end(&mut self) -> Polled<O::Output, O::Error> {
        let mut cx = Context::from_waker(&self.waker);
        let slot = &mut self.item;
        let mut ended = None;
        let panicked = panics::caught(|| {
            let item = slot.as_mut().as_pin_mut();
            if let Some(Poll::Ready(end)) = item.map(|item| item.poll_end(&mut cx)) {
                ended = Some(end);
                slot.as_mut().set(None);
            }
        });
        match (panicked, ended) {
            (Ok(()), None) => Polled::Pending,
            (Ok(()), Some(End::Cut(progress))) => Polled::Cut(progress),
            (Ok(()), Some(End::Itself(result))) => Polled::Ready(result),
            (Err(panic), Some(End::Itself(result))) => self.after_panic(panic, Some(result)),
            (Err(panic), _) => self.after_panic(panic, None),
        }
    }

    /// Asks the item how far it came, and empties the slot.
    #[cold]
    fn after_panic(
        &mut self,
        panic: Payload,
        result: Option<Result<O::Output, Error<O::Error>>>,
    ) -> Polled<O::Output, O::Error> {
        let mut cx = Context::from_waker(&self.waker);
        let mut item = self.item.as_mut().as_pin_mut();
        let asked = panics::caught(|| item.as_mut().map(|item| item.as_mut().poll_end(&mut cx)));
        let progress = match asked {
            Ok(Some(Poll::Ready(End::Cut(progress)))) => progress,
            _ => Progress::none(),
        };
        // Whatever panics now has been told of.
        let emptied = panics::caught(|| self.item.as_mut().set(None));
        let dropped = panics::caught(|| drop(result));
        for second in [emptied.err(), dropped.err()].into_iter().flatten() {
            drop(panics::message(second));
        }
        let attempts = progress.attempts.max(1);
        Polled::Panicked(panic, Progress::new(attempts, progress.last))
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

//! How items are ended before their time: limits, panics, drops.

use std::task::Poll;

use super::Driver;
use crate::error::{Error, Progress};
use crate::gather::item::{End, Item};
use crate::gather::progress::Listen;
use crate::gather::slot::{Cause, Crash, Finished, keep_first};
use crate::gather::supply::Supply;
use crate::panics::{self, Payload};

impl<F, H, R, O, T, E> Driver<F, H, R, O>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Ends the next item whose time is up.
    pub(super) fn end_next(&mut self) -> Option<Finished<T, E>> {
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
            if let Some(done) = self.poll_ending(seat) {
                return Some(done);
            }
        }
    }

    /// When all are ended because of a panic, those that go on ending when they are woken;
    /// the others have nothing to say any more.
    pub(super) fn end_woken(&mut self) -> Option<Finished<T, E>> {
        while let Some(seat) = self.ready.next() {
            if self.slots[seat].ending.is_some() {
                if let Some(done) = self.poll_ending(seat) {
                    return Some(done);
                }
            }
        }
        None
    }

    /// Ends an item, or goes on with that; its outcome.
    #[cold]
    pub(super) fn poll_ending(&mut self, seat: usize) -> Option<Finished<T, E>> {
        match self.slots[seat].poll_end() {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(end)) => {
                let cause = self.slots[seat].ending.take().unwrap_or(Cause::Stopped);
                let index = self.seats.leave(seat)?.index;
                let result = match end {
                    End::Itself(result) => result,
                    End::Cut(progress) => Err(self.settings.cut_by(cause, progress)),
                };
                Some((index, result))
            }
            Err(crash) => self.seat_crashed(seat, crash),
        }
    }

    #[cold]
    pub(super) fn seat_crashed(
        &mut self,
        seat: usize,
        crash: Box<Crash<E>>,
    ) -> Option<Finished<T, E>> {
        self.slots[seat].ending = None;
        let index = self.seats.leave(seat)?.index;
        self.crashed(index, crash)
    }

    /// It has panicked; its outcome, if that is one.
    #[cold]
    #[expect(clippy::boxed_local, reason = "as it comes")]
    pub(super) fn crashed(&mut self, index: usize, crash: Box<Crash<E>>) -> Option<Finished<T, E>> {
        Some((index, self.panicked(crash.panic, crash.progress)?))
    }

    fn end_parked(&mut self, cause: Cause) -> Option<Finished<T, E>> {
        let (index, _, raw) = self.parked.take()?;
        self.listener.start();
        let error = self.settings.cut_by(cause, Progress::none());
        self.refuse(index, raw, error)
    }

    /// An item that never starts: this is its outcome, unless its drop panics.
    pub(super) fn refuse(
        &mut self,
        index: usize,
        raw: R,
        error: Error<E>,
    ) -> Option<Finished<T, E>> {
        let result = match panics::caught(|| drop(raw)) {
            Ok(()) => Err(error),
            Err(panic) => self.panicked(panic, Progress::none())?,
        };
        Some((index, result))
    }

    pub(super) fn end_all(&mut self, cause: Cause) {
        self.cut_short |=
            self.seats.taken() > 0 || self.parked.is_some() || !self.supply.is_exhausted();
        self.cut = Some(cause);
        if cause == Cause::Stopped {
            self.pace.hurry();
        } else {
            self.pace.close();
        }
        self.clock.stop();
        self.supply.close();
    }

    /// A panic as an outcome; or everything is ended first, for the panic to be passed on.
    pub(super) fn panicked(
        &mut self,
        panic: Payload,
        progress: Progress<E>,
    ) -> Option<Result<T, Error<E>>> {
        if !self.settings.propagate {
            return Some(Err(Error::Panicked {
                message: panics::message(panic),
                attempts: progress.attempts,
                last: progress.last,
            }));
        }
        self.listener.finish(true);
        keep_first(&mut self.failure, Some(panic));
        // This item has no outcome.
        self.cut_short = true;
        self.end_all(Cause::Stopped);
        None
    }
}

impl<F, H, R, O> Driver<F, H, R, O> {
    /// Drops all that is in flight, and all that is parked; panics in their drops are kept
    /// from each other. The first of them.
    fn drop_all(&mut self) -> Option<Payload> {
        let parked = self.parked.take();
        let mut first = panics::caught(|| drop(parked)).err();
        for slot in &mut self.slots {
            keep_first(&mut first, slot.clear());
        }
        self.seats.clear();
        first
    }
}

impl<F, H, R, O> Drop for Driver<F, H, R, O> {
    fn drop(&mut self) {
        let task = self.ready.close();
        let panicked = self.drop_all();
        // Nobody is left who waits for it.
        drop(self.failure.take().map(panics::message));
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
pub(super) struct Unwinding<'d, F, H, R, O>(pub(super) &'d mut Driver<F, H, R, O>);

impl<F, H, R, O> Drop for Unwinding<'_, F, H, R, O> {
    fn drop(&mut self) {
        self.0.cut = Some(Cause::Stopped);
        self.0.pace.hurry();
        // At least what was in hand is lost.
        self.0.cut_short = true;
        let kept = self.0.failure.take();
        for panic in [self.0.drop_all(), kept].into_iter().flatten() {
            drop(panics::message(panic));
        }
    }
}

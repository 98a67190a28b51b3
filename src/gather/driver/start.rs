//! How items are pulled and started.

use std::task::Poll;

use super::Driver;
use crate::error::{Error, Refusal};
use crate::gather::item::{Item, Limits};
use crate::gather::progress::Listen;
use crate::gather::seats::{Fit, Passenger};
use crate::gather::slot::{Finished, Slot};
use crate::gather::supply::Supply;
use crate::policy::CallContext;
use crate::time::Instant;

impl<F, H, R, O, T, E> Driver<F, H, R, O>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Lets items be started, if they have not had their turn since the last round; whether
    /// there is anything to go on with.
    pub(super) fn open(&mut self) -> bool {
        if self.cut.is_some() || self.on_hold || !self.may_start() {
            return false;
        }
        self.pace.open()
    }

    fn may_start(&self) -> bool {
        let full = self.seats.is_full() && self.seats.taken() > 0;
        let room = !full && self.parked.is_none();
        let fed = !self.tap.pending && !self.supply.is_exhausted();
        room && fed && self.index < self.pull_until
    }

    /// Starts the one that is parked, if there is room for it now.
    pub(super) fn start_parked(&mut self) -> Option<Finished<T, E>> {
        let (_, weight, _) = self.parked.as_ref()?;
        if self.cut.is_some() || self.on_hold || self.seats.fit(*weight) != Fit::Now {
            return None;
        }
        let (index, weight, raw) = self.parked.take()?;
        self.launch(index, weight, raw)
    }

    /// Pulls an item and starts it.
    #[inline(always)]
    pub(super) fn start_one(&mut self) -> Option<Finished<T, E>> {
        if self.index >= self.pull_until {
            self.pace.close();
            return None;
        }
        let (tap, ready) = (&mut self.tap, &self.ready);
        let Poll::Ready(Some((weight, raw))) = self.supply.pull(|| tap.waker(ready)) else {
            return self.run_dry();
        };
        let index = self.index;
        self.index += 1;
        // What weighs nothing would never fill the room.
        let weight = weight.max(1);
        match self.seats.fit(weight) {
            Fit::Now => self.launch(index, weight, raw),
            fit => self.set_aside(fit, index, weight, raw),
        }
    }

    /// The source has nothing, for now or for good.
    #[cold]
    fn run_dry(&mut self) -> Option<Finished<T, E>> {
        self.tap.pending = !self.supply.is_exhausted();
        self.pace.close();
        None
    }

    /// It has no room yet, or can never have any.
    #[cold]
    fn set_aside(&mut self, fit: Fit, index: usize, weight: u32, raw: R) -> Option<Finished<T, E>> {
        if fit == Fit::Later {
            self.pace.close();
            self.parked = Some((index, weight, raw));
            return None;
        }
        self.listener.start();
        self.listener.tell();
        let error = self.too_large(weight);
        self.refuse(index, raw, error)
    }

    fn too_large(&self, weight: u32) -> Error<E> {
        let limit = u32::try_from(self.settings.limit).unwrap_or(u32::MAX);
        Error::refused(Refusal::too_large(weight, limit))
    }

    /// Polls the item for the first time.
    ///
    /// It takes its seat only if it is not ready: most of the bookkeeping is for those who
    /// wait.
    #[inline(always)]
    fn launch(&mut self, index: usize, weight: u32, raw: R) -> Option<Finished<T, E>> {
        self.listener.start();
        self.listener.tell();
        let seat = self.seats.next();
        if seat == self.slots.len() {
            self.add_slot(seat);
        }
        let due = if self.clock.limited {
            self.settings.due()
        } else {
            Instant::NEVER
        };
        let until = self.clock.until.min(due);
        let item = self.supply.launch(raw, Limits { until });
        let call = CallContext::root().until(until);
        match self.slots[seat].start(item, &call) {
            Ok(Poll::Ready(result)) => Some((index, result)),
            Ok(Poll::Pending) => {
                self.seats.take(Passenger { index, weight, due });
                if self.seats.is_full() {
                    self.pace.close();
                }
                None
            }
            Err(crash) => self.crashed(index, crash),
        }
    }

    #[cold]
    fn add_slot(&mut self, seat: usize) {
        self.slots.push(Slot::new(self.ready.waker_of(seat)));
    }
}

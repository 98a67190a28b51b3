//! How items are pulled and started.

use std::task::{Context, Poll};

use super::{Driver, STARTS, Step};
use crate::error::{Error, Refusal};
use crate::gather::item::{Item, Limits};
use crate::gather::progress::Listen;
use crate::gather::ready::SOURCE;
use crate::gather::seats::{Fit, Passenger};
use crate::gather::slot::{Finished, Polled, Slot};
use crate::gather::supply::Supply;
use crate::policy::CallContext;

impl<F, H, R, O, T, E> Driver<F, H, R, O>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Starts the next item, if there is one and it has room.
    #[inline]
    pub(super) fn start_next(&mut self) -> Step<T, E> {
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
        if no_room || self.tap.pending || self.index >= self.pull_until {
            return None;
        }
        let ready = &self.ready;
        let waker = self
            .tap
            .waker
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
                self.tap.pending = true;
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
        let due = self.settings.due();
        let until = self.clock.until.min(due);
        let item = self.supply.launch(raw, Limits { until });
        let seat = self.seats.next();
        if seat == self.slots.len() {
            self.slots.push(Slot::new(self.ready.waker_of(seat)));
        }
        self.slots[seat].fill(item);
        let call = CallContext::root().until(until);
        let polled = self.slots[seat].poll(&call);
        if let Polled::Ready(result) = polled {
            return Some((index, result));
        }
        let seat = self.seats.take(Passenger { index, weight, due });
        self.conclude(seat, polled)
    }
}

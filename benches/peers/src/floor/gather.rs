//! 64 slots that one future after another is polled in, where it lies.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::AcqRel;
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

const SLOTS: usize = 64;

/// Which slots were woken.
#[derive(Default)]
struct Woken {
    bits: AtomicU64,
    task: AtomicWaker,
}

/// The waker of one slot, made once.
struct OfSlot {
    bit: u64,
    woken: Arc<Woken>,
}

impl Wake for OfSlot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.woken.bits.fetch_or(self.bit, AcqRel) == 0 {
            self.woken.task.wake();
        }
    }
}

/// Drives the futures, 64 at once, and hands back what they yield in the order of their ends.
pub(crate) struct Gather<I: Iterator<Item: Future>> {
    source: I,
    woken: Arc<Woken>,
    /// As long as the slots; never grows, so that its futures stay where they are.
    slots: Vec<Option<I::Item>>,
    wakers: Vec<Waker>,
    values: Vec<<I::Item as Future>::Output>,
    running: usize,
}

impl<I: Iterator<Item: Future>> Gather<I> {
    pub(crate) fn new(source: I) -> Self {
        let woken = Arc::<Woken>::default();
        let waker = |slot| {
            let woken = Arc::clone(&woken);
            Waker::from(Arc::new(OfSlot {
                bit: 1_u64 << slot,
                woken,
            }))
        };
        Self {
            wakers: (0..SLOTS).map(waker).collect(),
            slots: (0..SLOTS).map(|_| None).collect(),
            values: Vec::with_capacity(source.size_hint().0),
            running: 0,
            source,
            woken,
        }
    }

    /// Runs one future after another in a slot, until one is pending.
    #[inline]
    fn turn(&mut self, slot: usize) {
        let cx = &mut Context::from_waker(&self.wakers[slot]);
        let place = &mut self.slots[slot];
        loop {
            if place.is_none() {
                let Some(next) = self.source.next() else {
                    return;
                };
                *place = Some(next);
                self.running += 1;
            }
            let Some(future) = place else { return };
            // SAFETY: the futures lie in a `Vec` that never grows, and are dropped in place.
            let Poll::Ready(value) = unsafe { Pin::new_unchecked(future) }.poll(cx) else {
                return;
            };
            *place = None;
            self.running -= 1;
            self.values.push(value);
        }
    }
}

impl<I: Iterator<Item: Future>> Unpin for Gather<I> {}

impl<I: Iterator<Item: Future>> Future for Gather<I> {
    type Output = Vec<<I::Item as Future>::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.woken.task.register(cx.waker());
        if this.running == 0 {
            (0..SLOTS).for_each(|slot| this.turn(slot));
        }
        let mut due = this.woken.bits.swap(0, AcqRel);
        while due != 0 {
            this.turn(due.trailing_zeros() as usize);
            due &= due - 1;
        }
        if this.running > 0 {
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut this.values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{item, yielding};

    #[test]
    fn every_value_comes() {
        let runtime = crate::meter::runtime();
        let sum = |values: Vec<u64>| values.iter().sum::<u64>();
        assert_eq!(
            sum(runtime.block_on(Gather::new((0..1000).map(item)))),
            499_500
        );
        assert_eq!(
            sum(runtime.block_on(Gather::new((0..1000).map(yielding)))),
            499_500
        );
    }
}

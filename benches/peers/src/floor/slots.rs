//! Counting in and out: two read-modify-writes of one word.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Alone;

/// Marks that somebody waits.
const WAITING: u64 = 1;
const ONE: u64 = 2;

/// So many at once.
pub(crate) struct Slots(Alone);

impl Slots {
    pub(crate) fn new(slots: u64) -> Self {
        Self(Alone(AtomicU64::new(slots * ONE)))
    }

    #[inline]
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        let word = &self.0.0;
        let mut seen = word.load(Relaxed);
        loop {
            if seen < ONE {
                return None;
            }
            match word.compare_exchange_weak(seen, seen - ONE, Acquire, Relaxed) {
                Ok(_) => return Some(Inside(self)),
                Err(other) => seen = other,
            }
        }
    }
}

pub(crate) struct Inside<'a>(&'a Slots);

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.0.0.fetch_add(ONE, Release) & WAITING != 0 {
            somebody_waits();
        }
    }
}

/// In flight: as many as like to.
#[derive(Default)]
pub(crate) struct Tracked(Alone);

impl Tracked {
    #[inline]
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.0.0.fetch_add(ONE, Relaxed);
        InFlight(self)
    }
}

pub(crate) struct InFlight<'a>(&'a Tracked);

impl Drop for InFlight<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.0.0.fetch_sub(ONE, Release) == ONE | WAITING {
            somebody_waits();
        }
    }
}

#[cold]
fn somebody_waits() {
    unreachable!("nobody waits in a floor")
}

//! A timer's place at a line.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use tokio::runtime::Handle;

use super::Instant;
use super::line::{Line, Wait};
use super::wheel::Key;
use crate::sync::global;

/// Enough that threads which arm timers rarely share one, and small: 128 bytes each.
const LINES: usize = 64;

global! { static ALL: [Line; LINES] = [Line::new(); LINES]; }

/// A timer that waits: it leaves when it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    at: Place,
    key: Key,
}

/// A line and a station at it, in four bytes: every pending call carries one.
#[derive(Clone, Copy, Debug)]
struct Place(NonZeroU32);

impl Place {
    fn new(line: usize, station: usize) -> Self {
        let place = station.checked_mul(LINES).map(|first| first + line + 1);
        let place = place.and_then(|place| u32::try_from(place).ok());
        let place = place.and_then(NonZeroU32::new);
        Self(place.expect("no process has sixty million runtimes"))
    }

    fn line(self) -> &'static Line {
        &ALL[(self.0.get() - 1) as usize % LINES]
    }

    fn station(self) -> usize {
        (self.0.get() - 1) as usize / LINES
    }
}

impl Entry {
    /// Lets a waker wait for a time at the line of this thread, in the runtime it is in.
    /// Whether the alarm has to be set; see [`rouse`](Self::rouse).
    ///
    /// Panics, with tokio's own words, where there is no runtime.
    #[inline]
    pub(super) fn new(now: Instant, until: Instant, cx: &Context<'_>) -> (Self, bool) {
        let runtime = Handle::current().id();
        let waker = cx.waker().clone();
        let line = mine();
        let (station, key, first) = ALL[line].enter(runtime, now, until, waker);
        let at = Place::new(line, station);
        (Self { at, key }, first)
    }

    /// Sets the alarm of the station.
    ///
    /// Panics, with tokio's own words, in a runtime without a timer or one that shuts down.
    #[cold]
    pub(super) fn rouse(&self) {
        if let Err(panic) = self.at.line().rouse(self.at.station()) {
            resume_unwind(panic);
        }
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Wait {
        let (line, station) = (self.at.line(), self.at.station());
        let wait = line.look(station, self.key, cx.waker(), None);
        wait.unwrap_or_else(|| {
            // What comes back in it is dropped without the lock.
            let mut waker = cx.waker().clone();
            let wait = line.look(station, self.key, cx.waker(), Some(&mut waker));
            wait.unwrap_or(Wait::Pending)
        })
    }
}

impl Drop for Entry {
    #[inline]
    fn drop(&mut self) {
        self.at.line().leave(self.at.station(), self.key);
    }
}

/// The number of this thread's line.
#[inline]
fn mine() -> usize {
    thread_local!(static MINE: Cell<Option<usize>> = const { Cell::new(None) });
    MINE.with(|mine| {
        mine.get().unwrap_or_else(|| {
            let line = choose();
            mine.set(Some(line));
            line
        })
    }) % LINES
}

#[cold]
fn choose() -> usize {
    // std's, also in a model: which line it is, decides nothing.
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: it orders nothing, two threads may well get the same.
    THREADS.fetch_add(1, Ordering::Relaxed) % LINES
}

/// How many stations a runtime has.
#[cfg(test)]
pub(super) fn stations_of(runtime: tokio::runtime::Id) -> usize {
    ALL.iter().map(|line| line.stations_of(runtime)).sum()
}

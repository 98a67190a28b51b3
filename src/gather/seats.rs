//! Who is in flight: how much room there is, and who started first. Pure.
//!
//! A seat is a place for one item that is in flight; it is used again by later ones. The
//! seats of the running items are linked in the order of their start, so that the one whose
//! time is up first is found, and any of them leaves, in O(1).

use crate::time::Instant;

const NONE: usize = usize::MAX;

/// Whether an item may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Now,
    /// When others have ended.
    Later,
    /// Never: it weighs more than the limit.
    Never,
}

/// Who sits there, while it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passenger {
    pub(super) index: usize,
    pub(super) weight: u32,
    /// When its time is up.
    pub(super) due: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    passenger: Option<Passenger>,
    /// In the order of starts; in a free seat, `behind` is the next free one.
    before: usize,
    behind: usize,
    /// Whether it stands in the order of starts: one that is being ended does not.
    linked: bool,
}

/// The seats; see the module's text.
///
/// Invariants: `used` is the sum of the weights of those who sit; the linked seats are the
/// taken ones that are not ending, oldest first; every seat is either taken or free.
#[derive(Debug)]
pub(super) struct Seats {
    limit: u64,
    used: u64,
    taken: usize,
    all: Vec<Seat>,
    /// The first free seat; the number of seats if there is none, with which the list ends.
    free: usize,
    last_free: usize,
    oldest: usize,
    newest: usize,
}

impl Seats {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit: limit as u64,
            used: 0,
            taken: 0,
            all: Vec::new(),
            free: 0,
            last_free: NONE,
            oldest: NONE,
            newest: NONE,
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.used >= self.limit
    }

    #[inline]
    pub(super) fn fit(&self, weight: u32) -> Fit {
        let weight = u64::from(weight);
        if weight > self.limit {
            Fit::Never
        } else if self.used + weight > self.limit {
            Fit::Later
        } else {
            Fit::Now
        }
    }

    /// The seat that will be taken next. A new one has the number of seats that there are.
    #[inline]
    pub(super) fn next(&self) -> usize {
        self.free
    }

    /// Takes the [`next`](Self::next) seat, as the newest.
    #[inline(always)]
    pub(super) fn take(&mut self, passenger: Passenger) -> usize {
        let seat = self.free;
        let taken = Seat {
            passenger: Some(passenger),
            before: self.newest,
            behind: NONE,
            linked: true,
        };
        if let Some(free) = self.all.get_mut(seat) {
            self.free = free.behind;
            *free = taken;
        } else {
            self.all.push(taken);
            self.free = self.all.len();
        }
        match self.newest {
            NONE => self.oldest = seat,
            newest => self.all[newest].behind = seat,
        }
        self.newest = seat;
        self.used += u64::from(passenger.weight);
        self.taken += 1;
        seat
    }

    #[inline(always)]
    pub(super) fn passenger(&self, seat: usize) -> Option<&Passenger> {
        self.all.get(seat)?.passenger.as_ref()
    }

    /// The seat of the one who started first, of those that are not ending.
    pub(super) fn oldest(&self) -> Option<usize> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// When the first one's time is up.
    pub(super) fn first_due(&self) -> Instant {
        let oldest = self.passenger(self.oldest);
        oldest.map_or(Instant::NEVER, |passenger| passenger.due)
    }

    /// Takes it out of the order of starts: it is being ended, and keeps its seat meanwhile.
    #[inline(always)]
    pub(super) fn unlink(&mut self, seat: usize) {
        let Seat {
            before,
            behind,
            linked,
            ..
        } = self.all[seat];
        if !linked {
            return;
        }
        self.all[seat].linked = false;
        match before {
            NONE => self.oldest = behind,
            before => self.all[before].behind = behind,
        }
        match behind {
            NONE => self.newest = before,
            behind => self.all[behind].before = before,
        }
    }

    /// Frees a seat; who sat there.
    #[inline(always)]
    pub(super) fn leave(&mut self, seat: usize) -> Option<Passenger> {
        let passenger = self.all.get(seat)?.passenger?;
        self.unlink(seat);
        // The one that has been free for the longest time is the next, so that items which
        // take turns keep their order: the seats of a round are named in theirs.
        let end = self.all.len();
        self.all[seat].passenger = None;
        self.all[seat].behind = end;
        if self.free == end {
            self.free = seat;
        } else {
            self.all[self.last_free].behind = seat;
        }
        self.last_free = seat;
        self.used -= u64::from(passenger.weight);
        self.taken -= 1;
        Some(passenger)
    }

    /// Frees all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::new(usize::try_from(self.limit).unwrap_or(usize::MAX));
    }
}

//! Who has been woken: one bit for each seat, and a summary of them.
//!
//! A waker sets the bit of its seat. The first to set one of a chunk of 64 sets the chunk's
//! bit in the summary, and the first to set one of those wakes the gather's task. While the
//! gather is awake the summary is never zero, so that nobody wakes its task for nothing.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::mem;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use crate::sync::Lock;
use crate::sync::atomic::{AtomicU64, Ordering};

/// In the summary: the gather will look again before it sleeps.
const AWAKE: u64 = 1 << 63;
/// In the summary: the gather's timer was woken.
pub(super) const TIMER: u64 = 1 << 62;
/// In the summary: the source was woken.
pub(super) const SOURCE: u64 = 1 << 61;
/// The chunks share the bits below, when there are more than these.
const GROUPS: usize = 61;
const SEATS: usize = u64::BITS as usize;

#[derive(Debug)]
struct Hub {
    summary: AtomicU64,
    task: Lock<Option<Waker>>,
}

impl Hub {
    fn mark(&self, bits: u64) {
        // Release: what the one who wakes has written is seen by the gather, whose swap
        // acquires. Acquire: who finds the gather asleep also finds the waker it has left.
        if self.summary.fetch_or(bits, Ordering::AcqRel) == 0 {
            let task = self.task.lock().take();
            task.into_iter().for_each(Waker::wake);
        }
    }
}

#[derive(Debug)]
struct Chunk {
    woken: AtomicU64,
    hub: Arc<Hub>,
    group: u64,
}

/// Wakes one seat.
#[derive(Debug)]
struct SeatWaker {
    chunk: Arc<Chunk>,
    bit: u64,
}

impl Wake for SeatWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Pairs with the swap in `Ready::next`, as above. Who finds the word not empty need
        // do nothing more: whoever made it so marks the summary afterwards.
        if self.chunk.woken.fetch_or(self.bit, Ordering::AcqRel) == 0 {
            self.chunk.hub.mark(self.chunk.group);
        }
    }
}

/// Wakes what is no seat: the timer, the source.
#[derive(Debug)]
struct OtherWaker {
    hub: Arc<Hub>,
    bit: u64,
}

impl Wake for OtherWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.hub.mark(self.bit);
    }
}

/// The set of those who were woken, as the gather sees it.
///
/// It is emptied in rounds: everyone woken before a round is named in it once, before anyone
/// is named again.
#[derive(Debug)]
pub(super) struct Ready {
    hub: Arc<Hub>,
    chunks: Vec<Arc<Chunk>>,
    /// Whether `AWAKE` is set.
    awake: bool,
    /// What is left of this round: the groups, and of these the ones in the row of chunks in hand,
    /// which begins with this chunk; the chunk in hand, and its seats.
    ///
    /// It goes from row to row, so that seats are named in the order of their numbers.
    groups: u64,
    row_groups: u64,
    row: usize,
    chunk: usize,
    seats: u64,
}

impl Ready {
    pub(super) fn new() -> Self {
        Self {
            hub: Arc::new(Hub {
                summary: AtomicU64::new(AWAKE),
                task: Lock::new(None),
            }),
            chunks: Vec::new(),
            awake: true,
            groups: 0,
            row_groups: 0,
            row: 0,
            chunk: 0,
            seats: 0,
        }
    }

    /// The waker of a seat. Made once for each.
    pub(super) fn waker_of(&mut self, seat: usize) -> Waker {
        let chunk = seat / SEATS;
        while self.chunks.len() <= chunk {
            self.chunks.push(Arc::new(Chunk {
                woken: AtomicU64::new(0),
                hub: Arc::clone(&self.hub),
                group: 1 << (self.chunks.len() % GROUPS),
            }));
        }
        Waker::from(Arc::new(SeatWaker {
            chunk: Arc::clone(&self.chunks[chunk]),
            bit: 1 << (seat % SEATS),
        }))
    }

    /// The waker of the timer or the source.
    pub(super) fn waker_of_bit(&self, bit: u64) -> Waker {
        Waker::from(Arc::new(OtherWaker {
            hub: Arc::clone(&self.hub),
            bit,
        }))
    }

    /// The gather is being polled: from now on nobody need wake it.
    pub(super) fn wake_up(&mut self) {
        if !mem::replace(&mut self.awake, true) {
            // Relaxed would do: the marks are read by the swap that begins a round.
            self.hub.summary.fetch_or(AWAKE, Ordering::AcqRel);
        }
    }

    /// Whether the gather has not gone to sleep since it was polled.
    pub(super) fn is_awake(&self) -> bool {
        self.awake
    }

    /// Whether the gather is awake, and nobody was woken: a look only. What comes later is
    /// found by `sleep`.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.hub.summary.load(Ordering::Relaxed) == AWAKE
    }

    /// Begins a round if anybody was woken; of the timer and the source, which were.
    pub(super) fn begin_round(&mut self) -> u64 {
        // A look first, which is cheaper.
        if self.is_quiet() {
            return 0;
        }
        let marks = self.hub.summary.swap(AWAKE, Ordering::AcqRel) & !AWAKE;
        self.groups = marks & !(TIMER | SOURCE);
        self.row_groups = self.groups;
        self.row = 0;
        marks
    }

    /// Whether there are seats at hand that this round has not named yet.
    #[inline]
    pub(super) fn is_in_hand(&self) -> bool {
        self.seats != 0
    }

    #[inline]
    pub(super) fn is_round_over(&mut self) -> bool {
        while self.seats == 0 && self.groups != 0 {
            self.next_chunk();
        }
        self.seats == 0
    }

    /// The next seat of this round.
    #[inline]
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.is_round_over() {
            return None;
        }
        let bit = self.seats.trailing_zeros() as usize;
        self.seats &= self.seats - 1;
        Some(self.chunk * SEATS + bit)
    }

    #[inline(never)]
    fn next_chunk(&mut self) {
        if self.row_groups == 0 {
            self.row_groups = self.groups;
            self.row += GROUPS;
        }
        self.chunk = self.row + self.row_groups.trailing_zeros() as usize;
        self.row_groups &= self.row_groups - 1;
        match self.chunks.get(self.chunk) {
            Some(chunk) => self.seats = chunk.woken.swap(0, Ordering::AcqRel),
            // Whatever comes after it is not there either.
            None => self.groups = 0,
        }
    }

    /// Goes to sleep until somebody is woken; `false` when somebody has been meanwhile.
    pub(super) fn sleep(&mut self, cx: &Context<'_>) -> bool {
        self.leave_waker(cx);
        // Release: the waker that was left is seen by who finds zero.
        let slept =
            self.hub
                .summary
                .compare_exchange(AWAKE, 0, Ordering::AcqRel, Ordering::Relaxed);
        self.awake = slept.is_err();
        slept.is_ok()
    }

    /// A waker's clone and drop are foreign code, and happen outside of the lock.
    fn leave_waker(&self, cx: &Context<'_>) {
        let same = |old: &Waker| old.will_wake(cx.waker());
        if self.hub.task.lock().as_ref().is_some_and(same) {
            return;
        }
        let new = cx.waker().clone();
        let old = self.hub.task.lock().replace(new);
        drop(old);
    }

    /// Forgets the task: wakers that outlive the gather must not hold it.
    pub(super) fn close(&self) -> Option<Waker> {
        self.hub.task.lock().take()
    }
}

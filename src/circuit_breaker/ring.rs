//! The latest calls, two bits each.

use super::batch::Batch;
use super::window::Counts;

const WORD: usize = u64::BITS as usize;

/// The outcomes of the latest `size` calls.
///
/// Invariants:
/// - It is filled downwards, and from the top again when it has come to the bottom, so that
///   calls that follow each other stand as they do in a [`Batch`]: the latest lowest.
/// - `next` is the place above the next call's; what was there is the oldest call, or none.
/// - Places that hold no call say neither failed nor slow.
#[derive(Debug)]
pub(super) struct Ring {
    size: usize,
    calls: usize,
    next: usize,
    failed: Marks,
    slow: Marks,
}

impl Ring {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            calls: 0,
            next: size,
            failed: Marks::new(size),
            slow: Marks::new(size),
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Each call takes the place of the oldest. Up to 64 calls are one step.
    pub(super) fn record(&mut self, batch: Batch) {
        let mut left = capped(batch.calls(), self.size);
        self.calls = self.size.min(self.calls + left);
        while left > 0 {
            if self.next == 0 {
                self.next = self.size;
            }
            let room = (self.next - 1) % WORD + 1;
            let calls = left.min(room);
            self.next -= calls;
            left -= calls;
            self.failed
                .replace(self.next, calls, from(batch.failed(), left));
            self.slow
                .replace(self.next, calls, from(batch.slow(), left));
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            calls: self.calls as u64,
            failures: self.failed.ones,
            slow: self.slow.ones,
        }
    }

    pub(super) fn clear(&mut self) {
        self.calls = 0;
        self.failed.clear();
        self.slow.clear();
    }

    pub(super) fn is_full_of_plain_successes(&self) -> bool {
        self.calls == self.size && self.failed.ones == 0 && self.slow.ones == 0
    }
}

/// No more than `most`.
fn capped(calls: u64, most: usize) -> usize {
    usize::try_from(calls).map_or(most, |calls| calls.min(most))
}

/// The history without its latest calls.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a batch holds fewer than 256 calls"
)]
fn from(history: u64, latest: usize) -> u64 {
    history.checked_shr(latest as u32).unwrap_or(0)
}

/// One bit for each place, and how many of them are set.
#[derive(Debug)]
struct Marks {
    words: Box<[u64]>,
    ones: u64,
}

impl Marks {
    fn new(size: usize) -> Self {
        Self {
            words: vec![0; size.div_ceil(WORD)].into(),
            ones: 0,
        }
    }

    /// Sets so many places from `at` on, all within one word, to the lowest bits of `marks`.
    fn replace(&mut self, at: usize, places: usize, marks: u64) {
        let mask = u64::MAX >> (WORD - places);
        // Mostly there is nothing to write.
        if self.ones == 0 && marks & mask == 0 {
            return;
        }
        let word = &mut self.words[at / WORD];
        let shift = at % WORD;
        let new = (marks & mask) << shift;
        let old = *word & mask << shift;
        *word ^= old ^ new;
        self.ones += u64::from(new.count_ones());
        self.ones -= u64::from(old.count_ones());
    }

    fn clear(&mut self) {
        if self.ones > 0 {
            self.words.fill(0);
            self.ones = 0;
        }
    }
}

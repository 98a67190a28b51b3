//! Results on their way to the state: counted in one word, by one exchange each, while no
//! decision hangs on them.
//!
//! The state says by its [`Terms`] what it need not be asked about. What is counted by these
//! is a [`Batch`], which it is told before it does anything else.
//!
//! Invariants:
//! - Only who holds the state's lock shuts the inbox, opens it, or takes what is in it. It is
//!   shut all the while that something is done which may change the state, or make it forget:
//!   whatever was counted comes before that, in the order in which it was counted, and nothing
//!   comes in between. The window on which the state decides is whole.
//! - Nothing is lost or told twice: who takes what was counted takes all of it, in one change
//!   of the word.
//! - The word says by which terms it counts. Who judged by an older word fails to exchange
//!   it, and judges anew; the same word means the same terms.
//! - A word counts for one generation. A result of another one finds no word that it could
//!   exchange, and has to ask: the state then ignores it.
//! - What was counted for certain opens nothing, whatever is counted besides: so the inbox
//!   need not be shut to be emptied.

#[cfg(all(test, mainstay_loom))]
mod loom;

use super::batch::{self, Batch, MOST};
use super::window::Outcome;
use crate::sync::CacheLine;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::Instant;

/// Above the batch stands how many failures or slow calls there is still room for,
const ROOM: u32 = batch::BITS;
/// of at most so many;
pub(super) const MOST_ROOM: u32 = 7;
/// then whether a plain success changes nothing;
const QUIET: u64 = 1 << (ROOM + 3);
/// and on top 24 bits of the generation. They may wrap: who puts a result in has just seen
/// the whole generation, and nobody sleeps between this and the exchange for a multiple of
/// 16 million changes of state.
const GENERATION: u32 = ROOM + 4;
/// One call more than ever fits: everyone has to ask.
const SHUT: Word = Word(((MOST + 1) as u64) << (batch::BITS - 8));

/// What may be counted without asking the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Results of calls admitted in it.
    pub(super) generation: u64,
    /// A plain success would change nothing at all, and need not be counted either.
    pub(super) quiet: bool,
    /// So many failures or slow calls, and any number of plain successes.
    pub(super) room: u32,
    /// What ends before this time.
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) struct Inbox(CacheLine<Shared>);

/// Both are read for each result, so that they share a line.
#[derive(Debug)]
struct Shared {
    word: AtomicU64,
    until: AtomicU64,
}

impl Inbox {
    pub(super) fn new(terms: Option<Terms>) -> Self {
        let until = terms.map_or(0, |terms| terms.until.as_nanos());
        Self(CacheLine::new(Shared {
            word: AtomicU64::new(Word::of(terms).0),
            until: AtomicU64::new(until),
        }))
    }

    /// Whether the terms hold no more at this time.
    #[inline]
    pub(super) fn is_over(&self, now: Instant) -> bool {
        // Acquire pairs with the Release in `open`: whoever sees the end of a step finds no
        // word to exchange from before the inbox was shut for that step. An end that is too
        // old is not later, and at worst lets the state be asked.
        now.as_nanos() >= self.0.until.load(Ordering::Acquire)
    }

    /// Counts a result; `false`: the state has to be asked.
    #[inline]
    pub(super) fn put(&self, generation: u64, outcome: Outcome) -> bool {
        // Relaxed, here and everywhere: the word is all that there is to see. The order of
        // its changes is the order in which the results count.
        let mut word = Word(self.0.word.load(Ordering::Relaxed));
        loop {
            let next = match word.with(generation, outcome) {
                Put::Counted(next) => next,
                Put::Nothing => return true,
                Put::Ask => return false,
            };
            match self.0.word.compare_exchange_weak(
                word.0,
                next.0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(newer) => word = Word(newer),
            }
        }
    }

    /// Takes what was counted; now all have to ask. Only under the state's lock.
    pub(super) fn shut(&self) -> Batch {
        Word(self.0.word.swap(SHUT.0, Ordering::Relaxed)).batch()
    }

    /// Takes what was counted, and lets others count on by what is left of the terms. `None`
    /// where it is shut. Only under the state's lock; then `renew`.
    pub(super) fn take(&self) -> Option<Batch> {
        // Under the lock nobody else shuts it or opens it.
        if self.0.word.load(Ordering::Relaxed) == SHUT.0 {
            return None;
        }
        let word = self.0.word.fetch_and(!Batch::MASK, Ordering::Relaxed);
        Some(Word(word).batch())
    }

    /// Changes the terms for those of a state that has been told what was taken. Only under
    /// its lock, after `take`.
    pub(super) fn renew(&self, terms: Option<Terms>) {
        let fresh = Word::of(terms);
        let _ = self
            .0
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                Some(fresh.after(Word(word).batch()).0)
            });
    }

    /// Lets count by the state's terms. Only under its lock, after `shut`.
    pub(super) fn open(&self, terms: Option<Terms>) {
        if let Some(terms) = terms {
            // Release pairs with the Acquire in `is_over`.
            self.0
                .until
                .store(terms.until.as_nanos(), Ordering::Release);
        }
        self.0.word.store(Word::of(terms).0, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

/// What becomes of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Counted(Word),
    Nothing,
    Ask,
}

impl Word {
    fn of(terms: Option<Terms>) -> Self {
        terms.map_or(SHUT, |terms| {
            let room = u64::from(terms.room.min(MOST_ROOM)) << ROOM;
            let quiet = if terms.quiet { QUIET } else { 0 };
            Self(room | quiet | terms.generation << GENERATION)
        })
    }

    #[inline]
    fn with(self, generation: u64, outcome: Outcome) -> Put {
        let plain = outcome.is_plain_success();
        if (self.0 ^ generation << GENERATION) >> GENERATION != 0 {
            return Put::Ask;
        }
        if plain && self.0 & QUIET != 0 {
            return Put::Nothing;
        }
        if !plain && self.room() == 0 {
            return Put::Ask;
        }
        let terms = if plain { self } else { self.less(1) };
        let batch = Batch::from_bits(self.0).with(outcome);
        batch.map_or(Put::Ask, |batch| Put::Counted(terms.holding(batch)))
    }

    /// These terms when some of them have been used up by a batch that was counted meanwhile.
    fn after(self, batch: Batch) -> Self {
        let marked = (batch.failed() | batch.slow()).count_ones();
        let left = if marked > 0 {
            self.less(marked.into())
        } else {
            self
        };
        left.holding(batch)
    }

    /// With less room, and after something that a plain success does change.
    fn less(self, room: u64) -> Self {
        Self((self.0 - (room.min(self.room()) << ROOM)) & !QUIET)
    }

    fn holding(self, batch: Batch) -> Self {
        Self(self.0 & !Batch::MASK | batch.bits())
    }

    fn room(self) -> u64 {
        self.0 >> ROOM & u64::from(MOST_ROOM)
    }

    fn batch(self) -> Batch {
        if self == SHUT {
            Batch::default()
        } else {
            Batch::from_bits(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Outcome = Outcome {
        failed: false,
        slow: false,
    };
    const FAILED: Outcome = Outcome {
        failed: true,
        slow: false,
    };
    const TERMS: Terms = Terms {
        generation: 5,
        quiet: false,
        room: 3,
        until: Instant::NEVER,
    };

    fn inbox(terms: Terms) -> Inbox {
        Inbox::new(Some(terms))
    }

    fn taken(inbox: &Inbox) -> (u64, u64) {
        let batch = inbox.shut();
        (batch.calls(), batch.failed())
    }

    #[test]
    fn failures_ask_when_there_is_no_room_and_successes_do_not() {
        let inbox = inbox(TERMS);
        assert!((0..3).all(|_| inbox.put(5, FAILED)));
        assert!(!inbox.put(5, FAILED));
        assert!(inbox.put(5, OK));
        assert_eq!(taken(&inbox), (4, 0b1110));
    }

    #[test]
    fn a_shut_inbox_and_one_of_another_generation_count_nothing() {
        let inbox = inbox(TERMS);
        assert!(
            [0, 4, 6, 5 + (1 << 23)]
                .iter()
                .all(|of| !inbox.put(*of, OK))
        );
        assert_eq!(taken(&inbox), (0, 0));
        assert!([0, 5].iter().all(|of| !inbox.put(*of, OK)));
        assert_eq!((inbox.take(), taken(&inbox)), (None, (0, 0)));
        inbox.open(None);
        assert!((0..10_000).all(|of| !inbox.put(of, OK)));
        inbox.open(Some(TERMS));
        assert!(inbox.put(5, OK));
    }

    /// Every bit of the word belongs to one thing.
    #[test]
    fn a_large_generation_and_the_most_room_leave_the_rest_alone() {
        let generation = u64::MAX >> 3;
        let inbox = inbox(Terms {
            generation,
            room: u32::MAX,
            ..TERMS
        });
        assert!((0..MOST_ROOM).all(|_| inbox.put(generation, FAILED)));
        assert!(!inbox.put(generation, FAILED));
        assert_eq!(taken(&inbox), (7, 0b111_1111));
    }

    #[test]
    fn a_quiet_inbox_counts_from_its_first_failure_on() {
        let inbox = inbox(Terms {
            quiet: true,
            ..TERMS
        });
        assert!((0..1_000).all(|_| inbox.put(5, OK)));
        assert!(inbox.put(5, FAILED) && inbox.put(5, OK));
        assert_eq!(taken(&inbox), (2, 0b10));
    }

    #[test]
    fn what_is_counted_while_the_state_is_told_uses_up_the_new_terms() {
        let inbox = inbox(TERMS);
        assert!(inbox.put(5, OK));
        assert_eq!(inbox.take().map(Batch::calls), Some(1));
        assert!(inbox.put(5, FAILED) && inbox.put(5, FAILED));
        inbox.renew(Some(Terms {
            quiet: true,
            ..TERMS
        }));
        assert!(inbox.put(5, OK) && inbox.put(5, FAILED));
        assert!(!inbox.put(5, FAILED));
        assert_eq!(taken(&inbox), (5 - 1, 0b1101));
        // Less room than what was counted meanwhile.
        inbox.open(Some(TERMS));
        inbox.take();
        assert!(inbox.put(5, FAILED) && inbox.put(5, FAILED));
        inbox.renew(Some(Terms { room: 1, ..TERMS }));
        assert!(!inbox.put(5, FAILED) && inbox.put(5, OK));
    }

    #[test]
    fn a_call_that_failed_and_was_slow_uses_up_one_of_the_new_terms() {
        let inbox = inbox(TERMS);
        inbox.take();
        let both = Outcome {
            failed: true,
            slow: true,
        };
        assert!(inbox.put(5, both));
        inbox.renew(Some(Terms { room: 2, ..TERMS }));
        assert!(inbox.put(5, FAILED) && !inbox.put(5, FAILED));
    }

    #[test]
    fn the_terms_end_with_their_time() {
        let inbox = inbox(Terms {
            until: Instant::from_nanos(9),
            ..TERMS
        });
        assert!(!inbox.is_over(Instant::from_nanos(8)));
        assert!(inbox.is_over(Instant::from_nanos(9)));
    }
}

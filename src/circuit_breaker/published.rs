//! What every call sees of the state without taking its lock.
//!
//! Written only under the lock that guards the state, so that each value read here was
//! true at the moment of the reading.

#[cfg(all(test, mainstay_loom))]
mod loom;

use super::events::CircuitState;
use super::state::State;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::Instant;

/// The latest state, as one word, and when an open breaker may become half-open.
#[derive(Debug)]
pub(super) struct Published {
    word: AtomicU64,
    open_until: AtomicU64,
}

/// The state in bits 0 to 2, the generation above.
///
/// 61 bits of generation do not wrap: at a change each nanosecond they last 73 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    fn of(state: &State) -> Self {
        Self(bits(state.state()) | (state.generation() << 3))
    }

    /// Whether every call passes, without asking.
    #[inline]
    pub(super) fn lets_pass(self) -> bool {
        self.0 & STATE <= bits(LAST_TO_PASS)
    }

    #[inline]
    pub(super) fn is(self, state: CircuitState) -> bool {
        self.0 & STATE == bits(state)
    }

    pub(super) fn state(self) -> CircuitState {
        match self.0 & STATE {
            0 => CircuitState::Closed,
            1 => CircuitState::MetricsOnly,
            2 => CircuitState::Disabled,
            3 => CircuitState::HalfOpen,
            4 => CircuitState::Open,
            _ => CircuitState::ForcedOpen,
        }
    }

    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 >> 3
    }
}

const STATE: u64 = 7;
const LAST_TO_PASS: CircuitState = CircuitState::Disabled;

/// Those that let every call pass come first.
const fn bits(state: CircuitState) -> u64 {
    match state {
        CircuitState::Closed => 0,
        CircuitState::MetricsOnly => 1,
        CircuitState::Disabled => 2,
        CircuitState::HalfOpen => 3,
        CircuitState::Open => 4,
        CircuitState::ForcedOpen => 5,
    }
}

impl Published {
    pub(super) fn new(state: &State) -> Self {
        Self {
            word: AtomicU64::new(Word::of(state).0),
            open_until: AtomicU64::new(state.open_until().as_nanos()),
        }
    }

    /// To be called under the state's lock, after each operation on it. `false`: nothing
    /// has changed that is to be seen here.
    pub(super) fn update(&self, state: &State) -> bool {
        let word = Word::of(state).0;
        // Relaxed: all writers hold the lock, so this reads what the last of them wrote. A
        // word that stays is not written again: its cache line stays with its readers.
        if self.word.load(Ordering::Relaxed) == word {
            return false;
        }
        // Only while open: a reader late with an older word that said open then finds a
        // time that is over, and asks the state.
        if matches!(state.state(), CircuitState::Open | CircuitState::ForcedOpen) {
            // Relaxed: made visible by the store of the word below.
            let until = state.open_until().as_nanos();
            self.open_until.store(until, Ordering::Relaxed);
        }
        // Release pairs with the Acquire in `word`: who sees this word as open sees the
        // time above, or a later one.
        self.word.store(word, Ordering::Release);
        true
    }

    /// The latest state.
    #[inline]
    pub(super) fn word(&self) -> Word {
        // Acquire pairs with the Release in `update`.
        Word(self.word.load(Ordering::Acquire))
    }

    /// When the breaker may become half-open, to be read after a word that said open: the
    /// time of that opening, or of a later one.
    pub(super) fn open_until(&self) -> Instant {
        // Relaxed: ordered by the Acquire in `word`.
        Instant::from_nanos(self.open_until.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_survives_the_word() {
        use CircuitState::{Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open};
        for state in [Closed, Open, HalfOpen, ForcedOpen, Disabled, MetricsOnly] {
            for generation in [0, 1, 1 << 60] {
                let word = Word(bits(state) | (generation << 3));
                assert_eq!((word.state(), word.generation()), (state, generation));
                let passes = [Closed, Disabled, MetricsOnly].contains(&state);
                assert_eq!(word.lets_pass(), passes);
                assert!(word.is(state) && !(word.is(Open) && state != Open));
            }
        }
    }
}

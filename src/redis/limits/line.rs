//! What the lines of callers of both limits have in common.

use crate::error::Refusal;

/// What becomes of a call that asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It needs nothing.
    Free,
    /// It will be answered; until then it has a place under this number.
    Waits(u64),
    Refused(Refusal),
}

/// How calls have been decided so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) granted: u64,
    pub(super) refused: u64,
    pub(super) questions: u64,
    pub(super) failures: u64,
}

//! What stands in the book, and what it is told.

use std::sync::Arc;
use std::time::Duration;

use super::super::super::types::SessionId;
use crate::retry::Backoff;
use crate::time::Instant;

/// What is to end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Target {
    /// A session.
    Session(SessionId),
    /// Whatever carries the label of this creation.
    Creation(Arc<str>),
}

/// How the reaper works.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Rules {
    /// So many ends at once, at least 1.
    pub(in super::super) concurrency: usize,
    /// After so many failures it gives up, at least 1.
    pub(in super::super) max_attempts: u32,
    /// Between two tries.
    pub(in super::super) backoff: Backoff,
    /// So many looks in a row that find nothing end a search, at least 1.
    pub(in super::super) looks: u32,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stage: Stage,
    pub(super) failures: u32,
    /// Looks in a row that have found nothing.
    pub(super) empty: u32,
    /// Of a creation: the session that has come of it, and stays.
    pub(super) kept: Option<SessionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Someone has its guard.
    Held,
    /// Its owner ends it.
    Closing,
    Due {
        at: Instant,
        /// The other side has named the time.
        named: bool,
    },
    Running,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) deleted: u64,
    pub(super) already_gone: u64,
    pub(super) found: u64,
    pub(super) failures: u64,
    pub(super) given_up: u64,
    pub(super) stranded: u64,
}

/// How a try has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum End {
    /// The session is gone; whether it was before.
    Gone { before: bool },
    /// These carry the label.
    Looked(Vec<SessionId>),
    /// It was tried, and when to come back, if that was said.
    Failed(Option<Duration>),
}

/// What comes of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Course {
    /// It is over.
    Done,
    /// It will be tried again, after so many failures.
    Again(u32),
    /// It is given up, after so many failures.
    GivenUp(u32),
}

impl Stage {
    /// To be tried then, or earlier in a hurry.
    pub(super) const fn due(at: Instant) -> Self {
        Self::Due { at, named: false }
    }
}

impl Entry {
    pub(super) const fn new(stage: Stage, kept: Option<SessionId>) -> Self {
        Self {
            stage,
            failures: 0,
            empty: 0,
            kept,
        }
    }
}

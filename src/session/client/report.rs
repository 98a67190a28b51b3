//! What a client tells of the sessions that it ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::SessionError;
use super::super::types::SessionId;
use crate::Error;

/// The sessions that a client answers for, and those that it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaperSnapshot {
    /// Sessions whose guard is held.
    pub held: u64,
    /// Sessions that wait for their end, or for the next try.
    pub waiting: u64,
    /// Sessions whose end is under way.
    pub ending: u64,
    /// Creations whose session may be there although nobody knows of it: it is looked for.
    pub searching: u64,
    /// Sessions that have ended.
    pub deleted: u64,
    /// Of these, the ones that were gone already.
    pub already_gone: u64,
    /// Sessions that were found by their label after their reply was lost, to be ended.
    pub found: u64,
    /// Tries that failed.
    pub failures: u64,
    /// What was given up: it may be there still.
    pub given_up: u64,
    /// How often there was no runtime to end something in.
    pub stranded: u64,
}

impl ReaperSnapshot {
    /// What is still to be ended, and what is held.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.held + self.waiting + self.ending + self.searching
    }
}

/// What the reaper tells its listener.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReaperEvent {
    /// A session is gone.
    #[non_exhaustive]
    Deleted {
        /// Its name.
        id: SessionId,
        /// Whether it was gone before.
        already_gone: bool,
    },
    /// A try has failed, and there will be another one.
    #[non_exhaustive]
    Failed {
        /// What was to end.
        what: Reaped,
        /// So many tries have failed.
        failures: u32,
        /// Why this one did.
        error: Error<SessionError>,
    },
    /// No further try will be made: it may be there still.
    #[non_exhaustive]
    GaveUp {
        /// What was to end.
        what: Reaped,
        /// So many tries have failed.
        failures: u32,
        /// Why the last one did; `None` when a shutdown cut it short.
        error: Option<Error<SessionError>>,
    },
    /// There is no runtime to work in: what waits goes on with the next call that is made in
    /// one, and else stays.
    #[non_exhaustive]
    Stranded {
        /// So many wait.
        waiting: u64,
    },
}

/// What the reaper was to end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reaped {
    /// This session.
    Session(SessionId),
    /// Whatever carries [`CREATE_LABEL`](super::CREATE_LABEL) with this value.
    Creation(Arc<str>),
}

impl fmt::Display for Reaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session {id}"),
            Self::Creation(key) => write!(f, "sessions of creation {key}"),
        }
    }
}

/// How the end of a client went; see
/// [`SessionClient::close_within`](super::SessionClient::close_within).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientReport {
    /// Whether every session is gone, and none was given up.
    pub is_drained: bool,
    /// How long it took.
    pub took: Duration,
    /// What there was at the end.
    pub sessions: ReaperSnapshot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_flight_is_all_that_has_not_ended() {
        let snapshot = ReaperSnapshot {
            held: 1,
            waiting: 20,
            ending: 300,
            searching: 4000,
            deleted: 50_000,
            ..ReaperSnapshot::default()
        };
        assert_eq!(snapshot.in_flight(), 4321);
    }

    #[test]
    fn what_was_to_end_has_a_name() {
        let session = Reaped::Session(SessionId::new("s1"));
        assert_eq!(session.to_string(), "session s1");
        let creation = Reaped::Creation("c1".into());
        assert_eq!(creation.to_string(), "sessions of creation c1");
    }
}

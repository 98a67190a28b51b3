//! What a client knows about itself at one moment.

use std::time::Duration;

use super::RpcError;

/// A client's connection and its calls at one moment, with totals since it was built.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// How the connection is.
    pub state: LinkState,
    /// Calls whose reply is waited for, and what waits to be sent.
    pub pending: usize,
    /// Those of them that have not been sent.
    pub queued: usize,
    /// Replies to calls that had timed out, were dropped, cut short by a close, or were lost with
    /// a connection.
    pub late: u64,
    /// Second replies to the same call, or so late that the call is forgotten (1024 newer ones
    /// were given up since).
    pub duplicate: u64,
    /// Replies to what was never asked, with an id of another kind, or with none.
    pub unknown: u64,
    /// Messages by no rule of the protocol: no JSON, binary, wrong types.
    pub malformed: u64,
    /// Requests of the server's own, which are not served.
    pub requests: u64,
    /// Notifications that came in, whether anyone listened or not.
    pub notifications: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub failed_connects: u64,
    /// Connections that were lost.
    pub lost: u64,
    /// What went wrong with the connection last, and is not over.
    pub problem: Option<RpcError>,
}

/// How the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// Nobody has asked for one yet, or the runtime that it was in has ended.
    Idle,
    /// It is being made.
    Connecting,
    /// It is there.
    #[non_exhaustive]
    Up {
        /// For so long.
        age: Duration,
    },
    /// It is not.
    #[non_exhaustive]
    Down {
        /// The next attempt follows in so long.
        retry_after: Duration,
    },
    /// The client was closed.
    Closed,
}

impl LinkState {
    /// Whether the connection is there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

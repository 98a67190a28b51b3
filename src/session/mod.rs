//! Sessions that run commands and code and keep files, here or at a service.
//!
//! [`SessionProvider`] is what somebody offers who has sessions; it does each thing once, and
//! says of each failure whether the thing may have happened ([`Effect`]). All else stands
//! around it.

#[cfg(feature = "agentbay")]
mod agentbay;
#[cfg(unix)]
mod embedded;
mod error;
mod provider;
mod types;

#[cfg(feature = "agentbay")]
pub use agentbay::{AgentBay, AgentBayBuilder, SessionLink, Tool};
#[cfg(unix)]
pub use embedded::{EmbeddedBuilder, EmbeddedProvider, FileInfo, FoundFiles};
pub use error::{Effect, SessionError, SessionErrorKind};
pub use provider::SessionProvider;
pub use types::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Entry, EntryKind, FileRange,
    Labels, ListSessions, SessionId, SessionInfo, SessionPage, SessionStatus, WriteMode, Written,
};

//! Sessions that run commands and code and keep files, here or at a service.
//!
//! A *session* is a small computer of your own for a while: a shell, files, labels. Somebody
//! has it (a [`SessionProvider`]: this machine, or a service), and it costs something for as
//! long as it is there. So two things matter: that calls survive what fails on the way, and that
//! no session is forgotten.
//!
//! ```text
//!   your code
//!      |   create, run, read_file, close ...           run_many(commands).limit(10)
//!      v                                                    |
//!   Session  <--- lends --- SessionPool  <------------------+
//!      |  dropped
//!      |  instead of closed ----------------> reaper: ends it, until it is gone
//!      v                                         |
//!   SessionClient: a pipeline for each kind of operation (time limit, retry of what may be
//!      |           repeated, one circuit breaker, a limit on creations)
//!      v                                         v
//!   SessionProvider: does each thing once, and says of a failure whether it may have happened
//! ```
//!
//! | you want | you take |
//! |---|---|
//! | a session, and to know that it ends | [`SessionClient::create`], [`Session::close`] |
//! | many commands in one session | [`Session::run_many`] |
//! | many commands over a few sessions | [`SessionPool::run_many`] |
//! | to see what becomes of a session | [`Session::monitor`] |
//! | to go on with one that is there | [`SessionClient::attach`], [`Session::detach`] |
//! | all there are | [`SessionClient::list`] |
//! | to end in order | [`SessionClient::close_within`], or the client and the pool as components of a [`Shutdown`](crate::Shutdown) |
//! | code that is not async | [`blocking`] |
//! | sessions on this machine (Unix) | [`EmbeddedProvider`] |
//! | a service of your own | [`SessionProvider`] |
//!
//! # Errors
//!
//! Each call yields [`Error<SessionError>`](crate::Error). The [`SessionError`] is what the
//! provider has said: of which [kind](SessionErrorKind) it is, whether it may have happened all
//! the same ([`Effect`]), its request id, and when to come back. A command that fails is no
//! error: [`CommandResult`] has its exit code.
//!
//! # What is never leaked, and what can be
//!
//! Every future can be dropped at any point, every guard on any thread, and no session stays
//! behind. What is out of reach: a process that is killed, a runtime that ends before the reaper
//! has (sessions are counted as stranded, and ended when the client is used in another one), and
//! a provider that makes a session minutes after it was given up and does not list it before.
//!
//! # Examples
//!
//! On this machine ([`EmbeddedProvider`]); with another provider only the first line differs.
//! With any provider; on this machine (Unix) it is an [`EmbeddedProvider`].
//!
//! ```
//! # #[cfg(unix)] fn main() -> Result<(), Box<dyn std::error::Error>> { example() }
//! # #[cfg(not(unix))] fn main() {}
//! use mainstay::session::{CreateSession, EmbeddedProvider, SessionClient, SessionPool};
//! use std::time::Duration;
//!
//! # #[cfg(unix)]
//! # #[tokio::main(flavor = "current_thread")] async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = SessionClient::builder(EmbeddedProvider::builder().build()?).build()?;
//!
//! let session = client.create(CreateSession::new().label("for", "build")).await?;
//! let sum = session.run("echo $((20 + 22))").await?;
//! assert_eq!(sum.stdout_text(), "42\n");
//! session.close().await?;
//!
//! let pool = SessionPool::builder(&client).max_size(5).build()?;
//! let tests = (0..20).map(|n| format!("echo test {n}"));
//! let outcomes = pool.run_many(tests).limit(5).await;
//! for (index, error) in outcomes.failures() {
//!     eprintln!("test {index}: {error}");
//! }
//! # assert_eq!(outcomes.successes().count(), 20);
//! pool.close();
//! assert!(client.close_within(Duration::from_secs(30)).await.is_drained);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "agentbay")]
mod agentbay;
mod client;
#[cfg(unix)]
mod embedded;
mod error;
mod provider;
mod types;

#[cfg(feature = "agentbay")]
pub use agentbay::{AgentBay, AgentBayBuilder, SessionLink, Tool};
pub use client::{
    ByName, CREATE_LABEL, ClientDrained, ClientReport, Commands, Monitor, OperationKind,
    PooledSessions, Reaped, ReaperEvent, ReaperSnapshot, RunMany, Running, Runs, Session,
    SessionClient, SessionClientBuilder, SessionList, SessionPool, SessionPoolBuilder,
    SessionResult, blocking,
};
#[cfg(unix)]
pub use embedded::{EmbeddedBuilder, EmbeddedProvider, FileInfo, FoundFiles};
pub use error::{Effect, SessionError, SessionErrorKind};
pub use provider::SessionProvider;
pub use types::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Entry, EntryKind, FileRange,
    Labels, ListSessions, SessionId, SessionInfo, SessionPage, SessionStatus, WriteMode, Written,
};

//! The same client for code that is not async, under the same names.
//!
//! Each call waits on the thread that calls it, as [`crate::blocking`] does: not inside of an
//! async runtime, where it is refused by [`Refusal::InsideRuntime`](crate::Refusal). What goes
//! on in the background (creations that nobody waits for any more, the reaper) runs in the
//! thread behind it, and is cut off when `main` returns: [`SessionClient::close_within`] waits
//! for it.
//!
//! # Examples
//!
//! ```
//! # #[cfg(unix)] fn main() -> Result<(), Box<dyn std::error::Error>> { example() }
//! # #[cfg(not(unix))] fn main() {}
//! use mainstay::session::{self, CreateSession, EmbeddedProvider, blocking::SessionClient};
//! use std::time::Duration;
//!
//! # #[cfg(unix)]
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = EmbeddedProvider::builder().build()?;
//! let client = SessionClient::new(session::SessionClient::builder(provider).build()?);
//! let session = client.create(CreateSession::new())?;
//! assert_eq!(session.run("echo hello")?.stdout_text(), "hello\n");
//! session.close()?;
//! assert!(client.close_within(Duration::from_secs(10))?.is_drained);
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use super::super::provider::SessionProvider;
use super::super::types::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Entry, FileRange, Labels,
    ListSessions, SessionId, SessionInfo, SessionStatus, WriteMode, Written,
};
use super::pool::PooledSessions;
use super::report::{ClientReport, ReaperSnapshot};
use super::shared::SessionResult;
use super::{Monitor, SessionList};
use crate::blocking::{Iter, iter, run, run_call};
use crate::gather::Gathered;
use crate::pool::{PoolReport, PoolSnapshot, Pooled};
use crate::{ConfigError, Refusal};

use super::super::error::SessionError;

/// As the async [`SessionClient`](super::SessionClient).
#[derive(Debug)]
pub struct SessionClient<P: SessionProvider> {
    client: super::SessionClient<P>,
}

impl<P: SessionProvider> Clone for SessionClient<P> {
    fn clone(&self) -> Self {
        Self::new(self.client.clone())
    }
}

impl<P: SessionProvider> SessionClient<P> {
    /// The blocking side of a client.
    #[must_use]
    pub const fn new(client: super::SessionClient<P>) -> Self {
        Self { client }
    }

    /// The async client: the same one.
    #[must_use]
    pub const fn as_async(&self) -> &super::SessionClient<P> {
        &self.client
    }

    /// As [`SessionClient::create`](super::SessionClient::create).
    ///
    /// # Errors
    ///
    /// Those of the async one, and [`Refusal::InsideRuntime`]; so for all that follow.
    pub fn create(&self, request: CreateSession) -> SessionResult<Session<P>> {
        let session = run_call(self.client.create(request))?;
        Ok(Session { session })
    }

    /// As [`SessionClient::attach`](super::SessionClient::attach).
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub fn attach(&self, id: &SessionId) -> SessionResult<Session<P>> {
        let session = run_call(self.client.attach(id))?;
        Ok(Session { session })
    }

    /// As [`SessionClient::get`](super::SessionClient::get).
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub fn get(&self, id: &SessionId) -> SessionResult<SessionInfo> {
        run_call(self.client.get(id))
    }

    /// As [`SessionClient::status`](super::SessionClient::status).
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub fn status(&self, id: &SessionId) -> SessionResult<SessionStatus> {
        run_call(self.client.status(id))
    }

    /// As [`SessionClient::delete`](super::SessionClient::delete).
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub fn delete(&self, id: &SessionId) -> SessionResult<Deleted> {
        run_call(self.client.delete(id))
    }

    /// As [`SessionClient::list`](super::SessionClient::list): pages, one after the other.
    pub fn list(&self, request: ListSessions) -> Iter<SessionList<P>> {
        iter(self.client.list(request))
    }

    /// As [`SessionClient::monitor`](super::SessionClient::monitor): waits for each change.
    pub fn monitor(&self, id: &SessionId, period: Duration) -> Iter<Monitor<P>> {
        iter(self.client.monitor(id, period))
    }

    /// What the client answers for, and what it has ended.
    #[must_use]
    pub fn snapshot(&self) -> ReaperSnapshot {
        self.client.snapshot()
    }

    /// As [`SessionClient::close`](super::SessionClient::close).
    pub fn close(&self) {
        self.client.close();
    }

    /// As [`SessionClient::end_all`](super::SessionClient::end_all).
    pub fn end_all(&self) {
        self.client.end_all();
    }

    /// As [`SessionClient::close_within`](super::SessionClient::close_within).
    ///
    /// # Errors
    ///
    /// [`Refusal::InsideRuntime`], and the client is not closed then.
    pub fn close_within(&self, limit: Duration) -> Result<ClientReport, Refusal> {
        run(self.client.close_within(limit))
    }
}

/// A session that is held: one's own ([`Session`]) or a lent one ([`PooledSession`]).
#[derive(Debug)]
#[must_use = "a session that is dropped at once is ended, or goes back"]
pub struct Guard<H> {
    session: H,
}

/// As the async [`Session`](super::Session): dropped, on whatever thread, it goes to the
/// reaper.
pub type Session<P> = Guard<super::Session<P>>;

/// A session that is lent out by a [`SessionPool`]: it goes back when it is dropped.
pub type PooledSession<'p, P> = Guard<Pooled<'p, PooledSessions<P>>>;

/// What a [`Guard`] can hold.
pub trait Holds: sealed::Holds {}

mod sealed {
    use super::super::super::provider::SessionProvider;
    use super::super::Session;

    pub trait Holds {
        type Provider: SessionProvider;

        fn session(&self) -> &Session<Self::Provider>;
    }
}

impl<P: SessionProvider> Holds for super::Session<P> {}

impl<P: SessionProvider> sealed::Holds for super::Session<P> {
    type Provider = P;

    fn session(&self) -> &Self {
        self
    }
}

impl<P: SessionProvider> Holds for Pooled<'_, PooledSessions<P>> {}

impl<P: SessionProvider> sealed::Holds for Pooled<'_, PooledSessions<P>> {
    type Provider = P;

    fn session(&self) -> &super::Session<P> {
        self
    }
}

impl<H: Holds> Guard<H> {
    /// The async session: the same one.
    pub fn as_async(&self) -> &super::Session<H::Provider> {
        self.session.session()
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        self.as_async().id()
    }

    /// What was known of it when it was created.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        self.as_async().info()
    }

    /// As [`Session::is_intact`](super::Session::is_intact): a lent one that is not is ended instead
    /// of lent out again.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.as_async().is_intact()
    }

    /// As [`Session::status`](super::Session::status).
    ///
    /// # Errors
    ///
    /// Those of the async one, and [`Refusal::InsideRuntime`]; so for all that follow.
    pub fn status(&self) -> SessionResult<SessionStatus> {
        run_call(self.as_async().status())
    }

    /// As [`Session::run`](super::Session::run).
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub fn run(&self, command: impl Into<Command>) -> SessionResult<CommandResult> {
        run_call(self.as_async().run(command))
    }

    /// As [`Session::run_code`](super::Session::run_code).
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub fn run_code(&self, code: Code) -> SessionResult<CodeResult> {
        run_call(self.as_async().run_code(code))
    }

    /// As [`Session::read_file`](super::Session::read_file).
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub fn read_file(&self, path: &str, range: FileRange) -> SessionResult<Vec<u8>> {
        run_call(self.as_async().read_file(path, range))
    }

    /// As [`Session::write_file`](super::Session::write_file).
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub fn write_file(
        &self,
        path: &str,
        content: &[u8],
        mode: WriteMode,
    ) -> SessionResult<Written> {
        run_call(self.as_async().write_file(path, content, mode))
    }

    /// As [`Session::list_directory`](super::Session::list_directory).
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub fn list_directory(&self, path: &str) -> SessionResult<Vec<Entry>> {
        run_call(self.as_async().list_directory(path))
    }

    /// As [`Session::labels`](super::Session::labels).
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub fn labels(&self) -> SessionResult<Labels> {
        run_call(self.as_async().labels())
    }

    /// As [`Session::set_labels`](super::Session::set_labels).
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub fn set_labels(&self, labels: &Labels) -> SessionResult<()> {
        run_call(self.as_async().set_labels(labels))
    }

    /// As [`Session::run_many`](super::Session::run_many), `limit` at a time.
    ///
    /// # Errors
    ///
    /// [`Refusal::InsideRuntime`]; the commands' own are in the outcomes.
    pub fn run_many<I>(
        &self,
        commands: I,
        limit: usize,
    ) -> Result<Gathered<CommandResult, SessionError>, Refusal>
    where
        I: IntoIterator<Item: Into<Command>>,
    {
        run(self.as_async().run_many(commands).limit(limit))
    }

    /// As [`Session::monitor`](super::Session::monitor): waits for each change.
    pub fn monitor(&self, period: Duration) -> Iter<Monitor<H::Provider>> {
        iter(self.as_async().monitor(period))
    }
}

impl<P: SessionProvider> Session<P> {
    /// As [`Session::close`](super::Session::close).
    ///
    /// # Errors
    ///
    /// As for [`status`](Guard::status); where it was refused, the session goes to the reaper.
    pub fn close(self) -> SessionResult<Deleted> {
        run_call(self.session.close())
    }

    /// As [`Session::detach`](super::Session::detach).
    pub fn detach(self) -> SessionId {
        self.session.detach()
    }
}

impl<P: SessionProvider> PooledSession<'_, P> {
    /// Ends the session instead of giving it back.
    pub fn discard(self) {
        Pooled::discard(self.session);
    }
}

/// As the async [`SessionPool`](super::SessionPool).
#[derive(Debug)]
pub struct SessionPool<P: SessionProvider> {
    pool: super::SessionPool<P>,
}

impl<P: SessionProvider> Clone for SessionPool<P> {
    fn clone(&self) -> Self {
        Self::new(self.pool.clone())
    }
}

impl<P: SessionProvider> SessionPool<P> {
    /// The blocking side of a pool.
    #[must_use]
    pub const fn new(pool: super::SessionPool<P>) -> Self {
        Self { pool }
    }

    /// A pool of so many sessions of this client, with every default.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a size of 0.
    pub fn of(client: &SessionClient<P>, max_size: usize) -> Result<Self, ConfigError> {
        let pool = super::SessionPool::builder(&client.client).max_size(max_size);
        pool.build().map(Self::new)
    }

    /// The async pool: the same one.
    #[must_use]
    pub const fn as_async(&self) -> &super::SessionPool<P> {
        &self.pool
    }

    /// As [`SessionPool::get`](super::SessionPool::get).
    ///
    /// # Errors
    ///
    /// Those of the async one, and [`Refusal::InsideRuntime`].
    pub fn get(&self) -> SessionResult<PooledSession<'_, P>> {
        let session = run_call(self.pool.get())?;
        Ok(PooledSession { session })
    }

    /// As [`SessionPool::run`](super::SessionPool::run).
    ///
    /// # Errors
    ///
    /// Those of the async one, and [`Refusal::InsideRuntime`].
    pub fn run(&self, command: impl Into<Command>) -> SessionResult<CommandResult> {
        run_call(self.pool.run(command))
    }

    /// As [`SessionPool::run_many`](super::SessionPool::run_many), `limit` at a time.
    ///
    /// # Errors
    ///
    /// [`Refusal::InsideRuntime`]; the commands' own are in the outcomes.
    pub fn run_many<I>(
        &self,
        commands: I,
        limit: usize,
    ) -> Result<Gathered<CommandResult, SessionError>, Refusal>
    where
        I: IntoIterator<Item: Into<Command>>,
    {
        run(self.pool.run_many(commands).limit(limit))
    }

    /// As [`SessionPool::close`](super::SessionPool::close).
    pub fn close(&self) {
        self.pool.close();
    }

    /// As [`SessionPool::close_within`](super::SessionPool::close_within).
    ///
    /// # Errors
    ///
    /// [`Refusal::InsideRuntime`], and the pool is not closed then.
    pub fn close_within(&self, limit: Duration) -> Result<PoolReport, Refusal> {
        run(self.pool.close_within(limit))
    }

    /// What it holds now and has done so far.
    #[must_use]
    pub fn snapshot(&self) -> PoolSnapshot {
        self.pool.snapshot()
    }
}

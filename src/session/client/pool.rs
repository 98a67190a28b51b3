//! Sessions that are kept and lent out.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::super::error::{SessionError, SessionErrorKind};
use super::super::provider::SessionProvider;
use super::super::types::{Command, CommandResult, CreateSession, SessionStatus};
use super::SessionClient;
use super::many::{RunMany, run_many_on};
use super::session::Session;
use super::shared::SessionResult;
use crate::config::ConfigError;
use crate::pool::{Check, Drained, Manage, Pool, PoolBuilder, PoolReport, PoolSnapshot, Pooled};
use crate::shutdown::{Component, Counts};
use crate::{Attempt, Error};

/// Creates, checks and ends the sessions of a [`SessionPool`].
#[derive(Debug)]
pub struct PooledSessions<P: SessionProvider> {
    client: SessionClient<P>,
    request: CreateSession,
}

impl<P: SessionProvider> Manage for PooledSessions<P> {
    type Object = Session<P>;
    type Error = Error<SessionError>;

    /// A session idles at a cost, and may be ended by its provider.
    const CHECK: Check = Check::AfterIdle(Duration::from_secs(10));

    async fn create(&self) -> SessionResult<Session<P>> {
        self.client.create(self.request.clone()).await
    }

    async fn check(&self, session: &mut Session<P>) -> SessionResult<()> {
        match session.status().await? {
            SessionStatus::Running => Ok(()),
            status => {
                let text = format!("the session does not run: {status:?}");
                let error = SessionError::new(SessionErrorKind::Unavailable, text);
                Err(Error::operation(error))
            }
        }
    }

    /// One that was cut off in the middle of a command may still be busy with it.
    fn reusable(&self, session: &mut Session<P>) -> bool {
        session.is_intact()
    }

    /// What fails here, the reaper goes on with.
    async fn close(&self, session: Session<P>) {
        let _deleted = session.close().await;
    }
}

/// Keeps sessions and lends them out: a [`Pool`] of [`Session`]s.
///
/// A session goes back to the pool when its guard is dropped, if it is
/// [intact](Session::is_intact): one in which a command was cancelled, timed out or lost its
/// reply is ended, and another one takes its place. A clone is the same pool.
///
/// Defaults are those of [`Pool`], but for these:
///
/// | setting | default | why |
/// |---|---|---|
/// | `check` | after 10 s idle | a check is a call to the provider |
/// | `check_limit`, `create_limit`, `close_limit` | none | the client has its own |
///
/// # Errors
///
/// Those of [`Get`](crate::pool::Get) and of the client, as one flat error.
///
/// # Cancel safety
///
/// As for [`Pool`]: no session and no place is lost.
///
/// # Examples
///
/// ```
/// # #[cfg(unix)] fn main() -> Result<(), Box<dyn std::error::Error>> { example() }
/// # #[cfg(not(unix))] fn main() {}
/// # use mainstay::session::{EmbeddedProvider, SessionClient, SessionPool};
/// # #[cfg(unix)]
/// # #[tokio::main(flavor = "current_thread")] async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = SessionClient::builder(EmbeddedProvider::builder().build()?).build()?;
/// let pool = SessionPool::builder(&client).max_size(3).build()?;
/// let commands = (0..20).map(|n| format!("echo part {n}"));
/// let outcomes = pool.run_many(commands).limit(10).await;
/// assert_eq!(outcomes.failures().count(), 0);
/// # Ok(())
/// # }
/// ```
pub struct SessionPool<P: SessionProvider> {
    pool: Pool<PooledSessions<P>>,
}

impl<P: SessionProvider> SessionPool<P> {
    /// A pool of sessions of this client, to be given its size.
    pub fn builder(client: &SessionClient<P>) -> SessionPoolBuilder<P> {
        SessionPoolBuilder {
            client: client.clone(),
            request: CreateSession::new(),
            settings: Box::new(|builder| builder),
        }
    }

    /// Waits for a session.
    ///
    /// # Errors
    ///
    /// See [`Get`](crate::pool::Get).
    pub async fn get(&self) -> SessionResult<Pooled<'_, PooledSessions<P>>> {
        self.pool.get().await.map_err(Error::flatten)
    }

    /// Runs a command in any session of the pool.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get) and of [`Session::run`].
    ///
    /// # Cancel safety
    ///
    /// The session of a command that is cut off is ended.
    pub fn run<C: Into<Command>>(
        &self,
        command: C,
    ) -> impl Future<Output = SessionResult<CommandResult>> + Send + use<'_, P, C> {
        self.run_command(command.into(), None)
    }

    pub(super) async fn run_command(
        &self,
        command: Command,
        part_of: Option<Attempt>,
    ) -> SessionResult<CommandResult> {
        let get = match &part_of {
            Some(attempt) => self.pool.get().during(attempt),
            None => self.pool.get(),
        };
        let session = get.await.map_err(Error::flatten)?;
        session.run_command(command, part_of).await
    }

    /// Runs many commands, each in any session of the pool, so many at a time; see
    /// [`RunMany`].
    pub fn run_many<I>(&self, commands: I) -> RunMany<'_, Self, I::IntoIter>
    where
        I: IntoIterator<Item: Into<Command>>,
    {
        run_many_on(self, commands.into_iter())
    }

    /// The pool itself.
    #[must_use]
    pub fn pool(&self) -> &Pool<PooledSessions<P>> {
        &self.pool
    }

    /// The client whose sessions these are.
    #[must_use]
    pub fn client(&self) -> &SessionClient<P> {
        &self.pool.manager().client
    }

    /// Lends nothing out any more: idle sessions end now, the others when they come back.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Waits until it is closed and every session has ended, or was handed to the reaper; see
    /// [`SessionClient::drained`] for those.
    pub fn drained(&self) -> Drained<'_, PooledSessions<P>> {
        self.pool.drained()
    }

    /// Closes the pool and waits for so long at most until it is drained.
    pub async fn close_within(&self, limit: Duration) -> PoolReport {
        self.pool.close_within(limit).await
    }

    /// What it holds now and has done so far.
    #[must_use]
    pub fn snapshot(&self) -> PoolSnapshot {
        self.pool.snapshot()
    }
}

/// Builds a [`SessionPool`]; its text has the defaults.
#[must_use = "a builder does nothing before `build`"]
pub struct SessionPoolBuilder<P: SessionProvider> {
    client: SessionClient<P>,
    request: CreateSession,
    settings: Box<Settings<P>>,
}

type Settings<P> = dyn FnOnce(PoolBuilder<PooledSessions<P>>) -> PoolBuilder<PooledSessions<P>>;

impl<P: SessionProvider> SessionPoolBuilder<P> {
    /// What each session shall be. Default: [`CreateSession::new`].
    pub fn request(mut self, request: CreateSession) -> Self {
        self.request = request;
        self
    }

    /// How many sessions there are at most. At least 1; it must be set.
    pub fn max_size(self, sessions: usize) -> Self {
        self.settings(move |builder| builder.max_size(sessions))
    }

    /// How many idle sessions are kept ready in the background. Default 0.
    pub fn min_idle(self, sessions: usize) -> Self {
        self.settings(move |builder| builder.min_idle(sessions))
    }

    /// Any other setting, as of [`PoolBuilder`]; they are made in order.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)] fn main() -> Result<(), Box<dyn std::error::Error>> { example() }
    /// # #[cfg(not(unix))] fn main() {}
    /// # use mainstay::session::{EmbeddedProvider, SessionClient, SessionPool};
    /// # use std::time::Duration;
    /// # #[cfg(unix)]
    /// # #[tokio::main(flavor = "current_thread")] async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = SessionClient::builder(EmbeddedProvider::builder().build()?).build()?;
    /// let pool = SessionPool::builder(&client)
    ///     .max_size(5)
    ///     .settings(|pool| pool.idle_time(Duration::from_secs(300)))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn settings(
        mut self,
        set: impl FnOnce(PoolBuilder<PooledSessions<P>>) -> PoolBuilder<PooledSessions<P>> + 'static,
    ) -> Self {
        let before = self.settings;
        self.settings = Box::new(move |builder| set(before(builder)));
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// Those of [`PoolBuilder::build`].
    pub fn build(self) -> Result<SessionPool<P>, ConfigError> {
        let sessions = PooledSessions {
            client: self.client,
            request: self.request,
        };
        let builder = Pool::builder(sessions)
            .check_limit(Duration::MAX)
            .create_limit(Duration::MAX)
            .close_limit(Duration::MAX);
        let pool = (self.settings)(builder).build()?;
        Ok(SessionPool { pool })
    }
}

/// As [`Pool`]; the client that it is of comes after it.
impl<P: SessionProvider> Component for SessionPool<P> {
    fn stop(&self) {
        self.close();
    }

    fn drained(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.pool.drained())
    }

    fn cancel(&self) {}

    fn abort(&self) {}

    fn counts(&self) -> Counts {
        self.pool.counts()
    }
}

impl<P: SessionProvider> Clone for SessionPool<P> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
        }
    }
}

impl<P: SessionProvider> fmt::Debug for SessionPool<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPool")
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

impl<P: SessionProvider> fmt::Debug for SessionPoolBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPoolBuilder")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

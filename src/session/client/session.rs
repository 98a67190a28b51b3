//! A session in use: a guard.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::error::{Effect, SessionError, SessionErrorKind};
use super::super::provider::SessionProvider;
use super::super::types::{
    Code, CodeResult, Command, CommandResult, Deleted, Entry, FileRange, Labels, SessionId,
    SessionInfo, SessionStatus, WriteMode, Written,
};
use super::book::{End, Target};
use super::kind::OperationKind;
use super::many::{RunMany, run_many_on};
use super::monitor::Monitor;
use super::pipes::{Boxed, Way};
use super::reaper::{delete, settle};
use super::shared::{Owned, SessionResult, Shared};
use crate::{Attempt, Error, Refusal};

/// A session that this guard answers for.
///
/// [`close`](Self::close) ends it and says what happened. Dropped instead, it goes to the
/// client's reaper, which ends it in the background, tries again where that fails, and is
/// waited for at shutdown. [`detach`](Self::detach) lets it live on.
///
/// Every operation goes through the client's pipeline for its kind; see
/// [`SessionClient`](super::SessionClient) for the limits and what is repeated. They take
/// `&self`: several can be under way at once.
///
/// # Cancel safety
///
/// Every future can be dropped at any point. A command that is cut off so may still run at the
/// other end; the session is then no longer [intact](Self::is_intact), and a pool does not
/// lend it out again.
///
/// Dropping the guard works on any thread, inside of a runtime or outside: the reaper works in
/// the runtime of the client's last call. Where that has shut down, the session stays in the
/// client's book and is ended with the next call that is made in another one;
/// [`ReaperSnapshot::stranded`](super::ReaperSnapshot::stranded) counts it. If there is no such
/// call, the session outlives the process: close sessions before the runtime ends.
#[must_use = "a session that is dropped at once is ended"]
pub struct Session<P: SessionProvider> {
    owned: Owned<P>,
    info: SessionInfo,
    /// Whether something was cut off midway, or the session is known to be gone.
    spoilt: AtomicBool,
}

impl<P: SessionProvider> Session<P> {
    pub(super) fn new((owned, info): (Owned<P>, SessionInfo)) -> Self {
        Self {
            owned,
            info,
            spoilt: AtomicBool::new(false),
        }
    }

    fn shared(&self) -> &Arc<Shared<P>> {
        &self.owned.shared
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.owned.id
    }

    /// What was known of it when it was created, or attached to.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// Whether each command, piece of code and write so far came to its end: none was
    /// cancelled, timed out or lost its reply, and the session was not found missing. One that
    /// is not intact may still be busy with the old command.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        // Relaxed: it says nothing about anything else.
        !self.spoilt.load(Ordering::Relaxed)
    }

    fn ask<'a, T: Send + 'a>(
        &'a self,
        kind: OperationKind,
        start: impl FnMut() -> Boxed<'a, Result<T, SessionError>> + Send + 'a,
    ) -> Boxed<'a, SessionResult<T>> {
        self.shared().call(kind, start)
    }

    /// Asks for its state.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](super::SessionClient#errors), here as everywhere.
    pub async fn status(&self) -> SessionResult<SessionStatus> {
        let provider = &self.shared().provider;
        let start = || Box::pin(provider.status(self.id())) as Boxed<'_, _>;
        self.ask(OperationKind::Status, start).await
    }

    /// Runs a command with the session's shell. A command that fails is a result, not an
    /// error.
    ///
    /// The time limit is the command's own and a margin. It is repeated only after a failure
    /// which says that it has not run, unless it is [`Command::repeatable`].
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](super::SessionClient#errors).
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
        let shared = self.shared();
        let midway = Midway::new(self);
        let start = || Box::pin(shared.provider.run(self.id(), &command)) as Boxed<'_, _>;
        let limit = command.time_limit;
        let limit = shared.limits.running(OperationKind::Run, limit);
        let way = Way::running(OperationKind::Run, command.repeatable);
        shared.enter();
        let result = shared.pipes.call_in(part_of, way, limit, start);
        midway.ended(result.await)
    }

    /// Runs a piece of code; as [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](super::SessionClient#errors).
    pub async fn run_code(&self, code: Code) -> SessionResult<CodeResult> {
        let shared = self.shared();
        let midway = Midway::new(self);
        let start = || Box::pin(shared.provider.run_code(self.id(), &code)) as Boxed<'_, _>;
        let limit = shared.limits.running(OperationKind::Code, code.time_limit);
        let way = Way::running(OperationKind::Code, code.repeatable);
        shared.enter();
        let result = shared.pipes.call(way, limit, start);
        midway.ended(result.await)
    }

    /// Reads a file, or a part of it.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](super::SessionClient#errors).
    pub async fn read_file(&self, path: &str, range: FileRange) -> SessionResult<Vec<u8>> {
        let provider = &self.shared().provider;
        let start = || Box::pin(provider.read_file(self.id(), path, range)) as Boxed<'_, _>;
        self.ask(OperationKind::Read, start).await
    }

    /// Writes a file. A write of which a part may have happened is never repeated: read what is
    /// there first.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](super::SessionClient#errors).
    pub async fn write_file(
        &self,
        path: &str,
        content: &[u8],
        mode: WriteMode,
    ) -> SessionResult<Written> {
        let shared = self.shared();
        let midway = Midway::new(self);
        let start = || {
            let write = shared.provider.write_file(self.id(), path, content, mode);
            Box::pin(write) as Boxed<'_, _>
        };
        midway.ended(self.ask(OperationKind::Write, start).await)
    }

    /// Lists a directory, sorted by name.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](super::SessionClient#errors).
    pub async fn list_directory(&self, path: &str) -> SessionResult<Vec<Entry>> {
        let provider = &self.shared().provider;
        let start = || Box::pin(provider.list_directory(self.id(), path)) as Boxed<'_, _>;
        self.ask(OperationKind::Read, start).await
    }

    /// Its labels; one of them is [`CREATE_LABEL`](super::CREATE_LABEL).
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](super::SessionClient#errors).
    pub async fn labels(&self) -> SessionResult<Labels> {
        let provider = &self.shared().provider;
        let start = || Box::pin(provider.labels(self.id())) as Boxed<'_, _>;
        self.ask(OperationKind::Labels, start).await
    }

    /// Replaces its labels, all of them: the client needs its own no longer.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](super::SessionClient#errors).
    pub async fn set_labels(&self, labels: &Labels) -> SessionResult<()> {
        let provider = &self.shared().provider;
        let start = || Box::pin(provider.set_labels(self.id(), labels)) as Boxed<'_, _>;
        self.ask(OperationKind::Labels, start).await
    }

    /// Runs many commands in this session, so many at a time; see
    /// [`RunMany`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)] fn main() -> Result<(), Box<dyn std::error::Error>> { example() }
    /// # #[cfg(not(unix))] fn main() {}
    /// # use mainstay::session::{CreateSession, EmbeddedProvider, SessionClient};
    /// # #[cfg(unix)]
    /// # #[tokio::main(flavor = "current_thread")] async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = SessionClient::builder(EmbeddedProvider::builder().build()?).build()?;
    /// # let session = client.create(CreateSession::new()).await?;
    /// let outcomes = session.run_many(["echo a", "echo b", "exit 3"]).limit(2).await;
    /// for (index, error) in outcomes.failures() {
    ///     eprintln!("command {index}: {error}");
    /// }
    /// let codes: Vec<_> = outcomes.successes().map(|ran| ran.exit_code).collect();
    /// assert_eq!(codes, [Some(0), Some(0), Some(3)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_many<I>(&self, commands: I) -> RunMany<'_, Self, I::IntoIter>
    where
        I: IntoIterator<Item: Into<Command>>,
    {
        run_many_on(self, commands.into_iter())
    }

    /// Its changes of state as a stream, asked for at once and then every `period`; see
    /// [`Monitor`].
    pub fn monitor(&self, period: Duration) -> Monitor<P> {
        Monitor::new(self.shared(), self.id().clone(), period)
    }

    /// Ends it, and says what happened.
    ///
    /// It is tried as often as the rules for a deletion say. When that has failed, the reaper
    /// goes on trying in the background: nothing is left to do but to wait for it
    /// ([`SessionClient::drained`](super::SessionClient::drained)), or to ask for it once more
    /// ([`SessionClient::delete`](super::SessionClient::delete)), which does no harm.
    ///
    /// # Errors
    ///
    /// Why it is not known to be gone yet: see [`SessionClient`](super::SessionClient#errors).
    ///
    /// # Cancel safety
    ///
    /// The end runs in a task of its own: once polled, it goes on when this is dropped. Dropped
    /// unpolled, it is as if the guard was.
    pub async fn close(self) -> SessionResult<Deleted> {
        let owned = self.owned;
        let shared = Arc::clone(&owned.shared);
        shared.enter();
        shared.change(|book, _| book.closing(&owned.id));
        let task = shared.home.spawn(close(owned));
        let task = task.ok_or_else(|| Error::refused(Refusal::NoRuntime))?;
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(Error::panicked("the provider panicked")),
            Err(_) => Err(Error::refused(Refusal::NoRuntime)),
        }
    }

    /// Gives it up without ending it: whoever knows its name may go on with it.
    pub fn detach(self) -> SessionId {
        let Self { owned, .. } = self;
        let id = owned.id.clone();
        owned.shared.change(|book, _| book.give_away(&id));
        owned.disarm();
        id
    }
}

/// Lost before its end, the session goes to the reaper.
async fn close<P: SessionProvider>(owned: Owned<P>) -> SessionResult<Deleted> {
    let shared = Arc::clone(&owned.shared);
    let way = Way::Of(OperationKind::Delete);
    let result = delete(&shared, way, &owned.id).await;
    let end = match &result {
        Ok(deleted) => Ok(End::Gone {
            before: deleted.already_gone,
        }),
        Err(error) => Err(error.clone()),
    };
    settle(&shared, &Target::Session(owned.id.clone()), end);
    owned.disarm();
    result
}

/// Something that leaves the session unusable for others if it does not come to its end.
struct Midway<'s> {
    spoilt: &'s AtomicBool,
    over: bool,
}

impl<'s> Midway<'s> {
    fn new<P: SessionProvider>(session: &'s Session<P>) -> Self {
        Self {
            spoilt: &session.spoilt,
            over: false,
        }
    }

    fn ended<T>(mut self, result: SessionResult<T>) -> SessionResult<T> {
        self.over = match &result {
            Ok(_) => true,
            Err(Error::Operation { error, .. }) => {
                error.effect() == Effect::None && error.kind() != SessionErrorKind::NotFound
            }
            Err(Error::Refused { last, .. }) => last
                .as_ref()
                .is_none_or(|error| error.effect() == Effect::None),
            Err(_) => false,
        };
        result
    }
}

impl Drop for Midway<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.spoilt.store(true, Ordering::Relaxed);
        }
    }
}

impl<P: SessionProvider> fmt::Debug for Session<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", self.id())
            .field("is_intact", &self.is_intact())
            .finish_non_exhaustive()
    }
}

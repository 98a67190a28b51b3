//! The client: pipelines around a provider, and sessions that are never forgotten.
//!
//! What a creation does next is decided in `creation`, what is to end and when in `book`, what
//! a failure means in `rules`: all three are pure. The shells around them are `create` and
//! `reaper`.

pub mod blocking;
mod book;
mod builder;
mod component;
mod create;
mod creation;
mod home;
mod kind;
mod list;
mod look;
mod many;
mod monitor;
mod pipes;
mod pool;
mod reaper;
mod report;
mod rules;
mod session;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use builder::SessionClientBuilder;
pub use component::ClientDrained;
pub use kind::OperationKind;
pub use list::SessionList;
pub use many::{ByName, Commands, RunMany, Running, Runs};
pub use monitor::Monitor;
pub use pool::{PooledSessions, SessionPool, SessionPoolBuilder};
pub use report::{ClientReport, Reaped, ReaperEvent, ReaperSnapshot};
pub use session::Session;
pub use shared::SessionResult;

use super::error::{SessionError, SessionErrorKind};
use super::provider::SessionProvider;
use super::types::{CreateSession, Deleted, ListSessions, SessionId, SessionInfo, SessionStatus};
use crate::{CircuitBreaker, Error, Refusal};
use home::{sleep_until, unless};
use pipes::{Boxed, Way};
use shared::Shared;

/// The label that each creation carries, with a value of its own: by it a session is found
/// again whose reply was lost.
pub const CREATE_LABEL: &str = "mainstay-create";

/// Creates sessions, works with them and ends them, whatever fails meanwhile.
///
/// A clone is the same client. Around the provider stands a pipeline for each kind of
/// operation. Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `time_limit` of create, delete | 60 s | a machine is started, or stopped |
/// | of get, status, list, labels | 10 s | nothing is done |
/// | of read, write | 30 s | files may be long |
/// | of run, code | the command's own and `run_margin`; 300 s for those without | |
/// | `run_margin` | 10 s | the provider ends the command itself, and says how |
/// | `late_limit` | 120 s | so long a creation that took too long may still be answered; what comes then is ended |
/// | `max_attempts` | 3, the first one included | as for [`Retry`](crate::Retry) |
/// | `max_elapsed` | 120 s | no attempt begins later |
/// | `max_retry_after` | 60 s | a hint beyond ends the attempts |
/// | `backoff` | exponential from 200 ms, at most 10 s, full jitter | a call costs about as much |
/// | `circuit_breaker` | as [`CircuitBreaker`], one for all kinds | the kinds have one provider in common |
/// | `create_rate` | 10 a second, waits up to 10 s | providers throttle creations first |
/// | `bulkhead` | none | a pool or a gather limits what runs |
/// | `reaper_concurrency` | 8 | ends faster than most create, and is no burst |
/// | `reaper_attempts` | 20 | about twenty minutes with the back-off |
/// | `reaper_backoff` | exponential from 500 ms, at most 120 s, equal jitter | nobody waits for it |
/// | `search_looks` | 3 | a list may lag behind |
///
/// # What is repeated
///
/// | kind | after which failure |
/// |---|---|
/// | get, status, list, labels, read | any that may pass: throttled, unavailable, connection, unreadable answer, time limit |
/// | delete | likewise; "not found" is what was wanted |
/// | run, code | likewise, if it [has not happened](super::Effect::None), or the command is [repeatable](super::Command::repeatable) |
/// | write | likewise, only if it has not happened: never a half-done write |
/// | create | likewise; see below |
///
/// A hint of the provider ([`SessionError::retry_after`]) replaces the back-off's delay.
///
/// # Creations
///
/// A creation runs in a task of its own and carries a label of its own. When nobody knows
/// whether there is a session now (the reply was lost, the time limit passed), the client lists
/// by that label, adopts what it finds, and creates again only when a look has found nothing.
/// What is still in doubt at the end is searched for, and ended, by the reaper. Each session that
/// a list shows is asked for its labels before it is adopted or ended. So there are
/// never two sessions for a request, as far as the provider's list is true; one that shows up
/// later is ended.
///
/// # What the breaker counts
///
/// Failures: unavailable, connection, unreadable answer, failed machine, time limit. Not
/// counted: throttled, since to stop all would make an outage of a provider that only wants
/// less. Everything else is an answer. Deletions, and the search for lost sessions, neither
/// count nor are refused: a provider that has no room left recovers by them. They have their
/// own limits, those of the reaper.
///
/// # The reaper
///
/// It ends what nobody holds any more: dropped guards, creations whose caller has gone, closes
/// that have failed. It has a task only while there is work. The handles do not count: when the
/// last one is dropped, nothing is cut off. The sessions whose guards are held stay, and what is
/// to end is ended, as long as the runtime lives. To wait for it, use
/// [`close_within`](Self::close_within), [`drained`](Self::drained), or the client as a
/// [component](crate::shutdown::Component) of a [`Shutdown`](crate::Shutdown). Its book has an
/// entry for each session of this client that is alive, and no other bound.
///
/// # Errors
///
/// Every call yields [`Error<SessionError>`](crate::Error): the provider's own, a time limit, or
/// a refusal: [`Refusal::CircuitOpen`] and [`Refusal::RateLimited`] with the time to come back,
/// [`Refusal::BulkheadFull`], [`Refusal::ShutDown`] for a creation after the client was closed,
/// [`Refusal::NoRuntime`]. A provider that panics in a creation or a deletion gives
/// [`Error::Panicked`]; in other calls the panic goes on, as through any pipeline.
///
/// # Cancel safety
///
/// Every future can be dropped at any point: no session is leaked.
///
/// # Threads
///
/// All clones and guards share one book behind one lock, taken a few times for each session and
/// once for each call.
///
/// # Examples
///
/// ```
/// # #[cfg(unix)] fn main() -> Result<(), Box<dyn std::error::Error>> { example() }
/// # #[cfg(not(unix))] fn main() {}
/// use mainstay::session::{CreateSession, EmbeddedProvider, SessionClient};
/// use std::time::Duration;
///
/// # #[cfg(unix)]
/// # #[tokio::main(flavor = "current_thread")] async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = SessionClient::builder(EmbeddedProvider::builder().build()?).build()?;
/// let session = client.create(CreateSession::new().label("for", "docs")).await?;
/// let listing = session.run("mkdir notes; ls").await?;
/// assert!(listing.stdout_text().contains("notes"));
/// session.close().await?;
/// assert!(client.close_within(Duration::from_secs(10)).await.is_drained);
/// # Ok(())
/// # }
/// ```
pub struct SessionClient<P: SessionProvider> {
    shared: Arc<Shared<P>>,
}

impl<P: SessionProvider> SessionClient<P> {
    /// A client with every default, to be changed.
    pub fn builder(provider: P) -> SessionClientBuilder<P> {
        SessionClientBuilder::new(provider)
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &P {
        &self.shared.provider
    }

    /// The breaker that all kinds share.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.shared.rules.breaker
    }

    /// Creates a session; see [Creations](Self#creations).
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](Self#errors); [`Error::attempts`] says how often it was tried.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it leaves no session: what is under way goes on in its task, and
    /// what comes of it goes to the reaper.
    pub async fn create(&self, request: CreateSession) -> SessionResult<Session<P>> {
        create::create(&self.shared, request)
            .await
            .map(Session::new)
    }

    /// Finds a session.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](Self#errors).
    pub async fn get(&self, id: &SessionId) -> SessionResult<SessionInfo> {
        let get = || Box::pin(self.shared.provider.get(id)) as Boxed<'_, _>;
        self.shared.call(OperationKind::Get, get).await
    }

    /// Asks for a session's state.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](Self#errors).
    pub async fn status(&self, id: &SessionId) -> SessionResult<SessionStatus> {
        let status = || Box::pin(self.shared.provider.status(id)) as Boxed<'_, _>;
        self.shared.call(OperationKind::Status, status).await
    }

    /// Takes a session over that is there already: from now on its guard answers for it, and
    /// ends it when it is dropped.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](Self#errors); one of the kind
    /// [`Invalid`](SessionErrorKind::Invalid) when this client answers for it already, and
    /// [`Refusal::ShutDown`] when it is closed.
    pub async fn attach(&self, id: &SessionId) -> SessionResult<Session<P>> {
        let entered = self.shared.creations.enter_owned();
        let _entered = entered.map_err(Error::refused)?;
        let info = self.get(id).await?;
        let owned = self.shared.own(&info.id).ok_or_else(|| {
            let text = "this client answers for the session already";
            Error::operation(SessionError::new(SessionErrorKind::Invalid, text))
        })?;
        Ok(Session::new((owned, info)))
    }

    /// Lists sessions, page by page.
    pub fn list(&self, request: ListSessions) -> SessionList<P> {
        SessionList::new(&self.shared, request)
    }

    /// Ends a session by its name; one that is gone is a success that says so. When it has a
    /// guard, the guard stays, and finds it missing.
    ///
    /// # Errors
    ///
    /// See [`SessionClient`](Self#errors). The reaper does not go on with it, unless it had the
    /// session already.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it goes on in a task of its own when this is dropped.
    pub async fn delete(&self, id: &SessionId) -> SessionResult<Deleted> {
        self.shared.enter();
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        let task = async move {
            let way = Way::Of(OperationKind::Delete);
            let deleted = reaper::delete(&shared, way, &id).await?;
            shared.change(|book, _| book.gone(&id));
            Ok(deleted)
        };
        let no_runtime = || Error::refused(Refusal::NoRuntime);
        let task = self.shared.home.spawn(task).ok_or_else(no_runtime)?;
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(Error::panicked("the provider panicked")),
            Err(_) => Err(no_runtime()),
        }
    }

    /// The changes of a session's state as a stream; see [`Monitor`].
    pub fn monitor(&self, id: &SessionId, period: Duration) -> Monitor<P> {
        Monitor::new(&self.shared, id.clone(), period)
    }

    /// What the client answers for, and what it has ended.
    #[must_use]
    pub fn snapshot(&self) -> ReaperSnapshot {
        self.shared.snapshot()
    }

    /// How many creations are under way, those included whose caller has gone.
    #[must_use]
    pub fn creating(&self) -> usize {
        self.shared.in_creation()
    }

    /// Creates nothing any more. Sessions whose guards are held go on; what waits for the
    /// reaper's next try is tried at once, unless the provider has named a time.
    pub fn close(&self) {
        self.shared.stop();
    }

    /// [Closes](Self::close) the client and ends every session, also those whose guards are
    /// held: these find it missing. A creation under way is ended when it is answered.
    pub fn end_all(&self) {
        self.shared.end_all();
    }

    /// Waits until the client is [closed](Self::close), no creation is under way, and no session
    /// is left: all guards have gone and the reaper has ended, or given up, everything.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub fn drained(&self) -> ClientDrained<'_> {
        ClientDrained::new(&self.shared)
    }

    /// Closes the client and waits for so long at most until it is drained.
    ///
    /// Sessions whose guards are held are not its own to end: drop or close them first, or call
    /// [`end_all`](Self::end_all). What is left afterwards, the reaper goes on with.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the client closed.
    pub async fn close_within(&self, limit: Duration) -> ClientReport {
        let since = crate::time::now();
        self.close();
        let over = sleep_until(since.saturating_add(limit));
        let drained = unless(self.drained(), over).await.is_some();
        let sessions = self.snapshot();
        ClientReport {
            is_drained: drained && sessions.given_up == 0,
            took: crate::time::now().since(since),
            sessions,
        }
    }
}

impl<P: SessionProvider> Clone for SessionClient<P> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<P: SessionProvider> fmt::Debug for SessionClient<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClient")
            .field("provider", &self.provider().name())
            .field("sessions", &self.snapshot())
            .finish_non_exhaustive()
    }
}

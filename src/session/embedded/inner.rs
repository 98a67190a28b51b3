//! What the handles of a provider share, and how sessions come and go.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::super::error::{Effect, SessionError, SessionErrorKind};
use super::super::types::{Labels, SessionId};
use super::builder::Settings;
use super::directory::{Home, Root};
use super::fault;
use super::files::Files;
use super::leftover;
use super::live::{Live, Sessions, partly};
use super::table::{Deletion, NoSeat, Table};
use crate::time::{Instant, Timer, now};
use crate::{Offload, Resilient};

/// How long a deletion waits for calls that it has ended: a write that is under way, a caller
/// that is not polled. It then goes on without them.
const QUIET: Duration = Duration::from_secs(2);

pub(super) struct Inner {
    pub(super) settings: Settings,
    sessions: Mutex<Sessions>,
    /// Made with the first session.
    root: Mutex<Option<Arc<Root>>>,
    /// Reads, writes and the like.
    pub(super) offload: Offload,
    /// Makes sessions and removes them.
    housekeeping: Offload,
    requests: AtomicU64,
    /// The task that looks for idle sessions.
    watch: Mutex<Option<AbortHandle>>,
    /// This program's own mark, when it runs in a session itself.
    outer: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(super) fn new(settings: Settings, offload: Offload, housekeeping: Offload) -> Self {
        Self {
            sessions: Mutex::new(Table::new(settings.max_sessions)),
            settings,
            root: Mutex::default(),
            offload,
            housekeeping,
            requests: AtomicU64::new(1),
            watch: Mutex::default(),
            outer: std::env::var(leftover::VARIABLE).ok(),
        }
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }

    /// A name for the next request.
    pub(super) fn request(&self) -> String {
        // Relaxed: only its being unique counts.
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("embedded-{number}")
    }

    pub(super) fn outer(&self) -> Option<&str> {
        self.outer.as_deref()
    }

    fn root(&self) -> Result<Arc<Root>, SessionError> {
        let mut root = lock(&self.root);
        // Under the lock: either `clear` finds what is made here, or this finds it closed.
        if self.sessions().is_closed() {
            return Err(no_seat(self, NoSeat::Closed));
        }
        if let Some(root) = &*root {
            return Ok(Arc::clone(root));
        }
        let parent = self.parent();
        let made = Root::make(&parent);
        let made = made.map_err(|error| no_root(&parent, error))?;
        Ok(Arc::clone(root.insert(Arc::new(made))))
    }

    pub(super) fn parent(&self) -> PathBuf {
        let parent = self.settings.root.clone();
        parent.unwrap_or_else(std::env::temp_dir)
    }

    /// Makes a session.
    pub(super) async fn create(
        self: &Arc<Self>,
        labels: Labels,
    ) -> Result<SessionId, SessionError> {
        let seat = Seat::take(self)?;
        let inner = Arc::clone(self);
        let work = move || inner.make();
        let live = self.housekeeping.run(work).await.map_err(fault::offload)?;
        let id = live.id.clone();
        seat.fill(labels, live)?;
        self.watch_idle();
        Ok(id)
    }

    fn make(&self) -> Result<Arc<Live>, SessionError> {
        let id = SessionId::new(format!("s-{:016x}", fastrand::u64(..)));
        let root = self.root()?;
        let home = Home::make(Arc::clone(&root), id.as_str());
        let home = home.map_err(|error| no_root(root.path(), error))?;
        let commands = self.settings.bulkhead();
        let commands = commands
            .map_err(|error| SessionError::new(SessionErrorKind::Invalid, error.to_string()))?;
        Ok(Arc::new(Live::new(id, home, commands)))
    }

    /// Begins to delete a session, unless somebody does. None when there is none.
    pub(super) fn start_delete(
        self: &Arc<Self>,
        id: &SessionId,
    ) -> Result<Option<Arc<Live>>, SessionError> {
        let runtime = Handle::try_current().map_err(|_| fault::no_runtime())?;
        let decision = self.sessions().begin_delete(id);
        match decision {
            Deletion::Gone => Ok(None),
            Deletion::Join(live) => Ok(Some(live)),
            Deletion::Begin(live) => {
                self.delete(&runtime, &live);
                Ok(Some(live))
            }
        }
    }

    /// Deletes what the table says is being deleted.
    fn delete(self: &Arc<Self>, runtime: &Handle, live: &Arc<Live>) {
        live.begin();
        let ending = Ending::new(Arc::clone(self), Arc::clone(live));
        runtime.spawn(ending.run());
    }

    /// Lets no session be made any more, deletes all, and removes the root.
    pub(super) async fn close(self: &Arc<Self>) -> Result<(), SessionError> {
        let all = self.sessions().close();
        let mut result = Ok(());
        let mut ending = Vec::new();
        for id in &all {
            ending.extend(self.start_delete(id)?);
        }
        for live in ending {
            let gone = live.gone().await;
            result = result.and(gone);
        }
        let inner = Arc::clone(self);
        let work = move || inner.clear();
        let cleared = self.housekeeping.run(work).await;
        result.and(cleared.map_err(fault::offload))
    }

    fn clear(&self) -> Result<(), SessionError> {
        let root = lock(&self.root).clone();
        let cleared = root.map_or(Ok(()), |root| root.clear());
        cleared.map_err(|error| {
            fault::io("the sessions' directory", error).with_effect(Effect::Partial)
        })
    }

    /// There is no handle any more: nothing of it shall be left when this returns.
    pub(super) fn abandon(&self) {
        if let Some(watch) = lock(&self.watch).take() {
            watch.abort();
        }
        let _ = self.sessions().close();
        // There is nobody to tell. What a call on another thread makes meanwhile goes with it.
        let _ = self.clear();
    }

    /// Sees to it that somebody looks for idle sessions, if that is wanted.
    fn watch_idle(self: &Arc<Self>) {
        let (Some(span), Ok(runtime)) = (self.settings.idle_timeout, Handle::try_current()) else {
            return;
        };
        let mut watch = lock(&self.watch);
        // It ends with its runtime.
        if watch.as_ref().is_none_or(AbortHandle::is_finished) {
            let task = runtime.spawn(delete_idle(Arc::downgrade(self), span));
            *watch = Some(task.abort_handle());
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedProvider")
            .field("sessions", &self.sessions().len())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Deletes each session that was idle for `span`, as long as there is a provider.
async fn delete_idle(inner: Weak<Inner>, span: Duration) {
    loop {
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let (due, next) = inner.sessions().begin_delete_idle(span, now());
        for live in due {
            // It is the table's when it fails: the next deletion tries again.
            inner.delete(&Handle::current(), &live);
        }
        drop(inner);
        sleep_until(next).await;
    }
}

async fn sleep_until(time: Instant) {
    let mut timer = Timer::new();
    std::future::poll_fn(|cx| timer.poll_until(time, cx)).await;
}

/// A seat in the table that a session is being made for.
struct Seat<'a> {
    inner: &'a Inner,
    taken: bool,
}

impl<'a> Seat<'a> {
    fn take(inner: &'a Inner) -> Result<Self, SessionError> {
        let reserved = inner.sessions().reserve();
        match reserved {
            Ok(()) => Ok(Self { inner, taken: true }),
            Err(reason) => Err(no_seat(inner, reason)),
        }
    }

    fn fill(mut self, labels: Labels, live: Arc<Live>) -> Result<(), SessionError> {
        self.taken = false;
        let id = live.id.clone();
        let filled = self.inner.sessions().insert(id, labels, live, now());
        filled.map_err(|_late| no_seat(self.inner, NoSeat::Closed))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if self.taken {
            self.inner.sessions().unreserve();
        }
    }
}

/// That is never the caller's doing: at most it is a matter of time.
fn no_root(path: &Path, error: io::Error) -> SessionError {
    let text = format!("{}: {error}", path.display());
    let kind = match fault::kind(&error) {
        SessionErrorKind::Unavailable => SessionErrorKind::Unavailable,
        _ => SessionErrorKind::Local,
    };
    SessionError::new(kind, text)
        .with_effect(Effect::None)
        .with_source(error)
}

fn no_seat(inner: &Inner, reason: NoSeat) -> SessionError {
    let message = match reason {
        NoSeat::Closed => "the provider is closed".to_owned(),
        NoSeat::Full => format!(
            "there are {} sessions, and no more may be: delete one",
            inner.settings.max_sessions
        ),
    };
    SessionError::new(SessionErrorKind::Unavailable, message).with_effect(Effect::None)
}

/// A deletion under way. However it ends, those who wait for it are told.
struct Ending {
    inner: Arc<Inner>,
    live: Arc<Live>,
    result: Result<(), SessionError>,
}

impl Ending {
    fn new(inner: Arc<Inner>, live: Arc<Live>) -> Self {
        let text = format!("the deletion of session {} was given up", live.id);
        let result = Err(partly(text));
        Self {
            inner,
            live,
            result,
        }
    }

    async fn run(mut self) {
        self.live.end();
        // Those who do not come to their end in time change nothing: what they write goes too.
        let _ = self.quiet().timeout(QUIET).await;
        let live = Arc::clone(&self.live);
        let cleared = self.inner.housekeeping.run(move || live.clear()).await;
        self.result = cleared.map_err(fault::offload);
    }

    async fn quiet(&self) -> Result<(), Infallible> {
        while self.inner.sessions().busy(&self.live.id) > 0 {
            self.live.quiet.notified().await;
        }
        Ok(())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Ok(()));
        let mut sessions = self.inner.sessions();
        match result {
            Ok(()) => sessions.deleted(&self.live.id),
            Err(_) => sessions.stuck(&self.live.id),
        }
        drop(sessions);
        self.live.finish(result);
    }
}

/// A call that works in a session.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) inner: Arc<Inner>,
    pub(super) live: Arc<Live>,
}

impl Visit {
    pub(super) fn begin(inner: &Arc<Inner>, id: &SessionId) -> Result<Self, SessionError> {
        let live = inner.sessions().begin(id);
        let live = live.ok_or_else(|| fault::no_session(id))?;
        let inner = Arc::clone(inner);
        Ok(Self { inner, live })
    }

    /// Works with the session's files, on a thread of its own. Who gives up before it has begun
    /// has nothing done; what has begun ends, and keeps the session until then.
    pub(super) async fn with_files<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(Files<'_>) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let visit = Arc::clone(self);
        let work = move || work(visit.files());
        let done = self.inner.offload.run(work).await;
        done.map_err(fault::offload)
    }

    pub(super) fn files(&self) -> Files<'_> {
        Files {
            dir: &self.live.home.files,
            spool: &self.live.home.spool,
            limit: self.inner.settings.file_limit,
            max_entries: self.inner.settings.max_entries,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let others = self.inner.sessions().end(&self.live.id, now());
        if others == 0 {
            self.live.quiet.notify_one();
        }
    }
}

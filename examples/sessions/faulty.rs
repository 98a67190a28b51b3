//! A provider that fails now and then, around the one on this machine.
//!
//! What happens to the n-th call of a kind depends on the seed and on nothing else, so a run
//! can be repeated. It also keeps the tally: calls, faults and time of each kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay::session::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Effect, EmbeddedProvider,
    Entry, FileRange, Labels, ListSessions, SessionError, SessionErrorKind, SessionId, SessionInfo,
    SessionPage, SessionProvider, SessionStatus, WriteMode, Written,
};
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);
/// Calls of `run` during which the provider is down. At most four others still succeed, so three
/// of these twelve come one after the other, whatever the order: the breaker opens.
const OUTAGE: std::ops::Range<u64> = 120..132;

/// What goes wrong with a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It is refused, with a hint when to come back.
    Throttled,
    /// It is not done.
    Unavailable,
    /// It is done, and nobody hears of it.
    LostReply,
    /// It takes its time.
    Slow,
}

/// What became of the calls of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) throttled: u64,
    pub(crate) unavailable: u64,
    pub(crate) lost: u64,
    pub(crate) slow: u64,
    /// Calls that came back with a result, and how long they took.
    pub(crate) answered: u64,
    pub(crate) took: Duration,
    pub(crate) longest: Duration,
}

pub(crate) type Tallies = Arc<Mutex<BTreeMap<&'static str, Tally>>>;

pub(crate) struct Faulty {
    pub(crate) provider: EmbeddedProvider,
    seed: u64,
    tallies: Tallies,
}

impl Faulty {
    pub(crate) fn new(provider: EmbeddedProvider, seed: u64, tallies: Tallies) -> Self {
        Self {
            provider,
            seed,
            tallies,
        }
    }

    fn count<T>(&self, kind: &'static str, change: impl FnOnce(&mut Tally) -> T) -> T {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        change(tallies.entry(kind).or_default())
    }

    /// The fault of the next call of a kind.
    fn draw(&self, kind: &'static str) -> Fault {
        let number = self.count(kind, |tally| {
            tally.calls += 1;
            tally.calls
        });
        if kind == "run" && OUTAGE.contains(&number) {
            return Fault::Unavailable;
        }
        let name = kind.bytes().map(u64::from).sum::<u64>();
        let seed = self.seed ^ (name << 32) ^ number;
        match (kind, fastrand::Rng::with_seed(seed).u8(..100)) {
            (_, 0..5) => Fault::Throttled,
            (_, 5..9) => Fault::Unavailable,
            ("run", 9..12) | ("create" | "delete", 9..25) => Fault::LostReply,
            ("delete", 25..60) => Fault::Slow,
            _ => Fault::None,
        }
    }

    /// Does it, or something else.
    async fn call<T>(
        &self,
        kind: &'static str,
        work: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        let fault = self.draw(kind);
        self.count(kind, |tally| match fault {
            Fault::None => {}
            Fault::Throttled => tally.throttled += 1,
            Fault::Unavailable => tally.unavailable += 1,
            Fault::LostReply => tally.lost += 1,
            Fault::Slow => tally.slow += 1,
        });
        match fault {
            Fault::Throttled => {
                let error = SessionError::new(SessionErrorKind::Throttled, "too many calls");
                return Err(error.with_status(429).with_retry_after(30 * MS));
            }
            Fault::Unavailable => {
                let error = SessionError::new(SessionErrorKind::Unavailable, "no room");
                return Err(error.with_status(503).with_effect(Effect::None));
            }
            Fault::Slow => sleep(150 * MS).await,
            Fault::LostReply | Fault::None => {}
        }
        let since = Instant::now();
        let result = work.await;
        if fault == Fault::LostReply {
            let text = "the connection broke before there was a reply";
            return Err(SessionError::new(SessionErrorKind::Connection, text));
        }
        let took = since.elapsed();
        self.count(kind, |tally| {
            tally.answered += 1;
            tally.took += took;
            tally.longest = tally.longest.max(took);
        });
        result
    }
}

impl SessionProvider for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn create(&self, request: &CreateSession) -> Result<SessionInfo, SessionError> {
        self.call("create", self.provider.create(request)).await
    }

    async fn get(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        self.call("get", self.provider.get(id)).await
    }

    async fn status(&self, id: &SessionId) -> Result<SessionStatus, SessionError> {
        self.call("status", self.provider.status(id)).await
    }

    async fn list(&self, request: &ListSessions) -> Result<SessionPage, SessionError> {
        self.call("list", self.provider.list(request)).await
    }

    async fn delete(&self, id: &SessionId) -> Result<Deleted, SessionError> {
        self.call("delete", self.provider.delete(id)).await
    }

    async fn run(&self, id: &SessionId, command: &Command) -> Result<CommandResult, SessionError> {
        self.call("run", self.provider.run(id, command)).await
    }

    async fn run_code(&self, id: &SessionId, code: &Code) -> Result<CodeResult, SessionError> {
        self.call("code", self.provider.run_code(id, code)).await
    }

    async fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        range: FileRange,
    ) -> Result<Vec<u8>, SessionError> {
        let work = self.provider.read_file(id, path, range);
        self.call("read", work).await
    }

    async fn write_file(
        &self,
        id: &SessionId,
        path: &str,
        content: &[u8],
        mode: WriteMode,
    ) -> Result<Written, SessionError> {
        let work = self.provider.write_file(id, path, content, mode);
        self.call("write", work).await
    }

    async fn list_directory(&self, id: &SessionId, path: &str) -> Result<Vec<Entry>, SessionError> {
        let work = self.provider.list_directory(id, path);
        self.call("read", work).await
    }

    async fn labels(&self, id: &SessionId) -> Result<Labels, SessionError> {
        self.call("labels", self.provider.labels(id)).await
    }

    async fn set_labels(&self, id: &SessionId, labels: &Labels) -> Result<(), SessionError> {
        let work = self.provider.set_labels(id, labels);
        self.call("labels", work).await
    }
}

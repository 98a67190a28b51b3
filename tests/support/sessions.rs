//! A provider whose other end is in this process: it does what it is told, late or not at all
//! if so scripted, and knows how many sessions are alive, which is the truth.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mainstay::session::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Effect, Entry, FileRange,
    Labels, ListSessions, SessionError, SessionErrorKind, SessionId, SessionInfo, SessionPage,
    SessionProvider, SessionStatus, WriteMode, Written,
};
use tokio::sync::oneshot;

/// What a call does instead of what it should.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// What it should.
    Fine,
    /// Nothing, and says so.
    Fail(SessionError),
    /// What it should, and then says this.
    LoseReply(SessionError),
    /// What it should, after this time.
    Slow(Duration),
    /// Nothing, for ever.
    Hang,
    /// Panics.
    Panic,
}

/// One session at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) labels: Labels,
    pub(crate) status: SessionStatus,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Commands that run in it now.
    pub(crate) running: u32,
    /// Lists do not show it yet: so many will not.
    hidden: u32,
}

/// The other end.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) alive: BTreeMap<SessionId, Record>,
    pub(crate) created: u64,
    pub(crate) deleted: u64,
    /// What is under way there, whether someone waits for it or not.
    pub(crate) working: u64,
    pub(crate) most_alive: usize,
    pub(crate) deleting: u32,
    pub(crate) most_deleting: u32,
    /// Two commands in one session at once, where there should be one.
    pub(crate) overlaps: u64,
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) lines: Vec<String>,
    script: BTreeMap<&'static str, VecDeque<Fault>>,
    always: BTreeMap<&'static str, Fault>,
    /// Of a thousand calls, so many fail in some way.
    permille: u32,
    most_delay: Duration,
    /// So many lists do not show a new session.
    list_lag: u32,
    lists: Lists,
}

/// How lists treat labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lists {
    /// As they should.
    #[default]
    ByLabel,
    /// Not at all.
    All,
    /// Each page on its own: one of them may be empty and not the last.
    PageByPage,
}

/// A provider; a clone is the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scripted(Arc<Mutex<World>>);

pub(crate) fn error(kind: SessionErrorKind) -> SessionError {
    SessionError::new(kind, "as scripted")
}

pub(crate) fn not_done(kind: SessionErrorKind) -> SessionError {
    error(kind).with_effect(Effect::None)
}

impl Scripted {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// The next calls of this operation do this, one after the other.
    pub(crate) fn script(&self, operation: &'static str, faults: impl IntoIterator<Item = Fault>) {
        let mut world = self.world();
        world.script.entry(operation).or_default().extend(faults);
    }

    /// All calls of this operation for which nothing is scripted do this.
    pub(crate) fn always(&self, operation: &'static str, fault: Fault) {
        self.world().always.insert(operation, fault);
    }

    /// From now on every call does what it should, at once.
    pub(crate) fn calm(&self) {
        let mut world = self.world();
        world.script.clear();
        world.always.clear();
    }

    /// So many of a thousand calls fail at random, and each takes up to so long.
    pub(crate) fn unreliable(&self, permille: u32, most_delay: Duration) {
        let mut world = self.world();
        world.permille = permille;
        world.most_delay = most_delay;
    }

    /// New sessions are not in the next so many lists.
    pub(crate) fn list_lag(&self, lists: u32) {
        self.world().list_lag = lists;
    }

    pub(crate) fn lists(&self, lists: Lists) {
        self.world().lists = lists;
    }

    pub(crate) fn alive(&self) -> usize {
        self.world().alive.len()
    }

    pub(crate) fn calls(&self, operation: &'static str) -> u64 {
        self.world().calls.get(operation).copied().unwrap_or(0)
    }

    pub(crate) fn set_status(&self, id: &SessionId, status: SessionStatus) {
        self.world().alive.get_mut(id).unwrap().status = status;
    }

    /// Waits until this holds.
    pub(crate) async fn until(&self, holds: impl Fn(&World) -> bool) {
        for _ in 0..60_000 {
            if holds(&self.world()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it never came to it: {:#?}", self.world());
    }

    /// Waits until nobody works there and nothing is alive.
    pub(crate) async fn until_empty(&self) {
        self.until(|world| world.working == 0 && world.alive.is_empty())
            .await;
    }

    fn next_fault(&self, operation: &'static str) -> (Fault, Duration) {
        let mut world = self.world();
        *world.calls.entry(operation).or_default() += 1;
        let nanos = u64::try_from(world.most_delay.as_nanos()).unwrap();
        let delay = Duration::from_nanos(fastrand::u64(..=nanos));
        let scripted = world
            .script
            .get_mut(operation)
            .and_then(VecDeque::pop_front);
        let scripted = scripted.or_else(|| world.always.get(operation).cloned());
        let fault = scripted.unwrap_or_else(|| {
            if fastrand::u32(..1000) >= world.permille {
                return Fault::Fine;
            }
            match fastrand::u32(..4) {
                0 => Fault::Fail(not_done(SessionErrorKind::Throttled)),
                1 => Fault::Fail(not_done(SessionErrorKind::Unavailable)),
                2 => Fault::LoseReply(error(SessionErrorKind::Connection)),
                _ => Fault::LoseReply(error(SessionErrorKind::Protocol)),
            }
        });
        (fault, delay)
    }

    /// Asks the other end: what it does there goes on when nobody waits for the reply.
    async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut World) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let (fault, delay) = self.next_fault(operation);
        let (delay, lost) = match fault {
            Fault::Fine => (delay, None),
            Fault::Slow(span) => (span, None),
            Fault::LoseReply(error) => (delay, Some(error)),
            Fault::Fail(error) => {
                pass(delay).await;
                return Err(error);
            }
            Fault::Hang => std::future::pending().await,
            Fault::Panic => panic!("scripted panic in {operation}"),
        };
        let (reply, answer) = oneshot::channel();
        let there = self.clone();
        self.world().working += 1;
        tokio::spawn(async move {
            pass(delay).await;
            let result = {
                let mut world = there.world();
                world.working -= 1;
                act(&mut world)
            };
            let _unread = reply.send(lost.map_or(result, Err));
        });
        answer
            .await
            .unwrap_or_else(|_| Err(error(SessionErrorKind::Connection)))
    }
}

async fn pass(span: Duration) {
    if span.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(span).await;
    }
}

fn missing() -> SessionError {
    SessionError::new(SessionErrorKind::NotFound, "no such session")
}

impl World {
    fn session(&mut self, id: &SessionId) -> Result<&mut Record, SessionError> {
        self.alive.get_mut(id).ok_or_else(missing)
    }

    fn info(&mut self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        let status = self.session(id)?.status.clone();
        Ok(SessionInfo::new(id.clone(), status, "r"))
    }

    fn create(&mut self, labels: Labels) -> SessionInfo {
        self.created += 1;
        let id = SessionId::new(format!("s{:05}", self.created));
        let record = Record {
            labels,
            status: SessionStatus::Running,
            files: BTreeMap::new(),
            running: 0,
            hidden: self.list_lag,
        };
        self.alive.insert(id.clone(), record);
        self.most_alive = self.most_alive.max(self.alive.len());
        SessionInfo::new(id, SessionStatus::Running, "r")
    }

    fn list(&mut self, request: &ListSessions) -> SessionPage {
        let mut page = SessionPage::default();
        let size = request.page_size.unwrap_or(100) as usize;
        let mut seen = 0;
        for (id, record) in &mut self.alive {
            let carries = |(name, value)| record.labels.get(name) == Some(value);
            let wanted = self.lists == Lists::All || request.labels.iter().all(carries);
            if !wanted && self.lists == Lists::ByLabel {
                continue;
            }
            if record.hidden > 0 {
                record.hidden -= 1;
                continue;
            }
            if request
                .next
                .as_deref()
                .is_some_and(|next| id.as_str() < next)
            {
                continue;
            }
            if seen == size {
                page.next = Some(id.to_string());
                break;
            }
            seen += 1;
            if !wanted {
                continue;
            }
            let info = SessionInfo::new(id.clone(), record.status.clone(), "r");
            page.sessions.push(info);
        }
        page
    }
}

impl SessionProvider for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn create(&self, request: &CreateSession) -> Result<SessionInfo, SessionError> {
        let labels = request.labels.clone();
        self.ask("create", move |world| Ok(world.create(labels)))
            .await
    }

    async fn get(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        let id = id.clone();
        self.ask("get", move |world| world.info(&id)).await
    }

    async fn status(&self, id: &SessionId) -> Result<SessionStatus, SessionError> {
        let id = id.clone();
        self.ask("status", move |world| {
            Ok(world.session(&id)?.status.clone())
        })
        .await
    }

    async fn list(&self, request: &ListSessions) -> Result<SessionPage, SessionError> {
        let request = request.clone();
        self.ask("list", move |world| Ok(world.list(&request)))
            .await
    }

    async fn delete(&self, id: &SessionId) -> Result<Deleted, SessionError> {
        let here = Deleting::new(self);
        let id = id.clone();
        let delete = move |world: &mut World| {
            if world.alive.remove(&id).is_none() {
                return Ok(Deleted::before("r"));
            }
            world.deleted += 1;
            Ok(Deleted::now("r"))
        };
        let result = self.ask("delete", delete).await;
        drop(here);
        result
    }

    async fn run(&self, id: &SessionId, command: &Command) -> Result<CommandResult, SessionError> {
        {
            let mut world = self.world();
            let busy = {
                let session = world.session(id)?;
                session.running += 1;
                session.running > 1
            };
            world.overlaps += u64::from(busy);
        }
        let (own, id, line) = (id.clone(), id.clone(), command.line.clone());
        let run = move |world: &mut World| {
            world.lines.push(line.clone());
            world.session(&id)?.running -= 1;
            let mut result = CommandResult::default();
            result.success = true;
            result.exit_code = Some(0);
            result.stdout = line.into_bytes();
            Ok(result)
        };
        let result = self.ask("run", run).await;
        if result
            .as_ref()
            .is_err_and(|error| error.effect() == Effect::None)
        {
            // It has not run.
            if let Some(session) = self.world().alive.get_mut(&own) {
                session.running -= 1;
            }
        }
        result
    }

    async fn run_code(&self, id: &SessionId, code: &Code) -> Result<CodeResult, SessionError> {
        let (id, source) = (id.clone(), code.source.clone());
        let run = move |world: &mut World| {
            world.session(&id)?;
            let mut result = CodeResult::default();
            result.success = true;
            result.results = vec![source];
            Ok(result)
        };
        self.ask("code", run).await
    }

    async fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        _: FileRange,
    ) -> Result<Vec<u8>, SessionError> {
        let (id, path) = (id.clone(), path.to_owned());
        let read = move |world: &mut World| {
            let file = world.session(&id)?.files.get(&path).cloned();
            file.ok_or_else(missing)
        };
        self.ask("read", read).await
    }

    async fn write_file(
        &self,
        id: &SessionId,
        path: &str,
        content: &[u8],
        mode: WriteMode,
    ) -> Result<Written, SessionError> {
        let (id, path, content) = (id.clone(), path.to_owned(), content.to_vec());
        let write = move |world: &mut World| {
            let file = world.session(&id)?.files.entry(path).or_default();
            if mode == WriteMode::Overwrite {
                file.clear();
            }
            file.extend_from_slice(&content);
            Ok(Written::new(content.len() as u64, "r"))
        };
        self.ask("write", write).await
    }

    async fn list_directory(&self, id: &SessionId, _: &str) -> Result<Vec<Entry>, SessionError> {
        let id = id.clone();
        let list = move |world: &mut World| {
            let names = world.session(&id)?.files.keys();
            let file = |name: &String| Entry::new(name, mainstay::session::EntryKind::File);
            Ok(names.map(file).collect())
        };
        self.ask("directory", list).await
    }

    async fn labels(&self, id: &SessionId) -> Result<Labels, SessionError> {
        let id = id.clone();
        self.ask("labels", move |world| {
            Ok(world.session(&id)?.labels.clone())
        })
        .await
    }

    async fn set_labels(&self, id: &SessionId, labels: &Labels) -> Result<(), SessionError> {
        let (id, labels) = (id.clone(), labels.clone());
        let set = move |world: &mut World| {
            world.session(&id)?.labels = labels;
            Ok(())
        };
        self.ask("set_labels", set).await
    }
}

/// Counts deletions that are waited for.
struct Deleting(Scripted);

impl Deleting {
    fn new(provider: &Scripted) -> Self {
        let mut world = provider.world();
        world.deleting += 1;
        world.most_deleting = world.most_deleting.max(world.deleting);
        Self(provider.clone())
    }
}

impl Drop for Deleting {
    fn drop(&mut self) {
        self.0.world().deleting -= 1;
    }
}

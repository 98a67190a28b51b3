//! What a client's handles and the owner of its socket share: the two pure states behind one
//! lock, and who is to be woken. Whatever wakes or drops others' values happens outside of it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot, watch};

use super::builder::Settings;
use super::error::{RpcError, RpcErrorKind};
use super::life::{Health, Life, Step};
use super::message::Incoming;
use super::notifications::{Notification, Notifications};
use super::owner;
use super::snapshot::Snapshot;
use super::table::{Outgoing, Table, Wants};
use crate::Refusal;
use crate::time::now;

pub(super) type Answer = Result<Value, RpcError>;
pub(super) type Slot = oneshot::Sender<Answer>;
pub(super) type Body = Arc<str>;

pub(super) struct Shared {
    pub(super) settings: Settings,
    inner: Mutex<Inner>,
    /// The owner of the socket.
    pub(super) owner: AtomicWaker,
    /// Ticks whenever the connection's state has changed.
    changed: watch::Sender<()>,
}

struct Inner {
    table: Table<Body, Slot>,
    life: Life,
    /// Whether some task owns the connection.
    owned: bool,
    /// `None` once the client is closed: then the readers' streams end.
    notices: Option<broadcast::Sender<Notification>>,
    malformed: u64,
    requests: u64,
    notifications: u64,
    problem: Option<RpcError>,
    /// Whether the peer has answered our good-bye, or there was none to say.
    is_parted: bool,
}

/// Where the connection stands, for one who waits for it.
#[derive(Debug)]
pub(super) enum Standing {
    Up,
    Closed,
    /// Not there; so many attempts have failed, the last one by this.
    Not(u64, Option<RpcError>),
}

impl Shared {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        let inner = Inner {
            table: Table::new(),
            life: Life::new(settings.spans, seed),
            owned: false,
            notices: Some(broadcast::Sender::new(settings.notifications)),
            malformed: 0,
            requests: 0,
            notifications: 0,
            problem: None,
            is_parted: false,
        };
        Self {
            settings,
            inner: Mutex::new(inner),
            owner: AtomicWaker::new(),
            changed: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What handles do.

    /// Sees to it that a task owns the connection, in the runtime of the caller if in none.
    pub(super) fn start(self: &Arc<Self>) -> Result<(), Refusal> {
        let runtime = Handle::try_current().map_err(|_| Refusal::NoRuntime)?;
        let is_new = self.lock().adopt();
        self.own(&runtime, is_new);
        Ok(())
    }

    fn own(self: &Arc<Self>, runtime: &Handle, is_new: bool) {
        if is_new {
            runtime.spawn(owner::own(Owned(Arc::clone(self))));
        }
    }

    /// Lets a call in, to a connection that is owned: under one lock, since the owner may end
    /// with its runtime at any time, and takes along what is there by then. It is taken out
    /// again when the guard is dropped, at the latest.
    pub(super) fn begin(
        self: &Arc<Self>,
        body: Body,
        wants: Wants,
        slot: Slot,
    ) -> Result<Waiting, RpcError> {
        let runtime = Handle::try_current();
        let runtime = runtime.map_err(|_| error(RpcErrorKind::NotConnected, "no runtime"))?;
        let mut inner = self.lock();
        if inner.life.is_closed() {
            return Err(error(RpcErrorKind::Closed, "closed"));
        }
        if !self.settings.waits_for_link && !inner.life.is_up() {
            return Err(inner.not_connected());
        }
        let id = inner.table.begin(body, wants, slot);
        let is_new = inner.adopt();
        drop(inner);
        self.own(&runtime, is_new);
        self.owner.wake();
        let shared = Arc::clone(self);
        Ok(Waiting { shared, id })
    }

    pub(super) fn subscribe(&self) -> Notifications {
        let inner = self.lock();
        let receiver = inner.notices.as_ref().map(broadcast::Sender::subscribe);
        drop(inner);
        Notifications::new(receiver.unwrap_or_else(|| broadcast::channel(1).1))
    }

    /// Closes: everything pending fails now, and the owner says good-bye to the peer. How
    /// many calls it ended.
    pub(super) fn close(&self) -> usize {
        let mut inner = self.lock();
        // Nobody is there to say good-bye to.
        inner.is_parted |= !(inner.life.is_closed() || inner.life.is_up());
        inner.life.close();
        let notices = inner.notices.take();
        let pending = inner.table.clear();
        drop(inner);
        drop(notices);
        let ended = pending.len();
        fail(pending, &error(RpcErrorKind::Closed, "closed"));
        self.owner.wake();
        self.tick();
        ended
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn is_owned(&self) -> bool {
        self.lock().owned
    }

    pub(super) fn is_parted(&self) -> bool {
        self.lock().is_parted
    }

    pub(super) fn standing(&self) -> Standing {
        let inner = self.lock();
        if inner.life.is_closed() {
            return Standing::Closed;
        }
        if inner.life.is_up() {
            return Standing::Up;
        }
        Standing::Not(inner.life.totals().failed_connects, inner.problem.clone())
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let now = now();
        let inner = self.lock();
        let totals = inner.life.totals();
        let strays = inner.table.strays();
        Snapshot {
            state: inner.life.state(now),
            pending: inner.table.len(),
            queued: inner.table.queued(),
            late: strays.late,
            duplicate: strays.duplicate,
            unknown: strays.unknown,
            malformed: inner.malformed,
            requests: inner.requests,
            notifications: inner.notifications,
            reconnects: totals.connects.saturating_sub(1),
            failed_connects: totals.failed_connects,
            lost: totals.lost,
            problem: inner.problem.clone(),
        }
    }

    // What the owner of the socket does.

    pub(super) fn step(&self) -> Step {
        let now = now();
        let step = self.lock().life.step(now);
        self.tick();
        step
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().life.is_closed()
    }

    pub(super) fn connected(&self) -> bool {
        let now = now();
        let mut inner = self.lock();
        let is_wanted = inner.life.connected(now);
        inner.problem = None;
        drop(inner);
        self.tick();
        is_wanted
    }

    /// `hint`: the server has said when to come back.
    pub(super) fn failed(&self, why: RpcError, hint: Duration) {
        let now = now();
        let mut inner = self.lock();
        inner.life.failed(now, hint);
        inner.problem = Some(why);
        drop(inner);
        self.tick();
    }

    /// The connection is gone, and what was under way on it fails; and what waits to be sent,
    /// where that is not to wait for the next.
    pub(super) fn lost(&self, why: &RpcError) {
        let now = now();
        let mut inner = self.lock();
        inner.life.lost(now);
        let lost = inner.table.lose();
        let unsent = if self.settings.waits_for_link {
            Vec::new()
        } else {
            inner.table.clear()
        };
        inner.problem = Some(why.clone());
        drop(inner);
        fail(lost.into_iter().map(|slot| (slot, true)), why);
        fail(unsent, &error(RpcErrorKind::NotConnected, why.message()));
        self.tick();
    }

    /// The good-bye is over, and whether the peer has answered.
    pub(super) fn parted(&self, is_graceful: bool) {
        let now = now();
        let mut inner = self.lock();
        inner.life.lost(now);
        inner.is_parted = is_graceful;
    }

    /// The next one to send.
    pub(super) fn take(&self) -> Option<Outgoing<Body, Slot>> {
        self.lock().table.take()
    }

    pub(super) fn heard(&self) {
        let now = now();
        self.lock().life.heard(now);
    }

    /// Whether the socket has taken everything.
    pub(super) fn wrote(&self, everything: bool) {
        let now = now();
        let life = &mut self.lock().life;
        if everything {
            life.wrote(now);
        } else {
            life.blocked(now);
        }
    }

    pub(super) fn advanced(&self) {
        self.lock().life.advanced();
    }

    pub(super) fn check(&self) -> Health {
        let now = now();
        self.lock().life.check(now)
    }

    pub(super) fn count_malformed(&self) {
        self.lock().malformed += 1;
    }

    pub(super) fn receive(&self, message: Incoming) {
        match message {
            Incoming::Reply { id, answer } => {
                let slot = self.lock().table.reply(id);
                let _ = slot.map(|slot| slot.send(answer));
            }
            Incoming::Notification(notification) => self.publish(notification),
            Incoming::Request => self.lock().requests += 1,
            Incoming::Malformed => self.count_malformed(),
        }
    }

    fn publish(&self, notification: Notification) {
        let mut inner = self.lock();
        inner.notifications += 1;
        let notices = inner.notices.clone();
        drop(inner);
        let _ = notices.map(|notices| notices.send(notification));
    }

    fn tick(&self) {
        self.changed.send_replace(());
    }
}

impl Inner {
    /// Whether the connection has no owner yet, and is to be given one now.
    fn adopt(&mut self) -> bool {
        let is_new = !self.owned && !self.life.is_closed();
        self.owned |= is_new;
        is_new
    }

    fn not_connected(&self) -> RpcError {
        let why = self.problem.as_ref();
        let message = why.map_or("not connected yet", RpcError::message);
        error(RpcErrorKind::NotConnected, message)
    }
}

fn error(kind: RpcErrorKind, message: &str) -> RpcError {
    RpcError::new(kind, message)
}

fn fail(slots: impl IntoIterator<Item = (Slot, bool)>, why: &RpcError) {
    for (slot, sent) in slots {
        let _ = slot.send(Err(why.clone().with_sent(sent)));
    }
}

/// A call's place in the table, which is given up on drop.
#[must_use]
pub(super) struct Waiting {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Two statements: what was taken out is dropped after the lock.
        let slot = self.shared.lock().table.give_up(self.id);
        drop(slot);
    }
}

/// The connection in the hands of one task. Dropped at the task's end, whatever ended it: also
/// the end of its runtime.
pub(super) struct Owned(pub(super) Arc<Shared>);

impl Drop for Owned {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.owned = false;
        inner.life.orphaned();
        let pending = inner.table.clear();
        drop(inner);
        let why = "the runtime of the connection has ended";
        let why = error(RpcErrorKind::Lost, why);
        fail(pending, &why);
        self.0.tick();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::Client;

    /// The owner may have ended with its runtime between a call's look and its entry.
    #[tokio::test]
    async fn an_entry_has_an_owner_whenever_it_is_made() {
        let client = Client::builder("ws://127.0.0.1:1/").build().unwrap();
        let shared = &client.handle.shared;
        let (slot, _answer) = oneshot::channel();
        let _waiting = shared.begin("{".into(), Wants::Reply, slot).unwrap();
        assert!(shared.is_owned());
    }
}

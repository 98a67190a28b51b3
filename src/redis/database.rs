//! The connections to one database.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;

use super::job::Extent;
use super::wire::{Dial, Sent, Wire};
use super::{Connections, Effect, RedisError, RedisErrorKind};
use crate::Error;
use crate::lazy::Lazy;
use crate::pool::{Manage, Pool, Pooled};

/// How often a connection that turns out to be dead is replaced by another one before a
/// command is sent: more often than idle connections can have died together at once.
const REPLACEMENTS: usize = 64;

pub(super) struct Database {
    shared: Box<[Slot]>,
    next: AtomicUsize,
    /// For commands that need a connection of their own.
    exclusive: Pool<Lines>,
    /// For all others, where they are not to share one.
    pooled: Option<Pool<Lines>>,
}

/// A connection that many share: made when it is first asked for, replaced when it is dead.
struct Slot {
    dial: Dial,
    wire: Mutex<Arc<Lazy<Wire, RedisError>>>,
}

/// A connection for one command.
pub(super) enum Line<'d> {
    Shared(Arc<Lazy<Wire, RedisError>>),
    Own(Pooled<'d, Lines>),
}

impl Line<'_> {
    pub(super) fn wire(&self) -> Option<&Wire> {
        match self {
            Self::Shared(wire) => wire.try_get(),
            Self::Own(wire) => Some(wire),
        }
    }

    /// Something is sent on it.
    pub(super) fn sent<'w>(&self, wire: &'w Wire, patience: Duration) -> Sent<'w> {
        match self {
            Self::Shared(_) => wire.sent(patience),
            Self::Own(_) => wire.sent_alone(),
        }
    }
}

impl Database {
    pub(super) fn new(
        dial: &Dial,
        connections: Connections,
        exclusive: usize,
    ) -> Result<Self, crate::ConfigError> {
        let (shared, pooled) = match connections {
            Connections::Multiplexed(count) => (count, None),
            Connections::Pooled(count) => (0, Some(Lines::pool(dial, count)?)),
        };
        Ok(Self {
            shared: (0..shared).map(|_| Slot::new(dial)).collect(),
            next: AtomicUsize::new(0),
            exclusive: Lines::pool(dial, exclusive)?,
            pooled,
        })
    }

    /// A connection that is alive as far as can be known without asking.
    pub(super) async fn line(&self) -> Result<Line<'_>, RedisError> {
        if let Some(pool) = &self.pooled {
            return own(pool).await.map(Line::Own);
        }
        let slot = match &*self.shared {
            [only] => only,
            all => &all[self.next.fetch_add(1, Ordering::Relaxed) % all.len()],
        };
        slot.get().await.map(Line::Shared)
    }

    /// Whether each connection for one is lent, and there may be no more of them.
    pub(super) fn is_at_its_limit(&self) -> bool {
        let all = self.pooled.as_ref().map(Pool::snapshot);
        all.is_some_and(|all| all.idle == 0 && all.size >= all.max_size)
    }

    /// One that nobody else uses meanwhile.
    pub(super) async fn exclusive(&self) -> Result<Pooled<'_, Lines>, RedisError> {
        own(&self.exclusive).await
    }
}

async fn own(pool: &Pool<Lines>) -> Result<Pooled<'_, Lines>, RedisError> {
    for _ in 0..REPLACEMENTS {
        let wire = pool.get().await.map_err(no_connection)?;
        if !wire.is_dead() {
            return Ok(wire);
        }
        wire.buried();
        Pooled::discard(wire);
    }
    Err(no_connection(Error::cancelled()))
}

impl Slot {
    fn new(dial: &Dial) -> Self {
        Self {
            dial: dial.clone(),
            wire: Mutex::new(fresh(dial)),
        }
    }

    async fn get(&self) -> Result<Arc<Lazy<Wire, RedisError>>, RedisError> {
        let wire = self.living();
        if wire.try_get().is_none() {
            wire.get().await.map_err(no_connection)?;
        }
        Ok(wire)
    }

    /// What is under way on a dead one keeps it until it has ended.
    fn living(&self) -> Arc<Lazy<Wire, RedisError>> {
        let _dead;
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dead) = wire.try_get().filter(|wire| wire.is_dead()) {
            dead.buried();
            _dead = std::mem::replace(&mut *wire, fresh(&self.dial));
        }
        Arc::clone(&wire)
    }
}

fn fresh(dial: &Dial) -> Arc<Lazy<Wire, RedisError>> {
    let dial = dial.clone();
    Arc::new(Lazy::new(move || {
        let dial = dial.clone();
        async move { dial.connect().await }
    }))
}

fn no_connection(error: Error<RedisError>) -> RedisError {
    let message = format!("there is no connection: {error}");
    match error.into_last() {
        Some(error) => error,
        None => RedisError::new(RedisErrorKind::Connection, Effect::NotSent, message),
    }
}

/// Makes connections that are lent to one at a time.
pub(super) struct Lines(Dial);

impl Lines {
    fn pool(dial: &Dial, count: usize) -> Result<Pool<Self>, crate::ConfigError> {
        let limit = dial.limit.saturating_add(Duration::from_secs(1));
        Pool::builder(Self(dial.clone()))
            .max_size(count)
            .create_limit(limit)
            .check_limit(dial.limit)
            .build()
    }
}

impl Manage for Lines {
    type Object = Wire;
    type Error = RedisError;

    async fn create(&self) -> Result<Wire, RedisError> {
        self.0.connect().await
    }

    async fn check(&self, wire: &mut Wire) -> Result<(), RedisError> {
        ping(wire, wire.sent_alone()).await
    }

    /// One that still expects an answer is for nobody else.
    fn reusable(&self, wire: &mut Wire) -> bool {
        if wire.is_dead() {
            wire.buried();
        }
        wire.is_quiet() && !wire.is_dead()
    }
}

/// Asks the server on this connection whether it is there.
pub(super) async fn ping(wire: &Wire, sent: Sent<'_>) -> Result<(), RedisError> {
    let mut connection: MultiplexedConnection = wire.connection();
    let answer: Result<String, _> = ::redis::cmd("PING").query_async(&mut connection).await;
    let answer = answer.map(drop);
    sent.answered(answer.map_err(|error| wire.error(&error, Extent::Command)))
}

/// As [`ping`]; but when the answer has not come by the end of the time, whatever was received
/// meanwhile is a sign of life too: it may stand behind a large reply to another.
pub(super) async fn sign_of_life(wire: &Wire, sent: Sent<'_>) -> Result<(), RedisError> {
    let before = wire.received();
    let mut answer = std::pin::pin!(ping(wire, sent));
    // Nothing wakes it for the other's bytes: it is polled by the end of its time.
    std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Pending if wire.received() != before => Poll::Ready(Ok(())),
        polled => polled,
    })
    .await
}

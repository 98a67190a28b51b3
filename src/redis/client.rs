//! The client: one handle for each database, all with the same protections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, ToRedisArgs, Value};

use super::builder::RedisClientBuilder;
use super::database::Database;
use super::exclusive::Exclusive;
use super::job::Job;
use super::request::Request;
use super::rules::{Outages, WhatMayBeRepeated};
use super::stats::{CountRetries, Counters, RedisStats};
use super::table::CommandKind;
use super::{RedisError, health};
use crate::circuit_breaker::CircuitState;
use crate::policy::{Identity, Stack};
use crate::retry::{Backoff, Retry};
use crate::{Bulkhead, CircuitBreaker, ConfigError, Error, Pipeline};

/// A handle on one database of a Redis server, with time limits, retries and a breaker around
/// each call. A clone costs one reference count and shares everything.
///
/// It is built without a connection; the first call makes one. All that goes on in the
/// background (the probe, the connections' tasks) ends with the last handle.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `connections` | one for each database, shared | one socket; to many callers at once several times as fast as a pool, to one alone about the same |
/// | `exclusive_connections` | 8 for each database, made when needed | transactions and blocking commands are few |
/// | `limit` of each kind | 2 s for the whole call | what takes longer is better done without |
/// | `connect_limit` | 1 s | so that a call can try again within its limit |
/// | `max_attempts` | 3, the first one included | more rarely helps and multiplies load |
/// | `backoff` | exponential from 20 ms, at most 500 ms, full jitter | fits into 2 s |
/// | `retry_budget` | 0.2 retries a call, 100 in reserve | an outage costs at most 1.2 times the load |
/// | `reconnect_backoff` | exponential from 50 ms, at most 2 s, half of it random | found again soon, never hammered |
/// | `max_in_flight` | 1024 calls, more wait | what waits is bounded |
/// | `max_reply` | 64 MiB | no reply takes all the memory |
/// | `patience` | 1 s | a connection that is silent so long is as good as dead |
/// | breaker | opens at 5 failures in a row, at half of 100 calls (20 at least), or when all of them take longer than `patience`; for 5 s; a call dropped after `patience` has failed, one dropped before is ignored | it sees the callers' own time limits, and not those who change their mind; callers whose limits are all below `patience` leave it to the probe, or lower that |
/// | `probe_every` | 1 s, a quarter more or less | an open breaker closes about so soon after the server is back |
///
/// # What is repeated
///
/// An attempt that was certainly not done (nothing was sent; the server is `LOADING`, `BUSY`)
/// is repeated always. One whose answer was lost is repeated only where twice leaves what once
/// leaves:
///
/// | repeated | never, unless [`repeatable`](Request::repeatable) says so |
/// |---|---|
/// | every command that only reads | `INCR`, `APPEND`, `LPUSH`, `SPOP`, `GETDEL`, `RENAME` |
/// | `SET` with an expiry at most, `SETEX`, `MSET` | `SET` with `NX`, `XX` or `GET`, `SETNX` |
/// | `DEL`, `UNLINK`, `EXPIRE` without options, `PERSIST` | `EXPIRE` with `NX`, `XX`, `GT`, `LT` |
/// | `HSET`, `HDEL`, `SADD`, `SREM`, `ZREM`, `LSET`, `SETRANGE`, `PFADD` | `ZADD`, `HINCRBY`, `XADD` |
/// | scripts that are read-only by name (`EVAL_RO`) | scripts |
/// | a batch all of whose commands are | every command that is not known |
///
/// A repetition may come after another client's write, and undo it; and what it replies is the
/// reply of the second time (`DEL` says 0). Where that matters, [`once`](Request::once) turns
/// it off.
///
/// # Errors
///
/// [`Error::TimedOut`] by the time limit; [`Error::Refused`] by the breaker, without anything
/// being sent; else a [`RedisError`] with its kind, what the server said, and what to do.
/// [`may_have_acted`](super::may_have_acted) says of each whether it may have been done.
///
/// # Cancel safety
///
/// Every future here can be dropped at any point. The reply of a command that was dropped is
/// read by nobody else: a shared connection throws it away in its turn, a connection for one
/// is closed. The server may still do what was sent.
///
/// # Fairness
///
/// Calls above `max_in_flight` are served first come, first served. On a shared connection the
/// server answers in order: a slow command holds those behind it up. Give them another
/// database handle's connection, more connections, or [`Connections::Pooled`](super::Connections).
///
/// # Algorithm
///
/// One breaker, around one time limit, around the retries; what they see is what the callers
/// see. The library's own time limits and retries are switched off: there is one clock and one
/// rule. A connection on which a command was given up, and nothing at all was received for
/// `patience` while this or other commands waited, is given up too: a network that has gone
/// without a word is noticed in about that time and not in the quarter of an hour that TCP
/// takes. Connections that die within 5 seconds, the first excepted, are made again after the
/// pauses of `reconnect_backoff`.
///
/// # Examples
///
/// ```no_run
/// use mainstay::redis::{RedisClient, may_have_acted};
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = RedisClient::builder("redis://127.0.0.1/")
///     .database("sessions", 1)
///     .limits(Duration::from_secs(1))
///     .build()?;
/// let sessions = redis.database("sessions")?;
/// sessions.set_for("user:7", "token", Duration::from_secs(3600)).await?;
/// let token = sessions.get_or("user:7", String::new()).await;
/// println!("{} ({:?})", token.value, token.source);
///
/// if let Err(error) = redis.increment("visits", 1).await {
///     println!("{error}; counted: {}", if may_have_acted(&error) { "perhaps" } else { "no" });
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisClient {
    owner: Arc<Owner>,
    at: usize,
}

/// What all handles of one client own together: the probe ends with the last of them.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.health.stop();
    }
}

/// The retries, with what they repeat and who counts them.
pub(super) type Retrying =
    Pipeline<Stack<Identity, Retry<Backoff, WhatMayBeRepeated, CountRetries>>>;

/// A database with its name.
pub(super) type Named = (Box<str>, Database);

pub(super) struct Shared {
    pub(super) databases: Vec<Named>,
    pub(super) limits: [Duration; CommandKind::ALL.len()],
    pub(super) patience: Duration,
    pub(super) retrying: Retrying,
    pub(super) in_flight: Bulkhead,
    pub(super) breaker: CircuitBreaker<Outages>,
    pub(super) counters: Arc<Counters>,
    pub(super) health: health::Probe,
    pub(super) address: Box<str>,
}

impl RedisClient {
    /// A client of the server at `url`, with every default, to be changed.
    pub fn builder(url: impl AsRef<str>) -> RedisClientBuilder {
        RedisClientBuilder::new(url.as_ref())
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let owner = Arc::new(Owner(shared));
        Self { owner, at: 0 }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }

    pub(super) fn connections(&self) -> &Database {
        &self.shared().databases[self.at].1
    }

    /// A handle on one of the databases that were named to the builder.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a name that was not.
    pub fn database(&self, name: &str) -> Result<Self, ConfigError> {
        let mut names = self.shared().databases.iter();
        let at = names.position(|(each, _)| **each == *name).ok_or_else(|| {
            let missing = crate::config::Value::Missing;
            ConfigError::new("database", missing, "one that was named to the builder")
        })?;
        let owner = Arc::clone(&self.owner);
        Ok(Self { owner, at })
    }

    /// The name of this handle's database; empty for the one that the URL names.
    #[must_use]
    pub fn database_name(&self) -> &str {
        &self.shared().databases[self.at].0
    }

    /// A command, to be sent.
    pub fn command(&self, command: Cmd) -> Request<'_> {
        Request::new(self, Job::command(command))
    }

    /// Several commands in one go, to be sent: their replies come as a tuple or a list. With
    /// [`atomic`](::redis::Pipeline::atomic) they are one transaction.
    pub fn batch(&self, commands: ::redis::Pipeline) -> Request<'_> {
        Request::new(self, Job::batch(commands))
    }

    /// A script, to be run. It is sent by its hash, and whole where the server does not know
    /// it.
    pub fn script_request<K, A>(
        &self,
        script: &::redis::Script,
        keys: &[K],
        args: &[A],
    ) -> Request<'_>
    where
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        Request::new(self, Job::script(script, keys, args))
    }

    /// Runs a script, once at most.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the script may have run, or run later.
    pub async fn script<K, A>(
        &self,
        script: &::redis::Script,
        keys: &[K],
        args: &[A],
    ) -> Result<Value, Error<RedisError>>
    where
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        self.script_request(script, keys, args).fetch().await
    }

    /// Whether the server is thought to be away: its breaker is open, and calls are refused
    /// without being sent.
    #[must_use]
    pub fn is_away(&self) -> bool {
        let state = self.shared().breaker.state();
        matches!(state, CircuitState::Open | CircuitState::ForcedOpen)
    }

    /// The breaker of this client and all of its handles.
    #[must_use]
    pub fn breaker(&self) -> CircuitBreaker {
        self.shared().breaker.classifier(crate::classify::Failures)
    }

    /// Ends the probe in the background, for good.
    pub fn stop_probe(&self) {
        self.shared().health.stop();
    }

    /// What this client and all of its handles have done so far.
    #[must_use]
    pub fn stats(&self) -> RedisStats {
        self.shared().counters.snapshot()
    }

    /// Lends a connection that nobody else uses meanwhile; it waits for one within the time
    /// limit of blocking commands.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when none came free, [`Error::Refused`] while the breaker is open,
    /// and a [`RedisError`] when there is no connection.
    ///
    /// # Cancel safety
    ///
    /// A connection that was being made goes on and serves the next.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mainstay::redis::RedisClient;
    /// # async fn example(client: &RedisClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut own = client.exclusive().await?;
    /// let () = own.command(redis::cmd("WATCH").arg("stock").take()).await?;
    /// let stock: i64 = own.command(redis::cmd("GET").arg("stock").take()).await?;
    /// let mut change = redis::pipe();
    /// change.atomic().cmd("SET").arg("stock").arg(stock - 1).ignore();
    /// let done: Option<()> = own.batch(change).await?;
    /// println!("{}", if done.is_some() { "sold" } else { "somebody was faster" });
    /// # Ok(())
    /// # }
    /// ```
    pub async fn exclusive(&self) -> Result<Exclusive<'_>, Error<RedisError>> {
        let limit = self.shared().limits[CommandKind::Blocking as usize];
        let wire = self.own_connection(limit).await?;
        Ok(Exclusive::new(self, wire))
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClient")
            .field("address", &self.shared().address)
            .field("database", &self.database_name())
            .field("breaker", &self.shared().breaker.state())
            .finish_non_exhaustive()
    }
}

//! The client: one handle for each database, all with the same protections.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::{Cmd, ToRedisArgs, Value};

use super::builder::RedisClientBuilder;
use super::database::{Database, Lines};
use super::exclusive::Exclusive;
use super::job::Job;
use super::request::Request;
use super::rules::{Outages, WhatMayBeRepeated};
use super::stats::{CountRetries, Counters, RedisStats};
use super::table::CommandKind;
use super::wire::Wire;
use super::{Effect, RedisError, health};
use crate::circuit_breaker::CircuitState;
use crate::error::Progress;
use crate::policy::{Identity, Stack};
use crate::pool::Pooled;
use crate::retry::{Backoff, Retry};
use crate::time::now;
use crate::{Bulkhead, CircuitBreaker, ConfigError, Error, Pipeline, Resilient};

/// XXX docs
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

type Retrying = Retry<Backoff, WhatMayBeRepeated, CountRetries>;

pub(super) struct Shared {
    pub(super) databases: Vec<(Box<str>, Database)>,
    pub(super) limits: [Duration; CommandKind::ALL.len()],
    pub(super) patience: Duration,
    pub(super) retrying: Pipeline<Stack<Identity, Retrying>>,
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

    /// The wait for one that another caller holds is no fault of the server's.
    async fn own_connection(
        &self,
        limit: Duration,
    ) -> Result<Pooled<'_, Lines>, Error<RedisError>> {
        let shared = &**self.shared();
        shared.health.start(self.shared());
        if self.is_away() {
            // Asks the breaker in the usual way: it refuses, or lets this through as a probe.
            let asked = (|| shared.ask()).timeout(limit);
            asked.circuit_breaker(&shared.breaker).await?;
        }
        let database = self.connections();
        let acquire = || async {
            let wire = database.exclusive().await;
            wire.map_err(|error| error.judged(true))
        };
        shared.retrying.call(acquire).timeout(limit).await
    }

    /// Sends a job through everything that protects it.
    pub(super) async fn run(
        &self,
        job: &Job,
        limit: Duration,
        repeatable: bool,
    ) -> Result<Value, Error<RedisError>> {
        if let Some(misuse) = job.misuse() {
            return Err(Error::operation(RedisError::usage(misuse)));
        }
        let shared = &**self.shared();
        shared.health.start(self.shared());
        let counted = shared.counters.call();
        let begun = now();
        let lost = AtomicBool::new(false);
        let result = if job.needs_own_connection() {
            self.wait_for(job, limit, &lost).await
        } else {
            let patience = shared.patience.min(limit / 2);
            let attempt = || self.attempt(job, patience, repeatable, &lost);
            let call = shared.retrying.call(attempt);
            let call = call.bulkhead(&shared.in_flight).timeout(limit);
            call.circuit_breaker(&shared.breaker).await
        };
        let took = now().since(begun);
        let result = result.map_err(|error| honest(error, lost.load(Ordering::Relaxed), took));
        counted.ended(&result, took);
        result
    }

    /// A command that blocks is sent once, on a connection of its own; its time is the caller's
    /// wish and says nothing about the server, so the breaker does not see it.
    async fn wait_for(
        &self,
        job: &Job,
        limit: Duration,
        lost: &AtomicBool,
    ) -> Result<Value, Error<RedisError>> {
        let begun = now();
        let wire = self.own_connection(limit).await?;
        let left = limit.saturating_sub(now().since(begun));
        let send = || send_on(&wire, job, Duration::MAX, lost);
        send.timeout(left).await
    }

    /// Sends it once. `lost` is left set while something is out whose fate nobody knows.
    async fn attempt(
        &self,
        job: &Job,
        patience: Duration,
        repeatable: bool,
        lost: &AtomicBool,
    ) -> Result<Value, RedisError> {
        let result = self.send(job, patience, lost).await;
        result.map_err(|error| error.judged(repeatable))
    }

    async fn send(
        &self,
        job: &Job,
        patience: Duration,
        lost: &AtomicBool,
    ) -> Result<Value, RedisError> {
        let line = self.connections().line().await?;
        match line.wire() {
            Some(wire) => send_on(wire, job, patience, lost).await,
            None => unreachable!("a line is handed out when it is made"),
        }
    }
}

async fn send_on(
    wire: &Wire,
    job: &Job,
    patience: Duration,
    lost: &AtomicBool,
) -> Result<Value, RedisError> {
    let was_lost = lost.swap(true, Ordering::Relaxed);
    let sent = wire.sent(patience);
    let result = job.send(&mut wire.connection()).await;
    let took = sent.answered();
    let result = result.map_err(|error| wire.error(&error, job.may_be_partly_done()).after(took));
    let is_lost = matches!(&result, Err(error) if error.effect() == Effect::Unknown);
    lost.store(was_lost || is_lost, Ordering::Relaxed);
    result
}

/// The error with what is known of the whole call: one attempt of several may have acted.
pub(super) fn honest(error: Error<RedisError>, lost: bool, took: Duration) -> Error<RedisError> {
    if !lost {
        return error;
    }
    let unanswered = RedisError::unanswered().after(took);
    let error = error.map(|error| error.with_effect(Effect::Unknown));
    // It stays where there is no error of an earlier attempt.
    error.after(Progress::new(0, Some(unanswered)))
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

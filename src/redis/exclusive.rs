//! A connection of the caller's own, for what changes the state of a connection.

use std::fmt;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value, from_redis_value};

use super::client::RedisClient;
use super::database::Lines;
use super::job::Job;
use super::table::{CommandKind, profile};
use super::{Effect, RedisError};
use crate::pool::Pooled;
use crate::time::now;
use crate::{Error, Resilient};

/// A connection that nobody else uses meanwhile: for `WATCH`, `MULTI` and `EXEC`.
///
/// Each command has the time limit of its kind, is sent once, and counts in the statistics and
/// for the breaker as any other, but those that block. The connection goes back when this is
/// dropped; it is closed instead when a reply is still to come, or something is watched or
/// begun and not ended.
///
/// Commands after which nobody could tell what the next reply belongs to (`SUBSCRIBE`,
/// `MONITOR`, `CLIENT REPLY`), and those that make it another user's or another database's
/// connection (`AUTH`, `SELECT`, `HELLO`, `RESET`), are refused here too.
///
/// # Cancel safety
///
/// A command that is dropped in the middle ends the connection: the next one is refused.
pub struct Exclusive<'c> {
    client: &'c RedisClient,
    wire: Pooled<'c, Lines>,
    /// Something is watched, or a transaction is open.
    has_state: bool,
}

impl<'c> Exclusive<'c> {
    pub(super) fn new(client: &'c RedisClient, wire: Pooled<'c, Lines>) -> Self {
        Self {
            client,
            wire,
            has_state: false,
        }
    }

    /// Sends a command and converts its reply.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch). Once a command was given up, each
    /// further one is a [`RedisErrorKind::Connection`](super::RedisErrorKind::Connection) error.
    ///
    /// # Cancel safety
    ///
    /// See the type's text.
    pub async fn command<T: FromRedisValue>(
        &mut self,
        command: Cmd,
    ) -> Result<T, Error<RedisError>> {
        let kind = profile(&command).kind;
        let job = allowed(Job::command(command))?;
        self.run(job, kind, state_after).await
    }

    /// Sends several commands in one go; with [`atomic`](::redis::Pipeline::atomic) they are
    /// the transaction that ends what is watched. Its reply is `nil` when another client has
    /// changed a watched key: ask for an `Option`.
    ///
    /// # Errors
    ///
    /// Those of [`command`](Self::command).
    ///
    /// # Cancel safety
    ///
    /// See the type's text.
    pub async fn batch<T: FromRedisValue>(
        &mut self,
        commands: ::redis::Pipeline,
    ) -> Result<T, Error<RedisError>> {
        let is_atomic = commands.is_transaction();
        let job = Job::batch(commands);
        if job.profile().stateful {
            return Err(Error::operation(RedisError::usage(
                "in a batch nothing may change the connection: make it atomic",
            )));
        }
        let kind = job.profile().kind;
        let after: fn(&str, bool) -> bool = if is_atomic {
            |_, _| false
        } else {
            |_, has_state| has_state
        };
        self.run(job, kind, after).await
    }

    async fn run<T: FromRedisValue>(
        &mut self,
        job: Job,
        kind: CommandKind,
        after: fn(&str, bool) -> bool,
    ) -> Result<T, Error<RedisError>> {
        let limit = self.client.shared().limits[kind as usize];
        let limit = limit.saturating_add(job.asked_wait().unwrap_or_default());
        // What is cut off in the middle leaves it so.
        let had_state = std::mem::replace(&mut self.has_state, true);
        let result = self.send(&job, limit).await;
        self.has_state = match &result {
            Ok(_) => after(&job.name(), had_state),
            // It was answered, if only with an error; what ends a transaction may have failed.
            Err(_) => had_state || job.profile().stateful || !self.wire.is_quiet(),
        };
        from_redis_value(result?).map_err(|error| Error::operation(RedisError::conversion(&error)))
    }

    async fn send(&self, job: &Job, limit: Duration) -> Result<Value, Error<RedisError>> {
        let shared = self.client.shared();
        let counted = shared.counters.call();
        let begun = now();
        let wire = &*self.wire;
        let is_sent = wire.is_quiet() && !wire.is_dead();
        let send = async {
            if !is_sent {
                let message = "this connection has ended with an earlier command";
                let kind = super::RedisErrorKind::Connection;
                return Err(RedisError::new(kind, Effect::NotSent, message));
            }
            let sent = wire.sent_alone();
            let result = job.send(&mut wire.connection()).await;
            let partly = job.may_be_partly_done();
            sent.answered(result.map_err(|error| wire.error(&error, partly)))
        };
        let result = if job.needs_own_connection() {
            send.timeout(limit).await
        } else {
            send.timeout(limit).circuit_breaker(&shared.breaker).await
        };
        let took = now().since(begun);
        let result = result.map_err(|error| {
            let is_lost = is_sent && error.is_timed_out();
            super::call::honest(error, is_lost, took)
        });
        counted.ended(&result, took);
        result
    }
}

/// Refuses what would make this another kind of connection.
fn allowed(job: Job) -> Result<Job, Error<RedisError>> {
    let name = job.name();
    let is_known = !job.profile().stateful
        || matches!(&*name, "WATCH" | "UNWATCH" | "MULTI" | "EXEC" | "DISCARD");
    if is_known && !name.is_empty() {
        Ok(job)
    } else {
        let message = "no connection of this client can do this";
        Err(Error::operation(RedisError::usage(message)))
    }
}

/// Whether the connection has state after this command was answered.
fn state_after(name: &str, has_state: bool) -> bool {
    match name {
        "WATCH" | "MULTI" => true,
        "UNWATCH" | "EXEC" | "DISCARD" => false,
        _ => has_state,
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        if self.has_state {
            Pooled::mark_broken(&mut self.wire);
        }
    }
}

impl fmt::Debug for Exclusive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusive")
            .field("client", &self.client)
            .field("has_state", &self.has_state)
            .finish_non_exhaustive()
    }
}

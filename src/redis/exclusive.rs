//! A connection of the caller's own, for what changes the state of a connection.

use std::fmt;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue};

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
    state: State,
}

/// What the next user of the connection must not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is watched and no transaction is open.
    Clean,
    Watching,
    /// A transaction is open: what is sent meanwhile is queued, and not done.
    Queueing,
    /// Nobody knows.
    Unknown,
}

impl State {
    /// After this command was answered, and not with an error.
    fn after(self, name: &str) -> Self {
        match (self, name) {
            (Self::Unknown, _) => Self::Unknown,
            (_, "EXEC" | "DISCARD") => Self::Clean,
            (Self::Queueing, _) | (_, "MULTI") => Self::Queueing,
            (_, "WATCH") => Self::Watching,
            (_, "UNWATCH") => Self::Clean,
            _ => self,
        }
    }
}

impl<'c> Exclusive<'c> {
    pub(super) fn new(client: &'c RedisClient, wire: Pooled<'c, Lines>) -> Self {
        Self {
            client,
            wire,
            state: State::Clean,
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
        let after = self.state.after(&job.name());
        self.run(job, kind, after).await
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
        // An empty one is not sent at all.
        let ends_watch = commands.is_transaction() && !commands.is_empty();
        let job = Job::batch(commands);
        if job.profile().stateful {
            return Err(Error::operation(RedisError::usage(
                "in a batch nothing may change the connection: make it atomic",
            )));
        }
        let kind = job.profile().kind;
        let after = match self.state {
            State::Watching if ends_watch => State::Clean,
            state => state,
        };
        self.run(job, kind, after).await
    }

    async fn run<T: FromRedisValue>(
        &mut self,
        job: Job,
        kind: CommandKind,
        after: State,
    ) -> Result<T, Error<RedisError>> {
        let limit = self.client.shared().limits[kind as usize];
        let limit = limit.saturating_add(job.asked_wait().unwrap_or_default());
        // What is cut off in the middle leaves it so.
        let before = std::mem::replace(&mut self.state, State::Unknown);
        let result = self.send(&job, limit).await;
        self.state = match &result {
            Ok(_) => after,
            // It may have ended or begun something all the same, or is still to be answered.
            Err(_) if job.profile().stateful || !self.wire.is_quiet() => State::Unknown,
            Err(_) => before,
        };
        result
    }

    async fn send<T: FromRedisValue>(
        &self,
        job: &Job,
        limit: Duration,
    ) -> Result<T, Error<RedisError>> {
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
            let extent = job.extent();
            sent.answered(result.map_err(|error| wire.error(&error, extent)))
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
        let result = result.and_then(|value| super::call::converted(value, took));
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

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        if self.state != State::Clean {
            Pooled::mark_broken(&mut self.wire);
        }
    }
}

impl fmt::Debug for Exclusive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusive")
            .field("client", &self.client)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

//! Something to be sent, and how.

use std::time::Duration;

use ::redis::FromRedisValue;

use super::RedisError;
use super::client::RedisClient;
use super::job::Job;
use super::table::CommandKind;
use crate::Error;

/// Something to be sent by a [`RedisClient`]: it does nothing before [`fetch`](Self::fetch).
#[derive(Debug)]
#[must_use = "a request does nothing before `fetch`"]
pub struct Request<'c> {
    client: &'c RedisClient,
    job: Job,
    repeatable: bool,
    limit: Option<Duration>,
}

impl<'c> Request<'c> {
    pub(super) fn new(client: &'c RedisClient, job: Job) -> Self {
        let repeatable = job.profile().repeatable;
        Self {
            client,
            job,
            repeatable,
            limit: None,
        }
    }

    /// Says that twice is as good as once: an attempt whose answer was lost is repeated, also
    /// where the table does not allow it by itself.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Says that it is done once at most, also where the table would allow a repetition.
    pub fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// Limits the time of the whole call, in place of the limit of its kind.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// What kind of command it is taken for.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        self.job.profile().kind
    }

    /// Whether an attempt whose answer was lost would be repeated.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    /// Sends it and converts the reply.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] by its time limit, [`Error::Refused`] while the breaker is open or
    /// too many calls are in flight, and a [`RedisError`] otherwise;
    /// [`may_have_acted`](super::may_have_acted) says of each of them whether the server may
    /// have done it.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point it leaves nothing behind: its reply, if there is one, is read by
    /// nobody else. The server may still do what was sent.
    pub async fn fetch<T: FromRedisValue>(self) -> Result<T, Error<RedisError>> {
        let shared = self.client.shared();
        let limit = self.limit.unwrap_or_else(|| {
            let limit = shared.limits[self.kind() as usize];
            limit.saturating_add(self.job.asked_wait().unwrap_or_default())
        });
        self.client.run(&self.job, limit, self.repeatable).await
    }
}

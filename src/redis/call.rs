//! The way of one call: which policies it goes through, on which connection, and what is known
//! of it when it fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::{FromRedisValue, Value, from_redis_value};

use super::client::RedisClient;
use super::database::Lines;
use super::job::Job;
use super::wire::{Sent, Wire};
use super::{Effect, RedisError};
use crate::error::Progress;
use crate::pool::Pooled;
use crate::time::now;
use crate::{Error, Resilient};

impl RedisClient {
    /// The wait for one that another caller holds is no fault of the server's.
    pub(super) async fn own_connection(
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

    /// Sends a job through everything that protects it, counts it, and converts its reply.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        job: &Job,
        limit: Duration,
        repeatable: bool,
    ) -> Result<T, Error<RedisError>> {
        let counted = self.shared().counters.call();
        let begun = now();
        let lost = AtomicBool::new(false);
        let result = match job.misuse() {
            Some(misuse) => Err(Error::operation(RedisError::usage(misuse))),
            None => self.protected(job, limit, repeatable, &lost).await,
        };
        let took = now().since(begun);
        let result = result.map_err(|error| honest(error, lost.load(Ordering::Relaxed), took));
        let result = result.and_then(|value| converted(value, took));
        counted.ended(&result, took);
        result
    }

    async fn protected(
        &self,
        job: &Job,
        limit: Duration,
        repeatable: bool,
        lost: &AtomicBool,
    ) -> Result<Value, Error<RedisError>> {
        let shared = &**self.shared();
        shared.health.start(self.shared());
        if job.needs_own_connection() {
            return self.wait_for(job, limit, lost).await;
        }
        let attempt = || self.attempt(job, repeatable, lost);
        let call = shared.retrying.call(attempt);
        let call = call.bulkhead(&shared.in_flight).timeout(limit);
        call.circuit_breaker(&shared.breaker).await
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
        let send = || send_on(&wire, wire.sent_alone(), job, lost);
        send.timeout(left).await
    }

    /// Sends it once. `lost` is left set while something is out whose fate nobody knows.
    async fn attempt(
        &self,
        job: &Job,
        repeatable: bool,
        lost: &AtomicBool,
    ) -> Result<Value, RedisError> {
        let result = self.send(job, lost).await;
        result.map_err(|error| error.judged(repeatable))
    }

    async fn send(&self, job: &Job, lost: &AtomicBool) -> Result<Value, RedisError> {
        let patience = self.shared().patience;
        let line = self.connections().line().await?;
        match line.wire() {
            Some(wire) => send_on(wire, line.sent(wire, patience), job, lost).await,
            None => unreachable!("a line is handed out when it is made"),
        }
    }
}

async fn send_on(
    wire: &Wire,
    sent: Sent<'_>,
    job: &Job,
    lost: &AtomicBool,
) -> Result<Value, RedisError> {
    let was_lost = lost.swap(true, Ordering::Relaxed);
    let result = job.send(&mut wire.connection()).await;
    let extent = job.extent();
    let result = sent.answered(result.map_err(|error| wire.error(&error, extent)));
    let is_lost = matches!(&result, Err(error) if error.effect() == Effect::Unknown);
    lost.store(was_lost || is_lost, Ordering::Relaxed);
    result
}

/// The reply as what the caller asked for.
pub(super) fn converted<T: FromRedisValue>(
    value: Value,
    took: Duration,
) -> Result<T, Error<RedisError>> {
    let converted = from_redis_value(value);
    converted.map_err(|error| Error::operation(RedisError::conversion(&error).after(took)))
}

/// The error with what is known of the whole call: one attempt of several may have acted.
pub(super) fn honest(error: Error<RedisError>, lost: bool, took: Duration) -> Error<RedisError> {
    if !lost {
        return error;
    }
    let unanswered = RedisError::unanswered().after(took);
    let error = error.map(|error| match error.effect() {
        Effect::Done => error,
        _ => error.with_effect(Effect::Unknown),
    });
    // It stays where there is no error of an earlier attempt.
    error.after(Progress::new(0, Some(unanswered)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;
    use crate::redis::{RedisErrorKind, may_have_acted};

    fn refused() -> RedisError {
        RedisError::new(RedisErrorKind::Connection, Effect::NotSent, "refused")
    }

    #[test]
    fn one_lost_answer_makes_the_whole_call_uncertain() {
        for error in [
            Error::operation(refused()),
            Error::timed_out(Duration::from_secs(1)),
            Error::timed_out(Duration::from_secs(1)).after(Progress::new(1, Some(refused()))),
            Error::refused(Refusal::other("closed")),
        ] {
            let attempts = error.attempts();
            assert!(!may_have_acted(&error));
            assert!(!may_have_acted(&honest(
                error.clone(),
                false,
                Duration::ZERO
            )));
            let error = honest(error, true, Duration::ZERO);
            assert!(may_have_acted(&error), "{error}");
            assert_eq!(error.attempts(), attempts);
        }
    }

    #[test]
    fn what_was_done_for_certain_stays_so() {
        let done = RedisError::conversion(&"no number");
        let error = honest(Error::operation(done), true, Duration::ZERO);
        assert_eq!(error.last().map(RedisError::effect), Some(Effect::Done));
    }
}

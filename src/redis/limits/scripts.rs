//! The two scripts, and what the settings around them have in common.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::redis::Script;

use super::away::Failure;
use super::source::{Asked, Source};
use crate::config::{ConfigError, Value};
use crate::error::{Error, Refusal};
use crate::redis::RedisClient;

pub(super) const ASK_WITHIN: Duration = Duration::from_millis(500);
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What a call is told while Redis is away, or does not take the script.
pub(super) const AWAY: Refusal =
    Refusal::other("redis, which keeps the shared limit, gives no answer that can be used");

/// Each script begins with the clock, so that tests can give it one of their own.
const TAKE: &str = concat!(include_str!("clock.lua"), include_str!("rate/take.lua"));
const LEASE: &str = concat!(include_str!("clock.lua"), include_str!("slots/lease.lua"));

/// The script of a rate limiter.
pub(super) fn take(client: RedisClient, keys: Vec<String>) -> Box<dyn Source> {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    let script = SCRIPT.get_or_init(|| Script::new(TAKE));
    Box::new(Scripted {
        client,
        script,
        keys,
        unanswered: Arc::default(),
    })
}

/// The script of a bulkhead.
pub(super) fn lease(client: RedisClient, keys: Vec<String>) -> Box<dyn Source> {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    let script = SCRIPT.get_or_init(|| Script::new(LEASE));
    Box::new(Scripted {
        client,
        script,
        keys,
        unanswered: Arc::default(),
    })
}

pub(super) fn check(key: &str, ask_within: Duration) -> Result<(), ConfigError> {
    if key.is_empty() {
        return Err(ConfigError::new("key", Value::Missing, "at least one byte"));
    }
    if ask_within.is_zero() {
        return Err(ConfigError::new("ask_within", ask_within, "more than zero"));
    }
    Ok(())
}

/// A script, and the keys it works on.
struct Scripted {
    client: RedisClient,
    script: &'static Script,
    keys: Vec<String>,
    /// Whether the last question was dropped without an answer.
    unanswered: Arc<AtomicBool>,
}

impl Source for Scripted {
    fn ask(&self, args: Vec<String>, within: Duration) -> Asked {
        let (client, script) = (self.client.clone(), self.script);
        let keys = self.keys.clone();
        let unanswered = Arc::clone(&self.unanswered);
        Box::pin(async move {
            // Relaxed: one question is under way at a time.
            let again = unanswered.swap(true, Ordering::Relaxed);
            let request = client.script_request(script, &keys, &args);
            let answer = request.within(limit(within, again)).fetch().await;
            unanswered.store(false, Ordering::Relaxed);
            answer.map_err(|error| failure(&error))
        })
    }
}

/// The client's own limit, which is never what ends a question: that is `within`. But one that
/// is dropped after half of this limit without a sound gives up its connection. The first one
/// does not: a server that has only paused hears on the same connection, in order, of what was
/// asked and that it is given back.
fn limit(within: Duration, again: bool) -> Duration {
    if again {
        within.saturating_add(within / 2)
    } else {
        within.saturating_mul(4)
    }
}

fn failure<E>(error: &Error<E>) -> Failure {
    match error {
        Error::TimedOut { .. } => Failure::TimedOut,
        _ => Failure::Failed,
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

//! The commands that most programs need, typed.

use std::time::Duration;

use ::redis::{FromRedisValue, ToRedisArgs, cmd};

use super::client::RedisClient;
use super::scan::Scan;
use super::{RedisError, health};
use crate::Error;

/// What [`RedisClient::get_or`] found, and where it is from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Lookup<T> {
    /// The value of the key, or the default.
    pub value: T,
    /// Which of the two, and why.
    pub source: Source,
}

impl<T> Lookup<T> {
    /// Whether the server has spoken: the value is that of the key, or the key is missing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !matches!(self.source, Source::Fallback(_))
    }
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// It is the value of the key.
    Real,
    /// It is the default: there is no such key.
    Missing,
    /// It is the default: the server could not be asked.
    Fallback(Error<RedisError>),
}

impl RedisClient {
    /// The value of a key; `None` where there is no such key.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch).
    ///
    /// # Cancel safety
    ///
    /// As [`Request::fetch`](super::Request::fetch); so is every method here.
    pub async fn get<T: FromRedisValue>(
        &self,
        key: impl ToRedisArgs,
    ) -> Result<Option<T>, Error<RedisError>> {
        self.command(cmd("GET").arg(key).take()).fetch().await
    }

    /// The value of a key, or this one; and which of the two it is, and why. It never fails.
    ///
    /// A value of another type counts as one that could not be had.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mainstay::redis::{RedisClient, Source};
    ///
    /// # async fn example(client: &RedisClient) {
    /// let greeting = client.get_or("greeting", String::from("hello")).await;
    /// match greeting.source {
    ///     Source::Real | Source::Missing => println!("{}", greeting.value),
    ///     Source::Fallback(error) => println!("{} (Redis: {error})", greeting.value),
    ///     _ => {}
    /// }
    /// # }
    /// ```
    pub async fn get_or<T: FromRedisValue>(&self, key: impl ToRedisArgs, default: T) -> Lookup<T> {
        let (value, source) = match self.get(key).await {
            Ok(Some(value)) => (value, Source::Real),
            Ok(None) => (default, Source::Missing),
            Err(error) => (default, Source::Fallback(error)),
        };
        Lookup { value, source }
    }

    /// The values of many keys, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch).
    pub async fn get_many<T: FromRedisValue>(
        &self,
        keys: &[impl ToRedisArgs],
    ) -> Result<Vec<Option<T>>, Error<RedisError>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.command(cmd("MGET").arg(keys).take()).fetch().await
    }

    /// Sets a key, for good.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch).
    pub async fn set(
        &self,
        key: impl ToRedisArgs,
        value: impl ToRedisArgs,
    ) -> Result<(), Error<RedisError>> {
        let command = cmd("SET").arg(key).arg(value).take();
        self.command(command).fetch().await
    }

    /// Sets a key that expires after `span`: whole milliseconds, rounded up.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch).
    pub async fn set_for(
        &self,
        key: impl ToRedisArgs,
        value: impl ToRedisArgs,
        span: Duration,
    ) -> Result<(), Error<RedisError>> {
        let command = cmd("SET").arg(key).arg(value).take();
        let command = command.clone().arg("PX").arg(millis(span)).take();
        self.command(command).fetch().await
    }

    /// Deletes a key. Whether it was there; after a retry it may have been there before.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch).
    pub async fn delete(&self, key: impl ToRedisArgs) -> Result<bool, Error<RedisError>> {
        self.command(cmd("DEL").arg(key).take()).fetch().await
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch).
    pub async fn exists(&self, key: impl ToRedisArgs) -> Result<bool, Error<RedisError>> {
        self.command(cmd("EXISTS").arg(key).take()).fetch().await
    }

    /// Lets a key expire after `span`: whole milliseconds, rounded up. Whether it is there.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch).
    pub async fn expire(
        &self,
        key: impl ToRedisArgs,
        span: Duration,
    ) -> Result<bool, Error<RedisError>> {
        let command = cmd("PEXPIRE").arg(key).arg(millis(span)).take();
        self.command(command).fetch().await
    }

    /// Adds to a number and yields the sum. Never repeated once it was sent: when its answer is
    /// lost, the error says that it may have been done.
    ///
    /// # Errors
    ///
    /// Those of [`Request::fetch`](super::Request::fetch).
    pub async fn increment(
        &self,
        key: impl ToRedisArgs,
        by: i64,
    ) -> Result<i64, Error<RedisError>> {
        let command = cmd("INCRBY").arg(key).arg(by).take();
        self.command(command).fetch().await
    }

    /// Walks through the keys that match a pattern (`*` and `?` as in a shell), all within one
    /// time limit.
    pub fn scan(&self, pattern: impl Into<String>) -> Scan {
        Scan::new(self.clone(), pattern.into())
    }

    /// Asks the server whether it is there, past the breaker: for a health check of your own.
    ///
    /// # Errors
    ///
    /// A [`RedisError`], or [`Error::TimedOut`] after the limit of a connection's set-up.
    pub async fn ping(&self) -> Result<(), Error<RedisError>> {
        health::ask_once(self.shared()).await
    }
}

fn millis(span: Duration) -> u64 {
    let millis = span.as_nanos().div_ceil(1_000_000).max(1);
    // The server takes no more than an `i64` holds.
    u64::try_from(millis).unwrap_or(u64::MAX).min(1 << 53)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_rounded_up_to_what_the_server_takes() {
        assert_eq!(millis(Duration::ZERO), 1);
        assert_eq!(millis(Duration::from_micros(1500)), 2);
        assert_eq!(millis(Duration::from_millis(2)), 2);
        assert_eq!(millis(Duration::MAX), 1 << 53);
    }
}

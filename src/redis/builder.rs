//! The settings of a client.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::client::{Named, RedisClient, Retrying, Shared};
use super::database::Database;
use super::redial::Redial;
use super::rules::{Outages, WhatMayBeRepeated};
use super::stats::{CountRetries, Counters};
use super::table::CommandKind;
use super::wire::Dial;
use super::{Connections, health::Probe};
use crate::circuit_breaker::{Cancelled, Window};
use crate::config::Value;
use crate::observe::{IntoObserver, Observer};
use crate::retry::{Backoff, Delays, Jitter, Retry, RetryBudget};
use crate::{Bulkhead, CircuitBreaker, ConfigError, Pipeline};

/// Builds a [`RedisClient`]; its text has the table of defaults.
#[must_use = "a builder does nothing before `build`"]
pub struct RedisClientBuilder {
    info: Option<ConnectionInfo>,
    databases: Vec<(Box<str>, i64)>,
    connections: Connections,
    exclusive: usize,
    limits: [Duration; CommandKind::ALL.len()],
    connect_limit: Duration,
    patience: Duration,
    max_attempts: u32,
    backoff: Backoff,
    budget: Option<RetryBudget>,
    reconnect: Backoff,
    max_in_flight: u32,
    max_reply: u64,
    probe_every: Option<Duration>,
    breaker: Option<CircuitBreaker>,
    observer: Option<Arc<dyn Observer>>,
}

const SECOND: Duration = Duration::from_secs(1);

impl RedisClientBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            info: url.into_connection_info().ok(),
            databases: Vec::new(),
            connections: Connections::default(),
            exclusive: 8,
            limits: [2 * SECOND; CommandKind::ALL.len()],
            connect_limit: SECOND,
            patience: SECOND,
            max_attempts: 3,
            backoff: Backoff::exponential(Duration::from_millis(20)).max_delay(SECOND / 2),
            budget: None,
            reconnect: Backoff::exponential(Duration::from_millis(50))
                .max_delay(2 * SECOND)
                .jitter(Jitter::Equal),
            max_in_flight: 1024,
            max_reply: 64 << 20,
            probe_every: Some(SECOND),
            breaker: None,
            observer: None,
        }
    }

    /// Names a database, for [`RedisClient::database`]. The first handle is on the one that
    /// the URL names, or else on number 0.
    pub fn database(mut self, name: &str, number: u32) -> Self {
        self.databases.push((name.into(), number.into()));
        self
    }

    /// How commands share connections.
    pub fn connections(mut self, connections: Connections) -> Self {
        self.connections = connections;
        self
    }

    /// How many connections of their own there are at most, in each database, for blocking
    /// commands and [`exclusive`](RedisClient::exclusive) use. At least 1.
    pub fn exclusive_connections(mut self, connections: usize) -> Self {
        self.exclusive = connections;
        self
    }

    /// The time limit of a whole call of this kind, its retries and waits included; for
    /// [`Blocking`](CommandKind::Blocking) ones it comes on top of the time that the command
    /// itself asks the server to wait. One that asks it to wait for ever (`BLPOP key 0`) has
    /// this limit alone, or that of [`within`](super::Request::within). More than zero.
    pub fn limit(mut self, kind: CommandKind, limit: Duration) -> Self {
        self.limits[kind as usize] = limit;
        self
    }

    /// The same time limit for every kind.
    pub fn limits(mut self, limit: Duration) -> Self {
        self.limits = [limit; CommandKind::ALL.len()];
        self
    }

    /// How long it may take to connect, login included. More than zero.
    pub fn connect_limit(mut self, limit: Duration) -> Self {
        self.connect_limit = limit;
        self
    }

    /// How long a connection may be silent while commands wait, before the end of one of them
    /// is the end of the connection too: no new command is sent on it. Set it well below the
    /// time limits. More than zero.
    pub fn patience(mut self, span: Duration) -> Self {
        self.patience = span;
        self
    }

    /// How often a command is sent at most where it may be repeated. At least 1.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// The waits between these attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Takes the retries from this budget, to share it with others.
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// The pauses after attempts to connect that failed, and after connections that died
    /// within 5 seconds, the first of which is replaced at once. They begin anew after one that
    /// has lived so long.
    pub fn reconnect_backoff(mut self, backoff: Backoff) -> Self {
        self.reconnect = backoff;
        self
    }

    /// How many calls are under way at once; more wait, within their time limits. At least 1.
    pub fn max_in_flight(mut self, calls: u32) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// How many bytes a reply may take, 64 more counted for each of its elements. At least
    /// 1024.
    ///
    /// One that takes more ends its connection. What else is under way on that connection is
    /// sent again on another where it may be repeated, except for batches: no one can say
    /// whose reply it was.
    pub fn max_reply(mut self, bytes: u64) -> Self {
        self.max_reply = bytes;
        self
    }

    /// How often the server is asked in the background whether it is there, a quarter more or
    /// less each time at random. More than zero.
    pub fn probe_every(mut self, span: Duration) -> Self {
        self.probe_every = Some(span);
        self
    }

    /// Asks nothing in the background: an open breaker closes by calls only.
    pub fn no_probe(mut self) -> Self {
        self.probe_every = None;
        self
    }

    /// The breaker, in place of the default one; shared with everyone who holds a clone.
    ///
    /// Give it a rule for cancelled calls, or a caller's own time limit around a call blinds
    /// it: see [`Cancelled`].
    pub fn circuit_breaker(mut self, breaker: CircuitBreaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Tells `observer` of what the policies do.
    pub fn observe<M>(mut self, observer: impl IntoObserver<M>) -> Self {
        self.observer = Some(observer.into_observer());
        self
    }

    /// Checks every setting. It connects to nothing yet.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a URL that is not `redis://[user:password@]host[:port][/database]`
    /// or `unix:///path`, a database that is named twice, and a setting that its own text rules
    /// out.
    pub fn build(self) -> Result<RedisClient, ConfigError> {
        self.check()?;
        let counters = Arc::new(Counters::default());
        let info = self.usable()?;
        let databases = self.connect_later(info, &counters)?;
        let breaker = match self.breaker.clone() {
            Some(breaker) => breaker,
            None => default_breaker(self.patience)?,
        };
        let shared = Shared {
            databases,
            limits: self.limits,
            patience: self.patience,
            retrying: self.retrying(&counters)?,
            in_flight: Bulkhead::builder()
                .max_concurrent(self.max_in_flight)
                .max_wait(Duration::MAX)
                .build()?,
            breaker: breaker.classifier(Outages),
            health: Probe::new(self.probe_every, self.connect_limit),
            counters,
            address: info.addr().to_string().into(),
        };
        Ok(RedisClient::new(Arc::new(shared)))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let above_zero = [
            ("connect_limit", self.connect_limit),
            ("patience", self.patience),
            ("probe_every", self.probe_every.unwrap_or(SECOND)),
        ];
        let limits = self.limits.map(|limit| ("limit", limit));
        for (field, span) in above_zero.into_iter().chain(limits) {
            if span.is_zero() {
                return Err(ConfigError::new(field, span, "more than zero"));
            }
        }
        if self.max_reply < 1024 {
            return Err(ConfigError::new(
                "max_reply",
                self.max_reply,
                "at least 1024",
            ));
        }
        if let Connections::Multiplexed(0) | Connections::Pooled(0) = self.connections {
            return Err(ConfigError::new("connections", 0_u64, "at least 1"));
        }
        if self.exclusive == 0 {
            return Err(ConfigError::new(
                "exclusive_connections",
                0_u64,
                "at least 1",
            ));
        }
        let all = self.databases.iter().enumerate();
        let is_taken = |at: usize, name: &str| {
            let mut earlier = self.databases[..at].iter();
            name.is_empty() || earlier.any(|(each, _)| **each == *name)
        };
        if all.into_iter().any(|(at, (name, _))| is_taken(at, name)) {
            let allowed = "a name that no other has";
            return Err(ConfigError::new("database", Value::Malformed, allowed));
        }
        self.reconnect.check()
    }

    fn usable(&self) -> Result<&ConnectionInfo, ConfigError> {
        let usable = |info: &&ConnectionInfo| {
            matches!(info.addr(), ConnectionAddr::Tcp(..))
                || cfg!(unix) && matches!(info.addr(), ConnectionAddr::Unix(_))
        };
        self.info.as_ref().filter(usable).ok_or_else(|| {
            let allowed = "redis://[user:password@]host[:port][/database] or unix:///path";
            ConfigError::new("url", Value::Malformed, allowed)
        })
    }

    fn connect_later(
        &self,
        info: &ConnectionInfo,
        counters: &Arc<Counters>,
    ) -> Result<Vec<Named>, ConfigError> {
        let first = ("".into(), info.redis_settings().db());
        let all = std::iter::once(&first).chain(&self.databases);
        let databases = all.map(|(name, number)| {
            let settings = info.redis_settings().clone().set_db(*number);
            let dial = Dial {
                info: info.clone().set_redis_settings(settings),
                limit: self.connect_limit,
                max_reply: self.max_reply,
                redial: Arc::new(Mutex::new(Redial::new(self.reconnect))),
                counters: Arc::clone(counters),
            };
            let database = Database::new(&dial, self.connections, self.exclusive)?;
            Ok((name.clone(), database))
        });
        databases.collect()
    }

    fn retrying(&self, counters: &Arc<Counters>) -> Result<Retrying, ConfigError> {
        let retry = Retry::builder()
            .max_attempts(self.max_attempts)
            .backoff(self.backoff)
            .classifier(WhatMayBeRepeated)
            .hook(CountRetries(Arc::clone(counters)));
        let retry = match &self.budget {
            Some(budget) => retry.budget(budget.clone()),
            None => retry,
        };
        let pipeline = Pipeline::builder("redis").retry(retry);
        match &self.observer {
            Some(observer) => pipeline.observe(Arc::clone(observer)).build(),
            None => pipeline.build(),
        }
    }
}

/// See the table of defaults for the reasons.
fn default_breaker(patience: Duration) -> Result<CircuitBreaker, ConfigError> {
    CircuitBreaker::builder()
        .name("redis")
        .window(Window::calls(100))
        .failure_rate(0.5)
        .minimum_calls(20)
        .consecutive_failures(5)
        .slow_calls(1.0, patience)
        .cancelled(Cancelled::Slow)
        .open_for(5 * SECOND)
        .half_open_probes(1)
        .build()
}

impl fmt::Debug for RedisClientBuilder {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClientBuilder")
            .field("databases", &self.databases)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

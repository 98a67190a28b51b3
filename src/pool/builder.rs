//! Settings of a pool, and their checks.

use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;

use super::entry::Ages;
use super::manage::{Check, Hook, HookFuture, Manage};
use super::shared::{Settings, Shared};
use super::state::Rules;
use super::{Order, Pool};
use crate::config::{ConfigError, Value, require};
use crate::policy::{DynPipeline, ErasablePolicy, Pipeline};
use crate::time;

/// The largest minimum.
const MOST_IDLE: usize = 1 << 16;

/// Builds a [`Pool`]; its text has the table of defaults.
#[must_use = "a builder does nothing before `build`"]
pub struct PoolBuilder<M: Manage> {
    manager: M,
    max_size: Option<usize>,
    min_idle: usize,
    max_creating: usize,
    max_wait: Duration,
    order: Order,
    check: Check,
    check_limit: Duration,
    create_limit: Duration,
    close_limit: Duration,
    ages: Ages,
    runtime: Option<Handle>,
    create_policy: Option<DynPipeline<M::Object, M::Error>>,
    after_create: Option<Hook<M::Object, M::Error>>,
    before_hand_over: Option<Hook<M::Object, M::Error>>,
    after_return: Option<Hook<M::Object, M::Error>>,
}

impl<M: Manage> PoolBuilder<M> {
    pub(super) fn new(manager: M) -> Self {
        Self {
            manager,
            max_size: None,
            min_idle: 0,
            max_creating: usize::MAX,
            max_wait: Duration::MAX,
            order: Order::NewestFirst,
            check: M::CHECK,
            check_limit: Duration::from_secs(5),
            create_limit: Duration::from_secs(30),
            close_limit: Duration::from_secs(5),
            ages: Ages {
                idle_time: Duration::MAX,
                life_time: Duration::MAX,
                jitter: 0.1,
            },
            runtime: None,
            create_policy: None,
            after_create: None,
            before_hand_over: None,
            after_return: None,
        }
    }

    /// How many objects there are at most, in whatever state. At least 1; it must be set.
    pub fn max_size(mut self, objects: usize) -> Self {
        self.max_size = Some(objects);
        self
    }

    /// How many idle objects are kept ready in the background. Default 0; at most
    /// `max_size`, and at most 65536: they are all created at once.
    ///
    /// When a creation fails, or an object never gets through its check, there is a pause
    /// before the next one that nobody waits for: up to 100 ms, doubled each time up to 30 s,
    /// half of it random.
    pub fn min_idle(mut self, objects: usize) -> Self {
        self.min_idle = objects;
        self
    }

    /// How many creations are under way at once. Default: no limit of its own; at least 1.
    pub fn max_creating(mut self, creations: usize) -> Self {
        self.max_creating = creations;
        self
    }

    /// How long a caller waits for an object, its check included. Default:
    /// [`Duration::MAX`], no limit of its own. With zero nobody waits, and so nobody has
    /// anything created: only `min_idle` does.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = span;
        self
    }

    /// Which idle object is lent out next. Default: [`Order::NewestFirst`].
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// When objects are checked. Default: [`Manage::CHECK`].
    pub fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// How long a check may take, and a hook before the hand-over or after the return.
    /// Default 5 s.
    pub fn check_limit(mut self, span: Duration) -> Self {
        self.check_limit = span;
        self
    }

    /// How long a creation may take, with all that its policy does, and then the hook after
    /// it. Default 30 s.
    pub fn create_limit(mut self, span: Duration) -> Self {
        self.create_limit = span;
        self
    }

    /// How long the end of an object may take. Default 5 s.
    pub fn close_limit(mut self, span: Duration) -> Self {
        self.close_limit = span;
        self
    }

    /// How long an object may be idle. It ends then, unless it is one of `min_idle`.
    /// Default: [`Duration::MAX`]; above 0.
    pub fn idle_time(mut self, span: Duration) -> Self {
        self.ages.idle_time = span;
        self
    }

    /// How old an object may get. What is older ends when it comes back, and before it would
    /// be lent out. Default: [`Duration::MAX`]; above 0.
    pub fn life_time(mut self, span: Duration) -> Self {
        self.ages.life_time = span;
        self
    }

    /// By which part of it the idle time and the life time of each object are shorter, at
    /// random between 0 and this: what was created together does not end together. Default
    /// 0.1; from 0 to 1.
    pub fn jitter(mut self, part: f64) -> Self {
        self.ages.jitter = part;
        self
    }

    /// Does all that goes on in the background in this runtime: creations, ends, hooks after
    /// the return, and the keeping of `min_idle` and of times. Default: in that of whoever
    /// causes it; see [Runtimes](Pool#runtimes).
    ///
    /// Give the one that lives longest where there are several, as with tests, blocking
    /// callers or a runtime for the set-up only: it must be driven all the time.
    pub fn runtime(mut self, handle: Handle) -> Self {
        self.runtime = Some(handle);
        self
    }

    /// Puts policies around each creation: a retry, a circuit breaker, a rate limit.
    ///
    /// What they refuse by is what the caller gets.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::pool::Pool;
    /// use mainstay::prelude::*;
    ///
    /// # async fn connect() -> std::io::Result<u32> { Ok(7) }
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let connecting = Pipeline::builder("connect")
    ///     .retry(Retry::builder().max_attempts(3))
    ///     .circuit_breaker(CircuitBreaker::builder())
    ///     .build()?;
    /// let pool = Pool::builder(connect).max_size(8).create_policy(&connecting).build()?;
    /// # let _ = pool; Ok(())
    /// # }
    /// ```
    pub fn create_policy<P>(mut self, pipeline: &Pipeline<P>) -> Self
    where
        P: ErasablePolicy<M::Object, M::Error> + 'static,
    {
        self.create_policy = Some(pipeline.erase());
        self
    }

    /// Does something with each new object, such as a login. When it fails, the object is
    /// closed, and the caller gets the error; the policy does not repeat it.
    pub fn after_create<H>(mut self, hook: H) -> Self
    where
        H: for<'a> Fn(&'a mut M::Object) -> HookFuture<'a, M::Error> + Send + Sync + 'static,
    {
        self.after_create = Some(Box::new(hook));
        self
    }

    /// Does something with an object each time before it is lent out, after its check. When
    /// it fails, the object is closed; the caller gets another one, but the error if the
    /// object was created since it began to wait.
    pub fn before_hand_over<H>(mut self, hook: H) -> Self
    where
        H: for<'a> Fn(&'a mut M::Object) -> HookFuture<'a, M::Error> + Send + Sync + 'static,
    {
        self.before_hand_over = Some(Box::new(hook));
        self
    }

    /// Does something with an object each time it comes back, such as a reset, before anyone
    /// else gets it. When it fails, the object is closed.
    ///
    /// It is polled once where the object is given back and goes on in a task of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::pool::Pool;
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let buffers = Pool::builder(|| async { Ok::<_, std::io::Error>(vec![0u8; 1 << 20]) })
    ///     .max_size(8)
    ///     .after_return(|buffer| Box::pin(async move { buffer.fill(0); Ok(()) }))
    ///     .build()?;
    /// # let _ = buffers; Ok(())
    /// # }
    /// ```
    pub fn after_return<H>(mut self, hook: H) -> Self
    where
        H: for<'a> Fn(&'a mut M::Object) -> HookFuture<'a, M::Error> + Send + Sync + 'static,
    {
        self.after_return = Some(Box::new(hook));
        self
    }

    /// Checks every setting. Within a runtime it starts to create the minimum.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `max_size` that is 0 or not set, `min_idle` above it, and a
    /// setting that its own text rules out.
    pub fn build(self) -> Result<Pool<M>, ConfigError> {
        let max = self.checked_max()?;
        self.check_spans()?;
        time::warm_up();
        let (rules, runtime) = (self.rules(), self.runtime.clone());
        let pool = Pool::new(Shared::new((rules, max), self.into_settings(), runtime));
        pool.shared().start_filling();
        Ok(pool)
    }

    fn checked_max(&self) -> Result<usize, ConfigError> {
        let max = self.max_size.unwrap_or(0);
        if max == 0 {
            let value = self.max_size.map_or(Value::Missing, Value::from);
            return Err(ConfigError::new("max_size", value, "at least 1"));
        }
        let min_idle = self.min_idle;
        require(min_idle <= max, "min_idle", min_idle, "at most max_size")?;
        require(min_idle <= MOST_IDLE, "min_idle", min_idle, "at most 65536")?;
        let creating = self.max_creating;
        require(creating > 0, "max_creating", creating, "at least 1")?;
        Ok(max)
    }

    fn check_spans(&self) -> Result<(), ConfigError> {
        for (field, span) in [
            ("check_limit", self.check_limit),
            ("create_limit", self.create_limit),
            ("close_limit", self.close_limit),
            ("idle_time", self.ages.idle_time),
            ("life_time", self.ages.life_time),
        ] {
            require(!span.is_zero(), field, span, "above 0")?;
        }
        let part = self.ages.jitter;
        require((0.0..=1.0).contains(&part), "jitter", part, "from 0 to 1")
    }

    fn rules(&self) -> Rules {
        Rules {
            min_idle: self.min_idle,
            max_creating: self.max_creating,
            check_after: match self.check {
                Check::Never => None,
                Check::AfterIdle(span) => Some(time::nanos(span)),
                Check::Always => Some(0),
            },
            hook_before: self.before_hand_over.is_some(),
            newest_first: self.order == Order::NewestFirst,
        }
    }

    fn into_settings(self) -> Settings<M> {
        Settings {
            manager: self.manager,
            max_wait: self.max_wait,
            check_limit: self.check_limit,
            create_limit: self.create_limit,
            close_limit: self.close_limit,
            ages: self.ages,
            create_policy: self.create_policy,
            after_create: self.after_create,
            before_hand_over: self.before_hand_over,
            after_return: self.after_return,
        }
    }
}

impl<M: Manage> fmt::Debug for PoolBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("max_size", &self.max_size)
            .field("min_idle", &self.min_idle)
            .field("max_creating", &self.max_creating)
            .field("max_wait", &self.max_wait)
            .field("order", &self.order)
            .field("check", &self.check)
            .field("ages", &self.ages)
            .finish_non_exhaustive()
    }
}

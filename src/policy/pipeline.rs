//! A stack with a name, to be shared and called.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Attempt, Call, Identity, IntoPolicy, Part, Policy, Stack};
use crate::bulkhead::Bulkhead;
use crate::circuit_breaker::CircuitBreaker;
use crate::config::ConfigError;
use crate::fallback::Fallback;
#[cfg(doc)]
use crate::observe::GaveUp;
use crate::observe::{IntoObserver, Source};
use crate::operation::{
    Closure, IntoOperation, OfFuture, Once, Operation, Plain, Single, WithAttempt,
};
use crate::rate_limit::RateLimiter;
use crate::retry::Retry;
use crate::time;
use crate::timeout::Timeout;

/// Policies in a fixed order, outermost first, to send calls through.
///
/// A clone is the same pipeline: it shares every policy's state. Cloning costs one
/// reference count; a call costs none, and allocates nothing while no policy has to wait.
///
/// # Order
///
/// The builder's first policy is the outermost, as in tower's `ServiceBuilder`. A good order
/// for most: `timeout` (whole call), `retry`, `circuit_breaker`, `rate_limit`, `bulkhead`,
/// `timeout` (one attempt). So each attempt is counted by the breaker, takes its own permit
/// and has its own time limit, and nothing outlasts the limit of the whole.
///
/// # Threads
///
/// Calls at the same time share what the policies share, and nothing else: the pipeline
/// itself is only read. A time limit and a fallback share nothing, and a retry its budget,
/// which is only read while it is full. The others say it in their own texts.
///
/// # Examples
///
/// ```
/// use mainstay::prelude::*;
/// use std::time::Duration;
///
/// # async fn charge(order: &str) -> std::io::Result<u32> { Ok(order.len() as u32) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let payments = Pipeline::builder("payments")
///     .timeout(Duration::from_secs(10))
///     .retry(Retry::builder().max_attempts(4))
///     .circuit_breaker(CircuitBreaker::builder().failure_rate(0.5))
///     .bulkhead(64)
///     .timeout(Duration::from_secs(1))
///     .build()?;
/// let order = String::from("a rope");
/// let reply = payments.call(|| charge(&order)).await?;
/// # assert_eq!(reply, 6);
/// # Ok(())
/// # }
/// ```
pub struct Pipeline<P> {
    shared: Arc<Shared<P>>,
}

struct Shared<P> {
    source: Source,
    policy: P,
}

impl Pipeline<Identity> {
    /// Starts a pipeline; the name stands in its events.
    pub fn builder(name: impl Into<String>) -> PipelineBuilder<Identity> {
        PipelineBuilder {
            source: Source {
                name: name.into().into_boxed_str(),
                observer: None,
            },
            policy: Ok(Identity),
        }
    }
}

impl<P> Pipeline<P> {
    /// The name given to the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.source.name
    }

    /// Calls `start` as often as the policies want, and yields the first result that they
    /// accept.
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    ///
    /// # Cancel safety
    ///
    /// See [`Call`].
    #[inline]
    pub fn call<'a, F, Fut, T, E>(&'a self, start: F) -> Call<'a, P::Operation>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        P: Policy<'a, Closure<Plain<F>, Fut>>,
    {
        self.run(Closure::new(Plain(start)))
    }

    /// As [`call`](Self::call), for an operation that asks which [`Attempt`] it is and how
    /// much time it has.
    #[inline]
    pub fn call_with<'a, F, Fut, T, E>(&'a self, start: F) -> Call<'a, P::Operation>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        P: Policy<'a, Closure<WithAttempt<F>, Fut>>,
    {
        self.run(Closure::new(WithAttempt(start)))
    }

    /// Calls `start` once at most, whatever the stack: for what must not be done twice.
    ///
    /// A retry that would try again gives up instead ([`GaveUp::NotRepeatable`]) and hands the error over, since an attempt
    /// whose answer was lost may have had its effect. Every other policy works as ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::prelude::*;
    ///
    /// # async fn charge(order: String) -> Result<(), String> { Err(order) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let payments = Pipeline::builder("payments").retry(Retry::builder()).build()?;
    /// let order = String::from("a rope");
    /// let error = payments.call_once(move || charge(order)).await.unwrap_err();
    /// assert_eq!(error.attempts(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn call_once<'a, F, Fut, T, E>(&'a self, start: F) -> Call<'a, P::Operation>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        P: Policy<'a, Single<F, Fut>>,
    {
        self.run(Single::new(start))
    }

    /// Sends a bare future through; it compiles only where no policy repeats.
    ///
    /// ```compile_fail
    /// # use mainstay::prelude::*;
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// let pipeline = Pipeline::builder("repeats").retry(Retry::builder()).build()?;
    /// pipeline.call_future(async { Ok::<_, std::io::Error>(()) }).await?; // does not compile
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn call_future<'a, Fut, T, E>(&'a self, future: Fut) -> Call<'a, P::Operation>
    where
        Fut: Future<Output = Result<T, E>>,
        P: Policy<'a, Once<Fut>>,
    {
        self.run(IntoOperation::<OfFuture>::into_operation(future))
    }

    /// Sends any [`Operation`] through.
    #[inline]
    pub fn run<'a, O>(&'a self, operation: O) -> Call<'a, P::Operation>
    where
        O: Operation,
        P: Policy<'a, O>,
    {
        let Shared { source, policy } = &*self.shared;
        Call::new(policy.wrap(operation), Some(source))
    }

    /// As [`run`](Self::run), as an operation: for one who drives many.
    #[inline]
    pub(crate) fn part<'a, O>(&'a self, operation: O) -> Part<'a, P::Operation>
    where
        O: Operation,
        P: Policy<'a, O>,
    {
        let Shared { source, policy } = &*self.shared;
        Part::new(policy.wrap(operation), Some(source))
    }
}

impl<P> Clone for Pipeline<P> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<P> fmt::Debug for Pipeline<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// Builds a [`Pipeline`], outermost policy first.
///
/// Each method takes a policy, or a builder of one; [`build`](Self::build) then reports the
/// first setting that is out of range.
#[must_use = "a builder does nothing before `build`"]
pub struct PipelineBuilder<P> {
    source: Source,
    policy: Result<P, ConfigError>,
}

impl<P> PipelineBuilder<P> {
    /// Adds any policy, further in than those before it.
    pub fn policy<Q: IntoPolicy>(self, policy: Q) -> PipelineBuilder<Stack<P, Q::Policy>> {
        let policy = match (self.policy, policy.into_policy()) {
            (Ok(outer), Ok(inner)) => Ok(Stack { outer, inner }),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        PipelineBuilder {
            source: self.source,
            policy,
        }
    }

    /// Limits the time of everything further in.
    pub fn timeout(self, limit: Duration) -> PipelineBuilder<Stack<P, Timeout>> {
        self.policy(limit)
    }

    /// Tries again after a failure.
    pub fn retry<Q, B, C, H>(self, retry: Q) -> PipelineBuilder<Stack<P, Retry<B, C, H>>>
    where
        Q: IntoPolicy<Policy = Retry<B, C, H>>,
    {
        self.policy(retry)
    }

    /// Stops calling what fails.
    pub fn circuit_breaker<Q, C>(self, breaker: Q) -> PipelineBuilder<Stack<P, CircuitBreaker<C>>>
    where
        Q: IntoPolicy<Policy = CircuitBreaker<C>>,
    {
        self.policy(breaker)
    }

    /// Limits how many calls start in a time.
    pub fn rate_limit<Q>(self, limiter: Q) -> PipelineBuilder<Stack<P, RateLimiter>>
    where
        Q: IntoPolicy<Policy = RateLimiter>,
    {
        self.policy(limiter)
    }

    /// Limits how many calls run at once.
    pub fn bulkhead<Q>(self, bulkhead: Q) -> PipelineBuilder<Stack<P, Bulkhead>>
    where
        Q: IntoPolicy<Policy = Bulkhead>,
    {
        self.policy(bulkhead)
    }

    /// Gives another answer when everything further in fails.
    pub fn fallback<A, W>(
        self,
        fallback: Fallback<A, W>,
    ) -> PipelineBuilder<Stack<P, Fallback<A, W>>> {
        self.policy(fallback)
    }

    /// Tells `observer` of everything out of the ordinary; the last one given counts.
    pub fn observe<M>(mut self, observer: impl IntoObserver<M>) -> Self {
        self.source.observer = Some(observer.into_observer());
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`], outermost policy first.
    pub fn build(self) -> Result<Pipeline<P>, ConfigError> {
        time::warm_up();
        let shared = Arc::new(Shared {
            source: self.source,
            policy: self.policy?,
        });
        Ok(Pipeline { shared })
    }
}

impl<P> fmt::Debug for PipelineBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineBuilder")
            .field("source", &self.source)
            .field("error", &self.policy.as_ref().err())
            .finish()
    }
}

//! The future that the user awaits.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::{Attempt, CallContext, Gated, Part, Pipeline, Policy};
use crate::bulkhead::Bulkhead;
use crate::circuit_breaker::CircuitBreaker;
use crate::error::Error;
use crate::fallback::{Fallback, FallingBack, Rescued};
use crate::observe::Source;
use crate::operation::{Operation, hand_up};
use crate::rare::Rare;
use crate::rate_limit::RateLimiter;
use crate::retry::{Retried, Retry, Retrying};
use crate::timeout::Timed;

pin_project! {
    /// One call: an operation with its policies, to be awaited.
    ///
    /// More policies can be put around it; the last one added is the outermost. The errors
    /// do not nest.
    ///
    /// # Cancel safety
    ///
    /// Dropping it at any point gives back every permit, leaves every queue and drops the
    /// operation's future. What a policy then counts is said in its own text.
    ///
    /// # Panics
    ///
    /// When polled after it was ready, as most futures do; and, from tokio, when a policy
    /// has to wait outside of a runtime whose timer is enabled.
    #[must_use = "a call does nothing unless awaited"]
    pub struct Call<'p, O> {
        #[pin]
        operation: O,
        source: Option<&'p Source>,
        standing: Standing,
    }
}

/// Where a call stands.
// Words, and no flag of a byte: a call is moved when a policy is put around it, and to move a
// byte with what is beside it made the processor wait for it (10 ns).
enum Standing {
    Alone,
    PartOf(Rare<Attempt>),
    Done,
}

impl<'p, O: Operation> Call<'p, O> {
    #[inline]
    pub(crate) const fn new(operation: O, source: Option<&'p Source>) -> Self {
        Self {
            operation,
            source,
            standing: Standing::Alone,
        }
    }

    #[inline]
    fn map<P>(self, wrap: impl FnOnce(O) -> P) -> Call<'p, P> {
        Call {
            operation: wrap(self.operation),
            source: self.source,
            standing: self.standing,
        }
    }

    /// Makes this call part of another, of which `attempt` is one.
    ///
    /// It inherits the deadline, so that no wait in it is begun which could not end in time
    /// (the one who set the deadline enforces it), and the retry budget: retries in here are
    /// taken from that of the outermost retry, so that nested ones do not multiply.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::{Call, Pipeline, prelude::*};
    /// use std::time::Duration;
    ///
    /// # async fn ask() -> std::io::Result<u32> { Ok(7) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let outer = Pipeline::builder("page").timeout(Duration::from_secs(2)).build()?;
    /// let inner = Pipeline::builder("part").retry(Retry::builder()).build()?;
    /// let page = outer
    ///     .call_with(|attempt| inner.call(ask).during(attempt))
    ///     .await;
    /// # assert_eq!(page.unwrap(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn during(mut self, attempt: Attempt) -> Self {
        let nearer = match &mut self.standing {
            Standing::PartOf(nearer) => nearer.take(),
            Standing::Alone | Standing::Done => None,
        };
        let attempt = match nearer {
            Some(nearer) => nearer.within(attempt),
            None => attempt,
        };
        self.standing = if attempt.is_free() {
            Standing::Alone
        } else {
            Standing::PartOf(Rare::new(attempt))
        };
        self
    }

    /// Limits the time to `limit`; see [`Timeout`](crate::Timeout).
    #[inline]
    pub fn timeout(self, limit: Duration) -> Call<'p, Timed<O>> {
        self.map(|inner| Timed::new(limit, inner))
    }

    /// Tries again after a failure; see [`Retry`]. Takes it by value or by reference.
    #[inline]
    pub fn retry<R, B, C, H>(self, retry: R) -> Call<'p, Retried<R, B, C, H, O>>
    where
        R: Borrow<Retry<B, C, H>>,
        B: crate::retry::Delays,
        Retried<R, B, C, H, O>: Operation,
    {
        self.map(|inner| Retrying::new(retry, inner))
    }

    /// Asks a circuit breaker first; see [`CircuitBreaker`].
    #[inline]
    pub fn circuit_breaker<C>(
        self,
        breaker: &CircuitBreaker<C>,
    ) -> Call<'p, Gated<'_, CircuitBreaker<C>, O>>
    where
        CircuitBreaker<C>: super::Judge<O::Output, O::Error>,
    {
        self.map(|inner| Gated::new(breaker, inner))
    }

    /// Takes a permit of a rate limiter first; see [`RateLimiter`].
    #[inline]
    pub fn rate_limit(self, limiter: &RateLimiter) -> Call<'p, Gated<'_, RateLimiter, O>> {
        self.map(|inner| Gated::new(limiter, inner))
    }

    /// Holds a permit of a bulkhead meanwhile; see [`Bulkhead`].
    #[inline]
    pub fn bulkhead(self, bulkhead: &Bulkhead) -> Call<'p, Gated<'_, Bulkhead, O>> {
        self.map(|inner| Gated::new(bulkhead, inner))
    }

    /// Gives another answer when this call fails; see [`Fallback`]. Takes it by value or by
    /// reference.
    #[inline]
    pub fn fallback<R, A, W>(self, fallback: R) -> Call<'p, Rescued<R, A, W, O>>
    where
        R: Borrow<Fallback<A, W>>,
        A: crate::fallback::Alternative<O::Output, O::Error>,
        W: crate::fallback::When<O::Error>,
    {
        self.map(|inner| FallingBack::new(fallback, inner))
    }

    /// Puts any policy around, such as one of your own.
    #[inline]
    pub fn policy<'a, P>(self, policy: &'a P) -> Call<'p, P::Operation>
    where
        P: Policy<'a, O>,
    {
        self.map(|inner| policy.wrap(inner))
    }

    /// Puts a whole pipeline around. What the policies so far do is still told to the
    /// observer of the pipeline that they are of.
    #[inline]
    pub fn through<'a, P>(self, pipeline: &'a Pipeline<P>) -> Call<'a, P::Operation>
    where
        P: Policy<'a, Part<'p, O>>,
    {
        let mut call = pipeline.run(Part::new(self.operation, self.source));
        call.standing = self.standing;
        call
    }
}

impl<O: Operation> Future for Call<'_, O> {
    type Output = Result<O::Output, Error<O::Error>>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let context = match this.standing {
            Standing::Alone => CallContext::root(),
            Standing::PartOf(attempt) => {
                attempt.get().map_or(CallContext::root(), Attempt::context)
            }
            Standing::Done => panic!("polled after it was ready"),
        };
        let polled = this.operation.poll(&context.told_to(*this.source), cx);
        hand_up(polled, |_| *this.standing = Standing::Done)
    }
}

impl<O> fmt::Debug for Call<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("source", &self.source)
            .field("done", &matches!(self.standing, Standing::Done))
            .finish_non_exhaustive()
    }
}

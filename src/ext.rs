//! The front door for any future and any closure.

use std::borrow::Borrow;
use std::time::Duration;

use crate::bulkhead::Bulkhead;
use crate::circuit_breaker::CircuitBreaker;
use crate::fallback::{Alternative, Fallback, Rescued, When};
use crate::operation::{IntoOperation, Operation};
use crate::policy::{Call, Gated, Judge, Pipeline, Policy};
use crate::rate_limit::RateLimiter;
use crate::retry::{Delays, Retried, Retry};
use crate::timeout::Timed;

/// Puts policies around any future of a `Result`, and around any closure that returns one.
///
/// The methods chain; the last one added is the outermost, and the errors do not nest. A
/// closure is started as often as a policy wants; a bare future cannot be, and
/// [`retry`](Self::retry) does not compile for it.
///
/// `Kind` is inferred.
///
/// # Examples
///
/// ```
/// use mainstay::prelude::*;
/// use std::time::Duration;
///
/// # async fn fetch(url: &str) -> std::io::Result<usize> { Ok(url.len()) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let url = String::from("http://localhost");
/// let once = fetch(&url).timeout(Duration::from_secs(2)).await?;
/// let kept_up = (|| fetch(&url))
///     .timeout(Duration::from_secs(1)) // each attempt
///     .retry(Retry::exponential(Duration::from_millis(100)))
///     .timeout(Duration::from_secs(5)) // all of them
///     .await?;
/// # assert_eq!(once, kept_up);
/// # Ok(())
/// # }
/// ```
pub trait Resilient<Kind>: IntoOperation<Kind> + Sized {
    /// Limits the time to `limit`; see [`Timeout`](crate::Timeout).
    #[inline]
    fn timeout(self, limit: Duration) -> Call<'static, Timed<Self::Operation>> {
        call(self).timeout(limit)
    }

    /// Tries again after a failure; see [`Retry`]. Takes it by value or by reference.
    #[inline]
    fn retry<R, B, C, H>(self, retry: R) -> Call<'static, Retried<R, B, C, H, Self::Operation>>
    where
        R: Borrow<Retry<B, C, H>>,
        B: Delays,
        Retried<R, B, C, H, Self::Operation>: Operation,
    {
        call(self).retry(retry)
    }

    /// Asks a circuit breaker first; see [`CircuitBreaker`].
    #[inline]
    fn circuit_breaker<C>(
        self,
        breaker: &CircuitBreaker<C>,
    ) -> Call<'static, Gated<'_, CircuitBreaker<C>, Self::Operation>>
    where
        CircuitBreaker<C>:
            Judge<<Self::Operation as Operation>::Output, <Self::Operation as Operation>::Error>,
    {
        call(self).circuit_breaker(breaker)
    }

    /// Takes a permit of a rate limiter first; see [`RateLimiter`].
    #[inline]
    fn rate_limit(
        self,
        limiter: &RateLimiter,
    ) -> Call<'static, Gated<'_, RateLimiter, Self::Operation>> {
        call(self).rate_limit(limiter)
    }

    /// Holds a permit of a bulkhead meanwhile; see [`Bulkhead`].
    #[inline]
    fn bulkhead(self, bulkhead: &Bulkhead) -> Call<'static, Gated<'_, Bulkhead, Self::Operation>> {
        call(self).bulkhead(bulkhead)
    }

    /// Gives another answer when this fails; see [`Fallback`]. Takes it by value or by
    /// reference.
    #[inline]
    fn fallback<R, A, W>(self, fallback: R) -> Call<'static, Rescued<R, A, W, Self::Operation>>
    where
        R: Borrow<Fallback<A, W>>,
        A: Alternative<
                <Self::Operation as Operation>::Output,
                <Self::Operation as Operation>::Error,
            >,
        W: When<<Self::Operation as Operation>::Error>,
    {
        call(self).fallback(fallback)
    }

    /// Puts any policy around, such as one of your own.
    #[inline]
    fn policy<'a, P>(self, policy: &'a P) -> Call<'static, P::Operation>
    where
        P: Policy<'a, Self::Operation>,
    {
        call(self).policy(policy)
    }

    /// Puts a whole pipeline around; see [`Pipeline`].
    #[inline]
    fn through<'a, P>(self, pipeline: &'a Pipeline<P>) -> Call<'a, P::Operation>
    where
        P: Policy<'a, Self::Operation>,
    {
        pipeline.run(self.into_operation())
    }
}

impl<Kind, T: IntoOperation<Kind>> Resilient<Kind> for T {}

#[inline]
fn call<Kind, T: IntoOperation<Kind>>(operation: T) -> Call<'static, T::Operation> {
    Call::new(operation.into_operation(), None)
}

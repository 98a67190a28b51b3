//! Stops calling what fails.
use crate::config::ConfigError;
use crate::error::{Error, Refusal};
use crate::policy::{CallContext, End, Gate, IntoPolicy, Judge};
use std::task::{Context, Poll};
/// Which results count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failures;
/// Classifier.
pub trait Classify<T, E> {
    /// Judges.
    fn classify(&self, result: Result<&T, &Error<E>>) -> End;
}
impl<T, E> Classify<T, E> for Failures {
    fn classify(&self, result: Result<&T, &Error<E>>) -> End {
        match result {
            Ok(_) => End::Success,
            Err(_) => End::Failure,
        }
    }
}
/// Breaker.
#[derive(Clone, Debug)]
pub struct CircuitBreaker<C = Failures> {
    classifier: C,
}
/// Builder.
#[derive(Clone, Debug)]
pub struct CircuitBreakerBuilder;
impl CircuitBreaker {
    /// Builder.
    pub fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder
    }
}
impl CircuitBreakerBuilder {
    /// Rate.
    pub fn failure_rate(self, _: f64) -> Self {
        self
    }
}
impl IntoPolicy for CircuitBreakerBuilder {
    type Policy = CircuitBreaker;
    fn into_policy(self) -> Result<CircuitBreaker, ConfigError> {
        Ok(CircuitBreaker {
            classifier: Failures,
        })
    }
}
impl<C> IntoPolicy for CircuitBreaker<C> {
    type Policy = Self;
    fn into_policy(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}
impl<C> Gate for CircuitBreaker<C> {
    type Wait = ();
    type Ticket = u64;
    fn admit(&self, _: &CallContext<'_>) -> crate::policy::Admission<u64> {
        crate::policy::Admission::Admitted(0)
    }
    fn poll_admit(
        &self,
        (): &mut (),
        _: &CallContext<'_>,
        _: &mut Context<'_>,
    ) -> Poll<Result<u64, Refusal>> {
        Poll::Ready(Ok(0))
    }
    fn leave(&self, (): &mut ()) {}
    fn settle(&self, _: u64, _: End) {}
}
impl<C: Classify<T, E>, T, E> Judge<T, E> for CircuitBreaker<C> {
    fn judge(&self, result: Result<&T, &Error<E>>) -> End {
        self.classifier.classify(result)
    }
}
crate::policy::gate_is_policy!(CircuitBreaker<C>, C);

//! Limits how many calls start in a time.
use crate::config::ConfigError;
use crate::error::Refusal;
use crate::policy::{CallContext, End, Gate, IntoPolicy, Judge};
use std::task::{Context, Poll};
/// Limiter.
#[derive(Clone, Debug)]
pub struct RateLimiter;
impl IntoPolicy for RateLimiter {
    type Policy = Self;
    fn into_policy(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}
impl Gate for RateLimiter {
    type Wait = ();
    type Ticket = ();
    fn admit(&self, _: &CallContext<'_>) -> crate::policy::Admission<()> {
        crate::policy::Admission::Admitted(())
    }
    fn poll_admit(
        &self,
        (): &mut (),
        _: &CallContext<'_>,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }
    fn leave(&self, (): &mut ()) {}
    fn settle(&self, (): (), _: End) {}
}
impl<T, E> Judge<T, E> for RateLimiter {}
crate::policy::gate_is_policy!(RateLimiter);

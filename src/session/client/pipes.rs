//! The pipelines around a provider: one for each kind of operation, and what they share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::super::error::SessionError;
use super::kind::OperationKind;
use super::rules::{Health, Repeat};
use crate::classify::Failures;
use crate::observe::Observer;
use crate::policy::{Admission, CallContext, End, Gate, Identity, Judge, Stack};
use crate::retry::{Backoff, RetryBudget};
use crate::{
    Attempt, Bulkhead, CircuitBreaker, ConfigError, Error, Pipeline, RateLimiter, Refusal,
    Resilient, Retry,
};

/// A future whose type is forgotten. A call to a provider costs far more than a box.
pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

type Outer = Stack<Stack<Identity, Retry<Backoff, Repeat>>, Maybe<CircuitBreaker<Health>>>;
type Pipe = Pipeline<Stack<Stack<Outer, Maybe<RateLimiter>>, Maybe<Bulkhead>>>;

/// What is set for all of them.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) max_attempts: u32,
    pub(super) max_elapsed: Duration,
    pub(super) max_retry_after: Duration,
    pub(super) backoff: Backoff,
    pub(super) budget: RetryBudget,
    pub(super) breaker: CircuitBreaker<Failures>,
    pub(super) create_limit: Option<RateLimiter>,
    pub(super) bulkhead: Option<Bulkhead>,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

/// One pipeline for each kind.
#[derive(Debug)]
pub(super) struct Pipes {
    each: Vec<Pipe>,
    /// For a command, or code, that may run twice.
    run_again: Pipe,
    /// For what is repeated elsewhere: how the reaper ends and searches.
    plain: Pipe,
}

/// Which pipeline a call goes through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Of(OperationKind),
    RunAgain,
    Plain,
}

impl Way {
    pub(super) const fn running(kind: OperationKind, repeatable: bool) -> Self {
        if repeatable {
            Self::RunAgain
        } else {
            Self::Of(kind)
        }
    }
}

impl Pipes {
    pub(super) fn new(provider: &str, rules: &Rules) -> Result<Self, ConfigError> {
        let of = |kind: OperationKind| {
            let name = format!("session.{provider}.{}", kind.name());
            let gates = match kind {
                OperationKind::Create => rules.gates(rules.create_limit.clone()),
                OperationKind::Delete => Gates::none(),
                _ => rules.gates(None),
            };
            rules.pipe(name, repeat_of(kind), gates)
        };
        let again = format!("session.{provider}.run");
        let plain = format!("session.{provider}.reaper");
        Ok(Self {
            each: OperationKind::ALL
                .into_iter()
                .map(of)
                .collect::<Result<_, _>>()?,
            run_again: rules.pipe(again, Repeat::Always, rules.gates(None))?,
            plain: rules.pipe(plain, Repeat::Never, Gates::none())?,
        })
    }

    /// Calls `start` as often as its pipeline wants, each attempt for so long at most.
    pub(super) fn call<'a, T: Send + 'a>(
        &'a self,
        way: Way,
        limit: Duration,
        start: impl FnMut() -> Boxed<'a, Result<T, SessionError>> + Send + 'a,
    ) -> Boxed<'a, Result<T, Error<SessionError>>> {
        self.call_in(None, way, limit, start)
    }

    /// The same, as a part of another call: the waits between attempts end before its deadline.
    pub(super) fn call_in<'a, T: Send + 'a>(
        &'a self,
        part_of: Option<Attempt>,
        way: Way,
        limit: Duration,
        start: impl FnMut() -> Boxed<'a, Result<T, SessionError>> + Send + 'a,
    ) -> Boxed<'a, Result<T, Error<SessionError>>> {
        let pipe = match way {
            Way::Of(kind) => &self.each[kind as usize],
            Way::RunAgain => &self.run_again,
            Way::Plain => &self.plain,
        };
        let call = start.timeout(limit).through(pipe);
        match part_of {
            Some(attempt) => Box::pin(call.during(attempt)),
            None => Box::pin(call),
        }
    }
}

/// A creation and its search repeat by rules of their own.
const fn repeat_of(kind: OperationKind) -> Repeat {
    match kind {
        OperationKind::Create => Repeat::Never,
        OperationKind::Run | OperationKind::Code | OperationKind::Write => Repeat::Undone,
        _ => Repeat::Always,
    }
}

/// What a call of some kind has to pass.
struct Gates {
    breaker: Option<CircuitBreaker<Health>>,
    limiter: Option<RateLimiter>,
    bulkhead: Option<Bulkhead>,
}

impl Gates {
    /// What frees must not wait for what is used: a provider that has no room left fails what
    /// would use some, and recovers by what is ended.
    const fn none() -> Self {
        Self {
            breaker: None,
            limiter: None,
            bulkhead: None,
        }
    }
}

impl Rules {
    fn gates(&self, limiter: Option<RateLimiter>) -> Gates {
        Gates {
            breaker: Some(self.breaker.classifier(Health)),
            limiter,
            bulkhead: self.bulkhead.clone(),
        }
    }

    fn pipe(&self, name: String, repeat: Repeat, gates: Gates) -> Result<Pipe, ConfigError> {
        let retry = Retry::builder()
            .max_attempts(self.max_attempts)
            .max_elapsed(self.max_elapsed)
            .max_retry_after(self.max_retry_after)
            .backoff(self.backoff)
            .budget(self.budget.clone())
            .classifier(repeat);
        let pipeline = Pipeline::builder(name);
        let pipeline = match &self.observer {
            Some(observer) => pipeline.observe(Arc::clone(observer)),
            None => pipeline,
        };
        pipeline
            .retry(retry)
            .policy(Maybe(gates.breaker))
            .policy(Maybe(gates.limiter))
            .policy(Maybe(gates.bulkhead))
            .build()
    }
}

/// A gate that may be missing; everyone passes then.
#[derive(Debug)]
pub(super) struct Maybe<G>(Option<G>);

impl<G: Gate> Gate for Maybe<G> {
    type Wait = G::Wait;
    type Ticket = Option<G::Ticket>;

    fn admit(&self, call: &CallContext<'_>) -> Admission<Self::Ticket> {
        match self.0.as_ref().map(|gate| gate.admit(call)) {
            None => Admission::Admitted(None),
            Some(Admission::Admitted(ticket)) => Admission::Admitted(Some(ticket)),
            Some(Admission::Refused(reason)) => Admission::Refused(reason),
            Some(Admission::Wait) => Admission::Wait,
        }
    }

    fn poll_admit(
        &self,
        wait: &mut G::Wait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Ticket, Refusal>> {
        match &self.0 {
            None => Poll::Ready(Ok(None)),
            Some(gate) => gate.poll_admit(wait, call, cx).map_ok(Some),
        }
    }

    fn leave(&self, wait: &mut G::Wait) {
        if let Some(gate) = &self.0 {
            gate.leave(wait);
        }
    }

    fn settle(&self, ticket: Self::Ticket, end: End) {
        if let (Some(gate), Some(ticket)) = (&self.0, ticket) {
            gate.settle(ticket, end);
        }
    }
}

impl<G: Judge<T, E>, T, E> Judge<T, E> for Maybe<G> {
    fn judge(&self, result: Result<&T, &Error<E>>) -> End {
        match &self.0 {
            None => End::Ignored,
            Some(gate) => gate.judge(result),
        }
    }
}

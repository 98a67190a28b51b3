//! Settings of a client, and their checks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::super::provider::SessionProvider;
use super::SessionClient;
use super::book::{self, Book};
use super::creation;
use super::home::Home;
use super::kind::{OperationKind, TimeLimits};
use super::pipes::{Pipes, Rules};
use super::report::ReaperEvent;
use super::shared::{Listener, Parts, Shared};
use crate::config::ConfigError;
use crate::observe::{IntoObserver, Observer};
use crate::policy::IntoPolicy;
use crate::retry::{Backoff, Delays, Jitter, RetryBudget};
use crate::{Bulkhead, CircuitBreaker, RateLimiter};

/// Builds a [`SessionClient`]; its text has the table of defaults.
#[must_use = "a builder does nothing before `build`"]
pub struct SessionClientBuilder<P: SessionProvider> {
    provider: P,
    limits: TimeLimits,
    late: Duration,
    max_attempts: u32,
    max_elapsed: Duration,
    max_retry_after: Duration,
    backoff: Backoff,
    budget: RetryBudget,
    breaker: Option<Result<CircuitBreaker, ConfigError>>,
    create_rate: Result<Option<RateLimiter>, ConfigError>,
    bulkhead: Option<Result<Bulkhead, ConfigError>>,
    reaper: book::Rules,
    listener: Option<Listener>,
    observer: Option<Arc<dyn Observer>>,
    runtime: Option<Handle>,
}

impl<P: SessionProvider> SessionClientBuilder<P> {
    pub(super) fn new(provider: P) -> Self {
        Self {
            provider,
            limits: TimeLimits::default(),
            late: Duration::from_secs(120),
            max_attempts: 3,
            max_elapsed: Duration::from_secs(120),
            max_retry_after: Duration::from_secs(60),
            backoff: Backoff::exponential(Duration::from_millis(200))
                .max_delay(Duration::from_secs(10)),
            budget: RetryBudget::default(),
            breaker: None,
            create_rate: default_rate().map(Some),
            bulkhead: None,
            reaper: book::Rules {
                concurrency: 8,
                max_attempts: 20,
                backoff: Backoff::exponential(Duration::from_millis(500))
                    .max_delay(Duration::from_secs(120))
                    .jitter(Jitter::Equal),
                looks: 3,
            },
            listener: None,
            observer: None,
            runtime: None,
        }
    }

    /// How long one attempt of this kind may take; for [`Run`](OperationKind::Run) and
    /// [`Code`](OperationKind::Code) that of those without a limit of their own. More than
    /// zero.
    pub fn time_limit(mut self, kind: OperationKind, limit: Duration) -> Self {
        self.limits.set(kind, limit);
        self
    }

    /// What is added to a command's own time limit, so that its provider can end it.
    pub fn run_margin(mut self, span: Duration) -> Self {
        self.limits.margin = span;
        self
    }

    /// How long a creation whose time is up is still waited for in the background, so that
    /// what comes of it can be ended; then it is given up, and searched for.
    pub fn late_limit(mut self, span: Duration) -> Self {
        self.late = span;
        self
    }

    /// How often anything is tried at most, the first time included. At least 1.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// No attempt begins later than this after the first. More than zero.
    pub fn max_elapsed(mut self, span: Duration) -> Self {
        self.max_elapsed = span;
        self
    }

    /// The longest wait that the provider may ask for; a longer one ends the attempts.
    pub fn max_retry_after(mut self, span: Duration) -> Self {
        self.max_retry_after = span;
        self
    }

    /// The delays between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Takes the retries, those of creations excepted, from this budget, shared with everyone
    /// who has a clone of it.
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// The breaker that all kinds but deletions share. What counts is the client's to say; everything else is
    /// as in the settings given here.
    pub fn circuit_breaker(mut self, breaker: impl IntoPolicy<Policy = CircuitBreaker>) -> Self {
        self.breaker = Some(breaker.into_policy());
        self
    }

    /// How many creations begin in a time.
    pub fn create_rate(mut self, limiter: impl IntoPolicy<Policy = RateLimiter>) -> Self {
        self.create_rate = limiter.into_policy().map(Some);
        self
    }

    /// Any number of creations may begin at once.
    pub fn no_create_rate(mut self) -> Self {
        self.create_rate = Ok(None);
        self
    }

    /// How many calls run at once, of all kinds but deletions, which never wait for others.
    pub fn bulkhead(mut self, bulkhead: impl IntoPolicy<Policy = Bulkhead>) -> Self {
        self.bulkhead = Some(bulkhead.into_policy());
        self
    }

    /// How many sessions the reaper ends at once. At least 1.
    pub fn reaper_concurrency(mut self, sessions: usize) -> Self {
        self.reaper.concurrency = sessions;
        self
    }

    /// After so many failures the reaper gives a session up. At least 1.
    pub fn reaper_attempts(mut self, attempts: u32) -> Self {
        self.reaper.max_attempts = attempts;
        self
    }

    /// The reaper's delays between two tries, and between two looks.
    pub fn reaper_backoff(mut self, backoff: Backoff) -> Self {
        self.reaper.backoff = backoff;
        self
    }

    /// So many looks in a row that find nothing end the search for a session whose reply was
    /// lost. At least 1; one is enough once the client is closed.
    pub fn search_looks(mut self, looks: u32) -> Self {
        self.reaper.looks = looks;
        self
    }

    /// Told of what the reaper does, under no lock and in the task that did it: keep it short.
    /// The last one given counts; a panic in it changes nothing.
    pub fn on_reaper_event(
        mut self,
        listener: impl Fn(&ReaperEvent) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Tells `observer` of everything out of the ordinary in the pipelines: retries, refusals,
    /// time limits. They are named `session.<provider>.<kind>`; the last one given counts.
    pub fn observe<M>(mut self, observer: impl IntoObserver<M>) -> Self {
        self.observer = Some(observer.into_observer());
        self
    }

    /// Does all that goes on in the background in this runtime. Default: in that of whoever
    /// causes it, or else in that of the latest call. Give the one that lives longest where
    /// there are several, or where one does nothing for a while: a runtime of one thread works
    /// only inside of `block_on`, and the reaper with it.
    pub fn runtime(mut self, handle: Handle) -> Self {
        self.runtime = Some(handle);
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a setting that its own text rules out.
    pub fn build(self) -> Result<SessionClient<P>, ConfigError> {
        self.limits.check()?;
        self.check_reaper()?;
        let rules = Rules {
            max_attempts: self.max_attempts,
            max_elapsed: self.max_elapsed,
            max_retry_after: self.max_retry_after,
            backoff: self.backoff,
            budget: self.budget,
            breaker: match self.breaker {
                Some(breaker) => breaker?,
                None => CircuitBreaker::builder()
                    .name(self.provider.name())
                    .build()?,
            },
            create_limit: self.create_rate?,
            bulkhead: self.bulkhead.transpose()?,
            observer: self.observer,
        };
        let shared = Shared::new(Parts {
            pipes: Pipes::new(self.provider.name(), &rules)?,
            provider: self.provider,
            creation: creation::Limits {
                attempts: rules.max_attempts,
                looks: rules.max_attempts,
            },
            rules,
            limits: self.limits,
            late: self.late,
            home: Home::new(self.runtime),
            book: Book::new(self.reaper),
            listener: self.listener,
        });
        Ok(SessionClient { shared })
    }

    fn check_reaper(&self) -> Result<(), ConfigError> {
        let rules = &self.reaper;
        rules.backoff.check()?;
        for (field, value) in [
            ("reaper_concurrency", rules.concurrency as u64),
            ("reaper_attempts", u64::from(rules.max_attempts)),
            ("search_looks", u64::from(rules.looks)),
        ] {
            if value == 0 {
                return Err(ConfigError::new(field, value, "at least 1"));
            }
        }
        Ok(())
    }
}

fn default_rate() -> Result<RateLimiter, ConfigError> {
    RateLimiter::per_second(10)
        .max_wait(Duration::from_secs(10))
        .build()
}

impl<P: SessionProvider> fmt::Debug for SessionClientBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClientBuilder")
            .field("provider", &self.provider.name())
            .field("limits", &self.limits)
            .field("max_attempts", &self.max_attempts)
            .field("reaper", &self.reaper)
            .finish_non_exhaustive()
    }
}

//! Settings of a scope, and their checks.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::state::Registry;
use super::{Scope, ScopeReport, Shared};
use crate::config::{ConfigError, require};
use crate::sync::Lock;
use crate::time;

/// What an error of one task means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnError {
    /// The first error, or panic, cancels all others.
    #[default]
    CancelOthers,
    /// Errors are collected; the others go on.
    Collect,
}

pub(super) type OnDrop = Box<dyn Fn(&ScopeReport) + Send + Sync>;

/// Builds a [`Scope`]; its text has the table of defaults.
#[must_use = "a builder does nothing before `build`"]
pub struct ScopeBuilder {
    limit: usize,
    on_error: OnError,
    grace: Duration,
    token: Option<CancellationToken>,
    on_drop: Option<OnDrop>,
}

impl Default for ScopeBuilder {
    fn default() -> Self {
        Self {
            limit: usize::MAX,
            on_error: OnError::default(),
            grace: Duration::from_millis(100),
            token: None,
            on_drop: None,
        }
    }
}

impl ScopeBuilder {
    /// How many tasks run at once; more wait in the order in which they came. At least 1.
    /// Default: no limit.
    pub fn limit(mut self, tasks: usize) -> Self {
        self.limit = tasks;
        self
    }

    /// What an error means for the others. Default: it cancels them.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// How long tasks that were cancelled may take to end by themselves, before they are
    /// aborted. Default 100 ms; zero aborts at once, [`Duration::MAX`] never.
    pub fn grace(mut self, span: Duration) -> Self {
        self.grace = span;
        self
    }

    /// Cancels the scope when this token is cancelled. The scope's own is a child of it.
    ///
    /// With the token of a [`Shutdown`](crate::shutdown::Shutdown) it is cancelled at the
    /// request and aborted after its grace, without draining: to drain, give the scope to the
    /// shutdown as a component instead.
    pub fn parent(mut self, token: &CancellationToken) -> Self {
        self.token = Some(token.child_token());
        self
    }

    /// Is called when the scope is dropped while tasks are there: `in_flight` of the report
    /// are those that are aborted. A panic of the function is swallowed.
    pub fn on_drop(mut self, tell: impl Fn(&ScopeReport) + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Box::new(tell));
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a `limit` of 0.
    pub fn build(self) -> Result<Scope, ConfigError> {
        require(self.limit > 0, "limit", self.limit, "at least 1")?;
        Ok(self.into_scope())
    }

    pub(super) fn into_scope(self) -> Scope {
        time::warm_up();
        let cancel_on_error = self.on_error == OnError::CancelOthers;
        let shared = Arc::new(Shared {
            registry: Lock::new(Registry::new(self.limit, cancel_on_error)),
            token: self.token.unwrap_or_default(),
            sooner: Notify::new(),
            runtime: OnceLock::new(),
            grace: self.grace,
        });
        Scope {
            shared,
            on_drop: self.on_drop,
        }
    }
}

impl fmt::Debug for ScopeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeBuilder")
            .field("limit", &self.limit)
            .field("on_error", &self.on_error)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

//! Settings of a shutdown, and their checks.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::component::{Closing, Component};
use super::plan::{Plan, Shares};
use super::{Named, Shutdown};
use crate::config::{ConfigError, require};
use crate::time;

/// Builds a [`Shutdown`]; its text has the table of defaults.
#[must_use = "a builder does nothing before `build`"]
pub struct ShutdownBuilder {
    deadline: Duration,
    shares: [f64; 3],
    components: Vec<Named>,
    stage: usize,
    exit_at_deadline: bool,
}

impl ShutdownBuilder {
    pub(super) fn new() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            shares: [0.8, 0.15, 0.05],
            components: Vec::new(),
            stage: 0,
            exit_at_deadline: false,
        }
    }

    /// How long the whole may take, from the request on. Default 30 s.
    ///
    /// Set it below the time after which your supervisor kills.
    pub fn deadline(mut self, span: Duration) -> Self {
        self.deadline = span;
        self
    }

    /// Which part of the deadline is there to drain, to cancel, and to abort. Each is at least
    /// 0, together they make 1. Default 0.8, 0.15 and 0.05.
    pub fn shares(mut self, drain: f64, cancel: f64, abort: f64) -> Self {
        self.shares = [drain, cancel, abort];
        self
    }

    /// Declares a component, in a stage of its own after those declared so far.
    pub fn component(mut self, name: impl Into<Box<str>>, component: impl Component) -> Self {
        self.stage += 1;
        self.push(name.into(), Box::new(component), true);
        self
    }

    /// Declares the last act of something, in a stage of its own: the future is made and run
    /// when its turn comes, at the latest when the time to drain is over. It cannot be asked
    /// to end, and is dropped when the time to cancel is over.
    pub fn closing<E, F>(
        mut self,
        name: impl Into<Box<str>>,
        close: impl FnOnce() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.stage += 1;
        self.push(name.into(), Box::new(Closing::new(close)), false);
        self
    }

    /// Declares components that close side by side, in one stage after those declared so far.
    pub fn stage(mut self, declare: impl FnOnce(Stage) -> Stage) -> Self {
        self.stage += 1;
        declare(Stage(self)).0
    }

    /// Ends the process if the shutdown has not ended by itself at its deadline (and 50 ms):
    /// for code that blocks the runtime, where not even its timers go on. A thread of its own
    /// watches, from the request on, on the real clock. Default: it does not.
    ///
    /// The exit status is that of [`exit_code`](super::ShutdownReport::exit_code) with
    /// something left: 128 and the signal's number, or 1.
    pub fn exit_at_deadline(mut self) -> Self {
        self.exit_at_deadline = true;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `shares` that are negative, not numbers, or do not make 1.
    pub fn build(self) -> Result<Shutdown, ConfigError> {
        let [drain, cancel, abort] = self.shares;
        for share in self.shares {
            require(share >= 0.0, "shares", share, "at least 0 each")?;
        }
        let sum = drain + cancel + abort;
        require((sum - 1.0).abs() < 1e-6, "shares", sum, "1 together")?;
        time::warm_up();
        let shares = Shares { drain, cancel };
        let stages = self.components.iter().map(|one| (one.stage, one.asks));
        let plan = Plan::new(self.deadline, shares, stages);
        Ok(Shutdown::new(plan, self.components, self.exit_at_deadline))
    }

    fn push(&mut self, name: Box<str>, component: Box<dyn Component>, asks: bool) {
        self.components.push(Named {
            name,
            component,
            asks,
            stage: self.stage,
        });
    }
}

impl fmt::Debug for ShutdownBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownBuilder")
            .field("deadline", &self.deadline)
            .field("shares", &self.shares)
            .field("components", &self.components)
            .finish_non_exhaustive()
    }
}

/// The components of one stage; see [`ShutdownBuilder::stage`].
#[derive(Debug)]
#[must_use = "a stage is returned to its builder"]
pub struct Stage(ShutdownBuilder);

impl Stage {
    /// Declares a component of this stage.
    pub fn component(mut self, name: impl Into<Box<str>>, component: impl Component) -> Self {
        self.0.push(name.into(), Box::new(component), true);
        self
    }

    /// Declares a last act of this stage, as [`ShutdownBuilder::closing`] does.
    pub fn closing<E, F>(
        mut self,
        name: impl Into<Box<str>>,
        close: impl FnOnce() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let closing = Box::new(Closing::new(close));
        self.0.push(name.into(), closing, false);
        self
    }
}

//! Settings of a queue, and their checks.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::after::{Callbacks, OnProgress};
use super::home::Home;
use super::job::{IntoDynPipeline, Job};
use super::outbox::Outbox;
use super::shared::{Inner, Shared};
use super::snapshot::QueueSnapshot;
use super::start::{self, Start};
use super::state::{Limits, State};
use super::{Owner, Queue, Side};
use crate::config::{ConfigError, require};
use crate::sync::Lock;
use crate::time;

/// The handler is called once for each item.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

/// The handler is called through a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Through<P>(P);

/// Builds a [`Queue`]; its text has the table of defaults.
#[must_use = "a builder does nothing before `build`"]
pub struct QueueBuilder<P = Direct> {
    settings: Settings,
    way: P,
}

struct Settings {
    workers: usize,
    capacity: usize,
    max_wait: Duration,
    ageing: Option<Duration>,
    outcomes: Option<usize>,
    on_progress: Option<OnProgress>,
}

impl QueueBuilder {
    pub(super) fn new() -> Self {
        let settings = Settings {
            workers: 4,
            capacity: 64,
            max_wait: Duration::MAX,
            ageing: None,
            outcomes: None,
            on_progress: None,
        };
        Self {
            settings,
            way: Direct,
        }
    }

    /// Sends each item through a [`Pipeline`](crate::Pipeline) or a
    /// [`DynPipeline`](crate::DynPipeline): its retries, time limits and all the rest apply
    /// to each item by itself. The handler then gets a clone of the item for each attempt;
    /// put an item that is dear to clone into an [`Arc`].
    pub fn through<P>(self, pipeline: P) -> QueueBuilder<Through<P>> {
        QueueBuilder {
            settings: self.settings,
            way: Through(pipeline),
        }
    }

    /// Checks every setting. The handler makes an item's future; it runs inside of the
    /// worker, so whatever it needs of its own (a session, a connection) is made in that
    /// future, and what fails or panics there concerns that item only.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `workers`, `capacity`, `outcomes` or `ageing` of 0.
    pub fn build<J, T, E, F, Fut>(self, handler: F) -> Result<Queue<J, T, E>, ConfigError>
    where
        J: Send + 'static,
        F: Fn(J) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.settings.finish(start::once(handler), false)
    }

    /// As [`build`](Self::build), for a handler that can be asked to end: it gets a [`Job`].
    ///
    /// # Errors
    ///
    /// As those of [`build`](Self::build).
    pub fn build_with<J, T, E, F, Fut>(self, handler: F) -> Result<Queue<J, T, E>, ConfigError>
    where
        J: Send + 'static,
        F: Fn(J, Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.settings.finish(start::once_with(handler), true)
    }
}

impl<P> QueueBuilder<Through<P>> {
    /// As [`QueueBuilder::build`]; the handler makes the future of one attempt.
    ///
    /// # Errors
    ///
    /// As those of [`QueueBuilder::build`].
    pub fn build<J, T, E, F, Fut>(self, handler: F) -> Result<Queue<J, T, E>, ConfigError>
    where
        P: IntoDynPipeline<T, E>,
        J: Clone + Send + 'static,
        F: Fn(J) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let start = start::through(self.way.0.into_dyn(), handler);
        self.settings.finish(start, false)
    }

    /// As [`QueueBuilder::build_with`]; the handler makes the future of one attempt. An item
    /// that is asked to end makes no further one: it ends where it is when it waits to be
    /// tried again or for a policy's permit, and else with the attempt under way, whose
    /// result is the item's as it stands: no policy hears of it.
    ///
    /// # Errors
    ///
    /// As those of [`QueueBuilder::build`].
    pub fn build_with<J, T, E, F, Fut>(self, handler: F) -> Result<Queue<J, T, E>, ConfigError>
    where
        P: IntoDynPipeline<T, E>,
        J: Clone + Send + 'static,
        F: Fn(J, Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let start = start::through_with(self.way.0.into_dyn(), handler);
        self.settings.finish(start, true)
    }
}

impl<P> QueueBuilder<P> {
    /// How many items are worked on at once. Default 4; at least 1.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// How many items may wait for a worker; each passes through the line, if only for the
    /// moment until a free worker takes it. Default 64; at least 1. Memory is taken as
    /// items come.
    pub fn capacity(mut self, items: usize) -> Self {
        self.settings.capacity = items;
        self
    }

    /// How long a push waits for room. Default: [`Duration::MAX`], no limit; zero refuses at
    /// once.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.settings.max_wait = span;
        self
    }

    /// Lets waiting items gain one level of priority with each `span`, so that none waits
    /// for ever behind a stream of more important ones. Default: they do not age.
    pub fn ageing(mut self, span: Duration) -> Self {
        self.settings.ageing = Some(span);
        self
    }

    /// Keeps the outcomes of items without a ticket for
    /// [`Queue::outcomes`](super::Queue::outcomes). No item begins while `bound` outcomes are
    /// unread. Those that run by then add theirs, as do items that end unbegun and tickets
    /// dropped late; what exceeds the bound takes up places of the
    /// [capacity](Self::capacity) until it is read. So `bound + workers - 1 + capacity` are
    /// kept at most, beside what tickets have held. Default: outcomes without a ticket are
    /// dropped; only their counts stay.
    pub fn outcomes(mut self, bound: usize) -> Self {
        self.settings.outcomes = Some(bound);
        self
    }

    /// Calls `tell` with the counts after each outcome, and once for all that are ended
    /// together (by a [shutdown](super::Queue::shutdown), for one); before anyone is woken
    /// by what it tells. It runs on the worker's task, or with whoever cancels, who waits
    /// for it: it should be short. A panic in it is caught and forgotten.
    ///
    /// With several threads the calls may come out of order: what has more
    /// [settled](QueueSnapshot::settled) is newer.
    pub fn on_progress(mut self, tell: impl Fn(QueueSnapshot) + Send + Sync + 'static) -> Self {
        self.settings.on_progress = Some(Arc::new(tell));
        self
    }
}

impl Settings {
    fn check(&self) -> Result<(), ConfigError> {
        require(self.workers > 0, "workers", self.workers, "at least 1")?;
        require(self.capacity > 0, "capacity", self.capacity, "at least 1")?;
        if let Some(bound) = self.outcomes {
            require(bound > 0, "outcomes", bound, "at least 1")?;
        }
        match self.ageing {
            Some(span) if span.is_zero() => {
                Err(ConfigError::new("ageing", span, "longer than nothing"))
            }
            _ => Ok(()),
        }
    }

    fn finish<J, T, E>(
        self,
        start: Start<J, T, E>,
        asks: bool,
    ) -> Result<Queue<J, T, E>, ConfigError> {
        self.check()?;
        time::warm_up();
        let limits = Limits {
            capacity: self.capacity,
            workers: self.workers,
            ageing: self.ageing.map(time::nanos),
        };
        let shared = Arc::new(Shared {
            inner: Lock::new(Inner {
                state: State::new(limits),
                outbox: Outbox::new(self.outcomes),
                callbacks: Some(Callbacks {
                    start,
                    on_progress: self.on_progress,
                }),
            }),
            asks,
            max_wait: self.max_wait,
            ages: self.ageing.is_some(),
            home: Lock::new(Home::here()),
        });
        let owner = Arc::new(Owner { shared });
        Ok(Queue {
            side: Arc::new(Side { owner }),
        })
    }
}

impl<P> fmt::Debug for QueueBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("workers", &self.settings.workers)
            .field("capacity", &self.settings.capacity)
            .field("max_wait", &self.settings.max_wait)
            .field("ageing", &self.settings.ageing)
            .field("outcomes", &self.settings.outcomes)
            .finish_non_exhaustive()
    }
}

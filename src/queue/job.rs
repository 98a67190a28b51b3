//! What a handler is, and what it may know of the item that it works on.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::cell::{Cell, Running};
use super::shared::Record;
use crate::error::Error;
use crate::policy::{Attempt, CallContext, DynPipeline, ErasablePolicy, Pipeline};

/// Makes an item's future.
pub(super) type Start<J, T, E> = Box<dyn Fn(J, Beginning<T, E>) -> Running<T, E> + Send + Sync>;

/// An item that is about to begin: it counts its attempts.
pub(super) struct Beginning<T, E> {
    cell: Record<T, E>,
}

impl<T, E> Beginning<T, E> {
    pub(super) const fn new(cell: Record<T, E>) -> Self {
        Self { cell }
    }

    fn attempt(&self) -> &Cell<T, E> {
        self.cell.count_attempt();
        &self.cell
    }

    fn attempt_as(&self, attempt: Attempt) -> Job {
        let cell = self.attempt();
        Job {
            id: cell.id(),
            attempt,
            token: cell.token.clone().unwrap_or_default(),
        }
    }
}

/// What a handler may ask about the item that it works on; see
/// [`build_with`](super::QueueBuilder::build_with).
#[derive(Clone, Debug)]
pub struct Job {
    id: u64,
    attempt: Attempt,
    token: CancellationToken,
}

impl Job {
    /// The item's number, as its [`Ticket`](super::Ticket) has it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Which attempt this is, and how much time it has, where the queue works
    /// [through](super::QueueBuilder::through) a pipeline.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Is cancelled when the item is to end: the handler may finish what it is at, and its
    /// result counts. It is one token for all attempts.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Whether the item is to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }
}

/// A pipeline that fits the handler's results: a [`Pipeline`], a [`DynPipeline`], or a
/// reference to one.
pub trait IntoDynPipeline<T, E> {
    /// Forgets the types of its policies; the state stays shared.
    fn into_dyn(self) -> DynPipeline<T, E>;
}

impl<T, E> IntoDynPipeline<T, E> for DynPipeline<T, E> {
    fn into_dyn(self) -> DynPipeline<T, E> {
        self
    }
}

impl<T, E> IntoDynPipeline<T, E> for &DynPipeline<T, E> {
    fn into_dyn(self) -> DynPipeline<T, E> {
        self.clone()
    }
}

impl<P, T, E> IntoDynPipeline<T, E> for Pipeline<P>
where
    P: ErasablePolicy<T, E> + 'static,
    T: 'static,
    E: 'static,
{
    fn into_dyn(self) -> DynPipeline<T, E> {
        self.erase()
    }
}

impl<P, T, E> IntoDynPipeline<T, E> for &Pipeline<P>
where
    P: ErasablePolicy<T, E> + 'static,
    T: 'static,
    E: 'static,
{
    fn into_dyn(self) -> DynPipeline<T, E> {
        self.erase()
    }
}

/// A handler that is called once for each item.
pub(super) fn once<J, T, E, F, Fut>(handler: F) -> Start<J, T, E>
where
    F: Fn(J, Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    Box::new(move |item, beginning: Beginning<T, E>| {
        let job = beginning.attempt_as(CallContext::root().to_attempt());
        let future = handler(item, job);
        Box::pin(async move { future.await.map_err(Error::operation) })
    })
}

/// A handler that is called for each attempt that the pipeline wants.
pub(super) fn through<J, T, E, F, Fut>(pipeline: DynPipeline<T, E>, handler: F) -> Start<J, T, E>
where
    J: Clone + Send + 'static,
    F: Fn(J, Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |item, beginning: Beginning<T, E>| {
        let (handler, pipeline) = (Arc::clone(&handler), pipeline.clone());
        let start = move |attempt| handler(item.clone(), beginning.attempt_as(attempt));
        Box::pin(async move { pipeline.call_with(start).await })
    })
}

impl<T, E> fmt::Debug for Beginning<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beginning").finish_non_exhaustive()
    }
}

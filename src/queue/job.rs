//! What a handler may know of the item that it works on, and what it may be called through.

use tokio_util::sync::CancellationToken;

use crate::policy::{Attempt, DynPipeline, ErasablePolicy, Pipeline};

/// What a handler may ask about the item that it works on; see
/// [`build_with`](super::QueueBuilder::build_with).
#[derive(Clone, Debug)]
pub struct Job {
    id: u64,
    attempt: Attempt,
    token: CancellationToken,
}

impl Job {
    pub(super) const fn new(id: u64, attempt: Attempt, token: CancellationToken) -> Self {
        Self { id, attempt, token }
    }

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
    /// result counts. It is one token for all attempts: once it is cancelled there is none
    /// any more.
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

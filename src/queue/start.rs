//! How an item becomes a future: the four forms of a handler.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::asked::{Asked, Watch};
use super::cell::{Running, Settled};
use super::job::Job;
use super::shared::Record;
use crate::operation::poll_slot;
use crate::policy::{Attempt, CallContext, DynPipeline};

/// Makes an item's future.
pub(super) type Start<J, T, E> = Arc<dyn Fn(J, &Record<T, E>) -> Running<T, E> + Send + Sync>;

/// Counts an attempt; what its handler may know of it.
fn begun<T, E>(record: &Record<T, E>, attempt: Attempt) -> Job {
    record.count_attempt();
    let token = record.token.clone().unwrap_or_default();
    Job::new(record.id(), attempt, token)
}

pin_project! {
    /// A handler's future whose error is one of a call.
    struct Plainly<Fut> {
        // Until it has ended: a panic of its drop is the item's as well.
        #[pin]
        future: Option<Fut>,
    }
}

impl<Fut, T, E> Future for Plainly<Fut>
where
    Fut: Future<Output = Result<T, E>>,
{
    type Output = Settled<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        poll_slot(self.project().future, cx)
    }
}

/// A handler that is called once for each item.
pub(super) fn once<J, T, E, F, Fut>(handler: F) -> Start<J, T, E>
where
    F: Fn(J) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    Arc::new(move |item, record: &Record<T, E>| {
        record.count_attempt();
        let future = Some(handler(item));
        Box::pin(Plainly { future })
    })
}

/// As [`once`], for a handler that takes a [`Job`].
pub(super) fn once_with<J, T, E, F, Fut>(handler: F) -> Start<J, T, E>
where
    F: Fn(J, Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    Arc::new(move |item, record: &Record<T, E>| {
        let job = begun(record, CallContext::root().to_attempt());
        let future = Some(handler(item, job));
        Box::pin(Plainly { future })
    })
}

/// A handler that is called for each attempt that the pipeline wants.
pub(super) fn through<J, T, E, F, Fut>(pipeline: DynPipeline<T, E>, handler: F) -> Start<J, T, E>
where
    J: Clone + Send + 'static,
    F: Fn(J) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |item: J, record: &Record<T, E>| {
        let (handler, pipeline) = (Arc::clone(&handler), pipeline.clone());
        let record = Arc::clone(record);
        let attempts = move || {
            let item = item.clone();
            record.count_attempt();
            handler(item)
        };
        Box::pin(async move { pipeline.call(attempts).await })
    })
}

/// As [`through`], for a handler that takes a [`Job`]: the item can be asked to end wherever
/// it is in the pipeline.
pub(super) fn through_with<J, T, E, F, Fut>(
    pipeline: DynPipeline<T, E>,
    handler: F,
) -> Start<J, T, E>
where
    J: Clone + Send + 'static,
    F: Fn(J, Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |item: J, record: &Record<T, E>| {
        let (handler, pipeline) = (Arc::clone(&handler), pipeline.clone());
        let record = Arc::clone(record);
        let counted = Arc::clone(&record);
        let watch = Arc::new(Watch::new(record.token.clone().unwrap_or_default()));
        let watched = Arc::clone(&watch);
        let attempts = move |attempt| {
            watched.attempt(|| {
                let item = item.clone();
                handler(item, begun(&counted, attempt))
            })
        };
        let call = async move { pipeline.call_with(attempts).await };
        Box::pin(Asked::new(call, watch, record))
    })
}

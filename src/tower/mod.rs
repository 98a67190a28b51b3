//! The front door for tower: one layer and one service for every stack of policies.
//!
//! The service shares the pipeline's state with every clone and with direct calls. Each call
//! costs one clone of the inner service, one reference count and one allocation.
//!
//! # Readiness
//!
//! `poll_ready` is always ready and takes nothing: neither a permit of the pipeline's nor the
//! inner service's readiness. Both are acquired inside the call, in the order of the stack:
//! a refused call never touches the inner service, the time in which that is not ready
//! counts against the time limits, and each attempt drives to readiness the very instance
//! that it calls. An instance whose readiness fails is given up, and that error is not
//! retried. What `poll_ready` would say elsewhere (wait, or shed load) the pipeline's gates
//! decide; put a [`Bulkhead`](crate::Bulkhead) where back-pressure is wanted.

mod boxed;
mod replay;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use boxed::{BoxedFuture, BoxedLayer, BoxedService};
pub use replay::{Cloned, CopiedBy, Replay, ReplayAgain, UsedUp};

use crate::config::ConfigError;
use crate::error::{Error, Progress};
use crate::operation::{Operation, Outcome, Repeatable, cancel_slot, is_vacant, poll_slot};
use crate::policy::{CallContext, IntoPolicy, Pipeline, Policy, Stack};

impl<P> Pipeline<P> {
    /// This pipeline as a tower layer, for requests that are `Clone`; for others see
    /// [`layer_with`](Self::layer_with) and [`layer_once`](Self::layer_once).
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::prelude::*;
    /// use std::time::Duration;
    /// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pipeline = Pipeline::builder("echo").timeout(Duration::from_secs(1)).build()?;
    /// let mut echo = ServiceBuilder::new()
    ///     .layer(pipeline.layer())
    ///     .service(service_fn(|n: u32| async move { Ok::<_, std::io::Error>(n) }));
    /// assert_eq!(echo.ready().await?.call(7).await?, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer(&self) -> PipelineLayer<P> {
        self.layer_by(Cloned)
    }

    /// This pipeline as a tower layer, for any request; it works where no policy repeats.
    #[must_use]
    pub fn layer_once(&self) -> PipelineLayer<P, UsedUp> {
        self.layer_by(UsedUp)
    }

    /// This pipeline as a tower layer, for requests that `copy` copies. Where it says `None`
    /// the request is sent once, and never again.
    #[must_use]
    pub fn layer_with<Req, F>(&self, copy: F) -> PipelineLayer<P, CopiedBy<F>>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.layer_by(CopiedBy(copy))
    }

    fn layer_by<R>(&self, replay: R) -> PipelineLayer<P, R> {
        PipelineLayer {
            pipeline: self.clone(),
            replay,
        }
    }
}

/// Any single policy, or a builder of one, as a tower layer.
///
/// # Examples
///
/// ```
/// use mainstay::Bulkhead;
/// use mainstay::tower::IntoLayer;
/// use tower::{ServiceBuilder, service_fn};
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let service = ServiceBuilder::new()
///     .layer(Bulkhead::builder().max_concurrent(64).into_layer()?)
///     .service(service_fn(|n: u32| async move { Ok::<_, std::io::Error>(n) }));
/// # let _ = service; Ok(())
/// # }
/// ```
pub trait IntoLayer: IntoPolicy + Sized {
    /// Checks the settings and makes the layer, for requests that can be cloned.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] names the first setting that is out of range.
    fn into_layer(
        self,
    ) -> Result<PipelineLayer<Stack<crate::policy::Identity, Self::Policy>>, ConfigError> {
        Ok(Pipeline::builder("").policy(self).build()?.layer())
    }
}

impl<P: IntoPolicy> IntoLayer for P {}

/// Puts a pipeline around a service; see [`Pipeline::layer`].
pub struct PipelineLayer<P, R = Cloned> {
    pipeline: Pipeline<P>,
    replay: R,
}

impl<P, R> PipelineLayer<P, R> {
    /// The same layer, for services whose error is a box and for neighbours that want one:
    /// the service's error is then [`BoxError`](crate::BoxError), made by
    /// [`Error::into_boxed`](crate::Error::into_boxed).
    #[must_use]
    pub fn boxed(self) -> BoxedLayer<P, R> {
        BoxedLayer { layer: self }
    }
}

impl<P, R: Clone, S> Layer<S> for PipelineLayer<P, R> {
    type Service = PipelineService<P, S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        PipelineService {
            pipeline: self.pipeline.clone(),
            replay: self.replay.clone(),
            inner,
        }
    }
}

/// A service with a pipeline around it.
///
/// Its error is [`Error<S::Error>`](crate::Error). The module's text says what its readiness
/// means.
pub struct PipelineService<P, S, R = Cloned> {
    pipeline: Pipeline<P>,
    replay: R,
    inner: S,
}

impl<P, S, R> PipelineService<P, S, R> {
    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The pipeline around it.
    pub fn pipeline(&self) -> &Pipeline<P> {
        &self.pipeline
    }
}

/// The future of a [`PipelineService`].
pub type ServiceFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<P, S, R, Req> Service<Req> for PipelineService<P, S, R>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
    Req: Send + 'static,
    R: Replay<Req> + Clone + Send + 'static,
    P: Send + Sync + 'static,
    P: for<'a> Policy<'a, ServiceCall<S, Req, R, S::Future>, Operation: Send>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ServiceFuture<S::Response, Error<S::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let pipeline = self.pipeline.clone();
        let operation = ServiceCall {
            service: self.inner.clone(),
            replay: self.replay.clone(),
            request: Some(request),
            waits: false,
            future: None,
        };
        Box::pin(async move { pipeline.run(operation).await })
    }
}

pin_project! {
    /// One request to a service: readiness, then the call.
    #[must_use = "an operation does nothing unless polled"]
    pub struct ServiceCall<S, Req, R, Fut> {
        service: S,
        replay: R,
        // Empty once no further attempt is possible.
        request: Option<Req>,
        // Whether the service was not ready when it was last asked.
        waits: bool,
        #[pin]
        future: Option<Fut>,
    }
}

impl<S, Req, R> Operation for ServiceCall<S, Req, R, S::Future>
where
    S: Service<Req> + Clone,
    R: Replay<Req>,
{
    type Output = S::Response;
    type Error = S::Error;

    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let mut this = self.project();
        if is_vacant(&mut this.future) {
            let readiness = this.service.poll_ready(cx);
            let waited = std::mem::replace(this.waits, readiness.is_pending());
            if waited && call.remaining() == Some(Duration::ZERO) {
                *this.waits = true;
                // Nothing is sent any more. Who set the deadline has a timer armed for it,
                // and cancels when that fires: now, or at its next tick.
                return Poll::Pending;
            }
            if let Err(error) = ready!(readiness) {
                // By tower's contract this instance is now of no use to anyone.
                *this.request = None;
                return Poll::Ready(Err(Error::operation(error)));
            }
            let Some(request) = this.replay.next(this.request) else {
                panic!("polled after its request was used up");
            };
            let future = this.service.call(request);
            this.future.set(Some(future));
        }
        poll_slot(this.future, cx)
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<S::Error> {
        let mut this = self.project();
        *this.waits = false;
        if is_vacant(&mut this.future) {
            // Readiness may hold a permit, or a place in a queue. Only the instance's end
            // gives it back; a clone has none of it.
            *this.service = this.service.clone();
        }
        cancel_slot(this.future)
    }
}

impl<S, Req, R> Repeatable for ServiceCall<S, Req, R, S::Future>
where
    S: Service<Req> + Clone,
    R: Replay<Req> + ReplayAgain,
{
    fn can_repeat(&self) -> bool {
        self.request.is_some()
    }
}

impl<P, R: Clone> Clone for PipelineLayer<P, R> {
    fn clone(&self) -> Self {
        Self {
            pipeline: self.pipeline.clone(),
            replay: self.replay.clone(),
        }
    }
}

impl<P, S: Clone, R: Clone> Clone for PipelineService<P, S, R> {
    fn clone(&self) -> Self {
        Self {
            pipeline: self.pipeline.clone(),
            replay: self.replay.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<P, R> fmt::Debug for PipelineLayer<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PipelineLayer")
            .field(&self.pipeline)
            .finish()
    }
}

impl<P, S: fmt::Debug, R> fmt::Debug for PipelineService<P, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineService")
            .field("pipeline", &self.pipeline)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, Req, R, Fut> fmt::Debug for ServiceCall<S, Req, R, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceCall")
            .field("running", &self.future.is_some())
            .field("repeatable", &self.request.is_some())
            .finish_non_exhaustive()
    }
}

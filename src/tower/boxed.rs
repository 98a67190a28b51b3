//! The same layer and service with boxed errors.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Cloned, PipelineLayer, PipelineService};
use crate::error::{BoxError, Error};

/// A [`PipelineLayer`] whose services' errors are boxed; see [`PipelineLayer::boxed`].
pub struct BoxedLayer<P, R = Cloned> {
    pub(super) layer: PipelineLayer<P, R>,
}

impl<P, R: Clone, S> Layer<S> for BoxedLayer<P, R> {
    type Service = BoxedService<PipelineService<P, S, R>>;

    fn layer(&self, inner: S) -> Self::Service {
        BoxedService(self.layer.layer(inner))
    }
}

/// A service with a pipeline around it, whose errors are boxed.
#[derive(Clone, Debug)]
pub struct BoxedService<S>(S);

impl<S, Req, E> Service<Req> for BoxedService<S>
where
    S: Service<Req, Error = Error<E>>,
    E: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Error::into_boxed)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        BoxedFuture {
            inner: self.0.call(request),
        }
    }
}

pin_project! {
    /// The future of a [`BoxedService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct BoxedFuture<Fut> {
        #[pin]
        inner: Fut,
    }
}

impl<Fut, T, E> Future for BoxedFuture<Fut>
where
    Fut: Future<Output = Result<T, Error<E>>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx).map_err(Error::into_boxed)
    }
}

impl<P, R: Clone> Clone for BoxedLayer<P, R> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
        }
    }
}

impl<P, R> fmt::Debug for BoxedLayer<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxedLayer").field(&self.layer).finish()
    }
}

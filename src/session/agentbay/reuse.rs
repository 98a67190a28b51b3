//! Connections that are used again instead of new ones.
//!
//! A connection goes back to the pool a moment after the end of the reply that it brought. Who
//! asks within that moment finds none, and would open one more: 16 calls in a row would open
//! some, not one. So a new connection waits for that moment; the pool hands over the old one
//! as soon as it is back, and then the new one is not opened at all.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use crate::time::{Instant, Timer, now};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection may take to be back: it is a task's turn, and the machine may be busy.
/// It is what a new one to the service takes, too.
const MOMENT: Duration = Duration::from_millis(100);

tokio::task_local! {
    /// Set while a call waits for its connection. What the pool goes on with in a task of its
    /// own has none: its call was served by another connection.
    static CALL: ();
}

/// Runs a call whose connections wait for those that are on their way back.
pub(super) fn call<F: Future>(future: F) -> impl Future<Output = F::Output> {
    CALL.scope((), future)
}

/// Puts [`Reuse`] in front of what connects.
#[derive(Clone, Debug, Default)]
pub(super) struct ReuseLayer {
    /// When the last reply ended, in nanoseconds. It is a hint on its own, and publishes
    /// nothing: relaxed is enough.
    last_end: Arc<AtomicU64>,
}

impl ReuseLayer {
    /// A reply has been read to its end: its connection is on its way back.
    pub(super) fn ended(&self) {
        self.last_end.store(now().as_nanos(), Ordering::Relaxed);
    }

    /// Until when a connection may be on its way back.
    fn until(&self) -> Instant {
        Instant::from_nanos(self.last_end.load(Ordering::Relaxed)).saturating_add(MOMENT)
    }
}

impl<S> Layer<S> for ReuseLayer {
    type Service = Reuse<S>;

    fn layer(&self, inner: S) -> Reuse<S> {
        let layer = self.clone();
        Reuse { inner, layer }
    }
}

/// Connects, but not while a connection may be on its way back.
#[derive(Clone, Debug)]
pub(super) struct Reuse<S> {
    inner: S,
    layer: ReuseLayer,
}

impl<R, S> Service<R> for Reuse<S>
where
    R: Send + 'static,
    S: Service<R, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, address: R) -> Self::Future {
        // The one that is ready goes along, a fresh clone stays.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let until = self.layer.until();
        Box::pin(async move {
            wait(until).await?;
            inner.call(address).await
        })
    }
}

/// Waits, and fails as soon as the call no longer needs a connection.
async fn wait(until: Instant) -> Result<(), NotNeeded> {
    let mut timer = Timer::new();
    std::future::poll_fn(|cx| {
        if CALL.try_with(|()| ()).is_err() {
            return Poll::Ready(Err(NotNeeded));
        }
        timer.poll_until(until, cx).map(Ok)
    })
    .await
}

/// Another connection was back in time. Nobody sees it.
#[derive(Debug)]
struct NotNeeded;

impl std::fmt::Display for NotNeeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("another connection was back in time")
    }
}

impl std::error::Error for NotNeeded {}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause};

    use super::*;

    /// Connects at once.
    #[derive(Clone)]
    struct AtOnce;

    impl Service<()> for AtOnce {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Ready<Result<(), BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(Ok(()))
        }
    }

    fn connect(layer: &ReuseLayer) -> impl Future<Output = Result<(), BoxError>> + Send + use<> {
        layer.layer(AtOnce).call(())
    }

    #[tokio::test]
    async fn a_connection_waits_only_while_another_may_be_on_its_way_back() {
        pause();
        let layer = ReuseLayer::default();
        let mut first = tokio_test::task::spawn(call(connect(&layer)));
        assert!(first.poll().is_ready());
        layer.ended();
        let mut second = tokio_test::task::spawn(call(connect(&layer)));
        assert!(!second.poll().is_ready());
        advance(MOMENT + Duration::from_millis(2)).await;
        assert!(second.poll().is_ready());
        let mut third = tokio_test::task::spawn(call(connect(&layer)));
        assert!(third.poll().is_ready());
    }

    #[tokio::test]
    async fn a_connection_that_no_call_waits_for_is_not_made() {
        pause();
        let layer = ReuseLayer::default();
        layer.ended();
        let mut connecting = Box::pin(connect(&layer));
        {
            let mut waiting = tokio_test::task::spawn(call(connecting.as_mut()));
            assert!(waiting.poll().is_pending());
        }
        // The pool goes on with it in a task of its own.
        let error = tokio::spawn(connecting).await.unwrap().unwrap_err();
        assert!(error.is::<NotNeeded>(), "{error}");
    }
}

//! Connections that are used again instead of new ones.
//!
//! A connection goes back to the pool a moment after the end of the reply that it brought. Who
//! asks within that moment finds none, and would open one more: 16 calls in a row would open
//! some, not one. So a new connection waits for that moment, if one of the same server is on its
//! way back that no other call waits for; the pool hands it over as soon as it is back, and then
//! the new one is not opened at all. Each call takes the place of one reply that has ended, so
//! `n` calls at once open `n` connections at most, and no more calls wait than connections come
//! back.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{CONNECTION, HeaderMap};
use tower_layer::Layer;
use tower_service::Service;

use crate::time::{Instant, Timer, now};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection may take to be back: it is a task's turn, and the machine may be busy.
/// It is what a new one to the service takes, too.
const MOMENT: Duration = Duration::from_millis(100);

/// The most connections that are thought to be on their way back; with more, the oldest are
/// taken to be there.
const MOST_RETURNING: usize = 256;

tokio::task_local! {
    /// Set while a call waits for its connection. What the pool goes on with in a task of its
    /// own has none: its call was served by another connection.
    static CALL: Call;
}

/// A call that needs a connection.
struct Call {
    server: Server,
    /// Whether the pool had none for it.
    connects: Cell<bool>,
}

/// What the pool tells connections apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server(Arc<str>);

impl Server {
    pub(super) fn of(url: &Url) -> Self {
        Self(url.origin().ascii_serialization().into())
    }
}

/// The connections that are on their way back, the oldest first.
#[derive(Debug, Default)]
struct Returning(VecDeque<(Instant, Server)>);

impl Returning {
    /// One was given back.
    fn add(&mut self, now: Instant, server: Server) {
        self.forget_old(now);
        if self.0.len() == MOST_RETURNING {
            self.0.pop_front();
        }
        self.0.push_back((now, server));
    }

    /// Takes one of this server, so that nobody else waits for it; until when it may take.
    fn take(&mut self, now: Instant, server: &Server) -> Option<Instant> {
        self.forget_old(now);
        let at = self.0.iter().position(|(_, one)| one == server)?;
        let (since, _) = self.0.remove(at)?;
        Some(since.saturating_add(MOMENT))
    }

    fn forget_old(&mut self, now: Instant) {
        let old = |since: Instant| now.since(since) >= MOMENT;
        while self.0.front().is_some_and(|(since, _)| old(*since)) {
            self.0.pop_front();
        }
    }
}

/// Puts [`Reuse`] in front of what connects.
#[derive(Clone, Debug, Default)]
pub(super) struct ReuseLayer {
    returning: Arc<Mutex<Returning>>,
}

impl ReuseLayer {
    /// Runs a call whose connection may wait for one that is on its way back.
    pub(super) async fn call<F: Future>(&self, server: Server, future: F) -> F::Output {
        let connects = Cell::new(false);
        let call = async {
            let mut future = pin!(future);
            let mut is_first = true;
            poll_fn(|cx| {
                let poll = future.as_mut().poll(cx);
                if std::mem::take(&mut is_first) {
                    self.found();
                }
                poll
            })
            .await
        };
        CALL.scope(Call { server, connects }, call).await
    }

    /// The pool is asked first, and what connects right after it: a call that does not connect
    /// has got a connection that was back.
    fn found(&self) {
        CALL.with(|call| {
            if !call.connects.get() {
                self.returning().take(now(), &call.server);
            }
        });
    }

    /// A reply has been read to its end: its connection is on its way back, unless the server
    /// closes it.
    pub(super) fn ended(&self, server: Server, headers: &HeaderMap) {
        if !closes(headers) {
            self.returning().add(now(), server);
        }
    }

    /// Until when a call's own connection waits for another, if one may come back for it.
    fn until(&self) -> Option<Instant> {
        let found = CALL.try_with(|call| {
            call.connects.set(true);
            self.returning().take(now(), &call.server)
        });
        found.ok().flatten()
    }

    /// Never held over an await.
    fn returning(&self) -> MutexGuard<'_, Returning> {
        self.returning
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn closes(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("close"))
}

impl<S> Layer<S> for ReuseLayer {
    type Service = Reuse<S>;

    fn layer(&self, inner: S) -> Reuse<S> {
        let layer = self.clone();
        Reuse { inner, layer }
    }
}

/// Connects, but not while a connection is on its way back that nobody else waits for.
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
            if let Some(until) = until {
                wait(until).await?;
            }
            inner.call(address).await
        })
    }
}

/// Waits, and fails as soon as the call no longer needs a connection.
async fn wait(until: Instant) -> Result<(), NotNeeded> {
    let mut timer = Timer::new();
    poll_fn(|cx| {
        if CALL.try_with(|_| ()).is_err() {
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

    fn server(name: &str) -> Server {
        Server(name.into())
    }

    fn ended(layer: &ReuseLayer) {
        layer.ended(server("a"), &HeaderMap::new());
    }

    fn connect(layer: &ReuseLayer) -> impl Future<Output = Result<(), BoxError>> + Send + use<> {
        let mut connector = layer.layer(AtOnce);
        // As the pool does, when it is asked.
        async move { connector.call(()).await }
    }

    /// Whether a call to a server whose pool is empty connects at once.
    fn is_at_once(layer: &ReuseLayer, name: &str) -> bool {
        let call = layer.call(server(name), connect(layer));
        tokio_test::task::spawn(call).poll().is_ready()
    }

    #[tokio::test]
    async fn a_connection_waits_only_while_another_may_be_on_its_way_back() {
        pause();
        let layer = ReuseLayer::default();
        assert!(is_at_once(&layer, "a"));
        ended(&layer);
        let call = layer.call(server("a"), connect(&layer));
        let mut second = tokio_test::task::spawn(call);
        assert!(!second.poll().is_ready());
        advance(MOMENT + Duration::from_millis(2)).await;
        assert!(second.poll().is_ready());
        ended(&layer);
        advance(MOMENT).await;
        assert!(is_at_once(&layer, "a"));
    }

    #[tokio::test]
    async fn so_many_wait_as_connections_come_back_to_their_server() {
        pause();
        let layer = ReuseLayer::default();
        ended(&layer);
        ended(&layer);
        assert!(is_at_once(&layer, "b"));
        assert!(!is_at_once(&layer, "a"));
        assert!(!is_at_once(&layer, "a"));
        assert!(is_at_once(&layer, "a"));
    }

    #[tokio::test]
    async fn what_came_back_and_was_found_is_waited_for_by_nobody() {
        pause();
        let layer = ReuseLayer::default();
        ended(&layer);
        layer.call(server("a"), async {}).await;
        assert!(is_at_once(&layer, "a"));
    }

    #[tokio::test]
    async fn what_the_server_closes_does_not_come_back() {
        pause();
        for (value, comes_back) in [
            ("close", false),
            ("x, Close", false),
            ("keep-alive", true),
            ("closed", true),
        ] {
            let layer = ReuseLayer::default();
            let value = value.parse().unwrap();
            layer.ended(server("a"), &HeaderMap::from_iter([(CONNECTION, value)]));
            assert_eq!(is_at_once(&layer, "a"), !comes_back);
        }
    }

    #[test]
    fn so_many_are_known_at_most() {
        let mut returning = Returning::default();
        let at = Instant::from_nanos;
        for n in 0..1000 {
            returning.add(at(n), server("a"));
        }
        assert_eq!(returning.0.len(), MOST_RETURNING);
        returning.add(at(200_000_000), server("a"));
        assert_eq!(returning.0.len(), 1);
    }

    #[tokio::test]
    async fn a_connection_that_no_call_waits_for_is_not_made() {
        pause();
        let layer = ReuseLayer::default();
        ended(&layer);
        let mut connecting = Box::pin(connect(&layer));
        {
            let call = layer.call(server("a"), connecting.as_mut());
            assert!(tokio_test::task::spawn(call).poll().is_pending());
        }
        // The pool goes on with it in a task of its own.
        let error = tokio::spawn(connecting).await.unwrap().unwrap_err();
        assert!(error.is::<NotNeeded>(), "{error}");
    }
}

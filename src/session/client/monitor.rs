//! The changes of a session's state, as a stream.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use super::super::error::SessionErrorKind;
use super::super::provider::SessionProvider;
use super::super::types::{SessionId, SessionStatus};
use super::kind::OperationKind;
use super::pipes::Boxed;
use super::shared::{SessionResult, Shared};
use crate::Error;
use crate::stream::{Every, every};

/// The changes of a session's state; see [`Session::monitor`](super::Session::monitor).
///
/// The first item is the state as it is, at once; then it is asked for every period, and
/// given when it has changed. A final state is the last item; a session that is not found is
/// [`Deleted`](SessionStatus::Deleted). An error is an item and not the end: the next one is
/// asked for a period later. It does not keep the session alive.
///
/// # Cancel safety
///
/// Dropping a [`next`](Self::next) loses no change.
///
/// # Fairness
///
/// Nobody is asked while nobody waits, and after a stall of whatever length the state is asked
/// for once.
#[must_use = "a stream does nothing unless polled"]
pub struct Monitor<P: SessionProvider> {
    shared: Arc<Shared<P>>,
    id: SessionId,
    beat: Every,
    asking: Option<Boxed<'static, SessionResult<SessionStatus>>>,
    seen: Option<SessionStatus>,
}

impl<P: SessionProvider> Monitor<P> {
    pub(super) fn new(shared: &Arc<Shared<P>>, id: SessionId, period: Duration) -> Self {
        Self {
            shared: Arc::clone(shared),
            id,
            beat: every(period),
            asking: None,
            seen: None,
        }
    }

    /// The next change, or error; `None` after a final state.
    pub async fn next(&mut self) -> Option<SessionResult<SessionStatus>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The latest state that was seen.
    #[must_use]
    pub fn latest(&self) -> Option<&SessionStatus> {
        self.seen.as_ref()
    }

    fn ask(&self) -> Boxed<'static, SessionResult<SessionStatus>> {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        Box::pin(async move {
            let status = || Box::pin(shared.provider.status(&id)) as Boxed<'_, _>;
            shared.call(OperationKind::Status, status).await
        })
    }

    /// What an answer is worth telling.
    fn news(
        &mut self,
        answer: SessionResult<SessionStatus>,
    ) -> Option<SessionResult<SessionStatus>> {
        let status = match answer {
            Err(Error::Operation { error, .. }) if error.kind() == SessionErrorKind::NotFound => {
                SessionStatus::Deleted
            }
            Err(error) => return Some(Err(error)),
            Ok(status) => status,
        };
        let changed = self.seen.as_ref() != Some(&status);
        self.seen = Some(status.clone());
        changed.then_some(Ok(status))
    }
}

impl<P: SessionProvider> Stream for Monitor<P> {
    type Item = SessionResult<SessionStatus>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(asking) = &mut this.asking {
                let answer = ready!(asking.as_mut().poll(cx));
                this.asking = None;
                if let Some(news) = this.news(answer) {
                    return Poll::Ready(Some(news));
                }
            }
            if this.seen.as_ref().is_some_and(SessionStatus::is_final) {
                return Poll::Ready(None);
            }
            ready!(Pin::new(&mut this.beat).poll_next(cx));
            this.asking = Some(this.ask());
        }
    }
}

impl<P: SessionProvider> fmt::Debug for Monitor<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("id", &self.id)
            .field("latest", &self.seen)
            .finish_non_exhaustive()
    }
}

//! Lists as a stream of pages.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::super::error::{SessionError, SessionErrorKind};
use super::super::provider::SessionProvider;
use super::super::types::{ListSessions, SessionInfo, SessionPage};
use super::kind::OperationKind;
use super::pipes::Boxed;
use super::shared::{SessionResult, Shared};
use crate::Error;

/// The sessions of a list, page by page; see
/// [`SessionClient::list`](super::SessionClient::list).
///
/// A page that fails is an item, and not the end: who asks again is given the same page again.
/// [`position`](Self::position) is where to go on another time, as by
/// [`ListSessions::after`].
///
/// # Errors
///
/// Those of the client, and one of the kind [`Protocol`](SessionErrorKind::Protocol), as the
/// last item, when the provider leads in a circle: a page that says it is followed by itself.
///
/// # Cancel safety
///
/// Dropping a [`next`](Self::next) loses no page.
#[must_use = "a stream does nothing unless polled"]
pub struct SessionList<P: SessionProvider> {
    shared: Arc<Shared<P>>,
    /// `None` after the last page.
    request: Option<ListSessions>,
    asking: Option<Boxed<'static, SessionResult<SessionPage>>>,
}

impl<P: SessionProvider> SessionList<P> {
    pub(super) fn new(shared: &Arc<Shared<P>>, request: ListSessions) -> Self {
        Self {
            shared: Arc::clone(shared),
            request: Some(request),
            asking: None,
        }
    }

    /// The next page, or the same one again after an error; `None` after the last.
    pub async fn next(&mut self) -> Option<SessionResult<SessionPage>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// What is asked for next; `None` after the last page.
    #[must_use]
    pub fn position(&self) -> Option<&ListSessions> {
        self.request.as_ref()
    }

    /// All sessions that are left, `most` at most: what is beyond is left in the list.
    ///
    /// # Errors
    ///
    /// That of the first page that fails; the sessions of the pages before are dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops the sessions of the pages before as well.
    pub async fn collect(&mut self, most: usize) -> SessionResult<Vec<SessionInfo>> {
        let mut sessions = Vec::new();
        while sessions.len() < most {
            let Some(page) = self.next().await else {
                break;
            };
            sessions.extend(page?.sessions);
        }
        Ok(sessions)
    }

    fn take(&mut self, page: SessionPage, asked: &ListSessions) -> SessionResult<SessionPage> {
        if page.next.is_some() && page.next == asked.next {
            self.request = None;
            let error = SessionError::new(
                SessionErrorKind::Protocol,
                "the list leads in a circle: a page is followed by itself",
            );
            return Err(Error::operation(error.with_request_id(page.request_id)));
        }
        self.request = page.next.clone().map(|next| ListSessions {
            next: Some(next),
            ..asked.clone()
        });
        Ok(page)
    }
}

impl<P: SessionProvider> Stream for SessionList<P> {
    type Item = SessionResult<SessionPage>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(request) = this.request.clone() else {
            return Poll::Ready(None);
        };
        let (shared, asked) = (&this.shared, &request);
        let asking = this.asking.get_or_insert_with(|| {
            let (shared, request) = (Arc::clone(shared), asked.clone());
            Box::pin(async move {
                let list = || Box::pin(shared.provider.list(&request)) as Boxed<'_, _>;
                shared.call(OperationKind::List, list).await
            })
        });
        let answer = ready!(asking.as_mut().poll(cx));
        this.asking = None;
        Poll::Ready(Some(answer.and_then(|page| this.take(page, &request))))
    }
}

impl<P: SessionProvider> fmt::Debug for SessionList<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionList")
            .field("position", &self.request)
            .finish_non_exhaustive()
    }
}

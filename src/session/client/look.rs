//! Looks for what a creation may have made although nobody knows of it.

use std::sync::Arc;

use super::super::error::{SessionError, SessionErrorKind};
use super::super::provider::SessionProvider;
use super::super::types::{ListSessions, SessionId, SessionPage};
use super::CREATE_LABEL;
use super::kind::OperationKind;
use super::pipes::Way;
use super::shared::{SessionResult, Shared};
use crate::Error;

/// There should be one session at most, and one page; what is far beyond is no answer.
const PAGE: u32 = 50;
const MOST_PAGES: u32 = 20;
const MOST_STRANGERS: u32 = 50;

/// The sessions of a creation that do not stand in the book.
///
/// What is found is adopted, or ended: so the list is not taken at its word, and each session
/// is asked for its labels. A list that knows of no labels would hand over everyone's.
pub(super) async fn look<P: SessionProvider>(
    shared: &Arc<Shared<P>>,
    key: &Arc<str>,
) -> SessionResult<Vec<SessionId>> {
    let label = (CREATE_LABEL.to_owned(), key.to_string());
    let mut request = ListSessions::with_labels([label].into()).page_size(PAGE);
    let (mut found, mut strangers) = (Vec::new(), 0);
    for _ in 0..MOST_PAGES {
        let page = list(shared, &request).await?;
        let alive = page.sessions.iter().filter(|info| !info.status.is_final());
        for id in alive.map(|info| &info.id).filter(|id| !shared.knows(id)) {
            if carries(shared, id, key).await? {
                found.push(id.clone());
                continue;
            }
            strangers += 1;
            if strangers == MOST_STRANGERS {
                return Err(endless(page.request_id));
            }
        }
        match page.next {
            Some(next) if found.is_empty() => request.next = Some(next),
            _ => return Ok(found),
        }
    }
    Err(endless(String::new()))
}

async fn list<P: SessionProvider>(
    shared: &Arc<Shared<P>>,
    request: &ListSessions,
) -> SessionResult<SessionPage> {
    let limit = shared.limits.of(OperationKind::List);
    let list = || shared.provider.list(request);
    let page = shared.pipes.call(Way::Plain, limit, || Box::pin(list()));
    page.await
}

/// Whether it is a session of this creation; one that is gone is none.
async fn carries<P: SessionProvider>(
    shared: &Arc<Shared<P>>,
    id: &SessionId,
    key: &Arc<str>,
) -> SessionResult<bool> {
    let limit = shared.limits.of(OperationKind::Labels);
    let labels = || shared.provider.labels(id);
    let labels = shared.pipes.call(Way::Plain, limit, || Box::pin(labels()));
    match labels.await {
        Ok(labels) => Ok(labels.get(CREATE_LABEL).is_some_and(|own| **own == **key)),
        Err(Error::Operation { error, .. }) if error.kind() == SessionErrorKind::NotFound => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn endless(request_id: String) -> Error<SessionError> {
    let text = "the list does not keep to the label of one creation";
    let error = SessionError::new(SessionErrorKind::Protocol, text);
    Error::operation(error.with_request_id(request_id))
}

//! Sessions: how they are made, found, listed and ended.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};
use super::super::types::{
    CreateSession, Deleted, Labels, ListSessions, SessionId, SessionInfo, SessionPage,
    SessionStatus,
};
use super::Inner;
use super::failure::{failure, words};
use super::json::unwrapped;
use super::poll::{Poll, may_ask_again};
use super::reply::{Envelope, lacks, text, truth, with_id};
use super::request::Action;
use super::transport::sleep;
use crate::time::now;

/// The service lists so many a page.
const PAGE: u32 = 10;

impl Inner {
    pub(super) async fn create(
        &self,
        request: &CreateSession,
    ) -> Result<SessionInfo, SessionError> {
        let labels = Some(&request.labels).filter(|labels| !labels.is_empty());
        let action = Action::new("CreateMcpSession")
            .field("ImageId", request.image.as_deref())
            .field("Labels", labels)
            .field("LoginRegionId", self.region.as_deref());
        let mut envelope = self.act(&action).await?;
        let data = fields(&mut envelope);
        if data.get("Success").is_some_and(|made| !truth(made)) {
            return Err(not_made(&data, &envelope.request_id));
        }
        let id = text(&data, "SessionId");
        if id.is_empty() {
            return Err(lacks("session", &envelope.request_id));
        }
        Ok(self.info(id, &data, envelope.request_id))
    }

    pub(super) async fn get(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        let action = Action::new("GetSession").field("SessionId", Some(id.as_str()));
        let mut envelope = self.act(&action).await?;
        let data = fields(&mut envelope);
        if data.is_empty() {
            return Err(lacks("session", &envelope.request_id));
        }
        Ok(self.info(id.as_str().to_owned(), &data, envelope.request_id))
    }

    /// What a reply tells of a session, which is remembered as well.
    fn info(&self, id: String, data: &Map<String, Value>, request_id: String) -> SessionInfo {
        let id = SessionId::new(id);
        self.learn(&id, data);
        let status = match text(data, "Status") {
            status if status.is_empty() => SessionStatus::Running,
            status => read_status(&status),
        };
        let mut info = SessionInfo::new(id, status, request_id);
        info.resource_url = Some(text(data, "ResourceUrl")).filter(|url| !url.is_empty());
        info
    }

    pub(super) async fn status(
        &self,
        id: &SessionId,
        limit: Duration,
    ) -> Result<SessionStatus, SessionError> {
        let action = Action::new("GetSessionDetail").field("SessionId", Some(id.as_str()));
        let mut envelope = self.act_within(&action, limit).await?;
        let data = fields(&mut envelope);
        let status = text(&data, "Status");
        if data.get("IsDeleted").is_some_and(truth) {
            return Ok(SessionStatus::Deleted);
        }
        if status.is_empty() {
            return Err(lacks("status", &envelope.request_id));
        }
        Ok(read_status(&status))
    }

    pub(super) async fn list(&self, request: &ListSessions) -> Result<SessionPage, SessionError> {
        let action = Action::new("ListSession")
            .field("Labels", Some(&request.labels))
            .field("MaxResults", Some(request.page_size.unwrap_or(PAGE)))
            .field("NextToken", request.next.as_deref());
        let mut envelope = self.act(&action).await?;
        if envelope.next.is_some() && envelope.next == request.next {
            // Whoever asks for all pages would ask for ever.
            return Err(lacks(
                "page after this one, and says that it has",
                &envelope.request_id,
            ));
        }
        Ok(SessionPage {
            sessions: listed(&mut envelope),
            next: envelope.next,
            total: envelope.total,
            request_id: envelope.request_id,
        })
    }

    pub(super) async fn delete(&self, id: &SessionId) -> Result<Deleted, SessionError> {
        let begun = now();
        let action = Action::new("DeleteSessionAsync").field("SessionId", Some(id.as_str()));
        let envelope = match self.act(&action).await {
            Ok(envelope) => envelope,
            Err(error) if error.kind() == Kind::NotFound => {
                self.links().forget(id);
                return Ok(Deleted::before(error.request_id().unwrap_or_default()));
            }
            Err(error) => return Err(error),
        };
        let settings = &self.settings;
        let poll = Poll::new(begun, settings.delete_interval, settings.delete_limit);
        self.wait_until_gone(id, &poll).await?;
        self.links().forget(id);
        Ok(Deleted::now(envelope.request_id))
    }

    /// Asks until a session is gone. The deletion has begun: whatever fails here, it may end.
    async fn wait_until_gone(&self, id: &SessionId, poll: &Poll) -> Result<(), SessionError> {
        loop {
            let limit = self.settings.request_limit.min(poll.time(now()));
            let hint = match self.status(id, limit).await {
                Ok(status) if status.is_final() => return Ok(()),
                Ok(_) => None,
                Err(error) if error.kind() == Kind::NotFound => return Ok(()),
                Err(error) if may_ask_again(&error) => error.retry_after(),
                Err(error) => return Err(error.with_effect(Effect::Unknown)),
            };
            match poll.next(now(), hint) {
                Some(time) => sleep(time).await,
                None => return Err(still_there(self.settings.delete_limit)),
            }
        }
    }

    pub(super) async fn labels(&self, id: &SessionId) -> Result<Labels, SessionError> {
        let action = Action::new("GetLabel").field("SessionId", Some(id.as_str()));
        let mut envelope = self.act(&action).await?;
        read_labels(&mut envelope)
    }

    pub(super) async fn set_labels(
        &self,
        id: &SessionId,
        labels: &Labels,
    ) -> Result<(), SessionError> {
        let action = Action::new("SetLabel")
            .field("Labels", Some(labels))
            .field("SessionId", Some(id.as_str()));
        self.act(&action).await.map(drop)
    }
}

/// Takes the data of a reply; what is no object has no fields.
pub(super) fn fields(envelope: &mut Envelope) -> Map<String, Value> {
    match unwrapped(envelope.data.take()) {
        Some(Value::Object(data)) => data,
        _ => Map::new(),
    }
}

pub(super) fn read_status(status: &str) -> SessionStatus {
    match status.to_ascii_uppercase().as_str() {
        "RUNNING" => SessionStatus::Running,
        "PAUSING" => SessionStatus::Pausing,
        "PAUSED" => SessionStatus::Paused,
        "RESUMING" => SessionStatus::Resuming,
        "DELETING" => SessionStatus::Deleting,
        "DELETED" => SessionStatus::Deleted,
        "FINISH" => SessionStatus::Finished,
        _ => SessionStatus::Other(words(status).into()),
    }
}

fn listed(envelope: &mut Envelope) -> Vec<SessionInfo> {
    let data = unwrapped(envelope.data.take());
    let items = data.as_ref().and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .map(|item| (text(item, "SessionId"), text(item, "SessionStatus")))
        .filter(|(id, _)| !id.is_empty())
        .map(|(id, status)| {
            SessionInfo::new(
                SessionId::new(id),
                read_status(&status),
                envelope.request_id.as_str(),
            )
        })
        .collect()
}

fn read_labels(envelope: &mut Envelope) -> Result<Labels, SessionError> {
    let labels = fields(envelope).remove("Labels");
    match labels.map(unwrapped) {
        Some(Some(Value::Object(labels))) => Ok(labels
            .iter()
            .map(|(name, _)| (name.clone(), text(&labels, name)))
            .collect()),
        Some(Some(_)) => Err(lacks("labels", &envelope.request_id)),
        // None were set: nothing, null, or an empty text.
        Some(None) | None => Ok(Labels::new()),
    }
}

/// The service says in its data that it made no session. If it names one all the same, nobody
/// knows.
fn not_made(data: &Map<String, Value>, request_id: &str) -> SessionError {
    let message = match text(data, "ErrMsg") {
        message if message.is_empty() => "the session was not made".to_owned(),
        message => message,
    };
    let effect = if text(data, "SessionId").is_empty() {
        Effect::None
    } else {
        Effect::Unknown
    };
    with_id(failure(Kind::Unavailable, effect, &message), request_id)
}

fn still_there(limit: Duration) -> SessionError {
    let message = format!("the session is still being deleted after {limit:?}");
    failure(Kind::Unavailable, Effect::Unknown, &message)
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;

//! What every provider offers, in the service's terms.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};
use super::super::provider::SessionProvider;
use super::super::types::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Entry, FileRange, Labels,
    ListSessions, SessionId, SessionInfo, SessionPage, SessionStatus, WriteMode, Written,
};
use super::failure::failure;
use super::files::{READ_CHUNK, bounds, pieces, read_info, read_listing};
use super::output::{read_code, read_command};
use super::poll::{Poll, may_ask_again};
use super::reply::{Envelope, lacks, text, truth, unwrapped, with_id};
use super::request::Action;
use super::transport::sleep;
use super::{AgentBay, Inner};
use crate::time::now;

/// The service lists so many a page.
const PAGE: u32 = 10;

/// The longest a command may run.
const LONGEST_COMMAND: Duration = Duration::from_secs(50);

/// The longest that code may run.
const LONGEST_CODE: Duration = Duration::from_secs(60);

/// What a request may take longer than the command or code in it was allowed to.
const REPLY_TIME: Duration = Duration::from_secs(10);

impl SessionProvider for AgentBay {
    fn name(&self) -> &str {
        "agentbay"
    }

    async fn create(&self, request: &CreateSession) -> Result<SessionInfo, SessionError> {
        let labels = Some(&request.labels).filter(|labels| !labels.is_empty());
        let action = Action::new("CreateMcpSession")
            .field("ImageId", request.image.as_deref())
            .field("Labels", labels)
            .field("LoginRegionId", self.inner.region.as_deref());
        let envelope = self.inner.act(&action).await?;
        let data = fields(&envelope);
        if data.get("Success").is_some_and(|made| !truth(made)) {
            return Err(not_made(&data, &envelope.request_id));
        }
        let id = text(&data, "SessionId");
        if id.is_empty() {
            return Err(lacks("session", &envelope.request_id));
        }
        Ok(self.info(id, data, envelope.request_id))
    }

    async fn get(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        let action = Action::new("GetSession").field("SessionId", Some(id.as_str()));
        let envelope = self.inner.act(&action).await?;
        let data = fields(&envelope);
        if data.is_empty() {
            return Err(lacks("session", &envelope.request_id));
        }
        Ok(self.info(id.as_str().to_owned(), data, envelope.request_id))
    }

    async fn status(&self, id: &SessionId) -> Result<SessionStatus, SessionError> {
        self.inner
            .status(id, self.inner.settings.request_limit)
            .await
    }

    async fn list(&self, request: &ListSessions) -> Result<SessionPage, SessionError> {
        let action = Action::new("ListSession")
            .field("Labels", Some(&request.labels))
            .field("MaxResults", Some(request.page_size.unwrap_or(PAGE)))
            .field("NextToken", request.next.as_deref());
        let envelope = self.inner.act(&action).await?;
        if envelope.next.is_some() && envelope.next == request.next {
            // Whoever asks for all pages would ask for ever.
            return Err(lacks("page after this one, and says that it has", &envelope.request_id));
        }
        let mut page = SessionPage::default();
        page.sessions = listed(&envelope);
        page.next = envelope.next;
        page.total = envelope.total;
        page.request_id = envelope.request_id;
        Ok(page)
    }

    async fn delete(&self, id: &SessionId) -> Result<Deleted, SessionError> {
        let begun = now();
        let action = Action::new("DeleteSessionAsync").field("SessionId", Some(id.as_str()));
        let envelope = match self.inner.act(&action).await {
            Ok(envelope) => envelope,
            Err(error) if error.kind() == Kind::NotFound => {
                self.inner.links().forget(id);
                return Ok(Deleted::before(error.request_id().unwrap_or_default()));
            }
            Err(error) => return Err(error),
        };
        let settings = &self.inner.settings;
        let poll = Poll::new(begun, settings.delete_interval, settings.delete_limit);
        self.inner.wait_until_gone(id, &poll).await?;
        self.inner.links().forget(id);
        Ok(Deleted::now(envelope.request_id))
    }

    async fn run(&self, id: &SessionId, command: &Command) -> Result<CommandResult, SessionError> {
        let limit = checked(command.time_limit, LONGEST_COMMAND, "command")?;
        let mut args = json!({ "command": command.line, "timeout_ms": millis(limit) });
        if let Some(directory) = &command.directory {
            args["cwd"] = json!(directory);
        }
        if !command.environment.is_empty() {
            args["envs"] = json!(command.environment);
        }
        let limit = self.inner.limit_around(command.time_limit);
        let answer = self.inner.tool(id, "shell", &args, limit).await?;
        self.inner.cleaned(read_command(&answer))
    }

    async fn run_code(&self, id: &SessionId, code: &Code) -> Result<CodeResult, SessionError> {
        let language = language(&code.language)?;
        let limit = checked(code.time_limit, LONGEST_CODE, "code")?;
        let args = json!({
            "code": code.source,
            "language": language,
            "timeout_s": millis(limit).div_ceil(1000),
        });
        let limit = self.inner.limit_around(code.time_limit);
        let answer = self.inner.tool(id, "run_code", &args, limit).await?;
        self.inner.cleaned(read_code(&answer))
    }

    async fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        range: FileRange,
    ) -> Result<Vec<u8>, SessionError> {
        let args = json!({ "path": path });
        let info = self.inner.tool_now(id, "get_file_info", &args).await?;
        let info = read_info(&info.text).ok_or_else(|| info.odd("size of the file"))?;
        if info.is_directory {
            let message = "this is a directory, not a file";
            return Err(SessionError::new(Kind::Invalid, message));
        }
        let (mut at, end) = bounds(range, info.size);
        if end - at > self.inner.settings.max_file {
            return Err(too_large(end - at, self.inner.settings.max_file));
        }
        let mut content = Vec::new();
        while at < end {
            let piece = self.inner.read_piece(id, path, at, end).await?;
            if piece.is_empty() {
                // It has become shorter meanwhile.
                break;
            }
            at += piece.len() as u64;
            content.extend_from_slice(&piece);
        }
        Ok(content)
    }

    async fn write_file(
        &self,
        id: &SessionId,
        path: &str,
        content: &[u8],
        mode: WriteMode,
    ) -> Result<Written, SessionError> {
        let text = std::str::from_utf8(content).map_err(|_| not_text())?;
        let mut mode = match mode {
            WriteMode::Overwrite => "overwrite",
            WriteMode::Append => "append",
        };
        let mut written = Written::new(0, "");
        for piece in pieces(text) {
            let args = json!({ "path": path, "content": piece, "mode": mode });
            let answer = self.inner.tool_now(id, "write_file", &args).await;
            let answer = answer.map_err(|error| after(written.bytes, error))?;
            written.bytes += piece.len() as u64;
            written.request_id = answer.request_id;
            mode = "append";
        }
        Ok(written)
    }

    async fn list_directory(
        &self,
        id: &SessionId,
        path: &str,
    ) -> Result<Vec<Entry>, SessionError> {
        let args = json!({ "path": path });
        let answer = self.inner.tool_now(id, "list_directory", &args).await?;
        Ok(read_listing(&answer.text))
    }

    async fn labels(&self, id: &SessionId) -> Result<Labels, SessionError> {
        let action = Action::new("GetLabel").field("SessionId", Some(id.as_str()));
        let envelope = self.inner.act(&action).await?;
        read_labels(&envelope)
    }

    async fn set_labels(&self, id: &SessionId, labels: &Labels) -> Result<(), SessionError> {
        let action = Action::new("SetLabel")
            .field("Labels", Some(labels))
            .field("SessionId", Some(id.as_str()));
        self.inner.act(&action).await.map(drop)
    }
}

impl AgentBay {
    /// What a reply tells of a session, which is remembered as well.
    fn info(&self, id: String, data: Map<String, Value>, request_id: String) -> SessionInfo {
        let id = SessionId::new(id);
        self.inner.learn(&id, &data);
        let status = match text(&data, "Status") {
            status if status.is_empty() => SessionStatus::Running,
            status => read_status(&status),
        };
        let mut info = SessionInfo::new(id, status, request_id);
        info.resource_url = Some(text(&data, "ResourceUrl")).filter(|url| !url.is_empty());
        info
    }
}

impl Inner {
    async fn status(
        &self,
        id: &SessionId,
        limit: Duration,
    ) -> Result<SessionStatus, SessionError> {
        let action = Action::new("GetSessionDetail").field("SessionId", Some(id.as_str()));
        let envelope = self.act_within(&action, limit).await?;
        let data = fields(&envelope);
        let status = text(&data, "Status");
        if data.get("IsDeleted").is_some_and(truth) {
            return Ok(SessionStatus::Deleted);
        }
        if status.is_empty() {
            return Err(lacks("status", &envelope.request_id));
        }
        Ok(read_status(&status))
    }

    /// Asks until a session is gone. The deletion has begun: whatever fails here, it may end.
    async fn wait_until_gone(&self, id: &SessionId, poll: &Poll) -> Result<(), SessionError> {
        loop {
            let limit = self.settings.request_limit.min(poll.left(now()));
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

    /// How long a request may take whose command or code was allowed so long by its caller.
    fn limit_around(&self, asked: Option<Duration>) -> Duration {
        let least = asked.map_or(Duration::ZERO, |asked| asked.saturating_add(REPLY_TIME));
        self.settings.request_limit.max(least)
    }

    /// Calls a tool that is quick, and whose failure is an error.
    async fn tool_now(
        &self,
        id: &SessionId,
        name: &str,
        args: &Value,
    ) -> Result<super::tool::Answer, SessionError> {
        let answer = self.tool(id, name, args, self.settings.request_limit);
        let answer = answer.await?;
        self.cleaned(answer.good())
    }

    async fn read_piece(
        &self,
        id: &SessionId,
        path: &str,
        at: u64,
        end: u64,
    ) -> Result<Vec<u8>, SessionError> {
        let length = READ_CHUNK.min(end - at);
        let args = json!({ "path": path, "offset": at, "length": length, "format": "binary" });
        let answer = self.tool_now(id, "read_file", &args).await?;
        let piece = base64::engine::general_purpose::STANDARD.decode(answer.text.trim());
        match piece {
            Ok(piece) if piece.len() as u64 <= length => Ok(piece),
            _ => Err(answer.odd("piece of the file that was asked for")),
        }
    }

    /// An error of a tool may repeat a secret too.
    fn cleaned<T>(&self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        result.map_err(|error| super::calls::clean(error, &[&self.key]))
    }
}

/// The data of a reply; what is no object has no fields.
pub(super) fn fields(envelope: &Envelope) -> Map<String, Value> {
    match unwrapped(&envelope.data) {
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
        _ => SessionStatus::Other(super::failure::words(status).into()),
    }
}

fn listed(envelope: &Envelope) -> Vec<SessionInfo> {
    let data = unwrapped(&envelope.data);
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

fn read_labels(envelope: &Envelope) -> Result<Labels, SessionError> {
    let data = fields(envelope);
    match data.get("Labels").map(unwrapped) {
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

fn too_large(size: u64, most: u64) -> SessionError {
    let message = format!("{size} bytes are more than {most} at once: read it in ranges");
    SessionError::new(Kind::Invalid, message)
}

fn not_text() -> SessionError {
    let message = "the service's files are written as text: this content is not UTF-8";
    SessionError::new(Kind::Unsupported, message)
}

/// An error after so many bytes of a file were written.
fn after(written: u64, error: SessionError) -> SessionError {
    if written == 0 {
        error
    } else {
        error.with_effect(Effect::Partial)
    }
}

/// How long something may run: what was asked for, if the service allows it.
fn checked(
    asked: Option<Duration>,
    longest: Duration,
    what: &str,
) -> Result<Duration, SessionError> {
    match asked {
        Some(asked) if asked > longest => Err(SessionError::new(
            Kind::Invalid,
            format!("a {what} may run for {longest:?} at most here, not for {asked:?}"),
        )),
        Some(asked) => Ok(asked),
        None => Ok(longest),
    }
}

/// Whole milliseconds, at least one.
fn millis(span: Duration) -> u64 {
    let millis = span.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX).max(1)
}

/// A language as the service calls it.
fn language(name: &str) -> Result<&'static str, SessionError> {
    match name.trim().to_ascii_lowercase().as_str() {
        "python" | "python3" | "py" => Ok("python"),
        "javascript" | "js" | "node" | "nodejs" => Ok("javascript"),
        "r" => Ok("r"),
        "java" => Ok("java"),
        _ => Err(SessionError::new(
            Kind::Unsupported,
            "code runs in python, javascript, r or java here",
        )),
    }
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;

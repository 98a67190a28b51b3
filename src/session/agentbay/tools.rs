//! What is done inside of a session, by its tools.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};
use super::super::types::{
    Code, CodeResult, Command, CommandResult, Entry, FileRange, SessionId, WriteMode, Written,
};
use super::Inner;
use super::files::{READ_CHUNK, bounds, pieces, read_info, read_listing};
use super::output::{read_code, read_command};
use super::tool::Answer;

/// The longest a command may run.
const LONGEST_COMMAND: Duration = Duration::from_secs(50);

/// The longest that code may run.
const LONGEST_CODE: Duration = Duration::from_secs(60);

/// What a request may take longer than the command or code in it was allowed to.
const REPLY_TIME: Duration = Duration::from_secs(10);

impl Inner {
    pub(super) async fn run(
        &self,
        id: &SessionId,
        command: &Command,
    ) -> Result<CommandResult, SessionError> {
        let limit = checked(command.time_limit, LONGEST_COMMAND, "command")?;
        let mut args = json!({ "command": command.line, "timeout_ms": millis(limit) });
        if let Some(directory) = &command.directory {
            args["cwd"] = json!(directory);
        }
        if !command.environment.is_empty() {
            args["envs"] = json!(command.environment);
        }
        let limit = self.limit_around(command.time_limit);
        let answer = self.tool(id, "shell", &args, limit).await?;
        read_command(&answer)
    }

    pub(super) async fn run_code(
        &self,
        id: &SessionId,
        code: &Code,
    ) -> Result<CodeResult, SessionError> {
        let language = language(&code.language)?;
        let limit = checked(code.time_limit, LONGEST_CODE, "code")?;
        let args = json!({
            "code": code.source,
            "language": language,
            "timeout_s": millis(limit).div_ceil(1000),
        });
        let limit = self.limit_around(code.time_limit);
        let answer = self.tool(id, "run_code", &args, limit).await?;
        read_code(&answer)
    }

    pub(super) async fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        range: FileRange,
    ) -> Result<Vec<u8>, SessionError> {
        let args = json!({ "path": path });
        let info = self.tool_now(id, "get_file_info", &args).await?;
        let info = read_info(&info.text).ok_or_else(|| info.odd("size of the file"))?;
        if info.is_directory {
            let message = "this is a directory, not a file";
            return Err(SessionError::new(Kind::Invalid, message));
        }
        let (mut at, end) = bounds(range, info.size);
        if end - at > self.settings.max_file {
            return Err(too_large(end - at, self.settings.max_file));
        }
        let mut content = Vec::new();
        while at < end {
            let piece = self.read_piece(id, path, at, end).await?;
            if piece.is_empty() {
                // It has become shorter meanwhile.
                break;
            }
            at += piece.len() as u64;
            content.extend_from_slice(&piece);
        }
        Ok(content)
    }

    pub(super) async fn write_file(
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
            let answer = self.tool_now(id, "write_file", &args).await;
            let answer = answer.map_err(|error| after(written.bytes, error))?;
            written.bytes += piece.len() as u64;
            written.request_id = answer.request_id;
            mode = "append";
        }
        Ok(written)
    }

    pub(super) async fn list_directory(
        &self,
        id: &SessionId,
        path: &str,
    ) -> Result<Vec<Entry>, SessionError> {
        let args = json!({ "path": path });
        let answer = self.tool_now(id, "list_directory", &args).await?;
        Ok(read_listing(&answer.text))
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
    ) -> Result<Answer, SessionError> {
        let answer = self.tool(id, name, args, self.settings.request_limit);
        let answer = answer.await?;
        answer.good()
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
#[path = "tools_tests.rs"]
mod tests;

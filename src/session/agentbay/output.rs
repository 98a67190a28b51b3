//! What commands and code left, in each of the forms that the tools have had.

use serde_json::{Map, Value};

use super::super::error::SessionError;
use super::super::types::{CodeResult, CommandResult};
use super::json::parse;
use super::reply::{text, truth};
use super::tool::Answer;

/// The keys under which a value of a notebook is text, the plainest first.
const TEXTS: [&str; 12] = [
    "text/plain",
    "text",
    "text/markdown",
    "markdown",
    "text/html",
    "html",
    "text/latex",
    "latex",
    "image/svg+xml",
    "svg",
    "application/json",
    "json",
];

/// Reads what the shell tool said: an object with what was written and how it ended, or, in the
/// old form, nothing but what was written. A command that failed is a result even where the
/// tool calls it an error.
pub(super) fn read_command(answer: &Answer) -> Result<CommandResult, SessionError> {
    match object(&answer.text).filter(is_shell_s) {
        Some(fields) => Ok(command(answer, &fields)),
        None if answer.is_error => Err(answer.failed()),
        None => Ok(plain_command(answer)),
    }
}

/// Whether an object is the shell tool's, and not what a command wrote, which may be JSON that
/// has a `stdout` too.
fn is_shell_s(fields: &Map<String, Value>) -> bool {
    let is_text = |name: &str| fields.get(name).is_some_and(Value::is_string);
    let (out, err) = (is_text("stdout"), is_text("stderr"));
    (fields.get("exit_code").is_some_and(Value::is_i64) && (out || err)) || (out && err)
}

fn command(answer: &Answer, fields: &Map<String, Value>) -> CommandResult {
    let code = ["exit_code", "errorCode"]
        .iter()
        .find_map(|name| fields.get(*name)?.as_i64())
        .unwrap_or(i64::from(answer.is_error));
    let success = code == 0 && !answer.is_error;
    let stderr = text(fields, "stderr");
    let error_message = match stderr.trim() {
        _ if success => String::new(),
        "" => format!("the command ended with {code}"),
        complaint => complaint.to_owned(),
    };
    CommandResult {
        request_id: answer.request_id.clone(),
        success,
        error_message,
        exit_code: i32::try_from(code).ok(),
        stdout: text(fields, "stdout").into_bytes(),
        stderr: stderr.into_bytes(),
        truncated: false,
        trace_id: Some(text(fields, "traceId")).filter(|id| !id.is_empty()),
    }
}

fn plain_command(answer: &Answer) -> CommandResult {
    CommandResult {
        request_id: answer.request_id.clone(),
        success: true,
        exit_code: Some(0),
        stdout: answer.text.clone().into_bytes(),
        ..CommandResult::default()
    }
}

/// Reads what the code tool said, in one of three forms: `executionError` with `result`, or
/// `logs` with `results`, or nothing but text. Code that failed is a result.
pub(super) fn read_code(answer: &Answer) -> Result<CodeResult, SessionError> {
    let fields = object(&answer.text);
    let mut result = match &fields {
        Some(fields) if is_code_s(fields) => code(fields),
        Some(fields) if has_logs(fields) => rich_code(fields),
        _ if answer.is_error => return Err(answer.failed()),
        _ => plain_code(&answer.text),
    };
    if answer.is_error && result.success {
        result.success = false;
        result.error_message = complaint(&Value::Object(Map::new()));
    }
    result.request_id.clone_from(&answer.request_id);
    let trace = fields.map(|fields| text(&fields, "traceId"));
    result.trace_id = trace.filter(|id| !id.is_empty());
    Ok(result)
}

fn is_code_s(fields: &Map<String, Value>) -> bool {
    let error = fields.get("executionError");
    fields.get("result").is_some_and(Value::is_array)
        || error.is_some_and(|error| error.is_string() || error.is_null())
}

fn has_logs(fields: &Map<String, Value>) -> bool {
    fields.get("logs").is_some_and(Value::is_object)
        || fields.get("results").is_some_and(Value::is_array)
}

fn code(fields: &Map<String, Value>) -> CodeResult {
    let error_message = text(fields, "executionError");
    CodeResult {
        success: error_message.is_empty() && !is_error(fields),
        error_message,
        results: items(fields.get("result")).iter().map(shown).collect(),
        stdout: lines(fields.get("stdout")),
        stderr: lines(fields.get("stderr")),
        ..CodeResult::default()
    }
}

fn rich_code(fields: &Map<String, Value>) -> CodeResult {
    let error_message = fields.get("error").map(complaint).unwrap_or_default();
    let written = |name: &str| lines(fields.get("logs").and_then(|logs| logs.get(name)));
    CodeResult {
        success: error_message.is_empty() && !is_error(fields),
        error_message,
        results: items(fields.get("results")).iter().map(shown).collect(),
        stdout: written("stdout"),
        stderr: written("stderr"),
        ..CodeResult::default()
    }
}

fn plain_code(text: &str) -> CodeResult {
    CodeResult {
        success: true,
        stdout: text.as_bytes().to_vec(),
        ..CodeResult::default()
    }
}

fn is_error(fields: &Map<String, Value>) -> bool {
    fields.get("isError").is_some_and(truth)
}

/// `{"name","value","traceback"}` in a line; the trace-back is long and says it again.
fn complaint(error: &Value) -> String {
    match error {
        Value::Object(fields) => {
            let (name, value) = (text(fields, "name"), text(fields, "value"));
            match (name.is_empty(), value.is_empty()) {
                (false, false) => format!("{name}: {value}"),
                (false, true) => name,
                (true, false) => value,
                (true, true) => "the code failed without a reason".to_owned(),
            }
        }
        Value::String(text) => text.clone(),
        _ => String::new(),
    }
}

/// A value as a person would see it. It may be JSON in a string, once or twice.
fn shown(item: &Value) -> String {
    let inner = |value: &Value| match value {
        Value::String(text) => parse(text.as_bytes()),
        _ => None,
    };
    let once = inner(item);
    let twice = once.as_ref().and_then(inner);
    match twice.as_ref().or(once.as_ref()).unwrap_or(item) {
        Value::Object(fields) => TEXTS
            .iter()
            .find_map(|name| match fields.get(*name)? {
                Value::String(text) => Some(text.clone()),
                Value::Null => None,
                value => Some(value.to_string()),
            })
            .unwrap_or_else(|| Value::Object(fields.clone()).to_string()),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What was written, piece by piece or at once.
fn lines(value: Option<&Value>) -> Vec<u8> {
    match value {
        Some(Value::String(text)) => text.clone().into_bytes(),
        value => items(value)
            .iter()
            .filter_map(Value::as_str)
            .flat_map(str::bytes)
            .collect(),
    }
}

fn object(text: &str) -> Option<Map<String, Value>> {
    match parse(text.as_bytes()) {
        Some(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;

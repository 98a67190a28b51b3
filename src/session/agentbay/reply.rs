//! What came back, as a value or as one of the failures: no connection.

use reqwest::header::HeaderMap;
use serde_json::{Map, Value};

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};
use super::failure::{failure, judge, judge_page, retry_after, words};
use super::json::parse;

/// A reply as it came: what the connection knows.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A good reply of the service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Envelope {
    pub(super) request_id: String,
    pub(super) data: Value,
    pub(super) next: Option<String>,
    pub(super) total: Option<u64>,
}

/// Reads a reply of the service: its two outer layers of failure.
pub(super) fn read(raw: &Raw) -> Result<Envelope, SessionError> {
    let error = match parse(&raw.body) {
        Some(Value::Object(body)) if is_ours(&body) => match read_body(raw.status, body) {
            Ok(envelope) => return Ok(envelope),
            Err(error) => error,
        },
        _ => not_ours(raw),
    };
    Err(match retry_after(&raw.headers) {
        Some(span) => error.with_retry_after(span),
        None => error,
    })
}

/// Whether JSON is the service's: anybody's page may be JSON.
fn is_ours(body: &Map<String, Value>) -> bool {
    ["Success", "Code", "Data"]
        .iter()
        .any(|name| body.contains_key(*name))
}

fn read_body(status: u16, mut body: Map<String, Value>) -> Result<Envelope, SessionError> {
    let request_id = text(&body, "RequestId");
    if !(200..300).contains(&status) || !is_success(&body) {
        return Err(refused(status, &body, &request_id));
    }
    Ok(Envelope {
        next: Some(text(&body, "NextToken")).filter(|next| !next.is_empty()),
        total: number(&body, "TotalCount"),
        data: body.remove("Data").unwrap_or(Value::Null),
        request_id,
    })
}

/// Good replies carry the code ok, 200 or Success: so `Success` decides, and the code only where
/// that is missing.
fn is_success(body: &Map<String, Value>) -> bool {
    match body.get("Success") {
        Some(Value::Null) | None => {
            let code = text(body, "Code").to_ascii_lowercase();
            matches!(code.as_str(), "" | "ok" | "200" | "success")
        }
        Some(success) => truth(success),
    }
}

fn refused(status: u16, body: &Map<String, Value>, request_id: &str) -> SessionError {
    let code = text(body, "Code");
    let message = text(body, "Message");
    // Inside of a 200 the body knows better.
    let told = number(body, "HttpStatusCode").and_then(|told| u16::try_from(told).ok());
    let status = match told {
        Some(told) if status < 300 && (400..600).contains(&told) => told,
        _ => status,
    };
    let (kind, effect) = judge(status, &code, &message);
    let message = match (message.is_empty(), code.is_empty()) {
        (false, _) => message,
        (true, false) => format!("the service said {code}"),
        (true, true) => "the service refused without a reason".to_owned(),
    };
    let error = failure(kind, effect, &message).with_status(status);
    let error = with_id(error, request_id);
    if code.is_empty() {
        error
    } else {
        error.with_code(words(&code))
    }
}

/// Neither a value nor a failure of the service: a proxy's page, half a reply, nothing.
pub(super) fn not_ours(raw: &Raw) -> SessionError {
    let (kind, effect) = judge_page(raw.status);
    let what = look(&raw.body);
    let message = match raw.status {
        300..=399 => format!("the service sent us elsewhere, where we do not go ({what})"),
        _ => format!("the service's answer is {what}"),
    };
    failure(kind, effect, &message).with_status(raw.status)
}

/// What a body looks like, in a few words.
fn look(body: &[u8]) -> &'static str {
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace());
    match start.map(|start| &body[start..]) {
        None => "empty",
        Some([b'<', ..]) => "a page of HTML",
        Some([b'{' | b'[', ..]) => "JSON that is broken or not the service's",
        Some(_) => "not JSON",
    }
}

/// An answer that is good as far as it goes, but lacks what it must have.
pub(super) fn lacks(what: &str, request_id: &str) -> SessionError {
    let error = failure(
        Kind::Protocol,
        Effect::Unknown,
        &format!("the service's answer has no {what}"),
    );
    with_id(error, request_id)
}

/// Adds the service's name for the request, if it gave one.
pub(super) fn with_id(error: SessionError, request_id: &str) -> SessionError {
    if request_id.is_empty() {
        error
    } else {
        error.with_request_id(words(request_id))
    }
}

/// A field as text; what is missing or has a structure is empty.
pub(super) fn text(map: &Map<String, Value>, name: &str) -> String {
    match map.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(truth)) => truth.to_string(),
        _ => String::new(),
    }
}

/// A field as a count, which may have been sent as text.
pub(super) fn number(map: &Map<String, Value>, name: &str) -> Option<u64> {
    match map.get(name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whether a value means yes: booleans come in several spellings.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::String(text) => text.eq_ignore_ascii_case("true") || text == "1",
        Value::Number(number) => number.as_i64() == Some(1),
        _ => false,
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
pub(super) mod tests;

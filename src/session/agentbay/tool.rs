//! What a tool inside of a session answered: the third layer of failure.

use serde_json::{Map, Value};

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};
use super::failure::failure;
use super::json::{parse, unwrapped};
use super::reply::{Envelope, Raw, lacks, not_ours, truth, with_id};

/// What a tool said, and whether it said so of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) is_error: bool,
    pub(super) request_id: String,
}

impl Answer {
    /// The text of a tool that did not fail.
    pub(super) fn good(self) -> Result<Self, SessionError> {
        if self.is_error {
            Err(self.failed())
        } else {
            Ok(self)
        }
    }

    /// The failure that the text tells. A file that is not there is known by its words alone.
    pub(super) fn failed(&self) -> SessionError {
        let message = match self.text.trim() {
            "" => "the tool failed without a reason",
            text => text,
        };
        let (kind, effect) = if says_no_such_file(message) {
            (Kind::NotFound, Effect::None)
        } else {
            (Kind::Tool, Effect::Unknown)
        };
        with_id(failure(kind, effect, message), &self.request_id)
    }

    /// The answer is none that this tool gives.
    pub(super) fn odd(&self, what: &str) -> SessionError {
        lacks(what, &self.request_id)
    }
}

fn says_no_such_file(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no such file", "enoent", "file not found", "path not found"]
        .iter()
        .any(|words| message.contains(words))
        || (message.contains("does not exist") && !message.contains("tool"))
}

/// Reads what `CallMcpTool` brought: an object, or JSON in a string.
pub(super) fn read_tool(envelope: Envelope) -> Result<Answer, SessionError> {
    match unwrapped(envelope.data) {
        Some(Value::Object(data)) => read_content(&data, envelope.request_id),
        _ => Err(lacks("result of the tool", &envelope.request_id)),
    }
}

/// Reads what a direct link brought. Its failures have a status and nothing else to go by.
pub(super) fn read_direct(raw: &Raw, request_id: &str) -> Result<Answer, SessionError> {
    let body = parse(&raw.body);
    let (200..=299, Some(Value::Object(mut body))) = (raw.status, body) else {
        return Err(with_id(not_ours(raw), request_id));
    };
    let data = body.remove("data").and_then(unwrapped);
    let result = data.as_ref().and_then(|data| data.get("result"));
    match result {
        Some(Value::Object(result)) => read_content(result, request_id.to_owned()),
        _ => Err(lacks("result of the tool", request_id)),
    }
}

/// Reads `{"content":[{"text":"..."}],"isError":false}`. Where there is no content, the object
/// itself is what the tool says: some send it bare.
fn read_content(data: &Map<String, Value>, request_id: String) -> Result<Answer, SessionError> {
    let is_error = data.get("isError").is_some_and(truth);
    let text = match data.get("content") {
        Some(Value::Array(items)) => items.first().map_or_else(String::new, item_text),
        Some(Value::Null) | None if data.len() > usize::from(data.contains_key("isError")) => {
            serde_json::to_string(data).unwrap_or_default()
        }
        _ => return Err(lacks("content", &request_id)),
    };
    Ok(Answer {
        text,
        is_error,
        request_id,
    })
}

fn item_text(item: &Value) -> String {
    if let Value::String(text) = item {
        return text.clone();
    }
    ["text", "blob", "data"]
        .iter()
        .find_map(|name| item.get(name)?.as_str())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderMap;
    use serde_json::json;

    use super::super::reply::tests::value;
    use super::*;

    fn tool(data: Value) -> Result<Answer, SessionError> {
        read_tool(Envelope {
            request_id: "R".to_owned(),
            data,
            next: None,
            total: None,
        })
    }

    fn direct(status: u16, body: &str) -> Result<Answer, SessionError> {
        let raw = Raw {
            status,
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
        };
        read_direct(&raw, "link-1")
    }

    #[test]
    fn an_object_and_json_in_a_string_say_the_same() {
        let data = json!({"content": [{"type": "text", "text": "hi"}], "isError": false});
        let answer = tool(data.clone()).unwrap();
        assert_eq!(answer.text, "hi");
        assert!(!answer.is_error);
        assert_eq!(tool(Value::String(data.to_string())).unwrap(), answer);
        assert_eq!(tool(json!({"content": ["hi"]})).unwrap(), answer);
    }

    #[test]
    fn the_third_layer_is_a_failure_of_the_tool() {
        let answer = tool(json!({"content": [{"text": "out of paper"}], "isError": true}));
        let error = answer.unwrap().good().unwrap_err();
        assert_eq!(error.kind(), Kind::Tool);
        assert_eq!(error.effect(), Effect::Unknown);
        assert_eq!(error.message(), "out of paper");
        assert_eq!(error.request_id(), Some("R"));
        let answer = tool(json!({"content": [{"text": "open x: no such file"}], "isError": true}));
        let error = answer.unwrap().good().unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        let answer = tool(json!({"content": [], "isError": true})).unwrap();
        assert!(!answer.good().unwrap_err().message().is_empty());
    }

    #[test]
    fn what_has_no_content_is_unreadable_or_bare() {
        for odd in [
            json!(null),
            json!("text"),
            json!([]),
            json!({}),
            json!({"isError": true}),
        ] {
            assert_eq!(
                tool(odd.clone()).unwrap_err().kind(),
                Kind::Protocol,
                "{odd}"
            );
        }
        let bare = tool(json!({"result": [], "stdout": ["a"]})).unwrap();
        assert_eq!(bare.text, r#"{"result":[],"stdout":["a"]}"#);
    }

    #[test]
    fn a_direct_link_answers_with_an_object_or_with_json_in_a_string() {
        let data = json!({"result": {"isError": false, "content": [{"text": "hi"}]}});
        for data in [data.clone(), Value::String(data.to_string())] {
            let answer = direct(200, &json!({"data": data}).to_string()).unwrap();
            assert_eq!((answer.text.as_str(), answer.is_error), ("hi", false));
            assert_eq!(answer.request_id, "link-1");
        }
    }

    #[test]
    fn a_direct_link_fails_with_a_type() {
        let rows = [
            (502, "<html>", Kind::Unavailable),
            (401, "{}", Kind::Denied),
            (200, "<html>", Kind::Protocol),
            (200, "{}", Kind::Protocol),
            (200, r#"{"data":"x"}"#, Kind::Protocol),
            (200, r#"{"data":{"result":[]}}"#, Kind::Protocol),
        ];
        for (status, body, kind) in rows {
            let error = direct(status, body).unwrap_err();
            assert_eq!(error.kind(), kind, "{status} {body}");
            assert_eq!(error.request_id(), Some("link-1"));
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused_with_a_type(data in value()) {
            let _ = tool(data.clone());
            let _ = tool(Value::String(data.to_string()));
            let _ = direct(200, &json!({"data": {"result": data}}).to_string());
        }

        #[test]
        fn any_bytes_of_a_link_are_read_or_refused(
            status in 100_u16..=999, body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = read_direct(&Raw { status, headers: HeaderMap::new(), body }, "");
        }
    }
}

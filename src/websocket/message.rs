//! What a frame from the peer means: a pure function of its text.

use serde_json::{Map, Value};

use super::error::{RpcError, RpcErrorKind};
use super::notifications::Notification;

/// What came in.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// A reply; `None` for an id that cannot be one of ours.
    Reply {
        id: Option<u64>,
        answer: Result<Value, RpcError>,
    },
    Notification(Notification),
    /// A request of the peer's own: this end serves none.
    Request,
    /// Nothing that the protocol knows.
    Malformed,
}

/// Reads a text frame. A batch is taken apart, one level deep; we send none, but a peer may
/// gather its notifications.
pub(super) fn read(text: &str, mut each: impl FnMut(Incoming)) {
    match serde_json::from_str(text) {
        Ok(Value::Array(batch)) if !batch.is_empty() => {
            batch.into_iter().map(read_one).for_each(each);
        }
        Ok(value) => each(read_one(value)),
        Err(_) => each(Incoming::Malformed),
    }
}

fn read_one(value: Value) -> Incoming {
    let Value::Object(mut fields) = value else {
        return Incoming::Malformed;
    };
    let id = fields.remove("id");
    match (fields.remove("method"), id) {
        (Some(Value::String(_)), Some(_)) => Incoming::Request,
        (Some(Value::String(method)), None) => notification(method, fields.remove("params")),
        (None, Some(id)) => Incoming::Reply {
            id: id.as_u64(),
            answer: answer(fields),
        },
        _ => Incoming::Malformed,
    }
}

fn notification(method: String, params: Option<Value>) -> Incoming {
    match params.unwrap_or(Value::Null) {
        params @ (Value::Array(_) | Value::Object(_) | Value::Null) => {
            Incoming::Notification(Notification { method, params })
        }
        _ => Incoming::Malformed,
    }
}

/// Either a result or an error. Servers of the older protocol send the other as `null`.
fn answer(mut fields: Map<String, Value>) -> Result<Value, RpcError> {
    match (fields.remove("result"), fields.remove("error")) {
        (Some(result), None | Some(Value::Null)) => Ok(result),
        (None | Some(Value::Null), Some(Value::Object(error))) => Err(server_error(error)),
        (Some(_), Some(_)) => Err(bad("both a result and an error")),
        (None, Some(error)) => Err(bad("an error that is no object").with_data(Some(error))),
        (None, None) => Err(bad("neither a result nor an error")),
    }
}

fn server_error(mut error: Map<String, Value>) -> RpcError {
    let code = error.get("code").and_then(Value::as_i64);
    let message = error.get("message").and_then(Value::as_str);
    let (Some(code), Some(message)) = (code, message) else {
        return bad("an error without a code or a message").with_data(Some(error.into()));
    };
    let answered = RpcError::new(RpcErrorKind::Server { code }, message);
    answered.with_data(error.remove("data"))
}

fn bad(what: &str) -> RpcError {
    RpcError::new(RpcErrorKind::BadReply, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn all(text: &str) -> Vec<Incoming> {
        let mut all = Vec::new();
        read(text, |one| all.push(one));
        all
    }

    fn one(text: &str) -> Incoming {
        let mut all = all(text);
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    fn kind(text: &str) -> RpcErrorKind {
        match one(text) {
            Incoming::Reply { answer, .. } => answer.unwrap_err().kind(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn replies_and_notifications_are_told_apart() {
        let reply = one(r#"{"jsonrpc":"2.0","id":7,"result":null}"#);
        let answer = Ok(Value::Null);
        assert_eq!(
            reply,
            Incoming::Reply {
                id: Some(7),
                answer
            }
        );
        let notice = one(r#"{"jsonrpc":"2.0","method":"tick","params":[1]}"#);
        assert!(
            matches!(notice, Incoming::Notification(n) if n.method == "tick" && n.params == json!([1]))
        );
        assert_eq!(one(r#"{"id":1,"method":"ask"}"#), Incoming::Request);
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        for text in [
            "",
            "{",
            "null",
            "7",
            "\"x\"",
            "[]",
            "{}",
            "<html></html>",
            r#"{"method":7}"#,
            r#"{"method":"m","params":3}"#,
            r#"{"result":1}"#,
            r#"{"method":null,"id":1}"#,
        ] {
            assert_eq!(one(text), Incoming::Malformed, "{text}");
        }
    }

    #[test]
    fn only_a_whole_number_can_be_an_id_of_ours() {
        for id in ["null", "\"1\"", "1.5", "-1", "[1]", "{}", "1e99"] {
            let text = format!(r#"{{"id":{id},"result":1}}"#);
            assert!(
                matches!(one(&text), Incoming::Reply { id: None, .. }),
                "{text}"
            );
        }
    }

    #[test]
    fn a_reply_that_is_none_is_the_callers_error() {
        for text in [
            r#"{"id":1}"#,
            r#"{"id":1,"result":1,"error":{"code":1,"message":"m"}}"#,
            r#"{"id":1,"error":"no"}"#,
            r#"{"id":1,"error":null}"#,
            r#"{"id":1,"error":{"code":"1","message":"m"}}"#,
            r#"{"id":1,"error":{"code":1}}"#,
        ] {
            assert_eq!(kind(text), RpcErrorKind::BadReply, "{text}");
        }
    }

    #[test]
    fn a_servers_error_keeps_code_message_and_data() {
        let reply = one(r#"{"id":1,"error":{"code":-32601,"message":"no","data":{"a":1}}}"#);
        let Incoming::Reply { answer, .. } = reply else {
            panic!("{reply:?}")
        };
        let error = answer.unwrap_err();
        assert_eq!(error.code(), Some(-32601));
        assert_eq!(
            (error.message(), error.data()),
            ("no", Some(&json!({"a": 1})))
        );
    }

    #[test]
    fn a_batch_is_taken_apart_once() {
        let got = all(r#"[{"id":1,"result":1},{"method":"m"},[{"id":2,"result":2}],3]"#);
        assert!(matches!(got[0], Incoming::Reply { id: Some(1), .. }));
        assert!(matches!(got[1], Incoming::Notification(_)));
        assert_eq!(got[2..], [Incoming::Malformed, Incoming::Malformed]);
    }

    #[test]
    fn endless_nesting_is_malformed() {
        assert_eq!(one(&"[".repeat(1 << 20)), Incoming::Malformed);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            read(&text, |_| ());
        }

        #[test]
        fn nothing_that_looks_like_json_panics(text in r#"[\[\]{}:,"0-9a-z]{0,60}"#) {
            read(&text, |_| ());
        }
    }
}

use std::time::Duration;

use proptest::prelude::*;
use reqwest::header::HeaderValue;
use serde_json::json;

use super::*;

fn raw(status: u16, body: &str) -> Raw {
    Raw {
        status,
        headers: HeaderMap::new(),
        body: body.as_bytes().to_vec(),
    }
}

fn failed(status: u16, body: &str) -> SessionError {
    read(&raw(status, body)).unwrap_err()
}

#[test]
fn a_good_reply_is_one_that_says_success_whatever_its_code() {
    for code in ["ok", "200", "Success", "odd"] {
        let body = json!({"RequestId": "R", "Success": true, "Code": code, "Data": {"a": 1}});
        let envelope = read(&raw(200, &body.to_string())).unwrap();
        assert_eq!(envelope.request_id, "R");
        assert_eq!(envelope.data, json!({"a": 1}));
    }
    let page = r#"{"Success":"true","Data":[],"NextToken":"n","TotalCount":"7"}"#;
    let envelope = read(&raw(200, page)).unwrap();
    assert_eq!(envelope.next.as_deref(), Some("n"));
    assert_eq!(envelope.total, Some(7));
}

#[test]
fn without_success_the_code_decides() {
    assert!(read(&raw(200, r#"{"Code":"ok","Data":{}}"#)).is_ok());
    assert!(read(&raw(200, r#"{"Data":{}}"#)).is_ok());
    assert_eq!(
        failed(200, r#"{"Code":"InvalidMcpSession.NotFound","Data":{}}"#).kind(),
        Kind::NotFound
    );
}

#[test]
fn the_first_layer_keeps_all_it_is_told() {
    let mut raw = raw(
        400,
        r#"{"RequestId":"R","Code":"InvalidMcpSession.NotFound","Message":"gone"}"#,
    );
    raw.headers
        .insert("x-acs-retry-after", HeaderValue::from_static("250"));
    let error = read(&raw).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(error.status(), Some(400));
    assert_eq!(error.code(), Some("InvalidMcpSession.NotFound"));
    assert_eq!(error.request_id(), Some("R"));
    assert_eq!(error.message(), "gone");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
}

#[test]
fn the_second_layer_is_a_failure_with_the_status_it_tells() {
    let error = failed(
        200,
        r#"{"Success":false,"Code":"InternalError","Message":"m","HttpStatusCode":500}"#,
    );
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(error.status(), Some(500));
    // `ok` beside `Success: false` is no success.
    let error = failed(200, r#"{"Success":false,"Code":"ok"}"#);
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(error.effect(), Effect::Unknown);
}

#[test]
fn a_page_is_never_a_json_error() {
    let rows = [
        (502, "<html>Bad Gateway</html>", Kind::Unavailable),
        (503, "\n <!DOCTYPE html>", Kind::Unavailable),
        (500, "", Kind::Unavailable),
        (200, "<html></html>", Kind::Protocol),
        (200, "", Kind::Protocol),
        (200, "{\"Success\":tr", Kind::Protocol),
        (200, "[]", Kind::Protocol),
        (200, "{}", Kind::Protocol),
        (404, "<html>not found</html>", Kind::Protocol),
        (404, r#"{"detail":"Not Found"}"#, Kind::Protocol),
        (302, "", Kind::Protocol),
        (403, "<html></html>", Kind::Denied),
        (429, "slow down", Kind::Throttled),
    ];
    for (status, body, kind) in rows {
        let error = failed(status, body);
        assert_eq!(error.kind(), kind, "{status} {body}");
        assert_eq!(error.status(), Some(status));
        let text = error.to_string();
        assert!(
            !text.contains("expected") && !text.contains("line 1"),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_with_a_type(
        status in 100_u16..=999, body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = read(&Raw { status, headers: HeaderMap::new(), body });
    }

    #[test]
    fn any_json_is_read_or_refused_with_a_type(status in 100_u16..=999, body in any_json()) {
        let mut fields = serde_json::Map::new();
        for (name, value) in [
            "Success", "Code", "Data", "Message", "RequestId", "HttpStatusCode", "NextToken",
        ].into_iter().zip(body) {
            fields.insert(name.to_owned(), value);
        }
        let body = Value::Object(fields).to_string().into_bytes();
        let read = read(&Raw { status, headers: HeaderMap::new(), body });
        prop_assert!((200..300).contains(&status) || read.is_err());
    }
}

fn any_json() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(value(), 0..=7)
}

pub(in super::super) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("ok")),
        Just(json!("{\"content\":[{\"text\":\"x\"}]}")),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(
                (
                    prop_oneof![
                        Just("content".to_owned()),
                        Just("text".to_owned()),
                        Just("isError".to_owned()),
                        Just("result".to_owned()),
                        Just("results".to_owned()),
                        Just("logs".to_owned()),
                        Just("stdout".to_owned()),
                        Just("stderr".to_owned()),
                        Just("exit_code".to_owned()),
                        Just("error".to_owned()),
                        Just("executionError".to_owned()),
                        ".{0,6}",
                    ],
                    inner
                ),
                0..5
            )
            .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

use serde_json::json;

use super::*;

#[test]
fn labels_come_as_json_in_a_string() {
    let read = |data: Value| {
        read_labels(&mut Envelope {
            request_id: String::new(),
            data,
            next: None,
            total: None,
        })
    };
    let labels = read(json!({"Labels": r#"{"a":"b","n":1}"#})).unwrap();
    assert_eq!(labels["a"], "b");
    assert_eq!(labels["n"], "1");
    for none in [
        json!({}),
        json!(null),
        json!({"Labels": ""}),
        json!({"Labels": null}),
    ] {
        assert!(read(none).unwrap().is_empty());
    }
    assert_eq!(
        read(json!({"Labels": "[1]"})).unwrap_err().kind(),
        Kind::Protocol
    );
}

#[test]
fn a_session_that_was_not_made_and_has_a_name_may_be_there() {
    let error = |data: Value| not_made(data.as_object().unwrap(), "R");
    let refused = error(json!({"Success": false, "ErrMsg": "no room"}));
    assert_eq!(
        (refused.kind(), refused.effect()),
        (Kind::Unavailable, Effect::None)
    );
    assert_eq!(refused.message(), "no room");
    assert_eq!(error(json!({"SessionId": "s"})).effect(), Effect::Unknown);
}

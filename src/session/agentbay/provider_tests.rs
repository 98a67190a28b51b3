use super::*;

#[test]
fn time_limits_are_the_service_s_at_most() {
    let ms = Duration::from_millis;
    assert_eq!(checked(None, LONGEST_COMMAND, "command").unwrap(), LONGEST_COMMAND);
    assert_eq!(checked(Some(ms(9)), LONGEST_COMMAND, "command").unwrap(), ms(9));
    let error = checked(Some(ms(50_001)), LONGEST_COMMAND, "command").unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Invalid, Effect::None));
    assert_eq!(millis(Duration::ZERO), 1);
    assert_eq!(millis(Duration::from_micros(1500)), 2);
}

#[test]
fn languages_have_several_names() {
    assert_eq!(language(" Python3 ").unwrap(), "python");
    assert_eq!(language("JS").unwrap(), "javascript");
    let error = language("cobol").unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unsupported, Effect::None));
}

#[test]
fn a_failure_after_the_first_piece_is_partial_whatever_it_was() {
    for effect in [Effect::None, Effect::Unknown] {
        let error = failure(Kind::Connection, effect, "broke");
        assert_eq!(after(0, error.clone()).effect(), effect);
        assert_eq!(after(1, error).effect(), Effect::Partial);
    }
}

#[test]
fn labels_come_as_json_in_a_string() {
    let read = |data: Value| {
        read_labels(&Envelope {
            request_id: String::new(),
            data,
            next: None,
            total: None,
        })
    };
    let labels = read(json!({"Labels": r#"{"a":"b","n":1}"#})).unwrap();
    assert_eq!(labels["a"], "b");
    assert_eq!(labels["n"], "1");
    for none in [json!({}), json!(null), json!({"Labels": ""}), json!({"Labels": null})] {
        assert!(read(none).unwrap().is_empty());
    }
    assert_eq!(read(json!({"Labels": "[1]"})).unwrap_err().kind(), Kind::Protocol);
}

#[test]
fn a_session_that_was_not_made_and_has_a_name_may_be_there() {
    let error = |data: Value| not_made(data.as_object().unwrap(), "R");
    let refused = error(json!({"Success": false, "ErrMsg": "no room"}));
    assert_eq!((refused.kind(), refused.effect()), (Kind::Unavailable, Effect::None));
    assert_eq!(refused.message(), "no room");
    assert_eq!(error(json!({"SessionId": "s"})).effect(), Effect::Unknown);
}

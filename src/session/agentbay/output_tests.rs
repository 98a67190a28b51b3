use proptest::prelude::*;
use serde_json::json;

use super::super::super::error::SessionErrorKind as Kind;
use super::super::reply::tests::value;
use super::*;

fn answer(text: &(impl ToString + ?Sized), is_error: bool) -> Answer {
    Answer {
        text: text.to_string(),
        is_error,
        request_id: "R".to_owned(),
    }
}

#[test]
fn a_command_keeps_all_it_left() {
    let said = json!({"stdout": "a\n", "stderr": "b", "exit_code": 0, "traceId": "T"});
    let result = read_command(&answer(&said, false)).unwrap();
    assert!(result.success);
    assert_eq!(result.stdout, b"a\n");
    assert_eq!(result.stderr, b"b");
    assert_eq!(result.exit_code, Some(0));
    assert_eq!(result.trace_id.as_deref(), Some("T"));
    assert_eq!(result.request_id, "R");
    assert_eq!(result.error_message, "");
}

#[test]
fn a_command_that_fails_is_a_result_even_where_the_tool_calls_it_an_error() {
    for is_error in [false, true] {
        let said = json!({"stdout": "", "stderr": "no\n", "exit_code": 3});
        let result = read_command(&answer(&said, is_error)).unwrap();
        assert!(!result.success);
        assert_eq!(result.exit_code, Some(3));
        assert_eq!(result.error_message, "no");
    }
    let said = json!({"stdout": "", "stderr": "", "exit_code": 3});
    let result = read_command(&answer(&said, false)).unwrap();
    assert_eq!(result.error_message, "the command ended with 3");
    let said = json!({"stdout": "", "stderr": "", "errorCode": 4});
    assert_eq!(
        read_command(&answer(&said, false)).unwrap().exit_code,
        Some(4)
    );
}

#[test]
fn the_old_form_is_what_was_written() {
    for said in [
        "plain\n",
        "",
        "[1]",
        r#"{"stdout":"mine"}"#,
        r#"{"exit_code":1}"#,
    ] {
        let result = read_command(&answer(&said, false)).unwrap();
        assert!(result.success);
        assert_eq!(result.stdout, said.as_bytes());
    }
    let error = read_command(&answer("no shell", true)).unwrap_err();
    assert_eq!(error.kind(), Kind::Tool);
}

#[test]
fn an_exit_code_out_of_range_is_no_success() {
    let said = json!({"stdout": "", "stderr": "", "exit_code": 1_i64 << 40});
    let result = read_command(&answer(&said, false)).unwrap();
    assert!(!result.success);
    assert_eq!(result.exit_code, None);
}

#[test]
fn code_answers_with_values_as_json_in_strings() {
    let said = json!({
        "executionError": null,
        "result": [
            json!({"text/plain": "42", "isMainResult": true}).to_string(),
            json!(json!({"text/plain": "twice"}).to_string()).to_string(),
            "bare", "3", {"text/html": "<b>"}, 1.5,
        ],
        "stdout": ["a\n", "b\n"],
        "stderr": ["c"],
    });
    let result = read_code(&answer(&said, false)).unwrap();
    assert!(result.success);
    assert_eq!(result.results, ["42", "twice", "bare", "3", "<b>", "1.5"]);
    assert_eq!(result.stdout, b"a\nb\n");
    assert_eq!(result.stderr, b"c");
    let said = json!({"executionError": "ZeroDivisionError", "result": []});
    let result = read_code(&answer(&said, false)).unwrap();
    assert!(!result.success);
    assert_eq!(result.error_message, "ZeroDivisionError");
}

#[test]
fn code_answers_with_logs_and_results() {
    let said = json!({
        "logs": {"stdout": ["a"], "stderr": ["b"]},
        "results": [{"text": "1"}, {"png": "iVBO"}],
        "error": {"name": "E", "value": "why", "traceback": "long"},
        "execution_count": 1, "execution_time": 0.5,
    });
    let result = read_code(&answer(&said, false)).unwrap();
    assert!(!result.success);
    assert_eq!(result.error_message, "E: why");
    assert_eq!(result.results[0], "1");
    assert_eq!(
        (result.stdout, result.stderr),
        (b"a".to_vec(), b"b".to_vec())
    );
    let said = json!({"logs": {"stdout": []}, "error": null});
    assert!(read_code(&answer(&said, false)).unwrap().success);
}

#[test]
fn code_answers_with_text() {
    let result = read_code(&answer("hello\n", false)).unwrap();
    assert!(result.success);
    assert_eq!(result.stdout, b"hello\n");
    assert_eq!(
        read_code(&answer("no kernel", true)).unwrap_err().kind(),
        Kind::Tool
    );
}

#[test]
fn what_code_prints_is_not_taken_for_a_form() {
    for said in [r#"{"result":5}"#, r#"{"logs":"x"}"#, r#"{"a":1}"#] {
        let result = read_code(&answer(&said, false)).unwrap();
        assert_eq!(result.stdout, said.as_bytes());
    }
}

proptest! {
    #[test]
    fn any_text_of_a_tool_is_read_or_refused(said in value(), text: String, is_error: bool) {
        for answer in [answer(&said, is_error), answer(&text, is_error)] {
            let _ = read_command(&answer);
            let _ = read_code(&answer);
        }
    }
}

#[test]
fn a_complaint_is_the_name_and_the_value_as_far_as_they_are_there() {
    let all = [
        (
            json!({"name": "E", "value": "v", "traceback": "long"}),
            "E: v",
        ),
        (json!({"name": "E"}), "E"),
        (json!({"value": "v"}), "v"),
        (json!({}), "the code failed without a reason"),
        (json!("in words"), "in words"),
        (json!(null), ""),
        (json!(7), ""),
    ];
    for (error, words) in all {
        assert_eq!(complaint(&error), words, "{error}");
    }
}

#[test]
fn a_value_is_shown_by_its_plainest_text_and_otherwise_as_it_is() {
    let all = [
        (json!({"text/html": "<b>", "text/plain": "b"}), "b"),
        (json!({"text/plain": null, "json": {"a": 1}}), r#"{"a":1}"#),
        (json!({"text/plain": null}), r#"{"text/plain":null}"#),
        (json!(r#"{"text": "inside"}"#), "inside"),
        (json!(r#""{\"text\": \"twice\"}""#), "twice"),
        (json!("no json"), "no json"),
        (json!([1]), "[1]"),
    ];
    for (item, words) in all {
        assert_eq!(shown(&item), words, "{item}");
    }
}

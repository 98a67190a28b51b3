//! What the tools say.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Local;
use crate::agentbay_server::Config;

#[tokio::test]
async fn the_shell_says_what_a_command_wrote_and_how_it_ended() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    let args = json!({ "command": "echo out; echo err >&2" });
    let (said, is_error) = local.shell(&id, args).await;
    assert_eq!(
        (&said["stdout"], &said["stderr"]),
        (&json!("out\n"), &json!("err\n"))
    );
    assert_eq!(
        (&said["exit_code"], &said["traceId"], is_error),
        (&json!(0), &json!(""), false)
    );

    let (said, is_error) = local
        .shell(&id, json!({ "command": "echo some; exit 3" }))
        .await;
    assert_eq!(
        (&said["stdout"], &said["exit_code"]),
        (&json!("some\n"), &json!(3))
    );
    assert!(is_error && !said["traceId"].as_str().unwrap().is_empty());

    local
        .good(&id, "create_directory", json!({ "path": "in" }))
        .await;
    let args = json!({ "command": "echo $A; basename $PWD", "cwd": "in", "envs": { "A": "b" } });
    let (said, _) = local.shell(&id, args).await;
    assert_eq!(said["stdout"], "b\nin\n");

    let began = Instant::now();
    let args = json!({ "command": "echo first; sleep 30", "timeout_ms": 300 });
    let (said, is_error) = local.shell(&id, args).await;
    assert!(
        is_error && began.elapsed() < Duration::from_secs(15),
        "{said}"
    );
    assert_eq!(
        (&said["stdout"], &said["exit_code"]),
        (&json!("first\n"), &json!(-1))
    );
    local.end().await;
}

#[tokio::test]
async fn code_that_fails_is_no_error_of_the_tool() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    let code = |code: &str, language: &str| json!({ "code": code, "language": language });
    let said = local
        .good(&id, "run_code", code("print('hi')", "python"))
        .await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["executionError"], &said["stdout"]),
        (&json!(""), &json!(["hi\n"]))
    );

    let said = local
        .good(&id, "run_code", code("print('hi')\n1/0", "python"))
        .await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(
        said["executionError"]
            .as_str()
            .unwrap()
            .contains("ZeroDivisionError"),
        "{said}"
    );
    assert_eq!(said["stdout"], json!(["hi\n"]));

    local.bad(&id, "run_code", code("x", "befunge")).await;
    local.bad(&id, "run_code", code("x", "r")).await;
    local.end().await;
}

#[tokio::test]
async fn files_are_written_read_and_moved() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    let text = "aä€😀".repeat(100);
    let write = |path: &str, content: &str, mode: &str| json!({ "path": path, "content": content, "mode": mode });
    local
        .good(&id, "write_file", write("d/a", &text[..500], "overwrite"))
        .await;
    local
        .good(&id, "write_file", write("d/a", &text[500..], "append"))
        .await;
    let read = local.good(&id, "read_file", json!({ "path": "d/a" })).await;
    assert_eq!(read, text);

    // Parts whose ends fall into the middle of characters.
    let mut whole = String::new();
    for offset in (0..text.len()).step_by(7) {
        let part = json!({ "path": "d/a", "offset": offset, "length": 7 });
        whole += &local.good(&id, "read_file", part).await;
    }
    assert_eq!(whole, text);

    local
        .shell(&id, json!({ "command": r"printf '\000\377' > raw" }))
        .await;
    let part = json!({ "path": "raw", "format": "binary" });
    assert_eq!(local.good(&id, "read_file", part).await, "AP8=");

    let info = local
        .good(&id, "get_file_info", json!({ "path": "d/a" }))
        .await;
    assert!(
        info.contains("size: 1000\n") && info.contains("isDirectory: false"),
        "{info}"
    );
    local
        .good(&id, "create_directory", json!({ "path": "d/e" }))
        .await;
    let listed = local
        .good(&id, "list_directory", json!({ "path": "d" }))
        .await;
    assert_eq!(listed, "[FILE] a\n[DIR] e");
    local
        .good(
            &id,
            "move_file",
            json!({ "source": "d/a", "destination": "d/e/b.txt" }),
        )
        .await;
    let search = json!({ "path": "d", "pattern": "*.txt" });
    assert!(
        local
            .good(&id, "search_files", search)
            .await
            .ends_with("e/b.txt")
    );
    for exclude in [json!("*.md,b*"), json!(["b*"])] {
        let search = json!({ "path": "d", "pattern": "*.txt", "excludePatterns": exclude });
        assert_eq!(
            local.good(&id, "search_files", search).await,
            "No matches found"
        );
    }
    local
        .good(&id, "delete_file", json!({ "path": "d/e/b.txt" }))
        .await;
    local
        .bad(&id, "delete_file", json!({ "path": "d/e/b.txt" }))
        .await;
    local
        .bad(&id, "read_file", json!({ "path": "nothing" }))
        .await;
    local
        .bad(
            &id,
            "read_file",
            json!({ "path": "../../../../etc/passwd" }),
        )
        .await;
    local.end().await;
}

#[tokio::test]
async fn tools_are_called_by_the_direct_path() {
    for data_as_text in [false, true] {
        let config = Config {
            links: true,
            data_as_text,
            ..Config::default()
        };
        let local = Local::start(config).await;
        let (id, data) = local.create("{}").await;
        let url = format!("{}/callTool", data["LinkUrl"].as_str().unwrap());
        let token = data["Token"].as_str().unwrap();
        let body = json!({
            "args": { "command": "echo direct" }, "server": "wuying_shell",
            "requestId": "link-1-000000001", "tool": "shell", "token": token,
        });
        let call = |url: &str, token: &str, body: &Value| {
            let request = local.http.post(url).header("X-Access-Token", token);
            let request = request.header("Content-Type", "application/json");
            local.admin(request.body(body.to_string()))
        };

        let answer = call(&url, token, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let outer = answer.json();
        assert_eq!(outer["requestId"], "link-1-000000001");
        let data = match &outer["data"] {
            Value::String(text) if data_as_text => serde_json::from_str(text).unwrap(),
            data => data.clone(),
        };
        assert_eq!(data["result"]["isError"], false);
        let text = data["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("direct"), "{text}");

        assert_eq!(call(&url, "wrong", &body).await.status, 403);
        let mut wrong = body.clone();
        wrong["token"] = "wrong".into();
        assert_eq!(call(&url, token, &wrong).await.status, 403);
        for (name, value) in [
            ("args", json!([])),
            ("tool", json!(1)),
            ("token", Value::Null),
        ] {
            let mut wrong = body.clone();
            wrong[name] = value;
            assert_eq!(call(&url, token, &wrong).await.status, 400, "{name}");
        }
        assert_eq!(call(&url, token, &json!("text")).await.status, 400);
        let elsewhere = url.replace(&id, "s-unknown");
        assert_eq!(call(&elsewhere, token, &body).await.status, 400);
        // The API's data has the same form.
        let said = local.good(&id, "shell", body["args"].clone()).await;
        assert!(said.contains("direct"), "{said}");
        local.end().await;
    }
}

#[tokio::test]
async fn a_tool_says_itself_what_is_wrong_with_its_arguments() {
    let local = Local::start(Config::default()).await;
    let (id, _) = local.create("{}").await;
    let cases = [
        ("shell", json!({})),
        ("shell", json!({ "command": 1 })),
        ("shell", json!({ "command": "true", "timeout_ms": "soon" })),
        ("shell", json!({ "command": "true", "timeout_ms": -1 })),
        ("shell", json!({ "command": "true", "cwd": "nowhere" })),
        ("shell", json!({ "command": "true", "envs": { "A": 1 } })),
        ("shell", json!({ "command": "true", "envs": ["A=1"] })),
        ("run_code", json!({ "code": "1" })),
        ("read_file", json!({})),
        ("read_file", json!({ "path": "a", "offset": -1 })),
        ("read_file", json!({ "path": "a", "format": "hex" })),
        ("write_file", json!({ "path": "a", "content": 1 })),
        (
            "write_file",
            json!({ "path": "a", "content": "", "mode": "upside" }),
        ),
        ("write_file", json!({ "path": "a\u{0}b", "content": "" })),
        ("move_file", json!({ "source": "a" })),
        (
            "search_files",
            json!({ "path": ".", "pattern": "*", "excludePatterns": 1 }),
        ),
        ("no_such_tool", json!({})),
        ("", json!({})),
    ];
    for (tool, args) in cases {
        if tool.is_empty() {
            let answer = local.try_tool(&id, tool, args).await.unwrap();
            answer.fails(400, "MissingParameter");
        } else {
            local.bad(&id, tool, args).await;
        }
    }
    local.end().await;
}

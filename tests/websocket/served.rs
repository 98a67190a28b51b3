//! The example's server through the client: here, and as a process of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt};
use mainstay::process::{Command, Process};
use mainstay::websocket::{Client, Notification, Notifications, RpcErrorKind};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::peer::{listen, quick, until};
use crate::server::{Limits, serve};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct Server {
    url: String,
    stop: CancellationToken,
    task: JoinHandle<mainstay::process::CloseReport>,
}

async fn start(limits: Limits) -> Server {
    let listener = listen("127.0.0.1:0".parse().unwrap()).await;
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let task = tokio::spawn(async move { serve(listener, limits, stopped).await.unwrap() });
    Server { url, stop, task }
}

fn client(server: &Server) -> Client {
    quick(&server.url)
        .notification_buffer(1 << 14)
        .build()
        .unwrap()
}

async fn next(notices: &mut Notifications) -> Notification {
    let next = tokio::time::timeout(10 * SECOND, notices.recv());
    next.await.expect("no notification").unwrap().unwrap()
}

/// Waits until the execution of this name says so.
async fn said(notices: &mut Notifications, name: &str, text: &str) {
    loop {
        let notice = next(notices).await;
        if notice.params["id"] == name && notice.params["text"] == text {
            return;
        }
    }
}

fn code(result: Result<Value, mainstay::Error<mainstay::websocket::RpcError>>) -> i64 {
    let error = result.unwrap_err();
    error
        .last()
        .and_then(mainstay::websocket::RpcError::code)
        .unwrap_or_else(|| panic!("{error}"))
}

fn is_alive(pid: u64) -> bool {
    // A zombie counts as ended: only its parent still knows it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

#[tokio::test]
async fn output_comes_while_it_runs_and_the_answer_at_the_end() {
    let server = start(Limits::default()).await;
    let client = client(&server);
    let mut notices = client.notifications();
    let params =
        json!({"id": "a", "command": "echo one; echo two >&2; read x < /dev/null; exit 3"});
    let answer: Value = client.call("execute", params).await.unwrap();
    assert_eq!(
        (&answer["exit_code"], &answer["status"]),
        (&json!(3), &json!("exited"))
    );
    assert_eq!(answer["stdout"], json!({"bytes": 3, "lines": 1}));
    let mut seen = BTreeMap::new();
    for n in 0..3 {
        let notice = next(&mut notices).await;
        assert_eq!(notice.method == "process.started", n == 0);
        seen.insert(
            notice.params["source"].to_string(),
            notice.params["text"].clone(),
        );
    }
    assert_eq!(
        (&seen["\"stdout\""], &seen["\"stderr\""]),
        (&json!("one"), &json!("two"))
    );
}

#[tokio::test]
async fn executions_at_once_answer_out_of_order() {
    let server = start(Limits::default()).await;
    let client = client(&server);
    let begun = Instant::now();
    let ended = std::sync::Mutex::new(Vec::new());
    let calls = (0..5_u32).map(|n| {
        let (client, ended) = (&client, &ended);
        async move {
            let command = format!("sleep {}; exit {n}", 1.6 - 0.3 * f64::from(n));
            let params = json!({"command": command});
            let answer: Value = client.call("execute", params).await?;
            ended.lock().unwrap().push(n);
            Ok::<_, mainstay::Error<mainstay::websocket::RpcError>>(answer["exit_code"] == json!(n))
        }
    });
    assert!(
        try_join_all(calls)
            .await
            .unwrap()
            .into_iter()
            .all(|own| own)
    );
    assert_eq!(*ended.lock().unwrap(), [4, 3, 2, 1, 0]);
    assert!(begun.elapsed() < 4 * SECOND, "one after the other");
}

/// Trap 91, over the wire.
#[tokio::test]
async fn pause_resume_and_cancel_also_of_a_paused_one() {
    let server = start(Limits::default()).await;
    let client = client(&server);
    let mut notices = client.notifications();
    let script = "trap 'echo bye; exit 7' TERM; echo go; while :; do sleep 0.01; done";
    let call = client.call::<Value>("execute", json!({"id": "x", "command": script}));
    let call = tokio::spawn(call.into_future());
    said(&mut notices, "x", "go").await;
    let control = |kind: &str| client.call::<Value>("control", json!({"id": "x", "type": kind}));
    let state = || async {
        let list: Value = client.call("list", ()).await.unwrap();
        list[0]["state"].clone()
    };
    assert_eq!(control("PAUSE").await.unwrap()["done"], true);
    assert_eq!(state().await, "paused");
    assert_eq!(control("RESUME").await.unwrap()["done"], true);
    assert_eq!(state().await, "running");
    assert_eq!(control("PAUSE").await.unwrap()["done"], true);
    assert_eq!(control("CANCEL").await.unwrap()["done"], true);
    said(&mut notices, "x", "bye").await;
    let answer = call.await.unwrap().unwrap();
    assert_eq!(
        (&answer["status"], &answer["exit_code"]),
        (&json!("cancelled"), &json!(7))
    );
    assert_eq!(answer["forced"], false);
    assert_eq!(code(control("PAUSE").await), -32001);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let server = start(Limits {
        per_connection: 2,
        ..Limits::default()
    })
    .await;
    let client = client(&server);
    let mut notices = client.notifications();
    let execute = |params: Value| client.call::<Value>("execute", params);
    assert_eq!(code(client.call::<Value>("no_such", ()).await), -32601);
    for wrong in [
        json!({}),
        json!({"command": 7}),
        json!({"command": []}),
        json!({"command": ["a", 1]}),
        json!({"command": "true", "timeout": -1}),
        json!({"command": "true", "id": 5}),
    ] {
        assert_eq!(code(execute(wrong).await), -32602);
    }
    assert_eq!(
        code(execute(json!({"command": ["/no/such/program"]})).await),
        -32002
    );
    assert_eq!(
        code(client.call::<Value>("control", json!({"id": "q"})).await),
        -32001
    );
    let running = execute(json!({"command": "echo up; sleep 60", "id": "q"})).into_future();
    let running = tokio::spawn(running);
    said(&mut notices, "q", "up").await;
    assert_eq!(
        code(
            client
                .call::<Value>("control", json!({"id": "q", "type": "?"}))
                .await
        ),
        -32602
    );
    // Duplicate ids and too many at once are refused, and harm nobody.
    assert_eq!(
        code(execute(json!({"command": "true", "id": "q"})).await),
        -32602
    );
    let other =
        tokio::spawn(execute(json!({"command": "echo up; sleep 60", "id": "r"})).into_future());
    said(&mut notices, "r", "up").await;
    assert_eq!(code(execute(json!({"command": "true"})).await), -32000);
    for id in ["q", "r"] {
        client
            .call::<Value>("control", json!({"id": id, "type": "CANCEL"}))
            .await
            .unwrap();
    }
    assert_eq!(running.await.unwrap().unwrap()["status"], "cancelled");
    assert_eq!(other.await.unwrap().unwrap()["status"], "cancelled");
    let limited = execute(json!({"command": "sleep 60", "timeout": 0.05}))
        .await
        .unwrap();
    assert_eq!(limited["status"], "timed_out");
}

/// Trap 87, over the wire.
#[tokio::test]
async fn a_line_of_a_mebibyte_and_bytes_that_are_not_utf_8_arrive() {
    let server = start(Limits::default()).await;
    let client = client(&server);
    let mut notices = client.notifications();
    let script = r"head -c 1048576 /dev/zero | tr '\0' x; echo; printf 'a\377b\n'";
    let params = json!({"command": script});
    let answer: Value = client.call("execute", params).await.unwrap();
    assert_eq!(
        answer["stdout"],
        json!({"bytes": (1 << 20) + 3, "lines": 2})
    );
    next(&mut notices).await;
    let mut length = 0;
    loop {
        let notice = next(&mut notices).await;
        length += notice.params["text"].as_str().unwrap().len();
        if notice.params["partial"] == false {
            break;
        }
    }
    assert_eq!(length, 1 << 20);
    let odd = next(&mut notices).await;
    assert_eq!(
        (&odd.params["text"], &odd.params["hex"]),
        (&json!("a\u{fffd}b"), &json!("61ff62"))
    );
}

/// Trap 92, over the wire.
#[tokio::test]
async fn a_connection_that_goes_away_takes_its_children_along_in_one_grace() {
    let server = start(Limits {
        grace: SECOND,
        ..Limits::default()
    })
    .await;
    let (gone, other) = (client(&server), client(&server));
    let mut notices = gone.notifications();
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    let calls: Vec<_> = (0..3)
        .map(|n| {
            let params = json!({"id": n.to_string(), "command": stubborn});
            tokio::spawn(gone.call::<Value>("execute", params).into_future())
        })
        .collect();
    let kept = json!({"id": "kept", "command": "echo up; sleep 3; exit 4"});
    let mut others = other.notifications();
    let kept = tokio::spawn(other.call::<Value>("execute", kept).into_future());
    said(&mut others, "kept", "up").await;
    for n in 0..3 {
        let mut again = gone.notifications();
        let list: Value = gone.call("list", ()).await.unwrap();
        if list.as_array().unwrap().len() < 3 {
            said(&mut again, &n.to_string(), "up").await;
        }
    }
    let mut ups = 0;
    while ups < 3 {
        ups += u32::from(next(&mut notices).await.params["text"] == "up");
    }
    let list: Value = gone.call("list", ()).await.unwrap();
    let pids: Vec<u64> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pid"].as_u64().unwrap())
        .collect();
    assert!(pids.len() == 3 && pids.iter().all(|pid| is_alive(*pid)));
    let begun = Instant::now();
    gone.close().await;
    join_all(calls).await;
    until("they are gone", async || {
        !pids.iter().any(|pid| is_alive(*pid))
    })
    .await;
    let took = begun.elapsed();
    assert!(took > 900 * MILLI && took < 2 * SECOND, "{took:?}");
    assert_eq!(kept.await.unwrap().unwrap()["exit_code"], 4);
}

#[tokio::test]
async fn a_server_that_closes_answers_first_and_has_one_grace_for_all() {
    let server = start(Limits {
        grace: 500 * MILLI,
        ..Limits::default()
    })
    .await;
    let clients = [client(&server), client(&server)];
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    let mut calls = Vec::new();
    for client in &clients {
        let mut notices = client.notifications();
        for command in [stubborn, "echo up; sleep 60"] {
            let call = client.call::<Value>("execute", json!({"id": command, "command": command}));
            calls.push(tokio::spawn(call.into_future()));
            said(&mut notices, command, "up").await;
        }
    }
    let begun = Instant::now();
    server.stop.cancel();
    let report = server.task.await.unwrap();
    assert_eq!((report.by_term, report.by_kill, report.left), (2, 2, 0));
    assert!(begun.elapsed() < 1500 * MILLI, "{:?}", begun.elapsed());
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap()["status"], "cancelled");
    }
}

#[tokio::test]
async fn what_is_no_request_is_answered_and_the_connection_stays() {
    let server = start(Limits::default()).await;
    let (mut link, _) = connect_async(&server.url).await.unwrap();
    let wrong = [
        (Message::text("{"), -32700),
        (Message::text("<html>"), -32700),
        (Message::text("7"), -32600),
        (Message::text("[]"), -32600),
        (Message::text(r#"{"id":1,"method":2}"#), -32600),
        (Message::binary(vec![0xff]), -32600),
    ];
    for (message, code) in wrong {
        link.send(message).await.unwrap();
        let reply = link.next().await.unwrap().unwrap().into_text().unwrap();
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["error"]["code"], code);
    }
    // Told, and not answered: the next answer is the next question's.
    link.send(Message::text(r#"{"method":"no_such"}"#))
        .await
        .unwrap();
    link.send(Message::text(r#"{"id":"s","method":"list"}"#))
        .await
        .unwrap();
    let reply = link.next().await.unwrap().unwrap().into_text().unwrap();
    let reply: Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply, json!({"jsonrpc": "2.0", "id": "s", "result": []}));
}

/// A client that reads nothing holds up its own child, and no memory; others go on.
#[tokio::test]
async fn a_client_that_reads_nothing_is_gone_after_the_limit() {
    let limits = Limits {
        write_timeout: 300 * MILLI,
        grace: SECOND,
        ..Limits::default()
    };
    let server = start(limits).await;
    let (mut deaf, _) = connect_async(&server.url).await.unwrap();
    let request = json!({"id": 1, "method": "execute", "params": {"command": "exec yes"}});
    deaf.send(Message::text(request.to_string())).await.unwrap();
    let started = deaf.next().await.unwrap().unwrap().into_text().unwrap();
    let started: Value = serde_json::from_str(&started).unwrap();
    let pid = started["params"]["pid"].as_u64().unwrap();
    let client = client(&server);
    let answer: Value = client
        .call("execute", json!({"command": "true"}))
        .await
        .unwrap();
    assert_eq!(answer["exit_code"], 0);
    until("its child is gone", async || !is_alive(pid)).await;
}

const AS_A_CHILD: &str = "MAINSTAY_WEBSOCKET_PORT";

/// The server as a process of its own, when this binary is started so.
#[test]
fn as_a_child() {
    let Ok(port) = std::env::var(AS_A_CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let addr: SocketAddr = ([127, 0, 0, 1], port.parse().unwrap()).into();
        let listener = listen(addr).await;
        println!("\nlistening on {}", listener.local_addr().unwrap());
        // An orphan does not stay.
        serve(listener, Limits::default(), tokio::time::sleep(60 * SECOND))
            .await
            .unwrap();
    });
}

async fn child(port: u16) -> (Process, SocketAddr) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "served::as_a_child", "--nocapture"])
        .env(AS_A_CHILD, port.to_string())
        .spawn()
        .unwrap();
    let mut lines = process.lines();
    while let Some(line) = lines.line().await {
        if let Some(addr) = line.text().strip_prefix("listening on ") {
            let addr = addr.parse().unwrap();
            return (process, addr);
        }
    }
    panic!("it does not listen");
}

/// A stopped process keeps its connections, and answers nothing.
#[tokio::test]
async fn a_server_stopped_by_sigstop_is_dead_within_the_bound_and_back_when_it_goes_on() {
    let (process, addr) = child(0).await;
    let client = quick(&format!("ws://{addr}/")).ping_interval(100 * MILLI);
    let client = client
        .pong_timeout(300 * MILLI)
        .connect_timeout(300 * MILLI)
        .build()
        .unwrap();
    client.call::<Value>("list", ()).await.unwrap();
    assert!(process.pause());
    let stat = format!("/proc/{}/stat", process.pid());
    until("it is stopped", async || {
        std::fs::read_to_string(&stat).unwrap().contains(") T ")
    })
    .await;
    let begun = Instant::now();
    let calls = (0..10).map(|_| client.call::<Value>("list", ()).into_future());
    for ended in join_all(calls).await {
        let error = ended.unwrap_err();
        let error = error.last().unwrap();
        assert_eq!(
            (error.kind(), error.message()),
            (RpcErrorKind::Lost, "the peer answers no ping")
        );
    }
    assert!(begun.elapsed() < 5 * SECOND);
    assert!(process.resume());
    client.call::<Value>("list", ()).await.unwrap();
    assert_eq!(client.snapshot().pending, 0);
}

/// Trap 96, with a process that is killed.
#[tokio::test]
async fn a_server_process_killed_mid_flight_and_started_again() {
    let (mut process, addr) = child(0).await;
    let client = quick(&format!("ws://{addr}/"))
        .notification_buffer(1024)
        .build()
        .unwrap();
    let mut notices = client.notifications();
    let file = std::env::temp_dir().join(format!("mainstay-ws-{}", std::process::id()));
    let command = format!("echo once >> {}; echo up; sleep 60", file.display());
    let params = json!({"id": "once", "command": command, "timeout": 20});
    let call = tokio::spawn(client.call::<Value>("execute", params).into_future());
    said(&mut notices, "once", "up").await;
    process.kill();
    process.wait().await.unwrap();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.last().unwrap().kind(), RpcErrorKind::Lost);
    let (_process, _) = child(addr.port()).await;
    let list: Value = client.call("list", ()).await.unwrap();
    assert_eq!(list, json!([]));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "once\n");
    std::fs::remove_file(&file).unwrap();
    let now = client.snapshot();
    assert_eq!((now.reconnects, now.lost, now.pending), (1, 1, 0));
}

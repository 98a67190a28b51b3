//! The local `AgentBay` server by plain HTTP: what it answers, how it goes wrong, how it ends.

mod end;
mod faults;
mod input;
mod sessions;
mod tools;

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::agentbay_server::{Config, DEFAULT_KEY, Handle, Rule, Stopped, serve};

const MS: Duration = Duration::from_millis(1);

/// A server, and a client that speaks nothing but HTTP.
struct Local {
    handle: Handle,
    http: reqwest::Client,
    url: String,
}

struct Answer {
    status: u16,
    kind: String,
    retry_after: Option<String>,
    text: String,
}

impl Answer {
    async fn of(response: reqwest::Response) -> reqwest::Result<Self> {
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Ok(Self {
            status: response.status().as_u16(),
            kind: header("content-type").unwrap_or_default(),
            retry_after: header("x-acs-retry-after"),
            text: response.text().await?,
        })
    }

    fn json(&self) -> Value {
        let json = serde_json::from_str(&self.text);
        json.unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The data of a good reply.
    #[track_caller]
    fn data(&self) -> Value {
        let body = self.json();
        assert_eq!(self.status, 200, "{body}");
        assert_eq!(body["Success"], true, "{body}");
        assert_eq!(body["HttpStatusCode"], 200);
        assert_eq!(body["RequestId"].as_str().map(str::len), Some(36), "{body}");
        assert!(["ok", "200", "Success"].contains(&body["Code"].as_str().unwrap_or("none")));
        body["Data"].clone()
    }

    /// The text of a tool, and whether it is an error.
    #[track_caller]
    fn said(&self) -> (String, bool) {
        let data = match self.data() {
            Value::String(text) => serde_json::from_str(&text).unwrap(),
            data => data,
        };
        assert_eq!(data["content"][0]["type"], "text");
        let text = data["content"][0]["text"].as_str().unwrap().to_owned();
        (text, data["isError"].as_bool().unwrap())
    }

    /// A failure of the first layer.
    #[track_caller]
    fn fails(&self, status: u16, code: &str) {
        let body = self.json();
        assert_eq!(
            (self.status, body["Code"].as_str()),
            (status, Some(code)),
            "{body}"
        );
        assert_eq!(body["RequestId"].as_str().map(str::len), Some(36), "{body}");
        assert!(body["Message"].is_string(), "{body}");
    }

    /// A failure of the second layer.
    #[track_caller]
    fn says_no(&self, code: &str) {
        let body = self.json();
        assert_eq!(
            (self.status, &body["Success"]),
            (200, &json!(false)),
            "{body}"
        );
        assert_eq!(body["Code"], code, "{body}");
    }
}

type Fields<'a> = &'a [(&'a str, &'a str)];

impl Local {
    async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = serve(listener, config).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = handle.url();
        Self { handle, http, url }
    }

    /// A call with everything that belongs to it.
    async fn call(&self, action: &str, fields: Fields<'_>) -> Answer {
        self.try_call(action, fields).await.unwrap()
    }

    async fn try_call(&self, action: &str, fields: Fields<'_>) -> reqwest::Result<Answer> {
        let bearer = format!("Bearer {DEFAULT_KEY}");
        let mut form = vec![("Authorization", bearer.as_str())];
        form.extend(fields);
        let request = self.http.post(&self.url).query(&common(action)).form(&form);
        Answer::of(request.send().await?).await
    }

    async fn create(&self, labels: &str) -> (String, Value) {
        let fields = [("Labels", labels), ("ImageId", "code_latest")];
        let data = self.call("CreateMcpSession", &fields).await.data();
        assert_eq!(data["Success"], true, "{data}");
        (data["SessionId"].as_str().unwrap().to_owned(), data)
    }

    async fn try_tool(&self, id: &str, name: &str, args: Value) -> reqwest::Result<Answer> {
        let args = args.to_string();
        let fields = [
            ("SessionId", id),
            ("Name", name),
            ("Args", &args),
            ("Server", ""),
        ];
        self.try_call("CallMcpTool", &fields).await
    }

    async fn tool(&self, id: &str, name: &str, args: Value) -> (String, bool) {
        self.try_tool(id, name, args).await.unwrap().said()
    }

    async fn good(&self, id: &str, name: &str, args: Value) -> String {
        let (text, is_error) = self.tool(id, name, args).await;
        assert!(!is_error, "{text}");
        text
    }

    async fn bad(&self, id: &str, name: &str, args: Value) -> String {
        let (text, is_error) = self.tool(id, name, args).await;
        assert!(is_error, "{text}");
        text
    }

    /// What the shell says, as it says it.
    async fn shell(&self, id: &str, args: Value) -> (Value, bool) {
        let (text, is_error) = self.tool(id, "shell", args).await;
        (serde_json::from_str(&text).unwrap(), is_error)
    }

    async fn admin(&self, request: reqwest::RequestBuilder) -> Answer {
        Answer::of(request.send().await.unwrap()).await.unwrap()
    }

    async fn stats(&self) -> Value {
        self.admin(self.http.get(format!("{}/stats", self.url)))
            .await
            .json()
    }

    fn faults(&self, rules: impl Into<Vec<Rule>>) {
        self.handle.set_faults(rules.into()).unwrap();
    }

    async fn gone(&self, id: &str) -> bool {
        let answer = self.call("GetSessionDetail", &[("SessionId", id)]).await;
        if answer.status == 200 {
            assert_eq!(answer.data()["Status"], "DELETING");
            return false;
        }
        answer.fails(400, "InvalidMcpSession.NotFound");
        true
    }

    /// Ends the server, which does not take for ever whatever is going on.
    async fn stop(self) -> Stopped {
        let stopped = tokio::time::timeout(Duration::from_secs(30), self.handle.stop());
        stopped.await.expect("it does not end")
    }

    async fn end(self) {
        assert_eq!(self.stop().await.left, 0);
    }
}

fn common(action: &str) -> [(&str, &str); 5] {
    [
        ("Action", action),
        ("Format", "json"),
        ("Version", "2025-05-06"),
        ("Timestamp", "2026-11-20T03:11:27Z"),
        ("SignatureNonce", "0123456789abcdef0123456789abcdef"),
    ]
}

async fn until<F: Future<Output = bool>>(mut check: impl FnMut() -> F) {
    let began = Instant::now();
    while !check().await {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it never came to be"
        );
        tokio::time::sleep(5 * MS).await;
    }
}

/// Sends bytes as they are, and reads until the other side closes.
async fn raw(local: &Local, bytes: &[u8]) -> io::Result<String> {
    let address = local.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A call as bytes.
fn post(query: &str, form: &str) -> Vec<u8> {
    format!(
        "POST /?{query} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .into_bytes()
}

fn query_of(action: &str) -> String {
    let common = common(action).map(|(name, value)| format!("{name}={value}"));
    common.join("&")
}

//! A server that does what a test tells it, byte by byte, and counts its connections.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::session::{AgentBay, AgentBayBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The key of every test: it must show nowhere.
pub(crate) const KEY: &str = "akm-0f/SECRET+key";

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        pairs(query)
    }

    pub(crate) fn form(&self) -> Vec<(String, String)> {
        pairs(&self.body)
    }

    pub(crate) fn field(&self, name: &str) -> String {
        let fields = self.query().into_iter().chain(self.form());
        fields
            .into_iter()
            .find_map(|(found, value)| (found == name).then_some(value))
            .unwrap_or_default()
    }

    pub(crate) fn action(&self) -> String {
        self.field("Action")
    }

    pub(crate) fn args(&self) -> Value {
        serde_json::from_str(&self.field("Args")).unwrap_or_default()
    }
}

pub(crate) fn pairs(form: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://localhost/?{form}")).unwrap();
    url.query_pairs().into_owned().collect()
}

/// What the peer does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes and reads on.
    Say(Vec<u8>),
    /// Sends these bytes and closes.
    SayAndClose(Vec<u8>),
    /// Sends these bytes and then one of the others, now and then, for ever.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// Sends nothing and keeps the connection.
    Hang,
    /// Waits, and then does the other.
    After(Duration, Box<Act>),
}

/// A reply with a status, headers and a body.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Act {
    let mut head = format!("HTTP/1.1 {status} S\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.extend([*name, ": ", *value, "\r\n"]);
    }
    Act::Say(format!("{head}\r\n{body}").into_bytes())
}

/// A good reply of the service.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it reads better where it is called"
)]
pub(crate) fn good(data: Value) -> Act {
    let body = json!({"RequestId": "R-1", "Success": true, "Code": "ok", "Data": data});
    reply(
        200,
        &[("content-type", "application/json")],
        &body.to_string(),
    )
}

/// What a tool said.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it reads better where it is called"
)]
pub(crate) fn said(text: impl ToString, is_error: bool) -> Act {
    good(json!({"content": [{"type": "text", "text": text.to_string()}], "isError": is_error}))
}

/// A failure of the service's first layer.
pub(crate) fn refused(status: u16, code: &str, message: &str) -> Act {
    let body = json!({"RequestId": "R-2", "Code": code, "Message": message});
    reply(
        status,
        &[("content-type", "application/json")],
        &body.to_string(),
    )
}

/// There is no such session.
pub(crate) fn gone() -> Act {
    refused(400, "InvalidMcpSession.NotFound", "no such session")
}

type Script = Arc<dyn Fn(&Asked) -> Act + Send + Sync>;

/// The server. It ends with its value.
pub(crate) struct Peer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (count, log, script) = (accepted.clone(), asked.clone(), Arc::new(script) as Script);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, script.clone(), log.clone()));
            }
        });
        Self {
            address,
            accepted,
            asked,
            task,
        }
    }

    /// One that always does the same.
    pub(crate) async fn always(act: Act) -> Self {
        Self::start(move |_| act.clone()).await
    }

    /// One that does one thing after the other, and the last for ever.
    pub(crate) async fn in_turn(acts: impl Into<Vec<Act>>) -> Self {
        let acts = Mutex::new(acts.into());
        Self::start(move |_| {
            let mut acts = acts.lock().unwrap();
            if acts.len() > 1 {
                acts.remove(0)
            } else {
                acts[0].clone()
            }
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn actions(&self) -> Vec<String> {
        self.asked().iter().map(Asked::action).collect()
    }

    /// A provider's builder that asks here, quick to poll.
    pub(crate) fn builder(&self) -> AgentBayBuilder {
        let ms = Duration::from_millis;
        AgentBay::builder()
            .api_key(KEY)
            .endpoint(self.url())
            .request_limit(Duration::from_secs(20))
            .delete_poll(ms(20_000), ms(5))
            .pause_poll(ms(20_000), ms(5))
    }

    pub(crate) fn provider(&self) -> AgentBay {
        self.builder().build().unwrap()
    }
}

async fn serve(mut stream: TcpStream, script: Script, log: Arc<Mutex<Vec<Asked>>>) {
    let mut buffer = Vec::new();
    while let Some(asked) = read_request(&mut stream, &mut buffer).await {
        let act = script(&asked);
        log.lock().unwrap().push(asked);
        if !perform(&mut stream, act).await {
            return;
        }
    }
}

/// Whether the connection goes on.
async fn perform(stream: &mut TcpStream, act: Act) -> bool {
    match act {
        Act::Say(bytes) => stream.write_all(&bytes).await.is_ok(),
        Act::SayAndClose(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            false
        }
        Act::Drip(first, then, pause) => {
            let _ = stream.write_all(&first).await;
            while stream.write_all(&then).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
            false
        }
        Act::Hang => {
            // Until the other end closes.
            let mut rest = [0];
            let _ = stream.read(&mut rest).await;
            false
        }
        Act::After(pause, act) => {
            tokio::time::sleep(pause).await;
            Box::pin(perform(stream, *act)).await
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    while buffer.len() < head_end + length {
        more(stream, buffer).await?;
    }
    let body = buffer[head_end..head_end + length].to_vec();
    buffer.drain(..head_end + length);
    Some(Asked {
        target,
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = vec![0; 16 * 1024];
    match stream.read(&mut chunk).await {
        Ok(0) | Err(_) => None,
        Ok(n) => {
            buffer.extend_from_slice(&chunk[..n]);
            Some(())
        }
    }
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Fails a test that hangs.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("it hangs")
}

//! The local AgentBay server, as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use mainstay::session::AgentBay;
use serde_json::Value;

use crate::Failure;

pub(crate) const KEY: &str = "akm-claims";

pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    pub(crate) fn start(binary: &str, flags: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(binary)
            .args(["--port", "0", "--key", KEY])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no pipe")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .ok_or("not the server's first line")?
            .to_owned();
        Ok(Self { child, address })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn provider(&self) -> Result<AgentBay, Failure> {
        Ok(AgentBay::builder()
            .api_key(KEY)
            .endpoint(self.url())
            .build()?)
    }

    /// Calls, and connections over which they came, since the server began.
    pub(crate) fn counted(&self) -> Result<(u64, u64), Failure> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(
            stream,
            "GET /stats HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"
        )?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let (_, body) = reply.split_once("\r\n\r\n").ok_or("no body")?;
        let stats: Value = serde_json::from_str(body)?;
        let number = |name: &str| stats[name].as_u64().ok_or("no such count");
        Ok((number("requests")?, number("connections")?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to end, it deletes its sessions.
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

//! One execution: a child, its output as notifications, and its answer.

use std::sync::Arc;
use std::time::Duration;

use mainstay::Error;
use mainstay::process::{Command, End, Line, Output, Process, ProcessError, Source};
use serde_json::{Value, json};

use super::server::{Out, Problem, Running, notification};

pub(super) struct Execution {
    pub(super) name: String,
    pub(super) process: Process,
    pub(super) running: Arc<Running>,
    pub(super) out: Out,
}

/// What a stream held.
#[derive(Default)]
struct Seen {
    bytes: u64,
    lines: u64,
}

impl Execution {
    pub(super) fn command(params: &Value, grace: Duration) -> Result<Command, Problem> {
        let command = match params.get("command") {
            Some(Value::String(script)) => Command::shell(script),
            Some(Value::Array(words)) => program(words)?,
            _ => return Err(wrong("`command` is a text or a list of texts")),
        };
        let command = command.grace(grace);
        match params.get("timeout") {
            None | Some(Value::Null) => Ok(command),
            Some(seconds) => {
                let seconds = seconds.as_f64();
                let limit = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
                let limit = limit.ok_or_else(|| wrong("`timeout` is in seconds"))?;
                Ok(command.time_limit(limit))
            }
        }
    }

    /// Runs to its end; the answer, and where to send it. The name is free again by then: once
    /// only, by the drop, or a second freeing could hit whoever has taken the name since.
    pub(super) async fn run(mut self) -> (Out, Result<Value, Problem>) {
        let started = json!({"id": self.name, "pid": self.process.pid()});
        let _ = self
            .out
            .send(notification("process.started", &started))
            .await;
        let (stdout, stderr) = self.stream().await;
        let ended = self.process.wait().await;
        let result = match &ended {
            Ok(output) => Ok(summary(&self.name, output, &stdout, &stderr)),
            Err(error) => Err(Problem(-32002, error.to_string())),
        };
        (self.out.clone(), result)
    }

    /// Says each line, as fast as the client takes them.
    async fn stream(&mut self) -> (Seen, Seen) {
        let (mut stdout, mut stderr) = (Seen::default(), Seen::default());
        let mut lines = self.process.lines();
        while let Some(line) = lines.line().await {
            let seen = match line.source {
                Source::Stdout => &mut stdout,
                Source::Stderr => &mut stderr,
            };
            seen.bytes += line.bytes.len() as u64;
            seen.lines += u64::from(!line.partial);
            let params = output(&self.name, &line);
            let said = notification("process.output", &params);
            if self.out.send(said).await.is_err() {
                break; // The client has gone; the rest is read, and said to nobody.
            }
        }
        (stdout, stderr)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        let _ = self.running.lock().remove(&self.name);
    }
}

fn program(words: &[Value]) -> Result<Command, Problem> {
    let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
    match words.as_deref() {
        Some([program, args @ ..]) if !program.is_empty() => {
            Ok(Command::new(program).args(args.iter().copied()))
        }
        _ => Err(wrong("`command` is a text or a list of texts")),
    }
}

fn wrong(what: &str) -> Problem {
    Problem::new(-32602, what)
}

fn output(name: &str, line: &Line) -> Value {
    let source = match line.source {
        Source::Stdout => "stdout",
        Source::Stderr => "stderr",
    };
    let text = line.text();
    let mut params = json!({"id": name, "source": source, "text": text, "partial": line.partial});
    if std::str::from_utf8(&line.bytes).is_err() {
        params["hex"] = hex(&line.bytes).into();
    }
    params
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    digits.collect()
}

fn summary(name: &str, output: &Output, stdout: &Seen, stderr: &Seen) -> Value {
    let (status, signal) = match output.end {
        End::Exited(_) => ("exited", None),
        End::Signalled(signal) => ("signalled", Some(signal)),
        End::TimedOut { .. } => ("timed_out", None),
        End::Cancelled => ("cancelled", None),
        _ => ("ended", None),
    };
    json!({
        "id": name,
        "status": status,
        "exit_code": output.code(),
        "signal": signal,
        "forced": output.forced,
        "stdout": {"bytes": stdout.bytes, "lines": stdout.lines},
        "stderr": {"bytes": stderr.bytes, "lines": stderr.lines},
        "elapsed_ms": u64::try_from(output.elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Why a child was not started.
pub(super) struct Refused<'a>(pub(super) &'a Error<ProcessError>);

impl Refused<'_> {
    pub(super) fn problem(&self) -> Problem {
        let code = match self.0 {
            Error::Refused { .. } => -32000,
            _ => -32002,
        };
        Problem(code, self.0.to_string())
    }
}

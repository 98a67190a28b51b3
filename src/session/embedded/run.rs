//! Commands in a session: their environment, their limits, and what their end means.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::{Effect, SessionError, SessionErrorKind};
use super::super::types::{Command, CommandResult};
use super::directory::TEMPORARY;
use super::fault;
use super::inner::Visit;
use super::leftover;
use crate::Bulkhead;
use crate::policy::Permit;
use crate::process::{self, Captured, End, Output, ProcessError, ProcessErrorKind};

/// What runs a line.
const SHELL: &str = "/bin/sh";
/// Linux takes no longer argument.
pub(super) const LONGEST_LINE: usize = (128 << 10) - 1;

/// What to run in a session.
pub(super) struct Job {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) directory: Option<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) time_limit: Option<Duration>,
}

impl Job {
    /// A line for a shell.
    pub(super) fn line(shell: impl Into<PathBuf>, line: &str) -> Result<Self, SessionError> {
        if line.len() > LONGEST_LINE {
            let text = format!(
                "the line has {} bytes; {LONGEST_LINE} are the most: write a file and run that",
                line.len()
            );
            return Err(SessionError::new(SessionErrorKind::Invalid, text));
        }
        Ok(Self {
            program: shell.into(),
            args: vec!["-c".into(), line.into()],
            stdin: None,
            directory: None,
            environment: BTreeMap::new(),
            time_limit: None,
        })
    }

    pub(super) fn command(command: &Command) -> Result<Self, SessionError> {
        check_names(&command.environment)?;
        Ok(Self {
            directory: command.directory.clone(),
            environment: command.environment.clone(),
            time_limit: command.time_limit,
            ..Self::line(SHELL, &command.line)?
        })
    }

    pub(super) fn shell(line: &str) -> Result<Self, SessionError> {
        Self::line(SHELL, line)
    }
}

/// The system takes them apart at the `=`, and ends them at a zero byte.
fn check_names(environment: &BTreeMap<String, String>) -> Result<(), SessionError> {
    let wrong = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
    match environment.keys().find(wrong) {
        None => Ok(()),
        Some(name) => Err(SessionError::new(
            SessionErrorKind::Invalid,
            format!("{name:?} is no name of a variable"),
        )),
    }
}

impl Visit {
    /// Runs it to its end, within the limits of the session.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the queue, or kills the whole group and reaps the child.
    pub(super) async fn execute(self: &Arc<Self>, job: Job) -> Result<Output, SessionError> {
        let _permit = self.permit().await?;
        let directory = match job.directory.clone() {
            Some(path) => self.with_files(move |files| files.directory(&path)).await?,
            None => PathBuf::new(),
        };
        let mut process = self
            .prepare(job, directory)
            .spawn()
            .map_err(|error| self.fault(error))?;
        let _running = self.live.owns(&process);
        let output = process.wait().await.map_err(|error| self.fault(error))?;
        if output.end == End::Cancelled {
            let gone = fault::no_session(&self.live.id);
            return Err(gone.with_effect(Effect::Partial));
        }
        Ok(output)
    }

    /// A place among the session's commands.
    async fn permit(&self) -> Result<Permit<Bulkhead>, SessionError> {
        let wait = self.live.commands.acquire(1);
        match self.live.ended.run_until_cancelled(wait).await {
            Some(Ok(permit)) => Ok(permit),
            Some(Err(_full)) => Err(self.crowded()),
            None => Err(fault::no_session(&self.live.id)),
        }
    }

    fn crowded(&self) -> SessionError {
        let settings = &self.inner.settings;
        let text = format!(
            "{} commands run in session {}, and {} more wait",
            settings.commands, self.live.id, settings.command_queue
        );
        SessionError::new(SessionErrorKind::Throttled, text)
    }

    fn prepare(&self, job: Job, directory: PathBuf) -> process::Command {
        let settings = &self.inner.settings;
        let home = &self.live.home.path;
        let limit = job.time_limit.unwrap_or(Duration::MAX);
        let mut command = process::Command::new(job.program)
            .args(job.args)
            .env_clear()
            .env("HOME", home)
            .env("TMPDIR", home.join(TEMPORARY))
            .env("PATH", &settings.path)
            .env("LANG", "C.UTF-8")
            .current_dir(home.join(directory))
            .time_limit(limit.min(settings.time_limit))
            .grace(settings.grace)
            .output_limit(settings.output_limit);
        for (name, value) in settings.environment.iter().chain(&job.environment) {
            command = command.env(name, value);
        }
        if let Some(bytes) = job.stdin {
            command = command.stdin(bytes);
        }
        command.env(leftover::VARIABLE, self.live.home.mark(self.inner.outer()))
    }

    fn fault(&self, error: ProcessError) -> SessionError {
        use SessionErrorKind as Kind;
        let (kind, effect) = match error.kind() {
            ProcessErrorKind::NotFound => (Kind::Unsupported, Effect::None),
            ProcessErrorKind::NoDirectory => (Kind::NotFound, Effect::None),
            ProcessErrorKind::PermissionDenied => (Kind::Denied, Effect::None),
            ProcessErrorKind::TooMany => (Kind::Unavailable, Effect::None),
            ProcessErrorKind::Invalid => (Kind::Invalid, Effect::None),
            ProcessErrorKind::NoRuntime => (Kind::Local, Effect::None),
            _ => (Kind::Local, Effect::Unknown),
        };
        let ended = self.live.ended.is_cancelled();
        if ended && effect == Effect::None {
            return fault::no_session(&self.live.id);
        }
        SessionError::new(kind, error.to_string())
            .with_effect(effect)
            .with_source(error)
    }
}

/// Why it was no success, in a few words; empty for a success.
pub(super) fn why(end: End) -> String {
    match end {
        End::Exited(0) => String::new(),
        End::Exited(code) => format!("exit code {code}"),
        End::Signalled(signal) => format!("ended by signal {signal}"),
        End::TimedOut { after } => format!("stopped after {after:?}, its time limit"),
        end => format!("{end:?}"),
    }
}

/// The code it ended with, if it ended by itself.
fn exit_code(end: End) -> Option<i32> {
    match end {
        End::Exited(code) => Some(code),
        _ => None,
    }
}

/// What was kept of a stream, with a line where bytes are missing.
pub(super) fn kept(captured: Captured) -> Vec<u8> {
    let Some(at) = captured.cut_at else {
        return captured.bytes;
    };
    let missing = captured.total.saturating_sub(captured.bytes.len() as u64);
    let note = format!("\n[{missing} bytes are missing here]\n");
    let (head, tail) = captured.bytes.split_at(at.min(captured.bytes.len()));
    [head, note.as_bytes(), tail].concat()
}

pub(super) fn result(request_id: String, output: Output) -> CommandResult {
    CommandResult {
        request_id,
        success: output.success(),
        error_message: why(output.end),
        exit_code: exit_code(output.end),
        truncated: output.stdout.is_truncated() || output.stderr.is_truncated(),
        stdout: kept(output.stdout),
        stderr: kept(output.stderr),
        trace_id: None,
    }
}

//! Code in a session: its language's interpreter, and what it left.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::error::{SessionError, SessionErrorKind};
use super::super::types::{Code, CodeResult};
use super::inner::Visit;
use super::run::{Job, kept, why};
use crate::process::{End, Output};

/// Runs Python such that the value of its last line is known.
const DRIVER: &str = include_str!("driver.py");
/// The most characters of that value.
const MOST: usize = 64 << 10;

/// What is known how to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Python,
    Shell,
    Bash,
    JavaScript,
}

impl Language {
    fn of(name: &str) -> Result<Self, SessionError> {
        match name.to_ascii_lowercase().as_str() {
            "python" | "python3" => Ok(Self::Python),
            "shell" | "sh" => Ok(Self::Shell),
            "bash" => Ok(Self::Bash),
            "javascript" | "js" | "node" => Ok(Self::JavaScript),
            _ => Err(unsupported(format!(
                "{name:?} is no language that is known here; python, shell, bash and \
                 javascript are"
            ))),
        }
    }

    /// The programs that can run it, the best first. None: what every Unix has.
    const fn interpreters(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["python3", "python"],
            Self::Shell => &[],
            Self::Bash => &["bash"],
            Self::JavaScript => &["node", "nodejs"],
        }
    }
}

fn unsupported(message: String) -> SessionError {
    SessionError::new(SessionErrorKind::Unsupported, message)
}

/// The first of these programs that is in a `PATH`.
fn find(path: &str, names: &[&str]) -> Result<PathBuf, SessionError> {
    let places: Vec<&str> = path.split(':').filter(|place| !place.is_empty()).collect();
    let candidates = names
        .iter()
        .flat_map(|name| places.iter().map(move |place| Path::new(place).join(name)));
    let mut runnable = candidates.filter(|file| is_program(file));
    runnable.next().ok_or_else(|| {
        let names = names.join(" nor ");
        unsupported(format!("there is no {names} in PATH ({path:?})"))
    })
}

fn is_program(file: &Path) -> bool {
    // An entry that is not absolute would mean another place in the session.
    let found = file.is_absolute().then(|| file.metadata().ok()).flatten();
    found.is_some_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Cuts the value out of what Python wrote: what it is, and whether it is whole.
fn split_value(mark: &str, stdout: &mut Vec<u8>) -> Option<(String, bool)> {
    let mark = mark.as_bytes();
    let first = position(stdout, mark)?;
    let rest = &stdout[first + mark.len()..];
    let length = position(rest, mark)?;
    let value = &rest[..length];
    let whole = value.first() == Some(&b'=');
    let text = String::from_utf8_lossy(value.get(1..)?).into_owned();
    let end = first + mark.len() + length + mark.len();
    stdout.drain(first..end);
    Some((text, whole))
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

impl Visit {
    pub(super) async fn run_code(
        self: &Arc<Self>,
        request_id: String,
        code: &Code,
    ) -> Result<CodeResult, SessionError> {
        let language = Language::of(&code.language)?;
        let most = self.inner.settings.file_limit;
        if code.source.len() as u64 > most {
            let text = format!("the code has more than {most} bytes");
            return Err(SessionError::new(SessionErrorKind::Invalid, text));
        }
        let mark = format!("<{:016x}{:016x}>", fastrand::u64(..), fastrand::u64(..));
        let mut job = self.job(language, &code.source, &mark).await?;
        job.time_limit = code.time_limit;
        let output = self.execute(job).await?;
        Ok(result(request_id, &mark, output))
    }

    async fn job(
        self: &Arc<Self>,
        language: Language,
        source: &str,
        mark: &str,
    ) -> Result<Job, SessionError> {
        if language == Language::Shell {
            return Job::shell(source);
        }
        let path = self.inner.settings.path.clone();
        let program = self
            .with_files(move |_| find(&path, language.interpreters()))
            .await?;
        if language == Language::Bash {
            return Job::line(program, source);
        }
        let most = MOST.to_string();
        let args: &[&str] = match language {
            Language::Python => &["-u", "-c", DRIVER, mark, &most],
            _ => &["-"],
        };
        Ok(Job {
            program,
            args: args.iter().map(Into::into).collect(),
            stdin: Some(source.as_bytes().to_vec()),
            directory: None,
            environment: std::collections::BTreeMap::new(),
            time_limit: None,
        })
    }
}

fn result(request_id: String, mark: &str, output: Output) -> CodeResult {
    let mut truncated = output.stdout.is_truncated() || output.stderr.is_truncated();
    let (success, end) = (output.success(), output.end);
    let mut stdout = kept(output.stdout);
    let stderr = kept(output.stderr);
    let value = split_value(mark, &mut stdout);
    truncated |= value.as_ref().is_some_and(|(_, whole)| !whole);
    CodeResult {
        request_id,
        success,
        error_message: complaint(end, &stderr),
        results: value.map(|(text, _)| text).into_iter().collect(),
        stdout,
        stderr,
        truncated,
        trace_id: None,
    }
}

/// Why it failed: what an interpreter says last is what it was.
fn complaint(end: End, stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let last = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    match (end, last) {
        (End::Exited(code), Some(last)) if code != 0 => last.to_owned(),
        _ => why(end),
    }
}

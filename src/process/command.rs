//! What to run, and within which limits.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use super::error::ProcessError;
use super::output::Output;
use super::running::Process;

/// Says what to run, and within which limits. It can be run any number of times.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `stdin` | null | a child that asks gets an end, and never waits for a terminal |
/// | `output_limit` | 1 MiB of each stream | more is a file, not a message |
/// | `time_limit` | none | only you know; set one |
/// | `grace` | 5 s | enough to write a file and go |
/// | `pipe_grace` | 250 ms | enough for a background child's last words |
/// | `line_limit` | 64 KiB | the longest line that is held back until it is whole |
/// | directory, environment | this process's | |
#[derive(Clone)]
#[must_use = "a command does nothing before it is run"]
pub struct Command {
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) clear: bool,
    /// `None` takes the variable out.
    pub(super) vars: Vec<(OsString, Option<OsString>)>,
    pub(super) dir: Option<PathBuf>,
    pub(super) stdin: Option<Arc<[u8]>>,
    pub(super) limits: Limits,
}

/// The limits of one child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) output: usize,
    pub(super) line: usize,
    pub(super) time: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) pipe_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            output: 1 << 20,
            line: 64 << 10,
            time: None,
            grace: Duration::from_secs(5),
            pipe_grace: Duration::from_millis(250),
        }
    }
}

impl Command {
    /// Runs `program`, found as the shell finds it; no shell looks at it or its arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            clear: false,
            vars: Vec::new(),
            dir: None,
            stdin: None,
            limits: Limits::default(),
        }
    }

    /// Runs `script` by `sh -c`. Arguments that follow are `$0`, `$1` and so on.
    pub fn shell(script: impl AsRef<OsStr>) -> Self {
        Self::new("sh").arg("-c").arg(script)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = Some(value.as_ref().to_owned());
        self.vars.push((name.as_ref().to_owned(), value));
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.vars.push((name.as_ref().to_owned(), None));
        self
    }

    /// Starts from an empty environment; what was set before is forgotten too. The program is
    /// then looked for in the `PATH` that is set here, or in the system's default one.
    pub fn env_clear(mut self) -> Self {
        self.clear = true;
        self.vars.clear();
        self
    }

    /// Starts in this directory. A relative `program` should then be given as a full path.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// What the child reads from its standard input, and then an end. Default: nothing. A
    /// child that ends without reading all of it is no error.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into().into());
        self
    }

    /// How many bytes of each stream [`Process::wait`] keeps: half of them from the beginning,
    /// half from the end. Default 1 MiB; what goes beyond is read, counted and cut.
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.limits.output = bytes;
        self
    }

    /// The longest line that [`Process::lines`] holds back until it is whole; a longer one
    /// comes in pieces. Default 64 KiB; 0 counts as 1.
    pub fn line_limit(mut self, bytes: usize) -> Self {
        self.limits.line = bytes.max(1);
        self
    }

    /// Ends the child after so long, as [`ProcessHandle::cancel`](super::ProcessHandle::cancel)
    /// does. Time that it is paused counts. Default: none.
    pub fn time_limit(mut self, span: Duration) -> Self {
        self.limits.time = Some(span);
        self
    }

    /// How long a group that is asked to end (SIGTERM) has before it is killed (SIGKILL): also
    /// what is left of it when the child itself has ended, as long as it holds the pipes.
    /// Default 5 s; zero kills at once.
    pub fn grace(mut self, span: Duration) -> Self {
        self.limits.grace = span;
        self
    }

    /// How long somebody else (a grandchild in the background) may hold the pipes after the
    /// child has ended by itself. Then what is in the pipes is taken, and the rest of its group
    /// killed. Default 250 ms.
    pub fn pipe_grace(mut self, span: Duration) -> Self {
        self.limits.pipe_grace = span;
        self
    }

    /// Runs it to its end, which is a result however it came about: see [`Output::end`].
    ///
    /// Both streams are read all the time, so the child never waits for a full pipe.
    ///
    /// # Errors
    ///
    /// A [`ProcessError`] when it could not be started, or was reaped by somebody else.
    ///
    /// # Cancel safety
    ///
    /// Dropping it kills the whole group and reaps the child, as dropping a [`Process`] does.
    ///
    /// # Panics
    ///
    /// On a runtime without I/O or time; nothing is left behind then.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::process::Command;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let output = Command::new("tr").args(["a-z", "A-Z"]).stdin("hello").run().await?;
    /// assert_eq!(output.into_result()?.stdout.text(), "HELLO");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(&self) -> Result<Output, ProcessError> {
        self.spawn()?.wait().await
    }

    /// Starts it. That blocks the thread until the system has loaded the program, for a
    /// millisecond or so, as every way to start one does.
    ///
    /// # Errors
    ///
    /// A [`ProcessError`] when it could not be started: not found, no permission, too many
    /// processes or descriptors, a zero byte in an argument, or no runtime here.
    ///
    /// # Panics
    ///
    /// On a runtime without I/O or time; nothing is left behind then.
    pub fn spawn(&self) -> Result<Process, ProcessError> {
        Process::start(self)
    }

    /// The same in std's words, as the leader of a group.
    pub(super) fn to_std(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).process_group(0);
        if self.clear {
            command.env_clear();
        }
        for (name, value) in &self.vars {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let has_input = self.input().is_some();
        command.stdin(if has_input {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What there is to read for it, if anything.
    pub(super) fn input(&self) -> Option<Arc<[u8]>> {
        self.stdin.clone().filter(|bytes| !bytes.is_empty())
    }

    pub(super) fn program(&self) -> Box<str> {
        self.program.to_string_lossy().into()
    }
}

/// Without what may be secret: its input, and the values of its environment.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vars: Vec<_> = self.vars.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("vars", &vars)
            .field("dir", &self.dir)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

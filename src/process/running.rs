//! A child that runs.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::process::Pid;
use tokio::runtime::Handle;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::command::Command;
use super::error::{ProcessError, ProcessErrorKind};
use super::group::Leader;
use super::handle::{ProcessHandle, ProcessId, State};
use super::output::{Output, Source};
use super::pipe::{Feed, Pipe, with_buffer};
use super::plan::Plan;
use super::shared::{Outcome, Shared};
use super::supervise::{self, Exit, Leash, supervise};
use crate::time;

/// A child that runs, with its output: a stream of [`Chunk`](super::Chunk)s, which ends when the child has
/// ended and its pipes are read.
///
/// Nobody reads the pipes between polls: a child whose output is not taken waits when a pipe is
/// full (64 KiB on Linux), as in a shell's pipeline, and loses nothing. Its limits hold
/// meanwhile, and [`wait`](Self::wait) reads all that is left.
///
/// # Cancel safety
///
/// Dropping it kills the whole group and reaps the child: at once or, when the system takes its
/// time, by a thread that ends when none is left to reap. That needs no runtime. When the
/// runtime in which it was started goes first, the child is killed then: nobody else would
/// enforce its limits.
///
/// # Examples
///
/// ```
/// use mainstay::process::{Command, End};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut process = Command::shell("echo one; echo two; sleep 60").spawn()?;
/// let mut lines = process.lines();
/// while let Some(line) = lines.line().await {
///     if line.text() == "two" {
///         break;
///     }
/// }
/// process.cancel();
/// assert_eq!(process.wait().await?.end, End::Cancelled);
/// # Ok(())
/// # }
/// ```
#[must_use = "a process is killed when it is dropped"]
pub struct Process {
    pub(super) shared: Arc<Shared>,
    pub(super) stdout: Pipe,
    pub(super) stderr: Pipe,
    pub(super) ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Who is read first: they take turns.
    pub(super) first: Source,
}

#[expect(
    clippy::must_use_candidate,
    reason = "what pause and the like do counts, not what they say"
)]
impl Process {
    pub(super) fn start(command: &Command) -> Result<Self, ProcessError> {
        Self::start_with(command, Exit::new)
    }

    /// As [`start`](Self::start), told of the end in a way of one's own.
    pub(super) fn start_with(
        command: &Command,
        exit: impl FnOnce(Pid) -> io::Result<Exit>,
    ) -> Result<Self, ProcessError> {
        let Ok(runtime) = Handle::try_current() else {
            let kind = ProcessErrorKind::NoRuntime;
            return Err(ProcessError::new(kind, command.program()));
        };
        supervise::must_know_time();
        let refused = |error| ProcessError::start(command, error);
        let child = command.to_std().spawn().map_err(refused)?;
        let mut leader = Leader::new(child).ok_or_else(|| refused(io::ErrorKind::Other.into()))?;
        let (pid, ends) = (leader.pid(), Ends::of(leader.child()));
        // From here on its drop kills it, whatever fails or panics below.
        let mut process = Self::new(command, leader);
        let stdin = process.connect(ends, command.input()).map_err(refused)?;
        let exit = exit(pid).map_err(refused)?;
        let leash = Leash(Arc::clone(&process.shared));
        let pipes = [process.stdout.watch(), process.stderr.watch()];
        runtime.spawn(supervise(leash, exit, pipes, stdin));
        Ok(process)
    }

    fn new(command: &Command, leader: Leader) -> Self {
        let now = time::now();
        let plan = Plan::new(now, command.limits);
        let shared = Arc::new(Shared::new(leader, command.program(), now, plan));
        Self {
            ended: Box::pin(shared.ended.clone().cancelled_owned()),
            shared,
            stdout: Pipe::closed(&command.limits),
            stderr: Pipe::closed(&command.limits),
            first: Source::Stdout,
        }
    }

    /// Opens its pipes here, and the way in if there is something to write.
    fn connect(&mut self, ends: Ends, input: Option<Arc<[u8]>>) -> io::Result<Option<Feed>> {
        if let Some(fd) = ends.stdout {
            self.stdout.open(fd.into())?;
        }
        if let Some(fd) = ends.stderr {
            self.stderr.open(fd.into())?;
        }
        let stdin = ends.stdin.zip(input);
        let feed = stdin.map(|(fd, bytes)| Feed::new(fd.into(), bytes));
        feed.transpose()
    }

    /// Its name in this process, which is never used again.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.shared.id
    }

    /// The system's number for it: see [`ProcessHandle::pid`].
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.shared.pid
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// A handle, to pause, resume and end it from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ProcessHandle {
        ProcessHandle(Arc::clone(&self.shared))
    }

    /// As [`ProcessHandle::pause`].
    pub fn pause(&self) -> bool {
        self.handle().pause()
    }

    /// As [`ProcessHandle::resume`].
    pub fn resume(&self) -> bool {
        self.handle().resume()
    }

    /// As [`ProcessHandle::cancel`].
    pub fn cancel(&self) -> bool {
        self.handle().cancel()
    }

    /// As [`ProcessHandle::kill`].
    pub fn kill(&self) -> bool {
        self.handle().kill()
    }

    /// Waits for its end, and reads what has not been taken as chunks or lines. Once it has
    /// ended it yields the same again, without the output.
    ///
    /// # Errors
    ///
    /// A [`ProcessError`] when somebody else has reaped the child: its end is not known then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing: it can be called again, and what has been read by then is in
    /// the output of the last call.
    pub async fn wait(&mut self) -> Result<Output, ProcessError> {
        for pipe in [&mut self.stdout, &mut self.stderr] {
            let held_back = pipe.lines.rest();
            pipe.kept.push(&held_back);
        }
        let outcome = poll_fn(|cx| self.poll_wait(cx)).await;
        self.output(&outcome)
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        with_buffer(|buffer| {
            loop {
                match self.poll_read(cx, buffer) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some((source, read))) => {
                        self.pipe(source).kept.push(&buffer[..read]);
                    }
                    Poll::Ready(None) => break,
                }
            }
            match self.shared.outcome() {
                Some(outcome) => Poll::Ready(outcome),
                None => Poll::Pending,
            }
        })
    }

    fn output(&mut self, outcome: &Outcome) -> Result<Output, ProcessError> {
        let program = self.shared.program.clone();
        let (Some(status), Some(end)) = (outcome.status, outcome.end()) else {
            return Err(ProcessError::new(ProcessErrorKind::Lost, program));
        };
        Ok(Output {
            end,
            status,
            forced: outcome.forced,
            stdout: self.stdout.kept.take(),
            stderr: self.stderr.kept.take(),
            elapsed: outcome.elapsed,
            program,
        })
    }
}

/// This side's ends of a child's pipes.
struct Ends {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Ends {
    fn of(child: &mut Child) -> Self {
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.shared.outcome().is_none() {
            self.shared.abandon();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.shared).finish()
    }
}

//! A child that runs.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::runtime::Handle;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::command::Command;
use super::error::{ProcessError, ProcessErrorKind};
use super::group::Leader;
use super::handle::{ProcessHandle, ProcessId, State};
use super::output::{Chunk, Line, Output, Source};
use super::pipe::{Feed, Pipe, with_buffer};
use super::plan::Plan;
use super::shared::{Outcome, Shared};
use super::supervise::{Exit, supervise};
use crate::time;

/// A child that runs, with its output: a stream of [`Chunk`]s, which ends when the child has
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
    shared: Arc<Shared>,
    stdout: Pipe,
    stderr: Pipe,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Who is read first: they take turns.
    first: Source,
}

impl Process {
    pub(super) fn start(command: &Command) -> Result<Self, ProcessError> {
        let refused = |error| ProcessError::start(command, error);
        let Ok(runtime) = Handle::try_current() else {
            let kind = ProcessErrorKind::NoRuntime;
            return Err(ProcessError::new(kind, command.program()));
        };
        let child = command.to_std().spawn().map_err(refused)?;
        let mut leader = Leader::new(child).ok_or_else(|| refused(io::ErrorKind::Other.into()))?;
        let pid = leader.pid();
        let pipes = {
            let child = leader.child();
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        };
        // From here on its drop kills it, whatever fails or panics below.
        let mut process = Self::new(command, leader);
        let stdin = pipes.0.zip(command.input());
        let stdin = stdin.map(|(fd, bytes)| Feed::new(fd.into(), bytes));
        let stdin = stdin.transpose().map_err(refused)?;
        if let (Some(stdout), Some(stderr)) = (pipes.1, pipes.2) {
            process.stdout.open(stdout.into()).map_err(refused)?;
            process.stderr.open(stderr.into()).map_err(refused)?;
        }
        let exit = Exit::new(pid).map_err(refused)?;
        runtime.spawn(supervise(Arc::clone(&process.shared), exit, stdin));
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

    /// The next chunk; `None` when the child has ended and all is read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn chunk(&mut self) -> Option<Chunk> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The output as lines, a [`Stream`]. What is held back of a line stays with the process
    /// when this is dropped.
    pub fn lines(&mut self) -> Lines<'_> {
        Lines { process: self }
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
    /// Dropping it loses nothing; it can be called again.
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

    fn pipe(&mut self, source: Source) -> &mut Pipe {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    /// Reads from whichever stream has something; none when the child has ended and all is
    /// read.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Option<(Source, usize)>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.read_left(buffer));
        }
        for source in [self.first, self.first.other()] {
            let pipe = self.pipe(source);
            if pipe.is_closed() {
                continue;
            }
            match pipe.poll_read(cx, buffer) {
                Poll::Ready(0) => self.note_closed(),
                Poll::Ready(read) => {
                    self.first = source.other();
                    return Poll::Ready(Some((source, read)));
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Says so when nobody holds a pipe any more. That may end the child's story at once; then
    /// the end wakes this task, which waits for it.
    fn note_closed(&self) {
        if self.stdout.is_closed() && self.stderr.is_closed() {
            self.shared.drive(|plan, _| {
                plan.pipes_closed();
                None
            });
        }
    }

    fn read_left(&mut self, buffer: &mut [u8]) -> Option<(Source, usize)> {
        [Source::Stdout, Source::Stderr]
            .into_iter()
            .find_map(|source| match self.pipe(source).read_left(buffer) {
                0 => None,
                read => Some((source, read)),
            })
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        for source in [Source::Stdout, Source::Stderr] {
            let held_back = self.pipe(source).lines.rest();
            if !held_back.is_empty() {
                let bytes = held_back;
                return Poll::Ready(Some(Chunk { source, bytes }));
            }
        }
        with_buffer(|buffer| {
            self.poll_read(cx, buffer).map(|read| {
                let (source, read) = read?;
                let bytes = buffer[..read].to_vec();
                Some(Chunk { source, bytes })
            })
        })
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        loop {
            if let Some(line) = self.line() {
                return Poll::Ready(Some(line));
            }
            let read = with_buffer(|buffer| {
                self.poll_read(cx, buffer).map(|read| {
                    let (source, read) = read?;
                    self.pipe(source).lines.push(&buffer[..read]);
                    Some(())
                })
            });
            match read {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return Poll::Ready(self.last_line()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn line(&mut self) -> Option<Line> {
        [Source::Stdout, Source::Stderr]
            .into_iter()
            .find_map(|source| {
                let (bytes, partial) = self.pipe(source).lines.line()?;
                Some(Line {
                    source,
                    bytes,
                    partial,
                })
            })
    }

    /// A line without its end.
    fn last_line(&mut self) -> Option<Line> {
        [Source::Stdout, Source::Stderr]
            .into_iter()
            .find_map(|source| {
                let lines = &mut self.pipe(source).lines;
                (!lines.is_empty()).then(|| Line {
                    source,
                    bytes: lines.rest(),
                    partial: false,
                })
            })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.shared.outcome().is_none() {
            self.shared.abandon();
        }
    }
}

impl Stream for Process {
    type Item = Chunk;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        self.poll_chunk(cx)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.shared).finish()
    }
}

/// The output of a [`Process`] as lines: see [`Process::lines`].
///
/// The last line need not have an end. When the child has ended, a line that is not whole comes
/// as it is.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Lines<'a> {
    process: &'a mut Process,
}

impl Lines<'_> {
    /// The next line; `None` when the child has ended and all is read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn line(&mut self) -> Option<Line> {
        poll_fn(|cx| self.process.poll_line(cx)).await
    }
}

impl Stream for Lines<'_> {
    type Item = Line;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        self.process.poll_line(cx)
    }
}

//! A child that runs.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::error::ProcessError;
use super::handle::{ProcessHandle, ProcessId, State};
use super::output::{Chunk, Line, Output};

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
/// time, by a thread that ends when none is left to reap. That needs no runtime.
#[derive(Debug)]
#[must_use = "a process is killed when it is dropped"]
pub struct Process(());

impl Process {
    /// Its name in this process, which is never used again.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        todo!()
    }

    /// The system's number for it: see [`ProcessHandle::pid`].
    #[must_use]
    pub fn pid(&self) -> u32 {
        todo!()
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        todo!()
    }

    /// A handle, to pause, resume and end it from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ProcessHandle {
        todo!()
    }

    /// As [`ProcessHandle::pause`].
    pub fn pause(&self) -> bool {
        todo!()
    }

    /// As [`ProcessHandle::resume`].
    pub fn resume(&self) -> bool {
        todo!()
    }

    /// As [`ProcessHandle::cancel`].
    pub fn cancel(&self) -> bool {
        todo!()
    }

    /// As [`ProcessHandle::kill`].
    pub fn kill(&self) -> bool {
        todo!()
    }

    /// The next chunk; `None` when the child has ended and all is read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn chunk(&mut self) -> Option<Chunk> {
        todo!()
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
        todo!()
    }
}

impl Stream for Process {
    type Item = Chunk;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Chunk>> {
        todo!()
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
        todo!()
    }
}

impl Stream for Lines<'_> {
    type Item = Line;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Line>> {
        let _ = &self.process;
        todo!()
    }
}

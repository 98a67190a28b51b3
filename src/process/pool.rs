//! A limited number of children, which end together.

use std::time::Duration;

use super::command::Command;
use super::error::ProcessError;
use super::handle::{ProcessHandle, ProcessId};
use super::output::Output;
use super::running::Process;
use crate::{ConfigError, Error};

/// Limits how many children there are, finds them by their id, and ends them together.
///
/// A clone is the same pool. It owns no child: each ends with its [`Process`], as everywhere.
/// A place is free again when its child is reaped.
///
/// It is a [`Component`](crate::shutdown::Component) of a shutdown.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `max_processes` | none; it must be set | only you know what the machine bears |
/// | `max_queue` | as `max_processes` | absorbs a burst; a longer queue is only latency |
/// | `max_wait` | none | the call's deadline is the better limit |
/// | `drain` | 0 | children are seldom about to end |
/// | `grace` | 5 s | as for one child |
#[derive(Clone, Debug)]
pub struct ProcessPool(());

/// Builds a [`ProcessPool`]; its text has the table of defaults.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ProcessPoolBuilder(());

/// How the children of a pool ended when it was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Without a signal from the pool.
    pub by_themselves: usize,
    /// After SIGTERM.
    pub by_term: usize,
    /// By SIGKILL.
    pub by_kill: usize,
    /// Not ended in time, though killed: the system holds them (a dead disk).
    pub left: usize,
    /// How long it took.
    pub elapsed: Duration,
}

impl ProcessPool {
    /// A pool of at most `max_processes` children, with every other setting at its default.
    pub fn builder(max_processes: u32) -> ProcessPoolBuilder {
        let _ = max_processes;
        ProcessPoolBuilder(())
    }

    /// Waits for a place and starts `command`.
    ///
    /// # Errors
    ///
    /// The [`ProcessError`] when it could not be started;
    /// [`BulkheadFull`](crate::Refusal::BulkheadFull) when no place came in time;
    /// [`ShutDown`](crate::Refusal::ShutDown) when the pool is closed, also while it waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the queue.
    pub async fn spawn(&self, command: &Command) -> Result<Process, Error<ProcessError>> {
        let _ = command;
        todo!()
    }

    /// As [`spawn`](Self::spawn), if there is a place now.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn try_spawn(&self, command: &Command) -> Result<Process, Error<ProcessError>> {
        let _ = command;
        todo!()
    }

    /// Waits for a place and runs `command` to its end.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn) and [`Command::run`].
    ///
    /// # Cancel safety
    ///
    /// As for [`spawn`](Self::spawn) and [`Command::run`].
    pub async fn run(&self, command: &Command) -> Result<Output, Error<ProcessError>> {
        let _ = command;
        todo!()
    }

    /// The child with this id, if it has not ended.
    #[must_use]
    pub fn get(&self, id: ProcessId) -> Option<ProcessHandle> {
        let _ = id;
        todo!()
    }

    /// All children that have not ended, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<ProcessHandle> {
        todo!()
    }

    /// How many children there are.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }

    /// Starts nothing more, gives all children `drain` to end by themselves, asks those left
    /// to end (SIGTERM, all at once), and kills them after one common `grace`.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the pool closed. Children that have been asked to end are killed
    /// after their grace nevertheless. It can be called again.
    pub async fn close(&self) -> CloseReport {
        todo!()
    }
}

impl ProcessPoolBuilder {
    /// How many calls may wait for a place. Default: as many as there are places; 0 refuses
    /// at once.
    pub fn max_queue(self, calls: usize) -> Self {
        let _ = calls;
        self
    }

    /// How long a call may wait for a place. Default: no limit of its own.
    pub fn max_wait(self, span: Duration) -> Self {
        let _ = span;
        self
    }

    /// How long children may go on when the pool closes before they are asked to end.
    /// Default 0.
    pub fn drain(self, span: Duration) -> Self {
        let _ = span;
        self
    }

    /// How long all of them together have between SIGTERM and SIGKILL. Default 5 s.
    pub fn grace(self, span: Duration) -> Self {
        let _ = span;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `max_processes` of 0.
    pub fn build(self) -> Result<ProcessPool, ConfigError> {
        todo!()
    }
}

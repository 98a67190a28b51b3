//! Many commands at once, as the crate's own gather.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::super::error::SessionError;
use super::super::provider::SessionProvider;
use super::super::types::{Command, CommandResult};
use super::pipes::Boxed;
use super::pool::SessionPool;
use super::session::Session;
use super::shared::SessionResult;
use crate::gather::{Alone, FromIter, Here, Origin, Silent};
use crate::operation::{IntoOperation, Operation};
use crate::policy::CallContext;
use crate::{Attempt, Error, Gather, Progress, gather};

/// Many commands, so many at a time: a [`Gather`], with all that it offers.
///
/// Its outcomes are in the order of the commands, and their errors are the flat
/// [`Error<SessionError>`](crate::Error). `.await` yields all outcomes, `.try_all()` the first
/// error, `.as_finished()` and `.in_order()` streams; `.limit(n)` says how many run at once
/// (default 64).
///
/// # Cancel safety
///
/// Dropping it drops the commands in flight; the sessions that they ran in are then no longer
/// intact, and a pool closes them.
pub type RunMany<'a, R, I> =
    Gather<Origin<FromIter<Commands<'a, R, I>>, Alone<ByName>, Here>, Silent>;

/// Where a command can run: in a session, or in any session of a pool.
pub trait Runs: sealed::Runs {}

mod sealed {
    use super::{Attempt, Boxed, Command, CommandResult, SessionResult};

    pub trait Runs: Sync {
        fn run_one(
            &self,
            command: Command,
            part_of: Attempt,
        ) -> Boxed<'_, SessionResult<CommandResult>>;
    }
}

impl<P: SessionProvider> Runs for Session<P> {}

impl<P: SessionProvider> sealed::Runs for Session<P> {
    fn run_one(
        &self,
        command: Command,
        part_of: Attempt,
    ) -> Boxed<'_, SessionResult<CommandResult>> {
        Box::pin(self.run_command(command, Some(part_of)))
    }
}

impl<P: SessionProvider> Runs for SessionPool<P> {}

impl<P: SessionProvider> sealed::Runs for SessionPool<P> {
    fn run_one(
        &self,
        command: Command,
        part_of: Attempt,
    ) -> Boxed<'_, SessionResult<CommandResult>> {
        Box::pin(self.run_command(command, Some(part_of)))
    }
}

pub(super) fn run_many_on<R: Runs, I>(runs: &R, commands: I) -> RunMany<'_, R, I>
where
    I: Iterator<Item: Into<Command>>,
{
    gather(Commands { runs, commands })
}

/// The commands of a [`RunMany`], to be run one after the other or side by side.
pub struct Commands<'a, R, I> {
    runs: &'a R,
    commands: I,
}

impl<'a, R: Runs, I: Iterator<Item: Into<Command>>> Iterator for Commands<'a, R, I> {
    type Item = Running<'a>;

    fn next(&mut self) -> Option<Running<'a>> {
        let command = self.commands.next()?.into();
        Some(Running {
            runs: self.runs,
            state: State::Waits(command),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.commands.size_hint()
    }
}

/// One command of a [`RunMany`]: it runs once, its pipeline is the client's, and it inherits
/// the deadline of the gather.
#[must_use = "a command does nothing unless driven"]
pub struct Running<'a> {
    runs: &'a dyn sealed::Runs,
    state: State<'a>,
}

enum State<'a> {
    Waits(Command),
    Runs(Boxed<'a, SessionResult<CommandResult>>),
    Ended,
}

/// [`IntoOperation`]'s kind of a [`Running`] command.
#[derive(Debug)]
pub struct ByName(PhantomData<()>);

impl IntoOperation<ByName> for Running<'_> {
    type Operation = Self;

    fn into_operation(self) -> Self {
        self
    }
}

impl Operation for Running<'_> {
    type Output = CommandResult;
    type Error = SessionError;

    fn poll(
        mut self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<CommandResult, Error<SessionError>>> {
        let mut future = match std::mem::replace(&mut self.state, State::Ended) {
            State::Waits(command) => self.runs.run_one(command, call.to_attempt()),
            State::Runs(future) => future,
            State::Ended => return Poll::Ready(Err(Error::cancelled())),
        };
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            self.state = State::Runs(future);
        }
        polled
    }

    fn cancel(mut self: Pin<&mut Self>) -> Progress<SessionError> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        Progress::started(u32::from(matches!(state, State::Runs(_))))
    }
}

impl<R, I> fmt::Debug for Commands<'_, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

impl fmt::Debug for Running<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("ended", &matches!(self.state, State::Ended))
            .finish()
    }
}

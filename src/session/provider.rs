//! What a provider of sessions offers.

use std::future::Future;

use super::error::SessionError;
use super::types::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Entry, FileRange, Labels,
    ListSessions, SessionId, SessionInfo, SessionPage, SessionStatus, WriteMode, Written,
};

/// Has sessions, and does with them what it is told, once.
///
/// A provider neither limits, nor retries, nor counts: that is the client's, and the same for
/// all. It bounds what it reads, and says of each failure whether the thing may have happened
/// all the same ([`SessionError::effect`]).
///
/// # Cancel safety
///
/// Each future can be dropped at any point: what it holds on this machine is given back. What
/// it asked for may still happen at the other end. So the client lets a `create` go on in a task
/// when its caller has gone or its time is up, and drops it only when its late limit is over, or
/// everything ends. A `delete` goes on in a task when its caller has gone; at its time limit it
/// is dropped, and made again: it must do no harm twice.
pub trait SessionProvider: Send + Sync + 'static {
    /// A short name for logs and pipelines, such as `embedded`.
    fn name(&self) -> &str;

    /// Makes a session. It carries the labels, among them the client's own, by which a session
    /// is found again whose reply was lost.
    fn create(
        &self,
        request: &CreateSession,
    ) -> impl Future<Output = Result<SessionInfo, SessionError>> + Send;

    /// Finds a session: what is needed to work with it.
    fn get(&self, id: &SessionId)
    -> impl Future<Output = Result<SessionInfo, SessionError>> + Send;

    /// Tells in which state a session is. One that is gone is an error of the kind
    /// [`NotFound`](super::SessionErrorKind::NotFound), or
    /// [`Finished`](SessionStatus::Finished) where the provider remembers it.
    fn status(
        &self,
        id: &SessionId,
    ) -> impl Future<Output = Result<SessionStatus, SessionError>> + Send;

    /// Lists a page of the sessions that carry all of these labels.
    fn list(
        &self,
        request: &ListSessions,
    ) -> impl Future<Output = Result<SessionPage, SessionError>> + Send;

    /// Ends a session and waits until it is gone. One that is gone already is a success that
    /// says so.
    fn delete(&self, id: &SessionId) -> impl Future<Output = Result<Deleted, SessionError>> + Send;

    /// Runs a command with the session's shell. A command that fails is a result, not an error.
    fn run(
        &self,
        id: &SessionId,
        command: &Command,
    ) -> impl Future<Output = Result<CommandResult, SessionError>> + Send;

    /// Runs a piece of code. Code that fails is a result, not an error; an interpreter that is
    /// not there is an error of the kind [`Unsupported`](super::SessionErrorKind::Unsupported).
    fn run_code(
        &self,
        id: &SessionId,
        code: &Code,
    ) -> impl Future<Output = Result<CodeResult, SessionError>> + Send;

    /// Reads a file, or a part of it.
    fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        range: FileRange,
    ) -> impl Future<Output = Result<Vec<u8>, SessionError>> + Send;

    /// Writes a file. An error whose effect is not [`None`](super::Effect::None) may have left
    /// a part of it.
    fn write_file(
        &self,
        id: &SessionId,
        path: &str,
        content: &[u8],
        mode: WriteMode,
    ) -> impl Future<Output = Result<Written, SessionError>> + Send;

    /// Lists a directory, sorted by name.
    fn list_directory(
        &self,
        id: &SessionId,
        path: &str,
    ) -> impl Future<Output = Result<Vec<Entry>, SessionError>> + Send;

    /// The labels of a session. By them the client makes sure that a session which it has found
    /// in a list is its own, before it takes it or ends it.
    fn labels(&self, id: &SessionId) -> impl Future<Output = Result<Labels, SessionError>> + Send;

    /// Replaces the labels of a session.
    fn set_labels(
        &self,
        id: &SessionId,
        labels: &Labels,
    ) -> impl Future<Output = Result<(), SessionError>> + Send;
}

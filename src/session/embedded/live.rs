//! One session while it lives: its directories, its commands, and its end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::super::error::{Effect, SessionError, SessionErrorKind};
use super::super::types::SessionId;
use super::directory::Home;
use super::{fault, table};
use crate::Bulkhead;
use crate::process::{Process, ProcessHandle, ProcessId};

/// What stands behind a session in the table.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: SessionId,
    pub(super) home: Home,
    pub(super) commands: Bulkhead,
    /// Cancelled when it is about to be deleted.
    pub(super) ended: CancellationToken,
    /// Told when the last call in it ends.
    pub(super) quiet: Notify,
    /// Its commands, to be killed from elsewhere; none is let in once it has ended.
    running: Mutex<HashMap<ProcessId, ProcessHandle>>,
    /// How its deletion went, once it did.
    outcome: watch::Sender<Option<Result<(), SessionError>>>,
}

pub(super) type Sessions = table::Table<std::sync::Arc<Live>>;

impl Live {
    pub(super) fn new(id: SessionId, home: Home, commands: Bulkhead) -> Self {
        Self {
            id,
            home,
            commands,
            ended: CancellationToken::new(),
            quiet: Notify::new(),
            running: Mutex::default(),
            outcome: watch::Sender::new(None),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<ProcessId, ProcessHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets nothing begin any more and kills what runs.
    pub(super) fn end(&self) {
        self.ended.cancel();
        let running: Vec<ProcessHandle> = self.running().drain().map(|(_, it)| it).collect();
        for process in running {
            process.kill();
        }
    }

    /// Sees to it that the session's end is the process's too.
    pub(super) fn owns(&self, process: &Process) -> Running<'_> {
        let id = process.id();
        let mut running = self.running();
        // Under the lock: either `end` finds it there, or it is seen here that `end` was first.
        let late = self.ended.is_cancelled();
        if !late {
            running.insert(id, process.handle());
        }
        drop(running);
        if late {
            process.kill();
        }
        Running { live: self, id }
    }

    /// Kills what is left behind and removes the directory. On a thread that may block.
    pub(super) fn clear(&self) -> Result<(), SessionError> {
        let failed = |error| fault::io(self.id.as_str(), error).with_effect(Effect::Partial);
        let left = self.home.kill().map_err(failed)?;
        if left > 0 {
            let text = format!("{left} processes of session {} do not die", self.id);
            return Err(partly(text));
        }
        self.home.remove().map_err(failed)
    }

    /// Somebody begins to delete it.
    pub(super) fn begin(&self) {
        self.outcome.send_replace(None);
    }

    pub(super) fn finish(&self, result: Result<(), SessionError>) {
        self.outcome.send_replace(Some(result));
    }

    /// Waits until it is deleted, whoever does it.
    pub(super) async fn gone(&self) -> Result<(), SessionError> {
        let mut outcome = self.outcome.subscribe();
        let done = outcome.wait_for(Option::is_some).await;
        // The sender is here, so there is an outcome.
        done.map_or(Ok(()), |outcome| outcome.clone().unwrap_or(Ok(())))
    }
}

/// A command that runs in a session.
#[derive(Debug)]
pub(super) struct Running<'a> {
    live: &'a Live,
    id: ProcessId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let handle = self.live.running().remove(&self.id);
        drop(handle);
    }
}

/// A deletion that did not come to its end.
pub(super) fn partly(message: String) -> SessionError {
    SessionError::new(SessionErrorKind::Local, message).with_effect(Effect::Partial)
}

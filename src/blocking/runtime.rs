//! The one thread that drives timers, sockets and spawned tasks of all blocking calls.

use std::future::pending;
use std::io;
use std::process;
use std::thread;

use tokio::runtime::{Builder, Handle};

use crate::error::Refusal;
use crate::sync::Lock;

#[derive(Debug)]
struct Background {
    handle: Handle,
    /// The process that has the thread: a fork leaves the child without.
    process: u32,
}

static BACKGROUND: Lock<Option<Background>> = Lock::new(None);

/// The runtime, started if need be. A failure is not remembered.
pub(super) fn handle() -> Result<Handle, Refusal> {
    handle_of(process::id())
}

pub(super) fn handle_of(process: u32) -> Result<Handle, Refusal> {
    let mut background = BACKGROUND.lock();
    if let Some(running) = background.as_ref() {
        if running.process == process {
            return Ok(running.handle.clone());
        }
    }
    let handle = start().map_err(|_| Refusal::other("no thread could be started"))?;
    let started = Background { handle, process };
    Ok(background.insert(started).handle.clone())
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let named = thread::Builder::new().name("mainstay-blocking".into());
    named.spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}

//! Ctrl-c, where there are no signals: the first asks, the second ends.
//!
//! A thread with a small runtime of its own listens for as long as the process lives: tokio
//! does not give its handler back, so what comes after the shutdown ends the process here.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;

use super::Shared;
use super::report::Cause;

/// The number of the signal elsewhere.
const SIGINT: i32 = 2;

/// Says that someone listens. Dropping it needs nothing: see the module's text.
#[derive(Debug)]
pub(super) struct Listening;

pub(super) fn listen(shared: &Arc<Shared>) -> io::Result<Listening> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shutdown = Arc::downgrade(shared);
    let name = thread::Builder::new().name("mainstay-signals".into());
    name.spawn(move || runtime.block_on(forward(shutdown)))?;
    Ok(Listening)
}

async fn forward(shutdown: Weak<Shared>) {
    let mut asked = false;
    while tokio::signal::ctrl_c().await.is_ok() {
        match shutdown.upgrade() {
            Some(shared) if !asked && !shared.done.is_cancelled() => {
                asked = true;
                shared.request(Cause::Signal(SIGINT));
            }
            _ => std::process::exit(128 + SIGINT),
        }
    }
}

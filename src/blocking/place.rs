//! Whether this thread may be blocked.

use std::cell::Cell;

use tokio::runtime::{Handle, Id};

use crate::error::Refusal;

thread_local! {
    /// The runtime that has lent this thread to be blocked. Of another one that is entered
    /// here, say by a `block_on` of its own, nothing is known.
    static LENT: Cell<Option<Id>> = const { Cell::new(None) };
}

/// Sets the mark back to what it was.
#[derive(Debug)]
pub(super) struct Restore(Option<Id>);

impl Drop for Restore {
    fn drop(&mut self) {
        let _gone = LENT.try_with(|lent| lent.set(self.0));
    }
}

fn mark(lent: Option<Id>) -> Restore {
    Restore(LENT.try_with(|mark| mark.replace(lent)).unwrap_or(None))
}

/// Calls `work` on a thread that is there to be blocked.
pub(crate) fn lend<T>(work: impl FnOnce() -> T) -> T {
    let lender = Handle::try_current().ok();
    let _restore = mark(lender.map(|runtime| runtime.id()));
    work()
}

/// Begins a blocking call; until its end no other one may begin on this thread, since it
/// would block this one's future.
pub(super) fn enter() -> Result<Restore, Refusal> {
    match Handle::try_current() {
        Err(error) if error.is_missing_context() => Ok(mark(None)),
        Err(_) => Err(Refusal::other("the thread is ending")),
        Ok(here) if LENT.try_with(Cell::get) == Ok(Some(here.id())) => Ok(mark(None)),
        Ok(_) => Err(Refusal::InsideRuntime),
    }
}

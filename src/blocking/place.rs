//! Whether this thread may be blocked.

use std::cell::Cell;

use tokio::runtime::Handle;

use crate::error::Refusal;

thread_local! {
    /// Whether this thread is there to be blocked, although it belongs to a runtime.
    static LENT: Cell<bool> = const { Cell::new(false) };
}

/// Sets the mark back to what it was.
#[derive(Debug)]
pub(super) struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        let _gone = LENT.try_with(|lent| lent.set(self.0));
    }
}

fn mark(lent: bool) -> Restore {
    Restore(LENT.try_with(|mark| mark.replace(lent)).unwrap_or(false))
}

/// Calls `work` on a thread that is there to be blocked.
pub(crate) fn lend<T>(work: impl FnOnce() -> T) -> T {
    let _restore = mark(true);
    work()
}

/// Begins a blocking call; until its end no other one may begin on this thread, since it
/// would block this one's future.
pub(super) fn enter() -> Result<Restore, Refusal> {
    match Handle::try_current() {
        Err(error) if error.is_missing_context() => Ok(mark(false)),
        Err(_) => Err(Refusal::other("the thread is ending")),
        Ok(_) if LENT.try_with(Cell::get).unwrap_or(false) => Ok(mark(false)),
        Ok(_) => Err(Refusal::InsideRuntime),
    }
}

//! What follows from a change of the state, and is done without its lock.

use std::sync::Arc;
use std::task::Waker;

use super::cell::Settled;
use super::snapshot::QueueSnapshot;
use super::start::Start;
use crate::panics::{discard, swallow};
use crate::sync::wake_quietly;

/// A callback that is told the counts.
pub(super) type OnProgress = Arc<dyn Fn(QueueSnapshot) + Send + Sync>;

/// The user's functions. They may hold the queue, and so are let go when there is nothing
/// left for them to do.
pub(super) struct Callbacks<J, T, E> {
    pub(super) start: Start<J, T, E>,
    pub(super) on_progress: Option<OnProgress>,
}

/// What is yet to be done.
pub(super) struct After<J, T, E> {
    /// Whether an item has had its outcome.
    pub(super) settled: bool,
    pub(super) told: Option<(OnProgress, QueueSnapshot)>,
    pub(super) wakers: Vec<Waker>,
    pub(super) unwanted: Option<Settled<T, E>>,
    pub(super) over: Option<Callbacks<J, T, E>>,
}

impl<J, T, E> After<J, T, E> {
    pub(super) const fn nothing() -> Self {
        Self {
            settled: false,
            told: None,
            wakers: Vec::new(),
            unwanted: None,
            over: None,
        }
    }

    /// Does it. Whoever is woken finds the progress told.
    pub(super) fn carry_out(self) {
        if let Some((tell, counts)) = self.told {
            swallow(|| tell(counts));
            discard(tell);
        }
        wake_quietly(self.wakers);
        discard(self.unwanted);
        discard(self.over);
    }
}

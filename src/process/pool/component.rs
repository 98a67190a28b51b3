//! A pool of children as something that a shutdown closes.

use std::future::Future;
use std::pin::Pin;

use super::ProcessPool;
use super::report::load;
use crate::process::ProcessHandle;
use crate::shutdown::{Component, Counts};
use crate::time::Instant;

/// Children: those there are or that wait for a place, and those that have ended: with code 0
/// (completed), else by themselves (failed), or after a signal from here (aborted).
impl Component for ProcessPool {
    fn stop(&self) {
        self.inner.stop();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.inner.under_way.drained())
    }

    fn cancel(&self) {
        self.inner.each(|child| child.cancel_by(Instant::NEVER));
    }

    fn abort(&self) {
        self.inner.each(ProcessHandle::kill);
    }

    fn counts(&self) -> Counts {
        let ends = &self.inner.ends;
        let mut counts = Counts::new(self.inner.under_way.in_flight() as u64);
        counts.completed = load(&ends.well);
        counts.failed = load(&ends.badly);
        counts.aborted = load(&ends.by_term) + load(&ends.by_kill);
        counts
    }
}

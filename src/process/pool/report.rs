//! How the children of a pool ended.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::process::output::End;
use crate::process::shared::Outcome;

/// How the children of a pool ended when it was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Without being asked to.
    pub by_themselves: u64,
    /// After SIGTERM.
    pub by_term: u64,
    /// By SIGKILL.
    pub by_kill: u64,
    /// Not ended in time, though killed: the system holds them (a dead disk).
    pub left: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// How many have ended in which way.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) well: AtomicU64,
    pub(super) badly: AtomicU64,
    pub(super) by_term: AtomicU64,
    pub(super) by_kill: AtomicU64,
}

impl Ends {
    pub(super) fn count(&self, outcome: &Outcome) {
        let end = match outcome.end() {
            _ if outcome.forced => &self.by_kill,
            Some(End::Exited(0)) => &self.well,
            Some(End::TimedOut { .. } | End::Cancelled) => &self.by_term,
            _ => &self.badly,
        };
        // Release: pairs with the Acquire of `load`, for the sake of totals that add up.
        end.fetch_add(1, Ordering::Release);
    }

    pub(super) fn report(&self) -> CloseReport {
        CloseReport {
            by_themselves: load(&self.well) + load(&self.badly),
            by_term: load(&self.by_term),
            by_kill: load(&self.by_kill),
            ..CloseReport::default()
        }
    }
}

pub(super) fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Acquire)
}

impl CloseReport {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            by_themselves: self.by_themselves - before.by_themselves,
            by_term: self.by_term - before.by_term,
            by_kill: self.by_kill - before.by_kill,
            ..*self
        }
    }
}

/// Such as `3 ended by themselves, 1 by SIGTERM, 0 by SIGKILL, 0 left, after 120.3ms`.
impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ended by themselves, {} by SIGTERM, {} by SIGKILL, {} left, after {:.1?}",
            self.by_themselves, self.by_term, self.by_kill, self.left, self.elapsed
        )
    }
}

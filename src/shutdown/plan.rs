//! Which component is to do what, and until when.
//!
//! Invariants:
//! - What a component is told only ever gets sterner.
//! - A stage drains when all stages before it have ended, and the protected sections too;
//!   once the time to drain is over, everything that is left is cancelled, whatever its stage;
//!   then aborted; then given up.
//! - All points in time are set at the beginning, so nothing that takes long moves another.
//! - Nobody is told to sleep past a change that time alone brings.

use std::time::Duration;

use super::counts::Counts;
use super::report::{ComponentReport, Status};
use crate::time::Instant;

/// What a component is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Go on as ever: its stage has not come.
    Wait,
    Drain,
    Cancel,
    Abort,
    /// Nobody waits for it any more.
    Over,
}

/// Shares of the deadline; together they make 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shares {
    pub(super) drain: f64,
    pub(super) cancel: f64,
}

/// When each part of the time ends; never, before it has begun.
#[derive(Clone, Copy, Debug)]
struct Times {
    begin: Instant,
    drain: Instant,
    cancel: Instant,
    over: Instant,
}

impl Times {
    const NEVER: Self = Self {
        begin: Instant::NEVER,
        drain: Instant::NEVER,
        cancel: Instant::NEVER,
        over: Instant::NEVER,
    };

    fn new(begin: Instant, deadline: Duration, shares: Shares) -> Self {
        let over = begin.saturating_add(deadline);
        let at = |share| begin.saturating_add(part(deadline, share)).min(over);
        let drain = at(shares.drain);
        Self {
            begin,
            drain,
            cancel: at(shares.drain + shares.cancel).max(drain),
            over,
        }
    }

    /// What time alone says, and until when it does.
    fn order(&self, now: Instant) -> (Order, Instant) {
        if self.begin == Instant::NEVER {
            (Order::Wait, Instant::NEVER)
        } else if now >= self.over {
            (Order::Over, Instant::NEVER)
        } else if now >= self.cancel {
            (Order::Abort, self.over)
        } else if now >= self.drain {
            (Order::Cancel, self.cancel)
        } else {
            (Order::Drain, self.drain)
        }
    }
}

/// So much of a span; a share is between 0 and 1.
fn part(span: Duration, share: f64) -> Duration {
    let part = Duration::try_from_secs_f64(span.as_secs_f64() * share);
    part.unwrap_or(Duration::MAX).min(span)
}

#[derive(Debug)]
pub(super) struct Plan {
    deadline: Duration,
    shares: Shares,
    times: Times,
    sections_held: bool,
    entries: Vec<Entry>,
}

/// A component, as far as the plan knows it.
#[derive(Debug)]
struct Entry {
    stage: usize,
    /// Whether it can be asked to end: what cannot was not cancelled.
    asks: bool,
    turn: Option<Instant>,
    end: Option<(Status, Instant)>,
    before: Option<Counts>,
    counts: Counts,
    failure: Option<Box<str>>,
}

impl Plan {
    /// `components` are their stages, and whether they can be asked to end.
    pub(super) fn new(
        deadline: Duration,
        shares: Shares,
        components: impl Iterator<Item = (usize, bool)>,
    ) -> Self {
        let entry = |(stage, asks)| Entry {
            stage,
            asks,
            turn: None,
            end: None,
            before: None,
            counts: Counts::default(),
            failure: None,
        };
        Self {
            deadline,
            shares,
            times: Times::NEVER,
            sections_held: true,
            entries: components.map(entry).collect(),
        }
    }

    /// Begins, unless it has begun: the deadline runs from `at` on.
    pub(super) fn begin(&mut self, at: Instant) -> bool {
        let begins = self.times.begin == Instant::NEVER;
        if begins {
            self.times = Times::new(at, self.deadline, self.shares);
        }
        begins
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What the component is to do, and until when that holds if nothing happens.
    pub(super) fn order(&self, at: usize, now: Instant) -> (Order, Instant) {
        let (order, until) = self.times.order(now);
        if order != Order::Drain {
            return (order, until);
        }
        let stage = self.entries[at].stage;
        let mut earlier = self.entries.iter().filter(|entry| entry.stage < stage);
        let waits = self.sections_held || earlier.any(|entry| entry.end.is_none());
        (if waits { Order::Wait } else { order }, until)
    }

    /// Until when protected sections are waited for.
    pub(super) fn drain_until(&self) -> Instant {
        self.times.drain
    }

    /// Until when anything is waited for.
    pub(super) fn over_at(&self) -> Instant {
        self.times.over
    }

    /// When the time to drain, to cancel, and all of it is over.
    pub(super) fn points(&self) -> [Instant; 3] {
        let times = &self.times;
        [times.drain, times.cancel, times.over]
    }

    /// The protected sections have ended, or are not waited for any longer.
    pub(super) fn release(&mut self) {
        self.sections_held = false;
    }

    /// The component's turn has come.
    pub(super) fn turn(&mut self, at: usize, now: Instant) {
        self.entries[at].turn.get_or_insert(now);
    }

    /// Keeps what a component counts: the first time is what it began with.
    pub(super) fn sample(&mut self, at: usize, counts: Counts) {
        let entry = &mut self.entries[at];
        entry.before.get_or_insert(counts);
        // What has ended stays as it was told.
        if entry.end.is_none() {
            entry.counts = counts;
        }
    }

    /// Something of it went wrong; the first time is what is told.
    pub(super) fn fail(&mut self, at: usize, message: Box<str>) {
        self.entries[at].failure.get_or_insert(message);
    }

    /// The component has ended under this order, or was given up under [`Order::Over`].
    pub(super) fn end(&mut self, at: usize, under: Order, now: Instant) {
        let entry = &mut self.entries[at];
        let status = match under {
            Order::Over => Status::TimedOut,
            _ if entry.failure.is_some() => Status::Failed,
            Order::Cancel if entry.asks => Status::Cancelled,
            Order::Wait | Order::Drain | Order::Cancel => Status::Completed,
            Order::Abort => Status::Aborted,
        };
        entry.end.get_or_insert((status, now));
    }

    pub(super) fn has_ended(&self, at: usize) -> bool {
        self.entries[at].end.is_some()
    }

    pub(super) fn all_ended(&self) -> bool {
        self.entries.iter().all(|entry| entry.end.is_some())
    }

    pub(super) fn taken(&self, now: Instant) -> Duration {
        now.since(self.times.begin)
    }

    /// What is told of a component; one without an end has timed out now.
    pub(super) fn report(&self, at: usize, name: &str, now: Instant) -> ComponentReport {
        let entry = &self.entries[at];
        let (status, end) = entry.end.unwrap_or((Status::TimedOut, now));
        let before = entry.before.unwrap_or_default();
        ComponentReport {
            name: name.into(),
            status,
            at_start: before.in_flight,
            counts: entry.counts.since(&before),
            duration: entry.turn.map_or(Duration::ZERO, |turn| end.since(turn)),
            failure: entry.failure.clone(),
        }
    }
}

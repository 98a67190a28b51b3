//! What all who know a child share.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::group::Leader;
use super::handle::{ProcessId, State};
use super::output::End;
use super::plan::{Order, Plan};
use super::reaper;
use crate::time::{self, Instant};

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// None when somebody else has reaped it.
    pub(super) status: Option<ExitStatus>,
    /// Why it was ended, if not by itself.
    pub(super) cause: Option<End>,
    pub(super) forced: bool,
    pub(super) elapsed: Duration,
}

impl Outcome {
    pub(super) fn end(&self) -> Option<End> {
        let status = self.status?;
        let signal = || status.signal().map(End::Signalled);
        self.cause
            .or(status.code().map(End::Exited))
            .or_else(signal)
    }
}

/// What is told of the end.
type OnEnd = Box<dyn FnOnce(&Outcome) + Send>;

/// What is next for a child that has not ended.
pub(super) struct Next {
    /// When to [`tick`](Shared::tick) again.
    pub(super) due: Instant,
    /// Whether the leader has ended, and others hold its pipes.
    pub(super) lingers: bool,
}

/// A child, from its start to its end. Everyone who has an event drives it; its supervisor
/// brings time and the leader's end.
pub(super) struct Shared {
    pub(super) id: ProcessId,
    pub(super) pid: u32,
    pub(super) program: Box<str>,
    pub(super) changed: Notify,
    pub(super) ended: CancellationToken,
    started: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    plan: Plan,
    /// None once it is reaped: nothing is signalled any more.
    leader: Option<Leader>,
    outcome: Option<Outcome>,
    on_end: Option<OnEnd>,
}

impl Shared {
    pub(super) fn new(leader: Leader, program: Box<str>, now: Instant, plan: Plan) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            // Relaxed: nothing but its being unique matters.
            id: NEXT.fetch_add(1, Ordering::Relaxed).into(),
            pid: leader.pid().as_raw_pid().unsigned_abs(),
            program,
            changed: Notify::new(),
            ended: CancellationToken::new(),
            started: now,
            inner: Mutex::new(Inner {
                plan,
                leader: Some(leader),
                outcome: None,
                on_end: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome
    }

    pub(super) fn state(&self) -> State {
        let inner = self.lock();
        match inner.outcome {
            Some(_) => State::Ended,
            None => inner.plan.state(),
        }
    }

    /// Calls `on_end` when it has ended, at once if it has.
    pub(super) fn on_end(&self, on_end: OnEnd) {
        let mut inner = self.lock();
        let Some(outcome) = inner.outcome else {
            inner.on_end = Some(on_end);
            return;
        };
        drop(inner);
        on_end(&outcome);
    }

    /// Tells the plan what has happened, and does what it says. `false` when there was no
    /// order to give.
    pub(super) fn drive(&self, event: impl FnOnce(&mut Plan, Instant) -> Option<Order>) -> bool {
        let obeyed = self.step(event);
        self.changed.notify_one();
        obeyed
    }

    /// Nobody holds the pipes any more.
    pub(super) fn pipes_closed(&self) {
        self.drive(|plan, _| {
            plan.pipes_closed();
            None
        });
    }

    /// Does what is due; what is next, or none when it has ended.
    pub(super) fn tick(&self) -> Option<Next> {
        self.step(|_, _| None);
        let inner = self.lock();
        let plan = &inner.plan;
        inner.outcome.is_none().then(|| Next {
            due: plan.due(),
            lingers: !plan.leader_runs(),
        })
    }

    fn step(&self, event: impl FnOnce(&mut Plan, Instant) -> Option<Order>) -> bool {
        let now = time::now();
        let mut inner = self.lock();
        let obeyed = inner.step(now, event);
        let told = inner.finish(now.since(self.started));
        drop(inner);
        if let Some((outcome, on_end)) = told {
            self.tell(&outcome, on_end);
        }
        obeyed
    }

    /// `on_end` wakes others' tasks, and a waker may panic: that is neither to keep the end from
    /// anyone, nor to hit whoever happens to have seen it first.
    fn tell(&self, outcome: &Outcome, on_end: Option<OnEnd>) {
        if let Some(on_end) = on_end {
            let _ = catch_unwind(AssertUnwindSafe(|| on_end(outcome)));
        }
        self.changed.notify_one();
        self.ended.cancel();
    }

    /// Kills the group, and sees to it that the leader is reaped, whatever becomes of the
    /// runtime. Its pipes are nobody's any more.
    pub(super) fn abandon(self: &Arc<Self>) {
        self.drive(|plan, now| {
            plan.pipes_closed();
            plan.kill(now)
        });
        if self.tick().is_some() {
            reaper::hand_over(Arc::clone(self));
        }
    }
}

impl Inner {
    fn step(
        &mut self,
        now: Instant,
        event: impl FnOnce(&mut Plan, Instant) -> Option<Order>,
    ) -> bool {
        self.look(now);
        // What is due first: a limit that is over before a cancel is what ended it.
        let due = self.plan.tick(now);
        self.send(due);
        let order = event(&mut self.plan, now);
        self.send(order);
        order.is_some()
    }

    /// Learns first whether the leader has ended by itself: then nothing else has ended it.
    fn look(&mut self, now: Instant) {
        let Some(leader) = self.leader.as_ref().filter(|_| self.plan.leader_runs()) else {
            return;
        };
        match leader.has_ended() {
            Ok(false) => {}
            Ok(true) => self.plan.leader_ended(now),
            Err(_) => {
                self.plan.lost();
                self.leader = None;
            }
        }
    }

    fn send(&self, order: Option<Order>) {
        if let (Some(leader), Some(order)) = (&self.leader, order) {
            leader.send(order);
        }
    }

    /// Reaps the leader when its time has come.
    fn finish(&mut self, elapsed: Duration) -> Option<(Outcome, Option<OnEnd>)> {
        if !self.plan.is_over() || self.outcome.is_some() {
            return None;
        }
        let outcome = Outcome {
            status: self.leader.take().and_then(|leader| leader.reap().ok()),
            cause: self.plan.cause(),
            forced: self.plan.forced(),
            elapsed,
        };
        self.outcome = Some(outcome);
        Some((outcome, self.on_end.take()))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id)
            .field("pid", &self.pid)
            .field("program", &self.program)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

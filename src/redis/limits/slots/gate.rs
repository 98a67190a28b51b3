//! The wait of one call, and the bulkhead as a gate of pipelines.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::leases::Life;
use super::{SharedBulkhead, SharedPermit, Told, WhenAway};
use crate::bulkhead::{Bulkhead, BulkheadWait};
use crate::error::Refusal;
use crate::policy::{Admission, CallContext, End, Gate, Judge, Permit};
use crate::redis::limits::line::Entered;
use crate::redis::limits::scripts;
use crate::time::{self, Instant, Timer};

/// What a call holds while it waits for its slots: a place in the process's line, or in that of
/// the local share.
#[derive(Debug, Default)]
pub struct SharedBulkheadWait {
    stage: Stage,
    /// When the call began to wait.
    since: Option<Instant>,
    timer: Timer,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    New,
    Asked {
        id: u64,
        answer: oneshot::Receiver<Told>,
        /// When the call has waited long enough, and not even an answer is to be expected.
        give_up: Instant,
        look_at: Instant,
    },
    Local(BulkheadWait),
    Ended,
}

type Admitted = Result<SharedPermit, Refusal>;

impl Gate for SharedBulkhead {
    type Wait = SharedBulkheadWait;
    type Ticket = SharedPermit;

    /// Redis is asked while the call waits. Only when it is away is there an answer at once.
    fn admit(&self, call: &CallContext<'_>) -> Admission<SharedPermit> {
        let now = time::now();
        if self.look(now) {
            self.without(call, self.until(now))
        } else {
            Admission::Wait
        }
    }

    fn poll_admit(
        &self,
        wait: &mut SharedBulkheadWait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Admitted> {
        let now = time::now();
        let since = *wait.since.get_or_insert(now);
        loop {
            let polled = match &mut wait.stage {
                Stage::New => self.begin(now, call),
                Stage::Asked { .. } => self.poll_answer(wait, since, call, cx),
                Stage::Local(place) => {
                    // It leaves the limit of the wait to whoever gives it a deadline.
                    if wait.timer.poll_until(self.until(since), cx).is_ready() {
                        self.leave(wait);
                        full(now.since(since))
                    } else {
                        self.poll_local(place, since, call, cx)
                    }
                }
                Stage::Ended => panic!("polled after it was ready"),
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Go::On(stage)) => wait.stage = stage,
                Poll::Ready(Go::End(admitted)) => {
                    wait.stage = Stage::Ended;
                    wait.timer.disarm();
                    return Poll::Ready(admitted);
                }
            }
        }
    }

    fn leave(&self, wait: &mut SharedBulkheadWait) {
        match std::mem::replace(&mut wait.stage, Stage::Ended) {
            // A permit that is in the channel already gives itself back.
            Stage::Asked { id, .. } => self.leave_line(id),
            Stage::Local(mut place) => {
                if let Some(local) = self.local_share() {
                    local.leave(&mut place);
                }
            }
            Stage::New | Stage::Ended => {}
        }
        wait.timer.disarm();
    }

    /// The permit gives itself back, however the call has ended.
    fn settle(&self, permit: SharedPermit, _: End) {
        drop(permit);
    }
}

impl<T, E> Judge<T, E> for SharedBulkhead {}

/// Where a wait goes.
enum Go {
    On(Stage),
    End(Admitted),
}

fn full(waited: Duration) -> Poll<Go> {
    Poll::Ready(Go::End(Err(Refusal::bulkhead_full(waited))))
}

impl SharedBulkhead {
    fn until(&self, since: Instant) -> Instant {
        since.saturating_add(self.limits.max_wait)
    }

    /// Takes a place in line, or decides without Redis.
    fn begin(&self, now: Instant, call: &CallContext<'_>) -> Poll<Go> {
        if self.look(now) {
            return self.begin_without(call, self.until(now));
        }
        if call.deadline(now) <= now {
            return full(Duration::ZERO);
        }
        let waits = self.limits.lets_wait && !self.limits.max_wait.is_zero();
        let (tell, answer) = oneshot::channel();
        let life = Life::Until(Instant::NEVER);
        let entered = self.driver.with(|state| {
            state.enter(self.limits.weight, waits, || {
                (tell, Arc::new(watch::Sender::new(life)))
            })
        });
        let id = match entered {
            Entered::Free => return Poll::Ready(Go::End(Ok(SharedPermit::free()))),
            Entered::Refused(refusal) => return Poll::Ready(Go::End(Err(refusal))),
            Entered::Waits(id) => id,
        };
        if !self.driver.rouse() {
            self.leave_line(id);
            return Poll::Ready(Go::End(Err(Refusal::NoRuntime)));
        }
        let answers = self.driver.ask_within().saturating_mul(3);
        let give_up = self.until(now).max(now.saturating_add(answers));
        Poll::Ready(Go::On(Stage::Asked {
            id,
            answer,
            give_up,
            look_at: self.driver.look_at(),
        }))
    }

    fn poll_answer(
        &self,
        wait: &mut SharedBulkheadWait,
        since: Instant,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Go> {
        let Stage::Asked {
            id,
            answer,
            give_up,
            look_at,
        } = &mut wait.stage
        else {
            return Poll::Pending;
        };
        let now = time::now();
        let last = call.deadline(now).min(*give_up);
        // One that comes as the deadline passes is given back: nothing is started then.
        let late = last <= now
            || self
                .driver
                .poll_wait(&mut wait.timer, look_at, last, cx)
                .is_ready();
        if late {
            self.leave_line(*id);
            return full(now.since(since));
        }
        Pin::new(answer).poll(cx).map(|told| match told {
            Ok(Told::In(permit)) => Go::End(Ok(permit)),
            Ok(Told::Full) => Go::End(Err(Refusal::bulkhead_full(now.since(since)))),
            Ok(Told::Away) => self.without_now(call, self.until(since)),
            Err(_) => Go::End(Err(Refusal::NoRuntime)),
        })
    }

    fn begin_without(&self, call: &CallContext<'_>, until: Instant) -> Poll<Go> {
        Poll::Ready(self.without_now(call, until))
    }

    fn without_now(&self, call: &CallContext<'_>, until: Instant) -> Go {
        match self.without(call, until) {
            Admission::Admitted(permit) => Go::End(Ok(permit)),
            Admission::Refused(refusal) => Go::End(Err(refusal)),
            Admission::Wait => Go::On(Stage::Local(BulkheadWait::default())),
        }
    }

    /// What the choice for an absent Redis says.
    fn without(&self, call: &CallContext<'_>, until: Instant) -> Admission<SharedPermit> {
        let decided = match (self.limits.when_away, self.local_share()) {
            (WhenAway::Allow, _) => Admission::Admitted(SharedPermit::free()),
            (WhenAway::Local { .. }, Some(local)) => match local.admit(&call.until(until)) {
                Admission::Admitted(ticket) => {
                    Admission::Admitted(SharedPermit::local(Permit::new(local, ticket)))
                }
                Admission::Wait if self.limits.max_wait.is_zero() => {
                    Admission::Refused(Refusal::bulkhead_full(Duration::ZERO))
                }
                Admission::Wait => Admission::Wait,
                Admission::Refused(refusal) => Admission::Refused(refusal),
            },
            (WhenAway::Refuse | WhenAway::Local { .. }, _) => Admission::Refused(scripts::AWAY),
        };
        self.without.count(match &decided {
            Admission::Admitted(_) => Some(true),
            Admission::Refused(_) => Some(false),
            Admission::Wait => None,
        });
        decided
    }

    fn poll_local(
        &self,
        place: &mut BulkheadWait,
        since: Instant,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Go> {
        let Some(local) = self.local_share() else {
            return Poll::Ready(Go::End(Err(scripts::AWAY)));
        };
        let polled = local.poll_admit(place, &call.until(self.until(since)), cx);
        polled.map(|answer| {
            self.without.count(Some(answer.is_ok()));
            Go::End(answer.map(|ticket| SharedPermit::local(Permit::new(local, ticket))))
        })
    }

    /// The local share, at what this handle's calls weigh.
    fn local_share(&self) -> Option<Bulkhead> {
        let local = self.local.as_ref()?;
        Some(local.weighing(self.limits.weight))
    }

    fn leave_line(&self, id: u64) {
        // The sender that is taken out is dropped outside of the lock, with what it wakes.
        let (_whom, look) = self.driver.with(|state| state.leave(id));
        if look {
            self.driver.rouse();
        }
    }
}

/// A wait for slots; see [`SharedBulkhead::acquire`].
#[must_use = "a wait does nothing unless awaited"]
pub struct SharedBulkheadAcquire {
    bulkhead: SharedBulkhead,
    wait: SharedBulkheadWait,
}

impl SharedBulkheadAcquire {
    pub(super) fn new(bulkhead: SharedBulkhead) -> Self {
        Self {
            bulkhead,
            wait: SharedBulkheadWait::default(),
        }
    }
}

impl Future for SharedBulkheadAcquire {
    type Output = Result<SharedPermit, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.bulkhead
            .poll_admit(&mut this.wait, &CallContext::root(), cx)
    }
}

impl Drop for SharedBulkheadAcquire {
    fn drop(&mut self) {
        self.bulkhead.leave(&mut self.wait);
    }
}

impl fmt::Debug for SharedBulkheadAcquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBulkheadAcquire")
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

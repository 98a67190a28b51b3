//! The wait of one call, and the limiter as a gate of pipelines.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::state::Answer;
use super::{SharedRateLimiter, WhenAway};
use crate::error::Refusal;
use crate::policy::{self, Admission, CallContext, End, Gate, Judge};
use crate::rate_limit::{RateLimiter, RateLimiterTicket, RateLimiterWait};
use crate::redis::limits::line::Entered;
use crate::redis::limits::scripts;
use crate::time::{self, Instant, Timer};

/// What a call holds while it waits for its permits: a place in the process's line, or in that
/// of the local share.
#[derive(Debug, Default)]
pub struct SharedRateLimiterWait {
    stage: Stage,
    /// When the call has waited long enough; fixed when it begins to.
    until: Option<Instant>,
    timer: Timer,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    New,
    Asked {
        id: u64,
        answer: oneshot::Receiver<Answer>,
        /// When not even an answer is to be expected any more.
        give_up: Instant,
        look_at: Instant,
    },
    Local(RateLimiterWait),
    Ended,
}

/// Says that permits were taken. They are spent, whatever becomes of this.
#[derive(Debug)]
pub struct SharedRateLimiterTicket(());

type Admitted = Result<SharedRateLimiterTicket, Refusal>;

const IN: Admitted = Ok(SharedRateLimiterTicket(()));

impl Gate for SharedRateLimiter {
    type Wait = SharedRateLimiterWait;
    type Ticket = SharedRateLimiterTicket;

    /// Redis is asked while the call waits. Only when it is away is there an answer at once.
    fn admit(&self, call: &CallContext<'_>) -> Admission<SharedRateLimiterTicket> {
        let now = time::now();
        if !self.look(now) {
            return Admission::Wait;
        }
        let until = self.until(now);
        match self.without(call, until) {
            Admission::Admitted(_) => Admission::Admitted(SharedRateLimiterTicket(())),
            Admission::Refused(refusal) => Admission::Refused(refusal),
            Admission::Wait => Admission::Wait,
        }
    }

    fn poll_admit(
        &self,
        wait: &mut SharedRateLimiterWait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Admitted> {
        let now = time::now();
        let until = *wait.until.get_or_insert_with(|| self.until(now));
        loop {
            let polled = match &mut wait.stage {
                Stage::New => self.begin(until, now, call),
                Stage::Asked { .. } => self.poll_answer(wait, call, cx),
                Stage::Local(place) => self.poll_local(place, until, call, cx),
                Stage::Ended => panic!("polled after it was ready"),
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Go::On(stage))) => wait.stage = stage,
                Poll::Ready(Ok(Go::In)) => return Poll::Ready(wait.end(IN)),
                Poll::Ready(Err(refusal)) => return Poll::Ready(wait.end(Err(refusal))),
            }
        }
    }

    fn leave(&self, wait: &mut SharedRateLimiterWait) {
        match &mut wait.stage {
            Stage::Asked { id, .. } => self.leave_line(*id),
            Stage::Local(place) => {
                if let Some(local) = &self.local {
                    local.leave(place);
                }
            }
            Stage::New | Stage::Ended => {}
        }
        wait.stage = Stage::Ended;
        wait.timer.disarm();
    }

    fn settle(&self, _: SharedRateLimiterTicket, _: End) {}
}

impl<T, E> Judge<T, E> for SharedRateLimiter {}

/// Where a wait goes.
enum Go {
    On(Stage),
    In,
}

impl SharedRateLimiter {
    fn until(&self, now: Instant) -> Instant {
        now.saturating_add(self.limits.max_wait)
    }

    /// Takes a place in line, or decides without Redis.
    fn begin(
        &self,
        until: Instant,
        now: Instant,
        call: &CallContext<'_>,
    ) -> Poll<Result<Go, Refusal>> {
        if self.look(now) {
            return self.begin_without(until, call);
        }
        let deadline = call.deadline(now);
        let last = Instant::from_nanos(deadline.as_nanos().saturating_sub(1));
        let (tell, answer) = oneshot::channel();
        let permits = self.limits.permits;
        let entered = self
            .driver
            .with(|state| state.enter(permits, until.min(last), now, || tell));
        let id = match entered {
            Entered::Free => return Poll::Ready(Ok(Go::In)),
            Entered::Refused(refusal) => return Poll::Ready(Err(refusal)),
            Entered::Waits(id) => id,
        };
        if !self.driver.rouse() {
            self.leave_line(id);
            return Poll::Ready(Err(Refusal::NoRuntime));
        }
        let answers = self.driver.ask_within().saturating_mul(3);
        let give_up = until.max(now.saturating_add(answers));
        let stage = Stage::Asked {
            id,
            answer,
            give_up,
            look_at: self.driver.look_at(),
        };
        Poll::Ready(Ok(Go::On(stage)))
    }

    fn poll_answer(
        &self,
        wait: &mut SharedRateLimiterWait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Go, Refusal>> {
        let Stage::Asked {
            id,
            answer,
            give_up,
            look_at,
        } = &mut wait.stage
        else {
            return Poll::Pending;
        };
        let until = wait.until.unwrap_or(Instant::NEVER);
        let now = time::now();
        let last = call.deadline(now).min(*give_up);
        if last <= now {
            self.leave_line(*id);
            return Poll::Ready(Err(Refusal::rate_limited(std::time::Duration::ZERO)));
        }
        match Pin::new(answer).poll(cx) {
            Poll::Ready(Ok(Answer::Granted)) => Poll::Ready(Ok(Go::In)),
            Poll::Ready(Ok(Answer::Refused(after))) => {
                Poll::Ready(Err(Refusal::rate_limited(after)))
            }
            Poll::Ready(Ok(Answer::Away)) => self.begin_without(until, call),
            Poll::Ready(Err(_)) => Poll::Ready(Err(Refusal::NoRuntime)),
            Poll::Pending => match self.driver.poll_wait(&mut wait.timer, look_at, last, cx) {
                Poll::Ready(()) => {
                    self.leave_line(*id);
                    Poll::Ready(Err(Refusal::rate_limited(std::time::Duration::ZERO)))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn begin_without(&self, until: Instant, call: &CallContext<'_>) -> Poll<Result<Go, Refusal>> {
        Poll::Ready(match self.without(call, until) {
            Admission::Admitted(_) => Ok(Go::In),
            Admission::Refused(refusal) => Err(refusal),
            Admission::Wait => Ok(Go::On(Stage::Local(RateLimiterWait::default()))),
        })
    }

    /// What the choice for an absent Redis says.
    fn without(
        &self,
        call: &CallContext<'_>,
        until: Instant,
    ) -> Admission<Option<RateLimiterTicket>> {
        let decided = match (self.limits.when_away, self.local_share()) {
            (WhenAway::Allow, _) => Admission::Admitted(None),
            (WhenAway::Local { .. }, Some(local)) => match local.admit(&call.until(until)) {
                Admission::Admitted(ticket) => Admission::Admitted(Some(ticket)),
                Admission::Refused(refusal) => Admission::Refused(refusal),
                Admission::Wait => Admission::Wait,
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
        place: &mut RateLimiterWait,
        until: Instant,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Go, Refusal>> {
        let Some(local) = self.local_share() else {
            return Poll::Ready(Err(scripts::AWAY));
        };
        let polled = local.poll_admit(place, &call.until(until), cx);
        polled.map(|answer| {
            self.without.count(Some(answer.is_ok()));
            answer.map(|_ticket| Go::In)
        })
    }

    /// The local share, at what this handle's calls cost.
    fn local_share(&self) -> Option<RateLimiter> {
        let local = self.local.as_ref()?;
        Some(local.costing(self.limits.permits))
    }

    fn leave_line(&self, id: u64) {
        // The sender that is taken out is dropped outside of the lock, with what it wakes.
        let (_whom, look) = self.driver.with(|state| state.leave(id));
        if look {
            self.driver.rouse();
        }
    }
}

impl SharedRateLimiterWait {
    fn end(&mut self, admitted: Admitted) -> Admitted {
        self.stage = Stage::Ended;
        self.timer.disarm();
        admitted
    }
}

/// A wait for permits; see [`SharedRateLimiter::acquire`].
#[must_use = "a wait does nothing unless awaited"]
pub struct SharedRateLimiterAcquire(policy::Acquire<SharedRateLimiter>);

impl SharedRateLimiterAcquire {
    pub(super) fn new(limiter: SharedRateLimiter) -> Self {
        Self(policy::Acquire::new(limiter))
    }
}

impl Future for SharedRateLimiterAcquire {
    type Output = Result<(), Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // What was taken is spent: there is nothing to hold on to.
        Pin::new(&mut self.0).poll(cx).map(|taken| taken.map(drop))
    }
}

impl fmt::Debug for SharedRateLimiterAcquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedRateLimiterAcquire")
            .field(&self.0)
            .finish()
    }
}

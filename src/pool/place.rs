//! A place in the line, from the first wait to the object.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;

use super::arriving::{Arriving, Checking};
use super::get::Given;
use super::manage::Manage;
use super::shared::{Kept, PoolEffects, Shared};
use super::snapshot::Reason;
use super::state::{Effects, Turn};
use crate::error::{Error, Progress, Refusal};
use crate::panics::{caught, message};
use crate::time::{self, Instant, Timer};

/// A place in the line, or a claim to one.
pub(super) struct Place<'p, M: Manage> {
    shared: &'p Arc<Shared<M>>,
    ticket: Option<u64>,
    is_in_line: bool,
    since: Instant,
    until: Instant,
    timer: Timer,
    /// It has found a runtime.
    is_timed: bool,
    /// How many objects have failed their check.
    rounds: usize,
    /// The last one's error.
    last: Option<Error<M::Error>>,
}

pub(super) fn exhausted<E>(waited: Duration) -> Error<E> {
    Error::refused(Refusal::pool_exhausted(waited))
}

impl<'p, M: Manage> Place<'p, M> {
    pub(super) fn new(
        shared: &'p Arc<Shared<M>>,
        ticket: Option<u64>,
        (since, until): (Instant, Instant),
    ) -> Self {
        Self {
            shared,
            ticket,
            is_in_line: false,
            since,
            until,
            timer: Timer::new(),
            is_timed: false,
            rounds: 0,
            last: None,
        }
    }

    /// Waits for objects until one gets through its check and its hook.
    pub(super) async fn serve(mut self, mut arriving: Option<Arriving<M>>) -> Given<'p, M> {
        loop {
            let next = match arriving.take() {
                Some(arriving) => arriving,
                None => poll_fn(|cx| self.poll_turn(cx)).await?,
            };
            let (next, result) = self.check(next).await?;
            match result {
                Ok(()) => return next.arrive(self.shared),
                Err(error) => self.go_on(next, error)?,
            }
        }
    }

    /// The object, and whether it works; or an error when there is no time left. Then the
    /// check goes on by itself.
    async fn check(
        &mut self,
        next: Arriving<M>,
    ) -> Result<super::arriving::Checked<M>, Error<M::Error>> {
        if next.is_ready() {
            return Ok((next, Ok(())));
        }
        let mut checking = Checking::new(next);
        poll_fn(|cx| {
            if let Poll::Ready(checked) = checking.poll(cx) {
                return Poll::Ready(Ok(checked));
            }
            self.poll_timer(self.until, cx)
                .map(|at_end| Err(self.gives_up(at_end)))
        })
        .await
    }

    /// An object that does not work is closed. The caller waits for another one, unless this
    /// one was born for it, or has been the last of so many.
    fn go_on(
        &mut self,
        mut next: Arriving<M>,
        error: Error<M::Error>,
    ) -> Result<(), Error<M::Error>> {
        self.rounds += 1;
        let is_new = next.is_born_after(self.since);
        next.end(Reason::CheckFailed, error.is_timed_out());
        if is_new || self.rounds > self.shared.lock().max() {
            return Err(error);
        }
        self.last = Some(error);
        Ok(())
    }

    /// An object that comes at the last moment is taken. Who has no timer for a pause cannot be
    /// the one who tries again after it, and would keep the others from that: it leaves.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arriving<M>, Error<M::Error>>> {
        loop {
            let again = match self.look(cx) {
                Ok(answer) => return Poll::Ready(answer),
                Err(again) => again.unwrap_or(Instant::NEVER),
            };
            match self.poll_timer(again.min(self.until), cx) {
                Poll::Ready(Ok(())) if time::now() < self.until => {}
                Poll::Ready(at_end) => return Poll::Ready(Err(self.gives_up(at_end))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// What has become of it; or when to look again.
    #[expect(clippy::type_complexity, reason = "an answer or none")]
    fn look(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<Result<Arriving<M>, Error<M::Error>>, Option<Instant>> {
        // A waker's clone and drop are foreign code: both happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        let mut effects = Effects::none();
        let turn = self.turn(&mut waker, &mut effects);
        self.is_in_line = false;
        let answer = match turn {
            Turn::Candidate(candidate) => Ok(Ok(Arriving::new(self.shared, candidate))),
            Turn::Failed(error) => Ok(Err(error)),
            Turn::Closed => Ok(Err(Error::refused(Refusal::ShutDown))),
            Turn::Waiting(ticket, again) => {
                self.ticket = Some(ticket);
                self.is_in_line = true;
                Err(again)
            }
        };
        self.shared.act(effects);
        answer
    }

    fn turn(
        &self,
        waker: &mut Option<Waker>,
        fx: &mut PoolEffects<M>,
    ) -> Turn<Kept<M>, Error<M::Error>> {
        let now = time::now();
        let mut state = self.shared.lock();
        match self.ticket {
            Some(ticket) if self.is_in_line => state.look(ticket, waker, now, fx),
            ticket => state.enter(ticket, waker, now, fx),
        }
    }

    /// Waits for a time; an error where there is no timer.
    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        if at == Instant::NEVER {
            return Poll::Pending;
        }
        if !self.is_timed && time::now() < at {
            if Handle::try_current().is_err() {
                return Poll::Ready(Err(Refusal::NoRuntime));
            }
            self.is_timed = true;
        }
        // A runtime without its timer, or one that shuts down, panics.
        match caught(|| self.timer.poll_until(at, cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => {
                message(panic);
                Poll::Ready(Err(Refusal::NoRuntime))
            }
        }
    }

    /// Leaves without an object, and says why there was none.
    fn gives_up(&mut self, at_end: Result<(), Refusal>) -> Error<M::Error> {
        let failure = self.leave().or(self.last.take());
        let waited = time::now().since(self.since);
        let refusal = at_end.err().unwrap_or(Refusal::pool_exhausted(waited));
        let Some(failure) = failure else {
            return Error::refused(refusal);
        };
        let attempts = failure.attempts();
        Error::refused(refusal).after(Progress::new(attempts, failure.into_last()))
    }

    /// Leaves the line; the failure that was kept for this place.
    fn leave(&mut self) -> Option<Error<M::Error>> {
        let ticket = self.ticket.filter(|_| self.is_in_line)?;
        self.is_in_line = false;
        let now = time::now();
        let leave =
            |state: &mut super::shared::PoolState<M>, fx: &mut _| state.leave(ticket, now, fx);
        let (waker, failure) = self.shared.change(leave);
        drop(waker);
        failure
    }
}

impl<M: Manage> Drop for Place<'_, M> {
    fn drop(&mut self) {
        let failure = self.leave();
        drop(failure);
    }
}

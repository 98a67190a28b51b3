//! The wait for an object.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::manage::Manage;
use super::pooled::Pooled;
use super::shared::{PoolEffects, Shared, Slot, within};
use super::snapshot::Reason;
use super::state::{Candidate, Effects, Take, Turn};
use crate::error::{Error, Progress, Refusal};
use crate::policy::Attempt;
use crate::time::{self, Instant, Timer};

/// A wait for an object of a [`Pool`](super::Pool), to be awaited.
///
/// # Errors
///
/// [`Refusal::PoolExhausted`] when no object came in the time to wait, and at once when there
/// is no time to wait. [`Refusal::ShutDown`] when the pool is closed.
/// [`Error::Operation`], [`Error::TimedOut`], [`Error::Panicked`] or what the policy for
/// creations refuses by, when the creation failed that this caller needed: each failure is for
/// the one who has waited longest. [`Refusal::Other`] when there is no runtime to create an
/// object in.
///
/// # Cancel safety
///
/// It can be dropped at any point. A creation that it has started goes on and serves the
/// next, or lands idle. What it was handed goes to the next too, unless it was in the middle
/// of a check or a hook: then the object is closed, since nobody knows what it still expects.
///
/// # Fairness
///
/// First come, first served. Each keeps its place by its arrival, also when the object that
/// it was handed turns out to be broken. A wait that is then never polled again nor dropped
/// keeps what it was handed: do not hold one back while you await something else.
///
/// # Panics
///
/// When polled after it was ready; and, from tokio, when a limited wait is begun outside of a
/// runtime whose timer is enabled.
#[must_use = "a wait does nothing unless awaited"]
pub struct Get<'p, M: Manage> {
    shared: &'p Arc<Shared<M>>,
    max_wait: Duration,
    until: Instant,
    stage: Stage<'p, M>,
}

enum Stage<'p, M: Manage> {
    Start,
    Waiting(Box<Waiting<'p, M>>),
    Done,
}

type Given<'p, M> = Result<Pooled<'p, M>, Error<<M as Manage>::Error>>;

struct Waiting<'p, M: Manage> {
    serving: Pin<Box<dyn Future<Output = Given<'p, M>> + Send + 'p>>,
    timer: Timer,
    since: Instant,
    until: Instant,
}

impl<'p, M: Manage> Get<'p, M> {
    pub(super) fn new(shared: &'p Arc<Shared<M>>) -> Self {
        Self {
            shared,
            max_wait: shared.settings.max_wait,
            until: Instant::NEVER,
            stage: Stage::Start,
        }
    }

    /// Waits for so long at most, instead of what the pool's builder says. With zero it takes
    /// what is at hand, and needs no check, or nothing.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = span;
        self
    }

    /// Waits no longer than the call has time of which this is part.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::{Pipeline, pool::Pool};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder(|| async { Ok::<_, std::io::Error>(7) }).max_size(4).build()?;
    /// let query = Pipeline::builder("query").timeout(Duration::from_secs(2)).build()?;
    /// let answer = query
    ///     .call_with(|attempt| {
    ///         let pool = &pool;
    ///         async move {
    ///             let object = pool.get().during(&attempt).await?;
    ///             Ok::<_, mainstay::Error<std::io::Error>>(*object + 1)
    ///         }
    ///     })
    ///     .await;
    /// assert_eq!(answer.map_err(mainstay::Error::flatten).unwrap(), 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn during(mut self, attempt: &Attempt) -> Self {
        self.until = self.until.min(attempt.deadline());
        self
    }

    /// Takes what is at hand.
    #[inline]
    fn take_plain(&self) -> Option<Pooled<'p, M>> {
        self.shared.keep();
        let now = self.shared.now();
        let entry = self.shared.lock().take_plain(now)?;
        Some(Pooled::lent(self.shared, entry))
    }

    /// Takes what is at hand, or begins to wait.
    #[cold]
    fn start(&mut self) -> Option<Given<'p, M>> {
        let (shared, at_once) = (self.shared, self.has_no_time());
        let now = shared.now();
        let mut effects = Effects::none();
        let taken = shared.lock().take(now, at_once, &mut effects);
        // What was taken is owned before anything else is done.
        let (ticket, arriving) = match taken {
            Take::Ready(entry) => {
                let pooled = Pooled::lent(shared, entry);
                shared.act(effects);
                return Some(Ok(pooled));
            }
            Take::Candidate(candidate, ticket) => {
                (Some(ticket), Some(Arriving::new(shared, candidate)))
            }
            Take::Empty => (None, None),
            Take::Closed => return Some(Err(Error::refused(Refusal::ShutDown))),
        };
        shared.act(effects);
        if at_once {
            return Some(exhausted(Duration::ZERO));
        }
        self.wait(serve(shared, ticket, arriving));
        None
    }

    fn has_no_time(&self) -> bool {
        self.max_wait.is_zero() || (self.until != Instant::NEVER && self.until <= time::now())
    }

    fn wait(&mut self, serving: impl Future<Output = Given<'p, M>> + Send + 'p) {
        let since = time::now();
        self.stage = Stage::Waiting(Box::new(Waiting {
            serving: Box::pin(serving),
            timer: Timer::new(),
            since,
            until: since.saturating_add(self.max_wait).min(self.until),
        }));
    }
}

fn exhausted<T, E>(waited: Duration) -> Result<T, Error<E>> {
    Err(Error::refused(Refusal::pool_exhausted(waited)))
}

impl<'p, M: Manage> Waiting<'p, M> {
    /// An object that comes at the last moment is taken.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Given<'p, M>> {
        if let Poll::Ready(given) = self.serving.as_mut().poll(cx) {
            return Poll::Ready(given);
        }
        ready!(self.timer.poll_until(self.until, cx));
        Poll::Ready(exhausted(time::now().since(self.since)))
    }
}

impl<'p, M: Manage> Future for Get<'p, M> {
    type Output = Given<'p, M>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Stage::Start = this.stage {
            if let Some(pooled) = this.take_plain() {
                this.stage = Stage::Done;
                return Poll::Ready(Ok(pooled));
            }
            if let Some(given) = this.start() {
                this.stage = Stage::Done;
                return Poll::Ready(given);
            }
        }
        let Stage::Waiting(waiting) = &mut this.stage else {
            panic!("polled after it was ready");
        };
        let given = ready!(waiting.poll(cx));
        this.stage = Stage::Done;
        Poll::Ready(given)
    }
}

/// Waits for objects until one gets through its check and its hook.
async fn serve<'p, M: Manage>(
    shared: &'p Arc<Shared<M>>,
    ticket: Option<u64>,
    mut arriving: Option<Arriving<'p, M>>,
) -> Given<'p, M> {
    let mut place = Place {
        shared,
        ticket,
        is_in_line: false,
    };
    loop {
        let next = match arriving.take() {
            Some(arriving) => arriving,
            None => poll_fn(|cx| place.poll_turn(cx)).await?,
        };
        match next.hand_over().await {
            Ok(pooled) => return Ok(pooled),
            Err(Some(error)) => return Err(error),
            Err(None) => {}
        }
    }
}

/// A place in the line, or a claim to one.
struct Place<'p, M: Manage> {
    shared: &'p Arc<Shared<M>>,
    ticket: Option<u64>,
    is_in_line: bool,
}

impl<'p, M: Manage> Place<'p, M> {
    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arriving<'p, M>, Error<M::Error>>> {
        // A waker's clone and drop are foreign code: both happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        let mut effects = Effects::none();
        let turn = self.turn(&mut waker, &mut effects);
        self.is_in_line = false;
        let answer = match turn {
            Turn::Candidate(candidate) => Poll::Ready(Ok(Arriving::new(self.shared, candidate))),
            Turn::Failed(error) => Poll::Ready(Err(error)),
            Turn::Closed => Poll::Ready(Err(Error::refused(Refusal::ShutDown))),
            Turn::Waiting(ticket) => {
                self.ticket = Some(ticket);
                self.is_in_line = true;
                Poll::Pending
            }
        };
        self.shared.act(effects);
        answer
    }

    fn turn(
        &self,
        waker: &mut Option<Waker>,
        fx: &mut PoolEffects<M>,
    ) -> Turn<M::Object, Error<M::Error>> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        match self.ticket {
            Some(ticket) if self.is_in_line => state.look(ticket, waker, fx),
            ticket => state.enter(ticket, waker, now, fx),
        }
    }
}

impl<M: Manage> Drop for Place<'_, M> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.filter(|_| self.is_in_line) else {
            return;
        };
        let now = self.shared.now();
        let waker = self.shared.change(|state, fx| state.leave(ticket, now, fx));
        drop(waker);
    }
}

/// An object on its way to a caller: given up on the way, it is closed.
struct Arriving<'p, M: Manage> {
    shared: &'p Arc<Shared<M>>,
    entry: Option<Slot<M>>,
    check: bool,
    fresh: bool,
}

impl<'p, M: Manage> Arriving<'p, M> {
    fn new(shared: &'p Arc<Shared<M>>, candidate: Candidate<M::Object>) -> Self {
        Self {
            shared,
            entry: Some(candidate.entry),
            check: candidate.check,
            fresh: candidate.fresh,
        }
    }

    /// Checks the object and lends it out. What failed is closed; the error, if there is one,
    /// is for the caller.
    async fn hand_over(mut self) -> Result<Pooled<'p, M>, Option<Error<M::Error>>> {
        match self.prepare().await {
            Ok(()) => Ok(self.arrive()),
            Err(error) => {
                let error = Some(error).filter(|_| self.fresh);
                self.end(Reason::CheckFailed);
                Err(error)
            }
        }
    }

    async fn prepare(&mut self) -> Result<(), Error<M::Error>> {
        let settings = &self.shared.settings;
        let Some(entry) = &mut self.entry else {
            return Ok(());
        };
        let limit = settings.check_limit;
        if self.check {
            let checked = within(limit, settings.manager.check(&mut entry.object)).await;
            passed(checked, limit)?;
        }
        if let Some(hook) = &settings.before_hand_over {
            let prepared = within(limit, hook(&mut entry.object)).await;
            passed(prepared, limit)?;
        }
        Ok(())
    }

    fn arrive(mut self) -> Pooled<'p, M> {
        let entry = self.entry.take().expect("it is taken only here and below");
        self.shared.lock().arrived();
        Pooled::lent(self.shared, entry)
    }

    fn end(&mut self, reason: Reason) {
        if let Some(entry) = self.entry.take() {
            self.shared
                .change(|state, fx| state.fail_candidate(entry, reason, fx));
        }
    }
}

impl<M: Manage> Drop for Arriving<'_, M> {
    fn drop(&mut self) {
        self.end(Reason::CancelledUse);
    }
}

fn passed<E>(result: Option<Result<(), E>>, limit: Duration) -> Result<(), Error<E>> {
    match result {
        Some(result) => result.map_err(Error::operation),
        None => Err(Error::timed_out(limit).after(Progress::started(1))),
    }
}

impl<M: Manage> fmt::Debug for Get<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get")
            .field("max_wait", &self.max_wait)
            .field("until", &self.until)
            .field("waits", &matches!(self.stage, Stage::Waiting(_)))
            .field("done", &matches!(self.stage, Stage::Done))
            .finish_non_exhaustive()
    }
}

//! The wait for an object.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::arriving::Arriving;
use super::manage::Manage;
use super::place::{Place, exhausted};
use super::pooled::Pooled;
use super::shared::{Shared, Slot};
use super::state::{Effects, Take};
use crate::error::{Error, Refusal};
use crate::policy::Attempt;
use crate::time::{self, Instant};

/// A wait for an object of a [`Pool`](super::Pool), to be awaited.
///
/// # Errors
///
/// - [`Refusal::PoolExhausted`] when no object came in the time to wait, and at once when
///   there is no time to wait; with the error of the last creation that failed meanwhile.
/// - [`Refusal::ShutDown`] when the pool is closed.
/// - [`Error::Operation`], [`Error::TimedOut`], [`Error::Panicked`], or what the policy for
///   creations refuses by, when a creation failed and nothing else can come: no object is in
///   use, and no other creation is under way. Until then the caller waits on, and creations
///   are tried again after a pause: up to 100 ms, doubled each time up to 30 s, half of it
///   random. The same when an object that was born since the wait began fails its check or
///   its hook, or when more objects did than the pool may have.
/// - [`Refusal::NoRuntime`] when the creation that this caller began has gone with its
///   runtime, there is no runtime to begin it in, or there is no timer where the wait is
///   limited or a creation has failed: then with its error, since nobody can pause here.
///
/// # Cancel safety
///
/// It can be dropped at any point. A creation that it has started goes on and serves the
/// next, or lands idle; so does the check of an object, or the hook before its hand-over, and
/// the object too. What it was handed goes to the next.
///
/// # Fairness
///
/// First come, first served. Each keeps its place by its arrival, also when the object that
/// it was handed turns out to be broken. A wait that is then never polled again nor dropped
/// keeps what it was handed, be it an object or the task to create one: do not hold one back
/// while you await something else.
///
/// # Panics
///
/// When polled after it was ready.
#[must_use = "a wait does nothing unless awaited"]
pub struct Get<'p, M: Manage> {
    shared: &'p Arc<Shared<M>>,
    max_wait: Duration,
    until: Instant,
    stage: Stage<'p, M>,
}

enum Stage<'p, M: Manage> {
    Start,
    Waiting(Serving<'p, M>),
    Done,
}

pub(super) type Given<'p, M> = Result<Pooled<'p, M>, Error<<M as Manage>::Error>>;

/// As [`Given`], in two words.
type Served<M> = Result<Slot<M>, Box<Error<<M as Manage>::Error>>>;

type Serving<'p, M> = Pin<Box<dyn Future<Output = Given<'p, M>> + Send + 'p>>;

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

    /// Takes what is at hand, or begins to wait.
    fn start(&mut self) -> Option<Given<'p, M>> {
        let (shared, at_once) = (self.shared, self.has_no_time());
        shared.runtime.remember();
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
            return Some(Err(exhausted(Duration::ZERO)));
        }
        let since = time::now();
        let until = since.saturating_add(self.max_wait).min(self.until);
        let place = Place::new(shared, ticket, (since, until));
        self.stage = Stage::Waiting(Box::pin(place.serve(arriving)));
        None
    }

    /// As `poll`, for everyone who does not find an object at hand. What it returns fits into
    /// registers: the result of the plain way is then not in memory that this one writes to.
    #[cold]
    #[inline(never)]
    fn poll_unplain(&mut self, cx: &mut Context<'_>) -> Poll<Served<M>> {
        let given = match &mut self.stage {
            Stage::Start => self.start(),
            _ => None,
        };
        let given = match (given, &mut self.stage) {
            (Some(given), _) => given,
            (None, Stage::Waiting(waiting)) => ready!(waiting.as_mut().poll(cx)),
            (None, Stage::Start | Stage::Done) => panic!("polled after it was ready"),
        };
        self.stage = Stage::Done;
        Poll::Ready(given.map(Pooled::into_entry).map_err(Box::new))
    }

    fn has_no_time(&self) -> bool {
        self.max_wait.is_zero() || (self.until != Instant::NEVER && self.until <= time::now())
    }
}

impl<'p, M: Manage> Future for Get<'p, M> {
    type Output = Given<'p, M>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Stage::Start = this.stage {
            if let Some(entry) = this.shared.take_plain() {
                this.stage = Stage::Done;
                return Poll::Ready(Ok(Pooled::lent(this.shared, entry)));
            }
        }
        this.poll_unplain(cx).map(|given| match given {
            Ok(entry) => Ok(Pooled::held(this.shared, entry)),
            Err(error) => Err(*error),
        })
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

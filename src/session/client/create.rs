//! A creation: a task of its own, which goes on when its caller has given up.

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::error::{Effect, SessionError, SessionErrorKind};
use super::super::provider::SessionProvider;
use super::super::types::{CreateSession, SessionId, SessionInfo};
use super::CREATE_LABEL;
use super::creation::{Creation, Pause, Step};
use super::home::{sleep_until, unless};
use super::kind::OperationKind;
use super::look::look;
use super::pipes::{Boxed, Way};
use super::rules::Failure;
use super::shared::{Owned, SessionResult, Shared};
use crate::retry::{BackoffDelays, Delays};
use crate::scope::Entered;
use crate::time::{self, Instant};
use crate::{Error, Progress, Refusal};

/// A session and what is known of it.
pub(super) type Made<P> = (Owned<P>, SessionInfo);

/// Creates a session in a task, and waits for it.
pub(super) async fn create<P: SessionProvider>(
    shared: &Arc<Shared<P>>,
    request: CreateSession,
) -> SessionResult<Made<P>> {
    shared.enter();
    let entered = shared.creations.enter_owned().map_err(Error::refused)?;
    let asked = CancellationToken::new();
    let course = Course::new(shared, request, entered, asked.clone());
    // Dropped with the caller's future.
    let _asked = asked.drop_guard();
    let no_runtime = || Error::refused(Refusal::NoRuntime);
    let task = shared.home.spawn(course.run()).ok_or_else(no_runtime)?;
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Error::panicked(text(error.into_panic().as_ref()))),
        Err(_) => Err(no_runtime()),
    }
}

/// What all tries of a creation have in common. It is over with the last of them, the late
/// ones included: then a session that may be there unseen is searched for.
struct Ticket<P: SessionProvider> {
    shared: Arc<Shared<P>>,
    key: Arc<str>,
    /// Tries that may have made a session which nobody has seen.
    doubts: AtomicU32,
    /// The session that has come of it.
    kept: OnceLock<SessionId>,
    _entered: Entered<Arc<crate::scope::Tracker>>,
}

impl<P: SessionProvider> Drop for Ticket<P> {
    fn drop(&mut self) {
        if *self.doubts.get_mut() > 0 {
            let (key, kept) = (Arc::clone(&self.key), self.kept.take());
            self.shared.change(|book, now| book.search(key, kept, now));
        }
    }
}

impl<P: SessionProvider> Ticket<P> {
    /// So many tries are in doubt no longer.
    fn resolved(&self, tries: usize) {
        let tries = u32::try_from(tries).unwrap_or(u32::MAX);
        // Relaxed: the last one to drop the ticket sees all that was done before.
        let less = |doubts: u32| Some(doubts.saturating_sub(tries));
        let relaxed = Ordering::Relaxed;
        let _before = self.doubts.fetch_update(relaxed, relaxed, less);
    }
}

struct Course<P: SessionProvider> {
    ticket: Arc<Ticket<P>>,
    request: Arc<CreateSession>,
    asked: CancellationToken,
    state: Creation,
    delays: BackoffDelays,
    /// No try begins later.
    until: Instant,
    /// The failed tries so far, and the last error.
    progress: Progress<SessionError>,
}

impl<P: SessionProvider> Course<P> {
    fn new(
        shared: &Arc<Shared<P>>,
        mut request: CreateSession,
        entered: Entered<Arc<crate::scope::Tracker>>,
        asked: CancellationToken,
    ) -> Self {
        let key: Arc<str> = format!("{:032x}", fastrand::u128(..)).into();
        request.labels.insert(CREATE_LABEL.into(), key.to_string());
        let ticket = Ticket {
            shared: Arc::clone(shared),
            key,
            doubts: AtomicU32::new(0),
            kept: OnceLock::new(),
            _entered: entered,
        };
        Self {
            ticket: Arc::new(ticket),
            request: Arc::new(request),
            asked,
            state: Creation::new(shared.creation),
            delays: shared.rules.backoff.delays(|| fastrand::u64(..)),
            until: time::now().saturating_add(shared.rules.max_elapsed),
            progress: Progress::none(),
        }
    }

    async fn run(mut self) -> SessionResult<Made<P>> {
        let mut step = Step::Create(Pause::None);
        let mut error = Error::cancelled();
        loop {
            step = match step {
                Step::Create(pause) => match self.go_on(pause).await {
                    Err(reason) => return Err(self.over(Error::refused(reason))),
                    Ok(false) => return Err(error),
                    Ok(true) => match self.attempt().await {
                        Ok(made) => return Ok(self.keep(made)),
                        Err(failed) => {
                            let next = self.state.failed(Failure::of(&failed));
                            error = self.over(failed);
                            next
                        }
                    },
                },
                Step::Look(pause) => match self.go_on(pause).await {
                    Ok(true) => match self.adopt().await {
                        Ok(Some(made)) => return Ok(self.keep(made)),
                        Ok(None) => self.state.found_none(),
                        Err(failed) => self.state.look_failed(Failure::of(&failed)),
                    },
                    Ok(false) | Err(_) => Step::GiveUp,
                },
                Step::GiveUp => return Err(error),
            }
        }
    }

    /// Pauses; false when there is no time for that. An error when nobody wants the session
    /// any more.
    async fn go_on(&mut self, pause: Pause) -> Result<bool, Refusal> {
        let shared = &self.ticket.shared;
        let delay = match pause {
            Pause::None => Duration::ZERO,
            Pause::Backoff => self.delays.next().unwrap_or_default(),
            Pause::Exactly(span) if span > shared.rules.max_retry_after => return Ok(false),
            Pause::Exactly(span) => span,
        };
        let end = time::now().saturating_add(delay);
        if end > self.until {
            return Ok(false);
        }
        match unless(self.unwanted(), sleep_until(end)).await {
            Some(()) => Err(Refusal::ShutDown),
            None => Ok(true),
        }
    }

    /// Waits until nobody wants the session any more.
    async fn unwanted(&self) {
        let stopped = self.ticket.shared.stopped.cancelled();
        let _which = unless(self.asked.cancelled(), stopped).await;
    }

    /// The failure of this try, with those before it.
    fn over(&mut self, failed: Error<SessionError>) -> Error<SessionError> {
        let before = std::mem::replace(&mut self.progress, Progress::none());
        let error = as_panic(failed).after(before);
        self.progress = Progress::new(error.attempts(), error.last().cloned());
        error
    }

    fn keep(&self, made: Made<P>) -> Made<P> {
        let _first = self.ticket.kept.set(made.1.id.clone());
        made
    }

    /// One try. When its time is up it goes on, late, in a task of its own: what comes of it
    /// then goes to the reaper. While it still waits for its turn, it ends when nobody wants
    /// the session any more.
    async fn attempt(&self) -> SessionResult<Made<P>> {
        let shared = &self.ticket.shared;
        let limit = shared.limits.of(OperationKind::Create);
        let begun = AtomicBool::new(false);
        let start = || {
            // Relaxed: read by the same task.
            begun.store(true, Ordering::Relaxed);
            let task = tokio::spawn(begin(Arc::clone(&self.ticket), Arc::clone(&self.request)));
            Box::pin(result_of(task)) as Boxed<'_, _>
        };
        let mut call = shared
            .pipes
            .call(Way::Of(OperationKind::Create), limit, start);
        let mut unwanted = pin!(self.unwanted());
        poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Pending if !begun.load(Ordering::Relaxed) => {
                let unwanted = unwanted.as_mut().poll(cx);
                unwanted.map(|()| Err(Error::refused(Refusal::ShutDown)))
            }
            polled => polled,
        })
        .await
    }

    /// Looks for what an earlier try has made. If there are several, the first one is it, and
    /// the reaper gets the others.
    async fn adopt(&self) -> SessionResult<Option<Made<P>>> {
        let shared = &self.ticket.shared;
        let found = look(shared, &self.ticket.key).await?;
        let owned: Vec<Owned<P>> = found.iter().filter_map(|id| shared.own(id)).collect();
        self.ticket.resolved(owned.len());
        let Some(first) = owned.into_iter().next() else {
            return Ok(None);
        };
        // The list may say less of a session than is needed to work with it.
        let get = || shared.provider.get(&first.id);
        let info = shared.call(OperationKind::Get, || Box::pin(get())).await?;
        Ok(Some((first, info)))
    }
}

async fn begin<P: SessionProvider>(
    ticket: Arc<Ticket<P>>,
    request: Arc<CreateSession>,
) -> Result<Made<P>, SessionError> {
    let shared = &ticket.shared;
    // Relaxed: see `resolved`.
    ticket.doubts.fetch_add(1, Ordering::Relaxed);
    let longest = time::now()
        .saturating_add(shared.limits.of(OperationKind::Create))
        .saturating_add(shared.late);
    let enough = unless(sleep_until(longest), shared.cut.cancelled());
    let created = unless(shared.provider.create(&request), enough).await;
    let Some(result) = created else {
        return Err(lost("given up: no answer"));
    };
    match result {
        Ok(info) => {
            let adopted = ticket.kept.get() == Some(&info.id);
            let owned = (!adopted).then(|| shared.own(&info.id)).flatten();
            let owned = owned.ok_or_else(|| lost("this session has an owner already"))?;
            ticket.resolved(1);
            Ok((owned, info))
        }
        Err(error) => {
            if error.effect() == Effect::None {
                ticket.resolved(1);
            }
            Err(error)
        }
    }
}

async fn result_of<T>(task: JoinHandle<Result<T, SessionError>>) -> Result<T, SessionError> {
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Panicked::error(text(error.into_panic().as_ref()))),
        Err(_) => Err(lost("the runtime has ended")),
    }
}

fn lost(message: &str) -> SessionError {
    SessionError::new(SessionErrorKind::Local, message)
}

/// The text of a panic.
fn text(panic: &(dyn std::any::Any + Send)) -> Box<str> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or_default().into()
}

/// Marks the error that stands for a panic on its way through the pipeline, where the breaker
/// counts it.
#[derive(Debug)]
struct Panicked;

impl Panicked {
    fn error(text: Box<str>) -> SessionError {
        SessionError::new(SessionErrorKind::Local, text).with_source(Self)
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("panicked")
    }
}

impl StdError for Panicked {}

fn as_panic(error: Error<SessionError>) -> Error<SessionError> {
    match &error {
        Error::Operation { error: own, .. }
            if own.source().is_some_and(<dyn StdError>::is::<Panicked>) =>
        {
            Error::panicked(own.message())
        }
        _ => error,
    }
}

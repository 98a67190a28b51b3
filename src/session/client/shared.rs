//! What the handles, the guards and the tasks of one client have in common.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::super::error::SessionError;
use super::super::provider::SessionProvider;
use super::super::types::SessionId;
use super::book::Book;
use super::creation;
use super::home::Home;
use super::kind::{OperationKind, TimeLimits};
use super::pipes::{Boxed, Pipes, Rules, Way};
use super::reaper;
use super::report::{ReaperEvent, ReaperSnapshot};
use crate::Error;
use crate::scope::Tracker;
use crate::time::{self, Instant};

/// What a client's calls yield.
pub type SessionResult<T> = Result<T, Error<SessionError>>;

pub(super) type Listener = Box<dyn Fn(&ReaperEvent) + Send + Sync>;

pub(super) struct Shared<P> {
    pub(super) provider: P,
    pub(super) pipes: Pipes,
    pub(super) rules: Rules,
    pub(super) limits: TimeLimits,
    pub(super) creation: creation::Limits,
    pub(super) late: std::time::Duration,
    pub(super) home: Home,
    pub(super) creations: Arc<Tracker>,
    /// No creation tries again.
    pub(super) stopped: CancellationToken,
    /// No late try of a creation is waited for any more.
    pub(super) cut: CancellationToken,
    pub(super) listener: Option<Listener>,
    state: Mutex<State>,
    /// For the reaper's task, the only one that waits for it.
    pub(super) changed: Notify,
    emptied: Notify,
}

struct State {
    book: Book,
    /// Whether the reaper has a task.
    driven: bool,
}

/// What the settings make.
pub(super) struct Parts<P> {
    pub(super) provider: P,
    pub(super) pipes: Pipes,
    pub(super) rules: Rules,
    pub(super) limits: TimeLimits,
    pub(super) creation: creation::Limits,
    pub(super) late: std::time::Duration,
    pub(super) home: Home,
    pub(super) book: Book,
    pub(super) listener: Option<Listener>,
}

impl<P: SessionProvider> Shared<P> {
    pub(super) fn new(parts: Parts<P>) -> Arc<Self> {
        Arc::new(Self {
            provider: parts.provider,
            pipes: parts.pipes,
            rules: parts.rules,
            limits: parts.limits,
            creation: parts.creation,
            late: parts.late,
            home: parts.home,
            creations: Arc::default(),
            stopped: CancellationToken::new(),
            cut: CancellationToken::new(),
            listener: parts.listener,
            state: Mutex::new(State {
                book: parts.book,
                driven: false,
            }),
            changed: Notify::new(),
            emptied: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each call comes by here: the runtime is remembered, and what was stranded goes on.
    pub(super) fn enter(self: &Arc<Self>) {
        self.home.remember();
        self.rouse();
    }

    /// Calls the provider, once or as often as the rules for this kind allow.
    pub(super) fn call<'a, T: Send + 'a>(
        self: &'a Arc<Self>,
        kind: OperationKind,
        start: impl FnMut() -> Boxed<'a, Result<T, SessionError>> + Send + 'a,
    ) -> Boxed<'a, SessionResult<T>> {
        self.enter();
        let limit = self.limits.of(kind);
        self.pipes.call(Way::Of(kind), limit, start)
    }

    /// Changes the book, and tells whom it concerns.
    pub(super) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Book, Instant) -> T) -> T {
        let now = time::now();
        let mut state = self.lock();
        let output = change(&mut state.book, now);
        let empty = state.book.is_empty();
        drop(state);
        if empty {
            self.emptied.notify_waiters();
        }
        self.rouse();
        output
    }

    /// Sees to it that the reaper has a task if there is work, and that it looks again.
    fn rouse(self: &Arc<Self>) {
        let mut state = self.lock();
        let starts = !state.driven && state.book.has_work();
        let wakes = state.driven;
        state.driven |= starts;
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
        if starts {
            // Dropped unpolled, where there is no runtime, it says that there is none.
            let driver = reaper::Driver::new(Arc::clone(self));
            let _task = self.home.spawn(driver.drive());
        }
    }

    /// For the reaper: what is to be started, and when it is to look again. `None` is the end
    /// of its task: nothing is left, and the next change starts another one.
    pub(super) fn batch(&self, idle: bool) -> Option<reaper::Batch> {
        let now = time::now();
        let mut state = self.lock();
        let mut targets = Vec::new();
        while let Some(target) = state.book.start(now) {
            targets.push(target);
        }
        let aborted = state.book.is_aborted();
        if aborted || (idle && targets.is_empty() && !state.book.has_work()) {
            state.driven = false;
            return None;
        }
        let next = state.book.next_due().unwrap_or(Instant::NEVER);
        Some(reaper::Batch { targets, next })
    }

    /// The reaper's task has gone without having come to its end.
    pub(super) fn undriven(&self) {
        let mut state = self.lock();
        state.driven = false;
        if !state.book.has_work() {
            return;
        }
        state.book.stranded();
        let waiting = state.book.snapshot().waiting;
        drop(state);
        self.tell(&ReaperEvent::Stranded { waiting });
    }

    /// A panic in the listener is its own affair: what it is told of has happened.
    pub(super) fn tell(&self, event: &ReaperEvent) {
        let Some(listener) = &self.listener else {
            return;
        };
        let told = std::panic::AssertUnwindSafe(|| listener(event));
        let _panic = std::panic::catch_unwind(told);
    }

    pub(super) fn snapshot(&self) -> ReaperSnapshot {
        self.lock().book.snapshot()
    }

    /// Whether a session stands in the book.
    pub(super) fn knows(&self, id: &SessionId) -> bool {
        self.lock().book.knows(id)
    }

    /// The owner of a session, which it has become now. `None` if it is in the book already.
    pub(super) fn own(self: &Arc<Self>, id: &SessionId) -> Option<Owned<P>> {
        self.change(|book, now| book.hold(id, now)).then(|| Owned {
            id: id.clone(),
            shared: Arc::clone(self),
            armed: true,
        })
    }

    /// No new sessions from now on.
    pub(super) fn stop(self: &Arc<Self>) {
        self.creations.close();
        self.stopped.cancel();
        self.change(Book::hurry);
    }

    /// Every session ends, whoever holds it. A creation under way does with its answer: it
    /// cannot be called back, and a search could come before its session.
    pub(super) fn end_all(self: &Arc<Self>) {
        self.stop();
        self.change(Book::end_all);
    }

    /// Gives up what is left.
    pub(super) fn abort(self: &Arc<Self>) {
        self.cut.cancel();
        let given_up = self.change(|book, _| book.abort());
        if given_up > 0 {
            self.changed.notify_one();
        }
    }

    /// Waits until no creation is under way and the book is empty.
    pub(super) async fn drained(&self) {
        self.creations.drained().await;
        loop {
            let mut emptied = pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.lock().book.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    pub(super) fn in_creation(&self) -> usize {
        self.creations.in_flight()
    }
}

/// A session that this process answers for: dropped, it goes to the reaper.
pub(super) struct Owned<P: SessionProvider> {
    pub(super) id: SessionId,
    pub(super) shared: Arc<Shared<P>>,
    armed: bool,
}

impl<P: SessionProvider> Owned<P> {
    /// It is seen to by someone else from now on.
    pub(super) fn disarm(mut self) {
        self.armed = false;
    }
}

impl<P: SessionProvider> Drop for Owned<P> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let waits = self.shared.change(|book, now| book.let_go(&self.id, now));
        if !waits {
            self.shared.tell(&ReaperEvent::GaveUp {
                what: super::report::Reaped::Session(self.id.clone()),
                failures: 0,
                error: None,
            });
        }
    }
}

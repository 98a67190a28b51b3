//! What a call remembers between its attempts: nothing, while there was no failure.

use crate::error::{Error, Progress};
use crate::observe::EventKind;
use crate::policy::CallContext;
use crate::time::Instant;

/// So many attempts may follow each other before the task lets others run.
const STREAK: u32 = 32;

/// What one call remembers between its attempts.
pub(super) struct Course<I, E> {
    /// Whether the call was counted.
    pub(super) begun: bool,
    /// Attempts of this retry that have ended.
    pub(super) attempts: u32,
    /// Attempts without a pause in between.
    pub(super) streak: u32,
    pub(super) since: Instant,
    /// Nothing, while there was no failure: the happy path does not pay for it.
    past: Option<Past<I, E>>,
}

/// What came before the present attempt.
pub(super) struct Past<I, E> {
    /// How often the operation was started, with what a retry further in has added.
    pub(super) started: u32,
    pub(super) last: Option<E>,
    pub(super) delays: Option<I>,
}

impl<I, E> Course<I, E> {
    #[inline]
    pub(super) const fn new() -> Self {
        Self {
            begun: false,
            attempts: 0,
            streak: 0,
            since: Instant::NEVER,
            past: None,
        }
    }

    #[inline]
    pub(super) fn past(&mut self) -> &mut Past<I, E> {
        self.past.get_or_insert(Past {
            started: 0,
            last: None,
            delays: None,
        })
    }

    /// Another attempt follows the one that yielded `result`.
    #[inline]
    pub(super) fn remember<T>(&mut self, result: Result<T, Error<E>>) {
        let past = self.past();
        match result {
            Ok(_) => past.started = past.started.saturating_add(1),
            Err(error) => {
                past.started = past.started.saturating_add(error.attempts());
                if let Some(error) = error.into_last() {
                    past.last = Some(error);
                }
            }
        }
    }

    /// Is over; says what came before the attempt that is the last.
    #[inline]
    pub(super) fn end(&mut self) -> Option<Progress<E>> {
        let past = self.past.as_mut();
        let earlier = past.map(|past| Progress::new(past.started, past.last.take()));
        *self = Self::new();
        earlier
    }

    /// The attempt that yielded `result` was the last.
    #[inline]
    pub(super) fn conclude<T>(&mut self, result: Result<T, Error<E>>) -> Result<T, Error<E>> {
        match (self.end(), result) {
            (Some(earlier), Err(error)) => Err(error.after(earlier)),
            (_, result) => result,
        }
    }

    /// The attempt that has ended is the last, and its result is what it is whatever came
    /// before: that of the first attempt, or good.
    #[inline(always)]
    pub(super) fn accept(&mut self, call: &CallContext<'_>) {
        if self.attempts == 0 {
            self.begun = false; // all that `end` would change
        } else {
            self.recover(call);
        }
    }

    #[cold]
    pub(super) fn recover(&mut self, call: &CallContext<'_>) {
        let attempts = self.attempts.saturating_add(1);
        drop(self.end());
        call.emit(EventKind::Recovered { attempts });
    }

    /// Whether the next attempt would be one too many without a pause.
    #[inline]
    pub(super) fn is_to_yield(&self) -> bool {
        self.streak + 1 == STREAK
    }

    #[inline]
    pub(super) fn yields(&mut self) -> bool {
        self.streak = (self.streak + 1) % STREAK;
        self.streak == 0
    }
}

//! The driver of a retry: one call, from its first attempt to its last.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::plan::{Standing, Time};
use super::{Classify, Delays, Retry, RetryEvent, RetryHook, Verdict};
use crate::error::{Error, Progress};
use crate::observe::{EventKind, GaveUp};
use crate::operation::{Operation, Outcome, Repeatable};
use crate::policy::CallContext;
use crate::time::{self, Instant, Timer};

/// What one call remembers between its attempts.
struct Course<I, E> {
    /// Attempts of this retry that have ended.
    attempts: u32,
    /// Attempts without a pause in between.
    streak: u32,
    since: Instant,
    /// Nothing, while there was no failure: the happy path does not pay for it.
    past: Option<Past<I, E>>,
}

/// What came before the present attempt.
struct Past<I, E> {
    /// How often the operation was started, with what a retry further in has added.
    started: u32,
    last: Option<E>,
    delays: Option<I>,
}

impl<I, E> Course<I, E> {
    const fn new() -> Self {
        Self {
            attempts: 0,
            streak: 0,
            since: Instant::NEVER,
            past: None,
        }
    }

    fn past(&mut self) -> &mut Past<I, E> {
        self.past.get_or_insert(Past {
            started: 0,
            last: None,
            delays: None,
        })
    }

    fn remember<T>(&mut self, result: Result<T, Error<E>>) {
        let past = self.past();
        match result {
            Ok(_) => past.started = past.started.saturating_add(1),
            Err(error) => {
                past.started = past.started.saturating_add(error.attempts());
                past.last = error.into_last().or(past.last.take());
            }
        }
    }

    /// Is over; says what came before the attempt that is the last.
    fn end(&mut self) -> Progress<E> {
        self.attempts = 0;
        self.streak = 0;
        self.since = Instant::NEVER;
        if self.past.is_none() {
            return Progress::none(); // spares the move of what is empty
        }
        self.past
            .take()
            .map_or_else(Progress::none, |past| Progress {
                attempts: past.started,
                last: past.last,
            })
    }

    fn yields(&mut self) -> bool {
        self.streak = (self.streak + 1) % STREAK;
        self.streak == 0
    }
}

/// An operation with a [`Retry`]; `R` is that policy, or a reference to it.
pub type Retried<R, B, C, H, O> =
    Retrying<R, Retry<B, C, H>, <B as Delays>::Iter, <O as Operation>::Error, O>;

pin_project! {
    /// An operation that is started again when it fails.
    ///
    /// `R` is the policy `P`, or a reference to it; `I` are the delays and `E` is the
    /// operation's error.
    // The fields name no associated type: to see whether a task that borrows in its
    // operation is `Send`, the compiler forgets which lifetimes are the same, and then finds
    // no `O::Error` of an `O` that is a closure and the future it returns.
    #[must_use = "an operation does nothing unless polled"]
    pub struct Retrying<R, P, I, E, O> {
        #[pin]
        inner: O,
        retry: R,
        course: Course<I, E>,
        sleep_until: Option<Instant>,
        timer: Timer,
        policy: PhantomData<fn() -> P>,
    }
}

impl<R, P, I, E, O> Retrying<R, P, I, E, O> {
    pub(crate) const fn new(retry: R, inner: O) -> Self {
        Self {
            inner,
            retry,
            course: Course::new(),
            sleep_until: None,
            timer: Timer::new(),
            policy: PhantomData,
        }
    }
}

impl<B: Delays, C, H> Retry<B, C, H> {
    /// Counts the attempt that has ended; the wait before the next, if there is to be one.
    #[inline]
    fn next<T, E>(
        &self,
        course: &mut Course<B::Iter, E>,
        result: Result<&T, &Error<E>>,
        can_repeat: bool,
        call: &CallContext<'_>,
    ) -> Option<Duration>
    where
        C: Classify<T, E>,
        H: RetryHook<T, E>,
    {
        course.attempts = course.attempts.saturating_add(1);
        if course.attempts == 1 {
            self.deposit(call);
        }
        match self.classifier.classify(result) {
            Verdict::Stop => None,
            verdict => self.again(course, result, verdict, can_repeat, call),
        }
    }

    /// There is to be another attempt, if the limits allow it.
    fn again<T, E>(
        &self,
        course: &mut Course<B::Iter, E>,
        result: Result<&T, &Error<E>>,
        verdict: Verdict,
        can_repeat: bool,
        call: &CallContext<'_>,
    ) -> Option<Duration>
    where
        H: RetryHook<T, E>,
    {
        let delay = match self.plan(course, verdict, can_repeat, call) {
            Ok(delay) => delay,
            Err(limit) => {
                call.emit(EventKind::GaveUp(limit));
                return None;
            }
        };
        call.emit(EventKind::Retrying { delay });
        self.hook.before_wait(&RetryEvent {
            attempt: course.attempts,
            delay,
            result,
        });
        Some(delay)
    }

    /// Counts the call, unless a retry further out has done so: that one's budget is used.
    fn deposit(&self, call: &CallContext<'_>) {
        if let (Some(own), Some(used)) = (&self.budget, call.budget()) {
            if ptr::eq(own, used) {
                own.deposit();
            }
        }
    }

    fn plan<E>(
        &self,
        course: &mut Course<B::Iter, E>,
        verdict: Verdict,
        can_repeat: bool,
        call: &CallContext<'_>,
    ) -> Result<Duration, GaveUp> {
        let standing = self.standing(course, call);
        let delays = &mut course.past().delays;
        let delay = self.limits.plan(standing, verdict, || {
            let start = || self.backoff.delays(|| self.seeds.next());
            delays.get_or_insert_with(start).next()
        })?;
        if !can_repeat {
            return Err(GaveUp::NotRepeatable);
        }
        match call.budget() {
            Some(budget) if !budget.withdraw() => Err(GaveUp::Budget),
            _ => Ok(delay),
        }
    }

    /// Reads the clock only where a limit depends on it.
    fn standing<I, E>(&self, course: &Course<I, E>, call: &CallContext<'_>) -> Standing {
        let timed = self.limits.limits_time() || call.has_deadline();
        Standing {
            attempts: course.attempts,
            time: timed.then(|| {
                let now = time::now();
                Time {
                    started: course.since,
                    now,
                    deadline: call.deadline(now),
                }
            }),
        }
    }
}

/// So many attempts may follow each other before the task lets others run.
const STREAK: u32 = 32;

impl<R, B, C, H, O> Operation for Retried<R, B, C, H, O>
where
    R: Borrow<Retry<B, C, H>>,
    B: Delays,
    C: Classify<O::Output, O::Error>,
    H: RetryHook<O::Output, O::Error>,
    O: Repeatable,
{
    type Output = O::Output;
    type Error = O::Error;

    #[inline]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let mut this = self.project();
        let retry = (*this.retry).borrow();
        let course = this.course;
        if retry.limits.limits_time() && course.since == Instant::NEVER {
            course.since = time::now();
        }
        let call = call.on_budget(retry.budget.as_ref());
        loop {
            if let Some(until) = *this.sleep_until {
                ready!(this.timer.poll_until(until, cx));
                *this.sleep_until = None;
                this.timer.disarm();
            }
            let call = call.at_attempt(course.attempts.saturating_add(1));
            let Poll::Ready(result) = this.inner.as_mut().poll(&call, cx) else {
                course.streak = 0;
                return Poll::Pending;
            };
            let can_repeat = this.inner.can_repeat();
            let Some(delay) = retry.next(course, result.as_ref(), can_repeat, &call) else {
                let earlier = course.end();
                return Poll::Ready(result.map_err(|error| error.after(earlier)));
            };
            course.remember(result);
            if !delay.is_zero() {
                *this.sleep_until = Some(time::now().saturating_add(delay));
            } else if course.yields() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<O::Error> {
        let this = self.project();
        let latest = this.inner.cancel();
        let earlier = this.course.end();
        *this.sleep_until = None;
        this.timer.disarm();
        Progress {
            attempts: earlier.attempts.saturating_add(latest.attempts),
            last: latest.last.or(earlier.last),
        }
    }
}

impl<R, B, C, H, O> Repeatable for Retried<R, B, C, H, O>
where
    R: Borrow<Retry<B, C, H>>,
    B: Delays,
    C: Classify<O::Output, O::Error>,
    H: RetryHook<O::Output, O::Error>,
    O: Repeatable,
{
    fn can_repeat(&self) -> bool {
        self.inner.can_repeat()
    }
}

impl<R, P, I, E, O> fmt::Debug for Retrying<R, P, I, E, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("attempts", &self.course.attempts)
            .field("sleep_until", &self.sleep_until)
            .finish_non_exhaustive()
    }
}

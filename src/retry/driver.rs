//! The driver of a retry: one call, from its first attempt to its last.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::budget::Withdrawal;
use super::plan::{Standing, Time};
use super::{Classify, Delays, Retry, RetryEvent, RetryHook, Verdict};
use crate::error::{Error, Progress};
use crate::observe::{EventKind, GaveUp};
use crate::operation::{Operation, Outcome, Repeatable};
use crate::policy::CallContext;
use crate::time::{self, Instant, Timer};

/// What one call remembers between its attempts.
struct Course<I, E> {
    /// Whether the call was counted.
    begun: bool,
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
            begun: false,
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
        self.begun = false;
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

    /// The attempt that yielded `result` was the last.
    fn conclude<T>(&mut self, result: Result<T, Error<E>>) -> Result<T, Error<E>> {
        let earlier = self.end();
        result.map_err(|error| error.after(earlier))
    }

    /// Another attempt follows the one that yielded `result`.
    fn go_on<T>(&mut self, result: Result<T, Error<E>>, withdrawal: Option<Withdrawal>) {
        self.remember(result);
        if let Some(withdrawal) = withdrawal {
            withdrawal.spend();
        }
    }

    fn yields(&mut self) -> bool {
        self.streak = (self.streak + 1) % STREAK;
        self.streak == 0
    }
}

/// A wait between two attempts. Boxed: who waits can afford it, and nobody else carries it.
struct Nap<T, E> {
    until: Instant,
    timer: Timer,
    /// What the attempt before it yielded: the call's result, if there is no time left
    /// afterwards.
    result: Result<T, Error<E>>,
    /// Goes back into the budget if the next attempt never starts.
    withdrawal: Option<Withdrawal>,
}

/// What follows an attempt that was not good enough.
struct Again {
    delay: Duration,
    withdrawal: Option<Withdrawal>,
}

/// An operation with a [`Retry`]; `R` is that policy, or a reference to it.
pub type Retried<R, B, C, H, O> = Retrying<
    R,
    Retry<B, C, H>,
    <B as Delays>::Iter,
    <O as Operation>::Output,
    <O as Operation>::Error,
    O,
>;

pin_project! {
    /// An operation that is started again when it fails.
    ///
    /// `R` is the policy `P`, or a reference to it; `I` are the delays, `T` and `E` what the
    /// operation yields.
    // The fields name no associated type: to see whether a task that borrows in its
    // operation is `Send`, the compiler forgets which lifetimes are the same, and then finds
    // no `O::Error` of an `O` that is a closure and the future it returns.
    #[must_use = "an operation does nothing unless polled"]
    pub struct Retrying<R, P, I, T, E, O> {
        #[pin]
        inner: O,
        retry: R,
        course: Course<I, E>,
        nap: Option<Box<Nap<T, E>>>,
        policy: PhantomData<fn() -> P>,
    }
}

impl<R, P, I, T, E, O> Retrying<R, P, I, T, E, O> {
    pub(crate) const fn new(retry: R, inner: O) -> Self {
        Self {
            inner,
            retry,
            course: Course::new(),
            nap: None,
            policy: PhantomData,
        }
    }
}

impl<R, P, I, T, E, O> Retrying<R, P, I, T, E, O> {
    /// What is started again.
    pub(crate) fn inner(&self) -> &O {
        &self.inner
    }

    /// As [`inner`](Self::inner), to be changed.
    pub(crate) fn inner_mut(&mut self) -> &mut O {
        &mut self.inner
    }

    /// As [`inner`](Self::inner), by value.
    pub(crate) fn into_inner(self) -> O {
        self.inner
    }

    /// Forgets what came before: the attempt in flight is the first of a new call.
    pub(crate) fn begin_anew(&mut self) {
        self.course.end();
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
    ) -> Option<Again>
    where
        C: Classify<T, E, Verdict>,
        H: RetryHook<T, E>,
    {
        course.attempts = course.attempts.saturating_add(1);
        match self.classifier.classify(result) {
            Verdict::Stop => {
                if course.attempts > 1 && result.is_ok() {
                    let attempts = course.attempts;
                    call.emit(EventKind::Recovered { attempts });
                }
                None
            }
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
    ) -> Option<Again>
    where
        H: RetryHook<T, E>,
    {
        let again = match self.plan(course, verdict, can_repeat, call) {
            Ok(again) => again,
            Err(limit) => {
                call.emit(EventKind::GaveUp(limit));
                return None;
            }
        };
        let delay = again.delay;
        call.emit(EventKind::Retrying { delay });
        self.hook.before_wait(&RetryEvent {
            attempt: course.attempts,
            delay,
            result,
        });
        Some(again)
    }

    /// The call is about to be made for the first time.
    fn begin<I, E>(&self, course: &mut Course<I, E>, above: &CallContext<'_>) {
        course.begun = true;
        self.deposit(above);
        if self.limits.limits_time() {
            course.since = time::now();
        }
    }

    /// Counts the call, unless a retry further out has done so: that one's budget is used.
    fn deposit(&self, above: &CallContext<'_>) {
        if let (Some(own), None) = (&self.budget, above.budget()) {
            own.deposit();
        }
    }

    fn plan<E>(
        &self,
        course: &mut Course<B::Iter, E>,
        verdict: Verdict,
        can_repeat: bool,
        call: &CallContext<'_>,
    ) -> Result<Again, GaveUp> {
        let standing = self.standing(course, call);
        let delays = &mut course.past().delays;
        let delay = self.limits.plan(standing, verdict, || {
            let start = || self.backoff.delays(|| self.seeds.next());
            delays.get_or_insert_with(start).next()
        })?;
        if !can_repeat {
            return Err(GaveUp::NotRepeatable);
        }
        let withdrawal = match call.budget() {
            Some(budget) => Some(budget.take().ok_or(GaveUp::Budget)?),
            None => None,
        };
        Ok(Again { delay, withdrawal })
    }

    /// A wait that was to end in time may have ended late: nothing is started then.
    fn is_in_time<I, E>(
        &self,
        course: &Course<I, E>,
        call: &CallContext<'_>,
    ) -> Result<(), GaveUp> {
        self.limits.in_time(self.standing(course, call))
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
    C: Classify<O::Output, O::Error, Verdict>,
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
        if !course.begun {
            retry.begin(course, call);
        }
        let call = call.on_budget(retry.budget.as_ref());
        loop {
            let call = call.at_attempt(course.attempts.saturating_add(1));
            if let Some(nap) = this.nap {
                if nap.timer.poll_until(nap.until, cx).is_pending() {
                    course.streak = 0;
                    return Poll::Pending;
                }
            }
            if let Some(nap) = this.nap.take() {
                if let Err(limit) = retry.is_in_time(course, &call) {
                    let call = call.at_attempt(course.attempts);
                    call.emit(EventKind::GaveUp(limit));
                    return Poll::Ready(course.conclude(nap.result));
                }
                course.go_on(nap.result, nap.withdrawal);
            }
            let Poll::Ready(result) = this.inner.as_mut().poll(&call, cx) else {
                course.streak = 0;
                return Poll::Pending;
            };
            let can_repeat = this.inner.can_repeat();
            let Some(again) = retry.next(course, result.as_ref(), can_repeat, &call) else {
                return Poll::Ready(course.conclude(result));
            };
            let yields = course.yields();
            if yields || !again.delay.is_zero() {
                *this.nap = Some(Box::new(Nap {
                    until: time::now().saturating_add(again.delay),
                    timer: Timer::new(),
                    result,
                    withdrawal: again.withdrawal,
                }));
                if yields {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                continue;
            }
            course.go_on(result, again.withdrawal);
        }
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<O::Error> {
        let this = self.project();
        let latest = this.inner.cancel();
        if let Some(nap) = this.nap.take() {
            this.course.remember(nap.result);
        }
        let earlier = this.course.end();
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
    C: Classify<O::Output, O::Error, Verdict>,
    H: RetryHook<O::Output, O::Error>,
    O: Repeatable,
{
    fn can_repeat(&self) -> bool {
        self.inner.can_repeat()
    }
}

impl<R, P, I, T, E, O> fmt::Debug for Retrying<R, P, I, T, E, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("attempts", &self.course.attempts)
            .field("sleeping", &self.nap.is_some())
            .finish_non_exhaustive()
    }
}

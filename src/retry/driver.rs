//! The driver of a retry: one call, from its first attempt to its last.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::budget::Withdrawal;
use super::course::Course;
use super::plan::{Standing, Time};
use super::{Classify, Delays, Retry, RetryBudget, RetryEvent, RetryHook, Verdict};
use crate::error::{Error, Progress};
use crate::observe::{EventKind, GaveUp};
use crate::operation::{Operation, Outcome, Repeatable, hand_up};
use crate::policy::CallContext;
use crate::rare::Rare;
use crate::time::{self, Instant, Timer};

/// A wait between two attempts. Boxed: who waits can afford it, and nobody else carries it.
struct Nap<T, E> {
    until: Instant,
    timer: Timer,
    /// What the attempt before it yielded: the call's result, if there is no time left
    /// afterwards.
    result: Result<T, Error<E>>,
    /// Goes back into the budget if the next attempt never starts.
    withdrawal: Option<Withdrawal<RetryBudget>>,
}

impl<T, E> Nap<T, E> {
    #[inline]
    fn new(again: Again<'_>, result: Result<T, Error<E>>) -> Self {
        Self {
            until: time::now().saturating_add(again.delay),
            timer: Timer::new(),
            result,
            withdrawal: again.withdrawal.map(Withdrawal::into_owned),
        }
    }
}

/// What follows an attempt that was not good enough.
struct Again<'b> {
    delay: Duration,
    withdrawal: Option<Withdrawal<&'b RetryBudget>>,
}

/// An attempt that has ended.
struct Ended<T, E> {
    result: Result<T, Error<E>>,
    verdict: Verdict,
    can_repeat: bool,
}

/// What a call does next.
enum Next<T, E> {
    Attempt,
    /// Lets others run first.
    Yield,
    Over(Result<T, Error<E>>),
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
        nap: Rare<Nap<T, E>>,
        policy: PhantomData<fn() -> P>,
    }
}

impl<R, P, I, T, E, O> Retrying<R, P, I, T, E, O> {
    #[inline]
    pub(crate) const fn new(retry: R, inner: O) -> Self {
        Self {
            inner,
            retry,
            course: Course::new(),
            nap: Rare::NONE,
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
    /// Begins the next attempt, if it follows at once with nobody to ask and, but for the hook,
    /// nobody to tell; `false` for all others, which [`next`](Self::next) decides about.
    ///
    /// What is decided by so little is decided where the result is: three failures cost 27 ns
    /// when it was handed to `next`, and back.
    #[inline(always)]
    fn repeats_at_once<T, E>(
        &self,
        course: &mut Course<B::Iter, E>,
        ended: &Ended<T, E>,
        call: &CallContext<'_>,
    ) -> bool
    where
        H: RetryHook<T, E>,
    {
        let standing = Standing {
            attempts: course.attempts.saturating_add(1),
            time: None,
        };
        let no_delay = || Some(Duration::ZERO);
        let at_once = matches!(ended.verdict, Verdict::Retry)
            && ended.can_repeat
            && self.backoff.are_none()
            && !self.limits.limits_time()
            && call.is_unlimited_and_unheard()
            && !course.is_to_yield()
            && self.limits.plan(standing, ended.verdict, no_delay).is_ok();
        if at_once {
            course.attempts = standing.attempts;
            course.streak += 1;
            self.hook.before_wait(&RetryEvent {
                attempt: course.attempts,
                delay: Duration::ZERO,
                result: ended.result.as_ref(),
            });
        }
        at_once
    }

    /// What follows an attempt that was not good enough, or whose error needs its past.
    #[cold]
    fn next<T, E>(
        &self,
        course: &mut Course<B::Iter, E>,
        nap: &mut Rare<Nap<T, E>>,
        ended: Ended<T, E>,
        call: &CallContext<'_>,
    ) -> Next<T, E>
    where
        H: RetryHook<T, E>,
    {
        course.attempts = course.attempts.saturating_add(1);
        let Some(again) = self.again(course, &ended, call) else {
            return Next::Over(course.conclude(ended.result));
        };
        let yields = course.yields();
        if yields || !again.delay.is_zero() {
            *nap = Rare::new(Nap::new(again, ended.result));
            return if yields { Next::Yield } else { Next::Attempt };
        }
        course.remember(ended.result);
        if let Some(withdrawal) = again.withdrawal {
            withdrawal.spend();
        }
        Next::Attempt
    }

    /// The wait before the next attempt, if there is to be one.
    #[inline(always)]
    fn again<'b, T, E>(
        &self,
        course: &mut Course<B::Iter, E>,
        ended: &Ended<T, E>,
        call: &CallContext<'b>,
    ) -> Option<Again<'b>>
    where
        H: RetryHook<T, E>,
    {
        if matches!(ended.verdict, Verdict::Stop) {
            return None;
        }
        let again = match self.plan(course, ended.verdict, ended.can_repeat, call) {
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
            result: ended.result.as_ref(),
        });
        Some(again)
    }

    /// The call is about to be made for the first time.
    #[inline]
    fn begin<I, E>(&self, course: &mut Course<I, E>, above: &CallContext<'_>) {
        course.begun = true;
        self.deposit(above);
        if self.limits.limits_time() {
            course.since = time::now();
        }
    }

    /// Counts the call, unless a retry further out has done so: that one's budget is used.
    #[inline]
    fn deposit(&self, above: &CallContext<'_>) {
        if let (Some(own), None) = (&self.budget, above.budget()) {
            own.deposit();
        }
    }

    #[inline(always)]
    fn plan<'b, E>(
        &self,
        course: &mut Course<B::Iter, E>,
        verdict: Verdict,
        can_repeat: bool,
        call: &CallContext<'b>,
    ) -> Result<Again<'b>, GaveUp> {
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
            Some(budget) => Some(Withdrawal::of(budget).ok_or(GaveUp::Budget)?),
            None => None,
        };
        Ok(Again { delay, withdrawal })
    }

    /// The pause between two attempts; ends with the call's result, if there is no time left
    /// for another. Out of the way of the calls that have none.
    #[cold]
    fn poll_nap<T, E>(
        &self,
        course: &mut Course<B::Iter, E>,
        slot: &mut Rare<Nap<T, E>>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, Error<E>>>> {
        if let Some(nap) = slot.get_mut() {
            ready!(nap.timer.poll_until(nap.until, cx));
        }
        let Some(nap) = slot.take() else {
            return Poll::Ready(None);
        };
        if let Err(limit) = self.is_in_time(course, call) {
            let call = call.at_attempt(course.attempts);
            call.emit(EventKind::GaveUp(limit));
            return Poll::Ready(Some(course.conclude(nap.result)));
        }
        course.remember(nap.result);
        if let Some(withdrawal) = nap.withdrawal {
            withdrawal.spend();
        }
        Poll::Ready(None)
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
    #[inline]
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

    #[inline(always)]
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
            if this.nap.is_some() {
                match retry.poll_nap(course, this.nap, &{ call }, cx) {
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(result)) => return Poll::Ready(result),
                    Poll::Pending => {
                        course.streak = 0;
                        return Poll::Pending;
                    }
                }
            }
            let Poll::Ready(result) = this.inner.as_mut().poll(&call, cx) else {
                course.streak = 0;
                return Poll::Pending;
            };
            let verdict = retry.classifier.classify(result.as_ref());
            if matches!(verdict, Verdict::Stop) && (course.attempts == 0 || result.is_ok()) {
                return hand_up(Poll::Ready(result), |_| course.accept(&{ call }));
            }
            let ended = Ended {
                result,
                verdict,
                can_repeat: this.inner.can_repeat(),
            };
            if retry.repeats_at_once(course, &ended, &call) {
                course.remember(ended.result);
                continue;
            }
            match retry.next(course, this.nap, ended, &{ call }) {
                Next::Over(result) => return Poll::Ready(result),
                Next::Attempt => {}
                Next::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<O::Error> {
        let this = self.project();
        let latest = this.inner.cancel();
        if let Some(nap) = this.nap.take() {
            this.course.remember(nap.result);
        }
        let earlier = this.course.end().unwrap_or_else(Progress::none);
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

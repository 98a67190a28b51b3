//! What goes down a stack with each call: the deadline, the attempt, the listener.

use std::time::Duration;

use crate::observe::{self, EventKind, Source};
use crate::retry::RetryBudget;
use crate::time::{self, Instant};

/// The earliest of all time limits above.
///
/// A time limit reads no clock until its operation is pending. Until then it is a span
/// that starts now (`within`); afterwards it is a point in time (`at`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deadline {
    at: Instant,
    /// In nanoseconds; `u64::MAX` is no limit.
    within: u64,
}

impl Deadline {
    const NEVER: Self = Self {
        at: Instant::NEVER,
        within: u64::MAX,
    };

    fn is_never(self) -> bool {
        self == Self::NEVER
    }

    fn resolve(self, now: Instant) -> Instant {
        self.at.min(now.after(self.within))
    }
}

/// What a policy knows about the call that it is part of.
///
/// It is handed down at each poll, so that a deadline which an outer policy fixes while the
/// call is under way holds below at once.
#[derive(Clone, Copy, Debug)]
pub struct CallContext<'p> {
    deadline: Deadline,
    attempt: u32,
    source: Option<&'p Source>,
    /// That of the outermost retry above.
    budget: Option<&'p RetryBudget>,
}

impl<'p> CallContext<'p> {
    /// The context of a call outside of every pipeline: no deadline, first attempt.
    #[inline]
    #[must_use]
    pub const fn root() -> Self {
        Self {
            deadline: Deadline::NEVER,
            attempt: 1,
            source: None,
            budget: None,
        }
    }

    /// The attempt of the nearest retry above; 1 is the first.
    #[inline]
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The deadline as of `now`, or [`Instant::NEVER`].
    #[inline]
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Instant {
        self.deadline.resolve(now)
    }

    /// Whether there is a deadline at all: a look that needs no clock.
    #[inline]
    #[must_use]
    pub fn has_deadline(&self) -> bool {
        !self.deadline.is_never()
    }

    /// The time left; `None` without a deadline. Reads the clock only if there is one.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.has_deadline().then(|| {
            let now = time::now();
            self.deadline(now).since(now)
        })
    }

    /// The same call, to end by `at` at the latest.
    ///
    /// Whoever says so enforces it: further in, waits that cannot end in time are refused,
    /// and a service that gets ready too late is not called.
    #[inline]
    #[must_use]
    pub fn until(mut self, at: Instant) -> Self {
        self.deadline.at = self.deadline.at.min(at);
        self
    }

    /// The same call, to end within `span` from now at the latest; to be enforced as that of
    /// [`until`](Self::until).
    #[inline]
    #[must_use]
    pub fn within(self, span: Duration) -> Self {
        self.within_nanos(time::nanos(span))
    }

    pub(crate) fn within_nanos(mut self, nanos: u64) -> Self {
        self.deadline.within = self.deadline.within.min(nanos);
        self
    }

    /// The same call, at another attempt.
    #[inline]
    #[must_use]
    pub fn at_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The same call, in the hands of another pipeline, if it is one's.
    #[inline]
    pub(crate) fn told_to<'s>(&self, source: Option<&'s Source>) -> CallContext<'s>
    where
        'p: 's,
    {
        CallContext {
            source: source.or(self.source),
            ..*self
        }
    }

    /// The same call, whose retries are taken from `budget`, unless a retry further out has
    /// one: then that one's is used.
    ///
    /// A retry inside of a retry is thereby no second multiplication.
    #[inline]
    #[must_use]
    pub fn on_budget<'s>(&self, budget: Option<&'s RetryBudget>) -> CallContext<'s>
    where
        'p: 's,
    {
        CallContext {
            budget: self.budget.or(budget),
            ..*self
        }
    }

    /// Whether nothing limits when and how often it is tried again, and nobody hears of it.
    #[inline]
    pub(crate) fn is_unlimited_and_unheard(&self) -> bool {
        !self.has_deadline() && self.budget.is_none() && !observe::is_heard(self.source)
    }

    /// The budget of the outermost retry above.
    #[inline]
    #[must_use]
    pub fn budget(&self) -> Option<&'p RetryBudget> {
        self.budget
    }

    /// Tells the pipeline's observer, if there is one.
    #[inline]
    pub fn emit(&self, kind: EventKind) {
        observe::emit(self.source, self.attempt, kind);
    }

    /// As a value that a future can keep: for [`Call::during`](crate::Call::during), in an
    /// [`Operation`](crate::operation::Operation) of your own that makes calls. The deadline is
    /// that of now.
    #[inline]
    #[must_use]
    pub fn to_attempt(self) -> Attempt {
        let deadline = if self.has_deadline() {
            self.deadline(time::now())
        } else {
            Instant::NEVER
        };
        Attempt {
            number: self.attempt,
            deadline,
            budget: self.budget.cloned(),
        }
    }
}

/// What an operation may ask about the attempt that it is.
///
/// # Examples
///
/// ```
/// use mainstay::Pipeline;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::builder("search").timeout(Duration::from_secs(2)).build()?;
/// let answer = pipeline
///     .call_with(|attempt| async move {
///         assert_eq!(attempt.number(), 1);
///         assert!(attempt.remaining().unwrap() <= Duration::from_secs(2));
///         Ok::<_, std::io::Error>("found")
///     })
///     .await?;
/// assert_eq!(answer, "found");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Attempt {
    number: u32,
    deadline: Instant,
    budget: Option<RetryBudget>,
}

impl Attempt {
    /// The attempt of the nearest retry; 1 is the first.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The time left of the earliest time limit above; `None` when there is no limit.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        (self.deadline != Instant::NEVER).then(|| self.deadline.since(time::now()))
    }

    /// The context of a call that is part of it.
    #[inline]
    pub(super) fn context(&self) -> CallContext<'_> {
        CallContext {
            budget: self.budget.as_ref(),
            ..CallContext::root().until(self.deadline)
        }
    }

    /// Whether it limits nothing that is part of it.
    pub(super) fn is_free(&self) -> bool {
        self.deadline == Instant::NEVER && self.budget.is_none()
    }

    /// This attempt, as part of `outer`.
    pub(super) fn within(self, outer: Self) -> Self {
        Self {
            number: self.number,
            deadline: self.deadline.min(outer.deadline),
            budget: self.budget.or(outer.budget),
        }
    }

    /// When the earliest time limit above passes; [`Instant::NEVER`] when there is none.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_earliest_limit_wins_whether_armed_or_not() {
        let now = Instant::from_nanos(0);
        let call = CallContext::root();
        assert_eq!(call.deadline(now), Instant::NEVER);
        let armed = call.until(now.saturating_add(3 * SECOND));
        assert_eq!(
            armed.within(5 * SECOND).deadline(now),
            now.saturating_add(3 * SECOND)
        );
        assert_eq!(
            armed.within(SECOND).deadline(now),
            now.saturating_add(SECOND)
        );
        assert_eq!(
            armed.within(2 * SECOND).within(SECOND).deadline(now),
            now.saturating_add(SECOND)
        );
    }

    #[test]
    fn duration_max_is_no_deadline() {
        assert!(!CallContext::root().within(Duration::MAX).has_deadline());
        assert!(CallContext::root().within(SECOND).has_deadline());
    }
}

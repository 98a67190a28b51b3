//! A limit on how many calls start in a time: an exact token bucket with a fair queue.
//!
//! The arithmetic is in `bucket`, the decisions are in `state`. While nobody waits, a call
//! comes in through `door` without a lock, by a number that stands for the bucket on a
//! `scale`. One limiter for each key is in `keyed`.

mod acquire;
mod bucket;
mod builder;
mod door;
mod keyed;
mod scale;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod word;

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use acquire::Acquire;
pub use builder::RateLimiterBuilder;
pub use keyed::{KeyedAcquire, KeyedRateLimiter, KeyedRateLimiterBuilder};

use crate::config::ConfigError;
use crate::error::Refusal;
use crate::policy::{Admission, CallContext, End, Gate, Judge};
use crate::sync::Key;
use crate::time::{self, Instant, Timer};
use bucket::Rate;
use shared::Shared;
use state::{Ask, Place};

/// Lets only so many calls start in a time; more wait in order of arrival, or are refused
/// at once when that would take too long.
///
/// A clone is the same limiter. In any stretch of time `T`, wherever it begins, at most
/// `burst + rate * T` permits are taken, to the nanosecond, from however many threads. A
/// new limiter has its whole burst.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `rate` | none; it must be set | only you know what the callee bears |
/// | `burst` | the permits of one period | "100 per second" is mostly meant so, and an idle client may start at once; a callee that counts in windows of its own needs less |
/// | `max_wait` | 1 s | bounds the latency, and with it the queue: nobody waits who could not be served in that time |
/// | `permits` of a call | 1 | |
///
/// Waiting calls sleep on tokio's timer, which counts in milliseconds. Above 1000 permits
/// a second, give a burst of at least two milliseconds' worth, or those who wait cannot
/// reach the rate: what the bucket cannot hold until they wake is lost.
///
/// # Errors
///
/// [`Refusal::RateLimited`], at once and with the time until the permits would be there,
/// when that is more than `max_wait` or not before the call's deadline;
/// [`Refusal::TooLarge`], at once, when more permits are asked for than the burst.
///
/// # Cancel safety
///
/// A call that is dropped while it waits has taken nothing; those behind it move up at
/// once. The permits of a call that was admitted stay spent, however it ends: the callee
/// may have seen it.
///
/// # Fairness
///
/// First come, first served, also for many permits at once: nobody takes what someone ahead
/// needs. One who waits but is never polled keeps its claim, and the burst of the others is
/// smaller by as much, until a second after its maximum wait; then it is refused.
///
/// # Threads
///
/// One bucket, shared by all clones and threads; nothing is sharded, and every count is
/// exact. While nobody waits, a call exchanges one atomic word on a cache line of its own,
/// and takes no lock. While someone waits, and for a bucket too large for such a word (more
/// than 36 years' worth of a rate whose permits are whole nanoseconds apart, or a rate that
/// in lowest terms has more than 4 194 304 permits in its nanoseconds, such as 999 999 937 a
/// second), each call takes a lock.
///
/// # Algorithm
///
/// A token bucket (Turner 1986; as a conformance test: ITU-T I.371), in whole numbers: the
/// level is kept in fractions of a permit so fine that each nanosecond adds a whole number
/// of them. A clock that goes backwards adds nothing and takes nothing; if only by up to 1024
/// ns, what came in them may be seen again only when the clock has come there again.
///
/// # Examples
///
/// ```
/// use mainstay::{Refusal, prelude::*};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = RateLimiter::per_minute(60).burst(2).build()?;
/// for _ in 0..2 {
///     async { Ok::<_, std::io::Error>(()) }.rate_limit(&limiter).await?;
/// }
/// limiter.set_rate(1, Duration::from_secs(10))?;
/// let refusal = limiter.try_acquire(1).unwrap_err();
/// assert!(refusal.retry_after() > Some(Duration::from_secs(9)));
/// assert_eq!(limiter.try_acquire(3), Err(Refusal::too_large(3, 2)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter {
    shared: Arc<Shared>,
    permits: u32,
    max_wait: Duration,
}

/// What a limiter holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimiterSnapshot {
    /// The whole permits saved up; those who wait have a claim on them.
    pub available: u32,
    /// The rate: so many permits ...
    pub permits: u32,
    /// ... in each period of this length.
    pub per: Duration,
    /// The most that is saved up.
    pub burst: u32,
    /// How many calls wait.
    pub queued: usize,
    /// How many permits they wait for.
    pub queued_permits: u64,
}

impl RateLimiter {
    /// A limiter with every default, to be given its rate.
    pub fn builder() -> RateLimiterBuilder {
        RateLimiterBuilder::new()
    }

    /// A limiter of so many permits a second.
    pub fn per_second(permits: u32) -> RateLimiterBuilder {
        Self::builder().rate(permits, Duration::from_secs(1))
    }

    /// A limiter of so many permits a minute.
    pub fn per_minute(permits: u32) -> RateLimiterBuilder {
        Self::builder().rate(permits, Duration::from_secs(60))
    }

    /// The same limiter, for calls that cost `permits` each. A call that costs 0 passes
    /// without a permit, but not ahead of those who wait.
    #[must_use]
    pub fn costing(&self, permits: u32) -> Self {
        Self {
            permits,
            ..self.clone()
        }
    }

    /// Takes `permits` if they are there now and nobody waits for them.
    ///
    /// # Errors
    ///
    /// [`Refusal::RateLimited`] or [`Refusal::TooLarge`].
    #[inline]
    pub fn try_acquire(&self, permits: u32) -> Result<(), Refusal> {
        self.shared.try_take(permits, time::now())
    }

    /// Waits for `permits`, at most as long as the limiter's own maximum wait. The wait holds
    /// a handle of its own, and can be moved into a task or a struct.
    ///
    /// # Errors
    ///
    /// As for a call; see the type's text.
    ///
    /// # Cancel safety
    ///
    /// Dropping it takes nothing and leaves the queue. Nothing happens before it is polled.
    pub fn acquire(&self, permits: u32) -> Acquire {
        Acquire::new(self.costing(permits))
    }

    /// Waits for `permits`, at most `max_wait`; see [`acquire`](Self::acquire).
    pub fn acquire_within(&self, permits: u32, max_wait: Duration) -> Acquire {
        Acquire::new(Self {
            max_wait,
            ..self.costing(permits)
        })
    }

    /// The same limiter, for one who waits as long as it takes.
    pub(crate) fn patient(&self) -> Self {
        Self {
            max_wait: Duration::MAX,
            ..self.clone()
        }
    }

    /// Changes the rate from now on.
    ///
    /// The permits that are saved up stay. Those who wait keep their order and are due
    /// earlier or later; whoever would now have to wait longer than it may is refused at
    /// once.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for 0 permits, and for a period that is not from 1 ns to 584 years;
    /// nothing has changed then.
    pub fn set_rate(&self, permits: u32, per: Duration) -> Result<(), ConfigError> {
        self.change_rate(Rate::new(permits, per)?);
        Ok(())
    }

    /// Changes the burst from now on.
    ///
    /// Permits above a lower one are lost; a higher one adds none at once. Whoever waits
    /// for more than the new burst is refused.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for 0; nothing has changed then.
    pub fn set_burst(&self, permits: u32) -> Result<(), ConfigError> {
        builder::check_burst(permits)?;
        self.change_burst(permits);
        Ok(())
    }

    /// What it holds now.
    #[must_use]
    pub fn snapshot(&self) -> RateLimiterSnapshot {
        let now = time::now();
        self.shared.ask(|state| {
            state.refill(now);
            let (bucket, (queued, queued_permits)) = (state.bucket(), state.queued());
            RateLimiterSnapshot {
                available: bucket.available(),
                permits: bucket.rate().permits(),
                per: bucket.rate().period(),
                burst: bucket.burst(),
                queued,
                queued_permits,
            }
        })
    }

    fn change_rate(&self, rate: Rate) {
        let now = time::now();
        self.shared.ask(|state| state.set_rate(rate, now));
    }

    fn change_burst(&self, burst: u32) {
        let now = time::now();
        self.shared.ask(|state| state.set_burst(burst, now));
    }

    /// What is asked for now. A wait that ends only at the deadline leaves no time for the
    /// call.
    fn ask(&self, now: Instant, call: &CallContext<'_>) -> Ask {
        let mut until = now.saturating_add(self.max_wait);
        if call.has_deadline() {
            let last = call.deadline(now).as_nanos().saturating_sub(1);
            until = until.min(Instant::from_nanos(last));
        }
        let permits = self.permits;
        Ask { permits, until }
    }

    #[cold]
    fn admit_otherwise(
        &self,
        taken: Option<Result<(), Duration>>,
        now: Instant,
        call: &CallContext<'_>,
    ) -> Admission<RateLimiterTicket> {
        match self.shared.judge(taken, self.permits, now) {
            Ok(()) => Admission::Admitted(RateLimiterTicket(())),
            Err(refusal) if self.ask(now, call).fits(refusal, now) => Admission::Wait,
            Err(refusal) => Admission::Refused(refusal),
        }
    }

    /// The way in for one who has to wait.
    fn enter(&self, now: Instant, call: &CallContext<'_>, cx: &Context<'_>) -> Place {
        let ask = self.ask(now, call);
        // A waker's clone and drop are foreign code: both happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        self.shared.ask(|state| state.enter(ask, now, &mut waker))
    }

    fn give_up(&self, key: Key, now: Instant) -> Place {
        let (refusal, _own) = self.shared.ask(|state| {
            let own = state.leave(key, now);
            (state.refusal(self.permits), own)
        });
        Place::Refused(refusal)
    }

    fn check(&self, key: Key, now: Instant, cx: &Context<'_>) -> Place {
        let permits = self.permits;
        let mut waker = Some(cx.waker().clone());
        let (place, _old) = self
            .shared
            .ask(|state| state.check(key, permits, now, &mut waker));
        place
    }
}

/// What a call holds while it waits for its permits: a place in the queue.
#[derive(Debug, Default)]
pub struct RateLimiterWait {
    queued: Option<Key>,
    timer: Timer,
}

impl RateLimiterWait {
    fn end(&mut self) {
        self.queued = None;
        self.timer.disarm();
    }
}

/// Says that permits were taken. They are spent, whatever becomes of this.
#[derive(Debug)]
pub struct RateLimiterTicket(());

impl Gate for RateLimiter {
    type Wait = RateLimiterWait;
    type Ticket = RateLimiterTicket;

    /// In line, so that a call that is admitted is one function.
    #[inline(always)]
    fn admit(&self, call: &CallContext<'_>) -> Admission<RateLimiterTicket> {
        let now = time::now();
        match self.shared.door.try_take(self.permits, now) {
            Some(Ok(())) => Admission::Admitted(RateLimiterTicket(())),
            other => self.admit_otherwise(other, now, call),
        }
    }

    fn poll_admit(
        &self,
        wait: &mut RateLimiterWait,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RateLimiterTicket, Refusal>> {
        loop {
            let now = time::now();
            let place = match wait.queued {
                // A wait that was to end in time may end late: nothing is started then.
                Some(key) if call.deadline(now) <= now => self.give_up(key, now),
                Some(key) => self.check(key, now, cx),
                None => self.enter(now, call, cx),
            };
            let admitted = match place {
                Place::Taken => Ok(RateLimiterTicket(())),
                Place::Refused(refusal) => Err(refusal),
                Place::Waits(key, until) => {
                    wait.queued = Some(key);
                    ready!(wait.timer.poll_until(until, cx));
                    // Another clock may have set it off a hair too early: it is set anew.
                    wait.timer.disarm();
                    continue;
                }
            };
            wait.end();
            return Poll::Ready(admitted);
        }
    }

    fn leave(&self, wait: &mut RateLimiterWait) {
        if let Some(key) = wait.queued.take() {
            let now = time::now();
            let _own = self.shared.ask(|state| state.leave(key, now));
        }
    }

    fn settle(&self, _: RateLimiterTicket, _: End) {}
}

impl<T, E> Judge<T, E> for RateLimiter {}

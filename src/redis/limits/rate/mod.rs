//! A rate limit that many machines share.
//!
//! The permits are counted by `take.lua`, on the server and by the server's clock. What one
//! process asks for, and in what order, is decided in `state`.

mod builder;
mod gate;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub use builder::SharedRateLimiterBuilder;
pub use gate::{SharedRateLimiterAcquire, SharedRateLimiterTicket, SharedRateLimiterWait};

use super::away::{Failure, Look, WhenAway, Without};
use super::driver::{Brain, Driver, Step};
use crate::error::Refusal;
use crate::rate_limit::RateLimiter;
use crate::redis::RedisClient;
use crate::time::{self, Instant};
use state::{Answer, State};

/// Lets only so many calls start in a time, from all the processes that share a key in Redis.
///
/// A clone is the same limiter, and so is one of the same key in any other process. In any
/// stretch of time `T` of the server's clock, wherever it begins, at most `burst + rate * T`
/// permits are given, to the microsecond. An idle limiter has its whole burst.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `rate` | none; it must be set | only you know what the callee bears |
/// | `burst` | the permits of one period | as of the local [`RateLimiter`] |
/// | `max_wait` | 1 s | bounds the latency, and with it the queue |
/// | `max_queue` | 1024 calls of this process | bounds the memory where `max_wait` is long |
/// | `permits` of a call | 1 | |
/// | `when_away` | [`WhenAway::Refuse`] | a limit that is silently gone is found out too late |
/// | `ask_within` | 500 ms | what a call may lose to a Redis that hangs; a busy one answers in milliseconds |
/// | `probe_every` | 1 s | one question a second costs nothing |
///
/// # Errors
///
/// [`Refusal::RateLimited`] as soon as it is known, with the time until the permits would be
/// there, when that is more than `max_wait` or not before the call's deadline;
/// [`Refusal::TooLarge`], at once, when more permits are asked for than the burst;
/// [`Refusal::Other`] when Redis is away and [`when_away`](SharedRateLimiterBuilder::when_away)
/// says so; [`Refusal::NoRuntime`] outside of a runtime. With
/// [`WhenAway::Local`] the local share refuses, by its own rate and burst.
///
/// # Cancel safety
///
/// A call that is dropped while it waits has taken nothing; those behind it move up at once.
/// One that is dropped in the very moment in which Redis answers gives what it got to the next
/// in this process; where nobody waits, that is spent. Nothing is given back to the bucket:
/// permits that come back later than they were taken would make a second burst.
///
/// # Fairness
///
/// In a process: first come, first served, also for many permits at once, and one question is
/// under way for all. Between processes: those that have someone waiting take turns, in the
/// order in which their first one asked; nobody takes what the first of another process waits
/// for, and a call that finds permits may not have them before it. A process that dies while it
/// waits holds up the others until a quarter of a second after its turn.
///
/// # Exactness
///
/// What is exact is what the server has given by its own clock; a call starts when the answer
/// arrives, some fractions of a millisecond later. An answer that is lost has taken its permits:
/// there are never more, but there may be fewer. Four things are beyond any client:
///
/// - A server that comes back without its data, or a replica that had not heard the last of it,
///   has a full bucket: one burst more. So has one that evicts the key.
/// - A server's clock that is put forward brings the permits of that time. One that is put
///   back brings nothing and takes nothing; up to a second of it is waited out.
/// - Processes that give one key different rates each book by their own; give a new rate a new
///   key unless that is meant.
/// - While Redis is away, what [`WhenAway`] allows comes on top.
///
/// # Algorithm
///
/// The generic cell rate algorithm (ITU-T I.371), in one script that is atomic: permits are
/// booked as time, in whole microseconds and an exact fraction. The key runs out when the
/// bucket is full again.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use mainstay::Pipeline;
/// use mainstay::redis::{RedisClient, SharedRateLimiter, WhenAway};
///
/// # async fn charge() -> std::io::Result<()> { Ok(()) }
/// # async fn run(client: RedisClient) -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = SharedRateLimiter::builder(&client, "limits:payments")
///     .rate(100, Duration::from_secs(1))
///     .burst(20)
///     .when_away(WhenAway::local(4))
///     .build()?;
/// let payments = Pipeline::builder("payments").policy(limiter.clone()).build()?;
/// payments.call(charge).await?;
/// limiter.try_acquire(5).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SharedRateLimiter {
    driver: Arc<Driver<Asker>>,
    local: Option<RateLimiter>,
    without: Arc<Without>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    when_away: WhenAway,
    permits: u32,
    max_wait: Duration,
}

/// What one process knows of a shared limiter at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedRateLimiterSnapshot {
    /// The rate: so many permits ...
    pub permits: u32,
    /// ... in each period of this length.
    pub per: Duration,
    /// The most that is saved up.
    pub burst: u32,
    /// How many calls of this process wait.
    pub queued: usize,
    /// How many permits they wait for.
    pub queued_permits: u64,
    /// How long Redis has been away; `None` when it was there at the last question.
    pub away_for: Option<Duration>,
    /// Calls that Redis has let through.
    pub granted: u64,
    /// Calls that had to be refused for the rate or the queue.
    pub refused: u64,
    /// Calls that were let through while Redis was away.
    pub allowed_while_away: u64,
    /// Calls that were refused while Redis was away.
    pub refused_while_away: u64,
    /// Questions to Redis.
    pub questions: u64,
    /// Questions without a usable answer.
    pub failures: u64,
}

impl SharedRateLimiter {
    /// A limiter with every default, to be given its rate. All limiters with this `key` on the
    /// client's database are one; nothing else may use the key.
    pub fn builder(client: &RedisClient, key: impl Into<String>) -> SharedRateLimiterBuilder {
        let client = client.clone();
        SharedRateLimiterBuilder::new(key.into(), |keys| super::scripts::take(client, keys))
    }

    /// The same limiter, for calls that cost `permits` each. A call that costs 0 passes
    /// without a permit, but not ahead of those who wait in this process.
    #[must_use]
    pub fn costing(&self, permits: u32) -> Self {
        let mut same = self.clone();
        same.limits.permits = permits;
        same
    }

    /// Takes `permits` if they are there now: one question to Redis, and no wait but for its
    /// answer.
    ///
    /// # Errors
    ///
    /// As for a call; see the type's text.
    ///
    /// # Cancel safety
    ///
    /// As for a call; see the type's text.
    pub async fn try_acquire(&self, permits: u32) -> Result<(), Refusal> {
        self.acquire_within(permits, Duration::ZERO).await
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
    /// As for a call; see the type's text. Nothing happens before it is polled.
    pub fn acquire(&self, permits: u32) -> SharedRateLimiterAcquire {
        SharedRateLimiterAcquire::new(self.costing(permits))
    }

    /// Waits for `permits`, at most `max_wait`; see [`acquire`](Self::acquire).
    pub fn acquire_within(&self, permits: u32, max_wait: Duration) -> SharedRateLimiterAcquire {
        let mut same = self.costing(permits);
        same.limits.max_wait = max_wait;
        SharedRateLimiterAcquire::new(same)
    }

    /// What this process knows of it. Asks nothing.
    #[must_use]
    pub fn snapshot(&self) -> SharedRateLimiterSnapshot {
        let now = time::now();
        let (allowed_while_away, refused_while_away) = self.without.counts();
        self.driver.with(|state| {
            let (quota, tally) = (state.quota(), state.tally);
            let (queued, queued_permits) = state.queued();
            SharedRateLimiterSnapshot {
                permits: quota.permits(),
                per: quota.per(),
                burst: quota.burst(),
                queued,
                queued_permits,
                away_for: state.presence.away_for(now),
                granted: tally.granted,
                refused: tally.refused,
                allowed_while_away,
                refused_while_away,
                questions: tally.questions,
                failures: tally.failures,
            }
        })
    }

    /// Whether Redis is away. It sees to it that somebody looks now and then.
    fn look(&self, now: Instant) -> bool {
        match self.driver.with(|state| state.look(now)) {
            Look::Here => false,
            Look::Away { probe } => {
                if probe && !self.driver.rouse() {
                    self.driver.with(|state| state.presence.given_up());
                }
                true
            }
        }
    }
}

/// The state, whose waiters are told through channels.
type Asker = State<oneshot::Sender<Answer>>;

impl Brain for Asker {
    type News = News;

    fn step(&mut self, now: Instant, _: &mut News) -> Step {
        self.step(now)
    }

    fn answered(&mut self, now: Instant, answer: Result<&[i64], Failure>, news: &mut News) {
        self.answered(now, answer, &mut news.answers);
    }

    fn forget_question(&mut self, _: Instant) {
        self.forget_question();
    }

    fn stopped(&mut self, news: &mut News) {
        news.left = self.stopped();
    }

    /// Whoever has gone since is not told. What it got is spent, as for one that had just
    /// been let through.
    fn tell(news: News, _: &Arc<Driver<Self>>) {
        for (whom, answer) in news.answers {
            let _ = whom.send(answer);
        }
    }
}

#[derive(Debug, Default)]
struct News {
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    /// Let go of without an answer.
    left: Vec<oneshot::Sender<Answer>>,
}

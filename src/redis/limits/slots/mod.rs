//! A limit on how many calls run at once, that many machines share.
//!
//! The slots are given out by `lease.lua`, as leases on the server's clock. What one process
//! asks for is decided in `state`; what becomes of the leases it has, in `leases`.

mod builder;
mod gate;
mod leases;
mod permit;
mod question;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use builder::SharedBulkheadBuilder;
pub use gate::{SharedBulkheadAcquire, SharedBulkheadWait};
pub use permit::SharedPermit;

use super::away::{Failure, Look, WhenAway, Without};
use super::driver::{Brain, Driver, Step};
use crate::bulkhead::Bulkhead;
use crate::error::Refusal;
use crate::redis::RedisClient;
use crate::time::{self, Instant};
use leases::Life;
use state::{Answer, State};

/// Lets at most so many calls run at once, in all the processes that share a key in Redis.
///
/// A clone is the same bulkhead, and so is one of the same key in any other process. Who is
/// let in holds a lease, which is renewed while the permit is held; the lease of a process
/// that has died runs out. Each has a [fencing token](SharedPermit::fencing_token).
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `max_concurrent` | none; it must be set | only you know what the callee bears |
/// | `max_queue` | as `max_concurrent`, in each process | as of the local [`Bulkhead`] |
/// | `max_wait` | none | the call's deadline is the better limit |
/// | weight of a call | 1 | |
/// | `lease` | 10 s | a dead process keeps its slots so long; one that is only slow, or cut off for a moment, does not lose them |
/// | `poll_every` | 25 ms | one question from each process that waits; what it gives back itself, it hands on at once |
/// | `when_away` | [`WhenAway::Refuse`] | a limit that is silently gone is found out too late |
/// | `ask_within` | 500 ms, at most a third of the lease | what a call may lose to a Redis that hangs |
/// | `probe_every` | 1 s | one question a second costs nothing |
///
/// # Errors
///
/// [`Refusal::BulkheadFull`] as soon as it is known that there is no room and the queue is full
/// or the call does not wait, or has waited `max_wait`, or up to its deadline;
/// [`Refusal::TooLarge`] when a call weighs more than the whole bulkhead; [`Refusal::Other`]
/// when Redis is away and [`when_away`](SharedBulkheadBuilder::when_away) says so;
/// [`Refusal::NoRuntime`] outside of a runtime.
///
/// # Cancel safety
///
/// A call that is dropped gives its slots back, and its place in the queue. One that is dropped
/// while Redis answers gives back what it got; where the answer was lost, what it may have got
/// is given back as soon as Redis can be asked, or runs out with its lease.
///
/// # Fairness
///
/// In a process: first come, first served, also for heavy calls. Between processes: those that
/// have someone waiting take turns, in the order in which their first one asked; nobody takes
/// the slots that the first of another process waits for. A process that dies while it waits
/// holds up the others for eight times `poll_every`.
///
/// # What is promised
///
/// At every moment the leases that Redis knows of weigh at most `max_concurrent`, and a holder
/// believes in its lease for no longer than Redis does: it counts from before it asked, and
/// stops a hundredth of the lease early, so the clocks need only run equally fast to within
/// that. [`SharedPermit::lost`] says when it is over. Three things are beyond any client:
///
/// - A server that comes back without its data knows of no lease. Each holder registers its own
///   again when it next renews it, after a third of the lease at most, with the token it had;
///   one that finds no room then is lost. Until then twice as many may be inside.
/// - A server's clock that is put forward ends leases early: whoever finds its slots taken when
///   it renews is lost. Over one that is put back, leases keep what was left of them.
/// - While Redis is away, what [`WhenAway`] allows comes on top of those who hold a lease.
///
/// In a pipeline a call goes on when its lease is lost, as it would have if its process had been
/// slow; take a permit with [`acquire`](Self::acquire) where that matters.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use mainstay::Pipeline;
/// use mainstay::redis::{RedisClient, SharedBulkhead};
///
/// # async fn report() -> std::io::Result<()> { Ok(()) }
/// # async fn run(client: RedisClient) -> Result<(), Box<dyn std::error::Error>> {
/// let reports = SharedBulkhead::builder(&client, "limits:reports")
///     .max_concurrent(4)
///     .lease(Duration::from_secs(30))
///     .build()?;
/// let pipeline = Pipeline::builder("reports").policy(reports.clone()).build()?;
/// pipeline.call(report).await?;
///
/// let permit = reports.acquire(2).await?;
/// let token = permit.fencing_token();
/// # drop((permit, token));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SharedBulkhead {
    driver: Arc<Driver<Asker>>,
    local: Option<Bulkhead>,
    without: Arc<Without>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    when_away: WhenAway,
    weight: u32,
    max_wait: Duration,
    /// Whether there is a queue at all.
    lets_wait: bool,
}

/// What one process knows of a shared bulkhead at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedBulkheadSnapshot {
    /// The most that may be inside, of all processes.
    pub max_concurrent: u32,
    /// What this process holds: the sum of the weights.
    pub held: u64,
    /// What all processes held when Redis was asked last.
    pub in_use: u64,
    /// How many calls of this process wait, for slots or for an answer.
    pub queued: usize,
    /// How many leases have ended of which Redis is not known to have been told yet; those
    /// among them that are just being asked for, for callers who have gone.
    pub returning: usize,
    /// Leases that were lost while a permit was held.
    pub lost: u64,
    /// How long Redis has been away; `None` when it was there at the last question.
    pub away_for: Option<Duration>,
    /// Calls that Redis has let in.
    pub granted: u64,
    /// Calls that found no room.
    pub refused: u64,
    /// Calls that were let in while Redis was away.
    pub allowed_while_away: u64,
    /// Calls that were refused while Redis was away.
    pub refused_while_away: u64,
    /// Questions to Redis.
    pub questions: u64,
    /// Questions without a usable answer.
    pub failures: u64,
}

impl SharedBulkhead {
    /// A bulkhead with every default, to be given its limit. All bulkheads with this `key` on
    /// the client's database are one; it uses two keys, `{key}:leases` and `{key}:book`.
    pub fn builder(client: &RedisClient, key: impl Into<String>) -> SharedBulkheadBuilder {
        let client = client.clone();
        SharedBulkheadBuilder::new(key.into(), |keys| super::scripts::lease(client, keys))
    }

    /// The same bulkhead, for calls that weigh `weight` slots each. A weight of 0 passes
    /// without a slot, but not ahead of those who wait in this process.
    #[must_use]
    pub fn weighing(&self, weight: u32) -> Self {
        let mut same = self.clone();
        same.limits.weight = weight;
        same
    }

    /// Takes `weight` slots if they are free now: one question to Redis, and no wait but for
    /// its answer.
    ///
    /// # Errors
    ///
    /// As for a call; see the type's text.
    ///
    /// # Cancel safety
    ///
    /// As for a call; see the type's text.
    pub async fn try_acquire(&self, weight: u32) -> Result<SharedPermit, Refusal> {
        self.acquire_within(weight, Duration::ZERO).await
    }

    /// Waits for `weight` slots, by the bulkhead's own rules for queue and wait. The wait and
    /// its permit hold a handle of their own, and can be moved into a task or a struct.
    ///
    /// # Errors
    ///
    /// As for a call; see the type's text.
    ///
    /// # Cancel safety
    ///
    /// As for a call; see the type's text. Nothing happens before it is polled.
    pub fn acquire(&self, weight: u32) -> SharedBulkheadAcquire {
        SharedBulkheadAcquire::new(self.weighing(weight))
    }

    /// Waits for `weight` slots, at most `max_wait`; see [`acquire`](Self::acquire).
    pub fn acquire_within(&self, weight: u32, max_wait: Duration) -> SharedBulkheadAcquire {
        let mut same = self.weighing(weight);
        same.limits.max_wait = max_wait;
        SharedBulkheadAcquire::new(same)
    }

    /// What this process knows of it. Asks nothing.
    #[must_use]
    pub fn snapshot(&self) -> SharedBulkheadSnapshot {
        let now = time::now();
        let (allowed_while_away, refused_while_away) = self.without.counts();
        self.driver.with(|state| {
            let tally = state.tally;
            SharedBulkheadSnapshot {
                max_concurrent: state.slots(),
                held: state.leases.weight(),
                in_use: state.used(),
                queued: state.queued(),
                returning: state.returning(),
                lost: state.leases.lost,
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

/// What tells a permit about its lease.
type Teller = Arc<watch::Sender<Life>>;

/// Gets the permit, or why there is none; with a permit already, so that what is not received
/// gives itself back.
type Whom = oneshot::Sender<Told>;

#[derive(Debug)]
enum Told {
    In(SharedPermit),
    Full,
    Away,
}

/// The state, whose waiters are told through channels.
type Asker = State<Whom, Teller>;

impl Brain for Asker {
    type News = state::News<Whom, Teller>;

    fn step(&mut self, now: Instant, news: &mut Self::News) -> Step {
        self.step(now, news)
    }

    fn answered(&mut self, now: Instant, answer: Result<&[i64], Failure>, news: &mut Self::News) {
        self.answered(now, answer, news);
    }

    fn forget_question(&mut self, now: Instant) {
        self.forget_question(now);
    }

    fn stopped(&mut self, news: &mut Self::News) {
        self.stopped(news);
    }

    fn tell(news: Self::News, driver: &Arc<Driver<Self>>) {
        for (teller, life) in news.lives {
            teller.send_replace(life);
        }
        for (whom, answer) in news.answers {
            let told = match answer {
                Answer::Granted {
                    serial,
                    fence,
                    life,
                } => {
                    let driver = Arc::clone(driver);
                    Told::In(SharedPermit::leased(
                        driver,
                        serial,
                        fence,
                        life.subscribe(),
                    ))
                }
                Answer::Full => Told::Full,
                Answer::Away => Told::Away,
            };
            let _given_back_if_nobody_is_there = whom.send(told);
        }
    }
}

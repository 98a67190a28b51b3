//! The probe in the background: it asks the server whether it is there, and tells the breaker.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::RedisError;
use super::client::Shared;
use super::database::sign_of_life;
use crate::circuit_breaker::CircuitState;
use crate::time::{Instant, Timer, now};
use crate::{CircuitBreaker, Error, Resilient};

/// Answers that close the breaker at most, when it has kept opening again.
const MOST_NEEDED: u32 = 8;

/// When to close an open breaker: a pure state that is told the time.
///
/// One answer is enough at first. A breaker that opens again soon after it was closed so has a
/// server that answers a probe and nothing else: then it takes twice as many answers each time.
#[derive(Debug)]
struct Health {
    /// A breaker that opens within this time after it was closed has relapsed.
    relapse: Duration,
    answers: u32,
    needed: u32,
    was_open: bool,
    closed: Option<Instant>,
}

impl Health {
    fn new(relapse: Duration) -> Self {
        Self {
            relapse,
            answers: 0,
            needed: 1,
            was_open: false,
            closed: None,
        }
    }

    /// The server has answered, or not. Whether to close the breaker.
    fn probed(&mut self, is_answered: bool, is_open: bool, now: Instant) -> bool {
        self.look(is_open, now);
        self.answers = if is_answered && is_open {
            self.answers + 1
        } else {
            0
        };
        let is_enough = self.answers >= self.needed;
        if is_enough {
            self.answers = 0;
            self.was_open = false;
            self.closed = Some(now);
        }
        is_enough
    }

    fn look(&mut self, is_open: bool, now: Instant) {
        let is_recent = |closed: Instant| now.since(closed) < self.relapse;
        let is_recent = self.closed.is_some_and(is_recent);
        if is_open && !self.was_open && is_recent {
            self.needed = (self.needed * 2).min(MOST_NEEDED);
        } else if !is_recent && !is_open {
            self.needed = 1;
        }
        self.was_open = is_open;
    }
}

/// The probe's task, of which there is one at most.
#[derive(Debug)]
pub(super) struct Probe {
    every: Option<Duration>,
    limit: Duration,
    is_running: AtomicBool,
    is_stopped: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

impl Probe {
    pub(super) fn new(every: Option<Duration>, limit: Duration) -> Self {
        Self {
            every,
            limit,
            is_running: AtomicBool::new(false),
            is_stopped: AtomicBool::new(every.is_none()),
            task: Mutex::new(None),
        }
    }

    /// Starts it, unless it runs, was stopped, or there is no runtime.
    #[inline]
    pub(super) fn start(&self, shared: &Arc<Shared>) {
        let is_running = self.is_running.load(Ordering::Relaxed);
        if !is_running && !self.is_stopped.load(Ordering::Relaxed) {
            self.start_now(shared);
        }
    }

    #[cold]
    fn start_now(&self, shared: &Arc<Shared>) {
        let (Some(every), Ok(runtime)) = (self.every, tokio::runtime::Handle::try_current()) else {
            return;
        };
        let mut task = self.lock();
        if self.is_stopped.load(Ordering::Relaxed) || self.is_running.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let running = Running(Arc::clone(shared));
        *task = Some(runtime.spawn(running.probe(every)).abort_handle());
    }

    /// Ends it, for good.
    pub(super) fn stop(&self) {
        let task = {
            let mut task = self.lock();
            self.is_stopped.store(true, Ordering::Relaxed);
            task.take()
        };
        if let Some(task) = task {
            task.abort();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task. However it ends, also with its runtime, the next call may start another.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.health.is_running.store(false, Ordering::Relaxed);
    }
}

impl Running {
    async fn probe(self, every: Duration) {
        let mut health = Health::new(every.saturating_mul(10));
        let mut timer = Timer::new();
        loop {
            let due = now().saturating_add(jittered(every));
            poll_fn(|cx| timer.poll_until(due, cx)).await;
            let shared = &*self.0;
            if shared.is_at_its_limit() {
                continue;
            }
            let was_open = is_open_of_itself(&shared.breaker);
            let is_answered = shared.probe().await;
            shared.counters.probed(is_answered);
            // What was answered before it opened says nothing against that.
            let is_open = is_open_of_itself(&shared.breaker);
            let is_answered = is_answered && was_open == is_open;
            if health.probed(is_answered, is_open, now()) {
                shared.breaker.reset();
            }
        }
    }
}

/// From three quarters to five quarters of it: the probes of many machines spread.
fn jittered(every: Duration) -> Duration {
    let quarter = every / 4;
    let spread = quarter.mul_f64(2.0 * fastrand::f64());
    quarter.saturating_mul(3).saturating_add(spread)
}

/// One that an operator holds open is left alone.
fn is_open_of_itself<C>(breaker: &CircuitBreaker<C>) -> bool {
    breaker.state() == CircuitState::Open
}

impl Shared {
    /// Asks the server: through the breaker, so that it counts, unless that is open.
    async fn probe(&self) -> bool {
        let asked = (|| self.ask()).timeout(self.health.limit);
        if is_open_of_itself(&self.breaker) {
            asked.await.is_ok()
        } else {
            asked.circuit_breaker(&self.breaker).await.is_ok()
        }
    }

    /// Each connection for one is lent: those who have them see how the server is, and a wait
    /// for one of them says nothing about it.
    fn is_at_its_limit(&self) -> bool {
        let first = self.databases.first();
        first.is_some_and(|(_, database)| database.is_at_its_limit())
    }

    /// On a connection of the first database, within the time that is there for it.
    pub(super) async fn ask(&self) -> Result<(), RedisError> {
        let Some((_, database)) = self.databases.first() else {
            return Ok(());
        };
        let line = database.line().await?;
        match line.wire() {
            Some(wire) => {
                let patience = self.patience.min(self.health.limit / 2);
                sign_of_life(wire, line.sent(wire, patience)).await
            }
            None => unreachable!("a line is handed out when it is made"),
        }
    }
}

/// A probe by hand.
pub(super) async fn ask_once(shared: &Shared) -> Result<(), Error<RedisError>> {
    (|| shared.ask()).timeout(shared.health.limit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn health() -> Health {
        Health::new(Duration::from_secs(10))
    }

    #[test]
    fn one_answer_closes_a_breaker_that_is_open_and_no_other() {
        let mut health = health();
        assert!(!health.probed(true, false, at(1)));
        assert!(!health.probed(false, true, at(2)));
        assert!(health.probed(true, true, at(3)));
        assert!(!health.probed(true, false, at(4)));
    }

    #[test]
    fn a_server_that_answers_nothing_but_probes_must_answer_more_of_them_each_time() {
        let mut health = health();
        let mut now = 0;
        for needed in [1, 2, 4, 8, 8] {
            for answer in 1..=needed {
                now += 1;
                assert_eq!(health.probed(true, true, at(now)), answer == needed);
            }
        }
    }

    #[test]
    fn a_failed_probe_begins_the_count_anew() {
        let mut health = health();
        assert!(health.probed(true, true, at(1)));
        assert!(!health.probed(true, true, at(2)));
        assert!(!health.probed(false, true, at(3)));
        assert!(!health.probed(true, true, at(4)));
        assert!(health.probed(true, true, at(5)));
    }

    #[test]
    fn after_a_quiet_time_one_answer_is_enough_again() {
        let mut health = health();
        assert!(health.probed(true, true, at(1)));
        assert!(!health.probed(true, true, at(2)));
        assert!(health.probed(true, true, at(3)));
        assert!(!health.probed(true, false, at(20)));
        assert!(health.probed(true, true, at(30)));
    }

    #[test]
    fn the_jitter_keeps_near_the_interval() {
        for _ in 0..1000 {
            let wait = jittered(Duration::from_secs(4));
            assert!((Duration::from_secs(3)..=Duration::from_secs(5)).contains(&wait));
        }
        assert!(jittered(Duration::MAX) > Duration::MAX / 2);
    }
}

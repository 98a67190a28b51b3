//! When to connect again: a pure state that is told the time.

use std::time::Duration;

use super::{Effect, RedisError, RedisErrorKind};
use crate::retry::{Backoff, BackoffDelays, Delays};
use crate::time::Instant;

/// A connection that has lived so long is stable: the pauses begin anew.
const STABLE: Duration = Duration::from_secs(5);

/// The pauses after failed attempts to connect, and after connections that died young; shared
/// by all connections to one database.
#[derive(Debug)]
pub(super) struct Redial {
    backoff: Backoff,
    /// The last time that it was connected, unless an attempt has failed since.
    connected: Option<Instant>,
    paused: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    delays: BackoffDelays,
    began: Instant,
    until: Instant,
    error: RedisError,
}

impl Redial {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            connected: None,
            paused: None,
        }
    }

    /// Whether to connect now. In a pause it is the error that began it, and what is left.
    pub(super) fn ask(&self, now: Instant) -> Result<(), RedisError> {
        match &self.paused {
            Some(pause) if pause.until > now => {
                Err(pause.error.clone().again_in(pause.until.since(now)))
            }
            _ => Ok(()),
        }
    }

    /// The pause is over. Its length is forgotten only when the connection proves stable.
    pub(super) fn connected(&mut self, now: Instant) {
        if self
            .connected
            .is_some_and(|since| now.since(since) >= STABLE)
        {
            self.paused = None;
        }
        self.connected = Some(now);
        if let Some(pause) = &mut self.paused {
            pause.until = now;
        }
    }

    /// Begins the next pause. Attempts that were under way at the same time make one.
    pub(super) fn failed(&mut self, now: Instant, error: &RedisError) {
        if self.ask(now).is_ok() {
            let mut delays = self.delays(now);
            let wait = delays.next().unwrap_or(Duration::ZERO);
            self.pause(delays, now, wait, error.clone());
        }
    }

    /// A connection that was made at `born` was lost. The first that dies young is replaced at
    /// once, the next ones after pauses; of those that were made before a pause it knew.
    pub(super) fn died(&mut self, born: Instant, now: Instant) {
        let is_known = self.paused.as_ref().is_some_and(|pause| pause.began > born);
        if is_known || now.since(born) >= STABLE {
            return;
        }
        let message = "connections are lost as soon as they are made";
        let error = RedisError::new(RedisErrorKind::Connection, Effect::NotSent, message);
        if self.paused.is_some() {
            self.failed(now, &error);
        } else {
            let delays = self.delays(now);
            self.pause(delays, now, Duration::ZERO, error);
        }
    }

    fn delays(&mut self, now: Instant) -> BackoffDelays {
        let is_stable = |since| now.since(since) >= STABLE;
        let was_stable = self.connected.take().is_some_and(is_stable);
        match self.paused.take() {
            Some(pause) if !was_stable => pause.delays,
            _ => self.backoff.delays(|| fastrand::u64(..)),
        }
    }

    fn pause(&mut self, delays: BackoffDelays, now: Instant, wait: Duration, error: RedisError) {
        self.paused = Some(Pause {
            delays,
            began: now,
            until: now.saturating_add(wait),
            error,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Jitter;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * MS)
    }

    fn redial() -> Redial {
        let backoff = Backoff::exponential(Duration::from_millis(100));
        Redial::new(
            backoff
                .max_delay(Duration::from_millis(400))
                .jitter(Jitter::None),
        )
    }

    fn error() -> RedisError {
        RedisError::new(RedisErrorKind::Connection, Effect::NotSent, "refused")
    }

    #[test]
    fn the_pauses_grow_until_it_is_connected() {
        let mut redial = redial();
        let mut now = 0;
        for pause in [100, 200, 400, 400] {
            assert_eq!(redial.ask(at(now)), Ok(()));
            redial.failed(at(now), &error());
            let refused = redial.ask(at(now + pause - 1)).unwrap_err();
            assert_eq!(refused.retry_after(), Some(Duration::from_millis(1)));
            now += pause;
        }
        assert_eq!(redial.ask(at(now)), Ok(()));
        redial.connected(at(now));
        assert_eq!(redial.ask(at(now)), Ok(()));
        now += 5000;
        redial.failed(at(now), &error());
        assert!(redial.ask(at(now + 99)).is_err());
        assert_eq!(redial.ask(at(now + 100)), Ok(()));
    }

    /// Trap 53.
    #[test]
    fn a_connection_that_dies_young_does_not_begin_them_anew() {
        let mut redial = redial();
        let mut now = 0;
        for pause in [0, 100, 200, 400, 400] {
            redial.connected(at(now));
            redial.died(at(now), at(now + 10));
            now += 10;
            let left = redial.ask(at(now)).map_err(|error| error.retry_after());
            let pause = Duration::from_millis(pause);
            assert_eq!(left.err().flatten().unwrap_or_default(), pause);
            now += u64::try_from(pause.as_millis()).unwrap();
        }
        redial.connected(at(now));
        redial.died(at(now), at(now + 5000));
        assert_eq!(redial.ask(at(now + 5000)), Ok(()));
        // Since then it is stable, whatever becomes of the next one.
        redial.connected(at(now + 6000));
        redial.died(at(now + 6000), at(now + 6010));
        assert_eq!(redial.ask(at(now + 6010)), Ok(()));
    }

    #[test]
    fn connections_that_die_together_make_one_pause() {
        let mut redial = redial();
        for now in 0..50 {
            redial.connected(at(now));
        }
        for born in 0..50 {
            redial.died(at(born), at(60 + born));
            assert_eq!(redial.ask(at(60 + born)), Ok(()));
        }
    }

    #[test]
    fn attempts_that_fail_together_make_one_pause() {
        let mut redial = redial();
        (0..50).for_each(|_| redial.failed(at(0), &error()));
        assert_eq!(redial.ask(at(100)), Ok(()));
    }
}

//! When to connect again: a pure state that is told the time.

use std::time::Duration;

use super::RedisError;
use crate::retry::{Backoff, BackoffDelays, Delays};
use crate::time::Instant;

/// The pauses between failed attempts to connect, shared by all connections to one database.
#[derive(Debug)]
pub(super) struct Redial {
    backoff: Backoff,
    paused: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    delays: BackoffDelays,
    until: Instant,
    error: RedisError,
}

impl Redial {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
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

    pub(super) fn connected(&mut self) {
        self.paused = None;
    }

    /// Begins the next pause. Attempts that were under way at the same time make one.
    pub(super) fn failed(&mut self, now: Instant, seed: u64, error: &RedisError) {
        if self.ask(now).is_err() {
            return;
        }
        let mut delays = match self.paused.take() {
            Some(pause) => pause.delays,
            None => self.backoff.delays(|| seed),
        };
        let wait = delays.next().unwrap_or(Duration::ZERO);
        self.paused = Some(Pause {
            delays,
            until: now.saturating_add(wait),
            error: error.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::{Effect, RedisErrorKind};
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
            redial.failed(at(now), 0, &error());
            let refused = redial.ask(at(now + pause - 1)).unwrap_err();
            assert_eq!(refused.retry_after(), Some(Duration::from_millis(1)));
            now += pause;
        }
        assert_eq!(redial.ask(at(now)), Ok(()));
        redial.connected();
        redial.failed(at(now), 0, &error());
        assert!(redial.ask(at(now + 99)).is_err());
        assert_eq!(redial.ask(at(now + 100)), Ok(()));
    }

    #[test]
    fn attempts_that_fail_together_make_one_pause() {
        let mut redial = redial();
        (0..50).for_each(|_| redial.failed(at(0), 0, &error()));
        assert_eq!(redial.ask(at(100)), Ok(()));
    }
}
